"""Training goes on where TensorFlow stopped, and TensorFlow goes on where it stopped here.

Twelve steps in TensorFlow, six there and six here, and six here and six there are the same:
variables, batch norm's moving statistics, slots, moving averages, ``global_step``; and the
checkpoints have the same names.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jscope as js
from jscope import initializers as init
from jscope import tf_checkpoint
from jscope.tf1 import train

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(16, 4)).astype(np.float32)
Y = RANDOM.normal(size=(16, 2)).astype(np.float32)
AVERAGES = "**/ExponentialMovingAverage"

OPTIMIZERS = {
    "gradient descent": lambda t: t.GradientDescentOptimizer(0.1),
    "momentum": lambda t: t.MomentumOptimizer(0.05, 0.9),
    "Nesterov": lambda t: t.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
    "Adam": lambda t: t.AdamOptimizer(0.01),
    "Adam, custom name": lambda t: t.AdamOptimizer(0.01, name="Mine"),
    "Adagrad": lambda t: t.AdagradOptimizer(0.1),
    "RMSProp": lambda t: t.RMSPropOptimizer(0.01, momentum=0.5),
    "RMSProp, centered": lambda t: t.RMSPropOptimizer(0.01, momentum=0.5, centered=True),
    "Adadelta": lambda t: t.AdadeltaOptimizer(1.0, epsilon=1e-4),
    "Ftrl": lambda t: t.FtrlOptimizer(0.1, l1_regularization_strength=0.01),
}


class AdamWeightDecay(tf.train.Optimizer):
    """BERT's AdamW, after its description: TensorFlow never had it."""

    def __init__(self, rate, weight_decay_rate, exclude_from_weight_decay):
        super().__init__(False, "AdamWeightDecayOptimizer")
        self.rate, self.decay, self.exclude = rate, weight_decay_rate, exclude_from_weight_decay

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        updates = []
        for g, w in grads_and_vars:
            m, v = (
                tf.get_variable(
                    f"{w.op.name}/{slot}",
                    w.shape,
                    trainable=False,
                    initializer=tf.zeros_initializer(),
                )
                for slot in ("adam_m", "adam_v")
            )
            next_m = 0.9 * m + (1.0 - 0.9) * g
            next_v = 0.999 * v + (1.0 - 0.999) * tf.square(g)
            step = next_m / (tf.sqrt(next_v) + 1e-6)
            if not any(part in w.op.name for part in self.exclude):
                step += self.decay * w
            with tf.control_dependencies([step]):
                updates += [m.assign(next_m), v.assign(next_v), w.assign(w - self.rate * step)]
        with tf.control_dependencies(updates):
            return tf.assign_add(global_step, 1)


def bert(t):
    make = AdamWeightDecay if t is tf.train else t.AdamWeightDecayOptimizer
    return make(0.01, weight_decay_rate=0.1, exclude_from_weight_decay=["bn"])


OPTIMIZERS["BERT's AdamW"] = bert


class Theirs:
    """The program in TensorFlow: batch norm between two layers, and moving averages."""

    def __init__(self, make):
        self.graph = tf.Graph()
        with self.graph.as_default():
            step = tf.train.get_or_create_global_step()
            with tf.variable_scope("net"):
                h = X @ tf.get_variable("w", (4, 8))
                with tf.variable_scope("bn"):
                    h, updates = self.batch_norm(h)
                out = tf.matmul(tf.nn.relu(h), tf.get_variable("v", (8, 2)))
            loss = tf.reduce_mean((out - Y) ** 2)
            ema = tf.train.ExponentialMovingAverage(0.9, step)
            with tf.control_dependencies(updates):
                update = make(step).minimize(loss, step)
            with tf.control_dependencies([update]):
                self.update = ema.apply(tf.trainable_variables())
            self.saver = tf.train.Saver()
            self.session = tf.Session()
            tf.set_random_seed(1)
            self.session.run(tf.global_variables_initializer())

    def batch_norm(self, h):
        mean, variance = tf.nn.moments(h, [0])
        updates = []
        for name, now, first in (("moving_mean", mean, 0.0), ("moving_variance", variance, 1.0)):
            moving = tf.get_variable(
                name, (8,), initializer=tf.constant_initializer(first), trainable=False
            )
            updates.append(tf.assign(moving, moving * 0.9 + now * 0.1))
        gamma = tf.get_variable("gamma", (8,), initializer=tf.ones_initializer())
        return gamma * (h - mean) * tf.rsqrt(variance + 1e-3), updates

    def run(self, steps):
        for _ in range(steps):
            self.session.run(self.update)

    def save(self, path):
        with self.graph.as_default():
            self.saver.save(self.session, str(path), write_meta_graph=False)

    def restore(self, path):
        with self.graph.as_default():
            self.saver.restore(self.session, str(path))


