"""Regularizers against their formulas, in NumPy and in float64."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jscope import regularizers as reg
from jscope._errors import JscopeError, RegularizerError

VALUE = np.linspace(-1, 2, 12).reshape(3, 4)
EACH = [reg.l1(0.5), reg.l2(0.5), reg.l1_l2(0.25, 0.5), reg.sum([reg.l1(0.25), reg.l2(0.5)])]
EXPECTED = [
    0.5 * np.abs(VALUE).sum(),
    0.25 * (VALUE**2).sum(),
    0.25 * np.abs(VALUE).sum() + 0.25 * (VALUE**2).sum(),
    0.25 * np.abs(VALUE).sum() + 0.25 * (VALUE**2).sum(),
]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(("regularizer", "expected"), list(zip(EACH, EXPECTED)))
def test_the_scalar_follows_the_formula_in_the_dtype_of_the_value(regularizer, expected, dtype):
    term = regularizer(jnp.asarray(VALUE, dtype))
    assert (term.shape, term.dtype) == ((), dtype)
    np.testing.assert_allclose(float(term), expected, rtol=1e-6 if dtype == jnp.float32 else 2e-2)


@pytest.mark.parametrize("regularizer", EACH)
def test_complex_numbers_count_by_their_modulus(regularizer):
    turned = jnp.asarray(VALUE * np.exp(0.3j), jnp.complex64)
    term = regularizer(turned)
    assert (term.shape, term.dtype) == ((), jnp.float32)
    np.testing.assert_allclose(term, regularizer(jnp.asarray(VALUE, jnp.float32)), rtol=1e-6)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        for regularizer, expected in zip(EACH, EXPECTED):
            term = regularizer(jnp.asarray(VALUE, jnp.float64))
            assert term.dtype == np.float64
            np.testing.assert_allclose(term, expected, rtol=1e-14)


def test_half_precision_does_not_overflow_on_the_way():
    term = reg.l2(1e-4)(jnp.ones(1_000_000, jnp.float16))
    np.testing.assert_allclose(float(term), 50, rtol=1e-3)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_scalars_and_empty_arrays_have_a_term(shape):
    for regularizer in EACH:
        assert regularizer(jnp.zeros(shape)) == 0.0


@pytest.mark.parametrize("regularizer", EACH)
def test_jit_matches_eager_and_leaks_nothing(regularizer):
    value = jnp.asarray(VALUE, jnp.float32)
    with jax.checking_leaks():
        jitted = jax.jit(regularizer)(value)
    np.testing.assert_allclose(jitted, regularizer(value), rtol=1e-6)


def test_the_gradient_of_l2_is_weight_decay():
    value = jnp.asarray(VALUE, jnp.float32)
    np.testing.assert_allclose(jax.grad(reg.l2(0.5))(value), 0.5 * VALUE, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(reg.l1(0.5))(jnp.array([-2.0, 0, 3])), [-0.5, 0, 0.5])


def test_a_scale_of_zero_gives_zero():
    for regularizer in (reg.l1(0.0), reg.l2(0), reg.l1_l2(0, 0), reg.sum([])):
        assert regularizer(jnp.ones(3)) == 0.0


def test_sum_leaves_out_what_gives_none():
    regularizers = iter([reg.l1(1), None, lambda w: None, lambda w: 0.5])
    regularizer = reg.sum(regularizers)
    assert regularizer(jnp.ones(3, jnp.bfloat16)) == jnp.bfloat16(3.5)
    assert reg.sum([lambda w: None])(jnp.ones(3)) == 0.0


def test_no_regularizer_gives_none_and_adds_nothing():
    assert reg.no_regularizer(jnp.ones(3)) is None
    assert reg.sum([reg.l1(1.0), reg.no_regularizer])(jnp.ones(3)) == 3.0


def test_regularizers_are_values():
    again = [reg.l1(0.5), reg.l2(0.5), reg.l1_l2(0.25, 0.5), reg.sum((reg.l1(0.25), reg.l2(0.5)))]
    assert again == EACH
    assert len(set(EACH + again)) == 4
    assert reg.l2(1) == reg.l2(np.float32(1))
    for regularizer in EACH:
        twin = pickle.loads(pickle.dumps(regularizer))
        assert twin == regularizer == eval(repr(regularizer), vars(reg))
    assert repr(EACH[2]) == "l1_l2(scale_l1=0.25, scale_l2=0.5)"
    assert repr(EACH[3]) == "sum(regularizers=(l1(scale=0.25), l2(scale=0.5)))"
    with pytest.raises(AttributeError, match="cannot assign"):
        EACH[0].scale = 2


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: reg.l1(-0.5), "Setting a scale less than 0 on a regularizer: -0.5"),
        (lambda: reg.l2(-1), "Setting a scale less than 0 on a regularizer: -1"),
        (lambda: reg.l1_l2(scale_l1=-1.0), "Setting a scale less than 0 on a regularizer: -1"),
        (lambda: reg.l1_l2(scale_l2=-1.0), "Setting a scale less than 0 on a regularizer: -1"),
        (lambda: reg.l2("a"), "must be a finite number, got 'a'"),
        (lambda: reg.l2(None), "must be a finite number, got None"),
        (lambda: reg.l2(True), "must be a finite number, got True"),
        (lambda: reg.l2(math.nan), "must be a finite number, got nan"),
        (lambda: reg.sum(reg.l2(1.0)), "`sum` takes a list of regularizers, got l2"),
        (lambda: reg.sum([3]), "A regularizer must be callable, got 3"),
        (lambda: reg.l2(1.0)(jnp.arange(3)), r"l2\(scale=1.0\) needs floating-point or complex"),
        (lambda: reg.sum([])(jnp.arange(3)), r"got int32 of shape \(3,\)"),
        (lambda: reg.sum([jnp.abs])(jnp.ones(3)), r"must give a scalar, but .* shape\s\(3,\)"),
    ],
)
def test_what_is_no_regularizer_is_an_error(make, text):
    with pytest.raises(RegularizerError, match=text) as error:
        make()
    assert isinstance(error.value, JscopeError)
    assert isinstance(error.value, ValueError)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_all_is_complete():
    assert set(reg.__all__) == {"Regularizer", "l1", "l1_l2", "l2", "no_regularizer", "sum"}
