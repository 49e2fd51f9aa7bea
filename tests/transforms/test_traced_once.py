"""What is equal is traced once, and what was traced keeps nothing but structures."""

import gc
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jscope as js
from jscope._names import names as _names
from jscope._scope import bound as _bound
from jscope._scope import declaring as _declaring
from jscope._tree import vartree as _tree

X = jnp.ones((2, 3))


def dense(scope, x):
    return jnp.tanh(x @ scope.get_variable("w", (3, 3)))


def noisy(scope, x):
    return dense(scope, x) + jax.random.normal(scope.rng("noise"), x.shape)


@pytest.mark.parametrize(
    ("layer", "rngs"), [(dense, None), (noisy, jax.random.key(1)), (dense, jax.random.key(1))]
)
def test_48_equal_scopes_are_one_trace(layer, rngs):
    traces = []

    @jax.jit
    def block(scope, x):
        traces.append(scope.name)
        return layer(scope, x)

    def model(scope, x):
        for i in range(48):
            x = block(scope / f"part_{i % 5}/deeper/layer_{i}", x)
        return x

    variables = js.init(model)(jax.random.key(0), X)
    traces.clear()
    out = jax.jit(lambda tree: model(js.Scope(tree, rngs=rngs), X))(variables)
    assert len(traces) == 1
    np.testing.assert_allclose(model(js.Scope(variables, rngs=rngs), X), out, rtol=1e-5, atol=1e-6)
    assert len(traces) == 1  # eager calls find the same program


def test_a_training_loop_is_traced_once_also_after_a_restore(tmp_path):
    traces = []
    optimizer = optax.adam(1e-2)

    def model(scope, x):
        y = noisy(scope / "a", x)
        scope.get_variable("n", (), jnp.int32, trainable=False)
        scope.assign_add("n", 1)
        return y

    @jax.jit
    def step(params, state, opt_state, key):
        traces.append(None)

        def loss(params):
            y, updates = js.with_updates(model)(params | state, X, rngs=key)
            return (y**2).mean(), updates

        gradients, updates = jax.grad(loss, has_aux=True)(params)
        with jax.numpy_dtype_promotion("standard"):  # which Optax needs
            change, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, change), state | updates, opt_state

    declared = js.declare(model)(X)
    params, state = declared.split(declared.init(jax.random.key(0)))
    opt_state = optimizer.init(params)
    for i in range(20):
        params, state, opt_state = step(params, state, opt_state, jax.random.key(i))
    with js.Saver(tmp_path / "runs") as saver:
        saver.save(params | state, 20)
    with js.Saver(tmp_path / "runs") as saver:
        restored = saver.restore(declared.abstract())
    assert restored == params | state
    params, state = declared.split(restored)
    for i in range(5):
        params, state, opt_state = step(params, state, opt_state, jax.random.key(i))
    assert len(traces) == 1
    assert state["n"] == 25


def test_a_thousand_models_leave_structures_and_nothing_after_clear_caches():
    @jax.jit
    def block(scope, x):
        return x * scope.get_variable("w", ())

    def live(*types):
        gc.collect()
        return [sum(type(o) is t for o in gc.get_objects()) for t in types]

    types = (_declaring.Recorder, js.Declaration, js.Scope, js.VarTree)
    structures = (_tree.Structure, _declaring.Run, _bound.Bound)

    def one(i):
        def model(scope, x):
            return block(scope / f"model_{i}" / "layer", x)

        variables = js.VarTree({name: jnp.float32(i) for name in js.declare(model)(X[0])})
        return model(js.Scope(variables), X[0])

    one(0)
    jax.clear_caches()
    before = live(*types), live(*structures)
    count = 1000
    tracemalloc.start()
    for i in range(count):
        one(i)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    assert live(*types) == before[0]  # no recorder, declaration, scope or tree is kept
    kept = [now - then for now, then in zip(live(*structures), before[1], strict=True)]
    assert kept[2] <= 2  # applications share one structure
    assert grown < count * 12_000  # mostly JAX's own traces of `block`, one for each path

    jax.clear_caches()
    assert live(*structures) == before[1]
    _names.checked.cache_clear()  # bounded: the names that were checked last
    gc.collect()
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < count * 100  # not even a name for each model
