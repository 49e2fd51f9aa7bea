"""Restoring: other names, parts, what is missing and unexpected, conversions, any pytree."""

import dataclasses
import re
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

import jscope as js
from jscope import initializers as init
from jscope.formats._own_entry import Entry
from jscope.saver import _restore
from jscope.saver._comparison import Comparison, Policy
from jscope.saver._renaming import Renamed, rename_saved
from jscope.saver._target import asked_for


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def model(scope, x):
    with scope.variable_scope("enc") as enc:
        w = enc.get_variable("w", (x.shape[-1], 3), initializer=init.glorot_uniform())
        enc.get_variable("average", initializer=init.initialized_value("w"), trainable=False)
    return x @ w + scope.get_variable("b", (1, 3), initializer=init.zeros)


@pytest.fixture
def declared():
    return js.declare(model)(jnp.ones((1, 2)))


# Other names.


def test_saved_names_get_other_names_before_they_are_compared(saver, tree):
    saver.save(tree, 1)
    target = zeros_like(js.rename(tree, {"enc": "encoder", "head/w": "decoder/v"}))
    restored = saver.restore(target, rename={"enc": "encoder", "head/w": "decoder/v"})
    assert restored == js.rename(tree, {"enc": "encoder", "head/w": "decoder/v"})
    assert saver.report.restored["decoder/v"] == "head/w"
    by_function = saver.restore(
        zeros_like(js.rename(tree, {"": "model"})), rename=lambda name: f"model/{name}"
    )
    assert by_function == js.rename(tree, {"": "model"})
    swapped = saver.restore(
        js.VarTree({"enc": {"b": tree["enc/w"], "w": tree["enc/b"]}}),
        rename={"enc/w": "enc/b", "enc/b": "enc/w"},
        unexpected="ignore",
    )
    assert swapped == js.VarTree({"enc": {"b": tree["enc/w"], "w": tree["enc/b"]}})


def test_a_name_that_nobody_mentions_gives_way_to_one_that_is_renamed_to_it(saver):
    # TF1's dict of moving averages: the saved w itself is not wanted.
    saver.save({"w": jnp.zeros(2), "w/ExponentialMovingAverage": jnp.ones(2), "step": 3}, 1)
    names = {"w/ExponentialMovingAverage": "w", "step": "step"}
    restored = saver.restore({"w": jnp.zeros(2), "step": 0}, rename=names)
    np.testing.assert_array_equal(restored["w"], np.ones(2))
    assert restored["step"] == 3
    assert saver.report.ignored == ("w",)


@pytest.mark.parametrize(
    ("rename", "error", "message"),
    [
        ({"encoder": "e"}, js.SelectorError, r"'encoder' \(close names: 'enc'"),
        ({"enc/b": "x", "head/w": "x"}, js.NameCollisionError, "'enc/b', 'head/w' -> 'x'"),
        (lambda name: "x", js.NameCollisionError, "'enc/b', 'enc/w', 'head/w' -> 'x'"),
        (lambda name: None, js.VariableNameError, "`rename` gave None for 'enc/b'"),
        (lambda name: [name], js.VariableNameError, r"`rename` gave \['enc/b'\] for 'enc/b'"),
        (lambda name: 1 // 0, ZeroDivisionError, "integer division"),
        (lambda name: {}[name], KeyError, "enc/b"),
        ({"head/w": ""}, js.VariableNameError, "would give an empty name to 'head/w'"),
        ({"head/w": ("x", "enc")}, js.TreeMismatchError, "missing: 'head/w'"),
        ({"enc/b": ("x", "y"), "head/w": "y"}, js.NameCollisionError, "'enc/b', 'head/w' -> 'y'"),
    ],
)
def test_a_renaming_that_cannot_be_is_an_error(saver, tree, rename, error, message):
    saver.save(tree, 1)
    with pytest.raises(error, match=message):
        saver.restore(tree, rename=rename)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rename": {"enc/w": ["enc/w"]}},
        {"rename": {"enc/w": None}},
        {"rename": {"enc/w": ()}},
        {"rename": {"enc/w": ("enc/w", 3)}},
        {"rename": {3: "enc/w"}},
        {"rename": "enc"},
        {"rename": [("enc", "encoder")]},
        {"missing": None},
        {"unexpected": ["ignore"]},
        {"convert": "yes"},
        {"select": 5},
        {"step": 1.5},
    ],
)
def test_an_argument_that_cannot_be_is_an_error_before_a_checkpoint_is_opened(
    saver, tree, arguments, monkeypatch
):
    saver.save(tree, 1)
    monkeypatch.setattr(_restore, "open_checkpoint", None)
    (name,) = arguments
    with pytest.raises((js.CheckpointValueError, js.SelectorError)) as error:
        saver.restore(tree, **arguments)
    assert name in str(error.value)
    assert "can't be read" not in str(error.value)


