"""What the Saver relies on in Orbax, and what Orbax reads of ours: if an upgrade changes it,
these say so.
"""

import json
import logging
import sys
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope.formats import _own_packed
from jscope.formats._sealed_json import sealed
from jscope.saver import Saver, _orbax, _staging


@pytest.fixture
def nothing_packed(monkeypatch):
    """All arrays go to Orbax."""
    monkeypatch.setattr(_own_packed, "LIMIT", 0)


LARGE = {"a": jnp.arange(float(_own_packed.LIMIT // 4 + 1)), "b": jnp.ones(3)}


def load(path, item=""):
    """The checkpoint as both of Orbax's APIs read it, without being told what is in it.

    The older one is given the path of the item.
    """
    import orbax.checkpoint
    from orbax.checkpoint import v1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old, new = orbax.checkpoint.PyTreeCheckpointer().restore(path / item), v1.load(path)
    assert jax.tree.structure(old) == jax.tree.structure(new)
    for one, other in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(one, other)
    return new


def test_plain_orbax_reads_the_compressed_arrays(tmp_path):
    loaded = load(Saver(tmp_path, compression="zstd").save(LARGE, 1))
    assert list(loaded) == ["0"]
    np.testing.assert_array_equal(loaded["0"], LARGE["a"])


def test_orbax_aliases_names_which_is_why_it_is_given_numbers(tmp_path):
    path = tmp_path / "alias"
    _orbax.begin(path, {"a.b": jnp.ones(2), "a/b": jnp.zeros(2)}, nested=True)()
    (tmp_path / "out").mkdir()
    _orbax.take_out(path, tmp_path / "out")
    loaded = load(tmp_path / "out")
    np.testing.assert_array_equal(loaded["a.b"], loaded["a"]["b"])


def test_a_portable_checkpoint_is_read_by_stock_orbax(saver):
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:4]), ("x",)), PartitionSpec("x"))
    tree = {
        "params": {"enc/w": jax.device_put(jnp.arange(8.0), sharding), "b": np.float32(2)},
        "opt": (jnp.ones(2, jnp.bfloat16), [jnp.arange(3).astype("int4")]),
        "key": jax.random.key(0),
        "step": 7,
        "rate": 0.5,
        "name": "run",
        "nothing": None,
    }
    path = saver.save(tree, 1, portable=True)
    loaded = load(path, "default")
    assert sorted(loaded) == sorted(tree)
    assert sorted(loaded["params"]) == ["b", "enc"]
    np.testing.assert_array_equal(loaded["params"]["enc"]["w"], np.arange(8.0))
    np.testing.assert_array_equal(loaded["key"], jax.random.key_data(tree["key"]))
    np.testing.assert_array_equal(loaded["opt"]["0"], np.ones(2))
    assert [loaded[name] for name in ("step", "rate", "name", "nothing")] == [7, 0.5, "run", None]
    restored = saver.restore(tree)
    assert jax.tree.structure(restored) == jax.tree.structure(tree)
    assert js.VarTree(restored) == js.VarTree(tree)
    assert not (path / "packed.bin").exists()
    assert saver.verify(1) > 0


def managed(directory):
    """A stock manager of a directory."""
    import orbax.checkpoint

    return orbax.checkpoint.CheckpointManager(directory)


def test_stock_managers_and_checkpointers_restore_a_portable_checkpoint(saver):
    import orbax.checkpoint as ocp

    sharding = NamedSharding(Mesh(np.array(jax.devices()[:4]), ("x",)), PartitionSpec("x"))
    tree = {"enc": {"w": jax.device_put(jnp.arange(8.0), sharding), "b": jnp.ones(2, "bfloat16")}}
    for step in (3, 12):
        saver.save(tree, step, portable=True, metadata={"width": 8})
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree
    )
    with managed(saver.directory) as manager:
        assert manager.all_steps() == [3, 12]
        assert manager.latest_step() == 12
        assert manager.metadata(12).custom_metadata == {"width": 8}
        found = manager.restore(12, args=ocp.args.StandardRestore(target))
        plain = manager.restore(12, args=ocp.args.StandardRestore())
        alone = manager.restore(12)
    with ocp.StandardCheckpointer() as checkpointer:
        direct = checkpointer.restore(saver.directory / "12" / "default", target)
    for other in (found, plain, alone, direct):
        assert jax.tree.structure(other) == jax.tree.structure(tree)
        for one, expected in zip(jax.tree.leaves(other), jax.tree.leaves(tree), strict=True):
            assert one.dtype == expected.dtype
            np.testing.assert_array_equal(one, expected)
    assert found["enc"]["w"].sharding == sharding


