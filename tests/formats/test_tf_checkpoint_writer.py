"""Writing TensorFlow checkpoints: what is refused, and that one appears at once or not at all."""

import errno
import itertools
import os

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tf_values import NUMBERS, SHAPES, same, values_of

from jscope import CheckpointError, CheckpointExistsError, CheckpointValueError, tf_checkpoint
from jscope.tf_checkpoint import Part, _writer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name[0] != "\0"),
        st.tuples(st.sampled_from(NUMBERS), st.sampled_from(SHAPES)),
        max_size=8,
    )
)
def test_what_is_written_is_read_again(tmp_path_factory, named):
    values = {name: values_of(dtype, shape) for name, (dtype, shape) in named.items()}
    folder = tmp_path_factory.mktemp("w")
    assert tf_checkpoint.write(folder / "m", values) == str(folder / "m")
    checkpoint = tf_checkpoint.open(folder)
    assert list(checkpoint) == sorted(values, key=str.encode)
    assert all(same(checkpoint[name].read(), value) for name, value in values.items())


def test_arrays_of_any_kind_are_written_as_what_they_hold(tmp_path):
    square = np.arange(12.0).reshape(3, 4)
    given = {
        "jax": jnp.arange(3, dtype=jnp.bfloat16),
        "transposed": square.T,
        "big-endian": square.astype(">f8"),
        "scalar": np.float32(2),
        "text": "h\u00e9",
        "bytes": b"\xff\0",
        "numpy text": np.array(["a", "bc"]),
        "numpy bytes": np.array([b"a", b"bc"]),
        "mixed": np.array(["a", b"\xff"], object),
    }
    tf_checkpoint.write(tmp_path / "m", given)
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert same(checkpoint["jax"].read(), np.asarray(given["jax"]))
    assert same(checkpoint["transposed"].read(), np.ascontiguousarray(square.T))
    assert same(checkpoint["big-endian"].read(), square)
    assert same(checkpoint["scalar"].read(), np.asarray(given["scalar"]))
    assert checkpoint["text"].read().item() == "h\u00e9".encode()
    assert checkpoint["bytes"].read().item() == b"\xff\0"
    assert checkpoint["numpy text"].read().tolist() == [b"a", b"bc"]
    assert checkpoint["numpy bytes"].read().tolist() == [b"a", b"bc"]
    assert checkpoint["mixed"].read().tolist() == [b"a", b"\xff"]
    tf_checkpoint.write(tmp_path / "again", {name: checkpoint[name] for name in given})
    for suffix in (".index", ".data-00000-of-00001"):
        assert (tmp_path / f"again{suffix}").read_bytes() == (tmp_path / f"m{suffix}").read_bytes()


PIECE = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([("w", 1.0)], "'w' is a float, which has no dtype of its own: write np.asarray(value, "),
        ([("w", [1.0])], "'w' is a list, which has no dtype of its own"),
        ([("w", np.array([object()]))], "'w' has dtype object and holds a object: TensorFlow's"),
        ([("w", np.zeros(1, "M8[s]"))], "'w' has dtype datetime64[s], which TensorFlow has no"),
        ([("w", PIECE), ("w", PIECE)], "'w' is written twice: give each variable its name."),
        ([("", PIECE)], "'' can't be the name of a variable."),
        ([("\0w", PIECE)], "can't be the name of a variable."),
        ([("\ud800", PIECE)], "can't be the name of a variable."),
        ([("w", Part(PIECE, (4, 3), np.s_[0:2]))], "can't be slice(0, 2, None) of shape (4, 3)"),
        ([("w", Part(PIECE, (4, 3), np.s_[0:2:1, ::2]))], "one slice per axis, without step"),
        (
            [("w", Part(PIECE, (4, 3), np.s_[3:5, :]))],
            "not empty and inside, such as np.s_[0:2, :]",
        ),
        ([("w", Part(PIECE, (4, 3), np.s_[2:2, :]))], "not empty and inside"),
        ([("w", Part(PIECE, (4, 3), np.s_[0:3, :]))], "has shape (2, 3), not (3, 3)."),
        (
            [("w", Part(PIECE, (4, 3), np.s_[0:2, :]))],
            "The parts of 'w' don't cover (4, 3) once each, but 6 elements never and 0 more often.",
        ),
        (
            [("w", Part(PIECE, (3, 3), i)) for i in (np.s_[0:2, :], np.s_[1:3, :])],
            "don't cover (3, 3) once each, but 0 elements never and 3 more often.",
        ),
        (
            [("w", Part(PIECE, (4, 3), i)) for i in (np.s_[0:2, :], np.s_[0:2, :])],
            "'w' is written twice",
        ),
        (
            [("w", Part(PIECE, (n, 3), np.s_[0:2, :])) for n in (4, 5)],
            "A part of 'w' is of double (5, 3), but it was written as double (4, 3) before",
        ),
        (
            [("w", np.zeros((4, 3))), ("w", Part(PIECE, (4, 3), np.s_[0:2, :]))],
            "A part of 'w' is of double (4, 3), but it was written as double (4, 3) before",
        ),
    ],
)
def test_what_cannot_be_written_is_an_error_and_leaves_nothing(named, message, tmp_path):
    with pytest.raises(CheckpointValueError) as error:
        tf_checkpoint.write(tmp_path / "m", named)
    assert message in str(error.value)
    assert names(tmp_path) == []


