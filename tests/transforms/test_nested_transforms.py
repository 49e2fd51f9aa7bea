"""Transforms in transforms, and loops of other libraries, over models that create variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.optimize import minimize
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from keys_by_definition import key_by_definition

import jscope as js

X = jnp.array([0.5, -1.0, 2.0])
ROOT = jax.random.key(4)


def layer(scope, x):
    return jnp.tanh(x * scope.get_variable("w", (3,)))


def by_hand(w, x):
    return jnp.tanh(x * w)


def count(scope, x):
    """A layer that remembers the sum of its inputs."""
    total = scope.get_variable("sum", (3,), initializer=js.initializers.zeros, trainable=False)
    scope.assign("sum", total + x)
    return layer(scope, x) + scope["sum"]


def check(model, expected, shapes, *, rngs=None, reverse=True):
    """Declared shapes, value, gradients; eager and jitted; without leaks."""
    with jax.checking_leaks():
        declared = js.declare(model)(X)
        assert {name: spec.shape for name, spec in declared.items()} == shapes
        values = js.map_named(
            declared.abstract(), lambda name, s: jnp.linspace(0.5, 1.5, s.size).reshape(s.shape)
        )

        def total(tree):
            return jnp.sum(jnp.sin(model(js.Scope(tree, rngs=rngs), X)))

        def expected_total(tree):
            return jnp.sum(jnp.sin(expected(tree, X)))

        want, wanted = jax.value_and_grad(expected_total)(values)
        np.testing.assert_allclose(total(values), want, rtol=1e-5)
        np.testing.assert_allclose(jax.jit(total)(values), want, rtol=1e-5)
        if reverse:
            for name, gradient in jax.grad(total)(values).items():
                np.testing.assert_allclose(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_scan_of_checkpoint_of_jit():
    block = jax.checkpoint(jax.jit(layer))

    def model(scope, x):
        return lax.scan(lambda x, s: (block(s, x), None), x, scope.stacked("s", 3))[0]

    def expected(tree, x):
        for i in range(3):
            x = by_hand(tree["s/w"][i], x)
        return x

    check(model, expected, {"s/w": (3, 3)})


@pytest.mark.parametrize("inner", ["scan", "vmap"])
@pytest.mark.parametrize("outer", ["scan", "vmap"])
def test_loops_over_stacks_in_stacks(outer, inner):
    def over(kind, function, stack, x):
        if kind == "scan":
            return lax.scan(lambda x, s: (function(s, x), None), x, stack)[0]
        return jax.vmap(function, in_axes=(0, None))(stack, x).sum(axis=0)

    def model(scope, x):
        def group(scope, x):
            return over(inner, layer, scope.stacked("b", 2), x)

        return over(outer, group, scope.stacked("a", 3), x)

    def loop(kind, function, count, x):
        if kind == "scan":
            for i in range(count):
                x = function(i, x)
            return x
        return sum(function(i, x) for i in range(count))

    def expected(tree, x):
        def group(i, x):
            return loop(inner, lambda j, x: by_hand(tree["a/b/w"][i, j], x), 2, x)

        return loop(outer, group, 3, x)

    check(model, expected, {"a/b/w": (3, 2, 3)})


@pytest.mark.parametrize("rngs", [None, ROOT])
def test_vmap_of_scan_and_scan_of_vmap_that_close_over_a_scope(rngs):
    def model(scope, x):
        def step(x, t):
            now = scope.fold(t) if rngs is not None else scope
            noise = jax.random.normal(now.rng("n"), (3,)) if rngs is not None else 0.0
            return layer(scope / "a", x) + noise, None

        def walk(x):
            return lax.scan(step, x, jnp.arange(2))[0]

        def side(x, t):
            return jax.vmap(lambda x: layer(scope / "b", x) * (t + 1).astype(x.dtype))(x), None

        return lax.scan(side, jax.vmap(walk)(jnp.stack([x, 2 * x])), jnp.arange(2))[0]

    def expected(tree, x):
        rows = []
        for row in (x, 2 * x):
            for t in range(2):
                key = key_by_definition(ROOT, t, "rng:n")
                noise = jax.random.normal(key, (3,)) if rngs is not None else 0.0
                row = by_hand(tree["a/w"], row) + noise
            for t in range(2):
                row = by_hand(tree["b/w"], row) * (t + 1)
            rows.append(row)
        return jnp.stack(rows)

    check(model, expected, {"a/w": (3,), "b/w": (3,)}, rngs=rngs)


@pytest.mark.parametrize(
    "wrap", [jax.checkpoint, jax.jit, lambda f: jax.checkpoint(jax.jit(jax.checkpoint(f)))]
)
def test_gradients_through_updates_of_a_rematerialized_block(wrap):
    def model(scope, x):
        y, updates = wrap(js.with_updates(count))(scope / "a", x)
        return y * updates["sum"]

    def expected(tree, x):
        total = tree["a/sum"] + x
        return (by_hand(tree["a/w"], x) + total) * total

    check(model, expected, {"a/sum": (3,), "a/w": (3,)})


def test_branches_with_other_variables_and_updates_of_one_structure():
    def negated(scope, x):
        return -(x * scope.get_variable("v", (3,))), js.VarTree({"sum": x})

    def model(scope, x):
        y, updates = lax.cond(x[0] > 0, js.with_updates(count), negated, scope / "a", x)
        z, _ = lax.cond(x[0] < 0, js.with_updates(count), negated, scope / "b", x)
        return y * z + updates["sum"]

    def expected(tree, x):
        total = tree["a/sum"] + x
        return (by_hand(tree["a/w"], x) + total) * -(x * tree["b/v"]) + total

    shapes = {f"{s}/{v}": (3,) for s in "ab" for v in ("sum", "v", "w")}
    check(model, expected, shapes)


def test_a_while_loop_in_a_scan_in_a_while_loop():
    def model(scope, x):
        def inner(carry):
            i, x = carry
            return i + 1, layer(scope / "inner", x)

        def middle(x, s):
            x = lax.while_loop(lambda c: c[0] < 2, inner, (0, x))[1]
            return layer(s, x), None

        def outer(carry):
            i, x = carry
            return i + 1, lax.scan(middle, x, scope.stacked("s", 2))[0]

        return lax.while_loop(lambda c: c[0] < 2, outer, (0, x))[1]

    def expected(tree, x):
        for _ in range(2):
            for i in range(2):
                x = by_hand(tree["inner/w"], by_hand(tree["inner/w"], x))
                x = by_hand(tree["s/w"][i], x)
        return x

    check(model, expected, {"inner/w": (3,), "s/w": (2, 3)}, reverse=False)


def test_the_same_scope_twice_to_one_transform():
    def pair(one, other, x):
        return layer(one, x) + layer(other.shared("tied"), x)

    def model(scope, x):
        a = scope / "a"
        return jax.jit(pair)(a, a, x) + jax.checkpoint(pair)(a / "b", a / "b", x)

    def expected(tree, x):
        return sum(by_hand(tree[f"{s}/{v}"], x) for s in ("a", "a/b") for v in ("w", "tied/w"))

    shapes = {f"{s}/{v}": (3,) for s in ("a", "a/b") for v in ("w", "tied/w")}
    check(model, expected, shapes)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_shard_map_in_scan_over_a_stack(kind):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))

    def model(scope, rows):
        def body(rows, s):
            mapped = jax.shard_map(
                lambda s, rows: jax.vmap(layer, in_axes=(None, 0))(s, rows),
                mesh=mesh,
                in_specs=(s.specs(lambda name, value: P(), P()), P("data")),
                out_specs=P("data"),
            )
            return mapped(s, rows), None

        return lax.scan(body, rows, scope.stacked("s", 2))[0]

    with jax.set_mesh(mesh):
        rows = jax.device_put(jnp.tile(X[None], (4, 1)), NamedSharding(mesh, P("data")))
        declared = js.declare(model)(rows)
        assert {name: spec.shape for name, spec in declared.items()} == {"s/w": (2, 3)}
        tree = js.VarTree({"s/w": jnp.linspace(0.5, 1.5, 6).reshape(2, 3)})
        for wrap in (lambda f: f, jax.jit):
            out = wrap(lambda tree, rows: model(js.Scope(tree), rows))(tree, rows)
            expected = by_hand(tree["s/w"][1], by_hand(tree["s/w"][0], X))
            np.testing.assert_allclose(out, np.tile(expected[None], (4, 1)), rtol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_variable_that_only_a_callback_asks_for_is_an_error_that_says_so(wrap):
    def model(scope, x):
        def on_host(scope, x):
            return np.asarray(x) * np.asarray(scope.get_variable("w", (3,)))

        return jax.pure_callback(on_host, jax.ShapeDtypeStruct((3,), jnp.float32), scope / "a", x)

    assert list(js.declare(model)(X)) == []
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(wrap(model)(js.Scope({"a/b": X}), X))
    assert str(caught.value).endswith(
        "MissingVariableError: No variable at 'a/w' (close names: 'a/b'). A bound scope never "
        "creates variables, and no declaration runs what jax.pure_callback calls. Write "
        "scope.get_variable('w', shape) before the callback too; then js.init makes it."
    )


# Loops of other libraries.


def quadratic(scope, x):
    return jnp.sum((layer(scope / "a", x) - 0.25) ** 2)


def test_a_line_search_of_optax_over_a_model():
    optimizer = optax.lbfgs()
    declared = js.declare(quadratic)(X)
    params = declared.init(jax.random.key(0))

    def loss(params):
        return quadratic(js.Scope(params), X)

    @jax.jit
    def step(params, state):
        value, gradient = optax.value_and_grad_from_state(loss)(params, state=state)
        updates, state = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=loss
        )
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        state = optimizer.init(params)
        for _ in range(15):
            params, state = step(params, state)
    np.testing.assert_allclose(layer(js.Scope(params) / "a", X), 0.25, atol=1e-3)


def test_a_solver_in_a_model_whose_function_creates_variables():
    """`jax.scipy.optimize` inside of a declared model: an implicit layer."""

    def model(scope, x):
        def distance(y):
            return jnp.sum((y - layer(scope / "a", x)) ** 2)

        with jax.numpy_dtype_promotion("standard"):
            return minimize(distance, jnp.zeros(3), method="BFGS").x

    assert list(js.declare(model)(X)) == ["a/w"]
    tree = js.VarTree({"a/w": jnp.array([0.5, 1.0, 1.5])})
    expected = by_hand(tree["a/w"], X)
    np.testing.assert_allclose(model(js.Scope(tree), X), expected, atol=1e-4)
    np.testing.assert_allclose(jax.jit(model)(js.Scope(tree), X), expected, atol=1e-4)


def test_a_solver_over_the_parameters_of_a_model():
    params = js.init(quadratic)(jax.random.key(0), X)
    flat, restore = ravel_pytree(params)
    loss = functools.partial(lambda x, flat: quadratic(js.Scope(restore(flat)), x), X)
    with jax.numpy_dtype_promotion("standard"):
        found = minimize(loss, flat, method="BFGS")
    np.testing.assert_allclose(layer(js.Scope(restore(found.x)) / "a", X), 0.25, atol=1e-3)
