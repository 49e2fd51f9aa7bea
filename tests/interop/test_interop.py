import re
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jscope as js
from jscope import tf_checkpoint
from jscope._names.assignment import read_rules
from jscope.interop import tensorflow
from jscope.saver._leaves import slice_names


def arrays(*names, shape=(2, 3)):
    draw = np.random.default_rng(len(names)).standard_normal
    return {name: np.float32(draw(shape)) for name in names}


@pytest.fixture
def write(tmp_path):
    """Writes a checkpoint; gives its path."""

    def write(values):
        return tf_checkpoint.write(tmp_path / f"m{len(list(tmp_path.iterdir()))}", values)

    return write


def message(*arguments, error=js.TreeMismatchError, **keywords):
    with pytest.raises(error) as caught:
        tensorflow.restore(*arguments, **keywords)
    return str(caught.value)


# load


def test_load_gives_a_tree_of_the_checkpoints_own_dtypes(write):
    values = {
        "w": np.float32([1, np.nan]),
        "step": np.array(2**40),
        "half": np.ones(3, ml_dtypes.bfloat16),
        "empty": np.zeros((0, 2)),
    }
    path = write({**values, "words": np.array([b"a"], object)})
    tree = tensorflow.load(path)
    assert tree == js.VarTree(values)
    assert all(value.flags.owndata and value.flags.writeable for value in tree.values())


def test_load_selects_before_it_reads(write, monkeypatch):
    path = write(arrays("enc/w", "enc/w/Adam", "enc/w/Adam_1", "head/w", "beta1_power"))
    read = []
    whole = tf_checkpoint.Entry.read
    monkeypatch.setattr(tf_checkpoint.Entry, "read", lambda e: read.append(e.name) or whole(e))
    assert list(tensorflow.load(path, select="enc/**", drop=tensorflow.SLOTS)) == ["enc/w"]
    assert read == ["enc/w"]
    with pytest.raises(js.SelectorError, match="'ecn/"):
        tensorflow.load(path, select="ecn/**")
    assert len(tensorflow.load(path, drop="nothing/**")) == 5


def test_names_that_are_not_legal_are_listed_and_can_be_renamed(write):
    path = write(arrays("a>b/w", "c:d", "fine"))
    with pytest.raises(js.VariableNameError) as caught:
        tensorflow.load(path)
    assert "2 names in" in str(caught.value)
    assert "'a>b/w'" in str(caught.value)
    assert "'c:d'" in str(caught.value)
    assert "rename=" in str(caught.value)
    tree = tensorflow.load(path, rename=lambda name: re.sub("[>:]", "_", name))
    assert list(tree) == ["a_b/w", "c_d", "fine"]


def test_averages_and_what_zero_debias_keeps(write):
    ema = "w/ExponentialMovingAverage"
    values = arrays("w", ema, f"{ema}/biased", f"{ema}/local_step", "lost/mine", "plain")
    tree = tensorflow.load(write(values), averages="ExponentialMovingAverage")
    assert list(tree) == ["lost/mine", "plain", "w"]
    np.testing.assert_array_equal(tree["w"], values[ema])
    assert list(tensorflow.load(write(values), averages="mine", select="lost")) == ["lost"]
    with pytest.raises(js.CheckpointValueError, match=r"No variable in .* is called '\.\.\./EMA'"):
        tensorflow.load(write(values), averages="EMA")


def test_averages_of_a_model_of_jscope_are_found(write):
    params = js.VarTree({"w": jnp.zeros(2)})
    ema = js.ExponentialMovingAverage(0.5)
    averages = ema.apply(ema.init(params), {"w": jnp.ones(2)})
    path = write(dict(params | averages))
    tree = tensorflow.load(path, averages="ExponentialMovingAverage")
    np.testing.assert_array_equal(tree["w"], [0.5, 0.5])


# restore: forms of maps


TREE = js.VarTree({n: jnp.zeros((2, 3)) for n in ("enc/w", "enc/b", "head/w")})


@pytest.mark.parametrize(
    "assignment_map",
    [
        {"bert/": "enc/"},
        {"bert": "enc"},
        {"bert/": "enc"},
        {"bert": "enc/"},
        {"bert/w": "enc/w", "bert/b": "enc/b"},
        {"bert/*": "enc/*"},
        {re.compile(r"bert/(\w)"): r"enc/\1"},
        {re.compile(r"(?P<scope>bert)/(?P<name>.*)"): r"enc/\g<name>"},
        {re.compile("other/(.*)"): r"enc/\1", "bert/w": "enc/w", "bert/": "enc/"},
    ],
)
def test_every_form_of_a_map(assignment_map, write):
    values = arrays("bert/w", "bert/b", "other/w", "other/b")
    expected = {"enc/w": values["bert/w"], "enc/b": values["bert/b"]}
    tree, report = tensorflow.restore(TREE, write(values), assignment_map)
    for name, value in expected.items():
        np.testing.assert_array_equal(tree[name], value)
    assert tree["head/w"] is TREE["head/w"]
    assert report.kept == ("head/w",)
    assert report.restored == {"enc/b": "bert/b", "enc/w": "bert/w"}
    assert report.unused == ("other/b", "other/w")


