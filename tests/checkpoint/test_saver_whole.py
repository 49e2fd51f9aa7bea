"""Restoring without a target, and saved values as arrays."""

import collections
import dataclasses
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import serialization
from hypothesis import given
from hypothesis import strategies as st
from saver_bits import DTYPES, bit_patterns, raw

import jscope as js
from jscope import tf_checkpoint
from jscope.formats import _own_index, _sealed_json
from jscope.formats._containers import Containers, describe


@pytest.fixture
def saver(tmp_path):
    return js.Saver(tmp_path / "run")


@pytest.fixture
def tree():
    return js.VarTree({"enc/w": jnp.ones((2, 3)), "enc/b": jnp.zeros(3, jnp.bfloat16), "n": 3})


class Point(NamedTuple):
    x: object
    y: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    step: object
    params: object


def assert_same(found, expected):
    """The same containers, and in them the same values to the bit."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert js.VarTree({"x": one}) == js.VarTree({"x": other})


# Without a target.


def test_without_a_target_a_tree_comes_back_as_it_was_saved(saver, tree):
    tree |= {"key": jax.random.key(3), "none": None, "text": "ü", "wide": np.int64(2**40)}
    saver.save(tree, 1)
    saver.save_async(tree | {"n": 4}, 2).result()
    assert saver.restore() == tree | {"n": 4}
    assert saver.restore(step=1) == saver.restore(None, 1) == tree
    restored = saver.restore()
    assert isinstance(restored, js.VarTree)
    assert isinstance(restored["enc/w"], jax.Array)
    assert not restored["enc/w"].committed
    assert saver.report.restored == {name: name for name in tree}
    assert saver.report.ignored == ()


def test_without_a_target_the_containers_come_back(saver):
    adam = optax.adam(1e-3).init({"w": jnp.ones(2)})
    state = {
        "params": js.VarTree({"a/w": jnp.ones(2), "b": jnp.zeros(1)}),
        "nested": {"layers": [{"w": jnp.ones(1)}, {"w": jnp.zeros(1)}], "flat/name": jnp.ones(())},
        "pair": (jnp.ones(1), [2, None, "text", b"\0", 2.5, 1j, True]),
        "empty": [{}, [], (), js.VarTree()],
        "numbers": {3: jnp.ones(1), 20: 1},
        "point": Point(1, (2,)),
        "state": State(7, {"w": jnp.ones(1)}),
        "opt": adam,
        "ordered": collections.OrderedDict(b=1, a=2),
        "tree of trees": js.VarTree({"enc": [1, {"x": 2}], "dec": 3, "none": []}),
    }
    saver.save(state, 1)
    expected = state | {
        "point": {"x": 1, "y": (2,)},
        "state": {"step": 7, "params": {"w": jnp.ones(1)}},
        "opt": ({"count": adam[0].count, "mu": adam[0].mu, "nu": adam[0].nu}, {}),
        "ordered": {"b": 1, "a": 2},
    }
    restored = saver.restore()
    assert_same(restored, expected)
    assert type(restored["ordered"]) is dict


leaves = st.integers(0, 9) | st.none() | st.text(max_size=2)
keys = st.text("ab/c", min_size=1, max_size=3)
pytrees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.integers(0, 30), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b/c", "b/d"]), leaves).map(js.VarTree)
    ),
)


@given(st.dictionaries(keys, pytrees, max_size=3))
def test_every_pytree_of_plain_containers_is_described_and_filled_again(tree):
    structure = jax.tree.structure(tree, is_leaf=lambda x: x is None)
    values = list(range(structure.num_leaves))
    paths = jax.tree_util.tree_leaves_with_path(structure.unflatten(values))
    names = tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths)
    description = json.loads(json.dumps(describe(tree)))
    filled = Containers(description, names).filled(values)
    assert jax.tree.structure(filled) == structure
    assert jax.tree.leaves(filled) == values


@pytest.mark.parametrize("saving", [{"portable": True}, {}])
def test_a_part_or_other_names_are_a_tree(saver, saving):
    saver.save({"enc": {"w": jnp.ones(2), "b": jnp.zeros(2)}, "head": [jnp.ones(1)]}, 1, **saving)
    assert saver.restore(select="enc/*") == js.VarTree(
        {"enc/w": jnp.ones(2), "enc/b": jnp.zeros(2)}
    )
    assert saver.report.ignored == ("head/0",)
    assert list(saver.restore(rename={"enc": "", "head/0": ("h", "i")})) == ["b", "h", "i", "w"]
    large = saver.restore(rename={"enc": "e"}, select=lambda name, value: value.shape == (2,))
    assert list(large) == ["e/b", "e/w"]
    only = js.Saver(saver.directory, var_list=["head/*"])
    assert list(only.restore()) == ["head/0"]
    named = js.Saver(saver.directory, var_list={"enc/w": "kernel"})
    assert list(named.restore()) == ["kernel"]
    with pytest.raises(js.SelectorError, match="Leave select= out to restore all variables"):
        saver.restore(select="decoder/*")
    with pytest.raises(js.MissingVariableError, match="close names: 'enc/w'"):
        js.Saver(saver.directory, var_list={"enc/v": "kernel"}).restore()


def test_what_was_saved_by_a_list_of_variables_is_a_tree(saver, tree):
    js.Saver(saver.directory, var_list={"kernel": "enc/w"}).save(tree, 1)
    assert saver.restore() == js.VarTree({"kernel": tree["enc/w"]})


def test_arguments_that_need_a_target_are_errors_without_one(saver, tree):
    saver.save(tree, 1)
    for argument, value in (
        ("missing", "keep"),
        ("unexpected", "ignore"),
        ("convert", True),
        ("key", jax.random.key(0)),
        ("mesh", jax.make_mesh((2,), ("x",))),
        ("rules", [("**", jax.sharding.PartitionSpec())]),
    ):
        with pytest.raises(js.CheckpointValueError, match=f"{argument}= would do nothing") as error:
            saver.restore(**{argument: value})
        shown = repr(value) if argument in ("missing", "unexpected", "convert") else argument
        assert f"saver.restore(declared, {argument}={shown})" in str(error.value)
    with pytest.raises(
        js.CheckpointValueError, match="unexpected=, key= would do nothing"
    ) as error:
        saver.restore(unexpected="ignore", key=jax.random.key(0))
    assert "saver.restore(declared, unexpected='ignore', key=key)" in str(error.value)


def test_checkpoints_of_other_libraries_come_back_without_a_target(saver, tmp_path):
    values = {"params": {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}, "step": 4}
    orbax_values = values | {"list": [jnp.ones(1), {"x": jnp.ones(2)}], "empty": {}, "none": []}
    orbax.checkpoint.PyTreeCheckpointer().save(tmp_path / "orbax", orbax_values)
    (tmp_path / "flax").write_bytes(serialization.msgpack_serialize(jax.device_get(values)))
    for path, expected in ((tmp_path / "orbax", orbax_values), (tmp_path / "flax", values)):
        assert_same(saver.restore(step=path), expected)
    flat = {"a/w": np.float32([1, 2]), "b": np.int64(3)}
    np.savez(tmp_path / "m.npz", **flat)
    tf_checkpoint.write(tmp_path / "m-1", flat)
    for path in ("m.npz", "m-1"):
        assert saver.restore(step=tmp_path / path) == js.VarTree(flat)


def test_names_that_a_tree_cannot_have_are_listed(saver, tmp_path):
    np.savez(tmp_path / "m.npz", **{"w:0": np.ones(1), "b c": np.ones(2), "ok": np.ones(3)})
    for read in (saver.restore, lambda step: js.VarTree(saver.open(step))):
        with pytest.raises(js.VariableNameError, match=r"2 of 3 names in .* aren't legal") as error:
            read(step=tmp_path / "m.npz")
        assert "'w:0'" in str(error.value)
        assert "'b c'" in str(error.value)
        path = str(tmp_path / "m.npz")
        assert f"saver.restore(step={path!r}, rename=function)" in str(error.value)
        assert f"saver.open({path!r})['w:0'].read()" in str(error.value)

    def legal(name):
        return name.removesuffix(":0").replace(" ", "_")

    restored = saver.restore(step=tmp_path / "m.npz", rename=legal)
    assert list(restored) == ["b_c", "ok", "w"]
    with pytest.raises(js.VariableNameError, match="'w!' is not a legal name") as error:
        saver.restore(step=tmp_path / "m.npz", rename=lambda name: legal(name).replace("w", "w!"))
    assert "['w:0'].read()" in str(error.value)  # the saved name, not the new one


def rewritten(path, change):
    """Change the members of an index and seal it again."""
    members = json.loads((path / _own_index.FILE_NAME).read_bytes())
    del members["crc32c"]
    change(members)
    (path / _own_index.FILE_NAME).write_bytes(_sealed_json.sealed(members))


def test_a_checkpoint_that_says_nothing_of_containers_is_a_tree(saver):
    path = saver.save({"a": [jnp.ones(1), jnp.zeros(2)]}, 1)
    rewritten(path, lambda members: members.pop("containers"))
    assert saver.restore() == js.VarTree({"a/0": jnp.ones(1), "a/1": jnp.zeros(2)})


DEEP = []
for _ in range(900):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "description",
    [
        [],
        [None],
        [None, None, None],
        3,
        "dict",
        {},
        {"dict": None},
        {"dict": {"a": None}},
        {"dict": 1},
        {"dict": 3},
        {"dict": -1},
        {"dict": [None, None]},
        {"dict": [[[], None], [1, None]]},
        {"list": [None, None]},
        {"tuple": 2},
        {"VarTree": 1},
        {"VarTree": 2**70},
        {"VarTree": -1},
        {"VarTree": {"a": None}},
        {"VarTree": {"../../etc": None, "b": None}},
        {"dict": {"x": {"VarTree": 2}}},
        {"dict": {"x": {"dict": 2}}},
        {"dict": {"a": None, "b": None}, "list": []},
        DEEP,
    ],
)
def test_a_description_of_containers_that_cannot_be_is_damage(saver, tree, description):
    path = saver.save({"a": jnp.ones(1), "b": jnp.zeros(2)}, 1)
    rewritten(path, lambda members: members.update(containers=description))
    with pytest.raises(js.CheckpointError, match=r"Step 1 can't be read|damaged"):
        saver.restore()
    target = {"a": jnp.zeros(1), "b": jnp.zeros(2)}
    assert js.VarTree(saver.restore(target)) == js.VarTree({"a": jnp.ones(1), "b": jnp.zeros(2)})


# Saved values as arrays.


def test_a_saved_value_is_an_array_like_of_every_dtype(saver):
    arrays = {name: bit_patterns(name, 8).reshape(2, 4) for name in DTYPES}
    saver.save(arrays, 1)
    with jax.enable_x64(True):
        for name, value in saver.open().items():
            array = arrays[name]
            assert isinstance(value.dtype, np.dtype)
            assert (value.dtype, value.shape, value.ndim, value.size, value.nbytes, len(value)) == (
                (array.dtype, (2, 4), 2, 8, array.nbytes, 2)
            )
            readers = [np.asarray, np.array, jnp.asarray, jnp.array]
            if name in ("int1", "uint1"):  # XLA takes them for bools (jaxlib 0.10.2)
                readers = readers[:2]
            for reader in readers:
                read = reader(value)
                assert read.dtype == array.dtype
                assert raw(read) == raw(array)


def test_numpy_may_ask_for_another_dtype_and_for_a_copy(saver):
    saver.save({"w": np.float32([1, 2]), "n": 5, "x": 0.5, "text": "ab", "none": None}, 1)
    w = saver.open()["w"]
    assert np.asarray(w, np.float64).dtype == np.float64
    assert np.asarray(w, "int32", copy=True).tolist() == [1, 2]
    first = np.asarray(w)
    first[0] = 9
    assert w.read().tolist() == [1, 2]
    with pytest.raises(ValueError, match="'w' is on disk; an array of it is always a copy"):
        np.asarray(w, copy=False)
    assert [v.dtype.kind for v in saver.open().values()] == ["i", "O", "U", "f", "f"]
    assert jnp.asarray(saver.open()["n"]) == 5
    assert (saver.open()["n"].shape, saver.open()["n"].ndim) == ((), 0)
    with pytest.raises(TypeError, match="'n' has no axes"):
        len(saver.open()["n"])


def test_keys_are_not_arrays_of_numpy(saver):
    key = jax.random.key(5, impl="rbg")
    saver.save({"k": key}, 1)
    saved = saver.open()["k"]
    assert saved.dtype == key.dtype
    with pytest.raises(TypeError, match=r"'k' holds PRNG keys, .*\['k'\]\.read\(\) gives them"):
        np.asarray(saved)


def test_a_tree_of_an_open_checkpoint_has_the_values(saver, tree):
    saver.save(tree, 1)
    values = js.VarTree(saver.open())
    assert values == tree == saver.restore()
    assert isinstance(values["enc/w"], np.ndarray)
    assert "enc/w  (2, 3)  float32" in repr(values)
    assert js.select(saver.open(), "enc/*") == js.select(tree, "enc/*")
    again = js.Saver(saver.directory.parent / "copy")
    again.save(saver.open(), 1)
    assert again.restore() == tree
