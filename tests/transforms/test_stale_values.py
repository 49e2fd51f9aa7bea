"""Programs in which Haiku, linen and ninjax silently go on using the first call's parameters.

Each outlives one application, by a module-level `jax.jit`, a loop's body or `jax.checkpoint`,
and is used by two applications with other parameters: w = 2, then w = 5.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jscope as js

X = jnp.array([1.0, 3.0])


def multiply(scope, x):
    return x * scope.get_variable("w", (), initializer=js.initializers.ones)


def remember(scope, x):
    """``multiply`` that also keeps its last input."""
    seen = scope.get_variable("seen", (2,), trainable=False)
    scope.assign("seen", x + 0 * seen)
    return multiply(scope, x)


def noisy(scope, x):
    return multiply(scope, x) + jax.random.normal(scope.rng("noise"), x.shape)


jitted = jax.jit(multiply)
rematerialized = jax.checkpoint(multiply)
jitted_twice = jax.jit(jax.jit(multiply))
jitted_noisy = jax.jit(noisy)
jitted_with_updates = jax.jit(js.with_updates(remember))
derivative = jax.jit(jax.grad(lambda x, scope: multiply(scope, x).sum()))


def body(carry, _):
    scope, x = carry
    return (scope, multiply(scope, x)), None


def branch(scope, x):
    return lax.cond(True, multiply, lambda scope, x: x, scope, x)


HELPERS = {
    "jit": jitted,
    "jit in jit": jitted_twice,
    "checkpoint": rematerialized,
    "jit of checkpoint": jax.jit(rematerialized),
    "scan": lambda scope, x: lax.scan(body, (scope, x), length=1)[0][1],
    "cond": branch,
    "map": jax.jit(lambda scope, x: lax.map(lambda x: multiply(scope, x), x)),
    "vmap": jax.vmap(multiply, in_axes=(None, 0)),
    "updates": lambda scope, x: jitted_with_updates(scope, x)[0],
}


def tree(w: float) -> js.VarTree:
    return js.VarTree({"a/w": jnp.float32(w), "a/seen": jnp.zeros(2)})


@pytest.mark.parametrize("name", HELPERS)
def test_a_helper_sees_the_parameters_it_is_called_with(name):
    def model(scope, x):
        return HELPERS[name](scope / "a", x)

    js.declare(model)(X)
    for w in (2.0, 5.0, 2.0):
        assert (model(js.Scope(tree(w)), X) == w * X).all()
        assert (jax.jit(model)(js.Scope(tree(w)), X) == w * X).all()
        gradient = jax.grad(lambda tree: model(js.Scope(tree), X).sum())(tree(w))
        assert gradient["a/w"] == X.sum()
        of_x = jax.grad(lambda x, w=w: (model(js.Scope(tree(w)), x) ** 2).sum())(X)
        assert (of_x == 2 * w**2 * X).all()


def test_a_helper_that_differentiates_sees_them_too():
    for w in (2.0, 5.0, 2.0):
        assert (derivative(X, js.Scope(tree(w)) / "a") == w).all()


def test_one_helper_in_two_places_of_one_application():
    def model(scope, x):
        return jitted(scope / "b", jitted(scope / "a", x))

    variables = js.VarTree({"a/w": jnp.float32(2), "b/w": jnp.float32(5)})
    assert (model(js.Scope(variables), X) == 10 * X).all()
    gradient = jax.grad(lambda tree: model(js.Scope(tree), X).sum())(variables)
    assert gradient == js.VarTree({"a/w": 5 * X.sum(), "b/w": 2 * X.sum()})


def test_random_keys_are_those_of_the_call():
    first, second = (js.Scope(tree(2.0), rngs=jax.random.key(i)) / "a" for i in (1, 2))
    a, b, again = (jitted_noisy(scope, X) for scope in (first, second, first))
    assert (a != b).all()
    assert (a == again).all()
    elsewhere = js.Scope({"b/w": jnp.float32(2.0)}, rngs=jax.random.key(1)) / "b"
    assert (jitted_noisy(elsewhere, X) != a).all()  # another path, other keys; one program


def test_updates_are_those_of_the_call():
    for factor in (1.0, 3.0):
        _, updates = jitted_with_updates(js.Scope(tree(2.0)) / "a", factor * X)
        assert updates == js.VarTree({"seen": factor * X})


def test_a_jitted_init_after_an_eager_one_and_the_other_way_round():
    def model(scope, x):
        return x @ scope.get_variable("w", (2, 2)) + jitted(scope / "a", x)

    initialize = jax.jit(lambda key: js.init(model)(key, X))
    keys = jax.random.key(1), jax.random.key(2)
    eager = [js.init(model)(key, X) for key in keys]
    assert [initialize(key) for key in keys] == eager
    assert [js.init(model)(key, X) for key in keys] == eager
    assert (eager[0]["w"] != eager[1]["w"]).all()
    outs = [model(js.Scope(variables), X) for variables in eager]
    assert [
        bool((jax.jit(model)(js.Scope(v), X) == out).all())
        for v, out in zip(eager, outs, strict=True)
    ]


def test_applying_before_declaring_and_declaring_again_leave_nothing_behind():
    def model(scope, x):
        return jitted(scope / "late", x)

    variables = js.VarTree({"late/w": jnp.float32(7)})
    assert (model(js.Scope(variables), X) == 7 * X).all()
    for _ in range(2):
        assert list(js.declare(model)(X)) == ["late/w"]
    assert (model(js.Scope(variables), X) == 7 * X).all()
