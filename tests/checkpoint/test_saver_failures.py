"""Saves that fail, are interrupted, or whose process dies: nothing of them is left."""

import os
import shutil
import threading

import jax.numpy as jnp
import pytest

import jscope as js
from jscope._stores import disk
from jscope.formats import _own_packed
from jscope.saver import Saver, _on_disk, _orbax, _staging, _write

# Failures of writing.


STAGES = {
    "make_directory": _on_disk,
    "merge": _write,
    "write_index": _staging,
    "flush_all": _staging,
}


def failing(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", sorted(STAGES))
def test_a_failed_save_leaves_nothing_and_can_be_repeated(saver, tree, monkeypatch, place):
    saver.save({"x": jnp.ones(1)}, 1)
    monkeypatch.setattr(STAGES[place], place, failing)
    with pytest.raises(js.CheckpointError) as caught:
        saver.save(tree, 2)
    assert str(caught.value) == (
        f"Step 2 was not saved to {saver.directory}: OSError: [Errno 28] No space left on device"
    )
    assert caught.value.__cause__.errno == 28
    assert sorted(os.listdir(saver.directory)) == ["1", "checkpoint"]
    monkeypatch.undo()
    saver.save(tree, 2)
    assert saver.restore(tree) == tree


@pytest.mark.parametrize("when", ["begins", "ends"])
def test_an_error_of_orbax_is_told_with_step_and_path(saver, tree, monkeypatch, when):
    def begin(path, arrays, **options):
        if when == "begins":
            raise ValueError("DATA_LOSS: line one\nline two")
        return lambda: failing()

    monkeypatch.setattr(_orbax, "begin", begin)
    message = f"Step 1 was not saved to {saver.directory}: "
    with pytest.raises(js.CheckpointError) as caught:
        saver.save(tree, 1, portable=True)
    assert str(caught.value).startswith(message)
    assert "line two" not in str(caught.value)
    assert os.listdir(saver.directory) == []


def test_a_failed_rename_is_not_taken_for_a_step_that_exists(saver, tree, monkeypatch):
    rename = os.rename

    def fail_to_commit(source, target):
        if target == saver.directory / "1":
            failing()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_to_commit)
        with pytest.raises(js.CheckpointError, match="No space left on device") as caught:
            saver.save(tree, 1)
    assert type(caught.value) is js.CheckpointError
    assert os.listdir(saver.directory) == []


def test_an_interrupted_save_leaves_nothing(saver, tree, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("jscope.saver._staging.flush_all", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saver.save(tree, 1)
    assert os.listdir(saver.directory) == []


def test_a_save_that_is_committed_does_not_fail_afterwards(saver, tree, monkeypatch):
    rmtree = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    saver.save(tree, 1)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert saver.restore(tree) == tree


def test_all_is_flushed_before_the_renames_and_the_parent_before_what_is_evicted(
    tmp_path, tree, monkeypatch
):
    events = []

    def record(what, function):
        def recorded(*arguments):
            name = arguments[-1]
            name = os.readlink(f"/proc/self/fd/{name}") if what == "fsync" else str(name)
            events.append((what, name))
            function(*arguments)

        return recorded

    for what in ("fsync", "rename", "replace"):
        monkeypatch.setattr(os, what, record(what, getattr(os, what)))
    directory = tmp_path / "a" / "b"
    saver = Saver(directory, max_to_keep=1)
    saver.save({"x": jnp.ones(1)}, 0)
    events.clear()
    path = saver.save(tree | {"large": jnp.zeros(_own_packed.LIMIT // 4 + 1)}, 1)
    at = events.index(("rename", str(path)))
    flushed = {name.partition("/1")[2] for what, name in events[:at] if what == "fsync"}
    assert flushed >= {str(p)[len(str(path)) :] for p in [path, *path.rglob("*")]}
    assert any(name.endswith("/state") for what, name in events[:at] if what == "fsync")
    (_, trash) = events[at + 3]
    assert trash.startswith(f"{directory}/.tmp-")
    assert events[at + 1 :] == [
        ("replace", str(directory / "checkpoint")),
        ("fsync", str(directory)),
        ("rename", trash),
        ("fsync", str(directory)),
    ]


def test_a_new_directory_is_flushed_to_its_parents(tmp_path, tree, monkeypatch):
    flushed = []
    fsync = os.fsync

    def record(descriptor):
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    Saver(tmp_path / "a" / "b").save(tree, 1)
    assert flushed[:2] == [str(tmp_path), str(tmp_path / "a")]


@pytest.mark.parametrize("file", ["", "packed.bin"])
def test_what_is_flushed_beside_other_work_and_fails_is_not_saved(
    tmp_path, tree, monkeypatch, file
):
    fsync = os.fsync

    def fail(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name == str(tmp_path) if not file else name.endswith(f"/{file}"):
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    saver = Saver(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(js.CheckpointError, match=r"Step 1 was not saved .* Input/output error"):
            saver.save(tree, 1)
    assert os.listdir(saver.directory) == []
    saver.save(tree, 1)
    assert saver.restore(tree) == tree


class Death(BaseException):
    """As if the process had been killed: nothing is cleaned up."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", sorted(STAGES | {"commit": _on_disk}))
def test_a_death_at_any_stage_leaves_the_old_or_the_new(saver, monkeypatch, place, when):
    stage = (STAGES | {"commit": _on_disk})[place]
    original = getattr(stage, place)

    def dying(*arguments, **options):
        if when == "after":
            original(*arguments, **options)
        raise Death

    saver.save({"x": jnp.float32(1)}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(stage, place, dying)
        patch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        with pytest.raises(Death):
            saver.save({"x": jnp.float32(2)}, 2)
    expected = 2 if (place, when) == ("commit", "after") else 1
    assert saver.latest_step() == expected
    assert saver.all_steps() == tuple(range(1, expected + 1))
    assert float(saver.restore({"x": jnp.float32(0)})["x"]) == expected
    saver.save({"x": jnp.float32(3)}, 3)
    assert saver.latest_step() == 3


def test_what_threads_did_not_flush_is_flushed(tmp_path, monkeypatch):
    class Dead(threading.Thread):
        """One that ends before its work, as by the error of a debugger's hook."""

        def start(self):
            pass

        def join(self, timeout=None):
            pass

    paths = [tmp_path / str(i) for i in range(20)]
    for path in paths:
        path.write_bytes(b"x")
    flushed = []
    monkeypatch.setattr(disk.threading, "Thread", Dead)
    monkeypatch.setattr(disk, "flush", flushed.append)
    disk.flush_all(tmp_path)
    assert sorted(flushed) == sorted([tmp_path, *paths])
