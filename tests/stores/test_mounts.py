"""Buckets that are mounted by FUSE are known by the system's table of mounts."""

import os

import pytest

import jscope as js
from jscope._stores import mounts

TABLE = r"""22 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:41 / {0}/gcs rw,nosuid shared:5 - fuse.gcsfuse my-bucket rw,user_id=0
31 22 0:42 / {0}/with\040space rw - fuse mountpoint-s3 rw
32 22 0:43 / {0}/gcs/inner rw - tmpfs tmpfs rw
33 22 0:44 / {0}/ssh rw - fuse.sshfs s3fs@host:/home rw
34 22 0:45 / {0}/was rw - fuse.s3fs s3fs rw
35 34 0:46 / {0}/was rw - xfs /dev/sdb rw
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    file = tmp_path / "mountinfo"
    file.write_text(TABLE.format(tmp_path))
    monkeypatch.setattr(mounts, "_MOUNTS", file)
    return file


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("gcs", "gcsfuse"),
        ("gcs/run/12", "gcsfuse"),
        ("gcs2", None),
        ("gcs/inner/run", None),
        ("with space/run", "mountpoint-s3"),
        ("was/run", None),
        ("else", None),
    ],
)
@pytest.mark.usefixtures("table")
def test_the_mount_that_is_nearest_says_who_mounts_a_bucket(tmp_path, name, program):
    assert mounts.bucket_mounter(tmp_path / name) == program


def test_a_link_to_a_bucket_is_in_it_and_a_system_without_a_table_has_none(
    tmp_path, table, monkeypatch
):
    os.symlink(tmp_path / "gcs", tmp_path / "link")
    assert mounts.bucket_mounter(tmp_path / "link" / "run") == "gcsfuse"
    table.unlink()
    assert mounts.bucket_mounter(tmp_path / "gcs") is None
    monkeypatch.undo()
    assert mounts.bucket_mounter(tmp_path) is None


@pytest.mark.usefixtures("table")
def test_in_a_mounted_bucket_steps_are_saved_and_none_is_overwritten(tmp_path):
    saver = js.Saver(tmp_path / "gcs" / "run")
    saver.save({"x": 1}, 1)
    with pytest.raises(js.CheckpointError, match="gcsfuse mounts a bucket there, and moves a dir"):
        saver.save({"x": 2}, 1, overwrite=True)
    saver.save({"x": 2}, 2, overwrite=True)
    assert saver.all_steps() == (1, 2)
    assert [saver.restore(step=step)["x"] for step in (1, 2)] == [1, 2]
    assert sorted(os.listdir(saver.directory)) == ["1", "2", "checkpoint"]