def test_a_key_and_a_mesh_that_cannot_be_are_errors_before_a_checkpoint_is_opened(
    saver, monkeypatch
):
    monkeypatch.setattr(_restore, "open_checkpoint", None)
    declared = js.declare(lambda scope: scope.get_variable("w", (2,)))()
    with pytest.raises(js.KeyArgumentError, match=r"Write jax\.random\.key"):
        saver.restore(declared, missing="init", key=5)
    with pytest.raises(js.ShardingError, match="A mesh is needed, got 'x'"):
        saver.restore(declared, mesh="x")


def test_the_error_of_a_renaming_offers_entries_that_can_be(saver, tree):
    saver.save(tree, 1)
    with pytest.raises(js.CheckpointValueError) as error:
        saver.restore(tree, rename={"head/w": ["head/w"], "enc": 5})
    assert "names to names, and has 'head/w': ['head/w'], 'enc': 5. Write" in str(error.value)
    for written in re.findall(r"rename=(\{.*?\})", str(error.value)):
        renamed = rename_saved(["saved"], eval(written)).saved
        assert set(renamed.values()) == {"saved"}


def test_what_a_callable_of_the_user_raises_leaves_restore_and_save_as_it_is(tmp_path):
    class MineError(ValueError):
        pass

    def raises(*_):
        raise MineError("mine")

    @jax.tree_util.register_pytree_node_class
    class Node:
        def __init__(self, child):
            self.child = child

        def tree_flatten(self):
            return (self.child,), None

        tree_unflatten = classmethod(raises)

    saver = js.Saver(tmp_path)
    saver.save({"a": jnp.ones(2), "n": [jnp.ones(2)]}, 1)
    target = {"a": jnp.zeros(2), "n": [jnp.zeros(2)]}
    declared = js.declare(lambda s: s.get_variable("b", (2,), initializer=raises))
    calls = (
        lambda: saver.restore(target, rename=raises),
        lambda: saver.restore(target, select=raises),
        lambda: saver.restore(target, select=["a", raises]),
        lambda: js.Saver(tmp_path, var_list=[raises]).restore(target),
        lambda: js.Saver(tmp_path, reshape=raises).restore(target),
        lambda: js.Saver(tmp_path, var_list=[raises]).save(target, 2),
        lambda: saver.restore({"a": jnp.zeros(2), "n": Node(jnp.zeros(2))}),
        lambda: js.Saver(tmp_path, clock=raises),
        lambda: list(js.checkpoints_iterator(tmp_path / "x", timeout=0, timeout_fn=raises)),
        lambda: saver.restore(
            declared(), missing="init", key=jax.random.key(0), unexpected="ignore"
        ),
    )
    for call in calls:
        with pytest.raises(MineError, match="mine"):
            call()
    assert saver.all_steps() == (1,)


def test_a_sharding_that_does_not_divide_is_an_error_before_a_checkpoint_is_opened(
    saver, monkeypatch
):
    monkeypatch.setattr(_restore, "open_checkpoint", None)
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    target = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for name, shape, spec in (
            ("a", (7,), PartitionSpec("x")),
            ("b", (8, 4), PartitionSpec(None, ("x", "y"))),
            ("c", (8, 4), PartitionSpec("y")),
        )
    }
    with pytest.raises(js.CheckpointValueError) as error:
        saver.restore(target)
    text = str(error.value)
    assert "shardings don't cut 2 leaves into equal shards; nothing was read:\n  'a' of" in text
    assert "'b' of shape (8, 4)" in text
    assert "'c'" not in text


