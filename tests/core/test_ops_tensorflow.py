"""The pure operations against TensorFlow's own, in graph mode, as TF1 ran them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

pytest.importorskip("tensorflow", reason="the reference needs tensorflow-cpu")
import tensorflow as tf

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)


def in_tf(operation, value, *arguments, resource=False):
    """What one TF1 operation makes of a variable, or the error it raises."""
    with tf.Graph().as_default(), tf1.Session() as session:
        variable = tf1.get_variable("v", initializer=tf.constant(value), use_resource=resource)
        result = getattr(tf1, operation)(variable, *arguments)
        session.run(variable.initializer)
        result = session.run(result)
        return result if operation == "count_up_to" else session.run(variable)


def in_jscope(operation, value, *arguments):
    return getattr(js, operation)({"v": jnp.asarray(value)}, "v", *arguments)["v"]


def f32(value):
    return np.array(value, np.float32)


V = f32([10, 20, 30, 40])
TABLE = f32(np.arange(1, 13).reshape(4, 3))
KINDS = ["add", "sub", "mul", "div", "min", "max"]

SAME = [
    ("assign", V, (f32([1, 2, 3, 4]),)),
    ("assign", V, ([1, 2, 3, 4.5],)),
    ("assign", np.int32(1), (True,)),
    ("assign", f32(1), (7,)),
    ("assign_add", V, (f32([1, 2, 3, 4]),)),
    ("assign_sub", V, (f32([1, 2, 3, 4]),)),
    ("assign_add", np.array([1, 2], np.int32), (np.array([2**31 - 1, 1], np.int32),)),
    ("assign_add", f32(1), (2,)),
    ("scatter_update", V, ([0, 2], [2.0, 4.0])),
    ("scatter_update", TABLE, ([[3, 0]], f32([[[1, 2, 3], [4, 5, 6]]]))),
    ("scatter_update", np.array([True, False]), ([0], False)),
    *[(f"scatter_{kind}", V, ([0, 2, 0], [2.0, 4.0, 5.0])) for kind in KINDS],
    *[(f"scatter_{kind}", TABLE, ([0, 2], 2.0)) for kind in KINDS],
    *[(f"scatter_{kind}", TABLE, (2, [1.0, 8.0, 9.0])) for kind in KINDS],
    *[(f"scatter_{kind}", V.astype(np.int32), ([3, 3, 1], [3, 2, 7])) for kind in KINDS],
    ("scatter_div", np.array([7, -7, 7, -7], np.int32), ([0, 1, 2, 3], [2, 2, -2, -2])),
    ("scatter_div", f32([7, -7]), ([0], [0.0])),
    ("scatter_nd_update", np.zeros((4, 2), np.float32), ([[1, 0], [3, 1]], [5.0, 6.0])),
    ("scatter_nd_update", TABLE, ([[2], [0]], f32([[1, 2, 3], [4, 5, 6]]))),
    ("scatter_nd_add", TABLE, ([[2], [2]], f32([[1, 2, 3], [4, 5, 6]]))),
    ("scatter_nd_sub", TABLE, ([[[2, 1], [2, 1]]], [[1.0, 2.0]])),
]


@pytest.mark.parametrize(("operation", "value", "arguments"), SAME)
def test_values_are_tensorflow_s(operation, value, arguments):
    expected = in_tf(operation, value, *arguments)
    result = in_jscope(operation, value, *arguments)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype


@pytest.mark.parametrize(
    ("value", "indices", "updates"),
    [
        (np.zeros((2, 3)), [[0, 2], [1, 0]], [[1, 2], [3, 4]]),
        (np.zeros((2, 3)), [[0, 2]], [[1, 2]]),
        (np.zeros(3), [0, 1], [3, 4]),
        (np.zeros((2, 3, 2)), [[0, 2], [1, 0]], np.ones((2, 2, 2))),
        (np.zeros((2, 2, 3)), [[[0, 2], [0, 1]], [[1, 2], [2, 1]]], np.arange(8).reshape(2, 2, 2)),
    ],
)
def test_batch_scatter_update_is_tensorflow_s(value, indices, updates):
    arguments = (f32(value), indices, f32(updates))
    expected = in_tf("batch_scatter_update", *arguments, resource=True)
    np.testing.assert_array_equal(in_jscope("batch_scatter_update", *arguments), expected)


REFUSED_BY_BOTH = [
    ("assign", V, (f32([1]),), js.ShapeMismatchError),
    ("assign", V, (1,), js.ShapeMismatchError),
    ("assign", np.int32(1), (1.0,), js.DtypeMismatchError),
    ("assign", np.array(True), (1,), js.DtypeMismatchError),
    ("assign", f32(1), (2j,), js.DtypeMismatchError),
    ("assign_add", V, (1.0,), js.ShapeMismatchError),
    ("assign_sub", f32(1), (f32([1]),), js.ShapeMismatchError),
    ("assign_add", np.array([True]), ([True],), js.DtypeMismatchError),
    ("scatter_add", V, ([0, 1], [1.0]), js.ShapeMismatchError),
    ("scatter_add", V, ([0, 1], [[1.0, 2.0]]), js.ShapeMismatchError),
    ("scatter_add", TABLE, ([0], [1.0]), js.ShapeMismatchError),
    ("scatter_add", V, ([0.0], 1.0), js.DtypeMismatchError),
    ("scatter_add", V, (np.array([0], np.uint32), 1.0), js.DtypeMismatchError),
    ("scatter_add", np.array([True]), ([0], True), js.DtypeMismatchError),
    ("scatter_min", np.array([1j], np.complex64), ([0], [1j]), js.DtypeMismatchError),
    ("scatter_nd_add", TABLE, ([[0]], 1.0), js.ShapeMismatchError),
    ("count_up_to", f32(0), (3,), js.DtypeMismatchError),
    ("count_up_to", np.array([0], np.int32), (3,), js.ShapeMismatchError),
]


@pytest.mark.parametrize(("operation", "value", "arguments", "kind"), REFUSED_BY_BOTH)
def test_what_tensorflow_refuses_is_refused(operation, value, arguments, kind):
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        in_tf(operation, value, *arguments)
    with pytest.raises(kind):
        in_jscope(operation, value, *arguments)


OUT_OF_RANGE = [
    ("scatter_update", f32(np.ones(6)), ([0, 1, 6], [1.0, 2.0, 3.0])),
    ("scatter_add", f32(np.ones(6)), ([-1], [1.0])),
    ("scatter_mul", f32(np.ones(2)), ([[0, 1], [1, -4]], [[1.0, 2.0], [3.0, 4.0]])),
    ("scatter_max", f32(np.ones((0, 3))), ([0], f32(np.ones((1, 3))))),
    ("scatter_nd_add", f32([[1, 2]]), ([[[0, 1], [1, -4]]], [[1.0, 2.0]])),
]


@pytest.mark.parametrize(("operation", "value", "arguments"), OUT_OF_RANGE)
def test_out_of_range_is_said_in_tensorflow_s_words(operation, value, arguments):
    with pytest.raises(tf.errors.InvalidArgumentError) as theirs:
        in_tf(operation, value, *arguments)
    line = next(s for s in theirs.value.message.split("\n") if s.startswith("indices["))
    with pytest.raises(js.IndexOutOfRangeError) as ours:
        in_jscope(operation, value, *arguments)
    # TF writes a shape as [1,2], Python as [1, 2].
    assert line.replace(", ", ",") in str(ours.value).replace(", ", ",")


def test_count_up_to_is_tensorflow_s():
    for start in [0, 1, 2]:
        value, tree = js.count_up_to({"n": jnp.int32(start)}, "n", 3)
        assert value == in_tf("count_up_to", np.int32(start), 3)
        assert tree["n"] == start + 1
    with pytest.raises(tf.errors.OutOfRangeError, match="Reached limit of 3"):
        in_tf("count_up_to", np.int32(3), 3)
    with pytest.raises(js.LimitReachedError, match="Reached limit of 3"):
        js.count_up_to({"n": jnp.int32(3)}, "n", 3)


def test_the_documented_differences_are_real():
    nan = np.nan
    assert in_tf("scatter_min", f32([1]), [0], [nan]) == [1]
    assert np.isnan(in_jscope("scatter_min", f32([1]), [0], [nan]))
    assert in_tf("assign", np.int8(1), 300) == 44
    with pytest.raises(js.DtypeMismatchError, match="can't hold the value 300"):
        in_jscope("assign", np.int8(1), 300)


def in_tf_get(**arguments):
    with tf.Graph().as_default(), tf1.Session() as session:
        variable = tf1.get_variable("w", **arguments)
        session.run(variable.initializer)
        return session.run(variable)


@pytest.mark.parametrize(
    "initializer", [3, 2.5, True, [1, 2], [[1.0], [2.0]], np.array([1, 2], np.int32)]
)
def test_initial_values_have_tensorflow_s_shape_and_dtype(initializer):
    expected = in_tf_get(initializer=initializer)
    created, _ = js.get_variable({}, "w", initializer=initializer, key=jax.random.key(0))
    np.testing.assert_array_equal(created, expected)
    assert (created.shape, created.dtype) == (expected.shape, expected.dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "bool"])
def test_default_initial_values_are_tensorflow_s(dtype):
    expected = in_tf_get(shape=(2,), dtype=dtype)
    created, _ = js.get_variable({}, "w", (2,), dtype, key=jax.random.key(0))
    np.testing.assert_array_equal(created, expected)
    assert created.dtype == expected.dtype


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"initializer": 1.0, "shape": (2,)},
            "If initializer is a constant, do not specify shape.",
        ),
        ({"initializer": 1, "dtype": "float32"}, "don't match."),
        ({"shape": (-1,)}, "Dimension -1 must be >= 0"),
        ({}, "so its `shape` argument must be specified."),
    ],
)
def test_errors_of_get_variable_have_tensorflow_s_words(arguments, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        in_tf_get(**arguments)
    with pytest.raises(ValueError, match=re.escape(text)):
        js.get_variable({}, "w", key=jax.random.key(0), **arguments)


def test_sharing_errors_have_tensorflow_s_words():
    with tf.Graph().as_default(), tf1.variable_scope("a", reuse=tf1.AUTO_REUSE):
        tf1.get_variable("w", (3,))
        with pytest.raises(ValueError, match="Trying to share") as theirs:
            tf1.get_variable("w", (2,))
    with pytest.raises(ValueError, match="Trying to share") as ours:
        js.get_variable({"a/w": np.zeros(3, np.float32)}, "a/w", (2,))
    assert str(ours.value).startswith(str(theirs.value))
