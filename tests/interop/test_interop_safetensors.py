"""`jscope.interop.safetensors.export`, read back by the safetensors library and by jscope."""

import errno
import itertools
import json
import os

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors as library
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jscope as js
from jscope.formats import _sharded_safetensors
from jscope.interop import safetensors, tensorflow

INDEX = "model.safetensors.index.json"


def files(directory):
    return sorted(os.listdir(directory))


def index_of(directory):
    return json.loads((directory / INDEX).read_text())


def loaded(directory):
    """All tensors, found as Hugging Face's libraries find them: the one file, or by the index."""
    if (directory / "model.safetensors").exists():
        return safetensors_of(directory / "model.safetensors")
    found = {}
    for name, file in index_of(directory)["weight_map"].items():
        found[name] = safetensors_of(directory / file)[name]
    return found


def safetensors_of(file):
    """The tensors of a file; also of dtypes that the library has none of NumPy's for."""
    arrays = {}
    dtypes = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn}
    for name, tensor in library.deserialize(file.read_bytes()):
        dtype = dtypes.get(tensor["dtype"]) or library.numpy._TYPES[tensor["dtype"]]
        arrays[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return arrays


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], np.asarray(expected[name]), strict=True)


def message(*arguments, error=js.CheckpointValueError, **keywords):
    with pytest.raises(error) as caught:
        safetensors.export(*arguments, **keywords)
    return str(caught.value)


KINDS = {
    "bfloat16/w": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3) / 7,
    "float8": jnp.arange(5, dtype=jnp.float8_e4m3fn),
    "empty": np.zeros((0, 4), np.float16),
    "scalar": np.float32(1.5),
    "zero/dim": jnp.int32(7),
    "flags": np.array([True, False]),
    "big/endian": np.arange(3, dtype=">f8"),
    "transposed": np.arange(6.0).reshape(2, 3).T,
}


@pytest.mark.parametrize("size", ["5GB", 8])
def test_every_kind_of_array_is_what_the_library_and_a_saver_read(size, tmp_path):
    assert safetensors.export(KINDS, tmp_path / "m", max_shard_size=size) == str(tmp_path / "m")
    assert ((tmp_path / "m" / INDEX).exists()) == (size == 8)
    expected = {n: np.asarray(v) for n, v in KINDS.items()}
    expected["big/endian"] = expected["big/endian"].astype("<f8")
    assert_equal(loaded(tmp_path / "m"), expected)
    restored = js.Saver(tmp_path / "m").restore()
    assert_equal(dict(restored), expected)


def test_what_numpy_has_is_read_by_the_librarys_own_function(tmp_path):
    tree = {"enc": {"w": np.ones((2, 3), np.float32)}, "b": np.arange(4)}
    safetensors.export(tree, tmp_path)
    found = library.numpy.load_file(tmp_path / "model.safetensors")
    assert_equal(found, {"enc/w": tree["enc"]["w"], "b": tree["b"]})
    assert files(tmp_path) == ["model.safetensors"]


def test_a_scopes_tree_is_exported(tmp_path):
    def model(scope, x):
        return x @ scope.get_variable("dense/w", (3, 2), dtype=jnp.bfloat16)

    tree = js.init(model)(jax.random.key(0), jnp.ones((1, 3), jnp.bfloat16))
    tree = tree[0] if isinstance(tree, tuple) else tree
    safetensors.export(tree, tmp_path, names=".")
    assert_equal(loaded(tmp_path), {"dense.w": tree["dense/w"]})


# Shards


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # huggingface_hub's own example, in GB there.
        ([6, 6, 2, 6, 2, 2], [[0], [1, 2], [3, 4, 5]]),
        ([5, 5, 1], [[0, 1], [2]]),  # exactly the limit
        ([10, 10], [[0], [1]]),
        ([3, 11, 3], [[1], [0, 2]]),  # one that is larger is alone, and comes first
        ([11], [[0]]),
        ([0, 10, 0, 0], [[0, 1, 2, 3]]),
        ([], [[]]),
    ],
)
def test_shards_are_split_as_huggingface_hub_splits_them(sizes, expected):
    named = {f"t{number}": size for number, size in enumerate(sizes)}
    assert _sharded_safetensors.split(named, 10) == [[f"t{i}" for i in shard] for shard in expected]


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 30))
def test_each_tensor_is_in_one_shard_within_the_limit(sizes, limit):
    named = {f"{number:02d}": size for number, size in enumerate(sizes)}
    shards = _sharded_safetensors.split(named, limit)
    assert sorted(itertools.chain(*shards)) == list(named)
    for shard in shards:
        assert sum(named[name] for name in shard) <= limit or len(shard) == 1
        assert shard == sorted(shard)