@pytest.mark.parametrize(
    ("function", "sharding", "where"),
    [
        ("device_put", None, "."),
        ("make_array_from_callback", SingleDeviceSharding(jax.devices()[0]), " with SingleDevice"),
    ],
)
def test_what_jax_refuses_is_no_damage_of_the_checkpoint(
    saver, monkeypatch, function, sharding, where
):
    saver.save({"w": jnp.ones(2)}, 1)

    def put(*arguments, **options):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(jax, function, put)
    with pytest.raises(RuntimeError, match="out of memory") as error:
        saver.restore({"w": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=sharding)})
    (note,) = error.value.__notes__
    assert note.startswith(f"'w' was read, and can't be made a jax.Array float32[2]{where}")


# One saved variable, several of the target.


def test_tied_weights_are_restored_into_each_of_their_variables(saver):
    shared = jnp.arange(6.0).reshape(2, 3)
    saver.save({"embedding/w": shared, "b": jnp.ones(3)}, 1)
    target = {"embedding": {"w": jnp.zeros((2, 3))}, "head": {"w": np.zeros((2, 3), np.float32)}}
    target["b"] = jnp.zeros(3)
    both = {"embedding/w": ("embedding/w", "head/w")}
    for rename in (both, lambda name: both.get(name, name), {"embedding": ("embedding", "head")}):
        restored = saver.restore(target, rename=rename)
        np.testing.assert_array_equal(restored["embedding"]["w"], shared)
        np.testing.assert_array_equal(restored["head"]["w"], shared)
        assert isinstance(restored["head"]["w"], np.ndarray)
        assert saver.report.restored == {
            "b": "b",
            "embedding/w": "embedding/w",
            "head/w": "embedding/w",
        }
        assert saver.report.ignored == ()
    assert "head/w       restored  from 'embedding/w'" in str(saver.report)
    with pytest.raises(js.TreeMismatchError, match="missing: 'head/w'"):
        saver.restore(target)


def test_the_variables_that_share_a_saved_one_have_shapes_dtypes_and_shardings_of_their_own(saver):
    mesh = jax.make_mesh((2,), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    saver.save({"w": jnp.arange(4.0)}, 1)
    target = {
        "a": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding),
        "b": jax.ShapeDtypeStruct((4,), jnp.bfloat16),
        "c": jax.ShapeDtypeStruct((2, 2), jnp.float32),
    }
    with pytest.raises(js.TreeMismatchError, match="shape: 'c' is"):
        saver.restore(target, rename={"w": ("a", "b", "c")}, convert=True)
    reshaping = js.Saver(saver.directory, reshape=True)
    restored = reshaping.restore(target, rename={"w": ("a", "b", "c")}, convert=True)
    assert restored["a"].sharding == sharding
    for name, leaf in target.items():
        assert restored[name].dtype == leaf.dtype
        np.testing.assert_array_equal(
            np.asarray(restored[name], np.float32), np.arange(4.0).reshape(leaf.shape)
        )


names = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)


@given(st.frozensets(names, min_size=1), st.dictionaries(names, names, max_size=3))
def test_renaming_loses_a_saved_name_only_to_one_that_is_mentioned(saved, rename):
    def new(name):  # by the definition: the longest old name that is the name or a scope above it
        olds = [old for old in rename if name == old or name.startswith(old + "/")]
        best = max(olds, key=len, default=None)
        return None if best is None else rename[best] + name[len(best) :]

    moved = {name: new(name) for name in saved if new(name) is not None}
    unknown = [o for o in rename if not any(n == o or n.startswith(o + "/") for n in saved)]
    if unknown or len(set(moved.values())) < len(moved):
        with pytest.raises((js.SelectorError, js.NameCollisionError)):
            rename_saved(dict.fromkeys(saved), rename)
        return
    expected = {name: name for name in saved - set(moved) - set(moved.values())}
    expected |= {after: before for before, after in moved.items()}
    assert rename_saved(dict.fromkeys(saved), rename).saved == expected


# Parts.


def test_what_select_does_not_pick_is_neither_missing_nor_unexpected(saver, tree):
    saver.save(tree | {"optimizer/m": jnp.ones(1)}, 1)
    target = zeros_like(tree) | {"new/w": jnp.full(2, 7.0)}
    restored = saver.restore(target, select="enc/**")
    assert restored == tree | {"head/w": target["head/w"], "new/w": target["new/w"]}
    assert restored["new/w"] is target["new/w"]
    assert saver.report.kept == ("head/w", "new/w")
    assert saver.report.ignored == ("head/w", "optimizer/m")


