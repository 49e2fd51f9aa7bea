"""The ported program: `examples/porting/before.py` and `after.py` do the same.

Both start from one checkpoint, which TensorFlow wrote; each reads what the other has written.
"""

import importlib.util
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jscope as js

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf

from jscope import tf_checkpoint

HERE = Path(__file__).parents[2] / "examples" / "porting"


def example(name):
    spec = importlib.util.spec_from_file_location(f"porting_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


before, after = example("before"), example("after")


@pytest.fixture(autouse=True)
def jax_defaults():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def data(classes):
    random = np.random.default_rng(0)
    images = random.normal(size=(16, 8, 8, 1)).astype(np.float32)
    return images, random.integers(0, classes, 16).astype(np.int32)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Initial values, by TensorFlow."""
    path = str(tmp_path_factory.mktemp("start") / "model.ckpt")
    before.train(*data(10), 0, path)
    return path


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    """Checkpoints of twenty steps, by both."""
    folder = tmp_path_factory.mktemp("trained")
    paths = {module: str(folder / module.__name__) for module in (before, after)}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for module, path in paths.items():
            module.train(*data(10), 20, path, start)
    return paths


def values(path):
    stored = tf_checkpoint.open(path)
    return {name: stored[name].read() for name in stored}


def test_variables_are_made_in_the_same_order_with_the_same_names():
    images, labels = data(10)
    with tf.Graph().as_default():
        before.towers(tf.constant(images), tf.constant(labels), 10)
        theirs = [(v.op.name, tuple(v.shape), v.trainable) for v in tf.global_variables()]
        losses = [loss.op.name for loss in tf.losses.get_regularization_losses()]
    declared = js.declare(after.towers)(images, labels, 10)
    assert [(n, s.shape, s.trainable) for n, s in declared.items()] == theirs
    regularized = [
        name for name, spec in declared.items() if spec.regularizer not in (None, js.no_regularizer)
    ]
    assert [loss.split("/Regularizer/")[0] for loss in losses] == regularized
    assert len(theirs) == 8
    assert len(regularized) == 3


def test_logits_and_losses_are_the_same_from_the_same_values(start):
    images, labels = data(10)
    stored = values(start)
    with tf.Graph().as_default(), tf.Session() as session:
        x, y = tf.constant(images), tf.constant(labels)
        loss = before.towers(x, y, 10)
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            logits = before.network(x, 10)
        tf.train.Saver().restore(session, start)
        theirs = session.run([logits, loss, tf.losses.get_regularization_loss()])
    declared = js.declare(after.towers)(images, labels, 10)
    params = js.VarTree({name: stored[name] for name in declared})
    scope = js.Scope(params)
    ours = [
        after.network(js.Scope(params), images, 10),
        after.towers(scope, images, labels, 10),
        declared.regularization_loss(params),
    ]
    assert np.shape(ours[0]) == (16, 10)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-5, atol=1e-5)


def test_training_gives_the_same_parameters_averages_and_step(start, trained):
    first, theirs, ours = values(start), values(trained[before]), values(trained[after])
    assert sorted(ours) == sorted(theirs)
    assert sum(name.endswith("/Momentum") for name in ours) == 8
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        np.testing.assert_allclose(value, theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert not np.array_equal(value, first[name]), name


@pytest.fixture(scope="module")
def six_and_twelve(start, tmp_path_factory):
    """Checkpoints of six steps and of twelve, by TensorFlow."""
    folder = tmp_path_factory.mktemp("steps")
    six, twelve = str(folder / "six"), str(folder / "twelve")
    before.train(*data(10), 6, six, start)
    before.train(*data(10), 6, twelve, six)
    return six, twelve


def off(path, expected):
    """The largest difference of any variable, relative to its largest value."""
    ours, theirs = values(path), values(expected)
    assert sorted(ours) == sorted(theirs)
    return max(np.max(np.abs(ours[n] - v)) / np.max(np.abs(v)) for n, v in theirs.items())


def test_training_goes_on_in_either_program_where_the_other_stopped(
    start, six_and_twelve, tmp_path
):
    six, twelve = six_and_twelve
    after.train(*data(10), 6, str(tmp_path / "there_here"), six)
    assert off(str(tmp_path / "there_here"), twelve) <= 1e-5
    after.train(*data(10), 6, str(tmp_path / "here"), start)
    before.train(*data(10), 6, str(tmp_path / "here_there"), str(tmp_path / "here"))
    assert off(str(tmp_path / "here_there"), twelve) <= 1e-5


def test_without_the_slots_training_does_not_go_on(six_and_twelve, tmp_path):
    six, twelve = six_and_twelve
    stored = values(six)
    slots = {name: value for name, value in stored.items() if name.endswith("/Momentum")}
    assert all(np.any(value) for value in slots.values())
    path = str(tmp_path / "fresh")
    tf_checkpoint.write(path, stored | {n: np.zeros_like(v) for n, v in slots.items()})
    after.train(*data(10), 6, str(tmp_path / "off"), path)
    assert off(str(tmp_path / "off"), twelve) > 0.05


@pytest.mark.parametrize("writer", [before, after], ids=["before", "after"])
def test_fine_tuned_logits_are_the_same_from_either_s_checkpoint(trained, writer):
    images, labels = data(5)
    path = trained[writer]
    untuned = before.fine_tune(images, labels, 0, path)
    assert not np.any(untuned)  # the new head begins at zero
    theirs = before.fine_tune(images, labels, 20, path)
    ours = after.fine_tune(images, labels, 20, path)
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_fine_tuning_begins_from_the_averages_not_the_parameters(trained):
    images, labels = data(5)
    ours = after.fine_tune(images, labels, 1, trained[after])
    stored = values(trained[after])
    averages = {n: v for n, v in stored.items() if n.endswith("/ExponentialMovingAverage")}
    assert len(averages) == 8
    only_averages = str(Path(trained[after]).with_name("averages"))
    tf_checkpoint.write(only_averages, averages)
    np.testing.assert_array_equal(ours, after.fine_tune(images, labels, 1, only_averages))