def test_one_variable_may_fill_several(write):
    values = arrays("w")
    tree, _ = tensorflow.restore(
        js.drop(TREE, "enc/b"), write(values), {"w": "enc/w", "*": "head/*"}
    )
    np.testing.assert_array_equal(tree["enc/w"], values["w"])
    np.testing.assert_array_equal(tree["head/w"], values["w"])


def test_a_more_specific_rule_decides(write):
    values = arrays("a/w", "a/x/w", "b", "c/w")
    target = {n: jnp.zeros((2, 3)) for n in ("w", "x/w")}
    rules = {"a/": "/", "c/": "x/", re.compile(r"c/(.*)"): r"\1"}
    tree, _ = tensorflow.restore(target, write(values), rules)
    np.testing.assert_array_equal(tree["w"], values["a/w"])
    np.testing.assert_array_equal(tree["x/w"], values["c/w"])
    tree, _ = tensorflow.restore(target, write(values), {**rules, "b": "x/w"})
    np.testing.assert_array_equal(tree["x/w"], values["b"])
    text = message(target, write(values), {"a/": "/", "c/": "/"}, unexpected="ignore")
    assert "'w' is given by 'a/w' and by 'c/w'; write one: {'a/w': 'w'}" in text


def test_a_name_that_is_also_a_scope(write):
    values = arrays("w", "w/Adam")
    target = {"v": jnp.zeros((2, 3)), "v/Adam": jnp.zeros((2, 3))}
    tree, report = tensorflow.restore(target, write(values), {"w": "v"})
    assert report.kept == ("v/Adam",)
    tree, _ = tensorflow.restore(target, write(values), {"w": "v", "w/": "v/"})
    np.testing.assert_array_equal(tree["v/Adam"], values["w/Adam"])


@given(st.lists(st.sampled_from(["a", "b", "a/b", "c/d/e", "a_1"]), unique=True, min_size=1))
def test_rules_turned_round_give_the_names_back(names):
    maps = (
        {"/": "/"},
        {"/": "x/y/"},
        {"*": "z/*", "a/": "q/", "c/*/": "r/*/"},
        {"/": "x/", "a/b": "w"},
    )
    for assignment_map in maps:
        rules = read_rules(assignment_map, names, ())
        for rule in rules:
            for source, target in rule.pairs(names):
                assert rule.source_of(target) == source
                assert rule.covers.fullmatch(target)


# restore: differences


def test_every_difference_is_in_one_error(write):
    values = {
        **arrays("bert/w", "bert/extra", "bert/w/Adam", "bert/w/ExponentialMovingAverage"),
        "bert/b": np.zeros((3, 2), np.float32),
        "bert/c": np.zeros((2, 3), np.float16),
    }
    target = {f"enc/{n}": jnp.zeros((2, 3)) for n in ("w", "b", "c", "d")}
    text = message(target, write(values), {"bert/": "enc/"})
    assert [line for line in text.split("\n") if line.startswith("  ")] == [
        "  missing: 'enc/d' float32[2,3] is not in the checkpoint as 'bert/d' "
        "(close names: 'bert/w', 'bert/c', 'bert/b')",
        "  unexpected: 'enc/extra' float32[2,3] is in the checkpoint only, as 'bert/extra'",
        "  unexpected: 'enc/w/Adam' float32[2,3] is in the checkpoint only, as 'bert/w/Adam'",
        "  unexpected: 'enc/w/ExponentialMovingAverage' float32[2,3] is in the checkpoint only, "
        "as 'bert/w/ExponentialMovingAverage'",
        "  shape: 'enc/b' is (3, 2) in the checkpoint as 'bert/b', (2, 3) in the target: "
        "transposed?",
        "  dtype: 'enc/c' is float16 in the checkpoint as 'bert/c', float32 in the target",
    ]
    assert "nothing was read. 6 differences:" in text
    for advice in (
        "assignment_map={'bert/b': js.Through('enc/b', lambda x: x.transpose(1, 0))}, beside the "
        "entries that assignment_map= has",
        "convert=True",
        "drop=tensorflow.SLOTS",
        "averages='ExponentialMovingAverage'",
        "unexpected='ignore'",
        "missing='keep'",
    ):
        assert advice in text
    tree, report = tensorflow.restore(
        target,
        write(values),
        {"bert/": "enc/", "bert/b": tensorflow.Through("enc/b", np.transpose)},
        convert=True,
        missing="keep",
        unexpected="ignore",
    )
    assert tree["enc/c"].dtype == jnp.float32
    conversion = "float16[2,3] -> float32[2,3]"
    assert report.changed == {"enc/b": "through transpose", "enc/c": conversion}
    assert report.kept == ("enc/d",)


