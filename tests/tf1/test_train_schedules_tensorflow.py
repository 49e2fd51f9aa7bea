"""Learning-rate decays: each against TensorFlow's, over the steps of a run."""

import os

import jax
import numpy as np
import pytest

from jscope.tf1 import train

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf

DECAYS = {
    "exponential": ("exponential_decay", (0.1, 30, 0.9)),
    "exponential staircase": ("exponential_decay", (0.1, 30, 0.9, True)),
    "natural": ("natural_exp_decay", (0.1, 30, 0.4)),
    "natural staircase": ("natural_exp_decay", (0.1, 30, 0.4, True)),
    "inverse time": ("inverse_time_decay", (0.1, 30, 0.4)),
    "inverse time staircase": ("inverse_time_decay", (0.1, 30, 0.4, True)),
    "polynomial": ("polynomial_decay", (0.1, 70)),
    "polynomial, square": ("polynomial_decay", (0.1, 70, 0.01, 2.0)),
    "polynomial, square root, cycle": ("polynomial_decay", (0.1, 70, 0.01, 0.5, True)),
    "cosine": ("cosine_decay", (0.1, 150)),
    "cosine to a tenth": ("cosine_decay", (0.1, 150, 0.1)),
    "piecewise": ("piecewise_constant", ([20, 100], [0.1, 0.05, 0.01])),
}


@pytest.fixture(scope="module")
def theirs():
    """Every decay at steps 0 to 199, by one session."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        rates = {
            case: getattr(tf.train, name)(*_with_step(name, args, step))
            for case, (name, args) in DECAYS.items()
        }
        rows = [session.run(rates, {step: t}) for t in range(200)]
    return {case: np.array([row[case] for row in rows]) for case in DECAYS}


def _with_step(name, args, step):
    return (step, *args) if name == "piecewise_constant" else (args[0], step, *args[1:])


@pytest.mark.parametrize("case", DECAYS)
def test_a_decay_gives_tensorflow_s_rates(case, theirs):
    name, args = DECAYS[case]
    schedule = getattr(train, name)(*_with_step(name, args, None))
    with jax.checking_leaks():
        ours = jax.jit(jax.vmap(schedule))(np.arange(200, dtype=np.int32))
    assert ours.dtype == np.float32
    assert np.ptp(ours) > 0
    np.testing.assert_allclose(ours, theirs[case], rtol=1e-6, atol=1e-7 * 0.1)


def test_a_step_in_tf_s_place_is_an_error_that_says_who_gets_it():
    with pytest.raises(TypeError, match=r"passed the step 3.*Pass None for the step"):
        train.exponential_decay(0.1, 3, 30, 0.9)


def test_a_value_more_than_boundaries_is_needed():
    with pytest.raises(ValueError, match="2 boundaries and 2 values"):
        train.piecewise_constant(None, [20, 100], [0.1, 0.05])
