"""Initializers and regularizers against TensorFlow itself; skipped where it isn't installed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from jscope import initializers as init
from jscope import regularizers as reg
from jscope._errors import InitializerError

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

KEY = jax.random.key(0)


def in_graph(build):
    """What TF1 computes: the fill rule, for one, exists only in graphs."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(1)
        return session.run(build())


def in_same_graph(tensor):
    with v1.Session() as session:
        return session.run(tensor)


def ours(initializer, shape, dtype=jnp.float32):
    value = jax.jit(lambda key: initializer(key, shape, dtype))(KEY)
    return np.asarray(value).astype(np.float64)


@pytest.mark.parametrize(
    ("initializer", "reference", "shape"),
    [
        (init.random_uniform(-1, 3), v1.random_uniform_initializer(-1, 3), (200, 300)),
        (init.random_normal(1.0, 2.0), v1.random_normal_initializer(1.0, 2.0), (200, 300)),
        (init.truncated_normal(1.0, 2.0), v1.truncated_normal_initializer(1.0, 2.0), (200, 300)),
        (
            init.uniform_unit_scaling(1.5),
            v1.uniform_unit_scaling_initializer(1.5),
            (5, 40, 300),
        ),
        (init.glorot_uniform(), v1.glorot_uniform_initializer(), (60_000,)),
        (init.glorot_normal(), v1.glorot_normal_initializer(), (3, 5, 20, 200)),
        (init.he_normal(), v1.initializers.he_normal(), (200, 300)),
        (init.he_uniform(), v1.initializers.he_uniform(), (3, 5, 20, 200)),
        (init.lecun_normal(), v1.initializers.lecun_normal(), (60_000,)),
        (init.lecun_uniform(), v1.initializers.lecun_uniform(), (2, 2, 3, 50, 100)),
        (
            init.variance_scaling(3.0, "fan_out", "untruncated_normal"),
            v1.variance_scaling_initializer(3.0, "fan_out", "untruncated_normal"),
            (4, 50, 300),
        ),
    ],
)
def test_the_distribution_is_tensorflows(initializer, reference, shape):
    sample = ours(initializer, shape).ravel()
    theirs = in_graph(lambda: reference(shape, tf.float32)).ravel()
    assert scipy.stats.ks_2samp(sample, theirs).pvalue > 1e-3
    assert abs(np.ptp(sample) / np.ptp(theirs) - 1) < 0.15


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("initializer", "reference"),
    [
        (init.random_uniform(-1, 1), v1.random_uniform_initializer(-1, 1)),
        (init.random_normal(), v1.random_normal_initializer()),
        (init.truncated_normal(), v1.truncated_normal_initializer()),
    ],
)
def test_half_precision_has_tensorflows_moments(initializer, reference, dtype):
    sample = ours(initializer, (60_000,), jnp.dtype(dtype))
    theirs = in_graph(lambda: reference([60_000], tf.as_dtype(dtype))).astype(np.float64)
    # TF draws uniforms from as few bits as the dtype has, and rounds down: up to 2**-8 of 2.
    assert abs(sample.mean() - theirs.mean()) < 5 * math.sqrt(2 / 60_000) + 2**-7
    assert abs(sample.std() / theirs.std() - 1) < 0.015
    assert abs(np.ptp(sample) / np.ptp(theirs) - 1) < 0.15


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 4), (0, 3), (3, 0)])
def test_the_fans_are_tensorflows(shape):
    from tensorflow.python.ops.init_ops import _compute_fans

    fan_in, fan_out = _compute_fans(shape)
    count = {"fan_in": fan_in, "fan_avg": (fan_in + fan_out) / 2}
    for mode in ("fan_in", "fan_avg"):
        bound = math.sqrt(3 * 2.0 / max(1.0, count[mode]))
        expected = init.random_uniform(-bound, bound)(KEY, shape)
        value = init.variance_scaling(2.0, mode, "uniform")(KEY, shape)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_integers_have_tensorflows_frequencies():
    sample = ours(init.random_uniform(0, 7), (70_000,), jnp.int32)
    theirs = in_graph(lambda: v1.random_uniform_initializer(0, 7)([70_000], tf.int32))
    table = [np.bincount(sample.astype(int)), np.bincount(theirs)]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_classes_have_the_frequencies_of_multinomial():
    logits = np.log([[1.0, 3.0, 6.0], [5.0, 5.0, 0.5]])
    sample = ours(init.categorical(logits), (2, 50_000), jnp.int32).astype(int)
    theirs = in_graph(lambda: v1.multinomial(logits, 50_000))
    for a, b in zip(sample, theirs):
        table = [np.bincount(a, minlength=3), np.bincount(b, minlength=3)]
        assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=9),
    st.lists(st.integers(1, 3), max_size=3),
    st.sampled_from(["float32", "int32", "bfloat16", "float16"]),
)
@settings(deadline=None, max_examples=40)
def test_constant_fills_as_tensorflow_does(values, shape, dtype):
    try:
        reference = v1.constant_initializer(values)
        expected = in_graph(lambda: reference(shape, tf.as_dtype(dtype)))
    except ValueError as error:
        assert "Too many elements" in str(error)  # noqa: PT017
        with pytest.raises(InitializerError, match="Too many elements"):
            init.constant(values)(KEY, tuple(shape), dtype)
    else:
        given_ = init.constant(values)(KEY, tuple(shape), dtype)
        np.testing.assert_array_equal(np.asarray(given_), expected)