@pytest.mark.parametrize(
    ("found", "wanted"), [((8, 16), (16, 8)), ((6, 5, 3, 3), (3, 3, 5, 6)), ((1, 2, 3), (3, 2))]
)
def test_a_kernel_of_another_library_is_transposed_by_the_rule_that_the_error_gives(
    write, found, wanted
):
    value = np.arange(np.prod(found), dtype=np.float32).reshape(found)
    path, target = write({"w": value}), {"w": jnp.zeros(wanted)}
    text = message(target, path)
    assert f"shape: 'w' is {found} in the checkpoint, {wanted} in the target: transposed?" in text
    rules = eval(re.search(r"write assignment_map=(.*)\.$", text, re.MULTILINE)[1], {"js": js})
    tree, _ = tensorflow.restore(target, path, rules)
    axes = {(16, 8): (1, 0), (3, 3, 5, 6): (2, 3, 1, 0), (3, 2): (2, 1, 0)}[wanted]
    np.testing.assert_array_equal(tree["w"], value.transpose(axes).reshape(wanted))


def test_one_saved_variable_goes_to_several_of_the_target(write):
    path = write({"emb/w": np.float32([1, 2]), "emb/b": np.float32(3)})
    target = {"emb/w": jnp.zeros(2), "head/w": jnp.zeros(2), "emb/b": jnp.zeros(())}
    double = tensorflow.Through("head/w", lambda w: 2 * w)
    for rules, head in (
        ({"/": "/", "emb/w": ("emb/w", "head/w")}, [1, 2]),
        ({"/": "/", "emb/w": ("emb/w", double)}, [2, 4]),
    ):
        tree, report = tensorflow.restore(target, path, rules)
        assert (tree["emb/w"].tolist(), tree["head/w"].tolist()) == ([1, 2], head)
        assert report.restored["emb/w"] == report.restored["head/w"] == "emb/w"
    with pytest.raises(js.CheckpointValueError, match="'emb/w'"):
        tensorflow.export(target, path + "-again", {"/": "/", "emb/w": ("emb/w", "head/w")})


@pytest.mark.parametrize(
    "rules",
    ["w", 5, {"w": ["w"]}, {"w": None}, {"w": ()}, {5: "w"}, {"w": tensorflow.Through("w", None)}],
)
def test_a_map_that_cannot_be_is_an_error_about_the_argument(tmp_path, rules):
    for call in (tensorflow.restore, tensorflow.export):
        with pytest.raises(js.CheckpointValueError, match=r"An assignment map .* Write \{'bert/'"):
            call({"w": jnp.zeros(2)}, tmp_path / "absent", rules)


