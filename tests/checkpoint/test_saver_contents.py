"""What can be saved: every dtype by every route, any pytree, metadata, parts of a tree."""

import dataclasses
import enum
import math
import pathlib
import re
import struct
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from saver_bits import DTYPES, KEY_IMPLS, bit_patterns, raw

import jscope as js
from jscope.formats import _own_index, _own_packed
from jscope.saver import Saver


def saved(path):
    return _own_index.read_index(path, None)


# Every dtype, by every route.


@pytest.mark.parametrize("sharding", [PartitionSpec(), PartitionSpec("x"), None])
@pytest.mark.parametrize("route", ["packed", "raw", "async", "gathered", "zstd"])
def test_every_dtype_and_key_comes_back_to_the_bit_by_every_route(
    tmp_path, monkeypatch, route, sharding
):
    if route in ("raw", "async"):
        monkeypatch.setattr(_own_packed, "LIMIT", 0)
    if route == "zstd":
        monkeypatch.setattr("jscope.saver._saver._PACKS_BESIDE_COMPRESSED", 0)
    saver = Saver(
        tmp_path, sharded=route != "gathered", compression="zstd" if route == "zstd" else None
    )
    mesh = Mesh(np.array(jax.devices()[:4]), ("x",))
    arrays = {name: bit_patterns(name, 8) for name in DTYPES}
    keys = {impl: jax.random.split(jax.random.key(1, impl=impl), 8) for impl in KEY_IMPLS}

    def put(array):
        return array if sharding is None else jax.device_put(array, NamedSharding(mesh, sharding))

    with jax.enable_x64(True):
        tree = {name: put(array) for name, array in (arrays | keys).items()}
    path = saver.save_async(tree, 1).result() if route == "async" else saver.save(tree, 1)
    restored = saver.restore(tree)
    for name, value in (arrays | keys).items():
        assert restored[name].dtype == value.dtype
        assert raw(restored[name]) == raw(value), name
    places = {entry.location for entry in saved(path).entries.values()}
    expected = {"packed": "packed", "gathered": "packed", "zstd": "orbax"}
    assert places == {expected.get(route, "raw")}
    chunks = {len(entry.chunks) for entry in saved(path).entries.values()}
    assert chunks == {4 if places != {"packed"} and sharding == PartitionSpec("x") else 1}
    assert saver.verify() == sum(value.nbytes for value in arrays.values()) + sum(
        jax.random.key_data(key).nbytes for key in keys.values()
    )


@pytest.mark.parametrize("limit", [0, _own_packed.LIMIT])
def test_zeros_of_either_sign_and_nan_payloads_fill_large_arrays(saver, monkeypatch, limit):
    monkeypatch.setattr(_own_packed, "LIMIT", limit)
    for word in (0x80000000, 0, 0x7FC0BEEF, 0xFF800001):
        array = np.full(1000, word, np.uint32).view(np.float32)
        saver.save({"x": jnp.asarray(array)}, word)
        restored = saver.restore({"x": array}, word)["x"]
        np.testing.assert_array_equal(np.asarray(restored).view(np.uint32), word)


def test_an_array_up_to_the_limit_is_packed_and_a_larger_one_is_not(saver):
    tree = {
        "a": np.zeros(_own_packed.LIMIT, np.uint8),
        "b": np.zeros(_own_packed.LIMIT + 1, np.uint8),
    }
    entries = saved(saver.save(tree, 1)).entries
    assert {name: entry.location for name, entry in entries.items()} == {
        "a": "packed",
        "b": "raw",
    }


def test_a_larger_array_is_a_file_of_its_bytes_or_one_for_each_shard(saver, monkeypatch):
    monkeypatch.setattr(_own_packed, "LIMIT", 0)
    value = np.arange(24, dtype=np.int16).reshape(6, 4)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("x", "y"))
    sharded = jax.device_put(value, NamedSharding(mesh, PartitionSpec("x", "y")))
    tree = {"a": np.asfortranarray(value), "b": sharded, "c": np.float32(2)}
    path = saver.save(tree, 1)
    files = {f.relative_to(path).as_posix(): f for f in path.rglob("*") if f.is_file()}
    assert sorted(files) == ["0/0.0", "1/0.0", "1/0.2", "1/3.0", "1/3.2", "2/0", "jscope.json"]
    assert files["0/0.0"].read_bytes() == value.tobytes()
    assert files["1/3.2"].read_bytes() == value[3:, 2:].tobytes()
    assert files["2/0"].read_bytes() == np.float32(2).tobytes()
    assert js.VarTree(saver.restore(tree)) == js.VarTree(tree)