def test_what_select_picks_of_the_checkpoint_alone_is_unexpected(saver, tree):
    saver.save(tree | {"enc/layer_13/w": jnp.ones(1), "other": jnp.ones(1)}, 1)
    for select in ("enc/**", re.compile("^enc"), ["enc/w", "enc/**"]):
        with pytest.raises(js.TreeMismatchError, match=r"unexpected: 'enc/layer_13/w' float32\[1"):
            saver.restore(tree, select=select)
    with pytest.raises(js.TreeMismatchError, match="2 differences"):
        saver.restore(tree)
    # A predicate, and a mapping, are asked about the target's variables alone.
    for select in (lambda name, value: name.startswith("enc"), js.select(tree, "enc/**")):
        assert saver.restore(zeros_like(tree), select=select)["enc/w"][1, 2] == 5
    assert saver.restore(tree, unexpected="ignore") == tree


def test_asked_for_by_name():
    saved = {"a/w": 0, "b/w": 0, "b": 0}
    assert asked_for(saved, None) == {"a/w", "b/w", "b"}
    assert asked_for(saved, "*/w") == {"a/w", "b/w"}
    assert asked_for(saved, ["a/*", re.compile("^b$"), lambda name, value: True]) == {"a/w", "b"}
    assert asked_for(saved, {"a/w": None}) == set()


# What is missing.


def test_missing_variables_keep_the_values_of_the_target_if_asked_for(saver, tree):
    saver.save(js.drop(tree, "head/w"), 1)
    target = jax.tree.map(lambda x: x + 1, tree)
    restored = saver.restore(target, missing="keep")
    assert restored == tree | {"head/w": target["head/w"]}
    assert saver.report.kept == ("head/w",)
    with pytest.raises(js.TreeMismatchError, match="missing: 'head/w'"):
        saver.restore(target)
    abstract = target | {"head/w": jax.ShapeDtypeStruct((4,), jnp.int32)}
    with pytest.raises(js.CheckpointValueError, match="abstract or deleted in the target: 'head/w"):
        saver.restore(abstract, missing="keep")
    with pytest.raises(js.TreeMismatchError, match="shape: 'enc/w'"):
        saver.restore(target | {"enc/w": jnp.ones(1)}, missing="keep", unexpected="ignore")


def test_missing_variables_get_a_declarations_initial_values_if_asked_for(saver, declared):
    key, variables = jax.random.key(1), declared.init(jax.random.key(0))
    saver.save(js.select(variables, "enc/w"), 1)
    restored = saver.restore(declared, missing="init", key=key)
    assert restored == declared.init(key, given=js.select(variables, "enc/w"))
    # An initial value that is another's follows the restored one.
    np.testing.assert_array_equal(restored["enc/average"], variables["enc/w"])
    assert saver.report.initialized == ("b", "enc/average")
    with pytest.raises(js.TreeMismatchError, match="2 differences"):
        saver.restore(declared, key=key)


