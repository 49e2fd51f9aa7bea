"""Deep Q-learning in TensorFlow 1: three functions that share variables by reuse.

Written from the papers and from the names of the variables in OpenAI's Baselines.
"""

import tensorflow.compat.v1 as tf


def fully_connected(x, units):
    """``tf.contrib.layers.fully_connected`` without activation, which newer versions lack."""
    with tf.variable_scope(None, "fully_connected"):
        w = tf.get_variable(
            "weights", [x.shape[-1], units], initializer=tf.glorot_uniform_initializer()
        )
        b = tf.get_variable("biases", [units], initializer=tf.zeros_initializer())
    return tf.matmul(x, w) + b


def q_func(observations, hidden, actions, scope, reuse=None):
    with tf.variable_scope(scope, reuse=reuse):
        x = observations
        for units in hidden:
            x = tf.nn.relu(fully_connected(x, units))
        return fully_connected(x, actions)


def act(observations, eps, hidden, actions):
    """The best actions, of which each is random with the probability `deepq/eps`."""
    with tf.variable_scope("deepq"):
        variable = tf.get_variable("eps", [], initializer=tf.zeros_initializer(), trainable=False)
        rate = variable.assign(tf.where(eps >= 0, eps, variable))
        best = tf.argmax(q_func(observations, hidden, actions, "q_func"), axis=1)
        random = tf.random_uniform(tf.shape(best), 0, actions, dtype=tf.int64)
        return tf.where(tf.random_uniform(tf.shape(best)) < rate, random, best)


def td_errors(batch, hidden, actions, gamma, train=None):
    """The errors; or with the arguments of `train_op`, the operation that trains.

    As in Baselines the optimizer is applied in the scope that the errors are computed in. It is
    opened for the second time, so it has another name for operations, and Adam's powers have it.
    """
    with tf.variable_scope("deepq"):
        values = q_func(batch["obs_t"], hidden, actions, "q_func", reuse=True)
        target = q_func(batch["obs_tp1"], hidden, actions, "target_q_func")
        online = q_func(batch["obs_tp1"], hidden, actions, "q_func", reuse=True)
        taken = tf.reduce_sum(values * tf.one_hot(batch["action"], actions), 1)
        best = tf.one_hot(tf.argmax(online, 1), actions)
        outcome = tf.reduce_sum(target * best, 1)
        outcome = batch["reward"] + gamma * (1.0 - batch["done"]) * outcome
        errors = taken - tf.stop_gradient(outcome)
        return errors if train is None else train_op(errors, *train)


def loss_of(errors):
    size = tf.abs(errors)
    return tf.reduce_mean(tf.where(size < 1, 0.5 * tf.square(errors), size - 0.5))


def train_op(errors, rate, norm):
    """One step of Adam, with a limit of each gradient's norm."""
    optimizer = tf.train.AdamOptimizer(rate)
    variables = tf.trainable_variables("deepq/q_func/")
    grads = optimizer.compute_gradients(loss_of(errors), variables)
    return optimizer.apply_gradients([(tf.clip_by_norm(g, norm), v) for g, v in grads])


def update_target():
    online, target = (
        sorted(tf.trainable_variables(f"deepq/{scope}/"), key=lambda v: v.name)
        for scope in ("q_func", "target_q_func")
    )
    return tf.group(*(new.assign(old) for old, new in zip(online, target, strict=True)))