def test_a_checkpoint_needs_no_orbax(saver, monkeypatch):
    monkeypatch.setattr("jscope.saver._orbax.begin", None)
    path = saver.save({f"v{i}": jnp.full(i, i) for i in range(20)}, 1)
    assert sorted(file.name for file in path.iterdir()) == ["jscope.json", "packed.bin"]
    path = saver.save({"w": np.zeros(_own_packed.LIMIT + 1, np.uint8)}, 2)
    assert sorted(file.name for file in path.iterdir()) == ["0", "jscope.json"]


# Any pytree.


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    params: object
    opt: object
    key: object
    step: int
    position: dict
    note: object = None


class Pair(NamedTuple):
    first: object
    second: object


def test_a_training_state_comes_back_in_its_structure_and_with_its_types(saver):
    params = js.VarTree({"enc/w": jnp.ones((2, 3)), "enc/b": jnp.zeros(3, jnp.bfloat16)})
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    state = State(
        params=params,
        opt=optimizer.init(params),
        key=jax.random.key(3),
        step=12,
        position={"shard": 3, "seed": 1 << 200, "file": "a\udc80", "done": True, "digest": b"\x00"},
    )
    path = saver.save(state, 12)
    assert [*saved(path).entries][:4] == [
        "params/enc/b",
        "params/enc/w",
        "opt/1/0/count",
        "opt/1/0/mu/enc/b",
    ]
    blank = dataclasses.replace(
        state, params=jax.tree.map(jnp.zeros_like, params), step=0, key=jax.random.key(0)
    )
    restored = saver.restore(blank)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert type(restored.step) is int
    assert restored.step == 12
    assert restored.position == state.position
    assert restored.note is None
    assert js.VarTree({"x": restored}) == js.VarTree({"x": state})


PYTHON = {
    "none": None,
    "true": True,
    "false": False,
    "int": -31,
    "huge": -(1 << 20_000),
    "float": 0.1,
    "minus_zero": -0.0,
    "inf": math.inf,
    "nan": struct.unpack(">d", bytes.fromhex("fff8000000beef01"))[0],
    "complex": complex(-0.0, math.nan),
    "text": "ü\n\udc80",
    "empty": "",
    "bytes": bytes(range(256)),
}


def bits(value):
    if isinstance(value, complex):
        return struct.pack(">dd", value.real, value.imag)
    return struct.pack(">d", value) if isinstance(value, float) else value


def test_values_of_python_come_back_of_their_type_and_to_the_bit(saver):
    saver.save(PYTHON, 1)
    restored = saver.restore({name: value and type(value)() for name, value in PYTHON.items()})
    assert list(restored) == sorted(PYTHON)
    for name, value in PYTHON.items():
        assert type(restored[name]) is type(value)
        assert bits(restored[name]) == bits(value)
    assert saver.verify() == 0


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("value", [Colour.RED, range(3), lambda: 0, np.array(["a"])])
def test_values_of_other_types_are_refused_by_name(saver, value):
    with pytest.raises(js.CheckpointValueError, match=r"1 of its values .*\n  'a/x' (is of|has d)"):
        saver.save({"a": Pair(jnp.ones(1), None), "a/x": value}, 1)
    assert saver.all_steps() == ()


@pytest.mark.parametrize(
    "tree",
    [
        {"a": {"b": 1}, "a/b": 2},
        {"a": [1], "a/0": 2},
        {"0": 1, "x": Pair(1, 2), "x/first": 3},
        [{"1": 1}, {"1": 1}, Pair(1, 2), {"1": {"1": 1}, "1/1": 1}],
    ],
)
def test_two_leaves_never_get_one_name(saver, tree):
    with pytest.raises(js.CheckpointValueError, match="The tree has two leaves of one name: "):
        saver.save(tree, 1)


def test_names_that_cannot_be_saved_are_listed(saver):
    with pytest.raises(js.CheckpointValueError) as caught:
        saver.save({"a/": 1, "b": {"": 1}, "c\udc80": 1, "fine//": {"x": 1}}, 1)
    assert "not UTF-8: 'a/', 'b/', 'c\\udc80'. Rename them." in str(caught.value)


def test_a_dict_whose_keys_cannot_be_sorted_is_refused(saver):
    with pytest.raises(js.CheckpointValueError, match="The tree can't be flattened by JAX: "):
        saver.save({"a": {1: jnp.ones(1), "b": jnp.ones(1)}}, 1)


def test_a_mapping_that_jax_does_not_know_is_a_tree_of_variables(saver):
    import types

    saver.save(types.MappingProxyType({"a": {"b": jnp.ones(2)}}), 1)
    np.testing.assert_array_equal(
        saver.restore(js.VarTree({"a/b": np.zeros(2)}), convert=True)["a/b"], [1, 1]
    )


# Metadata.