def test_a_portable_checkpoint_is_called_as_orbax_calls_its_own(saver, tmp_path):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(tmp_path / "stock") as manager:
        manager.save(12, args=ocp.args.StandardSave({"a": jnp.ones(4)}))
    saver.save({"a": jnp.ones(4)}, 12, portable=True)

    def read(directory):
        return json.loads((directory / "12" / "_CHECKPOINT_METADATA").read_text())

    stock, ours = read(tmp_path / "stock"), read(saver.directory)
    assert ours.keys() == stock.keys()
    assert ours["item_handlers"] == stock["item_handlers"]
    assert ours["init_timestamp_nsecs"] <= ours["commit_timestamp_nsecs"] <= time.time_ns()


def test_a_portable_checkpoint_without_an_item_is_read_as_before(saver):
    tree = {"enc": {"w": jnp.arange(6.0).reshape(2, 3)}, "n": 3}
    path = saver.save(tree, 1, portable=True)
    for file in (path / "default").iterdir():
        file.rename(path / file.name)
    (path / "default").rmdir()
    (path / "_CHECKPOINT_METADATA").unlink()
    index = json.loads((path / "jscope.json").read_text())
    files = index["files"].items()
    index["files"] = {n.removeprefix("default/"): f for n, f in files if n[0] != "_"}
    del index["crc32c"]
    (path / "jscope.json").write_bytes(sealed(index))
    assert js.VarTree(Saver(saver.directory).restore(tree)) == js.VarTree(tree)
    assert saver.verify(1) > 0
    saver.save(tree, 2, portable=True)
    saver.save(tree, 1, portable=True, overwrite=True)
    assert saver.all_steps() == (1, 2)


def test_portable_steps_and_others_do_not_mix(tmp_path):
    tree, own, portable = {"w": jnp.ones(2)}, Saver(tmp_path / "own"), Saver(tmp_path / "portable")
    own.save(tree, 1)
    portable.save(tree, 1, portable=True)
    with pytest.raises(js.CheckpointValueError, match="would take steps 1 for its own, which"):
        own.save(tree, 2, portable=True)
    with pytest.raises(js.CheckpointValueError, match=r"could not read it\. Write saver\.save"):
        portable.save(tree, 2)
    own.save(tree, 1, portable=True, overwrite=True)
    own.save(tree, 2, portable=True)
    with managed(own.directory) as manager:
        assert manager.all_steps() == [1, 2]


def test_a_portable_step_is_not_overwritten_where_directories_are_not_exchanged(saver, monkeypatch):
    saver.save({"w": jnp.ones(2)}, 1, portable=True)
    monkeypatch.setattr(_staging, "exchange", lambda *names: False)
    with pytest.raises(js.CheckpointError, match="can't exchange two directories, and Orbax would"):
        saver.save({"w": jnp.zeros(2)}, 1, portable=True, overwrite=True)
    assert saver.restore({"w": jnp.zeros(2)})["w"].tolist() == [1, 1]
    with managed(saver.directory) as manager:
        assert manager.restore(1)["w"].tolist() == [1, 1]