@pytest.mark.parametrize(
    "make", [init.zeros, init.ones, init.constant(3), init.fill(2.5), init.identity(0.5)]
)
def test_fixed_values_are_tensorflows(make):
    reference = {
        "zeros": v1.zeros_initializer(),
        "ones": v1.ones_initializer(),
        "constant(3)": v1.constant_initializer(3),
        "constant(2.5)": v1.constant_initializer(2.5),
        "identity(gain=0.5)": v1.initializers.identity(0.5),
    }[repr(make)]
    expected = in_graph(lambda: reference([2, 3], tf.float32))
    np.testing.assert_array_equal(make(KEY, (2, 3), jnp.float32), expected)


numbers = st.one_of(st.integers(-20, 20), st.floats(-20, 20, width=32).map(lambda x: round(x, 2)))


@given(numbers, numbers, st.one_of(st.integers(-5, 5), st.sampled_from([0.1, 0.25, -0.3, 0.9])))
@settings(deadline=None, max_examples=150)
def test_range_is_tensorflows(start, limit, delta):
    try:
        expected = tf.range(start, limit, delta).numpy()
    except tf.errors.InvalidArgumentError as error:
        text = next(t for t in ("delta != 0", "start <=", "start >=") if t in str(error))
        with pytest.raises(InitializerError, match=text):
            init.range(start, limit, delta)
    else:
        initializer = init.range(start, limit, delta)
        assert (initializer.shape, initializer.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(
            initializer(KEY, initializer.shape), expected, rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("limit", [0, 5, 3.5])
def test_range_of_one_argument_is_tensorflows(limit):
    expected = tf.range(limit).numpy()
    initializer = init.range(limit)
    assert (initializer.shape, initializer.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(initializer(KEY, initializer.shape), expected)


@pytest.mark.parametrize(("start", "stop", "num"), [(0.0, 1.0, 7), (5.0, -3.0, 4), (2.0, 9.0, 1)])
def test_linspace_is_tensorflows(start, stop, num):
    expected = tf.linspace(start, stop, num).numpy()
    value = init.linspace(start, stop, num)(KEY, (num,))
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(10, 9, 8), (40, 50)])
def test_orthogonal_has_tensorflows_gram_matrix(shape):
    def gram(w):
        w = np.asarray(w).reshape(-1, shape[-1])
        return w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T

    theirs = in_graph(lambda: v1.orthogonal_initializer(1.5)(shape, tf.float32))
    np.testing.assert_allclose(gram(ours(init.orthogonal(1.5), shape)), gram(theirs), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "shape", "convolution"),
    [
        (init.convolutional_orthogonal_2d, (3, 3, 4, 6), tf.nn.conv2d),
        (init.convolutional_orthogonal_3d, (3, 3, 3, 4, 6), tf.nn.conv3d),
        (init.delta_orthogonal, (3, 3, 4, 6), tf.nn.conv2d),
    ],
)
def test_tensorflows_convolution_keeps_lengths(make, shape, convolution):
    window = len(shape) - 2
    kernel = ours(make(1.5), shape).astype(np.float32)
    image = np.random.default_rng(0).normal(size=(2, *[6] * window, 4)).astype(np.float32)
    circular = np.pad(image, [(0, 0)] + [(0, 2)] * window + [(0, 0)], mode="wrap")
    result = convolution(circular, kernel, [1] * (window + 2) if window > 1 else 1, "VALID")
    for one, other in zip(image, result.numpy()):
        assert np.linalg.norm(other) == pytest.approx(1.5 * np.linalg.norm(one), rel=1e-4)


def test_the_convolutional_kernels_are_distributed_as_tensorflows():
    """The mean energy at each place of the window, which tells the construction apart."""
    from tensorflow.python.ops import init_ops

    keys = jax.random.split(KEY, 2000)
    one = jax.vmap(lambda key: init.convolutional_orthogonal_2d()(key, (3, 3, 2, 3)))
    reference = init_ops.ConvolutionOrthogonal2D()

    def many():
        return tf.map_fn(lambda _: reference([3, 3, 2, 3]), tf.zeros(2000))

    ours_, theirs = np.asarray(jax.jit(one)(keys)), in_graph(many)
    for sample in (ours_, theirs):
        assert sample.shape == (2000, 3, 3, 2, 3)
    energies = [(sample**2).sum((3, 4)).mean(0) for sample in (ours_, theirs)]
    np.testing.assert_allclose(*energies, atol=0.08)
    np.testing.assert_allclose(energies[0].sum(), 2, rtol=1e-4)


def test_the_default_is_the_initializer_get_variable_takes():
    with tf.Graph().as_default():
        variables = [v1.get_variable(f"w{dtype}", (3,), dtype) for dtype in ("int32", "bool")]
        assert ["zeros" in v.initial_value.op.name for v in variables] == [True, True]
        glorot = v1.get_variable("w", (300, 400))
        theirs = in_same_graph(glorot.initial_value)
    assert init.default(np.int32) is init.default(bool) is init.zeros
    assert (
        scipy.stats.ks_2samp(
            ours(init.default(np.float32), (300, 400)).ravel(), theirs.ravel()
        ).pvalue
        > 1e-3
    )


def test_regularizers_are_half_and_not_half_of_tensorflows():
    value = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)
    loss = tf.nn.l2_loss(value).numpy()
    np.testing.assert_allclose(reg.l2(0.1)(jnp.asarray(value)), 0.1 * loss, rtol=1e-6)
    keras = tf.keras.regularizers.L2(0.1)(value)
    np.testing.assert_allclose(reg.l2(0.2)(jnp.asarray(value)), np.asarray(keras), rtol=1e-6)
    keras = tf.keras.regularizers.L1(0.1)(value)
    np.testing.assert_allclose(reg.l1(0.1)(jnp.asarray(value)), np.asarray(keras), rtol=1e-6)