def test_metadata_and_metrics_are_in_the_index(saver):
    metadata = {"width": 128, "layers": [1, 2.5, None, True], "name": "gpt ü"}
    path = saver.save({"x": jnp.ones(1)}, 1, metadata=metadata, metrics={"loss": np.float32(0.5)})
    assert saved(path).metadata == metadata
    assert saved(path).metrics == {"loss": 0.5}
    metadata["layers"].append("later")
    assert saved(path).metadata["layers"] == [1, 2.5, None, True]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float32(0.1), 0.10000000149011612),
        (np.float64(0.1), 0.1),
        (np.float16(-0.0), -0.0),
        (ml_dtypes.bfloat16(1.5), 1.5),
        (np.int64(-(2**62)), -(2**62)),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (ml_dtypes.int4(-3), -3),
        (np.bool_(True), True),
        (np.str_("adam"), "adam"),
        (np.array(2.5), 2.5),
        (np.array(7, np.uint8), 7),
        (np.array(False), False),
        (jnp.float32(0.5), 0.5),
        (jnp.bfloat16(0.5), 0.5),
        (jnp.int32(3), 3),
        (jnp.array(True), True),
    ],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_numbers_of_numpy_and_jax_are_metadata_and_come_back_as_pythons(saver, value, stored):
    metadata = {"a": value, "b": [{"c": value}]}
    saver.save({"x": jnp.ones(1)}, 1, metadata=metadata)
    found = saver.open().metadata
    assert found == {"a": stored, "b": [{"c": stored}]}
    assert repr(found["a"]) == repr(stored)  # of the same type, and zeros of the same sign
    assert metadata["a"] is value


def test_a_tracer_is_no_metadata(saver):
    def step(x):
        saver.save({"x": np.ones(1)}, 1, metadata={"loss": x})

    with pytest.raises(js.CheckpointValueError, match=r"a tracer, has no value, at metadata\['los"):
        jax.jit(step)(1.0)


@dataclasses.dataclass
class Settings:
    width: int = 3


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({1: 2}, "metadata has the key 1, which would come back as a string"),
        ({"a": [{"b": (1, 2)}]}, "metadata['a'][0]['b'] of type tuple would come back as list"),
        ({"a": math.nan}, "metadata is what JSON holds: Out of range float values"),
        ({"a": jnp.ones(1)}, "metadata is what JSON holds: Object of type ArrayImpl"),
        ({"a": Colour.RED}, "metadata['a'] of type Colour would come back as int"),
        ({"a": Colour.RED}, ": metadata['a'].value. Arrays"),
        ({"a": [(1, 2)]}, "False and None: list(metadata['a'][0]). Arrays go into the tree."),
        ({"a": {3, 4}}, "set is not JSON serializable, at metadata['a']. Write lists, dicts"),
        ({"a": {3, 4}}, ": sorted(metadata['a']). Arrays"),
        ({"a": np.ones(2)}, "at metadata['a']. Write"),
        ({"a": np.ones(2)}, ": metadata['a'].tolist(). Arrays"),
        ([Settings()], ": dataclasses.asdict(metadata[0]). Arrays"),
        ({"a": pathlib.Path("x")}, ": str(metadata['a']). Arrays"),
        ({"a": np.dtype("f4")}, ": str(metadata['a']). Arrays"),
        (types.MappingProxyType({"a": 1}), ": dict(metadata). Arrays"),
        ({"a": np.float32("inf")}, ", at metadata['a']. Write lists"),
        (
            {"a": np.complex64(1)},
            "Object of type complex64 is not JSON serializable, at metadata['a']",
        ),
        ({"a": np.datetime64("2020")}, "Object of type datetime64"),
        ({"a": jax.random.key(0)}, "JSON serializable, at metadata['a']"),
        ({"a": b"x"}, "Object of type bytes is not JSON serializable, at metadata['a']"),
    ],
)
def test_metadata_that_json_does_not_hold_is_refused(saver, metadata, message):
    with pytest.raises(js.CheckpointValueError) as caught:
        saver.save({"x": jnp.ones(1)}, 1, metadata=metadata)
    assert message in str(caught.value)
    assert saver.all_steps() == ()
    instead = re.search(r" and None: (.*)\. Arrays go into the tree\.$", str(caught.value))
    if instead:
        given = {"metadata": metadata, "dataclasses": dataclasses}
        saver.save({"x": jnp.ones(1)}, 1, metadata=eval(instead[1], given))


# Weak types.

WEAK = {
    "scalar": lambda: jnp.asarray(1.5),
    "integer": lambda: jnp.asarray(3),
    "complex": lambda: jnp.asarray(1j),
    "array": lambda: jnp.full((3, 4), 2.5),
    "large": lambda: jnp.full(70_000, 2.5),
}


