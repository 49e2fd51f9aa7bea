"""Initial values that depend on data, and initializers that must not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js
from jscope import initializers as init

KEY = jax.random.key(0)
X = jnp.array([[1.0, 10.0], [3.0, 30.0]])


def actnorm(scope, x):
    """Kingma and Dhariwal (2018): scale and shift such that the first batch is normalized."""
    shift = scope.get_variable("shift", initializer=-x.mean(axis=0))
    scale = scope.get_variable(
        "scale", (2,), initializer=lambda key, shape, dtype: 1 / x.std(axis=0)
    )
    return (x + shift[None]) * scale[None]


def flow(scope, x):
    w = scope.get_variable("w", (2, 2), initializer=init.orthogonal())
    return actnorm(scope / "second", actnorm(scope / "first", x) @ w)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_initial_values_may_depend_on_what_the_model_computes(wrap):
    with jax.checking_leaks():
        variables = wrap(js.init(flow, inline=True))(KEY, X)
    assert list(variables) == ["first/scale", "first/shift", "second/scale", "second/shift", "w"]
    np.testing.assert_allclose(variables["first/shift"], [-2, -20])
    np.testing.assert_allclose(variables["first/scale"], [1, 0.1], rtol=1e-6)
    out = flow(js.Scope(variables), X)
    np.testing.assert_allclose(out.mean(0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(out.std(0), [1, 1], rtol=1e-5)
    # The others are those of every init.
    alone = js.init(lambda s: s.get_variable("w", (2, 2), initializer=init.orthogonal()))(KEY)
    assert js.VarTree({"w": variables["w"]}) == alone


def test_a_model_without_data_dependence_gets_the_same_values_inline():
    def model(scope, x):
        w = scope.get_variable("a/w", (2, 3))
        start = init.initialized_value("w", lambda w: 2 * w)
        average = (scope / "a").get_variable("average", (2, 3), initializer=start)
        return (
            x @ w
            + (scope / "b").get_variable("b", (3,), initializer=init.ones)[None]
            + (x @ average)
        )

    assert js.init(model, inline=True)(KEY, X) == js.init(model)(KEY, X)


def test_sharing_assigning_and_drawing_work_inline():
    seen = []

    def model(scope, x):
        for _ in range(2):
            x = x @ scope.shared("a").get_variable("w", (2, 2))
        n = scope.get_variable("n", (), jnp.int32, trainable=False)
        seen.append((int(n), int(scope.assign("n", n + 1)), int(scope["n"])))
        key = scope.rng("dropout")
        seen.append(bool((jax.random.key_data(key) == jax.random.key_data(KEY)).all()))
        assert scope.has("n")
        return x * jax.random.normal((scope / "a").rng("dropout"), x.shape)

    variables = js.init(model, inline=True)(KEY, X)
    assert seen == [(0, 1, 1), False]
    assert int(variables["n"]) == 0
    assert list(variables) == ["a/w", "n"]


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("jax.jit", jax.jit),
        ("jax.checkpoint", jax.checkpoint),
        ("jax.vmap", lambda f: lambda s, x: jax.vmap(f, (None, 0))(s, x[None])[0]),
        (
            "jax.lax.scan",
            lambda f: lambda s, x: lax.scan(lambda x, s: (f(s, x), None), x, s.stacked("l", 1))[0],
        ),
    ],
)
def test_creation_inside_a_transform_is_an_error_that_says_why(name, transform):
    with pytest.raises(js.ScopeError) as caught:
        js.init(lambda s, x: transform(actnorm)(s / "a", x), inline=True)(KEY, X)
    text = str(caught.value)
    assert f"shift' would be created inside {name}. With inline=True" in text
    assert "Call the function without the transform while initializing" in text


def test_what_was_created_outside_may_be_read_inside_a_transform():
    def model(scope, x):
        scope.get_variable("w", (2, 2))
        return jax.jit(lambda s, x: x @ s["w"])(scope, x)

    assert list(js.init(model, inline=True)(KEY, X)) == ["w"]


def test_inline_needs_values():
    with pytest.raises(TypeError, match=r"inline=True\) runs the model, which needs values"):
        js.init(flow, inline=True)(KEY, jax.ShapeDtypeStruct((2, 2), jnp.float32))
    with pytest.raises(js.KeyArgumentError):
        js.init(flow, inline=True)(0, X)


def test_a_traced_initial_value_of_another_shape_is_an_error():
    def model(scope, x):
        return scope.get_variable("w", (3,), initializer=x.mean(axis=0))

    for wrap in (lambda f: f, jax.jit):
        with pytest.raises(js.InitializerError, match="'w'"):
            wrap(js.init(model, inline=True))(KEY, X)


# Without inline, traced initializers are caught by name.


class Attribute:
    def __init__(self, value):
        self.value = value

    def __call__(self, key, shape, dtype):
        return self.value

    def method(self, key, shape, dtype):
        return self.value


def default(value):
    def initializer(key, shape, dtype, value=value):
        return value

    return initializer


def keyword(value):
    def initializer(key, shape, dtype, *, value=value):
        return value

    return initializer


def nested(value):
    inner = [lambda: value]
    return lambda key, shape, dtype: inner[0]()


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda v: lambda key, shape, dtype: v, "'v' in its closure is float32[2]"),
        (nested, "'value' in its closure is float32[2]"),
        (lambda v: lambda key, shape, dtype, own={"a": v}: own["a"], "a member of a container is"),
        (default, "a default argument is"),
        (keyword, "a default argument is"),
        (Attribute, "its attribute 'value' is"),
        (lambda v: Attribute(v).method, "its attribute 'value' is"),
        (lambda v: functools.partial(lambda v, *_: v, v), "a bound argument is"),
        (lambda v: functools.partial(lambda key, shape, dtype: v), "'v' in its closure is"),
        (lambda v: init.random_normal(stddev=v[0]), "stddev"),
    ],
)
def test_an_initializer_that_holds_a_traced_value_is_caught_by_name(make, where):
    def model(scope, x):
        return (scope / "a").get_variable("w", (2,), initializer=make(x.mean(axis=0)))

    with pytest.raises(js.InitializerError) as caught:
        js.init(model)(KEY, X)
    assert where in str(caught.value)
    if "stddev" not in where:
        assert "The initializer of variable 'a/w' depends on a traced value" in str(caught.value)
        assert "write js.init(model, inline=True)" in str(caught.value)


def test_a_traced_initial_value_points_to_inline():
    with pytest.raises(js.InitializerError) as caught:
        js.init(actnorm)(KEY, X)
    assert "'shift'" in str(caught.value)
    assert "js.init(model, inline=True)" in str(caught.value)


def test_what_an_initializer_merely_knows_is_no_error():
    class Config:
        traced = None

    def model(scope, x):
        config = Config()
        config.traced = x
        constant = np.float32(3)

        def recursive(key, shape, dtype, depth=1):
            del config.traced
            return (
                jnp.full(shape, constant, dtype) if depth == 0 else recursive(key, shape, dtype, 0)
            )

        unset: int
        later = lambda: unset  # noqa: E731, F821
        scope.get_variable("v", (2,), initializer=lambda k, s, d: (later, jnp.ones(s, d))[1])
        return scope.get_variable("w", (2,), initializer=recursive)

    assert js.declare(model)(X)["w"].shape == (2,)
