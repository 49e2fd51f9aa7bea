"""Replacing a step, and the staging directories, in use and stale."""

import contextlib
import errno
import fcntl
import itertools
import multiprocessing
import os
import pathlib
import shutil
import threading

import jax.numpy as jnp
import pytest

import jscope as js
from jscope._stores import disk
from jscope.formats import _own_steps
from jscope.saver import Saver, _staging
from jscope.saver._staging import Staging

OLD, NEW = {"x": jnp.float32(1)}, {"x": jnp.float32(2), "y": jnp.ones(3)}


def value(saver, tree=OLD):
    return float(saver.restore(tree, unexpected="ignore")["x"])


def no_exchange(first, second):
    return False


@pytest.fixture(params=["exchange", "renames"])
def way(request, monkeypatch):
    """Both ways of replacing a directory: what the system can, and what any system can."""
    if request.param == "renames":
        monkeypatch.setattr(_staging, "exchange", no_exchange)
    return request.param


@pytest.mark.usefixtures("way")
def test_a_step_is_replaced_whole(tmp_path):
    saver = Saver(tmp_path)
    saver.save(OLD, 1)
    saver.save(NEW, 1, overwrite=True)
    assert saver.restore(NEW)["y"].shape == (3,)
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]
    saver.save_async(OLD, 1, overwrite=True).result()
    assert value(saver) == 1
    saver.save(NEW, 2, overwrite=True)
    assert saver.all_steps() == (1, 2)


class Death(BaseException):
    """As if the process had been killed: nothing is undone or removed."""


OPERATIONS = {
    "rename": os,
    "replace": os,
    "exchange": _staging,
    "flush": _staging,
    "flush_all": _staging,
    "write_state": _staging,
}


class NothingIsUndone(contextlib.ExitStack):
    def callback(self, *arguments):
        pass


def dies(saver, monkeypatch, home, operation, nth):
    """Overwrite step 1, and die before the nth call of an operation, or after it, if it is odd."""
    original, calls = getattr(home, operation), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == nth // 2 + 1:
            if nth % 2:
                original(*arguments)
            raise Death
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(home, operation, dying)
        patch.setattr(_staging.contextlib, "ExitStack", NothingIsUndone)
        patch.setattr(_staging, "remove", lambda path: None)
        try:
            saver.save(NEW, 1, overwrite=True)
        except Death:
            return True
        return False


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_whenever_a_process_dies_the_old_or_the_new_is_there(tmp_path, monkeypatch, operation):
    for nth in itertools.count():
        directory = tmp_path / str(nth)
        saver = Saver(directory)
        saver.save(OLD, 1)
        if not dies(saver, monkeypatch, OPERATIONS[operation], operation, nth):
            assert nth % 2 == 0
            break
        # Before anyone tidies up:
        assert _own_steps.committed_steps(directory) == (1,)
        assert (_own_steps.path_of(directory, 1) / "jscope.json").is_file()
        again = Saver(directory)
        assert again.all_steps() == (1,)
        assert value(again) in (1, 2)
        assert {name for name in os.listdir(directory) if name != "checkpoint"} == {"1"}
        again.save(NEW, 1, overwrite=True)
        assert value(again) == 2
        assert again.verify() > 0
    assert nth > 0 or operation in ("exchange", "rename")


@pytest.mark.usefixtures("way")
def test_what_fails_is_undone(tmp_path, monkeypatch):
    """If the parent can't be flushed, nobody knows what is on disk: the old one is put back."""
    saver = Saver(tmp_path)
    saver.save(OLD, 1)
    flush = disk.flush

    def fail(path):
        if path == tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        flush(path)

    with monkeypatch.context() as patch:
        patch.setattr(_staging, "flush", fail)
        for step in (1, 2):
            with pytest.raises(js.CheckpointError, match=f"Step {step} was not saved .*Input/outp"):
                saver.save(NEW, step, overwrite=True)
    assert saver.all_steps() == (1,)
    assert value(saver) == 1
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]


@pytest.mark.parametrize("operation", ["write_bytes", "replace"])
@pytest.mark.usefixtures("way")
def test_without_its_state_file_nothing_is_saved(tmp_path, monkeypatch, operation):
    saver = Saver(tmp_path, max_to_keep=1)
    saver.save(OLD, 1)
    home = {"write_bytes": pathlib.Path, "replace": os}[operation]
    original = getattr(home, operation)

    def fail(path, *arguments):
        if path.name == "state":
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *arguments)

    for step in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(home, operation, fail)
            with pytest.raises(js.CheckpointError, match=f"Step {step} was not saved .* No space"):
                saver.save(NEW, step, overwrite=True)
        assert saver.all_steps() == (1,)
        assert value(saver) == 1
        assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]
    saver.save(NEW, 2)
    assert saver.all_steps() == (2,)


