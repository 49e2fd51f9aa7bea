"""Steps and directories of a Saver: what is one, what is listed, what is never touched."""

import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope.saver import Saver, _staging

# Steps.


def test_steps_are_listed_in_order_and_the_latest_is_restored(saver):
    for step in (10, 9, 0, 100):
        saver.save({"x": jnp.int32(step)}, step)
    assert saver.all_steps() == (0, 9, 10, 100)
    assert saver.latest_step() == 100
    target = {"x": jnp.int32(0)}
    assert int(saver.restore(target)["x"]) == 100
    assert int(saver.restore(target, 9)["x"]) == 9
    assert int(saver.restore(target, step=np.int64(0))["x"]) == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda saver: saver.latest_step(),
        lambda saver: saver.all_steps(),
        lambda saver: saver.restore(),
        lambda saver: js.latest_checkpoint(saver.directory),
        lambda saver: js.list_variables(saver.directory),
    ],
)
def test_a_directory_is_listed_once_to_find_its_newest_step(saver, tree, monkeypatch, read):
    saver.save(tree, 1)
    saver.save(tree, 2)
    listed = []
    original = os.listdir

    def listdir(directory):
        listed.append(directory)
        return original(directory)

    monkeypatch.setattr(os, "listdir", listdir)
    read(saver)
    assert listed == [saver.directory]


@pytest.mark.parametrize("step", [np.int64(3), np.array(3), jnp.int32(3), np.uint8(3)])
def test_integers_of_numpy_and_jax_are_steps(saver, tree, step):
    assert saver.save(tree, step) == saver.directory / "3"
    assert saver.all_steps() == (3,)
    assert type(saver.latest_step()) is int


@pytest.mark.parametrize(
    "step", [1.0, True, np.True_, "3", None, np.float32(1), jnp.float32(1), np.array([3]), 1j]
)
def test_other_steps_are_type_errors(saver, tree, step):
    for call in (saver.save, saver.save_async):
        with pytest.raises(TypeError, match="A step is a whole number, got"):
            call(tree, step)
    if step is not None:
        saver.save(tree, 1)
        with pytest.raises((TypeError, js.CheckpointNotFoundError), match=r"A step is|There is no"):
            saver.restore(tree, step)


def test_a_jax_bool_or_tracer_is_no_step(saver, tree):
    with pytest.raises(js.CheckpointValueError, match="A step is a whole number"):
        saver.save(tree, jnp.bool_(True))
    with pytest.raises(js.CheckpointValueError, match="A step is a whole number"):
        jax.jit(lambda step: saver.save(tree, step))(3)


def test_a_negative_step_is_a_value_error(saver, tree):
    with pytest.raises(ValueError, match="A step is at least 0, got -1"):
        saver.save(tree, -1)
    assert saver.all_steps() == ()


def test_a_step_that_is_not_there_is_an_error_that_lists_those_that_are(saver, tree):
    for step in (1, 5):
        saver.save(tree, step)
    with pytest.raises(js.CheckpointNotFoundError) as caught:
        saver.restore(tree, 2)
    assert str(caught.value) == (
        f"There is no step 2 in {saver.directory}; it has steps 1, 5. Leave the step out for the "
        "latest one."
    )


@pytest.mark.parametrize("is_there", [True, False])
def test_an_empty_or_absent_directory_has_no_checkpoint(tmp_path, tree, is_there):
    directory = tmp_path / "runs"
    if is_there:
        directory.mkdir()
    saver = Saver(directory)
    assert saver.latest_step() is None
    assert saver.all_steps() == ()
    with pytest.raises(FileNotFoundError, match=f"There is no checkpoint in {directory}"):
        saver.restore(tree)
    with pytest.raises(FileNotFoundError, match="it has no checkpoint at all"):
        saver.restore(tree, 3)
    assert directory.exists() == is_there


def test_a_saved_step_is_overwritten_only_if_that_is_said(saver, tree):
    path = saver.save(tree, 1)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    for call in (saver.save, saver.save_async):
        with pytest.raises(js.CheckpointExistsError) as caught:
            call({"x": jnp.ones(1)}, 1)
        assert str(caught.value) == (
            f"Step 1 is saved already, in {path}. To replace it write saver.save(tree, 1, "
            "overwrite=True): the old one stays until the new one is complete and on disk."
        )
    assert isinstance(caught.value, FileExistsError)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_whatever_is_in_the_way_of_a_step_is_left_alone(saver, tree, kind):
    path = saver.directory / "1"
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises(js.CheckpointExistsError, match="is in the way of step 1, and is not a che"):
        saver.save(tree, 1)
    assert os.listdir(saver.directory) == ["1"]
    assert saver.all_steps() == ()