def test_a_key_initialises_what_select_leaves_out_of_a_declaration(saver, declared):
    key, variables = jax.random.key(1), declared.init(jax.random.key(0))
    saver.save(variables, 1)
    restored = saver.restore(declared, select="b", key=key)
    assert restored == declared.init(key, given=js.select(variables, "b"))
    assert not saver.report.kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"missing": "ignore"}, "`missing` is one of 'error', 'keep', 'init', got 'ignore'"),
        ({"unexpected": "keep"}, "`unexpected` is one of 'error', 'ignore', got 'keep'"),
        ({"missing": "init"}, "Only a declaration has initial values"),
        ({"key": jax.random.key(0)}, "Only a declaration has initial values"),
        ({"mesh": jax.make_mesh((1,), ("x",))}, "`mesh` and `rules` lay a declaration's variables"),
        ({"rules": [("*", PartitionSpec())]}, "`mesh` and `rules` lay a declaration's variables"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(saver, tree, arguments, message):
    saver.save(tree, 1)
    with pytest.raises(js.CheckpointValueError, match=message):
        saver.restore(tree, **arguments)


def test_initial_values_need_a_key(saver, declared):
    saver.save(declared.init(jax.random.key(0)), 1)
    with pytest.raises(js.CheckpointValueError, match="missing='init' needs a key"):
        saver.restore(declared, missing="init")


def test_a_declaration_is_laid_out_over_a_mesh(saver, declared):
    variables = declared.init(jax.random.key(0))
    saver.save(js.drop(variables, "b"), 1)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    rules = [("enc/*", PartitionSpec("x"))]
    key = jax.random.key(0)
    restored = saver.restore(declared, missing="init", key=key, mesh=mesh, rules=rules)
    assert restored == variables
    shardings = dict(declared.shardings(mesh, rules=rules))
    assert {n: x.sharding for n, x in restored.items()} == shardings
    with jax.set_mesh(mesh):
        assert saver.restore(declared, missing="init", key=key)["b"].sharding.mesh == mesh
    with pytest.raises(js.ShardingError):
        saver.restore(declared, rules=rules)


# Conversions.


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.float32([1.5, -0.0, np.inf]), "bfloat16"),
        (np.float64([1e-3, 2]), "float16"),
        (np.int64([1, -5]), "int8"),
        (np.uint8([1, 255]), "float32"),
        (np.array([True, False]), "int32"),
        (np.int32([3]), "complex64"),
        (np.arange(4).astype("uint4"), "int32"),
    ],
)
def test_dtypes_are_converted_if_asked_for(saver, value, dtype):
    saver.save({"x": value}, 1)
    target = {"x": jax.ShapeDtypeStruct(value.shape, dtype)}
    with pytest.raises(js.TreeMismatchError, match=r"write convert=True"):
        saver.restore(target)
    restored = saver.restore(target, convert=True)["x"]
    np.testing.assert_array_equal(np.asarray(restored), value.astype(dtype), strict=True)
    assert saver.report.converted == {"x": f"{value.dtype}[{len(value)}] -> {dtype}[{len(value)}]"}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.float32([1, 2]), "int32"),
        (np.complex64([1]), "float32"),
        (np.int32([1]), "bool"),
        (jax.random.split(jax.random.key(0), 2), "uint32"),
    ],
)
def test_nothing_is_converted_from_floating_to_integer_or_from_complex_or_keys(saver, value, dtype):
    saver.save({"x": value}, 1)
    with pytest.raises(js.TreeMismatchError, match="dtype: 'x' is"):
        saver.restore({"x": jax.ShapeDtypeStruct(value.shape, dtype)}, convert=True)


@pytest.mark.parametrize(
    ("value", "dtype", "example"),
    [(np.int64([1, 300]), "int8", 300), (np.float32([1, 1e10]), "float16", 1e10)],
)
def test_a_value_that_the_dtype_cannot_hold_is_an_error(saver, value, dtype, example):
    saver.save({"x": value}, 1)
    with pytest.raises(js.TreeMismatchError, match=rf"'x' can't be converted .* {example:.0f}"):
        saver.restore({"x": jax.ShapeDtypeStruct((2,), dtype)}, convert=True)


def test_python_numbers_and_arrays_are_converted_if_asked_for(saver):
    saver.save({"step": 5, "rate": jnp.float32(0.5), "long": 2**40}, 1)
    target = {"step": jnp.float32(0), "rate": 0.0, "long": 0.0}
    with pytest.raises(js.TreeMismatchError, match="dtype: 'step' is python int in the"):
        saver.restore(target)
    restored = saver.restore(target, convert=True)
    assert restored["step"].dtype == jnp.float32
    assert (restored["step"], restored["rate"], restored["long"]) == (5.0, 0.5, 2.0**40)
    assert type(restored["rate"]) is type(restored["long"]) is float
    with pytest.raises(js.TreeMismatchError, match=r"can't be converted .* 1099511627776"):
        saver.restore({"long": jnp.int32(0)}, convert=True, unexpected="ignore")
    with pytest.raises(js.TreeMismatchError, match="python bool in the target"):
        saver.restore({"step": True}, convert=True, unexpected="ignore")


# Any pytree.


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    params: object
    opt_state: object
    step: int
    rng: jax.Array
    data: object


class Position(NamedTuple):
    epoch: int
    offset: np.ndarray
    shuffled: bool
    seed: object = None


def make_state(value):
    params = js.VarTree({"enc/w": jnp.full((2, 3), value), "b": jnp.zeros(3)})
    return State(
        params=params,
        opt_state=optax.adamw(1e-3).init(params),
        step=int(value),
        rng=jax.random.key(int(value)),
        data=[
            Position(int(value), np.array([3], np.int64), value > 1),
            {"name": "a", "rate": 0.1},
        ],
    )


