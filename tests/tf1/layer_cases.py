"""Small programs of TF1's layers: one text for TensorFlow and for jscope.

Each is a function of a namespace ``tf``, inputs and nothing else. In TensorFlow ``tf.dense`` is
``tf.layers.dense``; in jscope it is `tf1.layers.dense` with the scope filled in. ``tf.scope``
enters a variable scope. `make_tf1_layers` runs them in TensorFlow, and the tests in jscope.
"""

import functools
from collections.abc import Callable
from typing import Any

CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {}


def case(*shapes, name=None, **kwargs):
    """Register a program, and the shapes of its inputs."""

    def register(program):
        CASES[name or program.__name__] = (functools.partial(program, **kwargs), shapes)
        return program

    return register


# tf.layers.


@case((4, 3))
def two_denses_and_one_by_name(tf, x):
    x = tf.dense(x, 5, tf.relu)
    x = tf.dense(x, 4, activation=tf.tanh, use_bias=False)
    x = tf.dense(x, 3, name="head")
    return tf.dense(x, 2)


@case((2, 4, 3))
def dense_of_three_axes(tf, x):
    return tf.dense(x, 5, bias_initializer=tf.ones)


@case((4, 3))
def denses_in_scopes_that_are_entered_again(tf, x):
    with tf.scope("a"):
        x = tf.dense(tf.dense(x, 3), 3)
    with tf.scope("a", reuse=True):
        x = tf.dense(x, 3)  # a/dense again
    with tf.scope("b"):
        x = tf.dense(x, 3)
    with tf.scope(None, "dense"):  # counted with the layers
        x = tf.dense(x, 3)
    return tf.dense(x, 2)


@case((4, 3))
def dense_reused_by_its_name(tf, x):
    x = tf.dense(x, 3, name="d")
    x = tf.dense(x, 3, name="d", reuse=True)
    return tf.dense(x, 3, name="e", trainable=False)


@case((2, 9, 3))
def conv1d(tf, x):
    x = tf.conv1d(x, 4, 3, strides=2, padding="same", activation=tf.relu)
    return tf.conv1d(x, 2, 2, dilation_rate=2)


@case((2, 8, 7, 3))
def conv2d(tf, x):
    x = tf.conv2d(x, 4, (3, 2), strides=(2, 1), padding="SAME")
    x = tf.conv2d(x, 4, 3, dilation_rate=(2, 2), padding="same", use_bias=False)
    return tf.conv2d(x, 2, [2, 2], name="last")


@case((1, 5, 4, 6, 2))
def conv3d(tf, x):
    return tf.conv3d(x, 3, (2, 3, 2), (1, 2, 2))


@case((2, 4, 5, 3))
def conv2d_transpose(tf, x):
    x = tf.conv2d_transpose(x, 4, (4, 3), 2, padding="same", activation=tf.relu)
    return tf.conv2d_transpose(x, 2, 2, (3, 2))


@case((1, 2, 3, 2, 2))
def conv3d_transpose(tf, x):
    return tf.conv3d_transpose(x, 3, 2, 2)


@case((2, 7, 7, 3))
def separable_conv2d(tf, x):
    x = tf.separable_conv2d(x, 4, 3, padding="same", depth_multiplier=2, activation=tf.relu)
    return tf.separable_conv2d(x, 2, (2, 2), strides=(2, 2), use_bias=False)


@case((2, 7, 3))
def separable_conv1d(tf, x):
    return tf.separable_conv1d(x, 4, 3, depth_multiplier=2)


@case((2, 7, 6, 3))
def pools_of_two_axes(tf, x):
    a = tf.max_pooling2d(x, 2, 2)
    b = tf.average_pooling2d(x, [2, 2], [2, 2])
    c = tf.average_pooling2d(x, (3, 2), (2, 1), padding="same")
    return tf.flatten(a) + tf.flatten(b) + tf.flatten(c)[:, :27]


@case((2, 7, 3))
def pools_of_one_axis(tf, x):
    return tf.max_pooling1d(x, 3, 2) + tf.average_pooling1d(x, 3, 2)


@case((1, 4, 5, 4, 2))
def pools_of_three_axes(tf, x):
    return tf.max_pooling3d(x, 2, 2) + tf.average_pooling3d(x, 2, 2)


@case((4, 3), name="batch_normalization_of_two_axes", fused=None)
@case((2, 3, 4, 3), name="batch_normalization_of_four_axes", fused=None)
@case((2, 3, 4, 3), name="batch_normalization_not_fused", fused=False)
def batch_normalization(tf, x, fused):
    x = tf.batch_normalization(x, training=True, fused=fused)
    return tf.batch_normalization(x, training=True, momentum=0.9, scale=False, fused=fused)