def test_other_arguments_that_cannot_be_are_errors_before_the_checkpoint_is_opened(tmp_path):
    target, path = {"w": jnp.zeros(7)}, tmp_path / "absent"
    with pytest.raises(js.CheckpointValueError, match=r"write stacks=\['layers'\]"):
        tensorflow.restore(target, path, stacks="layers")
    with pytest.raises(js.CheckpointValueError, match="`stacks` are names of scopes, got '5'"):
        tensorflow.restore(target, path, stacks=[5])
    with pytest.raises(js.CheckpointValueError, match="`rename` is a function"):
        tensorflow.load(path, rename={"a": "b"})
    declared = js.declare(lambda scope: scope.get_variable("w", (7,)))()
    with pytest.raises(js.KeyArgumentError):
        tensorflow.restore(declared, path, key=5)
    mesh = jax.make_mesh((2,), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    leaf = jax.ShapeDtypeStruct((7,), jnp.float32, sharding=sharding)
    with pytest.raises(js.CheckpointValueError, match="shardings don't cut 1 leaf"):
        tensorflow.restore({"w": leaf}, path)


def test_a_rule_about_nothing_is_told_alone(write):
    path = write(arrays("bert/w", "bert/b"))
    text = message(TREE, path, {"bert/": "encoder/", "missing/": "enc/"})
    assert (
        "'bert/': 'encoder/' has nothing like 'encoder/' in the target (close names: 'enc/')"
        in text
    )
    assert "'missing/': 'enc/' has nothing like 'missing/' in the checkpoint" in text
    assert "unexpected" not in text
    text = message({"w": jnp.zeros(2)}, path, {"w": "a/w", "bert/": "a/"})
    assert "there are no scopes at all" in text


def test_missing_can_be_kept_or_initialised_but_slices_can_not(write):
    def model(scope, x):
        return x @ scope.get_variable("a", (2, 3)) @ scope.get_variable("b", (3, 2))

    declared = js.declare(model)(jnp.ones((1, 2)))
    path = write(arrays("a"))
    assert "missing: 'b' float32[3,2]" in message(declared, path)
    values = declared.init(jax.random.key(1))
    tree, report = tensorflow.restore(values, path, missing="keep")
    assert tree["b"] is values["b"]
    tree, report = tensorflow.restore(declared, path, missing="init", key=jax.random.key(1))
    np.testing.assert_array_equal(tree["b"], values["b"])
    assert report.initialized == ("b",)
    assert report.kept == ()
    # What the map doesn't speak of is initialized too, or an error.
    tree, report = tensorflow.restore(declared, path, {"a": "a"}, key=jax.random.key(1))
    assert report.initialized == ("b",)
    text = message(declared, path, {"a": "a"}, error=js.CheckpointValueError)
    assert "1 variables would be left without a value" in text
    assert "key=jax.random.key(0)" in text
    text = message(declared.abstract(), path, missing="keep", error=js.CheckpointValueError)
    assert "are abstract or deleted in the target: 'b'" in text


def test_select_is_of_the_target_and_of_what_would_be_in_it(write):
    path = write(arrays("enc/w", "enc/b", "enc/new", "other/x", "head/w"))
    _, report = tensorflow.restore(TREE, path, select=["enc/w", "head/**"])
    assert report.kept == ("enc/b",)
    assert report.unused == ("enc/b", "enc/new", "other/x")
    text = message(TREE, path, select="enc/**")
    assert "unexpected: 'enc/new'" in text
    assert "other/x" not in text
    with pytest.raises(js.SelectorError, match="'ecn"):
        tensorflow.restore(TREE, path, select="ecn/**")


def test_a_predicate_is_asked_about_the_target_alone(write):
    def model(scope, x):
        frozen = scope.get_variable("a", (2, 3), trainable=False)
        return x @ frozen @ scope.get_variable("b", (3, 2))

    declared = js.declare(model)(jnp.ones((1, 2)))
    path = write(arrays("a", "c") | {"b": np.zeros((3, 2), np.float32)})
    _, report = tensorflow.restore(
        declared, path, select=lambda name, spec: spec.trainable, key=jax.random.key(0)
    )
    assert (list(report.restored), report.initialized) == (["b"], ("a",))


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"missing": "x"}, "`missing` is one of 'error', 'keep', 'init', got 'x'"),
        ({"unexpected": "x"}, "`unexpected` is one of 'error', 'ignore', got 'x'"),
        ({"missing": "init"}, "Only a declaration has initial values"),
        ({"key": 0}, "Only a declaration has initial values"),
        ({"assignment_map": {"a*": "b"}}, "not the same stars on both sides"),
        ({"assignment_map": {"a*": "b*/"}}, "not the same stars on both sides"),
        ({"stacks": ["enc"]}, None),
    ],
)
def test_arguments_that_can_not_be(keywords, text, write):
    path = write(arrays("enc/w", "enc/b", "head/w"))
    if text is None:
        tensorflow.restore(TREE, path, **keywords)
        return
    assert text in message(TREE, path, error=js.CheckpointValueError, **keywords)


def test_targets_that_can_not_be(write):
    path = write(arrays("w"))
    text = message({"w": 1.0}, path)
    assert "'w' is float32 in the checkpoint, python float in the target" in text
    text = message({"a/w": jnp.ones(())}, path, stacks=["a"], error=js.CheckpointValueError)
    assert "'a/w' of shape () can't be in the stacks 'a'" in text
    text = message({"w": jax.random.key(0)}, path)
    assert "key<fry> in the target" in text

    def model(scope, x):
        return x * scope.get_variable("w", ())

    declared = js.declare(model)(jnp.ones(()))
    text = message(declared, path, missing="init", error=js.CheckpointValueError)
    assert "needs a key for the initial values: write key=" in text


