"""What the tests of `examples/tf1` share: the programs by name, and TensorFlow's training."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from jscope import tf_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples" / "tf1"


def example(name):
    """The module of `examples/tf1`, beside its twin of the same name."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def values(path):
    """All of a checkpoint: name to array."""
    stored = tf_checkpoint.open(path)
    return {name: stored[name].read() for name in stored}


def assert_close(ours, theirs, tolerance):
    """Two mappings have the same names, dtypes and values."""
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        np.testing.assert_allclose(ours[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def train_twin(build, batch, start, stops, folder):
    """Train in TensorFlow, and write a checkpoint at each of some steps.

    Args:
        build: Builds the graph from a dict of placeholders; returns the operation that trains.
        batch: The arrays of each step, by its number, for these placeholders.
        start: The checkpoint to begin with, which must have every variable; None for random
            values, where biases and gains too are random.
        stops: The numbers of the steps, in their order.
        folder: Where to write.

    Returns:
        From each of the stops to its checkpoint.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        step = tf.train.get_or_create_global_step()
        holders = {name: tf.placeholder(x.dtype, x.shape) for name, x in batch(0).items()}
        update = build(holders)
        noise = [
            tf.assign_add(variable, tf.random_normal(variable.shape, stddev=0.2))
            for variable in tf.trainable_variables()
        ]
        saver, paths = tf.train.Saver(max_to_keep=None), {}
        session.run(tf.global_variables_initializer())
        if start is None:
            session.run(noise)
        else:
            saver.restore(session, start)
        for stop in stops:
            while (number := int(session.run(step))) < stop:
                arrays = batch(number)
                session.run(update, {holders[name]: array for name, array in arrays.items()})
            paths[stop] = saver.save(session, str(folder / f"twin-{stop}"))
        return paths
