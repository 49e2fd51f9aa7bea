"""Initializers against their definitions, in NumPy; test_initializers_tensorflow.py has TF's."""

import builtins
import copy
import inspect
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jscope import initializers as init
from jscope._errors import InitializerError, JscopeError, VariableNameError
from jscope._names import names as _names

KEY = jax.random.key(0)
FLOATS = [jnp.float32, jnp.bfloat16, jnp.float16]


def doubled(value):
    return value * 2


# One of each, with a shape that suits it.
DRAWN = [
    (init.random_uniform(-1, 2), (3, 5)),
    (init.random_normal(1.0, 0.5), (3, 5)),
    (init.truncated_normal(1.0, 0.5), (3, 5)),
    (init.uniform_unit_scaling(2.0), (3, 5)),
    (init.variance_scaling(2.0, "fan_out", "untruncated_normal"), (3, 5)),
    (init.glorot_uniform(), (3, 5)),
    (init.glorot_normal(), (3, 5)),
    (init.he_normal(), (3, 5)),
    (init.he_uniform(), (3, 5)),
    (init.lecun_normal(), (3, 5)),
    (init.lecun_uniform(), (3, 5)),
    (init.orthogonal(2.0), (3, 5)),
    (init.delta_orthogonal(2.0), (3, 2, 5)),
    (init.convolutional_orthogonal_1d(2.0), (3, 2, 5)),
    (init.convolutional_orthogonal_2d(), (2, 2, 2, 5)),
    (init.convolutional_orthogonal_3d(), (2, 2, 2, 1, 2)),
]
FIXED = [
    (init.zeros, (3, 5)),
    (init.ones, (3, 5)),
    (init.constant(3), (3, 5)),
    (init.constant([1, 2, 3]), (3, 5)),
    (init.identity(0.5), (3, 5)),
    (init.range(5), (5,)),
    (init.linspace(0, 1, 5), (5,)),
]
INTEGERS = [
    (init.random_uniform(0, 7), (3, 5)),
    (init.categorical([[0.0, 1.0], [1.0, 0.0]]), (2, 5)),
]
FLOATING = [*DRAWN, *FIXED]
# Those that draw by themselves; the others multiply what these give.
PRIMITIVE = [*DRAWN[:3], *DRAWN[11:14]]


def drawn(initializer, shape, dtype=jnp.float32):
    """The array as `js.init` gives it: compiled, which is also quicker than op by op."""
    return jax.jit(lambda key: initializer(key, shape, dtype))(KEY)


def named(pairs):
    return [pytest.param(*pair, id=repr(pair[0])) for pair in pairs]


def as64(array):
    return np.asarray(array).astype(np.float64)


# Shapes, dtypes and transforms: the same law for all.


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("initializer", "shape"), named(FLOATING))
def test_the_array_has_the_shape_and_dtype_asked_for(initializer, shape, dtype):
    value = jax.eval_shape(lambda key: initializer(key, shape, dtype), KEY)
    assert (value.shape, value.dtype) == (shape, np.dtype(dtype))


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int16, jnp.int32, jnp.uint32])
@pytest.mark.parametrize(("initializer", "shape"), named([*INTEGERS, *FIXED[:4], *FIXED[5:6]]))
def test_integers_come_in_every_integer_dtype(initializer, shape, dtype):
    value = jax.eval_shape(lambda key: initializer(key, shape, dtype), KEY)
    assert (value.shape, value.dtype) == (shape, np.dtype(dtype))


@pytest.mark.parametrize("initializer", [init.zeros, init.ones, init.constant(True)])
def test_bools_are_constants(initializer):
    expected = initializer != init.zeros
    np.testing.assert_array_equal(initializer(KEY, (2,), bool), [expected, expected])


@pytest.mark.parametrize(("initializer", "shape"), named(PRIMITIVE[:4]))
def test_half_precision_is_float32_rounded(initializer, shape):
    expected = initializer(KEY, shape, jnp.float32).astype(jnp.bfloat16)
    np.testing.assert_array_equal(initializer(KEY, shape, jnp.bfloat16), expected)


