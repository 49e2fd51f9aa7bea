"""``drop=SLOTS`` leaves ``global_step`` out, but not of a model that declares it."""

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import tf_checkpoint
from jscope.interop import tensorflow


@pytest.fixture
def path(tmp_path):
    values = {"w": np.ones(2, np.float32), "w/Momentum": np.zeros(2, np.float32)}
    return tf_checkpoint.write(tmp_path / "m", values | {"global_step": np.int32(7)})


def test_slots_are_left_out_with_the_step(path):
    assert list(tensorflow.load(path, drop=tensorflow.SLOTS)) == ["w"]
    target = {"w": jnp.zeros(2)}
    tree, report = tensorflow.restore(target, path, drop=tensorflow.SLOTS)
    assert list(tree) == ["w"]
    assert report.unused == ()


@pytest.mark.parametrize("drop", [tensorflow.SLOTS, [tensorflow.SLOTS, "nothing"]])
def test_a_model_that_has_the_step_gets_it(path, drop):
    def model(scope):
        scope.get_variable("w", (2,))
        scope.get_variable("global_step", (), jnp.int32, trainable=False)

    tree, _ = tensorflow.restore(js.declare(model)(), path, drop=drop)
    assert tree["global_step"] == 7


def test_a_map_that_names_the_step_gets_it(path):
    target = {"w": jnp.zeros(2), "steps": jnp.int32(0)}
    names = {"/": "/", "global_step": "steps"}
    tree, _ = tensorflow.restore(target, path, names, drop=tensorflow.SLOTS)
    assert tree["steps"] == 7


def test_a_step_that_is_left_over_is_an_error_that_says_what_to_write(path):
    with pytest.raises(js.TreeMismatchError, match="slots and global_step are left out by drop="):
        tensorflow.restore({"w": jnp.zeros(2)}, path)