@pytest.mark.parametrize("is_abstract", [False, True])
@pytest.mark.parametrize("portable", [False, True])
def test_a_restored_state_needs_no_trace_that_the_saved_one_did_not(
    saver, monkeypatch, portable, is_abstract
):
    monkeypatch.setattr(_own_packed, "LIMIT", 1 << 10)
    traces = []

    @jax.jit
    def step(state):
        traces.append(state)
        return jax.tree.map(lambda x: x * 2, state)

    state = {name: make() for name, make in WEAK.items()} | {"strong": jnp.float32(1)}
    assert [name for name, x in state.items() if not x.weak_type] == ["strong"]
    state = step(state)
    saver.save(state, 1, portable=portable)
    restored = saver.restore(jax.eval_shape(lambda: state) if is_abstract else state)
    step(restored)
    assert len(traces) == 1
    for name, x in state.items():
        assert restored[name].weak_type == x.weak_type
        assert restored[name].committed == x.committed
        np.testing.assert_array_equal(restored[name], x)
        assert restored[name].dtype == x.dtype


@pytest.mark.parametrize("axes", ["Auto", "Explicit"])
def test_weak_arrays_go_where_the_targets_are(saver, axes):
    kind = getattr(jax.sharding.AxisType, axes)
    mesh = jax.make_mesh((4,), ("x",), (kind,), devices=jax.devices()[2:6])
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    last = jax.devices()[-1]
    with jax.default_device(last):
        uncommitted = jnp.asarray(2.5)
    state = {
        "sharded": jax.device_put(jnp.full((8, 3), 1.5), sharding),
        "on one": jax.device_put(jnp.asarray(1.5), last),
        "uncommitted": uncommitted,
        "nan": jax.jit(lambda x: x + 1)(jnp.asarray(float("nan"))),
    }
    assert all(x.weak_type for x in state.values())
    saver.save(state, 1)
    restored = saver.restore(state)
    for name, x in state.items():
        found = restored[name]
        assert (found.weak_type, found.sharding, found.committed) == (True, x.sharding, x.committed)
        assert found.devices() == x.devices()
        assert np.asarray(found).tobytes() == np.asarray(x).tobytes()


def test_the_target_says_what_is_weak(saver):
    saver.save({"w": jnp.asarray(1.5), "s": jnp.float32(2.5)}, 1)
    restored = saver.restore({"w": jnp.float32(0), "s": jnp.asarray(0.0)})
    assert not restored["w"].weak_type
    assert restored["s"].weak_type
    kept = saver.restore({"w": np.float32(0), "s": jnp.asarray(0.0)})
    assert type(kept["w"]) is np.float32


# var_list.


@pytest.fixture
def tree():
    return js.VarTree({"enc/w": jnp.arange(3.0), "enc/b": jnp.ones(2), "head/w": jnp.zeros(1)})


def test_a_list_of_selectors_says_what_is_saved_and_restored(tmp_path, tree):
    saver = Saver(tmp_path, ["enc/*"])
    assert list(saved(saver.save(tree, 1)).entries) == ["enc/b", "enc/w"]
    zeros = jax.tree.map(jnp.zeros_like, tree) | {"head/w": jnp.full(1, 7.0)}
    restored = saver.restore(zeros)
    assert restored == tree | {"head/w": jnp.full(1, 7.0)}


def test_a_dict_says_by_which_names(tmp_path, tree):
    saver = Saver(tmp_path, {"old/kernel": "enc/w", "head/w": "enc/b"})
    assert list(saved(saver.save(tree, 1)).entries) == ["old/kernel", "head/w"]
    zeros = jax.tree.map(jnp.zeros_like, tree)
    assert saver.restore(zeros) == tree | {"head/w": jnp.zeros(1)}


@pytest.mark.parametrize(
    ("var_list", "message"),
    [
        ("enc/w", "var_list is a list of selectors, or a dict {saved name: variable's name}; got"),
        (3, "var_list is a list of selectors"),
        ({"a": 1}, "all of them strings. For the names of a tree write var_list=list(tree)."),
        ({"a": "w", "b": "w"}, "var_list gives two saved names to one: 'w'."),
    ],
)
def test_what_is_no_var_list_is_refused_at_once(tmp_path, var_list, message):
    with pytest.raises(js.CheckpointValueError) as caught:
        Saver(tmp_path, var_list)
    assert message in str(caught.value)


def test_a_var_list_that_speaks_of_nothing_is_an_error(tmp_path, tree):
    with pytest.raises(js.SelectorError, match="'dec/w' matches no variable"):
        Saver(tmp_path, ["enc/*", "dec/w"]).save(tree, 1)
    with pytest.raises(js.MissingVariableError, match=r"'enc/v', which .* \(close names: 'enc/w'"):
        Saver(tmp_path, {"a": "enc/v"}).save(tree, 1)
    with pytest.raises(js.CheckpointValueError, match="var_list has names that can't be saved"):
        Saver(tmp_path, {"a/": "enc/w"}).save(tree, 1)