def test_a_checkpoint_that_cannot_be_evicted_is_a_warning(tmp_path, monkeypatch):
    saver = Saver(tmp_path, max_to_keep=1)
    saver.save(OLD, 1)
    rename = os.rename

    def fail(source, target):
        if source == tmp_path / "1":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.warns(js.CheckpointWarning, match="could not be evicted: .*not permitted"):
            saver.save(NEW, 2)
    assert saver.all_steps() == (1, 2)
    saver.save(NEW, 3)
    assert saver.all_steps() == (3,)


def test_one_that_somebody_else_removed_meanwhile_needs_no_eviction(tmp_path, monkeypatch):
    saver = Saver(tmp_path, max_to_keep=1)
    saver.save(OLD, 1)
    write_state = _staging.write_state

    def and_remove(*arguments):
        write_state(*arguments)
        shutil.rmtree(tmp_path / "1", ignore_errors=True)

    monkeypatch.setattr(_staging, "write_state", and_remove)
    saver.save(NEW, 2)
    assert saver.all_steps() == (2,)


def test_a_step_that_appears_at_the_last_moment_is_not_overwritten(tmp_path, monkeypatch):
    rename = os.rename

    def too_late(source, target):
        if target == tmp_path / "1" and not target.exists():
            shutil.copytree(tmp_path / "7", target)
        rename(source, target)

    saver = Saver(tmp_path)
    saver.save(OLD, 7)
    monkeypatch.setattr(os, "rename", too_late)
    with pytest.raises(js.CheckpointExistsError, match="Step 1 is saved already"):
        saver.save(NEW, 1)


# The system's exchange.


def test_exchange_exchanges_or_says_that_it_cannot(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if disk.exchange(tmp_path / "a", tmp_path / "b"):
        assert os.listdir(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError) as caught:
        disk.exchange(tmp_path / "a", tmp_path / "c")
    assert caught.value.filename == str(tmp_path / "a")
    for code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        monkeypatch.setattr(disk, "renameat2", lambda: lambda *arguments: -1)
        monkeypatch.setattr(disk.ctypes, "get_errno", lambda code=code: code)
        assert not disk.exchange(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(disk, "renameat2", lambda: None)
    assert not disk.exchange(tmp_path / "a", tmp_path / "b")


def test_a_system_without_the_call_is_known(monkeypatch):
    def without(*arguments, **options):
        raise OSError

    for library in (without, lambda *arguments, **options: object()):
        monkeypatch.setattr(disk.ctypes, "CDLL", library)
        assert disk.renameat2.__wrapped__() is None


# Staging directories.


def hold(directory, made, over):
    staging = Staging(directory)
    made.send(staging.path)
    over.recv()


def test_staging_directories_in_use_stay_and_stale_ones_go(tmp_path):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(tmp_path, theirs, theirs))
    process.start()
    path = ours.recv()
    mine = Staging(tmp_path)
    for _ in range(2):
        Saver(tmp_path).save(OLD, 1, overwrite=True)
        assert path.is_dir()
        assert mine.path.is_dir()
    process.kill()
    process.join()
    Saver(tmp_path)
    assert not path.exists()
    assert mine.path.is_dir()
    mine.leave()
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]


def test_a_dead_process_may_have_left_anything(tmp_path):
    Saver(tmp_path).save(OLD, 3)
    for name, inside in (
        (".tmp-a", ["lock", "3/x", "evicted-2/y", "replaced-x/y"]),
        (".tmp-b", []),
        (".tmp-", []),
    ):
        (tmp_path / name).mkdir()
        for file in inside:
            (tmp_path / name / file).parent.mkdir(exist_ok=True)
            (tmp_path / name / file).touch()
    # What was replaced is put back, if nothing took its place.
    for step in (3, 4, 5):
        shutil.copytree(tmp_path / "3", tmp_path / ".tmp-a" / f"replaced-{step}")
    (tmp_path / ".tmp-a" / "replaced-5" / "jscope.json").unlink()
    (tmp_path / ".tmp-c").write_text("a file of somebody else")
    saver = Saver(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".tmp-c", "3", "4", "checkpoint"]
    assert saver.all_steps() == (3, 4)


def test_a_staging_directory_that_is_swept_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    flock, seen = fcntl.flock, []

    def swept(descriptor, how):
        if not seen:
            seen.append(os.listdir(tmp_path))
            shutil.rmtree(tmp_path / seen[0][0])
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", swept)
    staging = Staging(tmp_path)
    assert os.listdir(tmp_path) == [staging.path.name]
    assert seen != [[staging.path.name]]
    staging.leave()
    mkdir = os.mkdir

    def gone(path, *arguments):
        mkdir(path, *arguments)
        if not seen[1:]:
            seen.append(path)
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", gone)
    staging = Staging(tmp_path)
    assert os.listdir(tmp_path) == [staging.path.name]


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def bare(request, monkeypatch):
    """A file system without locks, links and exchanges, as some that FUSE mounts."""

    def fail(*arguments):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(_staging, "exchange", lambda *names: False)