@pytest.mark.parametrize(("initializer", "shape"), named([*PRIMITIVE, *FIXED, *INTEGERS]))
def test_jit_matches_eager_and_leaks_nothing(initializer, shape):
    dtype = jnp.int32 if (initializer, shape) in INTEGERS else jnp.float32
    eager = initializer(KEY, shape, dtype)
    with jax.checking_leaks():
        jitted = jax.jit(lambda key: initializer(key, shape, dtype))
        once, again = jitted(KEY), jitted(KEY)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(once, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize(("initializer", "shape"), named([DRAWN[1], *INTEGERS]))
def test_a_loop_over_keys_gives_what_each_key_gives(initializer, shape, implementation):
    dtype = jnp.int32 if (initializer, shape) in INTEGERS else jnp.float32
    keys = jax.random.split(jax.random.key(7, impl=implementation), 3)

    @jax.jit
    def one(key):
        return initializer(key, shape, dtype)

    each = np.stack([one(key) for key in keys])
    looped = jax.lax.map(one, keys)
    np.testing.assert_allclose(looped, each, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(each[0], each[1])


@pytest.mark.parametrize(("initializer", "shape"), named([PRIMITIVE[1], PRIMITIVE[3], INTEGERS[1]]))
def test_vmap_and_old_keys_give_what_each_key_gives(initializer, shape):
    """Of threefry; the other generators draw other numbers under vmap, as JAX documents."""
    dtype = jnp.int32 if (initializer, shape) in INTEGERS else jnp.float32
    keys = jax.random.split(KEY, 3)

    @jax.jit
    def one(key):
        return initializer(key, shape, dtype)

    each = np.stack([one(key) for key in keys])
    np.testing.assert_allclose(jax.vmap(one)(keys), each, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(one(jax.random.key_data(keys)[0]), each[0])


@pytest.mark.parametrize(
    ("initializer", "shape"),
    named(
        [
            (init.random_uniform(), (0, 2)),
            (init.random_normal(), (0,)),
            (init.truncated_normal(), (2, 0)),
            (init.uniform_unit_scaling(), (0, 2)),
            (init.glorot_uniform(), (0, 0)),
            (init.he_normal(), (3, 0, 2)),
            (init.orthogonal(), (0, 2)),
            (init.orthogonal(), (2, 0)),
            (init.delta_orthogonal(), (0, 2, 3)),
            (init.convolutional_orthogonal_2d(), (0, 0, 2, 3)),
            (init.convolutional_orthogonal_1d(), (3, 0, 0)),
            (init.identity(), (0, 2)),
            (init.constant(1.0), (0, 2)),
            (init.constant([]), (0, 2)),
            (init.zeros, (0,)),
            (init.range(3, 3), (0,)),
            (init.categorical(np.zeros((0, 2))), (0, 4)),
            (init.categorical(np.zeros((2, 2))), (2, 0)),
        ]
    ),
)
def test_arrays_may_be_empty(initializer, shape):
    dtype = jnp.int32 if isinstance(initializer, init.categorical) else jnp.float32
    assert initializer(KEY, shape, dtype).shape == shape


def test_without_a_dtype_random_numbers_are_float32():
    for initializer, shape in [*DRAWN, FIXED[0], FIXED[4]]:
        value = jax.eval_shape(lambda key: initializer(key, shape), KEY)  # noqa: B023
        assert value.dtype == jnp.float32
    assert init.categorical([[0.0, 0.0]])(KEY, (1, 3)).dtype == jnp.int32


def test_x64_gives_float64_and_int64():
    with jax.enable_x64(True):
        for initializer, shape in FLOATING:
            value = jax.eval_shape(lambda key: initializer(key, shape, jnp.float64), KEY)  # noqa: B023
            assert value.dtype == np.float64
        assert init.constant(3).dtype == np.int64
        assert init.range(3.0).dtype == init.linspace(0, 1, 3).dtype == np.float64
        assert init.random_uniform(0, 2**40)(KEY, (3,), jnp.int64).dtype == np.int64


# Values: equality, hashes, text, pickles.


@pytest.mark.parametrize(("initializer", "shape"), named([*FLOATING, *INTEGERS]))
def test_an_initializer_pickles_and_copies_to_its_equal(initializer, shape):
    del shape
    for twin in (pickle.loads(pickle.dumps(initializer)), copy.deepcopy(initializer)):
        assert twin == initializer
        assert hash(twin) == hash(initializer)
        assert repr(twin) == repr(initializer)


@pytest.mark.parametrize(("initializer", "shape"), named([*FLOATING, *INTEGERS]))
def test_the_text_of_an_initializer_makes_it(initializer, shape):
    del shape
    assert eval(repr(initializer), vars(init) | {"np": np}) == initializer


def test_different_initializers_are_different():
    everything = [initializer for initializer, _ in [*FLOATING, *INTEGERS]]
    everything += [init.constant(v) for v in (0, 0.0, -0.0, False, [3], [[1, 2, 3]], math.nan)]
    everything += [init.constant(np.float32(3)), init.range(5.0), init.range(5, 0, -1)]
    everything += [init.initialized_value("a"), init.initialized_value("a", doubled)]
    assert len(set(everything)) == len(everything)
    assert init.constant(math.nan) == init.constant(math.nan)


@pytest.mark.parametrize(
    ("initializer", "text"),
    [
        (init.random_normal(0, np.float32(0.5)), "random_normal(mean=0.0, stddev=0.5)"),
        (init.random_normal(stddev=jnp.float32(0.5)), "random_normal(mean=0.0, stddev=0.5)"),
        (init.random_uniform(np.int64(0), 7), "random_uniform(minval=0, maxval=7)"),
        (init.variance_scaling(2, "fan_in", "NORMAL"), "he_normal()"),
        (
            init.variance_scaling(),
            "lecun_normal()",
        ),
        (
            init.variance_scaling(3, "fan_out", "uniform"),
            "variance_scaling(scale=3.0, mode='fan_out', distribution='uniform')",
        ),
        (init.convolutional_orthogonal_2d(), "convolutional_orthogonal_2d(gain=1.0)"),
        (init.zeros, "zeros"),
        (init.fill(7), "constant(7)"),
        (init.constant([[1.5, 2]]), "constant([[1.5, 2.0]])"),
        (init.constant(np.ones(2, np.float32)), "constant(np.array([1.0, 1.0], 'float32'))"),
        (init.constant(np.ones((3, 4))), "constant(<float64 array of shape (3, 4)>)"),
        (init.range(5), "range(start=0, limit=5, delta=1)"),
        (init.initialized_value("a/w"), "initialized_value('a/w')"),
    ],
)
def test_an_initializer_prints_as_it_is_typed(initializer, text):
    assert repr(initializer) == text


@pytest.mark.parametrize("make", [init.constant, init.categorical])
def test_array_parameters_are_copied_and_read_only(make):
    given = np.ones((2, 2))
    initializer = make(given)
    given[0] = 7.0
    assert initializer == make(np.ones((2, 2)))
    for twin in (initializer, pickle.loads(pickle.dumps(initializer))):
        stored = getattr(twin, "value" if make is init.constant else "logits")
        with pytest.raises(ValueError, match="read-only"):
            stored[0] = 7.0
    with pytest.raises(AttributeError, match="cannot assign"):
        initializer.value = 3
    assert given[0, 0] == 7.0


def test_arrays_compare_by_content_whoever_holds_it():
    ones = np.ones((2, 3), np.float32)
    same = [ones, jnp.ones((2, 3)), np.asfortranarray(ones), ones.astype(">f4"), ones[::-1]]
    assert len({init.constant(array) for array in same}) == 1
    for array in same:
        assert init.constant(array)(KEY, (2, 3)).dtype == jnp.float32


def test_zeros_and_ones_may_be_called_and_other_initializers_must_be():
    assert init.zeros() is init.zeros
    assert init.ones() is init.ones
    assert pickle.loads(pickle.dumps(init.zeros)) is init.zeros
    for name in init.__all__:
        thing = getattr(init, name)
        ours = inspect.isclass(thing) or inspect.isfunction(thing)
        assert ours == (name not in ("zeros", "ones"))
        assert thing.__module__ == "jscope.initializers"
    with pytest.raises(InitializerError, match=r"it got \(3,\) alone. Write initializer=init.ones"):
        init.ones((3,))


def test_all_is_sorted_and_complete():
    assert sorted(init.__all__) == init.__all__
    public = {
        name
        for name, thing in vars(init).items()
        if getattr(thing, "__module__", None) == init.__name__ and not name.startswith("_")
    }
    assert public == set(init.__all__)


# Constants.


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=12), st.lists(st.integers(0, 3), max_size=3)
)
@settings(deadline=None)
def test_constant_fills_row_by_row_and_repeats_the_last(values, shape):
    shape, initializer = tuple(shape), init.constant(values)
    size = math.prod(shape)
    if len(values) > size:
        with pytest.raises(InitializerError, match="Too many elements"):
            initializer(KEY, shape)
        return
    filled = values + values[-1:] * (size - len(values))
    np.testing.assert_array_equal(initializer(KEY, shape), np.reshape(filled, shape))


@pytest.mark.parametrize(
    ("value", "shape", "dtype"),
    [
        (3, (), jnp.int32),
        (3.0, (), jnp.float32),
        (True, (), jnp.bool_),
        (1j, (), jnp.complex64),
        ([1, 2, 3], (3,), jnp.int32),
        (((1.0, 2.0),), (1, 2), jnp.float32),
        (np.array([1, 2, 3]), (3,), jnp.int32),
        (np.ones((2, 3)), (2, 3), jnp.float32),
        (np.uint8(3), (), jnp.uint8),
        (jnp.ones(2, jnp.bfloat16), (2,), jnp.bfloat16),
        ([], (0,), jnp.float32),
    ],
)
def test_a_constant_knows_its_shape_and_dtype_as_jax_would(value, shape, dtype):
    initializer = init.constant(value)
    assert isinstance(initializer, init.KnownShape)
    assert (initializer.shape, initializer.dtype) == (shape, dtype)
    given = initializer(KEY, initializer.shape)
    assert given.dtype == dtype == jnp.asarray(value).dtype
    np.testing.assert_array_equal(given, jnp.asarray(value))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.5, jnp.int32),
        (1.0, jnp.int32),
        (300, jnp.uint8),
        (-1, jnp.uint8),
        (2**40, jnp.int32),
        (1, bool),
        (1j, jnp.float32),
        (1e6, jnp.float16),
        (1e300, jnp.float32),
    ],
)
def test_a_dtype_that_cannot_hold_a_constant_is_an_error(value, dtype):
    for written in (value, [value, value]):
        with pytest.raises(InitializerError, match=f"values that {np.dtype(dtype)} can't hold"):
            init.constant(written)(KEY, (2,), dtype)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3, jnp.bfloat16),
        (True, jnp.int32),
        (0.1, jnp.float16),
        (math.inf, jnp.float16),
        (2.5, jnp.complex64),
    ],
)
def test_a_constant_is_rounded_to_the_dtype_asked_for(value, dtype):
    np.testing.assert_array_equal(
        init.constant([value])(KEY, (2,), dtype), np.array([value, value], dtype)
    )


