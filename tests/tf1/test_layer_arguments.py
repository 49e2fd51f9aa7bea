"""Arguments of `tf1.layers` and `tf1.contrib` that can't be: the errors name layer and argument."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers as init
from jscope.tf1 import contrib, layers

X = jnp.ones((2, 6, 8, 3))


def negative(size, length, argument, axis, window=None):
    window = window or size
    return (
        f"Negative dimension size caused by subtracting {window} from {length}: the window, of "
        f"{argument} {size}, is larger than x of shape (2, 6, 8, 3) along spatial axis {axis}. "
        f"Write padding='SAME', or a smaller {argument}."
    )


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            lambda s: layers.conv2d(s, X, 4, 7),
            "conv in the scope 'conv2d': " + negative(7, 6, "kernel_size", 0),
        ),
        (
            lambda s: layers.conv2d(s, X, 4, (6, 9)),
            negative((6, 9), 8, "kernel_size", 1, 9),
        ),
        (
            lambda s: layers.conv2d(s, X, 4, 3, dilation_rate=3),
            negative(3, 6, "kernel_size", 0, 7),
        ),
        (
            lambda s: layers.separable_conv2d(s, X, 4, 7),
            "separable_conv in the scope 'separable_conv2d': " + negative(7, 6, "kernel_size", 0),
        ),
        (
            lambda s: contrib.conv2d(s, X, 4, 7, padding="VALID"),
            "conv2d in the scope 'Conv': " + negative(7, 6, "kernel_size", 0),
        ),
        (
            lambda s: contrib.separable_conv2d(s, X, 4, 7, padding="VALID"),
            "separable_conv2d in the scope 'SeparableConv2d': Negative dimension size",
        ),
        (
            lambda s: layers.max_pooling2d(s, X, 7, 1),
            "max_pooling2d: " + negative(7, 6, "pool_size", 0),
        ),
        (lambda s: contrib.avg_pool2d(s, X, 7), "avg_pool2d: " + negative(7, 6, "kernel_size", 0)),
        (
            lambda s: js.layers.avg_pool(X, pool_size=7),
            "avg_pool: " + negative(7, 6, "pool_size", 0),
        ),
    ],
)
def test_a_window_that_is_larger_than_its_input_is_an_error(layer, text):
    with pytest.raises(js.ShapeMismatchError, match=re.escape(text)):
        js.declare(layer)()


def test_a_window_of_the_size_of_its_input_gives_one_value():
    for layer in (
        lambda s: layers.conv2d(s, X, 4, (6, 8)),
        lambda s: layers.max_pooling2d(s, X, (6, 8), 1),
        lambda s: contrib.avg_pool2d(s, X, (6, 8)),
    ):
        shapes = []
        js.declare(lambda s, layer=layer, shapes=shapes: shapes.append(layer(s).shape))()
        assert shapes[0][1:3] == (1, 1)


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (lambda s: layers.conv2d(s, X, 4, 3, 0), "strides"),
        (lambda s: layers.conv2d(s, X, 4, (3, 0)), "kernel_size"),
        (lambda s: layers.conv2d(s, X, 4, 3, dilation_rate=0), "dilation_rate"),
        (lambda s: layers.max_pooling2d(s, X, 2, 0), "strides"),
        (lambda s: contrib.avg_pool2d(s, X, 2, (1, -1)), "strides"),
        (lambda s: layers.max_pooling2d(s, X, 0, 1), "pool_size"),
    ],
)
def test_sizes_and_strides_are_at_least_one(layer, argument):
    text = f"`{argument}` must be at least 1 along each spatial axis, got "
    with pytest.raises(js.ShapeMismatchError, match=text):
        js.declare(layer)()


@pytest.mark.parametrize(
    ("layer", "error", "text"),
    [
        (
            lambda s: layers.dense(s, X, 4, kernel_initializer="glorot_uniform"),
            js.InitializerError,
            "Variable 'dense/kernel': the initializer is the string 'glorot_uniform', not a "
            "function f(key, shape, dtype). Write initializer=init.glorot_uniform().",
        ),
        (
            lambda s: layers.dense(s, X, 4, kernel_initializer="glorot"),
            js.InitializerError,
            "the string 'glorot', not a function f(key, shape, dtype). close names: ",
        ),
        (
            lambda s: layers.dense(s, X, 4, activation=3),
            TypeError,
            "is a function, or the name of one in jax.nn, got 3 of type int. Write None",
        ),
        (lambda s: contrib.conv2d(s, X, 4, 3, activation_fn=3), TypeError, "got 3 of type int"),
        (
            lambda s: contrib.dropout(s, X, 0),
            ValueError,
            "`keep_prob` is the probability to keep a value, in (0, 1], got 0.",
        ),
        (
            lambda s: contrib.batch_norm(s, X, param_initializers={"bta": init.ones}),
            ValueError,
            "`param_initializers` of batch_norm has 'bta', which is not one of its parameters "
            "(close names: 'beta').",
        ),
        (
            lambda s: contrib.batch_norm(s, X, param_regularizers={"moving_mean": jnp.sum}),
            ValueError,
            "`param_regularizers` of batch_norm has 'moving_mean'",
        ),
    ],
)
def test_an_argument_that_cannot_be_is_named(layer, error, text):
    with pytest.raises(error, match=re.escape(text)):
        js.declare(layer)()


def dropped(noise_shape):
    scope = js.Scope({}, rngs=jax.random.key(0))
    return layers.dropout(scope, jnp.ones((20, 30)), 0.5, noise_shape, training=True)


def test_none_in_a_noise_shape_is_the_size_of_the_input():
    for given, axis in (((None, 1), 1), ((1, None), 0)):
        y = np.asarray(dropped(given))
        assert (np.ptp(y, axis=axis) == 0).all()
        assert np.ptp(y) == 2
    np.testing.assert_array_equal(dropped((None, 1)), dropped((20, 1)))
    np.testing.assert_array_equal(dropped((None,)), dropped((30,)))


@pytest.mark.parametrize("given", [(3, 1), (1, 1, 1), (20,)])
def test_a_noise_shape_that_does_not_broadcast_is_an_error(given):
    text = f"in the scope 'dropout' has noise_shape={given}, which doesn't broadcast to x of shape"
    with pytest.raises(js.ShapeMismatchError, match=re.escape(text)):
        dropped(given)


def test_variables_have_the_dtype_of_the_scope_whatever_that_of_the_input():
    x = jnp.ones((2, 3), jnp.float16)

    def model(scope, dtype):
        scope = scope.variable_scope(scope, dtype=dtype)
        y = contrib.layer_norm(scope, layers.dense(scope, x, 4))
        return layers.static_rnn(scope, layers.GRUCell(4), [y], dtype=y.dtype)

    for dtype in (jnp.float32, jnp.float16):
        declared = js.declare(model)(dtype)
        assert {spec.dtype for spec in declared.values()} == {np.dtype(dtype)}