@pytest.mark.parametrize(
    ("found", "wanted", "fits"),
    [
        (np.float32([1, np.inf]), jnp.bfloat16, True),
        (np.float32([1e30]), jnp.float16, False),
        (np.int64([7]), jnp.int32, True),
        (np.int64([2**40]), jnp.int32, False),
        (np.uint8([1, 200]), jnp.int8, False),
        (np.int32([-1]), jnp.uint32, False),
        (np.int32([16777217]), jnp.float32, False),
        (np.int32([257]), jnp.bfloat16, False),
        (np.float32([np.inf]), jnp.float8_e4m3fn, False),
        (np.int32([7]), jnp.float32, True),
        (np.array([True]), jnp.int32, True),
    ],
)
def test_conversion_is_asked_for_and_loses_no_number(found, wanted, fits, write):
    path = write({"w": found})
    target = {"w": jnp.zeros(found.shape, wanted)}
    assert "convert=True" in message(target, path)
    if not fits:
        assert "which can't hold" in message(target, path, convert=True)
        return
    tree, _ = tensorflow.restore(target, path, convert=True)
    assert tree["w"].dtype == wanted
    np.testing.assert_array_equal(np.asarray(tree["w"], found.dtype), found)


def test_slices_that_the_target_cannot_hold_are_counted_together_for_all_variables(write):
    path = write({"a/0/w": np.int32([1, 300]), "a/1/w": np.int32([-200, 4]), "b": np.int32(-1)})
    target = {"a/w": jnp.zeros((2, 2), jnp.int8), "b": jnp.uint8(0)}
    text = message(target, path, convert=True, stacks=["a"])
    assert "convert=True would change values of 2 variables" in text
    assert "'a/w' can't be converted from int32 to int8, which can't hold 2 of its 4 values" in text
    assert "'b' can't be converted from int32 to uint8, which can't hold its value -1" in text


def test_a_float_does_not_become_a_whole_number(write):
    text = message({"w": jnp.zeros(1, jnp.int32)}, write({"w": np.float32([1])}), convert=True)
    assert "dtype: 'w' is float32 in the checkpoint, int32 in the target" in text
    assert "convert=True" not in text


def test_a_function_that_fails_says_whose_it_is(write):
    def broken(value):
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError) as caught:
        tensorflow.restore(TREE, write(arrays("w")), {"w": tensorflow.Through("enc/w", broken)})
    note = "This is the function of js.Through('enc/w', ...), given 'w'."
    assert caught.value.__notes__ == [note]


def test_a_function_decides_shape_and_dtype(write):
    values = {"qkv": np.arange(18, dtype=np.float32).reshape(2, 9)}
    target = {n: jnp.zeros((2, 3)) for n in "qkv"}
    rules = {
        "qkv": tensorflow.Through("q", lambda value: value[:, :3]),
        re.compile("(?=qkv).*"): tensorflow.Through("k", lambda value: value[:, 3:6]),
        "*": tensorflow.Through("*", lambda value: value[:, :2]),
    }
    text = message({"q": target["q"], "qkv": jnp.zeros((2, 3))}, write(values), rules)
    assert "shape: 'qkv' is (2, 2) in the checkpoint, (2, 3) in the target" in text
    tree, _ = tensorflow.restore(
        {n: target[n] for n in "qk"}, write(values), dict(list(rules.items())[:2])
    )
    np.testing.assert_array_equal(tree["k"], values["qkv"][:, 3:6])


# Stacks.


def stacked_model(scope, x):
    def block(x, layer):
        b = layer.get_variable("b", (3,))
        return x @ layer.get_variable("w", (3, 3)) + b[None], None

    x, _ = jax.lax.scan(block, x, scope.stacked("layers", 4))
    return x @ scope.get_variable("head", (3, 2))


def slices(prefix="layers/{}", missing=()):
    draw = np.random.default_rng(0).standard_normal
    names = {
        f"{prefix.format(i)}/{n}": s for i in range(4) for n, s in (("w", (3, 3)), ("b", (3,)))
    }
    values = {name: np.float32(draw(shape)) for name, shape in names.items()}
    return {name: value for name, value in values.items() if name not in missing}


@pytest.mark.parametrize(
    ("prefix", "rules"),
    [
        ("layers/{}", {"/": "/"}),
        ("bert/layer_{}", {"bert/layer_*/": "layers/*/", "head": "head"}),
        ("bert/layer_{}", {re.compile(r"bert/layer_(\d+)/(.*)"): r"layers/\1/\2", "head": "head"}),
    ],
)
def test_a_stack_is_restored_from_its_slices(prefix, rules, write):
    values = slices(prefix) | {"head": np.ones((3, 2), np.float32)}
    declared = js.declare(stacked_model)(jnp.ones((1, 3)))
    tree, report = tensorflow.restore(declared, write(values), rules)
    expected = [values[f"{prefix.format(i)}/w"] for i in range(4)]
    np.testing.assert_array_equal(tree["layers/w"], np.stack(expected))
    assert report.restored["layers/w"] == tuple(f"{prefix.format(i)}/w" for i in range(4))
    assert "and 3 more slices" in repr(report)
    # A tree doesn't know its stacks.
    again, _ = tensorflow.restore(declared.abstract(), write(values), rules, stacks=["layers"])
    assert again == tree


