"""`js.stack` and `js.unstack`: between a stack and its slices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

import jscope as js

SLICES = js.VarTree(
    {
        "enc/layers/0/w": jnp.arange(6.0).reshape(2, 3),
        "enc/layers/0/b": jnp.arange(3.0),
        "enc/layers/1/w": -jnp.arange(6.0).reshape(2, 3),
        "enc/layers/1/b": -jnp.arange(3.0),
        "enc/norm": jnp.ones(2),
        "layers/w": jnp.ones(4),
    }
)
STACK = js.VarTree(
    {
        "enc/layers/w": jnp.stack([SLICES["enc/layers/0/w"], SLICES["enc/layers/1/w"]]),
        "enc/layers/b": jnp.stack([SLICES["enc/layers/0/b"], SLICES["enc/layers/1/b"]]),
        "enc/norm": jnp.ones(2),
        "layers/w": jnp.ones(4),
    }
)


def test_the_two_layouts():
    assert js.stack(SLICES, "enc/layers") == STACK
    assert js.unstack(STACK, "enc/layers") == SLICES


def test_a_mapping_of_names_is_a_tree():
    assert js.stack(dict(SLICES), "enc/layers") == STACK
    assert js.unstack(STACK.to_nested(), "enc/layers") == SLICES


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_under_jit_and_on_gradients(transform):
    def loss(tree):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(js.unstack(tree, "enc/layers")))

    with jax.checking_leaks():
        gradients = transform(jax.grad(loss))(STACK)
        assert transform(lambda tree: js.stack(tree, "enc/layers"))(SLICES) == STACK
    assert gradients == jax.tree.map(lambda value: 2 * value, STACK)


arrays = st.integers(0, 3).flatmap(
    lambda rank: st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
)


@given(
    st.dictionaries(st.sampled_from(["w", "b", "a/w", "0/w", "1"]), arrays, min_size=1),
    st.integers(1, 12),
    st.data(),
)
def test_each_is_the_inverse_of_the_other(shapes, length, data):
    slices = js.VarTree(
        {
            f"s/{i}/{name}": np.full(shape, i, np.float32)
            for name, shape in shapes.items()
            for i in range(length)
        }
    )
    axis = data.draw(st.integers(0, min(map(len, shapes.values()))))
    stacked = js.stack(slices, "s", axis=axis)
    for name, shape in shapes.items():
        layers = [np.full(shape, i, np.float32) for i in range(length)]
        np.testing.assert_array_equal(stacked[f"s/{name}"], np.stack(layers, axis))
    assert js.unstack(stacked, "s", axis=axis) == slices
    assert js.stack(js.unstack(stacked, "s", axis=axis), "s", axis=axis) == stacked


def test_numpy_stays_numpy_keys_stay_keys_and_no_buffer_is_shared():
    tree = js.VarTree({"s/w": np.zeros((2, 3)), "s/k": jax.random.split(jax.random.key(0), 2)})
    slices = js.unstack(tree, "s")
    assert isinstance(slices["s/0/w"], np.ndarray)
    assert jnp.issubdtype(slices["s/1/k"].dtype, jax.dtypes.prng_key)
    assert js.stack(slices, "s") == tree
    slices["s/0/w"][0] = 1.0
    assert tree["s/w"].sum() == 0


def test_nested_stacks_in_either_order():
    loops = js.VarTree(
        {f"a/{i}/b/{j}/w": jnp.full((2,), 10.0 * i + j) for i in range(3) for j in range(4)}
    )
    outer_first = js.stack(js.stack(loops, "a"), "a/b", axis=1)
    inner_first = loops
    for i in range(3):
        inner_first = js.stack(inner_first, f"a/{i}/b")
    inner_first = js.stack(inner_first, "a")
    assert outer_first == inner_first
    assert outer_first["a/b/w"].shape == (3, 4, 2)
    assert js.unstack(js.unstack(outer_first, "a/b", axis=1), "a") == loops


def test_what_a_model_declares_is_the_stack_of_what_its_loop_declares():
    def layer(scope, x):
        return x * scope.get_variable("w", (3,))

    def loop(scope, x):
        for i in range(4):
            x = layer(scope / f"layers/{i}", x)
        return x

    def scan(scope, x):
        return jax.lax.scan(lambda x, s: (layer(s, x), None), x, scope.stacked("layers", 4))[0]

    x, key = jnp.ones(3), jax.random.key(7)
    assert js.stack(js.init(loop)(key, x), "layers") == js.init(scan)(key, x)
    assert js.stack(js.declare(loop)(x).abstract(), "layers") == js.declare(scan)(x).abstract()


def test_optimizer_states_go_along():
    optimizer = optax.chain(
        optax.clip(1.0), optax.adamw(1e-2), optax.scale_by_schedule(lambda t: 0.5)
    )
    parameters = js.select(SLICES, "enc/**")
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        state = optimizer.update(parameters, optimizer.init(parameters), parameters)[1]
    together = js.stack(state, "enc/layers")
    assert together[1][0].mu == js.stack(state[1][0].mu, "enc/layers")
    assert together[1][0].count == 1
    expected = optimizer.init(js.stack(parameters, "enc/layers"))
    assert jax.tree.structure(together) == jax.tree.structure(expected)
    back = js.unstack(together, "enc/layers")
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), back, state))


def test_states_without_trees_of_variables_stay_as_they_are():
    state = optax.sgd(0.1).init(SLICES)
    assert js.stack(state, "enc/layers") == state
    assert js.stack((jnp.int32(3),), "enc/layers") == (3,)


def test_masked_states_and_trees_without_the_scope_go_along():
    optimizer = optax.multi_transform(
        {"a": optax.adam(1e-2), "b": optax.sgd(1e-2, momentum=0.9)},
        js.labels(SLICES, {"a": "enc/layers/**"}, default="b"),
    )
    state = optimizer.init(SLICES)
    stacked_labels = js.stack(js.labels(SLICES, {"a": "enc/layers/**"}, default="b"), "enc/layers")
    expected = optax.multi_transform(
        {"a": optax.adam(1e-2), "b": optax.sgd(1e-2, momentum=0.9)}, stacked_labels
    ).init(STACK)
    together = js.stack(state, "enc/layers")
    assert jax.tree.structure(together) == jax.tree.structure(expected)
    assert jax.tree.structure(js.unstack(together, "enc/layers")) == jax.tree.structure(state)
    pair = js.stack((SLICES, js.select(SLICES, "enc/norm")), "enc/layers")
    assert pair == (STACK, js.select(SLICES, "enc/norm"))


def test_masks_say_the_same_of_all_slices():
    mask = js.mask(SLICES, "enc/layers/**/w")
    assert js.stack(mask, "enc/layers") == js.mask(STACK, "enc/layers/w")
    assert js.unstack(js.mask(STACK, "enc/layers/w"), "enc/layers", length=2) == mask
    with pytest.raises(js.TreeMismatchError) as caught:
        js.stack(js.mask(SLICES, "enc/layers/1/w"), "enc/layers")
    assert str(caught.value) == (
        "'enc/layers' can't be stacked, in 1 place:\n"
        "  'enc/layers/1/w' is True and 'enc/layers/0/w' is False, which are not arrays"
    )
    with pytest.raises(js.TreeMismatchError, match="no array has the number of slices"):
        js.unstack(js.mask(STACK, "enc/**"), "enc/layers")


def test_abstract_values_keep_their_shardings():
    mesh = AbstractMesh((2,), ("x",))

    def struct(shape, *spec):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    slices = js.VarTree({f"s/{i}/w": struct((4, 6), None, "x") for i in range(3)})
    assert js.stack(slices, "s")["s/w"] == struct((3, 4, 6), None, None, "x")
    assert js.stack(slices, "s", axis=-1)["s/w"] == struct((4, 6, 3), None, "x", None)
    assert js.unstack(js.stack(slices, "s", axis=1), "s", axis=1) == slices
    plain = js.declare(lambda scope: scope.get_variable("s/0/w", (2,)))().abstract()
    assert js.unstack(js.stack(plain, "s"), "s") == plain


def test_all_that_is_uneven_is_listed():
    tree = js.VarTree(
        {
            "s/0/w": jnp.ones(3),
            "s/1/w": jnp.ones(4),
            "s/3/w": jnp.ones(3, jnp.int32),
            "s/0/b": jnp.ones(3),
            "s/1/b": jnp.ones(3),
            "s/0/m": True,
            "s/1/m": jnp.ones(1),
            "s/3/m": True,
            "s/1": jnp.ones(2),
            "s/02/w": jnp.ones(3),
            "s/last/w": jnp.ones(3),
        }
    )
    with pytest.raises(js.TreeMismatchError) as caught:
        js.stack((tree, tree), "s")
    lines = [
        "'s/02/w': '02' is not the number of a slice",
        "'s/1': a slice is a scope, and this is a variable",
        "'s/last/w': 'last' is not the number of a slice",
        "no slice 2, though there is s/3",
        "missing: 's/3/b', though there is 's/0/b'",
        "'s/1/m' is float32[1] and 's/0/m' is of type bool",
        "'s/1/w' is float32[4] and 's/0/w' is float32[3]",
        "'s/3/w' is int32[3] and 's/0/w' is float32[3]",
    ]
    assert str(caught.value) == "'s' can't be stacked, in 16 places:\n" + "\n".join(
        f"  [{i}]: {line}" for i in range(2) for line in lines
    )


def test_variables_without_the_axis_are_listed():
    tree = js.VarTree({"s/a": jnp.ones((2, 3)), "s/b": jnp.ones((4, 3)), "s/c": jnp.float32(1)})
    with pytest.raises(js.TreeMismatchError) as caught:
        js.unstack(tree, "s")
    assert str(caught.value) == (
        "'s' can't be unstacked, in 2 places:\n"
        "  's/b' of shape (4, 3) has 4 slices along axis 0, not 2\n"
        "  's/c' of shape () has no axis 0"
    )
    with pytest.raises(js.TreeMismatchError, match=r"'s/a' of shape .* has 2 slices .*, not 5"):
        js.unstack(js.select(tree, "s/a"), "s", length=5)
    with pytest.raises(
        js.TreeMismatchError, match=r"'t/0/w' of shape \(\) has no place for axis 1"
    ):
        js.stack({"t/0/w": jnp.float32(0)}, "t", axis=1)


def test_values_that_are_pytrees():
    tree = js.VarTree({"s/0/w": (jnp.ones(2), None), "s/1/w": (jnp.zeros(2), None)})
    together = js.stack(tree, "s")
    assert together["s/w"][0].shape == (2, 2)
    assert js.unstack(together, "s") == tree
    with pytest.raises(js.TreeMismatchError, match="'s/1/w' is another pytree than 's/0/w'"):
        js.stack(tree | {"s/1/w": jnp.ones(2)}, "s")


@pytest.mark.parametrize("function", [js.stack, js.unstack])
def test_a_scope_that_is_not_there_is_an_error_with_near_names(function):
    with pytest.raises(js.MissingVariableError, match=r"'enc/layer' is not a scope .*'enc/layers'"):
        function(SLICES, "enc/layer")
    with pytest.raises(js.MissingVariableError, match="'enc/layer' is not a scope"):
        function((SLICES, STACK), "enc/layer")
    with pytest.raises(js.VariableNameError):
        function(SLICES, "enc//layers")
