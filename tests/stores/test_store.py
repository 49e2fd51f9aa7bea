"""Stores: the same operations, atomic each, on a file system and on S3."""

import os
import threading

import pytest

from jscope._stores.paths import located
from jscope._stores.store import store_of


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    return (
        tmp_path / "run" if request.param == "local" else request.getfixturevalue("s3").url("run")
    )


@pytest.fixture
def store(root):
    return store_of(located(root))


def test_what_is_written_is_read(store):
    assert store.read("12/a") is None
    store.write("12/a", b"one")
    assert store.read("12/a") == b"one"
    store.write("12/a", b"")
    assert store.read("12/a") == b""


def test_create_leaves_what_is_there(store):
    assert store.create("12/claim.1", b"first")
    assert not store.create("12/claim.1", b"second")
    assert store.read("12/claim.1") == b"first"


def test_of_many_that_create_a_name_one_does(store):
    created = []

    def create(i):
        if store.create("claim", b"%d" % i):
            created.append(i)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(created) == 1
    assert store.read("claim") == b"%d" % created[0]


def test_all_names_are_listed_at_any_depth(store):
    assert store.names() == []
    store.write_all((name, b"x") for name in ("12/b", "12/id/c", "120/a", "checkpoint"))
    assert store.names() == ["12/b", "12/id/c", "120/a", "checkpoint"]
    assert store.names("12") == ["12/b", "12/id/c"]
    assert store.names("1") == []


def test_many_files_are_written_whole(store):
    files = {f"d/{i}": bytes([i]) * (1000 * i) for i in range(20)}
    store.write_all(files.items())
    assert {name: store.read(name) for name in store.names()} == files


def test_what_is_removed_is_gone_and_what_is_gone_is_no_error(store):
    store.write_all((name, b"x") for name in ("12/a", "12/id/b", "12/id/c", "13/a"))
    store.remove(["12/id/b", "12/id/c", "12/a", "12/never"])
    assert store.names() == ["13/a"]
    store.remove(["12/a"])
    assert store.create("12/a", b"again")


def test_removing_files_removes_the_directories_they_leave_empty(tmp_path):
    store = store_of(tmp_path)
    store.write_all((name, b"x") for name in ("12/id/b", "13/a"))
    store.remove(["12/id/b"])
    assert os.listdir(tmp_path) == ["13"]
    store.remove(["13/a"])
    assert os.listdir(tmp_path) == []


def test_no_temporary_file_is_left(tmp_path):
    store = store_of(tmp_path)
    store.write("a", b"1")
    store.write("a", b"2")
    assert not store.create("a", b"3")
    assert os.listdir(tmp_path) == ["a"]


def test_a_lost_answer_to_create_is_not_taken_for_another_writer(s3):
    store = store_of(located(s3.url("run")))
    store.write("claim", b"mine")  # the request that the server got, and whose answer was lost
    assert store.create("claim", b"mine")
    assert not store.create("claim", b"another's")