def test_a_training_state_comes_back_in_its_own_structure(saver):
    state = make_state(7.0)
    saver.save(state, 1)
    for target in (make_state(0.0), dataclasses.replace(make_state(1.0), step=0)):
        restored = saver.restore(target)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        for name, got, expected in zip(
            saver.report.restored, jax.tree.leaves(restored), jax.tree.leaves(state), strict=False
        ):
            assert type(got) is type(expected), name
        assert js.VarTree({"x": restored}) == js.VarTree({"x": state})
    assert restored.data[0].seed is None
    assert restored.data[1] == {"name": "a", "rate": 0.1}


def test_an_abstract_state_restores_to_what_was_saved_python_numbers_included(saver):
    state = make_state(7.0)
    state.data = None
    saver.save(state, 1)
    abstract = jax.eval_shape(lambda: dataclasses.replace(make_state(0.0), data=None))
    restored = saver.restore(abstract)
    assert js.VarTree({"x": restored}) == js.VarTree({"x": state})
    assert type(restored.step) is int
    assert not saver.report.converted
    with pytest.raises(js.TreeMismatchError, match="dtype: 'step' is python int"):
        saver.restore(dataclasses.replace(abstract, step=jax.ShapeDtypeStruct((), jnp.int32)))


def test_none_is_a_leaf_of_its_own(saver):
    saver.save({"a": None, "b": jnp.ones(1)}, 1)
    assert saver.restore({"a": None, "b": jnp.zeros(1)}) == {"a": None, "b": jnp.ones(1)}
    with pytest.raises(js.TreeMismatchError, match="dtype: 'a' is python None in the checkpoint"):
        saver.restore({"a": jnp.ones(()), "b": jnp.zeros(1)}, convert=True)
    with pytest.raises(js.TreeMismatchError, match="dtype: 'b' is float32 in the checkpoint"):
        saver.restore({"a": None, "b": None})


def test_a_list_and_a_tuple_and_a_mapping_that_is_no_pytree(saver):
    saver.save([jnp.ones(1), (jnp.zeros(2), 3)], 1)
    restored = saver.restore([jnp.zeros(1), (jnp.ones(2), 0)])
    assert type(restored[1]) is tuple
    assert (restored[0][0], restored[1][1]) == (1, 3)
    view = types.MappingProxyType({"0": jnp.zeros(1)})
    assert saver.restore(view, unexpected="ignore") == js.VarTree({"0": jnp.ones(1)})


def test_a_target_with_what_cannot_be_restored_is_refused(saver, tree):
    saver.save(tree, 1)

    class Tensor:
        shape, dtype = (2,), "torch.float32"

    for leaf, kind in ((lambda: 0, "function"), (Tensor(), "Tensor")):
        with pytest.raises(js.CheckpointValueError, match=f"can't be restored: 'f' is a {kind}"):
            saver.restore({"f": leaf})


# Comparing, as a pure function.


def entry(shape=(), dtype="float32"):
    return Entry(shape, dtype, shape, dtype, "packed")


def test_differences_in_arrays_that_convert_and_reshape_explain_away():
    wanted = {"x": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}
    saved = {"x": entry((6,))}
    for convert_, reshape, count in ((0, 0, 2), (1, 0, 1), (0, 1, 1), (1, 1, 0)):
        policy = Policy(convert=bool(convert_), reshape=bool(reshape))
        text = Comparison(wanted, saved, policy).text()
        assert (text or "").count(" in the target\n") == count
    assert "shape: 'x'" in Comparison(wanted, {"x": entry((7,))}, Policy(reshape=True)).text()


def test_saved_names_of_a_dict_are_in_the_message():
    names = Renamed({}, {}, listed={"w": "Wieght"})
    known = {"Weight": entry((2,))}
    text = Comparison({"w": jnp.ones(2)}, {}, Policy(), names=names, known=known).text()
    assert "missing: 'w' float32[2] is not in the checkpoint as 'Wieght' (close names: 'We" in text


# The report.