def test_a_stack_is_restored_as_a_whole_where_it_is_stored_so(write):
    values = {"layers/w": np.ones((4, 3, 3), np.float32), "layers/b": np.ones((4, 3), np.float32)}
    declared = js.declare(stacked_model)(jnp.ones((1, 3)))
    tree, _ = tensorflow.restore(declared, write(values), missing="init", key=jax.random.key(0))
    np.testing.assert_array_equal(tree["layers/b"], values["layers/b"])
    text = message(declared, write(values | slices()))
    assert "rule: 'layers/w' is read as a whole from 'layers/w', and its slices as well" in text


def test_slices_that_are_missing_or_of_another_shape_are_told(write):
    values = slices("a/layer_{}", missing=["a/layer_2/w"])
    values["a/layer_1/b"] = np.zeros(5, np.float32)
    declared = js.declare(stacked_model)(jnp.ones((1, 3)))
    rules = {"a/layer_*/": "layers/*/"}
    text = message(declared, write(values), rules, missing="init", key=jax.random.key(0))
    assert "missing: 'layers/2/w' float32[3,3], a slice of 'layers/w', is not in the" in text
    assert "is not in the checkpoint as 'a/layer_2/w' (close names: 'a/layer_3/w'," in text
    assert "'layers/1/b' is (5,) in the checkpoint as 'a/layer_1/b', (3,) in the target" in text
    text = message(declared, write({"a/layer_7/w": np.zeros((3, 3))}), rules)
    assert "missing: 'layers/w' float32[4,3,3] is not in the checkpoint as 'a/layer_0/w'" in text
    assert "unexpected: 'layers/7/w' float64[3,3] is in the checkpoint only, as 'a/lay" in text


def test_stacks_in_stacks(write):
    target = {"a/b/w": jnp.zeros((2, 3, 4))}
    values = {
        f"a/{i}/b/{j}/w": np.full(4, 10 * i + j, np.float32) for i in range(2) for j in range(3)
    }
    tree, _ = tensorflow.restore(target, write(values), stacks=["a/b", "a"])
    np.testing.assert_array_equal(tree["a/b/w"][1, 2], np.full(4, 12))
    np.testing.assert_array_equal(tree["a/b/w"][:, 0, 0], [0, 10])


def test_slices_are_named_as_unstack_names_them():
    tree = js.VarTree({"a/b/w": jnp.arange(6).reshape(2, 3)})
    apart = js.unstack(js.unstack(js.unstack(tree, "a"), "a/0/b"), "a/1/b")
    names = dict(slice_names("a/b/w", ["a", "a/b"], (2, 3)))
    assert set(names) == set(apart)
    for name, place in names.items():
        assert apart[name] == tree["a/b/w"][place]


# Where restored values are.


def test_values_are_where_the_target_has_them(write):
    values = {"w": np.float32(np.arange(8)), "step": np.array(2**40), "n": np.float32([1, 2])}
    mesh = jax.make_mesh((4,), ("model",))
    sharding = NamedSharding(mesh, PartitionSpec("model"))
    target = {
        "w": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding),
        "step": jax.ShapeDtypeStruct((), np.int64),
        "n": np.zeros(2, np.float32),
    }
    tree, _ = tensorflow.restore(target, write(values))
    assert tree["w"].sharding == sharding
    assert isinstance(tree["n"], np.ndarray)
    assert (tree["step"].dtype, int(tree["step"])) == (np.int64, 2**40)
    on_second = jax.device_put(jnp.zeros(8), jax.devices()[1])
    tree, _ = tensorflow.restore({"w": on_second}, write({"w": values["w"]}))
    assert tree["w"].devices() == {jax.devices()[1]}
    tree, _ = tensorflow.restore({"w": jnp.zeros(8)}, write({"w": values["w"]}))
    assert not tree["w"].committed


def test_a_restored_tree_is_as_weakly_typed_as_its_target(write):
    path = write({"lr": np.float32(0.5), "w": np.ones(2, np.float32)})
    target = js.VarTree({"lr": jnp.asarray(0.1), "w": jnp.zeros(2)})
    tree, _ = tensorflow.restore(target, path)
    assert {name: x.weak_type for name, x in tree.items()} == {"lr": True, "w": False}
    assert (tree["lr"], tree["lr"].dtype) == (0.5, jnp.float32)