def test_shards_and_their_index_are_named_as_hugging_faces_libraries_name_them(tmp_path):
    tree = {name: np.full(4, i, np.float32) for i, name in enumerate("abcd")}
    tree["b"] = np.arange(9, dtype=np.float32)  # 36 bytes, more than a shard
    safetensors.export(tree, tmp_path, max_shard_size=32, metadata={"step": "7"})
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert files(tmp_path) == [*shards, INDEX]
    assert index_of(tmp_path) == {
        "metadata": {"total_size": 16 * 3 + 36, "step": "7"},
        "weight_map": {"a": shards[1], "b": shards[0], "c": shards[1], "d": shards[2]},
    }
    for shard in shards:
        with library.safe_open(tmp_path / shard, framework="np") as file:
            assert file.metadata() == {"format": "pt", "step": "7"}
    assert_equal(loaded(tmp_path), tree)


@pytest.mark.parametrize(
    ("size", "expected"),
    [("5GB", 5 * 10**9), ("1.5 KB", 1500), ("500mb", 5 * 10**8), ("2TB", 2 * 10**12), ("64", 64)],
)
def test_sizes_are_powers_of_ten(size, expected):
    assert _sharded_safetensors.size_of(size) == expected


@pytest.mark.parametrize("size", ["5GiB", "GB", "-1GB", "0.1", "", 0, -5, 1.5, True, None, "nanGB"])
def test_a_size_that_is_none_is_an_error(size, tmp_path):
    text = message({"w": jnp.ones(2)}, tmp_path / "m", max_shard_size=size)
    assert f"got {size!r}. Write max_shard_size='5GB'." in text
    assert files(tmp_path) == []


def test_a_tree_without_variables_is_one_file_without_tensors(tmp_path):
    safetensors.export({}, tmp_path)
    assert library.numpy.load_file(tmp_path / "model.safetensors") == {}


# Names


def test_a_map_is_read_from_right_to_left_and_what_it_does_not_mention_keeps_its_name(tmp_path):
    tree = {
        "embed/w": jnp.ones((4, 2)),
        "layers/w": jnp.arange(24.0).reshape(3, 2, 4),
        "layers/b": jnp.arange(6.0).reshape(3, 2),
        "norm/scale": jnp.zeros(2),
        "step": jnp.int32(3),
    }
    rules = {
        "model/embed_tokens/weight": "embed/w",
        "lm_head/weight": "embed/w",
        "model/layers/*/proj/weight": js.Through("layers/*/w", np.transpose, np.transpose),
        "model/layers/*/proj/bias": "layers/*/b",
        "model/norm/": "norm/",
    }
    safetensors.export(tree, tmp_path, rename=rules, names=".", stacks=["layers"])
    expected = {
        "lm_head.weight": tree["embed/w"],
        "model.embed_tokens.weight": tree["embed/w"],
        "model.norm.scale": tree["norm/scale"],
        "step": tree["step"],
    }
    for i in range(3):
        expected[f"model.layers.{i}.proj.weight"] = tree["layers/w"][i].T
        expected[f"model.layers.{i}.proj.bias"] = tree["layers/b"][i]
    assert_equal(loaded(tmp_path), expected)


def test_the_map_that_exports_restores(tmp_path):
    values = np.random.default_rng(0).standard_normal
    tree = js.VarTree(
        {
            "embed/w": jnp.asarray(values((4, 2)), jnp.bfloat16),
            "layers/a/w": jnp.asarray(values((3, 2, 4)), jnp.float32),
            "layers/norm/scale": jnp.asarray(values((3, 2)), jnp.float32),
            "head": jnp.asarray(values((2, 5)), jnp.float32),
        }
    )
    rules = {
        "model/embed_tokens/weight": "embed/w",
        "model/layers/*/self_attn/weight": js.Through("layers/*/a/w", np.transpose, np.transpose),
        "model/layers/*/norm/": "layers/*/norm/",
    }
    how = {"rename": rules, "names": ".", "stacks": ["layers"]}
    safetensors.export(tree, tmp_path, max_shard_size=64, **how)
    assert "model.layers.2.norm.scale" in loaded(tmp_path)
    target = jax.tree.map(jnp.zeros_like, tree)
    assert js.Saver(tmp_path).restore(target, **how) == tree


def test_a_function_gives_names_one_or_several(tmp_path):
    tree = {"a/w": jnp.ones(2), "b": jnp.zeros(3)}
    safetensors.export(
        tree, tmp_path, rename=lambda name: ("x", "y") if name == "b" else name.upper()
    )
    assert_equal(loaded(tmp_path), {"A/W": tree["a/w"], "x": tree["b"], "y": tree["b"]})
    text = message(tree, tmp_path / "n", rename=lambda name: None)
    assert "`rename` gives None for 'a/w'. Return the saved name, or a tuple of several." in text