@pytest.mark.parametrize("value", ["abc", None, {}, [[1], [1, 2]], object(), KEY, ["a"], 2**70])
def test_what_is_no_number_is_no_constant(value):
    with pytest.raises(
        InitializerError, match=r"Invalid type for initial value: `value` of `const"
    ):
        init.constant(value)


def test_a_traced_value_is_no_parameter():
    def make(x):
        with pytest.raises(InitializerError, match=r"traced.*js.init\(model, inline=True\)"):
            init.constant([1.0, x])
        with pytest.raises(InitializerError, match="`stddev` of `random_normal` must be"):
            init.random_normal(stddev=x)
        return x

    jax.jit(make)(1.0)


def test_errors_about_elements_show_both_counts():
    with pytest.raises(InitializerError) as error:
        init.constant([1] * 8)(KEY, (2, 3))
    assert str(error.value) == (
        "Too many elements provided. Takes at most 6, but got 8. A variable of shape (2, 3) is to "
        "be filled from constant([1, 1, 1, 1, 1, 1, 1, 1]) of shape (8,)."
    )
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    assert isinstance(error.value, (JscopeError, ValueError))
    with pytest.raises(InitializerError, match="No elements provided"):
        init.constant([])(KEY, (2,))
    with pytest.raises(InitializerError, match=r"takes one number, got \[1, 2\]. Write init.const"):
        init.fill([1, 2])