def test_two_savers_that_save_one_step_leave_one_whole_checkpoint(tmp_path, tree, monkeypatch):
    # As two processes may; in one, a save waits for another in the same directory.
    monkeypatch.setattr("jscope.saver._saver.wait_for_directory", lambda directory: None)
    first, second = Saver(tmp_path), Saver(tmp_path)
    commit, turn = _staging.commit, threading.Event()

    def late(*arguments, **options):
        if threading.current_thread().name == "jscope-save-1":
            assert turn.wait(60)
        commit(*arguments, **options)

    monkeypatch.setattr("jscope.saver._on_disk.commit", late)
    slow = first.save_async(tree, 1)
    second.save({"x": jnp.ones(1)}, 1)
    turn.set()
    with pytest.raises(js.CheckpointExistsError, match="Step 1 is saved already"):
        slow.result()
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]
    np.testing.assert_array_equal(second.restore({"x": jnp.zeros(1)})["x"], [1.0])


def test_what_is_no_checkpoint_is_not_listed(saver, tree):
    path = saver.save(tree, 7)
    for name in ("08", "x", "-1", "1.5", "٣", "²", ".tmp-0123", "9", "tmp"):
        shutil.copytree(path, saver.directory / name)
    (saver.directory / "9" / "jscope.json").unlink()
    (saver.directory / "10").mkdir()
    (saver.directory / "11").write_text("")
    assert saver.all_steps() == (7,)
    assert saver.latest_step() == 7


# Places.


def test_a_relative_directory_is_that_of_the_construction(tmp_path, tree, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saver = Saver("runs/a/../b")
    assert saver.directory == tmp_path / "runs" / "b"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert saver.save(tree, 1) == tmp_path / "runs" / "b" / "1"
    assert saver.restore(tree) == tree
    assert repr(saver) == f"Saver('{tmp_path}/runs/b')"


def test_the_home_directory_is_expanded(tmp_path, tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Saver("~/runs").save(tree, 1) == tmp_path / "runs" / "1"
    assert Saver(tmp_path / "runs").restore(tree) == tree


def test_a_place_that_is_no_file_system_is_refused(tmp_path, tree, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Saver(f"file://{tmp_path}/runs").directory == tmp_path / "runs"
    for url in ("hdfs://bucket/runs", "https://bucket"):
        with pytest.raises(js.CheckpointValueError, match="is not on this machine: jscope reads"):
            Saver(url)
    assert os.listdir(tmp_path) == []


def test_a_file_where_the_directory_should_be(tmp_path, tree):
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        saver = Saver(directory)
        with pytest.raises(js.CheckpointError, match=r"was not saved to .*: (File|Not)"):
            saver.save(tree, 1)
        with pytest.raises(js.CheckpointNotFoundError, match="There is no checkpoint in"):
            saver.restore(tree)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(tmp_path, tree):
    tmp_path.chmod(0o500)
    with pytest.raises(js.CheckpointError, match=r"was not saved to .*: PermissionError"):
        Saver(tmp_path).save(tree, 1)
    tmp_path.chmod(0o700)


def test_a_directory_that_refuses_new_entries(tree):
    # As a read-only one does, for root too.
    saver = Saver("/proc/self/checkpoints")
    with pytest.raises(js.CheckpointError, match="not saved to /proc/self/checkpoints: "):
        saver.save(tree, 1)
    assert saver.all_steps() == ()


def test_the_newest_step_is_found_by_at_most_two_listings(saver, tree, monkeypatch):
    """One for steps of jscope, which must be all of one moment, and one for those of others."""
    saver.save(tree, 1)
    saver.save(tree, 2)
    listings = []
    listdir, scandir = os.listdir, os.scandir

    def listed(of):
        def counted(path="."):
            if os.fspath(path) == str(saver.directory):
                listings.append(path)
            return of(path)

        return counted

    monkeypatch.setattr(os, "listdir", listed(listdir))
    monkeypatch.setattr(os, "scandir", listed(scandir))
    assert js.latest_checkpoint(saver.directory).name == "2"
    assert 0 < len(listings) <= 2
