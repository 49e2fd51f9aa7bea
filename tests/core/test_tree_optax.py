"""Whatever walks trees takes a `VarTree`, and does with it what it does with a dict."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

import jscope as js

VALUES = {
    "enc/w": jnp.linspace(-1.0, 1.0, 12, dtype=jnp.float32).reshape(3, 4),
    "enc/w/Adam": jnp.ones((3, 4), jnp.float32),
    "head/b": jnp.arange(4, dtype=jnp.float32),
}
LARGE = {"w": jnp.ones((128, 130), jnp.float32), "b": jnp.ones(130, jnp.float32)}


@pytest.fixture(autouse=True)
def jaxs_own_promotion():
    """Strictness is for jscope; Optax multiplies what it likes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def loss(tree):
    return sum(jnp.sum((value - 0.5) ** 2 * (1 + jnp.cos(value))) for value in tree.values())


def train(optimizer, params, steps=3):
    """The parameters and the state after some steps, under jit."""

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        extra = {"value": value, "grad": gradient, "value_fn": loss}
        update = optax.with_extra_args_support(optimizer).update
        updates, state = update(gradient, state, params, **extra)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def is_head(params):
    return {name: name.startswith("head") for name in params}


OPTIMIZERS = {
    "adam": lambda params, own: optax.adam(0.1),
    "adamw with a mask": lambda params, own: optax.adamw(0.1, mask=own(is_head(params))),
    "lamb": lambda params, own: optax.lamb(0.1),
    "lion": lambda params, own: optax.lion(0.1),
    # Not the zoom search of the default, which compiles for ten seconds.
    "lbfgs": lambda params, own: optax.lbfgs(
        memory_size=2, linesearch=optax.scale_by_backtracking_linesearch(3)
    ),
    "clipped": lambda params, own: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1)),
    "masked": lambda params, own: optax.masked(optax.adam(0.1), own(is_head(params))),
    "masked by a function": lambda params, own: optax.masked(
        optax.adam(0.1), lambda p: own(is_head(p))
    ),
    "multi_transform": lambda params, own: optax.multi_transform(
        {True: optax.adam(0.1), False: optax.set_to_zero()}, own(is_head(params))
    ),
    "several steps": lambda params, own: optax.MultiSteps(optax.adam(0.1), 2),
    "hyperparameters": lambda params, own: optax.inject_hyperparams(optax.adam)(0.1),
    "averaged": lambda params, own: optax.chain(optax.adam(0.1), optax.ema(0.9)),
    "schedule free": lambda params, own: optax.contrib.schedule_free_adamw(0.1),
    "prodigy": lambda params, own: optax.contrib.prodigy(),
}


def as_dict(tree):
    """The same state with a dict in the place of each `VarTree`."""
    is_tree = lambda node: isinstance(node, js.VarTree)  # noqa: E731
    return jax.tree.map(lambda node: dict(node) if is_tree(node) else node, tree, is_leaf=is_tree)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_does_what_it_does_with_a_dict(name):
    tree = js.VarTree(VALUES)
    found, state = train(OPTIMIZERS[name](tree, js.VarTree), tree)
    expected, expected_state = train(OPTIMIZERS[name](VALUES, dict), dict(sorted(VALUES.items())))
    assert type(found) is js.VarTree
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(as_dict(state)) == jax.tree.structure(expected_state)


def test_adafactor_factors_large_matrices():
    found, _ = train(optax.adafactor(0.1), js.VarTree(LARGE))
    expected, _ = train(optax.adafactor(0.1), LARGE)
    for name in LARGE:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_optaxs_tree_functions_take_trees():
    tree = js.VarTree(VALUES)
    np.testing.assert_allclose(
        optax.tree.norm(tree),
        np.sqrt(sum(np.sum(np.square(v)) for v in VALUES.values())),
        rtol=1e-6,
    )
    doubled = optax.tree.add(tree, tree)
    assert type(doubled) is js.VarTree
    assert optax.tree.zeros_like(tree) == jax.tree.map(jnp.zeros_like, tree)
    state = optax.adam(0.1).init(tree)
    changed = optax.tree.map_params(optax.adam(0.1), lambda x: x + 1, state)
    np.testing.assert_array_equal(changed[0].mu["head/b"], np.ones(4))
    np.testing.assert_array_equal(optax.tree.get(changed, "count"), 0)


def test_an_optimizer_state_can_be_donated():
    optimizer = optax.adam(0.1)
    tree = js.VarTree(VALUES)
    state = optimizer.init(tree)
    gradients = jax.tree.map(jnp.ones_like, tree)
    step = jax.jit(optimizer.update, donate_argnums=1)
    _, after = step(gradients, state)
    assert all(value.is_deleted() for value in state[0].mu.values())
    np.testing.assert_allclose(after[0].mu["head/b"], np.full(4, 0.1), rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "masked", "multi_transform", "lbfgs"])
def test_orbax_saves_and_loads_an_optimizer_state(name, tmp_path):
    tree = js.VarTree(VALUES)
    params, state = train(OPTIMIZERS[name](tree, js.VarTree), tree)
    ocp.save(tmp_path / "saved", (params, state))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (params, state)
    )
    loaded_params, loaded_state = ocp.load(tmp_path / "saved", abstract)
    assert loaded_params == params
    assert jax.tree.structure(loaded_state) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(loaded_state), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(one, other)