# Sequences.


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-7, 7).filter(bool))
@settings(deadline=None)
def test_an_integer_range_is_pythons(start, limit, delta):
    expected = builtins.range(start, limit, delta)
    if (limit - start) * delta < 0:
        with pytest.raises(InitializerError, match=r"Requires start (<|>)= limit when"):
            init.range(start, limit, delta)
        return
    initializer = init.range(start, limit, delta)
    assert (initializer.shape, initializer.dtype) == ((len(expected),), jnp.int32)
    np.testing.assert_array_equal(initializer(KEY, initializer.shape), list(expected))


def test_a_range_with_one_float_is_float32():
    initializer = init.range(0, 3, 0.9)
    assert (initializer.shape, initializer.dtype) == ((4,), jnp.float32)
    np.testing.assert_allclose(initializer(KEY, (4,)), [0, 0.9, 1.8, 2.7], rtol=1e-7)
    np.testing.assert_array_equal(init.range(3)(KEY, (3,), jnp.bfloat16), [0, 1, 2])
    assert init.range(3) != init.range(3.0)


def test_linspace_has_both_ends():
    initializer = init.linspace(1, 2, 7)
    assert (initializer.shape, initializer.dtype) == ((7,), jnp.float32)
    value = initializer(KEY, (7,))
    np.testing.assert_allclose(value, 1 + np.arange(7) / 6, rtol=1e-7)
    assert value[-1] == 2
    np.testing.assert_array_equal(init.linspace(4, 9, 1)(KEY, (1,)), [4])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: init.range(0, 5, 0), "Requires delta != 0"),
        (lambda: init.range(0, 1e30, 1e-30), "no finite number of elements"),
        (lambda: init.range("a"), "`limit` of `range` must be a finite number"),
        (lambda: init.range(True), "must be a finite number"),
        (lambda: init.range([1]), "must be a finite number"),
        (lambda: init.range(math.inf), "must be a finite number"),
        (lambda: init.linspace(0, 1, 0), "Requires num > 0, an integer"),
        (lambda: init.linspace(0, 1, 2.5), "Requires num > 0, an integer"),
        (lambda: init.range(5)(KEY, (4,)), r"has shape \(5,\), but the variable has shape \(4,\)"),
        (lambda: init.range(0.5, 3)(KEY, (3,), jnp.int32), "int32 can't hold"),
        (lambda: init.range(300)(KEY, (300,), jnp.uint8), "uint8 can't hold"),
        (lambda: init.linspace(0, 4, 5)(KEY, (5,), jnp.int32), "int32 can't hold"),
    ],
)
def test_a_sequence_that_cannot_be_is_an_error(make, text):
    with pytest.raises(InitializerError, match=text):
        make()