def test_what_stock_orbax_does_not_hold_is_listed(saver, tmp_path):
    tree = {
        "big": 1 << 64,
        "bytes": b"",
        "empty": jnp.zeros((2, 0)),
        "good": jnp.ones(1),
        "number": 1j,
        "small": jnp.arange(3).astype("uint4"),
    }
    with pytest.raises(js.CheckpointValueError) as caught:
        saver.save(tree, 1, portable=True)
    assert str(caught.value).split("\n")[1:] == [
        "  'big' is a Python int, which Orbax does not hold",
        "  'bytes' is a Python bytes, which Orbax does not hold",
        "  'empty' has no elements, shape (2, 0), which Orbax does not hold",
        "  'number' is a Python complex, which Orbax does not hold",
        "  'small' has dtype uint4, which Orbax does not hold: save it cast",
    ]
    saver.save(tree, 1)
    with pytest.raises(Exception, match="Unsupported data type"):
        _orbax.begin(tmp_path / "refused", {"x": np.zeros(3, "uint4")})()


@pytest.mark.parametrize(
    "names", [("a", "a/b"), ("a/b", "a.b"), ("a//b",), ("a/b/c", "a.b.c", "a/b.c")]
)
def test_names_that_orbax_would_confuse_are_refused(saver, names):
    tree = dict.fromkeys(names, jnp.ones(1))
    with pytest.raises(js.CheckpointValueError, match="can't be saved for stock Orbax"):
        saver.save(tree, 1, portable=True)
    saver.save(tree, 1)
    assert sorted(saver.restore(tree)) == sorted(tree)


def test_another_save_of_the_process_waits_for_a_save_under_way(tmp_path):
    wait = _orbax.begin(tmp_path / "a", {"x": jnp.ones(2)})
    done = []
    thread = threading.Thread(
        target=lambda: done.append(_orbax.begin(tmp_path / "b", {"x": jnp.ones(2)})())
    )
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    wait()
    thread.join(60)
    assert len(done) == 1


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_compression_compresses(tmp_path, compression):
    saver = Saver(tmp_path, compression=compression)
    tree = {"x": jnp.zeros(1 << 21).at[::7].set(1.5), "small": jnp.ones(1 << 13)}
    path = saver.save(tree, 1)
    size = sum(file.stat().st_size for file in path.rglob("*"))
    assert (size < 1 << 20) == (compression == "zstd")
    assert js.VarTree(saver.restore(tree)) == js.VarTree(tree)
    assert saver.verify() == (1 << 23) + (1 << 15)


@pytest.mark.parametrize("compression", ["gzip", True, 3])
def test_other_compressions_are_refused(tmp_path, compression):
    with pytest.raises(js.CheckpointValueError, match="compression is None or 'zstd', got"):
        Saver(tmp_path, compression=compression)


def test_one_file_is_never_compressed(tmp_path):
    with pytest.raises(js.CheckpointValueError, match="the one file of sharded=False is never com"):
        Saver(tmp_path, compression="zstd", sharded=False)


@pytest.mark.usefixtures("nothing_packed")
def test_logging_is_quiet_during_calls_and_as_it_was_after(saver, caplog, capfd):
    loggers = logging.root, logging.getLogger("absl")
    before = [(list(logger.handlers), list(logger.filters)) for logger in loggers]
    caplog.set_level(logging.DEBUG)
    saver.save(LARGE, 1, portable=True)
    saver.save_async(LARGE, 2, portable=True).result()
    saver.restore(LARGE)
    assert [r for r in caplog.records if "orbax" in r.pathname or "absl" in r.pathname] == []
    assert [(logger.handlers, logger.filters) for logger in loggers] == before
    assert capfd.readouterr() == ("", "")


def test_a_program_that_saves_prints_nothing_and_keeps_its_own_logging(tmp_path):
    import subprocess

    code = f"""
import logging, sys
import jax.numpy as jnp, jscope as js
js.Saver({str(tmp_path)!r}).save({{"x": jnp.zeros(1 << 21)}}, 1, portable=True)
assert logging.root.handlers == [], logging.root.handlers
assert type(logging.getLogger("absl")).__name__ == "ABSLLogger"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_orbax_gives_the_root_logger_no_handler(saver, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    saver.save_async(LARGE, 1, portable=True).wait()
    saver.restore(LARGE)
    assert logging.root.handlers == []
