"""TF1's partitioners, against TF1's own arithmetic."""

import itertools

import numpy as np
import pytest

from jscope import sharding

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1

SHAPES = [(1,), (7,), (64, 3), (3, 64), (1024, 1024), (5, 1000, 3), (999, 1)]
DTYPES = [np.float32, np.float16, np.int8, np.float64]


def pairs():
    for shards in (1, 2, 5, 100):
        yield (
            v1.fixed_size_partitioner(shards, axis=0),
            sharding.fixed_size_partitioner(shards, axis=0, mesh_axis="m"),
        )
    for size, limit in itertools.product((1, 100, 4096, 1 << 20), (None, 1, 3)):
        yield (
            v1.variable_axis_size_partitioner(size, axis=0, max_shards=limit),
            sharding.variable_axis_size_partitioner(size, axis=0, max_shards=limit, mesh_axis="m"),
        )
    for most, size in itertools.product((1, 2, 16), (1, 1000, 256 << 10)):
        yield (
            v1.min_max_variable_partitioner(most, axis=0, min_slice_size=size),
            sharding.min_max_variable_partitioner(most, axis=0, min_slice_size=size, mesh_axis="m"),
        )


@pytest.mark.parametrize(("theirs", "ours"), list(pairs()))
def test_the_numbers_of_shards_are_tensorflows(theirs, ours):
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        expected = theirs(shape=tf.TensorShape(shape), dtype=tf.as_dtype(dtype))
        assert ours.partitions(shape, dtype) == list(expected), (shape, dtype)
        cut = ours("v", shape, dtype)
        assert (cut[0] if cut else None) == ("m" if expected[0] > 1 else None)


def test_the_last_axis_too():
    theirs = v1.min_max_variable_partitioner(8, axis=1, min_slice_size=64)
    ours = sharding.min_max_variable_partitioner(8, axis=1, min_slice_size=64, mesh_axis="m")
    for shape in SHAPES[2:]:
        expected = theirs(shape=tf.TensorShape(shape), dtype=tf.float32)
        assert ours.partitions(shape, np.float32) == list(expected)
