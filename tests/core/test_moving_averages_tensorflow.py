"""Moving averages against TensorFlow's: values, the names of all that is kept, what is restored."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
tf = tensorflow.compat.v1


def xs_of(dtype, length=6):
    random = np.random.default_rng(0)
    values = random.normal(size=(length, 2, 3))
    return [value.astype(dtype) for value in values]


def theirs(decay, xs, *, numbers=None, kind="variable", zero_debias=False):
    """What TF keeps after each step: name to value, without the averaged variable itself."""
    found = []
    with tf.Graph().as_default(), tf.Session() as session:
        feed = tf.placeholder(xs[0].dtype, xs[0].shape)
        step = tf.placeholder(tf.int64, ())
        ema = tf.train.ExponentialMovingAverage(
            decay, step if numbers else None, zero_debias=zero_debias
        )
        if kind == "variable":
            with tf.variable_scope("dense"):
                w = tf.get_variable("w", initializer=xs[0], use_resource=True)
            change = w.assign(feed)
        else:
            w = tf.identity(feed, name="dense/w")
            change = tf.no_op()
        with tf.control_dependencies([change]):
            update = ema.apply([w])
        session.run(tf.global_variables_initializer())
        kept = {v.op.name: v for v in tf.global_variables() if v is not w}
        for i, x in enumerate(xs):
            number = numbers[i] if numbers else 0
            session.run(update, {feed: x, step: number})
            found.append(session.run(kept))
        assert ema.average_name(w) in kept
    return found


def ours(decay, xs, *, numbers=None, zero_debias=False):
    ema = js.ExponentialMovingAverage(decay, zero_debias=zero_debias)
    found, averages = [], ema.init({"dense/w": xs[0]})
    for i, x in enumerate(xs):
        n = numbers[i] if numbers else None
        averages = ema.apply(averages, {"dense/w": x}, num_updates=n)
        found.append(dict(averages))
    return found


def assert_same(ours, theirs, rtol):
    for mine, their in zip(ours, theirs, strict=True):
        assert sorted(mine) == sorted(their)
        for name in mine:
            assert mine[name].dtype.name == their[name].dtype.name, name
            a, b = np.asarray(mine[name], np.float64), np.asarray(their[name], np.float64)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=name)


# TF's decay is a float32 number, also for variables of other dtypes.
@pytest.mark.parametrize("decay", [0.25, 0.9, 0.999])
@pytest.mark.parametrize("numbers", [None, (0, 1, 5, 20, 90, 10_000)], ids=["", "num_updates"])
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float16", 2e-3)])
def test_averages_of_variables_are_tf_s(decay, numbers, dtype, rtol):
    xs = xs_of(dtype)
    assert_same(ours(decay, xs, numbers=numbers), theirs(decay, xs, numbers=numbers), rtol)


@pytest.mark.parametrize("decay", [0.25, 0.9, 0.999])
@pytest.mark.parametrize("numbers", [None, (0, 1, 5, 20, 90, 10_000)], ids=["", "num_updates"])
def test_debiased_averages_of_tensors_are_tf_s(decay, numbers):
    xs, said = xs_of("float32"), {"numbers": numbers, "zero_debias": True}
    assert_same(ours(decay, xs, **said), theirs(decay, xs, kind="tensor", **said), 3e-5)


def test_averages_of_tensors_begin_at_zero_which_is_said_here():
    xs = xs_of("float32")
    ema = js.ExponentialMovingAverage(0.9)
    averages = ema.init({"dense/w": np.zeros_like(xs[0])})
    for x, their in zip(xs, theirs(0.9, xs, kind="tensor"), strict=True):
        averages = ema.apply(averages, {"dense/w": x})
        assert_same([dict(averages)], [their], 1e-6)


def test_integers_are_refused_in_tf_s_words():
    text = "The variables must be half, float, or double: i"
    with tf.Graph().as_default():
        i = tf.get_variable("i", initializer=1)
        with pytest.raises(TypeError, match=text):
            tf.train.ExponentialMovingAverage(0.9).apply([i])
    with pytest.raises(TypeError, match=text):
        js.ExponentialMovingAverage(0.9).init({"i": jnp.int32(1)})


@pytest.mark.parametrize("averaged", [None, ["a/w", "a/mean"]], ids=["trainable", "said"])
def test_the_map_for_restoring_is_tf_s(averaged):
    with tf.Graph().as_default():
        with tf.variable_scope("a"):
            variables = [
                tf.get_variable("w", (2,)),
                tf.get_variable("b", (2,)),
                tf.get_variable("mean", (2,), trainable=False),
            ]
            keys = ["variables", "moving_average_variables"]
            tf.get_variable("ema_too", (2,), trainable=False, collections=keys)
            tf.get_variable("mine", (2,), trainable=False, collections=["mine"])
            tf.get_variable("mine_too", (2,), collections=["mine"])
            tf.get_local_variable("count", (2,))
        variables.append(tf.train.get_or_create_global_step())
        ema = tf.train.ExponentialMovingAverage(0.9)
        said = None if averaged is None else [v for v in variables if v.op.name in averaged]
        theirs = {k: v.op.name for k, v in ema.variables_to_restore(said).items()}

    def model(scope):
        for name in ("w", "b"):
            scope.get_variable(f"a/{name}", (2,))
        scope.get_variable("a/mean", (2,), trainable=False)
        keys = ["variables", "moving_average_variables"]
        scope.get_variable("a/ema_too", (2,), trainable=False, collections=keys)
        scope.get_variable("a/mine", (2,), trainable=False, collections=["mine"])
        scope.get_variable("a/mine_too", (2,), collections=["mine"])
        scope.get_local_variable("a/count", (2,))
        scope.get_variable("global_step", (), jnp.int32, trainable=False)

    ours = js.ExponentialMovingAverage(0.9).variables_to_restore(js.declare(model)(), averaged)
    assert ours == theirs
    assert len(ours) == 6 - (averaged is not None)


# Where jscope differs on purpose.


def test_difference_the_name_does_not_depend_on_the_scope_in_which_averages_are_made():
    with tf.Graph().as_default():
        w = tf.get_variable("w", (2,))
        with tf.variable_scope("train"):
            ema = tf.train.ExponentialMovingAverage(0.9)
            ema.apply([w])
        assert ema.average_name(w) == "train/w/ExponentialMovingAverage"
    ema = js.ExponentialMovingAverage(0.9)
    assert list(ema.init({"w": jnp.ones(2)})) == ["w/ExponentialMovingAverage"]


def test_difference_in_half_precision_debiasing_counts_in_float32():
    xs = [np.full((2,), 3, np.float16)] * 3
    debiased = theirs(0.9999, xs, kind="tensor", zero_debias=True)[-1]
    average = "dense/w/ExponentialMovingAverage"
    assert debiased[f"{average}/local_step"].dtype == np.float16
    assert np.all(np.isinf(debiased[average]))  # 1 - 1e-4 is 1 in float16, and 1 - 1 ** t is 0
    mine = ours(0.9999, xs, zero_debias=True)[-1]
    assert mine[f"{average}/local_step"].dtype == jnp.float32
    np.testing.assert_allclose(np.float32(mine[average]), 3, rtol=2e-3)


def test_tf_s_debiased_averages_are_restored_as_tf_restores_them(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        w = tf.constant([1.0, 2.0], name="dense/w")
        update = tf.train.ExponentialMovingAverage(0.9, zero_debias=True).apply([w])
        session.run(tf.global_variables_initializer())
        session.run(update)
        path = tf.train.Saver().save(session, str(tmp_path / "model"))
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("dense"):
            w = tf.get_variable("w", (2,))
        names = tf.train.ExponentialMovingAverage(0.9).variables_to_restore()
        tf.train.Saver(names).restore(session, path)
        expected = session.run(w)
    declared = js.declare(lambda scope: scope.get_variable("dense/w", (2,)))()
    names = js.ExponentialMovingAverage(0.9).variables_to_restore(declared)
    saver = js.Saver(tmp_path / "ours")
    np.testing.assert_array_equal(saver.restore(declared, path, rename=names)["dense/w"], expected)
    average = "dense/w/ExponentialMovingAverage"
    assert saver.report.ignored == (f"{average}/biased", f"{average}/local_step")
