"""Processes of one program restore together: each byte is read once, and all end alike."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from saver_faults import reading

import jscope as js
from jscope import tf_checkpoint
from jscope.formats._boxes import slices
from jscope.saver import _exchange


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return js.Saver(tmp_path_factory.mktemp("together")).save(reading.tree(), 1)


NBYTES = sum(np.asarray(value).nbytes for value in reading.tree().values())


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    "target", ["numpy", "uncommitted", "replicated", "rows", "columns", "through"]
)
def test_what_several_processes_need_is_read_once(server, checkpoint, count, target):
    ends = reading.run(server, count, checkpoint, target)
    assert not [end for end in ends if "error" in end]
    assert [end["wrong"] for end in ends] == [[]] * count
    assert NBYTES <= sum(end["bytes"] for end in ends) <= 1.1 * NBYTES
    if target in ("numpy", "replicated", "through"):
        # A part by each, about the same.
        assert max(end["bytes"] for end in ends) < 2 * NBYTES / count


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("target", ["numpy", "columns"])
def test_files_and_shards_are_read_once_by_several_processes(server, tmp_path, target, sharded):
    path = tmp_path / "model.safetensors"
    if sharded:
        path = js.Saver(tmp_path, sharded=False).save(reading.tree(), 1)
    else:
        save_file(reading.tree(), path)
    ends = reading.run(server, 2, path, target)
    assert not [end for end in ends if "error" in end]
    assert [end["wrong"] for end in ends] == [[]] * 2
    assert NBYTES <= sum(end["bytes"] for end in ends) <= 1.1 * NBYTES


def test_processes_restore_a_checkpoint_of_tensorflow_together(server, tmp_path):
    path = tf_checkpoint.write(tmp_path / "m", reading.tree())
    ends = reading.run(server, 2, path, "tensorflow")
    assert [end["wrong"] for end in ends] == [[]] * 2
    first, second = reading.run(server, 2, path, "tensorflow", "shape")
    assert first["error"].startswith("TreeMismatchError: Process 1 failed")
    assert second["error"].startswith("TreeMismatchError: The target and the checkpoint")


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (
            "disk",
            [r"CheckpointError: Process 1 failed.*Input/output error", "CheckpointError: Step"],
        ),
        (
            "function",
            [r"CheckpointError: Process 1 failed.*ZeroDivisionError", "ZeroDivisionError: integer"],
        ),
        (
            "map",
            ["'half' is read for functions in process 0, and absent in process 1"] * 2,
        ),
        (
            "select",
            [r"restore different things, and nothing was read: 'half' is .* in process 0"] * 2,
        ),
        (
            "shape",
            [r"TreeMismatchError: Process 1 failed.*'half' is", "TreeMismatchError: The target"],
        ),
    ],
)
def test_an_error_in_one_process_is_raised_in_all(server, checkpoint, fault, errors):
    ends = reading.run(server, 2, checkpoint, "numpy", fault)
    for end, error in zip(ends, errors, strict=True):
        assert re.search(error, end["error"], re.DOTALL)


def test_a_damaged_array_is_an_error_in_all_processes(server, tmp_path):
    path = js.Saver(tmp_path).save(reading.tree(), 1)
    data = bytearray((path / "packed.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "packed.bin").write_bytes(data)
    for end in reading.run(server, 2, path, "replicated"):
        assert re.search(r"is damaged in packed.bin: the checksum of its part", end["error"])


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 1000),
)
def test_slabs_cover_a_box_once_each(sizes, itemsize, most):
    shape = tuple(sizes)
    seen = np.zeros(shape, int)
    most = max(most, itemsize)
    before, _exchange._SLAB = _exchange._SLAB, most
    try:
        for box in _exchange.slabs(tuple((0, n) for n in shape), itemsize):
            assert seen[slices(box)].size * itemsize <= most
            seen[slices(box)] += 1
    finally:
        _exchange._SLAB = before
    assert (seen == 1).all()
