"""Layers against TensorFlow's own operations: values and gradients, from the same variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import layers

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

CASES = {}


def case(layer, x, **hyperparameters):
    """Register a TensorFlow function of (variables, x) as the reference of a layer."""

    def register(reference):
        CASES[reference.__name__] = (
            functools.partial(layer, **hyperparameters),
            np.random.RandomState(0).normal(size=x).astype(np.float32),
            reference,
        )
        return reference

    return register


@case(layers.dense, (4, 5, 3), units=6, activation=jax.nn.relu)
def dense(v, x):
    return tf.nn.relu(tf.einsum("btf,fu->btu", x, v["kernel"]) + v["bias"])


@case(layers.conv, (2, 9, 3), filters=4, kernel_size=3, strides=2, padding="same")
def conv1d(v, x):
    return tf.nn.conv1d(x, v["kernel"], 2, "SAME") + v["bias"]


@case(layers.conv, (2, 8, 7, 3), filters=4, kernel_size=(3, 2), dilation_rate=2)
def conv2d_dilated(v, x):
    return tf.nn.atrous_conv2d(x, v["kernel"], 2, "VALID") + v["bias"]


@case(layers.conv, (2, 8, 7, 4), filters=6, kernel_size=3, groups=2, padding="SAME", use_bias=False)
def conv2d_grouped(v, x):
    parts = zip(tf.split(x, 2, -1), tf.split(v["kernel"], 2, -1))
    return tf.concat([tf.nn.conv2d(a, k, 1, "SAME") for a, k in parts], -1)


@case(layers.conv, (2, 8, 7, 3), filters=4, kernel_size=(3, 2), dilation_rate=2, padding="SAME")
def conv2d_dilated_same(v, x):
    return tf.nn.atrous_conv2d(x, v["kernel"], 2, "SAME") + v["bias"]


@case(layers.conv, (2, 8, 7, 3), filters=6, kernel_size=3, groups=3)
def depthwise_conv2d(v, x):
    kernel = tf.reshape(v["kernel"], (3, 3, 3, 2))
    return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID") + v["bias"]


@case(layers.conv, (1, 5, 4, 6, 2), filters=3, kernel_size=(2, 3, 2), strides=(1, 2, 2))
def conv3d(v, x):
    return tf.nn.conv3d(x, v["kernel"], (1, 1, 2, 2, 1), "VALID") + v["bias"]


@case(layers.conv_transpose, (2, 5, 3), filters=4, kernel_size=3, strides=2)
def conv1d_transpose(v, x):
    return tf.nn.conv1d_transpose(x, v["kernel"], (2, 11, 4), 2, "VALID") + v["bias"]


@case(layers.conv_transpose, (2, 4, 5, 3), filters=2, kernel_size=(4, 3), strides=2, padding="SAME")
def conv2d_transpose(v, x):
    return tf.nn.conv2d_transpose(x, v["kernel"], (2, 8, 10, 2), 2, "SAME") + v["bias"]


@case(layers.conv_transpose, (2, 4, 5, 3), filters=2, kernel_size=(2, 1), strides=(3, 2))
def conv2d_transpose_with_gaps(v, x):
    shape = (2, 12, 10, 2)
    return tf.nn.conv2d_transpose(x, v["kernel"], shape, (3, 2), "VALID") + v["bias"]


@case(layers.conv_transpose, (2, 4, 5, 3), filters=2, kernel_size=(2, 5), strides=3, padding="SAME")
def conv2d_transpose_with_gaps_same(v, x):
    return tf.nn.conv2d_transpose(x, v["kernel"], (2, 12, 15, 2), 3, "SAME") + v["bias"]


@case(layers.conv_transpose, (1, 3, 4, 2, 2), filters=3, kernel_size=2, strides=(2, 1, 1))
def conv3d_transpose(v, x):
    shape = (1, 6, 5, 3, 3)
    return tf.nn.conv3d_transpose(x, v["kernel"], shape, (2, 1, 1), "VALID") + v["bias"]


@case(layers.layer_norm, (4, 5, 3))
def layer_norm(v, x):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, v["beta"], v["gamma"], 1e-3)


@case(layers.layer_norm, (4, 5, 3), axis=(1, 2), epsilon=1e-12)
def layer_norm_of_contrib(v, x):
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, v["beta"], v["gamma"], 1e-12)


@case(layers.batch_norm, (4, 5, 3), training=False)
def batch_norm(v, x):
    return tf.nn.batch_normalization(
        x, v["moving_mean"], v["moving_variance"], v["beta"], v["gamma"], 1e-3
    )


@case(layers.batch_norm, (4, 5, 3), training=False, center=False, axis=1)
def batch_norm_of_another_axis(v, x):
    wide = {name: value[None, :, None] for name, value in v.items()}
    return tf.nn.batch_normalization(
        x, wide["moving_mean"], wide["moving_variance"], None, wide["gamma"], 1e-3
    )


@case(lambda scope, x: layers.lstm_cell(scope, x[:, :3], (x[:, 3:7], x[:, 7:]))[1], (5, 11))
def lstm_cell(v, x):
    cell = keras.layers.LSTMCell(4)
    cell.build((5, 3))
    i, j, f, o = tf.split(v["kernel"], 4, 1)  # Keras: i, f, j, o
    kernel = tf.concat([i, f, j, o], 1)
    i, j, f, o = tf.split(v["bias"], 4)
    bias = tf.concat([i, f + 1.0, j, o], 0)
    _, (h, c) = stateless(cell, [kernel[:3], kernel[3:], bias], x[:, :3], [x[:, 7:], x[:, 3:7]])
    return c, h


@case(lambda scope, x: layers.gru_cell(scope, x[:, :3], x[:, 3:]), (5, 7))
def gru_cell(v, x):
    cell = keras.layers.GRUCell(4, reset_after=False)
    cell.build((5, 3))
    r, u = tf.split(v["gates/kernel"], 2, 1)  # Keras: u, r, candidate
    kernel = tf.concat([u, r, v["candidate/kernel"]], 1)
    r, u = tf.split(v["gates/bias"], 2)
    bias = tf.concat([u, r, v["candidate/bias"]], 0)
    return stateless(cell, [kernel[:3], kernel[3:], bias], x[:, :3], x[:, 3:])[0]


def stateless(cell, values, *inputs):
    return cell.stateless_call(values, cell.non_trainable_variables, *inputs)[0]


@case(layers.embedding, (4, 3), input_dim=7, output_dim=2)
def embedding(v, ids):
    return tf.nn.embedding_lookup(v["embeddings"], ids)


@case(lambda scope, x: layers.max_pool(x, pool_size=2), (2, 8, 6, 3))
def max_pool(v, x):
    return tf.nn.max_pool2d(x, 2, 2, "VALID")


@case(lambda scope, x: layers.max_pool(x, pool_size=3, strides=2, padding="same"), (2, 8, 3))
def max_pool_1d(v, x):
    return tf.nn.max_pool1d(x, 3, 2, "SAME")


@case(
    lambda scope, x: layers.avg_pool(x, pool_size=(3, 2), strides=2, padding="SAME"), (2, 8, 6, 3)
)
def avg_pool(v, x):
    return tf.nn.avg_pool2d(x, (3, 2), 2, "SAME")


@case(lambda scope, x: layers.avg_pool(x, pool_size=4, strides=3, padding="SAME"), (2, 9, 3))
def avg_pool_1d(v, x):
    return tf.nn.avg_pool1d(x, 4, 3, "SAME")


@case(lambda scope, x: layers.avg_pool(x, pool_size=2), (1, 4, 6, 4, 3))
def avg_pool_3d(v, x):
    return tf.nn.avg_pool3d(x, 2, 2, "VALID")


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_tensorflows(name):
    layer, x, reference = CASES[name]
    if name == "embedding":
        x = np.abs(x * 2).astype(np.int32)
    variables = js.map_named(js.init(layer)(jax.random.key(1), x), lambda name, value: value + 0.25)

    def total(variables, x):
        out = layer(js.Scope(variables), x)
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(out)), out

    arguments = (0,) if name == "embedding" else (0, 1)
    gradients, out = jax.jit(jax.grad(total, arguments, has_aux=True))(variables, x)
    v = {key: tf.Variable(np.asarray(value)) for key, value in variables.items()}
    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        expected = reference(v, x)
        loss = sum(tf.reduce_sum(tf.sin(y)) for y in tf.nest.flatten(expected))
    of_variables, *of_x = tape.gradient(loss, (v, x)[: len(arguments)])
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
    jax.tree.map(close, jax.tree.leaves(out), [y.numpy() for y in tf.nest.flatten(expected)])
    for key, value in gradients[0].items():
        close(value, tf.convert_to_tensor(of_variables[key]).numpy(), err_msg=key)
    if of_x:
        close(gradients[1], of_x[0].numpy())


def test_batch_norm_trains_as_keras_does():
    x = np.random.RandomState(0).normal(2.0, 3.0, (8, 5, 3)).astype(np.float32)
    layer = keras.layers.BatchNormalization()
    layer.build(x.shape)
    model = functools.partial(layers.batch_norm, training=True)
    variables = js.init(model)(jax.random.key(0), x)

    def total(x, variables):
        y, updates = js.with_updates(model)(variables, x)
        return jnp.sum(jnp.sin(y)), (y, updates)

    for _ in range(3):
        with tf.GradientTape() as tape:
            watched = tf.Variable(x)
            expected = layer(watched, training=True)
            loss = tf.reduce_sum(tf.sin(expected))

        gradient, (y, updates) = jax.grad(total, has_aux=True)(x, variables)
        np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            gradient, tape.gradient(loss, watched).numpy(), rtol=1e-4, atol=1e-5
        )
        variables = variables | updates
    np.testing.assert_allclose(variables["moving_mean"], layer.moving_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        variables["moving_variance"], layer.moving_variance.numpy(), rtol=1e-5
    )


def test_the_lstm_of_tensorflow_1():
    """Against the kernel behind ``tf.contrib.rnn.LSTMBlockCell``, which takes TF1's weights."""
    rng = np.random.RandomState(2)
    x, c, h = (rng.normal(size=(5, n)).astype(np.float32) for n in (3, 4, 4))
    weights, bias = rng.normal(size=(7, 16)).astype(np.float32), rng.normal(size=16)
    bias = bias.astype(np.float32)
    zeros = np.zeros(4, np.float32)
    expected = tf.raw_ops.LSTMBlockCell(
        x=x,
        cs_prev=c,
        h_prev=h,
        w=weights,
        wci=zeros,
        wcf=zeros,
        wco=zeros,
        b=bias,
        forget_bias=1.0,
    )
    scope = js.Scope({"kernel": weights, "bias": bias})
    out, (new_c, new_h) = layers.lstm_cell(scope, x, (c, h))
    np.testing.assert_allclose(out, expected.h.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_c, expected.cs.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out, new_h)