@case((2, 3, 4, 3))
def batch_normalization_of_the_second_axis(tf, x):
    return tf.batch_normalization(x, axis=2, training=True, epsilon=1e-2)


@case((2, 3, 4, 3))
def batch_normalization_not_in_training(tf, x):
    x = tf.batch_normalization(x)
    return tf.batch_normalization(x, center=False, trainable=False, name="bn")


@case((2, 3, 4, 3))
def batch_normalization_with_a_tiny_epsilon(tf, x):
    return tf.batch_normalization(x * 1e-2, training=True, epsilon=1e-9)


# contrib.


@case((4, 3))
def fully_connected(tf, x):
    x = tf.fully_connected(x, 5)
    x = tf.fully_connected(x, 4, activation_fn=None, biases_initializer=None, scope="fc")
    x = tf.fully_connected(x, 3, normalizer_fn=tf.batch_norm, normalizer_params={"decay": 0.9})
    return tf.fully_connected(x, 2, tf.tanh, trainable=False)


@case((2, 8, 7, 3))
def contrib_conv2d(tf, x):
    x = tf.contrib_conv2d(x, 4, [3, 2], 2)
    x = tf.contrib_conv2d(x, 4, 3, rate=2, normalizer_fn=tf.batch_norm, scope="b")
    x = tf.contrib_conv2d(x, 4, 3, normalizer_fn=tf.layer_norm, activation_fn=tf.tanh)
    return tf.contrib_conv2d(x, 2, 2, padding="VALID", activation_fn=None)


@case((2, 4, 5, 3))
def contrib_conv2d_transpose(tf, x):
    return tf.contrib_conv2d_transpose(x, 4, [4, 3], 2, normalizer_fn=tf.batch_norm)


@case((2, 7, 7, 3))
def contrib_separable_conv2d(tf, x):
    x = tf.contrib_separable_conv2d(x, 4, [3, 3], depth_multiplier=2)
    x = tf.contrib_separable_conv2d(x, None, [3, 3], depth_multiplier=1, stride=2)
    return tf.contrib_separable_conv2d(x, 2, 2, 1, normalizer_fn=tf.batch_norm, scope="s")


@case((4, 3), name="contrib_batch_norm_of_two_axes", updates_collections="update_ops")
@case((4, 3), name="contrib_batch_norm_of_two_axes_in_place", updates_collections=None)
@case((2, 3, 3, 3), name="contrib_batch_norm_of_four_axes", updates_collections="update_ops")
@case((2, 3, 3, 3), name="contrib_batch_norm_of_four_axes_in_place", updates_collections=None)
@case((2, 5, 3), name="contrib_batch_norm_of_three_axes", updates_collections="update_ops")
@case((2, 5, 3), name="contrib_batch_norm_of_three_axes_in_place", updates_collections=None)
def contrib_batch_norm(tf, x, updates_collections):
    x = tf.batch_norm(x, scale=True, updates_collections=updates_collections)
    return tf.batch_norm(x, decay=0.9, epsilon=1e-2, updates_collections=updates_collections)


@case((2, 3, 3, 3))
def contrib_batch_norm_not_fused(tf, x):
    x = tf.batch_norm(x, scale=True, fused=False)
    return tf.batch_norm(x, is_training=False, activation_fn=tf.relu, scope="bn")


@case((2, 5, 3))
def layer_norm(tf, x):
    x = tf.layer_norm(x)
    x = tf.layer_norm(x, begin_norm_axis=-1)
    return tf.layer_norm(x, center=False, begin_params_axis=1, activation_fn=tf.tanh, scope="ln")


@case((2, 7, 6, 3))
def contrib_pools(tf, x):
    a = tf.flatten(tf.contrib_max_pool2d(x, [2, 2]))
    return a + tf.flatten(tf.contrib_avg_pool2d(x, 3, 2, padding="SAME"))[:, :27]


@case((4, 3))
def repeat_and_stack(tf, x):
    x = tf.repeat(x, 2, tf.fully_connected, 4, scope="fc")
    x = tf.repeat(x, 2, tf.fully_connected, 3)
    x = tf.stack(x, tf.fully_connected, [4, 3])
    return tf.stack(x, tf.fully_connected, [(4, tf.tanh), (2, None)], scope="out")


@case((2, 6, 6, 3))
def repeated_convolutions(tf, x):
    x = tf.repeat(x, 2, tf.contrib_conv2d, 2, [3, 3], scope="conv1")
    return tf.repeat(x, 2, tf.contrib_conv2d, 2, [3, 3])


@case((2, 6, 6, 3))
def bias_add(tf, x):
    return tf.bias_add(tf.bias_add(x, tf.relu, initializer=tf.ones), scope="b")


