"""New files where a file system lacks links, as many of those that FUSE mounts do."""

import errno
import os
import threading

import numpy as np
import pytest

import jscope as js
from jscope._stores import disk
from jscope._stores.new_file import NewFile
from jscope.interop import safetensors

LACKING = [errno.EPERM, errno.ENOTSUP, errno.ENOSYS]


@pytest.fixture(params=LACKING, ids=errno.errorcode.get)
def without_links(request, monkeypatch):
    def fail(source, target):
        raise OSError(request.param, os.strerror(request.param), str(source), None, str(target))

    monkeypatch.setattr(os, "link", fail)


def write(path, data):
    with NewFile(path) as file:
        os.write(file.descriptor, data)
        file.commit()


needs_rename = pytest.mark.skipif(disk.renameat2() is None, reason="this system has no renameat2")


@needs_rename
@pytest.mark.usefixtures("without_links")
def test_without_links_a_file_appears_and_never_replaces_another(tmp_path):
    write(tmp_path / "a", b"first")
    with pytest.raises(js.CheckpointExistsError, match="not overwritten without a request"):
        write(tmp_path / "a", b"second")
    file = NewFile(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"another's")  # it came meanwhile
    with pytest.raises(js.CheckpointExistsError), file:
        file.commit()
    assert (tmp_path / "a").read_bytes() == b"first"
    assert (tmp_path / "b").read_bytes() == b"another's"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@needs_rename
@pytest.mark.usefixtures("without_links")
def test_without_links_of_many_that_create_a_file_one_does(tmp_path):
    files = [NewFile(tmp_path / "a") for _ in range(8)]
    for i, file in enumerate(files):
        os.write(file.descriptor, b"%d" % i)
    created = []

    def commit(i):
        try:
            files[i].commit()
            created.append(i)
        except js.CheckpointExistsError:
            files[i].discard()

    threads = [threading.Thread(target=commit, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = created
    assert (tmp_path / "a").read_bytes() == b"%d" % winner
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("without_links")
@pytest.mark.parametrize("rename", [None, lambda *arguments: -1], ids=["none", "refused"])
def test_where_no_file_can_be_created_alone_nothing_is_written(tmp_path, monkeypatch, rename):
    monkeypatch.setattr(disk, "renameat2", lambda: rename)
    monkeypatch.setattr(disk.ctypes, "get_errno", lambda: errno.EINVAL)
    path = tmp_path / "m"
    tree = js.VarTree({"w": np.ones(3, np.float32)})
    with pytest.raises(js.CheckpointError, match="has no way to create a file that never replaces"):
        write(tmp_path / "a", b"first")
    with pytest.raises(js.CheckpointError, match="Write it to a local disk and copy it from there"):
        safetensors.export(tree, path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    safetensors.export(tree, path, overwrite=True)
    assert js.load_variable(path, "w").tolist() == [1, 1, 1]


def test_another_failure_of_a_link_is_raised_as_it_is(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path / "a", b"first")
    assert os.listdir(tmp_path) == []
