"""Exports and TensorFlow's checkpoints, written to S3: as on a disk."""

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import tf_checkpoint
from jscope.interop import safetensors, tensorflow

TREE = js.VarTree({"a/w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16)})


def test_an_export_to_tensorflow_is_read_and_listed_in_its_state_file(s3):
    for step in (1, 2):
        assert tensorflow.export(TREE, s3.url(f"run/m-{step}")) == s3.url(f"run/m-{step}")
    assert tensorflow.load(s3.url("run/m-1")) == js.VarTree(
        {n: np.asarray(v) for n, v in TREE.items()}
    )
    state = tf_checkpoint.read_state(s3.url("run"))
    assert [path.rpartition("/")[2] for path in state.all_model_checkpoint_paths] == ["m-1", "m-2"]
    assert str(tf_checkpoint.latest_checkpoint(s3.url("run"))) == s3.url("run/m-2")


def test_a_checkpoint_of_tensorflow_is_replaced_on_request_only(s3):
    tf_checkpoint.write(s3.url("m-1"), {"w": np.zeros(3)})
    with pytest.raises(js.CheckpointExistsError, match=r"m-1 exists.*; overwrite=True replaces it"):
        tf_checkpoint.write(s3.url("m-1"), {"w": np.ones(3)})
    tf_checkpoint.write(s3.url("m-1"), {"w": np.ones(3)}, overwrite=True)
    np.testing.assert_array_equal(tf_checkpoint.load_variable(s3.url("m-1"), "w"), np.ones(3))


@pytest.mark.parametrize("size", ["5GB", 20])
def test_an_export_to_safetensors_is_read(s3, size):
    assert safetensors.export(TREE, s3.url("out"), max_shard_size=size) == s3.url("out")
    restored = js.Saver(s3.url("out")).restore(TREE)
    assert restored == TREE
    with pytest.raises(js.CheckpointExistsError, match="out exists"):
        safetensors.export(TREE, s3.url("out"))


def test_an_export_that_fails_uploads_nothing(s3):
    with pytest.raises(js.CheckpointValueError):
        safetensors.export({"text": "no array"}, s3.url("out"))

    def values():
        yield "w", np.zeros(3)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        tf_checkpoint.write(s3.url("m-1"), values())
    mine = [r for r in s3.requests() if r.path.startswith(f"/{s3.bucket}/")]
    assert mine
    assert not [r for r in mine if r.method == "PUT"]