def test_the_report_says_what_was_done(saver, tree):
    assert saver.report is None
    path = saver.save(js.drop(tree, "head/w"), 1)
    target = zeros_like(js.rename(tree, {"enc/w": "enc/v"}))
    saver.restore(target, rename={"enc/w": "enc/v"}, missing="keep")
    report = saver.report
    assert report.path == path
    assert report.restored == {"enc/b": "enc/b", "enc/v": "enc/w"}
    assert (report.kept, report.initialized, report.ignored) == (("head/w",), (), ())
    assert report.bytes_read == 6 + 24 + (path / "jscope.json").stat().st_size
    assert report.verified
    lines = repr(report).split("\n")
    assert lines[0].startswith(f"Restored 2 of 3 from {path}: ")
    assert [line.split() for line in lines[1:]] == [
        ["name", "what", "how"],
        ["enc/b", "restored"],
        ["enc/v", "restored", "from", "'enc/w'"],
        ["head/w", "kept"],
    ]


def test_a_failed_restore_returns_nothing_and_changes_nothing(saver, tree):
    saver.save(tree, 1)
    saver.restore(tree)
    before = saver.report
    target = zeros_like(tree) | {"extra": jnp.ones(1)}
    with pytest.raises(js.TreeMismatchError):
        saver.restore(target)
    assert saver.report is before
    assert target == zeros_like(tree) | {"extra": jnp.ones(1)}


# Sharded, and with a bound of memory.


def test_the_same_shards_whatever_the_chunks(saver):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    value = np.arange(16 * 6, dtype=np.float32).reshape(16, 6)
    specs = [PartitionSpec(*spec) for spec in ((), ("x",), (None, "y"), ("y", None), (("x", "y"),))]
    for step, spec in enumerate(specs):
        saver.save({"w": jax.device_put(value, NamedSharding(mesh, spec))}, step)
        for other in specs:
            sharding = NamedSharding(mesh, other)
            target = jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
            restored = saver.restore({"w": target}, step)["w"]
            assert restored.sharding == sharding
            np.testing.assert_array_equal(restored, value)


# A Saver of some variables.


def test_a_list_of_variables_is_a_selection_of_both_verbs(tmp_path, tree):
    with js.Saver(tmp_path) as everything:
        everything.save(tree | {"enc/extra": jnp.ones(1), "other": jnp.ones(1)}, 1)
    with js.Saver(tmp_path, ["enc/**"]) as part:
        with pytest.raises(js.TreeMismatchError, match=r"1 difference:\n  unexpected: 'enc/extra'"):
            part.restore(zeros_like(tree))
        restored = part.restore(zeros_like(tree), unexpected="ignore")
        assert restored == tree | {"head/w": jnp.zeros(4, jnp.int32)}
        assert part.restore(zeros_like(tree), select="*/w", unexpected="ignore") == (
            zeros_like(tree) | {"enc/w": tree["enc/w"]}
        )


def test_a_dict_of_variables_reads_its_names_and_nothing_else(tmp_path, tree):
    with js.Saver(tmp_path) as everything:
        everything.save({"Weight": tree["enc/w"], "w": jnp.zeros(1), "model/b": tree["enc/b"]}, 1)
    with js.Saver(tmp_path, {"Weight": "enc/w"}) as named:
        restored = named.restore(zeros_like(tree))
        assert restored == zeros_like(tree) | {"enc/w": tree["enc/w"]}
        assert named.report.restored == {"enc/w": "Weight"}
    with js.Saver(tmp_path, {"Weight": "enc/w", "b": "enc/b"}) as named:
        # The names of `rename` come first, then those of the dict.
        restored = named.restore(zeros_like(tree), rename={"model": ""})
        assert restored == tree | {"head/w": jnp.zeros(4, jnp.int32)}
        with pytest.raises(js.TreeMismatchError, match=r"'enc/b' .* not in the checkpoint as 'b'"):
            named.restore(zeros_like(tree))
        assert named.restore(zeros_like(tree), missing="keep")["enc/w"][1, 2] == 5
    named = js.Saver(tmp_path, {"Weight": "enc/v"})
    with pytest.raises(js.SelectorError, match="are not in the tree"):
        named.restore(tree)


def test_the_processes_of_a_program_restore_the_step_that_the_first_one_finds(
    saver, tree, monkeypatch
):
    saver.save(tree, 1)
    saver.save(zeros_like(tree), 2)
    agreed = []

    def together(work):
        """As if the first process did not see step 2 yet."""
        agreed.append(work())
        return [str(saver.directory / "1") if agreed[-1] else ""]

    monkeypatch.setattr(_restore, "are_several", lambda: True)
    monkeypatch.setattr(_restore, "together", together)
    assert saver.restore(zeros_like(tree)) == tree
    assert agreed == ["", str(saver.directory / "2"), "", "", ""]


