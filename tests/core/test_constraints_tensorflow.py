"""Constraints against Keras's own; skipped where TensorFlow isn't installed."""

import os

import numpy as np
import pytest

from jscope import constraints as con

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
keras = tensorflow.keras.constraints

VALUE = np.random.RandomState(0).normal(size=(3, 4, 5)).astype(np.float32)
VALUE *= np.float32([0, 0.1, 1, 3, 9])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (con.non_neg, keras.NonNeg()),
        (con.unit_norm(), keras.UnitNorm()),
        (con.unit_norm(axis=(0, 1)), keras.UnitNorm(axis=[0, 1])),
        (con.max_norm(), keras.MaxNorm()),
        (con.max_norm(0.5, axis=-1), keras.MaxNorm(0.5, axis=-1)),
        (con.min_max_norm(), keras.MinMaxNorm()),
        (con.min_max_norm(0.5, 2.0, 0.25, 1), keras.MinMaxNorm(0.5, 2.0, 0.25, 1)),
    ],
    ids=lambda value: repr(value).partition(" object at ")[0],  # no addresses: workers compare
)
def test_constraints_are_keras_s_but_for_its_epsilon(ours, theirs):
    expected = np.asarray(theirs(tensorflow.constant(VALUE)))
    np.testing.assert_allclose(ours(VALUE), expected, rtol=1e-5, atol=1e-7)


def test_difference_what_is_inside_of_a_bound_is_not_changed():
    value = np.float32([1.0, 0.0])
    ours = theirs = value
    for _ in range(100):
        ours = con.max_norm(2.0)(ours)
        theirs = np.asarray(keras.MaxNorm(2.0)(tensorflow.constant(theirs)))
    np.testing.assert_array_equal(ours, value)
    assert theirs[0] < 0.99999
