"""`examples/tf1/dqn.py` is Deep Q-learning: against TensorFlow's program, from its values."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf
from programs import assert_close, example, train_twin, values
from twins import dqn as twin

from jscope import tf1

dqn = example("dqn")
SIZES = dqn.HIDDEN, dqn.ACTIONS
OBSERVATIONS = 7


@pytest.fixture(scope="module", autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def batch(step):
    """Transitions with outcomes so large that gradients are clipped, in half of the steps."""
    random = np.random.default_rng(step)
    scale = 10.0 if step % 2 else 100.0
    return {
        "obs_t": random.normal(0, scale, (16, OBSERVATIONS)).astype(np.float32),
        "action": random.integers(0, dqn.ACTIONS, 16).astype(np.int32),
        "reward": random.normal(0, 1, 16).astype(np.float32),
        "obs_tp1": random.normal(0, scale, (16, OBSERVATIONS)).astype(np.float32),
        "done": random.integers(0, 2, 16).astype(np.float32),
    }


def constants(step):
    return {name: tf.constant(value) for name, value in batch(step).items()}


def errors_of(data, train=None):
    twin.act(data["obs_t"], 0.0, *SIZES)
    return twin.td_errors(data, *SIZES, dqn.GAMMA, train)


def graph(data):
    """Training that counts ``global_step``, which says what the batch is."""
    with tf.control_dependencies([errors_of(data, (1e-3, dqn.GRAD_NORM))]):
        return tf.train.get_global_step().assign_add(1)


def train_ours(start, steps, path):
    declared = dqn.declare(OBSERVATIONS)
    training = tf1.train.restore(declared, start, dqn.OPTIMIZER, var_list=dqn.ONLINE)
    for _ in range(steps):
        training = dqn.train_step(training, batch(int(training.global_step)))
    return tf1.train.save(training, path, dqn.OPTIMIZER)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """TensorFlow's checkpoints; the two networks begin with different values."""
    return train_twin(graph, batch, None, (0, 5, 10), tmp_path_factory.mktemp("dqn"))


@pytest.fixture(scope="module")
def variables(theirs):
    training = tf1.train.restore(
        dqn.declare(OBSERVATIONS), theirs[0], dqn.OPTIMIZER, var_list=dqn.ONLINE
    )
    return training.params | training.state


def test_the_functions_together_have_the_names_and_order_of_baselines():
    with tf.Graph().as_default():
        errors_of(constants(0))
        theirs = [(v.op.name, tuple(v.shape), v.trainable) for v in tf.global_variables()]
    declared = dqn.declare(OBSERVATIONS)
    assert [(name, s.shape, s.trainable) for name, s in declared.items()] == theirs
    assert [name for name in declared if "target" not in name] == [
        "deepq/eps",
        "deepq/q_func/fully_connected/weights",
        "deepq/q_func/fully_connected/biases",
        "deepq/q_func/fully_connected_1/weights",
        "deepq/q_func/fully_connected_1/biases",
    ]


def test_errors_gradients_and_actions_are_tensorflow_s(theirs, variables):
    with tf.Graph().as_default(), tf.Session() as session:
        data = constants(1)
        actions = twin.act(data["obs_t"], 0.0, *SIZES)
        errors = twin.td_errors(data, *SIZES, dqn.GAMMA)
        loss, online = twin.loss_of(errors), tf.trainable_variables("deepq/q_func/")
        grads = tf.gradients(loss, online)
        tf.train.Saver().restore(session, theirs[0])
        expected = session.run([actions, errors, loss])
        their_grads = dict(zip((v.op.name for v in online), session.run(grads)))
    act = jax.jit(js.with_updates(dqn.act))
    chosen, updates = act(variables, batch(1)["obs_t"], 0.0, rngs=jax.random.key(0))
    np.testing.assert_array_equal(chosen, expected[0])
    assert len(np.unique(chosen)) > 1
    assert dict(updates) == {"deepq/eps": 0.0}
    errors = jax.jit(lambda tree: dqn.td_errors(js.Scope(tree), batch(1)))(variables)
    np.testing.assert_allclose(errors, expected[1], rtol=1e-5, atol=1e-5)
    online, rest = js.partition(variables, "deepq/q_func/**")
    loss, our_grads = jax.jit(jax.value_and_grad(dqn.loss_of))(online, rest, batch(1))
    np.testing.assert_allclose(loss, expected[2], rtol=1e-5)
    assert_close(our_grads, their_grads, 1e-5)


def test_eps_is_kept_until_it_is_given_and_is_how_often_actions_are_random(variables):
    act, key = jax.jit(js.with_updates(dqn.act)), jax.random.key(0)
    obs = jnp.tile(jnp.asarray(batch(1)["obs_t"][:1]), (3000, 1))
    greedy = act(variables, obs, 0.0, rngs=key)[0]
    assert len(np.unique(greedy)) == 1
    chosen, updates = act(variables, obs, 0.6, rngs=key)
    # A random action is the best one in a third of the cases.
    assert np.mean(chosen != greedy) == pytest.approx(0.6 * 2 / 3, abs=0.04)
    again, kept = act(variables | updates, obs, -1.0, rngs=key)
    np.testing.assert_array_equal(again, chosen)
    assert float(kept["deepq/eps"]) == pytest.approx(0.6)


def test_the_target_becomes_the_network_and_nothing_else_changes(theirs, variables):
    with tf.Graph().as_default(), tf.Session() as session:
        errors_of(constants(0))
        update = twin.update_target()
        tf.train.Saver().restore(session, theirs[0])
        session.run(update)
        expected = {v.op.name: session.run(v) for v in tf.global_variables()}
    assert_close(dqn.update_target(variables), expected, 0)
    name = "deepq/target_q_func/fully_connected/weights"
    assert np.any(expected[name] != variables[name])


def test_ten_steps_give_tensorflow_s_values_and_slots(theirs, tmp_path):
    ours = train_ours(theirs[0], 10, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)
    stored = values(ours)
    assert "deepq/deepq/q_func/fully_connected/weights/Adam" in stored  # the scope, and the name
    assert "deepq_1/beta1_power" in stored
    assert not any("target" in name for name in stored if "Adam" in name)


def test_training_goes_on_where_tensorflow_stopped(theirs, tmp_path):
    assert np.any(values(theirs[5])["deepq/deepq/q_func/fully_connected/weights/Adam"])
    ours = train_ours(theirs[5], 5, str(tmp_path / "ours"))
    assert_close(values(ours), values(theirs[10]), 1e-4)


def test_tensorflow_trains_on_where_this_stopped(theirs, tmp_path):
    ours = train_ours(theirs[0], 5, str(tmp_path / "ours"))
    continued = train_twin(graph, batch, ours, [10], tmp_path)[10]
    assert_close(values(continued), values(theirs[10]), 1e-4)