def test_problems_of_names_are_in_one_error(tmp_path):
    tree = {"a.b/c": jnp.ones(1), "a/b.c": jnp.ones(2), "enc/w": jnp.ones(3), "x": jnp.ones(4)}
    rules = {"y": js.Through("x", np.abs), "model/": "ecn/"}
    text = message(tree, tmp_path / "m", rename=rules, names=".")
    for line in (
        "nothing was written. 3 problems:",
        "'a/b.c' and 'a.b/c' would both be 'a.b.c'",
        "'x' goes through a function whose inverse isn't given",
        "rule: 'model/': 'ecn/' has nothing like 'ecn/' in the target (close names: 'enc/')",
    ):
        assert line in text
    assert files(tmp_path) == []


# Values


def test_values_that_are_no_arrays_are_listed_with_what_to_do(tmp_path):
    tree = {
        "rng": jax.random.key(0),
        "name": "first",
        "epoch": 3,
        "none": None,
        "spec": jax.ShapeDtypeStruct((2,), jnp.float32),
        "odd": jnp.ones(2, jnp.float8_e3m4),
        "complex": np.ones(2, np.complex128),
        "w": jnp.ones(2),
    }
    text = message(tree, tmp_path / "m", rename={"v": "nothing"})
    for line in (
        "8 problems:",
        "'rng' is key<fry>[], a PRNG key",
        "'name' is of type str, not an array",
        "'epoch' is of type int, not an array",
        "'none' is of type NoneType, not an array",
        "'spec' has no value",
        "'odd' is float8_e3m4[2], a dtype that safetensors lacks",
        "'complex' is complex128[2], a dtype that safetensors lacks",
        "rule: 'v': 'nothing' has no variable 'nothing' in the target",
        "jax.random.key_data(key)",
        "np.asarray(number, np.float32)",
        "metadata={'name': 'text'}",
        "js.drop(tree, ...)",
    ):
        assert line in text, line
    assert files(tmp_path) == []


def test_arrays_over_devices_are_exported_whole_and_slice_by_slice(tmp_path):
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    values = np.arange(128, dtype=np.float32).reshape(8, 4, 4)
    specs = {"a": ("x", "y"), "b": (None, "y"), "c": (("x", "y"),), "d": ()}
    tree = {
        f"{scope}/{name}": jax.device_put(values, NamedSharding(mesh, PartitionSpec(*spec)))
        for name, spec in specs.items()
        for scope in ("p", "l")
    }
    safetensors.export(tree, tmp_path, stacks=["l"], max_shard_size=200)
    found = loaded(tmp_path)
    for name in specs:
        np.testing.assert_array_equal(found[f"p/{name}"], values)
        for i in range(8):
            np.testing.assert_array_equal(found[f"l/{i}/{name}"], values[i])


def test_arrays_of_other_processes_are_listed(tmp_path, monkeypatch):
    mesh = jax.make_mesh((8,), ("x",))
    array = jax.device_put(jnp.ones((8, 2)), NamedSharding(mesh, PartitionSpec("x")))
    monkeypatch.setattr(type(array), "is_fully_addressable", property(lambda _: False))
    for export in (safetensors.export, tensorflow.export):
        with pytest.raises(js.CheckpointValueError) as caught:
            export({"w": array, "v": array}, tmp_path / "m")
        assert "2 problems:" in str(caught.value)
        assert "'w' is on devices of several processes: gather it first, by" in str(caught.value)
    assert files(tmp_path) == []


def test_no_copy_of_an_array_stays_on_the_host(tmp_path):
    mesh = jax.make_mesh((8,), ("x",))
    array = jax.device_put(jnp.ones((8, 2)), NamedSharding(mesh, PartitionSpec("x")))
    safetensors.export({"w": array}, tmp_path)
    assert array._npy_value is None


# What is in the way


