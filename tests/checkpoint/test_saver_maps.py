"""Maps from saved names to the target's: scopes, stars, expressions, functions, stacks, dots."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jscope as js
from jscope import tf_checkpoint
from jscope.formats import safetensors
from jscope.interop import tensorflow
from jscope.saver._renaming import rename_saved

SAVED = {
    "bert/emb/w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bert/layer_0/k": np.arange(6, 18, dtype=np.float32).reshape(3, 4),
    "bert/layer_1/k": np.arange(18, 30, dtype=np.float32).reshape(3, 4),
    "bert/layer_0/b": np.float32([1, 2]),
    "bert/layer_1/b": np.float32([3, 4]),
}
FORMATS = ("own", "portable", "orbax", "safetensors", "npz", "tensorflow")


def nested(arrays):
    return js.VarTree(arrays).to_nested()


def write(format, directory, arrays=SAVED):
    """A checkpoint of a format; its path, and the arguments that it needs."""
    path = directory / format
    if format in ("own", "portable"):
        with js.Saver(path) as saver:
            return saver.save(arrays, 1, portable=format == "portable"), {}
    if format == "orbax":
        orbax.checkpoint.PyTreeCheckpointer().save(path.absolute(), nested(arrays))
        return path, {}
    if format == "safetensors":
        dotted = {name.replace("/", "."): array for name, array in arrays.items()}
        with safetensors.Writer(path.with_suffix(".safetensors"), dotted) as writer:
            for name, array in dotted.items():
                writer.write(name, array)
        return path.with_suffix(".safetensors"), {"names": "."}
    if format == "npz":
        np.savez(path.with_suffix(".npz"), **arrays)
        return path.with_suffix(".npz"), {}
    return tf_checkpoint.write(path, arrays), {}


def zeros(values):
    return js.VarTree({name: jnp.zeros(v.shape, v.dtype) for name, v in values.items()})


MAPS = {
    "names": (
        {"bert/emb/w": "table", "bert/layer_0/k": "first"},
        {"table": "bert/emb/w", "first": "bert/layer_0/k"},
    ),
    "a scope": ({"bert": "enc"}, {f"enc{name[4:]}": name for name in SAVED}),
    "a scope with slashes": ({"bert/": "enc/"}, {f"enc{name[4:]}": name for name in SAVED}),
    "to the root": ({"bert/": "/"}, {name[5:]: name for name in SAVED}),
    "from the root": ({"/": "model/"}, {f"model/{name}": name for name in SAVED}),
    "scopes with stars": (
        {"bert/layer_*/": "block/*/"},
        {f"block/{i}/{n}": f"bert/layer_{i}/{n}" for i in range(2) for n in "kb"},
    ),
    "names with stars": (
        {"bert/layer_*/k": "block_*/kernel", "bert/*/w": "*/table"},
        {"block_0/kernel": "bert/layer_0/k", "emb/table": "bert/emb/w"},
    ),
    "an expression": (
        {re.compile(r"bert/layer_(\d+)/(?P<name>.)"): r"\g<name>/\1"},
        {f"{n}/{i}": f"bert/layer_{i}/{n}" for i in range(2) for n in "kb"},
    ),
    "several": (
        {"bert/": "enc/", "bert/emb/w": ("enc/emb/w", "head/w")},
        {"head/w": "bert/emb/w", "enc/emb/w": "bert/emb/w", "enc/layer_0/b": "bert/layer_0/b"},
    ),
}


@pytest.mark.parametrize("title", MAPS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_form_of_a_map_is_taken_of_every_format(tmp_path, format, title):
    path, keywords = write(format, tmp_path)
    rename, expected = MAPS[title]
    target = zeros({name: SAVED[old] for name, old in expected.items()})
    saver = js.Saver(tmp_path / "other")
    restored = saver.restore(target, path, rename=rename, unexpected="ignore", **keywords)
    assert restored == js.VarTree({name: SAVED[old] for name, old in expected.items()})
    spelled = {n: o.replace("/", keywords.get("names", "/")) for n, o in expected.items()}
    assert saver.report.restored == spelled


@pytest.mark.parametrize("format", FORMATS)
def test_values_go_through_a_function_and_into_stacks_of_every_format(tmp_path, format):
    path, keywords = write(format, tmp_path)
    rename = {
        "bert/emb/": js.Through("emb/", np.transpose),
        "bert/layer_*/k": js.Through("layers/*/k", lambda x: 2 * x.T),
        "bert/layer_*/": "layers/*/",
    }
    expected = {
        "emb/w": SAVED["bert/emb/w"].T,
        "layers/k": np.stack([2 * SAVED[f"bert/layer_{i}/k"].T for i in range(2)]),
        "layers/b": np.stack([SAVED[f"bert/layer_{i}/b"] for i in range(2)]),
    }
    saver = js.Saver(tmp_path / "other")
    restored = saver.restore(zeros(expected), path, rename=rename, stacks=["layers"], **keywords)
    assert restored == js.VarTree(expected)
    k, b = saver.report.restored["layers/k"], saver.report.restored["layers/b"]
    assert [re.sub(r"\W", "/", name) for name in (*k, *b)] == [
        f"bert/layer_{i}/{n}" for n in "kb" for i in range(2)
    ]
    assert saver.report.converted == {"emb/w": "through transpose", "layers/k": "through <lambda>"}
    assert "and 1 more slice" in repr(saver.report)
    assert saver.report.bytes_read >= sum(array.nbytes for array in SAVED.values())


def model(scope, x):
    def block(x, layer):
        return x @ layer.get_variable("w", (4, 4)) + layer.get_variable("b", (4,))[None], None

    x, _ = jax.lax.scan(block, x, scope.stacked("layers", 4))
    return x @ scope.get_variable("head", (4, 8))


def looped(seed=0, prefix="layers/{}"):
    draw = np.random.default_rng(seed).standard_normal
    shapes = {f"{prefix.format(i)}/{n}": s for i in range(4) for n, s in (("w", (4, 4)), ("b", 4))}
    return {name: np.float32(draw(shape)) for name, shape in (shapes | {"head": (4, 8)}).items()}


def in_stacks(values, prefix="layers/{}"):
    stacks = {n: [values[f"{prefix.format(i)}/{n}"] for i in range(4)] for n in "wb"}
    return js.VarTree({"head": values["head"]} | {f"layers/{n}": np.stack(stacks[n]) for n in "wb"})


@pytest.mark.parametrize("format", ["own", "safetensors"])
@pytest.mark.parametrize("spec", [("x",), (None, "x"), (None, None, "x"), ("y", "x"), ()])
def test_a_stack_of_slices_is_read_by_each_device_for_its_part(tmp_path, format, spec):
    values = looped()
    path, keywords = write(format, tmp_path, values)
    declared = js.declare(model)(jnp.ones((1, 4)))
    mesh = jax.make_mesh((2, 2) if "y" in spec else (4,), ("x", "y") if "y" in spec else ("x",))
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    target = declared.abstract(mesh)
    w = jax.ShapeDtypeStruct((4, 4, 4), jnp.float32, sharding=sharding)
    saver = js.Saver(tmp_path / "other")
    restored = saver.restore(target | {"layers/w": w}, path, stacks=["layers"], **keywords)
    assert restored == in_stacks(values)
    assert restored["layers/w"].sharding == sharding
    assert restored["head"].sharding.mesh == mesh
    total = sum(value.nbytes for value in values.values())
    assert format == "own" or saver.report.bytes_read == total


def test_a_declaration_knows_its_stacks(tmp_path):
    values = looped(prefix="net/block_{}")
    path, _ = write("own", tmp_path, values)
    declared = js.declare(model)(jnp.ones((1, 4)))
    saver = js.Saver(tmp_path / "other")
    restored = saver.restore(declared, path, rename={"net/block_*/": "layers/*/"})
    assert restored == in_stacks(values, "net/block_{}")
    # Slices of the checkpoint's own names need no map.
    path, _ = write("npz", tmp_path, looped())
    assert saver.restore(declared, path) == in_stacks(looped())
    # A stack that is saved as a whole is read as one.
    path = saver.save(in_stacks(values, "net/block_{}"), 1)
    assert saver.restore(declared, path) == in_stacks(values, "net/block_{}")


def test_stacks_in_stacks_and_stacks_of_keys_are_restored(saver):
    keys = jax.random.split(jax.random.key(3), 6)
    tree = {f"a/{i}/b/{j}/k": keys[3 * i + j] for i in range(2) for j in range(3)}
    tree |= {f"a/{i}/n": np.float32(i) for i in range(2)}
    saver.save(tree, 1)
    target = {"a/b/k": keys.reshape(2, 3), "a/n": jnp.zeros(2)}
    restored = saver.restore(target, stacks=["a/b", "a"])
    assert jnp.array_equal(restored["a/b/k"], keys.reshape(2, 3))
    np.testing.assert_array_equal(restored["a/n"], [0, 1])


def test_damage_of_a_slice_is_an_error_that_names_it(tmp_path):
    with js.Saver(tmp_path) as saver:
        path = saver.save({f"layers/{i}/w": np.full(1000, i + 7.0) for i in range(3)}, 1)
    packed = path / "packed.bin"
    data = bytearray(packed.read_bytes())
    data[data.index(np.float64(8).tobytes()) + 6] ^= 1
    packed.write_bytes(data)
    with pytest.raises(js.CheckpointError, match=r"'layers/1/w' is damaged in packed\.bin"):
        js.Saver(tmp_path).restore({"layers/w": np.zeros((3, 1000))}, path, stacks=["layers"])


def test_slices_that_are_missing_or_differ_are_differences(tmp_path):
    values = looped()
    del values["layers/2/w"]
    values["layers/1/b"] = np.zeros(5, np.float32)
    values["layers/0/b"] = np.zeros(4, np.float16)
    values["layers/9/b"] = np.zeros(4, np.float32)
    path, _ = write("npz", tmp_path, values)
    declared = js.declare(model)(jnp.ones((1, 4)))
    with pytest.raises(js.TreeMismatchError) as caught:
        js.Saver(tmp_path).restore(
            declared.init(jax.random.key(0)), path, stacks=["layers"], missing="keep"
        )
    assert [line for line in str(caught.value).split("\n") if line.startswith("  ")] == [
        "  missing: 'layers/2/w' float32[4,4], a slice of 'layers/w', is not in the checkpoint "
        "(close names: 'layers/3/w', 'layers/2/b', 'layers/1/w')",
        "  unexpected: 'layers/9/b' float32[4] is in the checkpoint only",
        "  dtype: 'layers/0/b' is float16 in the checkpoint, float32 in the target",
        "  shape: 'layers/1/b' is (5,) in the checkpoint, (4,) in the target",
    ]


def test_slices_of_several_dtypes_become_the_targets(tmp_path):
    values = {"a/0/w": np.int32([1, 300]), "a/1/w": np.int64([-200, 4])}
    path, _ = write("npz", tmp_path, values)
    saver = js.Saver(tmp_path)
    mesh = jax.make_mesh((2,), ("x",))
    leaf = jax.ShapeDtypeStruct(
        (2, 2), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "x"))
    )
    restored = saver.restore({"a/w": leaf}, path, stacks=["a"], convert=True)["a/w"]
    np.testing.assert_array_equal(restored, [[1, 300], [-200, 4]])
    assert restored.sharding == leaf.sharding
    with pytest.raises(js.TreeMismatchError, match="can't hold 2 of its 4 values, such as 300"):
        saver.restore({"a/w": np.zeros((2, 2), np.int8)}, path, stacks=["a"], convert=True)


def test_reshaped_slices_keep_their_order(tmp_path):
    values = {f"a/{i}/w": np.arange(6.0) + i for i in range(2)}
    path, _ = write("npz", tmp_path, values)
    target = {"a/w": np.zeros((2, 3, 2))}
    restored = js.Saver(tmp_path, reshape=["a/w"]).restore(target, path, stacks=["a"])
    expected = np.stack([values[f"a/{i}/w"].reshape(3, 2) for i in range(2)])
    np.testing.assert_array_equal(restored["a/w"], expected)


@pytest.mark.parametrize(
    ("stacks", "text"),
    [
        ("layers", r"write stacks=\['layers'\]"),
        ([5], "`stacks` are names of scopes, got '5'"),
        (["w/b", "wa"], r"no variables in the target: 'w/b' \(close names: 'w/a'"),
        (["w", "w/a"], r"'w/a/b' of shape \(2,\) can't be in the stacks 'w', 'w/a'"),
    ],
)
def test_stacks_that_cannot_be_are_an_error(saver, stacks, text):
    with pytest.raises(js.CheckpointValueError, match=text):
        saver.restore({"w/a/b": jnp.zeros(2)}, stacks=stacks)


# Functions.


def test_a_function_decides_shape_and_dtype_before_the_comparison(tmp_path):
    value = np.arange(18, dtype=np.float32).reshape(2, 9)
    path, _ = write("npz", tmp_path, {"qkv": value})
    third = [js.Through(n, lambda x, i=i: x[:, 3 * i : 3 * i + 3]) for i, n in enumerate("qkv")]
    target = {n: jnp.zeros((2, 3)) for n in "qkv"}
    restored = js.Saver(tmp_path).restore(target, path, rename={"qkv": tuple(third)})
    for i, n in enumerate("qkv"):
        np.testing.assert_array_equal(restored[n], value[:, 3 * i : 3 * i + 3])
    half = js.Through("q", lambda x: x[:, :2].astype(np.float16))
    with pytest.raises(js.TreeMismatchError) as caught:
        js.Saver(tmp_path).restore({"q": target["q"]}, path, rename={"qkv": half})
    text = str(caught.value)
    assert "shape: 'q' is (2, 2) in the checkpoint as 'qkv', (2, 3) in the target" in text
    assert "dtype: 'q' is float16 in the checkpoint as 'qkv', float32 in the target" in text


def test_without_a_target_functions_decide_too(tmp_path):
    path, _ = write("own", tmp_path)
    rename = {"bert/": "/", "bert/emb/w": js.Through("emb", lambda x: x.astype(np.int8).T)}
    restored = js.Saver(tmp_path).restore(None, path, select="emb", rename=rename)
    assert list(restored) == ["emb"]
    assert restored["emb"].dtype == np.int8
    np.testing.assert_array_equal(restored["emb"], SAVED["bert/emb/w"].T)


def test_a_function_does_not_see_what_another_did_to_the_value(tmp_path):
    path, _ = write("own", tmp_path)

    def doubled(value):
        value *= 2
        return value

    rename = {"bert/layer_0/k": (js.Through("a", doubled), js.Through("b", doubled))}
    target = dict.fromkeys("ab", np.zeros((3, 4), np.float32))
    restored = js.Saver(tmp_path).restore(target, path, rename=rename, unexpected="ignore")
    for value in restored.values():
        np.testing.assert_array_equal(value, 2 * SAVED["bert/layer_0/k"])


def test_a_function_may_keep_its_value_and_sharded_leaves_stay_sharded(tmp_path):
    kept = []

    def keep(value):
        kept.append(value)
        return value

    path, _ = write("own", tmp_path)
    mesh = jax.make_mesh((4,), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec(None, "x"))
    target = {
        "k": jax.ShapeDtypeStruct((3, 4), jnp.float32, sharding=sharding),
        "n": np.zeros((3, 4), np.float32),
    }
    rename = {"bert/layer_0/k": (js.Through("k", keep), js.Through("n", keep))}
    restored = js.Saver(tmp_path).restore(target, path, rename=rename, unexpected="ignore")
    for value in kept:
        value[...] = 0
    assert restored["k"].sharding == sharding
    for value in restored.values():
        np.testing.assert_array_equal(value, SAVED["bert/layer_0/k"])


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), js.JscopeError("no"), OSError("no")])
def test_what_a_function_raises_is_raised_with_the_name_of_its_variable(saver, error):
    def fails(value):
        raise error from KeyError("cause")

    saver.save(SAVED, 1)
    with pytest.raises(type(error)) as caught:
        saver.restore({"w": jnp.zeros(2)}, rename={"bert/layer_1/b": js.Through("w", fails)})
    assert caught.value is error
    assert (
        error.__notes__[-1] == "This is the function of js.Through('w', ...), given "
        "'bert/layer_1/b'."
    )
    assert isinstance(error.__cause__, KeyError)


@pytest.mark.parametrize("format", ["npz", "safetensors", "own"])
@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (None, "None"),
        ("s", "a str of dtype <U1"),
        (np.array(["2020"], "M8[D]"), "a ndarray of dtype datetime64[D]"),
        (np.array([b"x"], object), "a ndarray of dtype object"),
    ],
)
def test_a_function_that_returns_no_numbers_is_an_error_that_says_what(
    tmp_path, format, returned, text
):
    path, _ = write(format, tmp_path, {"a": np.ones(2, np.float32)})
    for target in (None, zeros({"a": np.ones(2, np.float32)})):
        with pytest.raises(js.CheckpointValueError) as error:
            js.Saver(tmp_path).restore(
                target, path, rename={"a": js.Through("a", lambda x: returned)}
            )
        assert str(error.value) == (
            f"The function of js.Through('a', ...), given 'a', returned {text}. It gets a NumPy "
            "array, and returns one of numbers."
        )


@pytest.mark.parametrize(
    "rename",
    [
        {"x/a": "y/a"},
        {"x": "y"},
        {"x/*": "y/*"},
        {"x/a": ("x/a", "y/a")},
        lambda name: name.replace("x", "y"),
    ],
)
def test_a_variable_that_loses_its_name_to_another_is_unexpected(saver, rename):
    saver.save({"x/a": jnp.float32([1, 2]), "y/a": jnp.float32([3, 4])}, 1)
    target = {"y/a": jnp.zeros(2)}
    if isinstance(rename, dict) and "x/a" in rename and len(rename["x/a"]) == 2:
        target["x/a"] = jnp.zeros(2)
    text = (
        "1 difference:\n  unexpected: 'y/a' float32[2] is in the checkpoint too, and 'x/a' takes "
        "its name\nA variable that loses its name to another is given one by rename=, or left out "
        "by unexpected='ignore'."
    )
    for restored in (target, None):
        with pytest.raises(js.TreeMismatchError, match=re.escape(text)):
            saver.restore(restored, 1, rename=rename)
        found = saver.restore(restored, 1, rename=rename, unexpected="ignore")
        np.testing.assert_array_equal(js.VarTree(found)["y/a"], [1, 2])
        assert saver.report.ignored == ("y/a",)


def test_two_variables_may_change_names(saver):
    saver.save({"x": jnp.float32([1, 2]), "y": jnp.float32([3, 4])}, 1)
    found = saver.restore(None, 1, rename={"x": "y", "y": "x"})
    np.testing.assert_array_equal(found["x"], [3, 4])


def test_a_stack_that_is_saved_in_slices_and_not_named_is_the_cause_of_what_is_missing(saver):
    saver.save({"layers": {str(i): {"w": jnp.zeros(3)} for i in range(2)}}, 1)
    target = js.VarTree({"layers/w": jnp.ones((2, 3))})
    with pytest.raises(js.TreeMismatchError) as error:
        saver.restore(target, 1)
    assert str(error.value).endswith(
        "The checkpoint has the slices of 'layers' one by one, and the target has it as a stack: "
        "write stacks=['layers']."
    )
    assert not saver.restore(target, 1, stacks=["layers"])["layers/w"].any()


def test_through_is_one_class():
    assert tensorflow.Through is js.Through


# Which entry decides.


@given(
    st.sets(st.sampled_from(["a", "b", "a/b", "a/c", "a/b/c", "c/d", "c/b"]), min_size=1),
    st.lists(
        st.sampled_from(
            [
                ("a", "x"), ("a/b", "y"), ("a/", "z/"), ("", "r"), ("/", "s/"), ("*/b", "t/*"),
                ("a/*/", "u/*/"), ("c/*", "v/*"), (re.compile("(.)/b"), r"w/\1"),
                (re.compile("a/(.+)"), r"q/\1"),
            ]
        ),
        unique=True,
    ),
)  # fmt: skip
def test_one_entry_decides_a_name_then_an_expression_then_the_longest(saved, entries):
    def matched(old, new, name):
        """Rank and new name, by the definition."""
        if isinstance(old, re.Pattern):
            found = old.fullmatch(name)
            return found and ((1, -order[old]), found.expand(new))
        if old == name:
            return (2, 0), new
        scope, is_scope = old.rstrip("/"), old.endswith("/") or not old or "*" not in old
        length = len(old.rstrip("/")) - old.count("*")
        pattern = re.escape(scope).replace(r"\*", "([^/]+)")
        found = re.fullmatch(pattern + ("/" * bool(scope) + "(.+)") * is_scope, name)
        if not found:
            return None
        whole = new.rstrip("/")
        below = [found[found.lastindex]] if is_scope else []
        for star in found.groups()[: old.count("*")]:
            whole = whole.replace("*", star, 1)
        # Of equally long ones a pattern, then a scope with a slash.
        return (0, length, "*" in old, old.endswith("/")), "/".join(filter(None, [whole, *below]))

    order = {old: i for i, (old, _) in enumerate(entries)}
    found = {name: [m for old, new in entries if (m := matched(old, new, name))] for name in saved}
    used = [old for old, new in entries if any(matched(old, new, name) for name in saved)]
    expected = {name: max(ms, key=lambda m: m[0])[1] for name, ms in found.items() if ms}
    if len(used) < len(entries) - sum(old in ("", "/") for old, _ in entries if old not in used):
        with pytest.raises(js.SelectorError):
            rename_saved(saved, dict(entries))
    elif len(set(expected.values())) < len(expected):
        with pytest.raises(js.NameCollisionError):
            rename_saved(saved, dict(entries))
    else:
        unmentioned = {n: n for n in saved - set(expected) - set(expected.values())}
        assert rename_saved(saved, dict(entries)).saved == unmentioned | {
            new: old for old, new in expected.items()
        }


@pytest.mark.parametrize(
    ("rename", "error", "text"),
    [
        ({"bert/layer_*": "layers/*"}, js.SelectorError, "rename={'bert/layer_*/': 'layers/*/'}"),
        ({"bert/x_*/": "y/*/"}, js.SelectorError, "'bert/x_*/'"),
        ({"bert/emb/w/": "table/"}, js.SelectorError, "'bert/emb/w'"),
        ({re.compile("nothing"): "x"}, js.SelectorError, "'nothing'"),
        ({"bert/layer_*/": "layers/"}, js.CheckpointValueError, "not the same stars"),
        ({re.compile("bert/(.*)"): r"\2"}, js.CheckpointValueError, "not a template"),
        ({"bert/layer_*/k": ("k/*", "b")}, js.CheckpointValueError, "not the same stars"),
        ({re.compile("bert/.*"): "x"}, js.NameCollisionError, "-> 'x'"),
        ({re.compile("(x?)bert/emb/w"): r"\1"}, js.VariableNameError, "empty name"),
        ({"bert/emb/w": js.Through("w", None)}, js.CheckpointValueError, "js.Through('name', np."),
        ({"bert/emb/w": (("w",),)}, js.CheckpointValueError, "a tuple"),
        ({b"w": "w"}, js.CheckpointValueError, "names to names"),
    ],
)
def test_a_map_that_cannot_be_is_an_error(saver, rename, error, text):
    saver.save(SAVED, 1)
    with pytest.raises(error) as caught:
        saver.restore(zeros(SAVED), rename=rename)
    assert text in str(caught.value)


def test_names_that_have_stars_are_renamed_as_they_are(tmp_path):
    path, _ = write("npz", tmp_path, {"a*b": np.ones(2), "a_b": np.zeros(2)})
    target = {"star": np.zeros(2), "a_b": np.ones(2)}
    restored = js.Saver(tmp_path).restore(target, path, rename={"a*b": "star"})
    np.testing.assert_array_equal(restored["star"], np.ones(2))


# Names with dots.


def test_dotted_names_are_selected_and_mapped_component_by_component(tmp_path):
    values = {
        f"model.layers.{i}.self_attn.{n}_proj.weight": np.float32([[i, j]])
        for i in range(2)
        for j, n in enumerate("qk")
    }
    path, _ = write("npz", tmp_path, values)
    saver = js.Saver(tmp_path)
    for slash in ("/", "."):
        left = slash.join(["model", "layers", "*", "self_attn", "*_proj", "weight"])
        rename = {left: js.Through("blocks/*/*/w", np.transpose)}
        target = {f"blocks/{n}/w": np.zeros((2, 2, 1), np.float32) for n in "qk"}
        restored = saver.restore(target, path, names=".", rename=rename, stacks=["blocks"])
        for j, n in enumerate("qk"):
            np.testing.assert_array_equal(restored[f"blocks/{n}/w"], [[[0], [j]], [[1], [j]]])
    q = saver.restore(None, path, names=".", select="model/layers/*/self_attn/q_proj/*")
    assert list(q) == [f"model/layers/{i}/self_attn/q_proj/weight" for i in range(2)]
    assert saver.report.restored[next(iter(q))] == "model.layers.0.self_attn.q_proj.weight"


def test_messages_about_dotted_names_have_both_spellings(tmp_path):
    path, _ = write("npz", tmp_path, {"m.w": np.ones((2, 3)), "m.x": np.ones(1)})
    saver = js.Saver(tmp_path)
    with pytest.raises(js.TreeMismatchError) as caught:
        saver.restore({"m/w": np.zeros((3, 2), np.float16)}, path, names=".")
    for line in (
        "unexpected: 'm/x' float64[1] is in the checkpoint only, as 'm.x'",
        "shape: 'm/w' is (2, 3) in the checkpoint as 'm.w', (3, 2) in the target: transposed?",
        "dtype: 'm/w' is float64 in the checkpoint as 'm.w', float16 in the target",
    ):
        assert line in str(caught.value)
    written = re.search(r"write rename=(\{.*?\})", str(caught.value))[1]
    restored = saver.restore(
        {"m/w": np.zeros((3, 2))},
        path,
        names=".",
        rename=eval(written, {"js": js}),
        unexpected="ignore",
    )
    assert restored["m/w"].shape == (3, 2)
    with pytest.raises(js.TreeMismatchError, match=r"The saved names have dots: names='\.'"):
        saver.restore({"m/w": np.zeros((2, 3)), "m/x": np.zeros(1)}, path)


def test_dots_that_make_two_names_one_are_an_error(tmp_path):
    path, _ = write("npz", tmp_path, {"a.b": np.ones(2), "a/b": np.ones(2)})
    with pytest.raises(js.NameCollisionError, match=r"'a\.b', 'a/b' -> 'a/b'"):
        js.Saver(tmp_path).restore({"a/b": np.ones(2)}, path, names=".")
    for names in ("", None, 5):
        with pytest.raises(js.CheckpointValueError, match=r"Write names='\.'"):
            js.Saver(tmp_path).restore({"a/b": np.ones(2)}, path, names=names)


# Errors that offer maps.


@pytest.mark.parametrize("reshape", [False, True])
def test_several_transposed_kernels_are_one_map(tmp_path, reshape):
    draw = np.random.default_rng(0).standard_normal
    values = {f"l{i}": np.float32(draw((8, 16))) for i in range(7)} | {"b": np.float32([1])}
    path, _ = write("npz", tmp_path, values)
    target = {name: jnp.zeros(value.shape[::-1]) for name, value in values.items()}
    saver = js.Saver(tmp_path, reshape=reshape)
    rename = {}
    with pytest.raises(js.TreeMismatchError) as caught:
        saver.restore(target, path)
    assert "and so for 2 more" in str(caught.value)
    assert "reshape=True" not in str(caught.value)
    for _ in range(2):
        with pytest.raises(js.TreeMismatchError) as caught:
            saver.restore(target, path, rename=rename)
        rename |= eval(re.search(r"write rename=(\{.*?\})", str(caught.value))[1], {"js": js})
    assert "beside the entries that rename= has" in str(caught.value)
    restored = saver.restore(target, path, rename=rename)
    for name, value in values.items():
        np.testing.assert_array_equal(restored[name], value.T)


@pytest.mark.parametrize(
    ("saved", "wanted"), [("params/", ""), ("", "model/"), ("params/", "model/"), ("a/b/", "a/c/")]
)
@pytest.mark.parametrize("more", [{}, {"opt/count": np.ones(2, np.float32)}])
def test_thousands_of_names_below_another_scope_have_one_cure(tmp_path, saved, wanted, more):
    names = [f"layer_{i}/{n}" for i in range(1000) for n in "wb"]
    value = np.ones(1, np.float32)
    write("own", tmp_path, {saved + name: value for name in names} | more)
    target = {wanted + name: np.zeros(1, np.float32) for name in names}
    saver = js.Saver(tmp_path / "own")
    with pytest.raises(js.TreeMismatchError) as caught:
        saver.restore(target)
    text = str(caught.value)
    assert text.count("\n") < 70
    assert f"{4000 + len(more)} differences" in text
    rename = {saved.strip("/"): wanted.strip("/")}
    rest = " and unexpected='ignore'" if more else ""
    assert f"write rename={rename}{rest}." in text
    keywords = {"unexpected": "ignore"} if more else {}
    assert saver.restore(target, rename=rename, **keywords)[wanted + names[0]] == 1


def test_a_scope_is_offered_only_if_it_cures_all_and_takes_nothing_away(tmp_path):
    def advice(saved, wanted):
        arrays = {name: np.ones(2, np.float32) for name in saved}
        path, _ = write("npz", tmp_path, arrays)
        with pytest.raises(js.TreeMismatchError) as caught:
            js.Saver(tmp_path).restore({name: jnp.zeros(2) for name in wanted}, path)
        return str(caught.value).rpartition("\n")[2]

    # Two scopes have all names: both are told.
    text = advice(["params/a", "params/b", "mu/a", "mu/b"], ["a", "b"])
    assert "Below each of 'params', 'mu' the checkpoint has all names that are missing" in text
    assert "rename={'params': ''}" in text
    # One name is not there; or others would lose theirs.
    assert "scope" not in advice(["params/a", "params/b"], ["a", "b", "c"])
    assert "scope" not in advice(["head/w", "a/x", "a/y"], ["head/w", "m/a/x", "m/a/z"])
    assert "rename={'': 'm'}" not in advice(["h", "a/x", "a/y"], ["h", "m/a/x", "m/a/y"])
    assert "rename={'a': 'm/a'}" in advice(["h", "a/x", "a/y"], ["h", "m/a/x", "m/a/y"])