def net(scope, x):
    with scope.variable_scope("net") as s:
        h = x @ s.get_variable("w", (4, 8))
        with s.variable_scope("bn") as bn:
            mean, variance = jnp.mean(h, 0), jnp.var(h, 0)
            for name, now, first in (
                ("moving_mean", mean, init.zeros),
                ("moving_variance", variance, init.ones),
            ):
                old = bn.get_variable(name, (8,), initializer=first, trainable=False)
                bn.assign(name, old * 0.9 + now * 0.1)
            gamma = bn.get_variable("gamma", (8,), initializer=init.ones)
            h = gamma * (h - mean) * jax.lax.rsqrt(variance + 1e-3)
        return jax.nn.relu(h) @ s.get_variable("v", (8, 2))


@pytest.fixture(autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def a_step(optimizer):
    ema = js.ExponentialMovingAverage(0.9)

    @jax.jit
    def step(training):
        params, state, opt_state, number = training

        def loss(params):
            out, updates = js.with_updates(net)(js.Scope(params, state), X)
            return jnp.mean((out - Y) ** 2), updates

        gradients, updates = jax.grad(loss, has_aux=True)(params)
        changes, opt_state = optimizer.update(gradients, opt_state, params)
        params = optax.apply_updates(params, changes)
        averages = js.select(state, AVERAGES)
        averages = ema.apply(averages, params, num_updates=number + 1)
        return train.TrainingState(params, state | updates | averages, opt_state, number + 1)

    return step


def six(step, training):
    for _ in range(6):
        training = step(training)
    return training


def stored(path):
    checkpoint = tf_checkpoint.open(str(path))
    return {name: checkpoint[name].read() for name in checkpoint}


def assert_same(path, expected, most=1e-5):
    ours, theirs = stored(path), stored(expected)
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        largest = np.max(np.abs(value.astype(np.float64)))
        off = np.max(np.abs(ours[name].astype(np.float64) - value)) / max(largest, 1e-30)
        assert off <= most, (name, off)


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_twelve_steps_are_six_and_six_in_both_directions(case, tmp_path):
    theirs = Theirs(lambda step: OPTIMIZERS[case](tf.train))
    paths = {n: str(tmp_path / n) for n in ("zero", "six", "twelve", "ours6", "ours12", "back")}
    theirs.save(paths["zero"])
    theirs.run(6)
    theirs.save(paths["six"])
    theirs.run(6)
    theirs.save(paths["twelve"])

    optimizer = OPTIMIZERS[case](train)
    declared = js.declare(js.with_updates(net))(X)
    # Six there, six here.
    training = train.restore(declared, paths["six"], optimizer, others=AVERAGES)
    assert int(training.global_step) == int(training.opt_state.step) == 6
    step = a_step(optimizer)
    with jax.checking_leaks():
        jax.eval_shape(step, training)
    train.save(six(step, training), paths["ours12"], optimizer)
    # Adadelta's updates feed back into its slots, and with them the last bits of either sum.
    most = 5e-5 if case == "Adadelta" else 1e-5
    assert_same(paths["ours12"], paths["twelve"], most)
    # Six here, six there.
    training = train.restore(declared, paths["zero"], optimizer, others=AVERAGES)
    train.save(six(step, training), paths["ours6"], optimizer)
    assert_same(paths["ours6"], paths["six"], most)
    theirs.restore(paths["ours6"])
    theirs.run(6)
    theirs.save(paths["back"])
    assert_same(paths["back"], paths["twelve"], most)