def test_a_writer_says_how_it_is_used(tmp_path):
    writer = tf_checkpoint.Writer(tmp_path / "m")
    with pytest.raises(CheckpointValueError, match="writes inside its block"):
        writer.add("w", PIECE)
    with writer, pytest.raises(CheckpointValueError, match="There is no shard 1, only 1"):
        writer.add("w", PIECE, shard=1)
    with pytest.raises(CheckpointValueError, match="writes inside its block"):
        writer.add("w", PIECE)
    for prefix in (f"{tmp_path}/", tmp_path / "checkpoint"):
        with pytest.raises(CheckpointValueError, match="can't be what the names of a checkpoint's"):
            tf_checkpoint.write(prefix, {})
    with pytest.raises(CheckpointValueError, match="can't have 0 shards: write 1 or more"):
        tf_checkpoint.Writer(tmp_path / "n", shards=0)


def write_while_writing(prefix):
    with tf_checkpoint.Writer(prefix) as writer:
        writer.add("w", np.ones(2))
        tf_checkpoint.write(prefix, {"w": np.zeros(2)})  # someone else is faster


def test_nothing_is_overwritten(tmp_path):
    tf_checkpoint.write(tmp_path / "m", {"w": np.zeros(2)})
    with pytest.raises(CheckpointExistsError, match="There is a checkpoint at"):
        tf_checkpoint.write(tmp_path / "m", {"w": np.ones(2)})
    with pytest.raises(FileExistsError, match="with the step behind it, or delete its files first"):
        write_while_writing(tmp_path / "n")
    for name in ("m", "n"):
        assert tf_checkpoint.load_variable(tmp_path / name, "w").tolist() == [0, 0]
    assert len(names(tmp_path)) == 5


def test_overwriting_replaces_the_checkpoint_and_its_other_data_files(tmp_path):
    write_two_shards(tmp_path / "m")
    tf_checkpoint.write(tmp_path / "m-1", {"w": np.zeros(2)})
    tf_checkpoint.write(tmp_path / "m", {"w": np.ones(2)}, overwrite=True)
    assert {n: e.read().tolist() for n, e in tf_checkpoint.open(tmp_path / "m").items()} == {
        "w": [1, 1]
    }
    ours, other = (f"{n}.data-00000-of-00001" for n in ("m", "m-1"))
    assert names(tmp_path) == sorted(["checkpoint", ours, "m.index", other, "m-1.index"])
    assert tf_checkpoint.load_variable(tmp_path / "m-1", "w").tolist() == [0, 0]
    assert tf_checkpoint.latest_checkpoint(tmp_path) == str(tmp_path / "m")


def test_what_reads_the_path_would_find_a_directory_or_a_file_and_not_the_new_checkpoint(tmp_path):
    tf_checkpoint.write(tmp_path / "run" / "m", {"w": np.zeros(2)})
    (tmp_path / "file").write_bytes(b"x")
    for overwrite in (False, True):
        with pytest.raises(CheckpointExistsError) as caught:
            tf_checkpoint.write(tmp_path / "run", {"w": np.ones(2)}, overwrite=overwrite)
        assert str(caught.value) == (
            f"'{tmp_path}/run' is a directory, and what reads this path finds the directory, not "
            "the files run.index and .data-* beside it. Write to another name, such as "
            "'runs/model.ckpt-1000'."
        )
        with pytest.raises(CheckpointExistsError, match="file' is a file, and what reads this"):
            tf_checkpoint.write(tmp_path / "file", {"w": np.ones(2)}, overwrite=overwrite)
    assert names(tmp_path) == ["file", "run"]


