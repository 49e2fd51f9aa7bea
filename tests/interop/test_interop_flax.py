"""Trees of variables in Flax's tools: `flax.serialization` and `flax.traverse_util`."""

import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import serialization, traverse_util
from flax.training.train_state import TrainState

import jscope as js
import jscope.interop.flax

VARIABLES = js.VarTree(
    {
        "encoder/w": jnp.arange(6.0).reshape(2, 3),
        "encoder/b": jnp.array([1, 2], jnp.bfloat16),
        "step": jnp.int32(7),
        "ema/scale": jnp.array([True, False]),
    }
)
ZEROS = jax.tree.map(jnp.zeros_like, VARIABLES)


def state_of(variables):
    floats = js.select(variables, "encoder/*")
    state = TrainState.create(apply_fn=None, params=floats, tx=optax.adam(0.5))
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        return state.apply_gradients(grads=jax.tree.map(jnp.ones_like, floats))


def test_a_training_state_of_trees_comes_back_from_its_bytes():
    state = state_of(VARIABLES)
    data = serialization.to_bytes(state)
    restored = serialization.from_bytes(state_of(ZEROS), data)
    assert isinstance(restored.params, js.VarTree)
    assert restored.params == state.params
    assert restored.opt_state[0].mu == state.opt_state[0].mu
    assert restored.opt_state[0].nu == state.opt_state[0].nu
    assert (restored.step, int(restored.opt_state[0].count)) == (1, 1)


def test_a_state_is_that_of_the_nested_dict_and_goes_both_ways():
    nested = VARIABLES.to_nested()
    data = serialization.to_bytes(VARIABLES)
    assert data == serialization.to_bytes(nested)
    # Flax's bytes into a tree, and a tree's into Flax's parameters.
    assert serialization.from_bytes(ZEROS, serialization.to_bytes(nested)) == VARIABLES
    assert js.VarTree(serialization.from_bytes(ZEROS.to_nested(), data)) == VARIABLES
    frozen = flax.core.freeze(ZEROS.to_nested())
    restored = serialization.from_bytes(frozen, data)
    np.testing.assert_array_equal(restored["encoder"]["w"], VARIABLES["encoder/w"])


def test_a_name_that_is_a_variable_and_a_scope_is_kept():
    tree = js.VarTree({"w": jnp.ones(2), "w/Adam": jnp.zeros(2), "a/b": jnp.ones(())})
    data = serialization.to_bytes({"params": tree})
    assert sorted(serialization.msgpack_restore(data)["params"]) == ["a/b", "w", "w/Adam"]
    target = {"params": jax.tree.map(jnp.zeros_like, tree)}
    assert serialization.from_bytes(target, data)["params"] == tree


def test_values_may_be_what_flax_knows_and_a_tree_may_be_empty():
    tree = js.VarTree({"pair": (jnp.ones(1), jnp.zeros(2)), "none": None, "n": 3})
    data = serialization.to_bytes(tree)
    restored = serialization.from_bytes(js.map_named(tree, lambda name, value: value), data)
    assert isinstance(restored["pair"], tuple)
    np.testing.assert_array_equal(restored["pair"][1], np.zeros(2))
    assert (restored["none"], restored["n"]) == (None, 3)
    empty = js.VarTree()
    assert serialization.from_bytes(empty, serialization.to_bytes(empty)) == empty


def test_what_a_state_lacks_is_listed_with_near_names():
    data = serialization.to_bytes(js.rename(VARIABLES, {"encoder": "encode", "step": "stop"}))
    with pytest.raises(js.TreeMismatchError) as caught:
        serialization.from_bytes(VARIABLES, data)
    text = str(caught.value)
    assert text.startswith("The state has no 'encoder/b', 'encoder/w', 'step' (close names: ")
    assert "'encode/b'" in text
    assert "js.rename(tree, {old: new})" in text
    # As Flax's dicts: more may be there.
    fewer = js.drop(ZEROS, "step")
    assert serialization.from_bytes(fewer, serialization.to_bytes(VARIABLES)) == js.drop(
        VARIABLES, "step"
    )
    # A scope is no value.
    with pytest.raises(js.TreeMismatchError, match="has no 'encoder'"):
        serialization.from_bytes(
            js.VarTree({"encoder": jnp.ones(1)}), serialization.to_bytes(ZEROS)
        )


@pytest.mark.parametrize(
    "imports",
    [
        "import flax, jscope as js",
        "import jscope as js, flax.serialization",
        "from jscope import VarTree; import flax.serialization, jscope.interop.flax, jscope as js",
    ],
)
def test_flax_knows_trees_where_it_is_loaded_first_and_by_the_documented_line(imports):
    code = (
        f"{imports}\n"
        "import numpy as np\n"
        "from flax import serialization\n"
        "tree = js.VarTree({'a/w': np.ones(2)})\n"
        "assert serialization.from_bytes(tree, serialization.to_bytes(tree)) == tree\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_traverse_util_takes_the_nested_dict_and_gives_the_flat_one():
    flat = traverse_util.flatten_dict(VARIABLES.to_nested(), sep="/")
    assert js.VarTree(flat) == js.VarTree(dict(VARIABLES)) == VARIABLES
    by_tuples = traverse_util.flatten_dict(VARIABLES.to_nested())
    assert js.VarTree(traverse_util.unflatten_dict(by_tuples)) == VARIABLES