def test_a_saver_that_reshapes(tmp_path):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    value = jnp.arange(6.0)
    with js.Saver(tmp_path, reshape=True) as saver:
        saver.save({"x": value}, 1)
        for sharding in (None, NamedSharding(mesh, PartitionSpec("x"))):
            target = jax.ShapeDtypeStruct((2, 3), jnp.float32, sharding=sharding)
            restored = saver.restore({"x": target})["x"]
            np.testing.assert_array_equal(restored, value.reshape(2, 3))
            assert sharding is None or restored.sharding == sharding
        assert saver.report.converted == {"x": "float32[6] -> float32[2,3]"}
        with pytest.raises(js.TreeMismatchError, match=r"shape: 'x' is \(6,\) in the checkpoint"):
            saver.restore({"x": jnp.zeros((4, 2))})


def test_what_looks_transposed_is_an_error_with_the_map_that_transposes_it(tmp_path):
    value = np.arange(128, dtype=np.float32).reshape(8, 16)
    np.savez(tmp_path / "m.npz", w=value, flat=value.reshape(-1))
    js.Saver(tmp_path / "own").save({"w": value, "flat": value.reshape(-1)}, 1)
    target = {"w": jnp.zeros((16, 8)), "flat": jnp.zeros((8, 16))}
    for path in (tmp_path / "m.npz", tmp_path / "own" / "1"):
        for reshape in (False, True, "flat"):
            saver = js.Saver(tmp_path / "own", reshape=reshape)
            with pytest.raises(js.TreeMismatchError) as error:
                saver.restore(target, path)
            text = str(error.value)
            assert "'w' is (8, 16) in the checkpoint, (16, 8) in the target: transposed?" in text
            assert ("'flat' is" in text) == (reshape is False)
            assert "reshape=['w']" not in text or reshape
            line = re.search(r"To transpose them write rename=(\{.*?\})", text)[1]
            names = eval(line, {"js": js})
            restored = js.Saver(tmp_path).restore({"w": target["w"]}, path, "w", names)
            np.testing.assert_array_equal(restored["w"], value.T)
            assert ("reshape=True" in text) == (reshape is False)  # for 'flat'
        with pytest.raises(js.TreeMismatchError) as error:
            js.Saver(tmp_path / "own").restore(target | {"flat": jnp.zeros(128)}, path)
        assert "reshape" not in str(error.value).replace("reshaped they", "")


def test_a_variable_that_is_named_is_reshaped_though_it_looks_transposed(tmp_path):
    value = np.arange(6).reshape(2, 3)
    js.Saver(tmp_path).save({"a": value, "b": value, "c": value[None]}, 1)
    target = {"a": np.zeros((3, 2), int), "b": np.zeros((2, 3), int), "c": np.zeros((2, 1, 3), int)}
    with pytest.raises(js.TreeMismatchError) as error:
        js.Saver(tmp_path, reshape=True).restore(target)
    line = re.search(r"Or name those that only have another shape: (.*)\.$", str(error.value))[1]
    assert line == "Saver(..., reshape=['a'])"
    restored = js.Saver(tmp_path, reshape=["a", "c"]).restore(target)
    for name, leaf in target.items():
        np.testing.assert_array_equal(restored[name], value.reshape(leaf.shape))
    with pytest.raises(js.TreeMismatchError, match=r"shape: 'c' is \(1, 2, 3\)"):
        js.Saver(tmp_path, reshape=re.compile("a")).restore(target)
    with pytest.raises(js.SelectorError, match=r"Write Saver\(\.\.\., reshape=False\)"):
        js.Saver(tmp_path, reshape="d").restore(target)


def test_keys_go_to_devices_of_several_processes(saver, monkeypatch):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    keys = jax.random.split(jax.random.key(0), (8, 2))
    saver.save({"k": keys}, 1)
    target = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("x")))
    monkeypatch.setattr(NamedSharding, "is_fully_addressable", property(lambda self: False))
    restored = saver.restore({"k": target})["k"]
    monkeypatch.undo()
    assert restored.sharding == target.sharding
    assert js.VarTree({"k": restored}) == js.VarTree({"k": keys})