def test_a_declaration_is_restored_over_a_mesh(write):
    declared = js.declare(stacked_model)(jnp.ones((1, 3)))
    mesh = jax.make_mesh((3,), ("rows",))
    tree, _ = tensorflow.restore(
        declared,
        write(slices()),
        missing="init",
        key=jax.random.key(0),
        mesh=mesh,
        rules=[("layers/w", PartitionSpec("rows"))],
    )
    assert tree["layers/w"].sharding.spec == PartitionSpec(None, "rows")
    assert tree["head"].sharding.mesh == mesh


@pytest.mark.parametrize("spec", [("x",), (None, "x"), (None, None, None), (None, "x", "y")])
def test_slices_are_read_once_to_the_devices_that_need_them(write, monkeypatch, spec):
    shape = (2, 2) if "y" in spec else (4,)
    mesh = jax.make_mesh(shape, ("x", "y")[: len(shape)])
    draw = np.random.default_rng(0).standard_normal
    values = {f"a/{i}/w": np.float32(draw((4, 8))) for i in range(4)} | {"b": np.float32(draw(8))}
    leaf = jax.ShapeDtypeStruct(
        (4, 4, 8), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec))
    )
    read = []
    whole = tf_checkpoint.Entry.read
    monkeypatch.setattr(tf_checkpoint.Entry, "read", lambda e: read.append(e.name) or whole(e))
    tree, _ = tensorflow.restore({"a/w": leaf, "b": jnp.zeros(8)}, write(values), stacks=["a"])
    assert tree["a/w"].sharding == leaf.sharding
    np.testing.assert_array_equal(tree["a/w"], np.stack([values[f"a/{i}/w"] for i in range(4)]))
    assert sorted(read) == sorted(values)


# export


def test_export_is_the_inverse_of_restore(tmp_path):
    declared = js.declare(stacked_model)(jnp.ones((1, 3)))
    tree = declared.init(jax.random.key(0))
    rules = {
        "net/": "/",
        "net/layer_*/kernel": tensorflow.Through("layers/*/w", np.transpose, np.transpose),
        "net/layer_*/bias": "layers/*/b",
    }
    path = tensorflow.export(tree, tmp_path / "m", rules, stacks=["layers"])
    names = [name for name, _ in tf_checkpoint.list_variables(path)]
    layers = [f"net/layer_{i}/{n}" for i in range(4) for n in ("bias", "kernel")]
    assert names == ["net/head", *layers]
    assert tf_checkpoint.latest_checkpoint(tmp_path) == path
    restored, _ = tensorflow.restore(declared, path, rules)
    assert restored == tree
    with pytest.raises(js.CheckpointExistsError):
        tensorflow.export(tree, path, rules, stacks=["layers"])


def test_what_can_not_be_exported_is_listed(tmp_path):
    tree = {
        "a/w": jnp.ones(2),
        "b/w": jnp.ones(2),
        "c": jax.random.key(0),
        "d": jax.ShapeDtypeStruct((2,), jnp.float32),
        "e": jnp.ones(2, jnp.float8_e3m4),
        "f": jnp.ones(2),
        "g": jnp.ones(2),
        "h": jnp.ones(2),
    }
    rules = {
        "x": "a/w",
        "y": tensorflow.Through("f", np.abs),
        "*/w": "*/w",
        re.compile("(.)"): r"h\1?",
        re.compile("z"): "h",
    }
    with pytest.raises(js.CheckpointValueError) as caught:
        tensorflow.export(tree, tmp_path / "m", {**rules, "x/": "a/", "b": "/"} | {"b/w": "b/w"})
    text = str(caught.value)
    assert "nothing was written. 6 problems" in text or "problems:" in text
    for line in (
        "'c' is key<fry>[], a dtype that TensorFlow lacks",
        "'d' has no value",
        "'e' is float8_e3m4[2], a dtype that TensorFlow lacks",
        "'f' goes through a function whose inverse isn't given",
    ):
        assert line in text
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(js.CheckpointValueError) as caught:
        tensorflow.export({"h": tree["h"], "g": tree["g"]}, tmp_path / "m", {re.compile("z"): "h"})
    assert "'h' is matched by a regular expression only" in str(caught.value)
    assert "'g' is not matched by the map, whose right sides are 'h'" in str(caught.value)
    with pytest.raises(js.CheckpointValueError, match="'b/w' and 'a' would both be 'x/w'"):
        tensorflow.export(
            {"a": tree["g"], "b/w": tree["g"]}, tmp_path / "m", {"x/w": "a", "x/": "b/"}
        )


