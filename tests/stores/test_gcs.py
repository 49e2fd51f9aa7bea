"""Google Cloud Storage, by an emulator.

It takes conditional writes for others, and gives no generations of what is read, which OCDBT needs:
neither is tried.
"""

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as v0
import pytest
from flax import serialization
from safetensors.numpy import save_file

import jscope as js
from jscope import tf_checkpoint
from jscope._stores.bucket import Bucket
from jscope._stores.paths import located
from jscope._stores.store import store_of

W = np.arange(6, dtype=np.float32).reshape(2, 3)
WRITE = {
    "jscope": (lambda p: js.Saver(p).save({"w": jnp.asarray(W)}, 1), ""),
    "orbax": (lambda p: v0.PyTreeCheckpointer(use_ocdbt=False).save(p / "x", {"w": W}), "x"),
    "tensorflow": (lambda p: tf_checkpoint.write(p / "m-1", {"w": W}), "m-1"),
    "safetensors": (lambda p: save_file({"w": W}, p / "x.safetensors"), ""),
    "npz": (lambda p: np.savez(p / "x.npz", w=W), "x.npz"),
    "flax": (lambda p: (p / "x").write_bytes(serialization.msgpack_serialize({"w": W})), "x"),
}


@pytest.mark.parametrize("kind", WRITE)
def test_every_format_is_read(gcs, tmp_path, kind):
    write, path = WRITE[kind]
    write(tmp_path)
    gcs.put(tmp_path, "run")
    url = gcs.url(f"run/{path}")
    assert js.list_variables(url) == [("w", [2, 3])]
    np.testing.assert_array_equal(js.Saver(url).restore({"w": jnp.zeros((2, 3))})["w"], W)


def test_the_steps_of_a_saver_are_listed(gcs, tmp_path):
    for step in (1, 12):
        js.Saver(tmp_path).save({"w": jnp.asarray(W)}, step)
    gcs.put(tmp_path, "run")
    assert js.Saver(gcs.url("run")).all_steps() == (1, 12)
    assert str(js.latest_checkpoint(gcs.url("run"))) == gcs.url("run/12")


def test_a_saver_saves_overwrites_and_evicts(gcs):
    large = np.arange(3 << 19, dtype=np.float32)
    with js.Saver(gcs.url("run"), max_to_keep=1) as saver:
        for step, overwrite in ((1, False), (2, False), (2, True)):
            tree = {"w": W, "large": large + step, "overwritten": overwrite}
            saver.save_async(tree, step, overwrite=overwrite)
        restored = saver.restore(tree)
        assert saver.all_steps() == (2,)
        assert saver.verify() == W.nbytes + large.nbytes
    np.testing.assert_array_equal(restored["large"], large + 2)
    assert restored["overwritten"] is True


@pytest.mark.parametrize("size", [1, 100_003])
def test_the_size_of_an_object_is_found(gcs, size):
    store_of(located(gcs.url())).write("x", bytes(size))
    bucket, key = Bucket("gs", "bucket"), f"{gcs.prefix}/x"
    assert bucket.size(key) == size
    assert bucket.has_size(key, size)
    assert not bucket.has_size(key, size + 1)


def test_files_are_written_listed_and_removed(gcs):
    store = store_of(located(gcs.url()))
    store.write_all((name, name.encode()) for name in ("a", "d/b", "d/c"))
    assert store.names() == ["a", "d/b", "d/c"]
    assert store.read("d/b") == b"d/b"
    store.remove(["a", "d/b", "never"])
    assert store.names() == ["d/c"]