def exported(directory, value, shards, overwrite=True):
    """An export of six tensors of 4 bytes in so many shards."""
    tree = {f"w{i}": np.full(1, value, np.float32) for i in range(6)}
    safetensors.export(tree, directory, max_shard_size=4 * (6 // shards), overwrite=overwrite)
    return tree


def test_nothing_is_overwritten_without_a_request(tmp_path):
    first = exported(tmp_path, 1, 2)
    (tmp_path / "config.json").write_text("{}")
    text = message({"w": jnp.ones(2)}, tmp_path, error=js.CheckpointExistsError)
    assert text == (
        f"{tmp_path} has '{INDEX}', 'model-00001-of-00002.safetensors', "
        "'model-00002-of-00002.safetensors', and a checkpoint is not overwritten without a "
        "request. Write to another directory, or remove these files first; overwrite=True "
        "replaces them."
    )
    assert_equal(loaded(tmp_path), first)


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_export_replaces_an_earlier_one_and_nothing_else(before, after, tmp_path):
    exported(tmp_path, 1, before)
    for other in ("config.json", "adapter.safetensors.bak", "model-a.safetensors.txt"):
        (tmp_path / other).write_text("mine")
    new = exported(tmp_path, 2, after)
    assert_equal(loaded(tmp_path), new)
    assert len(files(tmp_path)) == 3 + after + (after > 1)
    assert_equal(dict(js.Saver(tmp_path).restore()), new)


@pytest.mark.parametrize(
    ("call", "before", "after"),
    [
        *itertools.product(["fsync", "link", "pwrite"], [0], [1, 3]),
        *itertools.product(["fsync", "replace", "unlink"], [1, 2, 3], [1, 3]),
    ],
)
def test_a_failure_anywhere_leaves_the_old_the_new_or_none(
    call, before, after, tmp_path, monkeypatch
):
    original, results = getattr(os, call), set()
    for position in range(16):
        directory, calls = tmp_path / str(position), itertools.count()
        old = exported(directory, 1, before) if before else {}
        new = {f"w{i}": np.full(1, 2, np.float32) for i in range(6)}

        def sometimes(*arguments, calls=calls, position=position, **options):
            if next(calls) == position:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments, **options)

        error = None
        with monkeypatch.context() as patch:
            patch.setattr(os, call, sometimes)
            try:
                exported(directory, 2, after, overwrite=before > 0)
            except js.CheckpointError as caught:
                error = str(caught)
        assert error is None or f"{directory} can't be written: No space left" in error
        if not directory.exists():
            assert error
            assert before == 0
        elif {INDEX, "model.safetensors"} & set(files(directory)):
            found = loaded(directory)
            assert_equal(found, new if found["w0"] == 2 else old)
            results.add((error is None, int(found["w0"][0])))
        else:
            assert error
            assert before == after == 3
        if error is None:
            assert_equal(loaded(directory), new)
            assert call == "unlink" or not [n for n in files(directory) if ".tmp-" in n]
    assert (True, 2) in results


def test_another_checkpoint_in_the_directory_is_not_hidden(tmp_path):
    js.Saver(tmp_path / "own").save({"w": jnp.ones(2)}, 3)
    tensorflow.export({"w": jnp.ones(2)}, tmp_path / "tf" / "m")
    for name, format in (
        ("own", "step 3 of jscope's Saver"),
        ("own/3", "step 3 of jscope's Saver"),
        ("tf", "TensorFlow checkpoint, V2"),
    ):
        before = files(tmp_path / name)
        for overwrite in (False, True):
            text = message(
                {"w": jnp.ones(2)},
                tmp_path / name,
                overwrite=overwrite,
                error=js.CheckpointExistsError,
            )
            assert text == (
                f"{tmp_path / name} has another checkpoint, {format}, and what reads this "
                "directory could find either. Write to another directory, or to one in it."
            )
        assert files(tmp_path / name) == before


def test_shards_without_an_index_are_read_if_all_are_there(tmp_path):
    tree = exported(tmp_path, 1, 3)
    (tmp_path / INDEX).unlink()
    assert_equal(dict(js.Saver(tmp_path).restore()), tree)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(js.CheckpointError) as caught:
        js.Saver(tmp_path).restore()
    assert "has 2 of the 3 shards model-*-of-00003.safetensors, and no index" in str(caught.value)


def test_a_directory_that_a_failed_export_made_is_removed(tmp_path):
    def broken(value):
        raise ArithmeticError("so it is")

    rules = {"v": js.Through("w", np.abs, broken)}
    with pytest.raises(ArithmeticError):
        safetensors.export({"w": jnp.ones(2)}, tmp_path / "m", rename=rules)
    (tmp_path / "file").write_text("")
    for path in ("file", "file/m"):
        text = message({"w": jnp.ones(2)}, tmp_path / path, error=js.CheckpointError)
        assert "can't be written: " in text
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"names": "_"}, "`names` is '/' or '.', got '_'. Write names='.'."),
        ({"metadata": {"step": 7}}, "`metadata` are strings by name, got {'step': 7}"),
        ({"metadata": "pt"}, "`metadata` are strings by name, got 'pt'"),
        ({"metadata": {"total_size": "1"}}, "`metadata` can't have 'total_size'"),
        ({"rename": ["a"]}, "An assignment map is a dict"),
        ({"rename": {"a": 1}}, "An assignment map goes from names to names"),
        ({"stacks": "layers"}, "write stacks=['layers']"),
    ],
)
def test_arguments_that_can_not_be(keywords, text, tmp_path):
    assert text in message({"w": jnp.ones(2)}, tmp_path / "m", **keywords)
    assert files(tmp_path) == []


def test_the_name_of_a_file_is_an_error_that_says_to_give_its_directory(tmp_path):
    text = message({"w": jnp.ones(2)}, tmp_path / "model.safetensors")
    assert "An export writes a directory" in text
    assert files(tmp_path) == []