def test_the_gru_of_tensorflow_1():
    """Against the kernel behind ``tf.contrib.rnn.GRUBlockCellV2``, which takes TF1's weights."""
    rng = np.random.RandomState(2)
    shapes = {"gates/kernel": (7, 8), "gates/bias": (8,), "candidate/kernel": (7, 4)}
    v = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    v["candidate/bias"] = rng.normal(size=4).astype(np.float32)
    x, h = (rng.normal(size=(5, n)).astype(np.float32) for n in (3, 4))
    expected = tf.raw_ops.GRUBlockCell(
        x=x,
        h_prev=h,
        w_ru=v["gates/kernel"],
        w_c=v["candidate/kernel"],
        b_ru=v["gates/bias"],
        b_c=v["candidate/bias"],
    )
    np.testing.assert_allclose(
        layers.gru_cell(js.Scope(v), x, h), expected.h.numpy(), rtol=1e-5, atol=1e-6
    )


def test_the_statistics_are_those_of_the_fused_kernel_but_for_n_minus_1():
    x = np.random.RandomState(3).normal(2.0, 3.0, (8, 5, 5, 3)).astype(np.float32)
    gamma, beta = np.array([1.0, 2.0, -1.0], np.float32), np.array([0.0, 1.0, 2.0], np.float32)
    v = {"gamma": gamma, "beta": beta}
    state = {"moving_mean": np.zeros(3, np.float32), "moving_variance": np.ones(3, np.float32)}
    model = functools.partial(layers.batch_norm, training=True)

    def total(v, x):
        y, updates = js.with_updates(model)({**v, **state}, x)
        return jnp.sum(jnp.sin(y)), (y, updates)

    gradients, (y, updates) = jax.grad(total, (0, 1), has_aux=True)(v, x)
    watched = [tf.Variable(value) for value in (gamma, beta, x)]
    with tf.GradientTape() as tape:
        expected, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            watched[2], watched[0], watched[1], epsilon=1e-3
        )
        loss = tf.reduce_sum(tf.sin(expected))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(y, expected.numpy())
    ours = (gradients[0]["gamma"], gradients[0]["beta"], gradients[1])
    for one, other in zip(ours, tape.gradient(loss, watched), strict=True):
        close(one, other.numpy())
    n = 8 * 5 * 5
    close(updates["moving_mean"], 0.01 * mean.numpy())
    close(updates["moving_variance"], 0.99 + 0.01 * variance.numpy() * (n - 1) / n)
