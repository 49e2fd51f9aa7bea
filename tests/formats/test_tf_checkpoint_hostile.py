"""Hostile checkpoints: correct data or a CheckpointError, and no memory beyond the bound.

The attacks and the damage are made at test time, by the files in `hostile`. For more of it, run
the fuzzer there.
"""

import os
import tracemalloc

import numpy as np
import pytest
from hostile.attacks import ATTACKS, NOTHING, ROW
from hostile.damage import cut, flipped, flipped_and_signed, intact
from hostile.pieces import INDEX, bundle, contents, entry, only, table
from tf_rewrite import snappy
from tf_values import same

from jscope import CheckpointError, tf_checkpoint
from jscope.tf_checkpoint._bytes import BYTES, field, varint_bytes
from jscope.tf_checkpoint._checkpoint import GRAPH


def write(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / "m"


def read_all(path, verify=True):
    """All values, in full."""
    checkpoint = tf_checkpoint.open(path, verify=verify)
    return {name: entry.read() for name, entry in checkpoint.items()}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("verify", [True, False])
def test_an_attack_is_one_error_that_says_what_was_expected(attack, verify, tmp_path):
    files, message = ATTACKS[attack]
    path = write(tmp_path, files)
    if not verify and "checksum" in attack:
        assert read_all(path, verify)
        return
    with pytest.raises(CheckpointError) as error:
        read_all(path, verify)
    assert message in str(error.value)


# Damage.

FILES = [("V2", ".index"), ("V2", ".data-00000-of-00001"), ("V1", "")]


def outcomes(kind, suffix, damaged, verify, folder):
    """How often a damaged checkpoint could be read, and how often it was refused."""
    path, expected = intact(folder, kind)
    file = path.with_name(path.name + suffix)
    read = refused = 0
    for data in damaged(file.read_bytes()):
        file.write_bytes(data)
        try:
            found = read_all(path, verify)
        except CheckpointError:
            refused += 1
            continue
        read += 1
        if verify and damaged is not flipped_and_signed:
            assert list(found) == sorted(expected)
            assert all(same(found[name], value) for name, value in expected.items())
    return read, refused


@pytest.mark.parametrize(("kind", "suffix"), FILES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_file_cut_short_anywhere_is_refused(kind, suffix, verify, tmp_path):
    read, refused = outcomes(kind, suffix, cut, verify, tmp_path)
    assert read == 0
    assert refused > 50


@pytest.mark.parametrize(("kind", "suffix"), FILES)
def test_a_flipped_byte_is_noticed_or_does_no_harm(kind, suffix, tmp_path):
    read, refused = outcomes(kind, suffix, flipped, True, tmp_path)
    # Harmless: the zeros in a footer, and the place of the metaindex, which is never read.
    assert read < 9 * 50
    assert refused > 9 * 50


@pytest.mark.parametrize(("kind", "suffix"), FILES)
def test_a_flipped_byte_that_nobody_verifies_gives_data_or_an_error(kind, suffix, tmp_path):
    read, refused = outcomes(kind, suffix, flipped, False, tmp_path)
    assert read > 0
    assert refused > 0


@pytest.mark.parametrize(("kind", "suffix"), [FILES[0], FILES[2]])
def test_a_flipped_byte_with_a_right_checksum_gives_data_or_an_error(kind, suffix, tmp_path):
    read, refused = outcomes(kind, suffix, flipped_and_signed, True, tmp_path)
    assert read > 0
    assert refused > 0


# Names, graphs and directories.


def test_names_are_data_and_never_paths(tmp_path):
    names = ["../../etc/passwd", "/etc/passwd", "a/../b", "a\0b", "%s", "\n", "\U0001f600"]
    rows = [(name, entry(offset=8 * i)) for i, name in enumerate(names)]
    checkpoint = tf_checkpoint.open(write(tmp_path, bundle(rows)))
    assert set(checkpoint) == set(names)
    for name in names:
        assert checkpoint[name].where[0].file == str(tmp_path / "m.data-00000-of-00001")
        assert checkpoint[name].read().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (b"\x0a\x7f", "inside the string '_CHECKPOINTABLE_OBJECT_GRAPH', offset 0"),
        (field(1, BYTES, field(2, BYTES, field(2, BYTES, b"\xff"))), "expected a name in UTF-8"),
    ],
)
def test_a_damaged_graph_of_objects_spoils_full_names_only(graph, message, tmp_path):
    tf_checkpoint.write(tmp_path / "m", {"w": np.zeros(2), GRAPH: graph})
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert checkpoint["w"].read().tolist() == [0, 0]
    with pytest.raises(CheckpointError, match=message):
        checkpoint["full name"]


def test_a_fifo_is_refused_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "m.index")
    with pytest.raises(CheckpointError, match="No checkpoint at"):
        tf_checkpoint.open(tmp_path / "m")
    os.mkfifo(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        tf_checkpoint.open(tmp_path)


# Memory.


def peak(path):
    """The most memory that reading all of a checkpoint takes, whether it succeeds or not."""
    tracemalloc.start()
    try:
        read_all(path)
    except CheckpointError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


MANY = contents([ROW, *((0, b"%05d" % i, NOTHING) for i in range(8_000))])
KEY = b"k" * 20_000
KEYS = contents([ROW, (0, KEY, NOTHING), *((20_000, b"%05d" % i, NOTHING) for i in range(8_000))])
# One zero, and copies of it: 22 bytes for each byte.
ZEROS = varint_bytes(1 + 64 * 60_000) + b"\0\0" + b"\xfe\1\0" * 60_000
# A big block without entries, which the index names again and again.
RESTARTS = contents([], [0] * 50_000)
AGAIN = varint_bytes(0) + varint_bytes(len(RESTARTS))
STRINGS = bytes(200_000)

# Python's objects take more than the bytes in an index, and Snappy may have made those smaller.
BOMBS = {
    "many entries": (only(MANY), 60),
    "many entries, in Snappy": (only(snappy(MANY), compression=1), 300),
    "keys that repeat each other": (only(KEYS), 20),
    "Snappy of zeros": (only(ZEROS, compression=1), 30),
    "empty blocks": (
        {INDEX: table([RESTARTS], contents([(0, b"%05d" % i, AGAIN) for i in range(9_000)]))},
        20,
    ),
    "empty strings": (
        bundle([("s", entry(7, (len(STRINGS) - 4,), 0, len(STRINGS), STRINGS))], STRINGS),
        30,
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_is_bounded_by_the_size_of_the_files(bomb, tmp_path):
    files, times = BOMBS[bomb]
    size = sum(map(len, files.values()))
    assert size > 30_000
    assert peak(write(tmp_path, files)) < times * size


@pytest.mark.parametrize("shape", [(1 << 40,), (0, 1 << 50)])
def test_a_shape_allocates_nothing_that_is_not_there(shape, tmp_path):
    boxes = [((0, 2), *[None] * (len(shape) - 1))]
    row = entry(shape=shape, boxes=boxes) if shape[0] else entry(shape=shape, size=0)
    assert peak(write(tmp_path, bundle([("w", row)]))) < 100_000