# Distributions. Each sample is large enough that a wrong one in a hundred would show.


def uniform(low, high):
    return scipy.stats.uniform(low, high - low)


def truncated(scale):
    return scipy.stats.truncnorm(-2, 2, scale=scale)


TRUNCATION = scipy.stats.truncnorm(-2, 2).std()


@pytest.mark.parametrize(
    ("initializer", "shape", "distribution"),
    [
        (init.random_uniform(), (300, 400), uniform(0, 1)),
        (init.random_uniform(-1.5, 2), (300, 400), uniform(-1.5, 2)),
        (init.random_normal(3.0, 2.0), (300, 400), scipy.stats.norm(3, 2)),
        (init.truncated_normal(0.0, 2.0), (300, 400), truncated(2)),
        (init.uniform_unit_scaling(2.0), (10, 30, 400), uniform(-0.2, 0.2)),
        (init.glorot_uniform(), (300, 400), uniform(-math.sqrt(6 / 700), math.sqrt(6 / 700))),
        (init.glorot_normal(), (300, 400), truncated(math.sqrt(2 / 700) / TRUNCATION)),
        (init.he_normal(), (3, 5, 40, 200), truncated(math.sqrt(2 / 600) / TRUNCATION)),
        (init.he_uniform(), (3, 5, 40, 200), uniform(-0.1, 0.1)),
        (init.lecun_normal(), (100_000,), truncated(math.sqrt(1e-5) / TRUNCATION)),
        (init.lecun_uniform(), (300, 400), uniform(-0.1, 0.1)),
        (
            init.variance_scaling(2.0, "fan_out", "untruncated_normal"),
            (3, 5, 40, 200),
            scipy.stats.norm(0, math.sqrt(2 / 3000)),
        ),
    ],
)
def test_the_distribution_is_the_one_promised(initializer, shape, distribution):
    sample = as64(drawn(initializer, shape)).ravel()
    check_moments(sample, distribution, jnp.float32)
    assert scipy.stats.kstest(sample, distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    ("initializer", "distribution"),
    [
        (init.random_uniform(-1.5, 2), uniform(-1.5, 2)),
        (init.random_normal(3.0, 2.0), scipy.stats.norm(3, 2)),
        (init.truncated_normal(0.0, 2.0), truncated(2)),
    ],
)
def test_half_precision_has_no_bias(initializer, distribution, dtype):
    check_moments(as64(drawn(initializer, (120_000,), dtype)), distribution, dtype)