@case((2, 8, 8, 3))
def arguments_of_scopes(tf, x):
    with (
        tf.arg_scope(["contrib_conv2d"], padding="VALID", normalizer_fn=tf.batch_norm),
        tf.arg_scope(["batch_norm"], decay=0.9, scale=True),
        tf.arg_scope(["contrib_conv2d", "fully_connected"], activation_fn=tf.tanh) as saved,
    ):
        x = tf.contrib_conv2d(x, 3, 3)
        with tf.scope("block"):
            x = tf.contrib_conv2d(x, 3, 3, padding="SAME", normalizer_fn=None)
            with tf.arg_scope(["contrib_conv2d"], normalizer_params={"center": False}):
                x = tf.contrib_conv2d(x, 3, 3)
    x = tf.contrib_conv2d(x, 2, 3)
    with tf.arg_scope(saved):
        x = tf.contrib_conv2d(x, 2, 2)
        return tf.fully_connected(tf.flatten(x), 2)


# RNNs.


@case((2, 5, 3))
def basic_lstm(tf, x):
    cell = tf.cell("BasicLSTMCell", 4)
    return tf.dynamic_rnn(cell, x, dtype=tf.float32)


@case((2, 5, 3))
def basic_lstm_with_lengths(tf, x):
    cell = tf.cell("BasicLSTMCell", 4, forget_bias=0.5, activation=tf.relu)
    return tf.dynamic_rnn(cell, x, [3, 5], dtype=tf.float32, scope="encoder")


@case((5, 2, 3))
def basic_lstm_with_time_in_front(tf, x):
    cell = tf.cell("BasicLSTMCell", 4, state_is_tuple=False)
    return tf.dynamic_rnn(cell, x, [2, 4], time_major=True, dtype=tf.float32)


@case((2, 3, 3))
def lstm_with_everything(tf, x):
    cell = tf.cell(
        "LSTMCell", 4, use_peepholes=True, cell_clip=0.3, num_proj=3, proj_clip=0.4, name="lstm"
    )
    return tf.dynamic_rnn(cell, x, dtype=tf.float32)


@case((2, 3, 3))
def lstm_and_gru_and_basic_rnn(tf, x):
    x, _ = tf.dynamic_rnn(tf.cell("LSTMCell", 4), x, dtype=tf.float32, scope="a")
    x, state = tf.dynamic_rnn(tf.cell("GRUCell", 3), x, dtype=tf.float32, scope="b")
    return tf.dynamic_rnn(tf.cell("BasicRNNCell", 3), x, initial_state=state, scope="c")


@case((2, 3, 3))
def multi_rnn(tf, x):
    cells = [tf.cell("BasicLSTMCell", 4), tf.cell("GRUCell", 3)]
    cells.append(tf.cell("DropoutWrapper", tf.cell("BasicLSTMCell", 2)))
    return tf.dynamic_rnn(tf.cell("MultiRNNCell", cells), x, [3, 1], dtype=tf.float32)


@case((2, 3, 3))
def multi_rnn_of_one_cell_twice(tf, x):
    cell = tf.cell("GRUCell", 3)
    return tf.dynamic_rnn(tf.cell("MultiRNNCell", [cell, cell]), x, dtype=tf.float32)


@case((2, 3), (2, 3))
def static_rnn(tf, x, y):
    cell = tf.cell("MultiRNNCell", [tf.cell("BasicLSTMCell", 3), tf.cell("BasicLSTMCell", 2)])
    return tf.static_rnn(cell, [x, y], dtype=tf.float32, sequence_length=[1, 2])


@case((2, 4, 3))
def bidirectional_rnn(tf, x):
    cells = tf.cell("GRUCell", 3), tf.cell("BasicLSTMCell", 2)
    return tf.bidirectional_dynamic_rnn(*cells, x, [4, 2], dtype=tf.float32)


@case((2, 4, 3))
def bidirectional_rnn_of_whole_sequences(tf, x):
    cells = tf.cell("GRUCell", 3), tf.cell("GRUCell", 2)
    return tf.bidirectional_dynamic_rnn(*cells, x, dtype=tf.float32, scope="both")


@case((2, 3))
def a_loop_of_the_programs_own(tf, x):
    cell = tf.cell("BasicLSTMCell", 3)
    state = cell.zero_state(2, tf.float32)
    with tf.scope("steps"):
        for _ in range(3):
            x, state = tf.called(cell, x, state)
    other = tf.cell("BasicLSTMCell", 3)
    with tf.scope("steps_of_others"):
        x, _ = tf.called(other, x, state)
        return tf.called(tf.cell("BasicLSTMCell", 3), x, state)
