"""Constraints against their formulas, in NumPy; and `apply_constraints` with them."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jscope as js
from jscope import constraints as con

RNG = np.random.RandomState(0)
VALUE = RNG.normal(size=(3, 4, 5)).astype(np.float32) * np.float32([0, 0.1, 1, 3, 9])
EACH = [
    con.non_neg,
    con.unit_norm(),
    con.unit_norm(axis=(0, 1)),
    con.max_norm(1.5),
    con.max_norm(0, axis=-1),
    con.min_max_norm(0.5, 2.0),
    con.min_max_norm(0.5, 2.0, 0.25, axis=[1, 2]),
]


def by_definition(constraint, value):
    if constraint is con.non_neg:
        return np.maximum(value, 0)
    wide = value.astype(np.float64)
    norm = np.sqrt((wide**2).sum(axis=constraint.axis, keepdims=True))
    if isinstance(constraint, con.unit_norm):
        target = np.ones_like(norm)
    elif isinstance(constraint, con.max_norm):
        target = np.minimum(norm, constraint.max_value)
    else:
        clipped = np.clip(norm, constraint.min_value, constraint.max_value)
        target = constraint.rate * clipped + (1 - constraint.rate) * norm
    return wide * target / np.where(norm == 0, 1, norm)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("constraint", EACH, ids=repr)
def test_a_constraint_follows_its_formula_in_the_dtype_of_the_value(constraint, dtype):
    value = jnp.asarray(VALUE, dtype)
    with jax.checking_leaks():
        found = jax.jit(constraint)(value)
    assert found.dtype == dtype
    rtol = {jnp.float32: 1e-6, jnp.float16: 2e-3, jnp.bfloat16: 1e-2}[dtype]
    expected = by_definition(constraint, np.asarray(value, np.float32))
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=rtol)
    np.testing.assert_allclose(constraint(value), found, rtol=rtol)


eighths = st.integers(-80, 80).map(lambda n: n / 8)  # whose squares float32 has


@given(st.lists(eighths, min_size=1, max_size=5), eighths.map(abs))
def test_what_satisfies_a_constraint_is_not_changed_by_a_bit(numbers, bound):
    """Else it would shrink in each step."""
    value = np.asarray(numbers, np.float32)
    norm = np.sqrt((value.astype(np.float64) ** 2).sum())
    for constraint, is_satisfied in [
        (con.max_norm(bound), norm <= bound),
        (con.min_max_norm(bound / 2, bound), bound / 2 <= norm <= bound),
        (con.non_neg, (value >= 0).all()),
    ]:
        found = constraint(jnp.asarray(value))
        if is_satisfied:
            np.testing.assert_array_equal(found, value)
        np.testing.assert_allclose(found, by_definition(constraint, value), rtol=1e-5)


def test_zero_vectors_stay_and_what_is_not_finite_is_not_hidden():
    zeros = jnp.zeros((3, 2))
    for constraint in EACH[:2] + EACH[3:6]:
        np.testing.assert_array_equal(constraint(zeros), zeros)
    found = con.non_neg(jnp.array([-np.inf, np.nan, np.inf], jnp.float32))
    np.testing.assert_array_equal(found, [0.0, np.nan, np.inf])
    assert np.isnan(con.max_norm(1.0)(jnp.array([np.nan, 1.0]))[0])


def test_non_neg_is_written_with_parentheses_or_without():
    assert con.non_neg() is con.non_neg
    np.testing.assert_array_equal(con.non_neg(jnp.array([-1, 2])), [0, 2])  # integers too


def test_constraints_are_values():
    assert con.max_norm(2) == con.max_norm(2.0, axis=np.int64(0)) != con.max_norm(2, axis=1)
    assert hash(con.min_max_norm(axis=[0, 1])) == hash(con.min_max_norm(axis=(0, 1)))
    for constraint in EACH:
        assert pickle.loads(pickle.dumps(constraint)) == constraint
    assert pickle.loads(pickle.dumps(con.non_neg)) is con.non_neg
    assert repr(con.max_norm(1.5)) == "max_norm(max_value=1.5, axis=0)"
    assert repr(con.non_neg) == "non_neg"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: con.max_norm(-1.0),
            "`max_value` must be a finite number, not negative, got -1.0.",
        ),
        (lambda: con.max_norm("1"), "`max_value` must be a finite number, not negative, got '1'."),
        (lambda: con.max_norm(math.nan), "`max_value` must be a finite number"),
        (lambda: con.max_norm(math.inf), "`max_value` must be a finite number"),
        (lambda: con.max_norm(True), "`max_value` must be a finite number"),
        (lambda: con.min_max_norm(2.0, 1.0), "`min_value` must not be above `max_value`, got min_"),
        (lambda: con.min_max_norm(rate=1.5), "`rate` must be a finite number, in [0, 1], got 1.5."),
        (lambda: con.unit_norm(axis=1.0), "`axis` must be an int or a tuple of ints, got 1.0."),
        (lambda: con.unit_norm(axis=()), "`axis` must be an int or a tuple of ints, got ()."),
        (lambda: con.unit_norm()(jnp.arange(3)), "unit_norm(axis=0) needs floating-point numbers"),
        (lambda: con.unit_norm(axis=2)(VALUE[0]), "shape (4, 5), which has no axis (2,)."),
    ],
)
def test_wrong_parameters_and_values(make, text):
    with pytest.raises(js.ConstraintError) as caught:
        make()
    assert text in str(caught.value)


def test_declarations_apply_them_slice_by_slice_and_name_the_variable():
    def model(scope, x):
        unit = scope.variable_scope("unit", constraint=con.unit_norm())
        unit.get_variable("w", (2, 3))
        (unit / "below").get_variable("w", (2, 3))

        def layer(x, scope):
            return x + scope.get_variable("w", (2, 3), constraint=con.max_norm(1.0)).sum(), None

        return jax.lax.scan(layer, x, scope.stacked("layers", 4))[0]

    declared = js.declare(model)(jnp.float32(0))
    tree = js.VarTree({name: 5 * RNG.normal(size=spec.shape) for name, spec in declared.items()})
    tree = jax.tree.map(jnp.float32, tree)
    found = jax.jit(declared.apply_constraints)(tree)
    np.testing.assert_allclose(np.linalg.norm(found["unit/w"], axis=0), [1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(found["unit/below/w"], tree["unit/below/w"])
    norms = np.linalg.norm(found["layers/w"], axis=1)
    expected = np.minimum(np.linalg.norm(tree["layers/w"], axis=1), 1)
    np.testing.assert_allclose(norms, expected, rtol=1e-6)

    wrong = js.declare(lambda s: s.get_variable("b", 3, constraint=con.unit_norm(axis=1)))()
    with pytest.raises(js.ConstraintError, match="no axis") as caught:
        wrong.apply_constraints({"b": jnp.ones(3)})
    assert caught.value.__notes__ == ["(While the constraint of variable 'b' was applied.)"]