def check_moments(sample, distribution, dtype):
    low, high = distribution.support()
    slack = 1 + 4 * float(jnp.finfo(dtype).eps)
    assert sample.min() >= low * slack - 1e-6
    assert sample.max() <= high * slack
    tolerance = distribution.std() / math.sqrt(sample.size)
    assert abs(sample.mean() - distribution.mean()) < 5 * tolerance
    assert abs(sample.std() / distribution.std() - 1) < 0.01


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_float_is_rounded_up_to_maxval(dtype):
    sample = init.random_uniform(3, 4)(KEY, (100_000,), dtype)
    assert 3 <= sample.min() <= sample.max() < 4
    assert init.random_uniform(2, 2)(KEY, (3,), dtype).tolist() == [2, 2, 2]


def test_bfloat16_normals_have_tails():
    sample = as64(init.random_normal()(KEY, (200_000,), jnp.bfloat16))
    assert sample.max() > 3.5
    assert sample.min() < -3.5
    assert len(np.unique(sample)) > 1000


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint16, jnp.int32])
def test_integers_are_uniform_below_maxval(dtype):
    sample = np.asarray(init.random_uniform(0, 7)(KEY, (70_000,), dtype))
    counts = np.bincount(sample)
    assert len(counts) == 7
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_classes_have_the_probabilities_of_the_softmax():
    logits = np.log([[1.0, 3.0, 6.0], [5.0, 5.0, 0.5]])
    sample = np.asarray(init.categorical(logits)(KEY, (2, 50_000)))
    for row, drawn in zip(logits, sample):
        expected = np.exp(row) / np.exp(row).sum()
        counts = np.bincount(drawn, minlength=3)
        assert scipy.stats.chisquare(counts, expected * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["glorot", "he", "lecun"])
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_from_rank_two_the_numbers_are_those_of_jax(name, kind):
    shape = (3, 4, 5)
    ours = getattr(init, f"{name}_{kind}")()(KEY, shape, jnp.float32)
    theirs = getattr(jax.nn.initializers, f"{name}_{kind}")()(KEY, shape, jnp.float32)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: init.variance_scaling(0.0), "`scale` must be positive float. Got 0.0"),
        (lambda: init.variance_scaling(mode="fan"), "Invalid `mode` argument: 'fan'. Write one"),
        (
            lambda: init.variance_scaling(distribution="gauss"),
            "Invalid `distribution` argument: 'gauss'. Write one",
        ),
        (lambda: init.random_normal(stddev=-1), "`stddev` of `random_normal` must not be negative"),
        (lambda: init.truncated_normal(math.nan), "`mean` of `truncated_normal` must be a finite"),
        (lambda: init.uniform_unit_scaling(-1), "`factor` of `uniform_unit_scaling` must not be"),
        (lambda: init.orthogonal("2"), "`gain` of `orthogonal` must be a finite number"),
        (lambda: init.random_uniform(2), "Requires minval <= maxval"),
        (lambda: init.random_uniform(2)(KEY, (), int), "Requires minval <= maxval"),
        (lambda: init.random_uniform()(KEY, (), int), "Must specify maxval for integer dtype int"),
        (lambda: init.random_uniform()(KEY, (), bool), "but the variable is bool"),
        (lambda: init.random_uniform(0.5, 3)(KEY, (), "int8"), "whole numbers from -128 to 127"),
        (lambda: init.random_uniform(-1, 3)(KEY, (), "uint8"), "whole numbers from 0 to 255"),
        (lambda: init.random_uniform(3, 3)(KEY, (), "int8"), "Need minval < maxval, got 3 >= 3"),
        (lambda: init.categorical([1.0]), "Shape must be rank 2 but is rank 1"),
        (lambda: init.categorical([[]]), "no classes"),
        (lambda: init.categorical([[1j]]), "real numbers"),
        (lambda: init.categorical([["a"]]), "Invalid type for initial value"),
        (
            lambda: init.categorical([[1.0]])(KEY, (2, 3)),
            r"gives shape \(1, samples\), but the variable has shape \(2, 3\)",
        ),
        (lambda: init.categorical([[1.0]])(KEY, (1,)), r"has shape \(1,\)"),
        (lambda: init.categorical([[1.0]])(KEY, (1, 3), "float32"), "Write dtype=jnp.int32"),
        (lambda: init.categorical([[0.0] * 129])(KEY, (1, 3), "int8"), "from 0 to 128"),
        (lambda: init.orthogonal()(KEY, (3,)), "must be at least two-dimensional"),
        (lambda: init.delta_orthogonal()(KEY, (3, 3)), "at least three-dimensional and at most"),
        (lambda: init.delta_orthogonal()(KEY, (1,) * 6), "at most five-dimensional"),
        (lambda: init.delta_orthogonal()(KEY, (3, 4, 3)), "In_filters cannot be greater than out"),
        (lambda: init.convolutional_orthogonal_1d()(KEY, (3, 3)), "must be three-dimensional"),
        (lambda: init.convolutional_orthogonal_2d()(KEY, (3, 3)), "must be four-dimensional"),
        (lambda: init.convolutional_orthogonal_3d()(KEY, (3, 3)), "must be five-dimensional"),
        (lambda: init.convolutional_orthogonal_2d()(KEY, (3, 3, 4, 3)), "In_filters cannot be"),
        (lambda: init.convolutional_orthogonal_2d()(KEY, (3, 2, 3, 3)), "sizes must be equal"),
        (lambda: init.identity()(KEY, (3,)), "can only be used for 2D matrices, got shape"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(make, text):
    with pytest.raises(InitializerError, match=text):
        make()


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
@pytest.mark.parametrize(("initializer", "shape"), named([*DRAWN[1:], FIXED[4]]))
def test_floats_for_another_dtype_are_an_error(initializer, shape, dtype):
    with pytest.raises(InitializerError) as error:
        initializer(KEY, shape, dtype)
    assert f"{initializer!r} gives floating-point numbers, but the variable is " in str(error.value)
    assert "Write dtype=jnp.float32; or for integers" in str(error.value)


# Orthogonal matrices and kernels.


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10, 9, 8), jnp.float32),
        ((50, 40), jnp.float16),
        ((40, 50), jnp.bfloat16),
        ((1, 1), jnp.float32),
    ],
)
def test_orthogonal_matrices_are(shape, dtype):
    gain = 0.5
    w = as64(drawn(init.orthogonal(gain), shape, dtype)).reshape(-1, shape[-1])
    product = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=tolerance)


