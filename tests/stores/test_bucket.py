"""Buckets: sizes, which a listing doesn't have, and objects that change."""

import numpy as np
import pytest

import jscope as js
from jscope._stores import bucket as buckets
from jscope._stores.bucket import Bucket
from jscope._stores.paths import located
from jscope._stores.store import store_of


@pytest.fixture
def bucket(s3):
    return Bucket("s3", s3.bucket)


@pytest.mark.parametrize("size", [0, 1, 5, 1 << 16, 100_003])
@pytest.mark.parametrize("is_told", [True, False])
def test_the_size_of_an_object_is_found(s3, bucket, monkeypatch, size, is_told):
    s3.put_object("x", bytes(size))
    if not is_told:  # as Google's server, whose errors don't have it
        monkeypatch.setattr(buckets, "_size_in_error", lambda error: None)
    assert bucket.size("x") == size
    requests = s3.requests()
    assert len(requests) == 1 or not is_told
    assert sum(r.nbytes or 0 for r in requests) <= 2 * buckets._NEAR
    assert bucket.size("y") is None


@pytest.mark.parametrize("size", [0, 1, 8])
def test_a_size_is_compared_by_one_request(s3, bucket, size):
    s3.put_object("x", bytes(size))
    s3.requests()
    for other in (0, 1, 7, 8, 9, 100):
        assert bucket.has_size("x", other) == (size == other)
        assert len(s3.requests()) == 1
    assert bucket.has_size("y", 8) is None


def test_reading_beyond_the_end_is_an_error(s3, bucket):
    s3.put_object("x", bytes(8))
    with pytest.raises(ValueError, match="x ends too soon"):
        bucket.read("x", 4, 9)
    with pytest.raises(ValueError, match="x ends too soon"):
        bucket.fill("x", [(4, memoryview(bytearray(5)))])
    with pytest.raises(FileNotFoundError, match="No such object"):
        bucket.fill("y", [(0, memoryview(bytearray(5)))])


def test_values_of_two_objects_of_one_name_never_mix(s3, bucket, monkeypatch):
    monkeypatch.setattr(buckets, "_PART", 4)
    monkeypatch.setattr(buckets, "_MOST_READS", 1)
    s3.put_object("x", b"a" * 8)
    into = memoryview(bytearray(8))

    class First:
        """The memory of the first part, after which another writer replaces the object."""

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return self

        def __setitem__(self, index, value):
            into[:4] = value
            s3.put_object("x", b"b" * 8)

    with pytest.raises(ValueError, match="was replaced while it was read"):
        bucket.fill("x", [(0, First()), (4, into[4:])])
    bucket.fill("x", [(0, into)])
    assert into == b"b" * 8


def test_keys_are_listed_beyond_a_page(s3, bucket):
    bucket.write_all((f"run/{i:04}", b"") for i in range(1100))
    s3.put_object("run0", b"")
    assert bucket.keys("run/") == [f"run/{i:04}" for i in range(1100)]


def test_keys_may_have_any_character(s3, bucket, tmp_path):
    name = "a b+c%20&é#?/w=[1]"
    np.savez(tmp_path / "x.npz", w=np.arange(3))
    bucket.write(f"{name}/x.npz", (tmp_path / "x.npz").read_bytes())
    np.testing.assert_array_equal(js.load_variable(s3.url(f"{name}/x.npz"), "w"), np.arange(3))


def test_keys_that_are_no_paths_are_no_files_of_a_directory(s3, bucket, tmp_path):
    np.savez(tmp_path / "x.npz", w=np.arange(3))
    data = (tmp_path / "x.npz").read_bytes()
    bucket.write_all([("run/", b""), ("run/d/", b""), ("run//x", b""), ("run/x.npz", data)])
    assert store_of(located(s3.url("run"))).names() == ["x.npz"]
    np.testing.assert_array_equal(js.load_variable(s3.url("run/x.npz"), "w"), np.arange(3))