@pytest.mark.parametrize("call", ["open", "fsync", "replace", "unlink"])
def test_a_failure_while_overwriting_leaves_the_old_the_new_or_none(call, tmp_path, monkeypatch):
    original, outcomes = getattr(os, call), set()
    for position in range(12):
        calls = itertools.count()

        def sometimes(*arguments, calls=calls, position=position, **options):
            if next(calls) == position:
                raise OSError(errno.EIO, "Input/output error")
            return original(*arguments, **options)

        path = tmp_path / f"{position}" / "m"
        tf_checkpoint.write(path, {"w": np.zeros(4)})
        error = None
        with monkeypatch.context() as patch:
            patch.setattr(os, call, sometimes)
            try:
                tf_checkpoint.write(path, {"v": np.ones(3), "w": np.ones(4)}, overwrite=True)
            except CheckpointError as caught:
                error = str(caught)
        found = None
        if (path.parent / "m.index").exists():
            found = {n: e.read().tolist() for n, e in tf_checkpoint.open(path).items()}
        assert found in (None, {"w": [0] * 4}, {"v": [1] * 3, "w": [1] * 4})
        assert error or len(found) == 2
        outcomes.add((error is None, found and len(found)))
    # Before the index is removed, which is before anything is renamed, the old one is there.
    assert {(True, 2), (False, None if call == "replace" else 1)} <= outcomes


def test_data_without_an_index_is_no_checkpoint_and_is_replaced(tmp_path):
    (tmp_path / "m.data-00000-of-00001").write_bytes(b"of one that died")
    tf_checkpoint.write(tmp_path / "m", {"w": np.zeros(2)})
    assert tf_checkpoint.load_variable(tmp_path / "m", "w").tolist() == [0, 0]


def write_two_shards(prefix):
    """The error, if any."""
    try:
        with tf_checkpoint.Writer(prefix, shards=2) as writer:
            for shard in (0, 1):
                writer.add(f"w{shard}", np.ones(4), shard=shard)
    except CheckpointError as error:
        return str(error)


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_failure_anywhere_leaves_a_whole_checkpoint_or_none(call, tmp_path, monkeypatch):
    original, outcomes = getattr(os, call), set()
    for position in range(12):
        calls = itertools.count()

        def sometimes(*arguments, calls=calls, position=position, **options):
            if next(calls) == position:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments, **options)

        folder = tmp_path / f"{position}"
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, call, sometimes)
            error = write_two_shards(folder / "m")
        assert not [name for name in names(folder) if "tempstate" in name]
        assert error is None or ": No space left on device" in error
        if (folder / "m.index").exists():
            found = {n: e.read().tolist() for n, e in tf_checkpoint.open(folder / "m").items()}
            assert found == {"w0": [1] * 4, "w1": [1] * 4}
        else:
            assert error
        outcomes.add((error is None, (folder / "m.index").exists()))
    assert {(True, True), (False, False)} <= outcomes


def test_a_full_disk_is_a_checkpoint_error(tmp_path, monkeypatch):
    opened = open

    def full(path, *arguments, **options):
        return opened("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(_writer, "open", full, raising=False)
    with pytest.raises(CheckpointError, match="can't be written: No space left on device"):
        tf_checkpoint.write(tmp_path / "m", {"w": np.zeros(1 << 18)})
    assert names(tmp_path) == []


@pytest.mark.parametrize("fails", [False, True])
def test_the_disk_begins_while_more_is_written_if_the_system_can(fails, tmp_path, monkeypatch):
    begun = []

    def advise(file, offset, length, advice):
        begun.append((offset, length))
        if fails:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(_writer, "_UNFORCED", 1 << 21)
    tf_checkpoint.write(tmp_path / "m", {"w": np.arange(1 << 20, dtype=np.float32)})
    assert begun == [(0, 1 << 21), (1 << 21, 1 << 21)]
    assert tf_checkpoint.load_variable(tmp_path / "m", "w")[-1] == (1 << 20) - 1


def test_no_advice_is_given_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    monkeypatch.setattr(_writer, "_UNFORCED", 1)
    tf_checkpoint.write(tmp_path / "m", {"w": np.arange(4)})
    assert tf_checkpoint.load_variable(tmp_path / "m", "w").tolist() == [0, 1, 2, 3]


def interrupted(prefix):
    with tf_checkpoint.Writer(prefix, shards=3) as writer:
        writer.add("w", np.zeros(3))
        raise KeyboardInterrupt


def test_an_exception_in_the_block_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "m")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"file/m can't be written: File exists"):
        tf_checkpoint.write(tmp_path / "file" / "m", {}, write_state=False)


def test_a_state_is_written_only_if_that_is_wanted(tmp_path):
    tf_checkpoint.write(tmp_path / "m", {"w": PIECE}, write_state=False)
    assert names(tmp_path) == ["m.data-00000-of-00001", "m.index"]