@pytest.mark.usefixtures("bare")
def test_without_locks_of_two_savers_of_a_step_one_saves(tmp_path, monkeypatch):
    put, both = _staging._put_in_place, threading.Barrier(2, timeout=60)

    def at_once(*arguments, **options):
        both.wait()
        put(*arguments, **options)

    monkeypatch.setattr(_staging, "_put_in_place", at_once)
    outcomes = []

    def save(tree):
        try:
            Saver(tmp_path).save(tree, 1)
            outcomes.append(float(tree["x"]))
        except js.CheckpointExistsError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=save, args=(tree,)) for tree in (OLD, NEW)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (outcome for outcome in outcomes if not isinstance(outcome, str))
    (loser,) = (outcome for outcome in outcomes if isinstance(outcome, str))
    assert "Step 1 is saved already" in loser
    assert value(Saver(tmp_path)) == winner
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]


@pytest.mark.usefixtures("bare")
def test_without_locks_a_save_that_another_replaced_at_once_spoils_nothing(tmp_path, monkeypatch):
    saver, other = Saver(tmp_path), Saver(tmp_path)
    saver.save(OLD, 1)
    replace, seen = os.replace, []

    def and_another(source, target):
        replace(source, target)
        if not seen:
            seen.append(target)
            other.save(NEW, 1, overwrite=True)

    monkeypatch.setattr(os, "replace", and_another)
    saver.save(OLD, 1, overwrite=True)
    assert seen
    assert value(saver) == 2
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]


@pytest.mark.usefixtures("bare")
def test_without_locks_links_and_exchanges_steps_are_saved_replaced_and_evicted(tmp_path):
    saver = Saver(tmp_path, max_to_keep=2)
    for step in (1, 2, 3):
        saver.save_async(OLD, step).result()
    saver.save(NEW, 3, overwrite=True)
    assert value(saver) == 2
    assert saver.all_steps() == (2, 3)
    assert sorted(os.listdir(tmp_path)) == ["2", "3", "checkpoint"]


def test_where_nothing_can_be_locked_nothing_is_swept_and_all_is_saved(tmp_path, monkeypatch):
    def fail(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    (tmp_path / ".tmp-whose").mkdir()
    saver = Saver(tmp_path)
    saver.save(OLD, 1)
    saver.save(NEW, 1, overwrite=True)
    assert value(saver) == 2
    assert sorted(os.listdir(tmp_path)) == [".tmp-whose", "1", "checkpoint"]


def test_a_reader_beside_a_saving_thread_removes_nothing_of_it(tmp_path, monkeypatch):
    turn, flush_all = threading.Event(), _staging.flush_all

    def late(*paths):
        assert turn.wait(60)
        flush_all(*paths)

    monkeypatch.setattr(_staging, "flush_all", late)
    saver = Saver(tmp_path)
    handle = saver.save_async(NEW, 1)
    for _ in range(3):
        assert Saver(tmp_path).all_steps() == ()
    turn.set()
    handle.result()
    assert value(saver) == 2


def test_a_save_waits_for_one_of_another_saver_in_the_same_directory(tmp_path, monkeypatch):
    turn, flush_all = threading.Event(), _staging.flush_all

    def late(*paths):
        if paths[0].name == "1":
            assert turn.wait(60)
        flush_all(*paths)

    monkeypatch.setattr(_staging, "flush_all", late)
    handle = Saver(tmp_path).save_async(OLD, 1)
    threading.Timer(0.2, turn.set).start()
    Saver(tmp_path).save(NEW, 2)
    assert handle.path.exists()
    assert handle.result() == tmp_path / "1"


# Flushing.


def test_a_failure_to_flush_in_any_thread_is_raised(tmp_path, monkeypatch):
    files = [tmp_path / str(i) for i in range(20)]
    for file in files:
        file.touch()
    fsync = os.fsync
    flushed = []

    def record(descriptor):
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    disk.flush_all(tmp_path)
    assert sorted(flushed) == sorted(map(str, [tmp_path, *files]))
    flushed.clear()
    disk.flush_all(files[3])
    assert flushed == [str(files[3])]
    for bad in (0, 1, 19):

        def fail(descriptor, bad=files[bad]):
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(bad):
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            disk.flush_all(tmp_path)


def test_where_no_thread_can_start_all_is_flushed_nevertheless(tmp_path, monkeypatch):
    for i in range(20):
        (tmp_path / str(i)).touch()
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    disk.flush_all(tmp_path)
    assert len(flushed) == 21