def test_a_variable_is_exported_under_each_name_that_equally_specific_rules_give(tmp_path):
    tree = {"embed/w": jnp.ones((2, 3)), "head/b": jnp.zeros(2)}
    path = tensorflow.export(
        tree, tmp_path / "m", {"/": "all/", "a": "embed/w", "b": "embed/w", "h/": "head/"}
    )
    found = {name: entry.read() for name, entry in tf_checkpoint.open(path).items()}
    assert found.keys() == {"a", "b", "h/b"}
    np.testing.assert_array_equal(found["a"], np.ones((2, 3)))
    np.testing.assert_array_equal(found["b"], np.ones((2, 3)))


def test_slices_of_a_sharded_stack_are_exported(tmp_path):
    mesh = jax.make_mesh((2, 2), ("layers", "rows"))
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    specs = [("layers", "rows"), (None, "rows"), ("layers",), ("rows", "layers"), ()]
    for number, spec in enumerate(specs):
        stack = jax.device_put(values, NamedSharding(mesh, PartitionSpec(*spec)))
        path = tensorflow.export({"l/w": stack}, tmp_path / f"{number}", stacks=["l"])
        for i in range(4):
            found = tf_checkpoint.load_variable(path, f"l/{i}/w")
            np.testing.assert_array_equal(found, values[i], strict=True)


def test_an_export_replaces_a_checkpoint_if_that_is_requested(tmp_path):
    path = tensorflow.export({"w": jnp.zeros(2), "v": jnp.zeros(1)}, tmp_path / "m")
    tensorflow.export({"w": jnp.ones(2)}, path, overwrite=True)
    assert tensorflow.load(path) == js.VarTree({"w": np.ones(2, np.float32)})
    with pytest.raises(js.CheckpointExistsError, match="is a directory, and what reads this path"):
        tensorflow.export({"w": jnp.ones(2)}, tmp_path, overwrite=True)


def test_the_error_of_an_inverse_says_which_name_it_was_for(tmp_path):
    def broken(value):
        raise ArithmeticError("so it is")

    rules = {"kernel": tensorflow.Through("w", np.transpose, broken)}
    with pytest.raises(ArithmeticError) as caught:
        tensorflow.export({"w": jnp.ones((2, 3))}, tmp_path / "m", rules)
    assert caught.value.__notes__ == ["This is the inverse of a rule's function, for 'kernel'."]
    assert list(tmp_path.iterdir()) == []


def test_a_report_prints_as_a_table(write):
    path = write(arrays("enc/w", "enc/b", "old"))
    _, report = tensorflow.restore(TREE, path, {"enc/": "enc/"})
    first, *rows = repr(report).split("\n")
    assert first.startswith(f"Restored 2 of 3 from {path}: 48 B, verified, in ")
    assert rows == [
        "name    what      how",
        "enc/b   restored",
        "enc/w   restored",
        "head/w  kept",
        "old     ignored   in the checkpoint only",
    ]
    assert (report.unused, report.changed) == (report.ignored, report.converted) == (("old",), {})
    _, report = tensorflow.restore(TREE, path, {"enc/": "enc/"}, verify=False)
    assert not report.verified


# What a path is.


def test_a_checkpoint_of_another_library_is_an_error_that_says_what_restores_it(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.zeros(2))
    for call in (tensorflow.load, lambda path: tensorflow.restore({"w": jnp.zeros(2)}, path)):
        with pytest.raises(js.CheckpointError) as caught:
            call(tmp_path / "x.npz")
        text = str(caught.value)
        assert "is not a checkpoint of TensorFlow. This is there: npz file." in text
        assert f"Write js.Saver('{tmp_path / 'x.npz'}').restore(target)" in text


def test_a_pattern_is_a_path_for_every_function_that_reads(write):
    values = arrays("w")
    pattern = write(values)[:-1] + "?.index"
    assert tensorflow.load(pattern) == js.VarTree(values)
    target = {"w": jnp.zeros((2, 3))}
    assert tensorflow.restore(target, pattern)[0] == js.VarTree(values)
    assert js.list_variables(pattern) == [("w", [2, 3])]
    assert js.Saver(pattern).restore(target, pattern)["w"].tolist() == values["w"].tolist()


def test_only_what_is_verified_is_compared_with_checksums(write):
    path = write(arrays("w"))
    file = Path(path + ".data-00000-of-00001")
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    target = {"w": jnp.zeros((2, 3))}
    for call in (
        lambda verify: tensorflow.restore(target, path, verify=verify)[0],
        lambda verify: js.Saver(path, verify=verify).restore(target, path),
        lambda verify: tensorflow.load(path, verify=verify),
    ):
        with pytest.raises(js.CheckpointError, match="checksum"):
            call(True)
        assert np.asarray(call(False)["w"]).tobytes()[0] == data[0]
