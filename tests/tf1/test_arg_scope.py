"""`tf1.arg_scope`: default arguments by value; what slim's does is in test_layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import regularizers, tf1
from jscope.tf1 import contrib, layers

X = jnp.ones((2, 6, 6, 1))


@tf1.add_arg_scope
def scaled(vs, x, factor=1.0, shift=0.0, scope=None):
    del vs, scope
    return x * factor + shift


SCOPE = js.Scope({})


def test_defaults_reach_the_functions_named_and_no_others():
    scope = tf1.arg_scope(SCOPE, [scaled], factor=3.0)
    assert scaled(scope, 2.0) == 6
    assert scaled(SCOPE, 2.0) == 2  # nothing is global


def test_what_a_call_gives_wins_by_name_and_by_position():
    scope = tf1.arg_scope(SCOPE, [scaled], factor=3.0, shift=1.0)
    assert scaled(scope, 2.0, factor=5.0) == 11
    assert scaled(scope, 2.0, 5.0) == 11


def test_inner_defaults_win_and_outer_ones_stay():
    outer = tf1.arg_scope(SCOPE, [scaled], factor=3.0, shift=1.0)
    inner = tf1.arg_scope(outer, [scaled], factor=5.0)
    assert scaled(inner, 2.0) == 11
    assert scaled(outer, 2.0) == 7


def test_defaults_travel_to_scopes_below_and_those_entered_from_there():
    scope = tf1.arg_scope(SCOPE, [scaled], factor=3.0)
    assert scaled(scope / "a" / "b", 2.0) == 6
    assert scaled(scope.variable_scope("a"), 2.0) == 6
    assert scaled(scope.variable_scope(None, "a"), 2.0) == 6
    assert scaled(scope.variable_scope(SCOPE), 2.0) == 6  # as slim's stack, which is beside scopes
    assert scaled(SCOPE.variable_scope(scope), 2.0) == 2
    assert scaled(scope.fold(1), 2.0) == 6
    assert scaled(scope.reuse_variables(), 2.0) == 6


def test_with_as_in_slim():
    with tf1.arg_scope(SCOPE, [scaled], factor=3.0) as scope:
        assert scaled(scope, 2.0) == 6
        with tf1.arg_scope(scope, [scaled], shift=1.0) as scope:
            assert scaled(scope, 2.0) == 7


def test_the_defaults_of_another_scope_replace_those_there_are():
    one = tf1.arg_scope(SCOPE, [scaled], factor=3.0)
    other = tf1.arg_scope(SCOPE, [scaled], shift=1.0)
    assert scaled(tf1.arg_scope(one, other), 2.0) == 3
    with pytest.raises(ValueError, match="kwargs must be empty"):
        tf1.arg_scope(one, other, factor=2.0)


@pytest.mark.parametrize(
    "transform",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: lambda s, x: jax.vmap(f, in_axes=(None, 0))(s, x[None])[0],
        lambda f: lambda s, x: jax.lax.scan(lambda c, _: (f(s, c), None), x, None, 1)[0],
        lambda f: lambda s, x: jax.lax.cond(True, f, lambda s, x: x, s, x),
        lambda f: lambda s, x: jax.jvp(lambda x: f(s, x), (x,), (x,))[0],
    ],
)
def test_defaults_cross_transforms(transform):
    def model(scope, x):
        scope = tf1.arg_scope(scope, [layers.dense], activation=jnp.tanh, use_bias=False)
        return transform(lambda s, x: layers.dense(s, x, 3, name="d"))(scope, x)

    x = jnp.ones((2, 3))
    declared = js.declare(model)(x)
    assert list(declared) == ["d/kernel"]
    tree = declared.init(jax.random.key(0))
    np.testing.assert_allclose(model(js.Scope(tree), x), jnp.tanh(x @ tree["d/kernel"]), rtol=1e-6)


def test_equal_defaults_are_traced_once_and_others_again():
    traces = []

    @jax.jit
    def block(scope, x):
        traces.append(1)
        return contrib.conv2d(scope, x, 1, 3, scope="c")

    tree = js.init(block)(jax.random.key(0), X)

    def apply(scale, **arguments):
        scope = tf1.arg_scope(
            js.Scope(tree),
            [contrib.conv2d],
            normalizer_params={"epsilon": 1e-3, "names": ["a", ("b",)]},
            weights_regularizer=regularizers.l2(scale),
            activation_fn=functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
            **arguments,
        )
        return block(scope, X)

    traces.clear()
    apply(0.1)
    apply(0.1)
    assert len(traces) == 1
    apply(0.2)
    assert len(traces) == 2
    apply(0.2, stride=1)
    assert len(traces) == 3
    apply(0.2, stride=True)  # which is another argument, though True == 1
    assert len(traces) == 4


def test_an_unknown_argument_is_an_error_at_once():
    with pytest.raises(
        TypeError, match=r"conv2d has no argument 'pading'.*It takes inputs,.*padding"
    ):
        tf1.arg_scope(SCOPE, [contrib.conv2d], pading="SAME")
    with pytest.raises(TypeError, match="scaled has no argument 'rate'"):
        tf1.arg_scope(SCOPE, [contrib.conv2d, scaled], rate=2)


def test_a_function_that_is_not_decorated_is_an_error():
    with pytest.raises(ValueError, match=r"dense is not decorated with @add_arg_scope"):
        tf1.arg_scope(SCOPE, [js.layers.dense], units=3)
    with pytest.raises(TypeError, match="must either be a list/tuple of functions or a scope"):
        tf1.arg_scope(SCOPE, scaled, factor=2.0)
    assert tf1.has_arg_scope(scaled)
    assert not tf1.has_arg_scope(js.layers.dense)


def test_a_traced_argument_is_an_error():
    with pytest.raises(TypeError, match="`factor` of scaled is traced"):
        jax.jit(lambda f: scaled(tf1.arg_scope(SCOPE, [scaled], factor=f), 2.0))(3.0)


def test_a_call_without_a_scope_says_where_it_goes():
    with pytest.raises(js.ScopeError, match=r"dense was called without a scope.*dense\(scope, x"):
        layers.dense(jnp.ones((2, 2)), 3)


def test_default_names_are_counted_across_arg_scopes():
    def model(scope, x):
        x = layers.dense(scope, x, 2)
        x = layers.dense(tf1.arg_scope(scope, [layers.dense], use_bias=False), x, 2)
        return layers.dense(scope, x, 2)

    names = list(js.declare(model)(jnp.ones((2, 2))))
    assert names == [
        "dense/kernel",
        "dense/bias",
        "dense_1/kernel",
        "dense_2/kernel",
        "dense_2/bias",
    ]


def test_a_scope_with_default_arguments_is_refused_by_export():
    scope = tf1.arg_scope(js.Scope({"w": jnp.ones(2)}), [scaled], factor=2.0)
    exported = jax.export.export(jax.jit(lambda s: s["w"]))(scope)
    with pytest.raises(js.ScopeError, match="default arguments of layers"):
        exported.serialize()


def test_a_function_with_arguments_of_any_name_takes_any():
    @tf1.add_arg_scope
    def passed_on(vs, x, **kwargs):
        return scaled(vs, x, **kwargs)

    assert passed_on(tf1.arg_scope(SCOPE, [passed_on], factor=4.0), 2.0) == 8
    assert passed_on.__name__ == "passed_on"
