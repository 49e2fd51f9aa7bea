"""Initial values that are written down, beside a dtype: every pair against TensorFlow's.

Numbers of Python, and lists of them, are bool, int32, float32 and complex128 in TensorFlow (int64
if 32 bits are too few), and no other dtype may be requested. What has a dtype keeps it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

pytest.importorskip("tensorflow", reason="the reference needs tensorflow-cpu")
import tensorflow

tf = tensorflow.compat.v1

KEY = jax.random.key(0)
PYTHON = [
    *(True, 4, -(2**31), 2**31 - 1, 0.5, 0.1, float("inf"), 1j),
    *([True, False], [1, 2], (1, 2), [[1], [2]], [(1.0,), (2.0,)], [], [[]]),
]
MIXED = [
    *([1, 2.0], [True, 2], [True, 2.0], [1, 2j], range(3)),
    *([np.int64(1)], [1, np.int64(1)], [np.float64(0.1)], [np.float32(0.1), 2.0]),
]
LARGE = [2**31, -(2**31) - 1, 2**40, [2**40, 1]]  # int64 in TensorFlow
NUMPY = [
    *(np.int32(4), np.int64(4), np.uint8(4), np.float16(0.5), np.float32(0.5), np.float64(0.5)),
    *(np.bool_(True), np.arange(3), np.arange(3, dtype=np.int32), np.ones((2, 1))),
    *(np.ones((2, 1), np.float32), np.array([1, 2j]), np.array([1, 2j], np.complex64)),
    *([np.float16(0.5)], [np.float32(0.5)]),  # what a list of them has, NumPy decides
]
DTYPES = [
    *("bool", "int8", "uint8", "int16", "int32", "int64", "uint32", "float16", "bfloat16"),
    *("float32", "float64", "complex64", "complex128"),
]
NARROW = {"int64": "int32", "float64": "float32", "complex128": "complex64"}
WIDE = {narrow: wide for wide, narrow in NARROW.items()}


FOUND = {}  # what TensorFlow gave, which takes longer than all else


def in_tf(value, dtype):
    """The dtype and the value that TensorFlow's variable has, or its error."""
    requested = repr(value), dtype
    if requested not in FOUND:
        FOUND[requested] = _in_tf(value, dtype)
    return FOUND[requested]


def _in_tf(value, dtype):
    with tf.Graph().as_default(), tf.Session() as session:
        try:
            variable = tf.get_variable("v", initializer=value, dtype=dtype)
        except (TypeError, ValueError) as error:
            return error
        session.run(variable.initializer)
        return variable.dtype.base_dtype.name, session.run(variable)


def by_scope(value, dtype):
    return js.init(lambda scope: scope.get_variable("v", initializer=value, dtype=dtype))(KEY)["v"]


def by_tree(value, dtype):
    return js.get_variable({}, "v", initializer=value, dtype=dtype, key=KEY)[0]


def by_function(value, dtype):
    def function():
        return value

    return by_scope(function, dtype)


PAIRS = [
    *((value, ask) for value in PYTHON for ask in (by_scope, by_tree, by_function)),
    *((value, ask) for value in MIXED for ask in (by_scope, by_tree)),
]


def in_jscope(ask, value, dtype):
    try:
        found = ask(value, dtype)
    except js.DtypeMismatchError as error:
        return error
    return found.dtype.name, np.asarray(found)


def check(ask, value, dtype, expected):
    found = in_jscope(ask, value, dtype)
    if isinstance(expected, Exception):
        assert isinstance(found, js.DtypeMismatchError), (value, dtype, found)
        assert isinstance(found, ValueError)
        assert "don't match" in str(found) or "jax_enable_x64" in str(found)
    else:
        assert not isinstance(found, Exception), (value, dtype, found)
        assert found[0] == expected[0], (value, dtype)
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(("value", "ask"), PAIRS)
def test_numbers_of_python_have_each_dtype_that_they_have_in_tensorflow(value, ask):
    tfs, written = in_tf(value, None)
    for dtype in DTYPES:
        theirs = in_tf(value, dtype)
        assert isinstance(theirs, Exception) == (dtype != tfs)
        with jax.enable_x64(True):
            # Beside TensorFlow's, what Python's numbers are in JAX: its dtypes of 32 or 64 bits.
            as_in_jax = dtype in (WIDE.get(tfs), NARROW.get(tfs))
            exact = np.asarray(value).astype(dtype) if as_in_jax else None
            check(ask, value, dtype, (dtype, exact) if as_in_jax else theirs)
        if dtype == NARROW.get(tfs):
            theirs = (dtype, written.astype(dtype))
        check(ask, value, dtype, ValueError() if dtype in NARROW else theirs)


@pytest.mark.parametrize(("value", "ask"), PAIRS)
def test_numbers_of_python_without_a_dtype_have_jax_s(value, ask):
    tfs, written = in_tf(value, None)
    with jax.enable_x64(True):
        wide = WIDE.get(tfs, tfs)
        check(ask, value, None, (wide, np.asarray(value).astype(wide)))
    narrow = NARROW.get(tfs, tfs)
    check(ask, value, None, (narrow, written.astype(narrow)))


@pytest.mark.parametrize("value", LARGE, ids=repr)
def test_whole_numbers_of_more_than_32_bits_are_int64_as_in_tensorflow(value):
    for dtype in [*DTYPES, None]:
        with jax.enable_x64(True):
            check(by_scope, value, dtype, in_tf(value, dtype))
    with pytest.raises(js.DtypeMismatchError, match=r"int32 can't hold .* Write dtype=jnp\.int64"):
        by_scope(value, jnp.int32)
    with pytest.raises(js.InitializerError, match="int64 values that int32 can't hold"):
        by_scope(value, None)


@pytest.mark.parametrize("value", NUMPY, ids=repr)
def test_what_has_a_dtype_keeps_it(value):
    own, _ = in_tf(value, None)
    for dtype in [*DTYPES, None]:
        with jax.enable_x64(True):
            check(by_scope, value, dtype, in_tf(value, dtype))
    narrow = NARROW.get(own, own)  # JAX's rule for arrays, without x64
    assert by_scope(value, narrow).dtype == by_scope(value, None).dtype == narrow


def test_a_function_that_gives_an_array_is_not_cast():
    with jax.enable_x64(True), pytest.raises(js.DtypeMismatchError, match=r"'int64'.*'int32'"):
        by_function(jnp.arange(3), jnp.int32)