def test_orthogonal_matrices_are_uniform():
    """A column of a uniform orthogonal 2 x 2 matrix has a uniform angle; QR alone wouldn't."""
    keys = jax.random.split(KEY, 4000)
    w = np.asarray(jax.vmap(lambda key: init.orthogonal()(key, (2, 2)))(keys))
    angles = np.arctan2(w[:, 1, 0], w[:, 0, 0])
    assert scipy.stats.kstest(angles, uniform(-math.pi, math.pi).cdf).pvalue > 1e-3
    assert 0.45 < (np.linalg.det(w) > 0).mean() < 0.55


def transfer(kernel):
    """The matrix by which a circular convolution multiplies each frequency of its input."""
    window = kernel.ndim - 2
    return np.fft.fftn(as64(kernel), (8,) * window, tuple(np.arange(window)))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (init.delta_orthogonal, (3, 4, 6)),
        (init.delta_orthogonal, (3, 3, 3, 2, 4)),
        (init.convolutional_orthogonal_1d, (1, 4, 6)),
        (init.convolutional_orthogonal_1d, (5, 4, 6)),
        (init.convolutional_orthogonal_2d, (4, 4, 3, 4)),
        (init.convolutional_orthogonal_3d, (3, 3, 3, 2, 4)),
    ],
)
def test_orthogonal_kernels_multiply_every_length_by_gain(make, shape):
    gain = 3.14
    kernel = drawn(make(gain), shape)
    matrices = transfer(kernel).reshape(-1, *shape[-2:])
    products = matrices @ np.conj(matrices.swapaxes(1, 2))
    expected = np.broadcast_to(gain**2 * np.eye(shape[-2]), products.shape)
    np.testing.assert_allclose(products, expected, atol=2e-5 * gain**2)


def test_convolutional_orthogonal_fills_the_window_and_delta_only_its_centre():
    spread = as64(drawn(init.convolutional_orthogonal_2d(), (3, 3, 8, 8)))
    assert (np.abs(spread).sum((2, 3)) > 1e-2).all()
    centre = as64(init.delta_orthogonal()(KEY, (4, 3, 8, 8)))
    np.testing.assert_array_equal(np.argwhere(np.abs(centre).sum((2, 3))), [[1, 1]])


def test_identity_need_not_be_square():
    np.testing.assert_array_equal(init.identity(0.5)(KEY, (2, 3)), 0.5 * np.eye(2, 3))


# The value of another variable, and the default.


def test_an_initialized_value_is_a_name_and_a_function():
    initializer = init.initialized_value("enc/w", doubled)
    assert isinstance(initializer, init.InitializedValue)
    assert (initializer.name, initializer.function) == ("enc/w", doubled)
    assert initializer == init.initialized_value("enc/w", doubled)
    assert hash(initializer) == hash(init.initialized_value("enc/w", doubled))
    assert repr(initializer).startswith("initialized_value('enc/w', <function doubled at")
    with pytest.raises(InitializerError, match=r"can't be computed by itself.*'enc/w'.*js\.init"):
        initializer(KEY, (3,), jnp.float32)


def test_an_initialized_value_needs_a_legal_name_and_a_function():
    with pytest.raises(VariableNameError):
        init.initialized_value("a//b")
    with pytest.raises(InitializerError, match="`function` must be callable, got 3"):
        init.initialized_value("a", 3)
    assert _names.check("a") == "a"


@pytest.mark.parametrize("dtype", [*FLOATS, np.float64])
def test_the_default_for_floats_is_glorot_uniform(dtype):
    assert init.default(dtype) == init.glorot_uniform()


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, np.int64, bool])
def test_the_default_for_integers_and_bools_is_zeros(dtype):
    assert init.default(dtype) is init.zeros


@pytest.mark.parametrize("dtype", [np.dtype("complex64"), KEY.dtype])
def test_other_dtypes_have_no_default(dtype):
    with pytest.raises(InitializerError) as error:
        init.default(dtype, "w")
    assert f"An initializer for variable w of {dtype} is required" in str(error.value)
