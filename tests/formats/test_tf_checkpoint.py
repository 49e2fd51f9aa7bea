"""Reading TensorFlow checkpoints without TensorFlow: golden files, laziness, errors."""

import json
import re
import subprocess
import sys
from pathlib import Path

import google_crc32c
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hostile.pieces import DATA, INDEX, bundle, entry
from hypothesis import given
from hypothesis import strategies as st
from tf_rewrite import big_endian, compressed_table, rows_of, snappy
from tf_values import PARTITIONS, golden_p, golden_v1, golden_v2, same, values_of

from jscope import CheckpointError, CheckpointNotFoundError, MissingVariableError, tf_checkpoint
from jscope.tf_checkpoint import _dtypes
from jscope.tf_checkpoint._bytes import Span, field, message, signed, varint_bytes
from jscope.tf_checkpoint._crc32c import extend_crc32c, masked_crc32c, masked_crc32c_of
from jscope.tf_checkpoint._partitions import shape_bytes
from jscope.tf_checkpoint._table import Table, decompress, table_bytes
from jscope.tf_checkpoint._v2_bundle import _summed_lengths

GOLDEN = Path(__file__).parents[1] / "golden" / "tf"


def values_in(shards):
    """Name to value of what is in golden shards, without the parts."""
    return {name: value for shard in shards for name, value, spec in shard if not spec}


# Golden files.


def check_v2(checkpoint):
    expected = values_in(golden_v2()) | {"p": golden_p()}
    assert list(checkpoint) == sorted(expected)
    for name, value in expected.items():
        assert same(checkpoint[name].read(), value), name
    assert checkpoint.verify() == {}


def test_a_golden_v2_checkpoint_is_read():
    checkpoint = tf_checkpoint.open(GOLDEN / "v2")
    check_v2(checkpoint)
    assert repr(checkpoint) == f"<checkpoint '{GOLDEN / 'v2'}', V2: {len(checkpoint)} variables>"
    assert checkpoint["p"].parts == tuple(
        (slice(a, b), slice(0, 3)) for a, b in ((0, 2), (2, 3), (3, 5))
    )
    assert repr(checkpoint["p"]) == "<'p': float (5, 3), 60 bytes, 3 parts>"


def test_a_golden_v2_checkpoint_is_written_byte_for_byte(tmp_path):
    indices = {spec: index for index, spec in PARTITIONS["rows"]}
    with tf_checkpoint.Writer(tmp_path / "v2", shards=2) as writer:
        for shard, named in enumerate(golden_v2()):
            for name, value, spec in named:
                part = tf_checkpoint.Part(value, (5, 3), indices[spec]) if spec else value
                writer.add(name, part, shard=shard)
    for path in GOLDEN.glob("v2.*"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_golden_v1_checkpoint_is_read():
    checkpoint = tf_checkpoint.open(GOLDEN / "v1")
    expected = values_in(golden_v1()) | {"p": golden_p()}
    assert checkpoint.version == 1
    assert list(checkpoint) == sorted(expected)
    for name, value in expected.items():
        assert same(checkpoint[name].read(), value), name
    assert same(checkpoint["p"][1:4, -1], golden_p()[1:4, -1])
    assert len(checkpoint["p"].where) == 3
    assert checkpoint.verify() == {}


def test_golden_objects_are_found_by_key_and_by_full_name():
    checkpoint = tf_checkpoint.open(GOLDEN / "objects")
    key = "model/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert dict(checkpoint.full_names) == {"dense/kernel": key}
    assert checkpoint["dense/kernel"].name == key
    assert checkpoint[key].read().tolist() == [1, 2]


def test_snappy_and_big_endian_are_read(tmp_path):
    for path in GOLDEN.glob("v2.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index = tmp_path / "v2.index"
    index.write_bytes(compressed_table(rows_of(index)))
    check_v2(tf_checkpoint.open(tmp_path / "v2"))
    values = values_in(golden_v2())
    tf_checkpoint.write(tmp_path / "little", values)
    big_endian(tmp_path / "little", tmp_path / "big")
    checkpoint = tf_checkpoint.open(tmp_path / "big")
    for name, value in values.items():
        assert same(checkpoint[name].read(), value), name


# Laziness.


def test_importing_loads_neither_jax_nor_tensorflow(tmp_path):
    code = (
        "import json, sys; from jscope import tf_checkpoint as t;"
        f"t.load_variable({str(GOLDEN / 'v2')!r}, 'p'); t.write(sys.argv[1] + '/m', {{}});"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True)
    loaded = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    loaded = {name for name in loaded if not name.startswith("_")}
    assert loaded <= {"jscope", "numpy", "ml_dtypes", "google_crc32c", "sitecustomize"}


def test_numbers_are_read_where_they_lie(tmp_path):
    values = {"a": np.arange(1000.0), "b": np.arange(3, dtype=np.int8), "c": np.arange(4.0)}
    tf_checkpoint.write(tmp_path / "m", values)
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    a, again = checkpoint["a"].read(), checkpoint["a"].read()
    assert np.shares_memory(a, again)
    assert not a.flags.writeable
    assert a.flags.aligned
    # Behind three bytes nothing is aligned, so it is copied.
    c = checkpoint["c"].read()
    assert not np.shares_memory(c, checkpoint["c"].read())
    assert c.flags.aligned
    assert c.tolist() == values["c"].tolist()
    # The mapping outlives the checkpoint, and its files.
    for file in tmp_path.iterdir():
        file.unlink()
    del checkpoint
    assert a.tolist() == values["a"].tolist()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="counts pages of Linux")
def test_one_variable_of_ten_gigabytes_touches_its_bytes_only(tmp_path):
    size = 1 << 20
    value = np.arange(size // 4, dtype=np.float32)
    rows = [
        ("first", entry(1, (1 << 31,), 0, 1 << 33)),
        ("last", entry(1, (1 << 28,), 9 << 30, 1 << 30)),
    ]
    rows.append(("w", entry(1, value.shape, 1 << 33, size, value.tobytes())))
    (tmp_path / INDEX).write_bytes(bundle(rows)[INDEX])
    with open(tmp_path / DATA, "wb") as file:
        file.seek(1 << 33)
        file.write(value.tobytes())
        file.truncate(10 << 30)
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert checkpoint["last"].nbytes == 1 << 30
    assert resident(tmp_path / DATA) == 0  # not even opened
    found = checkpoint["w"].read()
    assert same(found, value)
    # The system reads a few pages around those that are used.
    assert size <= resident(tmp_path / DATA) <= size + (128 << 10)


def resident(path):
    """Bytes of a mapped file that this process has touched."""
    text = Path("/proc/self/smaps").read_text()
    found = re.search(rf"{re.escape(str(path))}\n(?:[A-Z].*\n)*?Rss: +(\d+) kB", text)
    return int(found[1]) << 10 if found else 0


def test_arrays_of_numpy_and_jax_are_made_of_entries():
    checkpoint = tf_checkpoint.open(GOLDEN / "v2")
    expected = values_of(np.dtype(np.float32), (2, 3))
    assert same(np.asarray(checkpoint["float32"]), expected)
    assert np.asarray(checkpoint["int8"], np.int32).dtype == np.int32
    assert np.array_equal(jnp.asarray(checkpoint["bfloat16"].read()), checkpoint["bfloat16"])
    assert checkpoint["float32"].size == 6
    assert checkpoint["float32"].ndim == 2
    with pytest.raises(TypeError, match="not iterable"):
        iter(checkpoint["float32"])


@given(st.data())
def test_any_index_of_a_partitioned_variable_gives_what_it_gives_of_an_array(data):
    whole, one = golden_p(), tf_checkpoint.open(GOLDEN / "v2")["p"]
    axis = st.one_of(
        st.integers(-6, 6),
        st.slices(5),
        st.just(Ellipsis),
        st.just(None),
        st.just([0, 1]),
        st.just(True),
    )
    index = data.draw(st.one_of(axis, st.tuples(axis), st.tuples(axis, axis)))
    try:
        expected = whole[index]
    except (IndexError, ValueError) as error:
        with pytest.raises(type(error)):
            one[index]
    else:
        assert same(one[index], np.asarray(expected))


# Errors.


def test_a_missing_variable_is_an_error_with_near_names():
    checkpoint = tf_checkpoint.open(GOLDEN / "objects")
    with pytest.raises(MissingVariableError, match="No variable 'dense/kernl' in the checkpoint"):
        checkpoint["dense/kernl"]
    with pytest.raises(KeyError, match="close names: 'dense/kernel'"):
        tf_checkpoint.load_variable(GOLDEN / "objects", "dense/kernl")
    assert "dense/kernel" in checkpoint
    assert "dense/kernl" not in checkpoint
    assert checkpoint.get("dense/kernl") is None


def test_one_flipped_byte_spoils_one_variable(tmp_path):
    tf_checkpoint.write(tmp_path / "m", {"a": np.zeros(3), "b": np.zeros(3)})
    data = tmp_path / DATA
    raw = bytearray(data.read_bytes())
    raw[30] ^= 1
    data.write_bytes(raw)
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert checkpoint["a"].read().tolist() == [0, 0, 0]
    with pytest.raises(CheckpointError) as error:
        checkpoint["b"].read()
    assert str(error.value).startswith(
        f"{data}, offset 24: expected 24 bytes of 'b' with checksum "
    )
    assert str(error.value).endswith("fetch it again, and compare its size.")
    unverified = tf_checkpoint.open(tmp_path / "m", verify=False)
    assert unverified["b"].read()[0] != 0
    assert list(unverified.verify()) == ["b"]


def test_a_checksum_is_compared_once_for_each_access(tmp_path, monkeypatch):
    value = np.zeros((5, 3))
    parts = [("p", tf_checkpoint.Part(value[i], (5, 3), i)) for i, _ in PARTITIONS["rows"]]
    tf_checkpoint.write(tmp_path / "m", [("w", value), *parts])
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    summed = []
    library = google_crc32c.extend
    monkeypatch.setattr(
        google_crc32c, "extend", lambda crc, data: summed.append(len(data)) or library(crc, data)
    )
    checkpoint["w"].read()
    checkpoint["w"][2]
    assert summed == [120, 120]
    summed.clear()
    checkpoint["p"].read()
    checkpoint["p"][2:4]  # two parts
    assert summed == [48, 24, 48, 24, 48]


def test_a_variant_is_listed_and_the_others_are_read(tmp_path):
    for name, data in bundle([("i", entry(21)), ("w", entry(offset=8))]).items():
        (tmp_path / name).write_bytes(data)
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert checkpoint["i"].tf_dtype == "variant"
    assert checkpoint["w"].read().tolist() == [0, 0]
    with pytest.raises(CheckpointError, match=r"'i' in .* has dtype variant, which NumPy can't"):
        checkpoint["i"].read()
    assert list(checkpoint.verify()) == ["i"]


def test_what_protobuf_may_leave_out_or_spell_out_is_read(tmp_path):
    rows = [
        # No strings, and not even the checksum of their lengths; TensorFlow reads it.
        ("none", entry(7, (0,), 0, 0, b"")),
        ("known", entry(shape=shape_bytes((2,)) + field(3, 0, 0))),
        ("unshaped", entry(shape=None, offset=8, size=4, data=bytes(4))),
    ]
    for name, data in bundle(rows).items():
        (tmp_path / name).write_bytes(data)
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert checkpoint["none"].read().tolist() == []
    assert checkpoint["known"].read().tolist() == [0, 0]
    assert checkpoint["unshaped"].read().shape == ()


def test_a_data_file_that_goes_missing_is_named(tmp_path):
    tf_checkpoint.write(tmp_path / "m", {"w": np.zeros(2)})
    (tmp_path / DATA).unlink()
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert tf_checkpoint.list_variables(tmp_path / "m") == [("w", (2,))]
    with pytest.raises(CheckpointNotFoundError, match=f"{DATA} is missing. Copy it beside"):
        checkpoint["w"].read()
    (tmp_path / DATA).mkdir()
    with pytest.raises(CheckpointError, match=f"{DATA} is not a regular file"):
        checkpoint["w"].read()


# Encodings.


def test_checksums_are_crc32c_masked():
    assert extend_crc32c(0, b"123456789") == 0xE3069283
    assert extend_crc32c(extend_crc32c(0, b"1234"), b"56789") == 0xE3069283
    assert masked_crc32c(0xE3069283) == 0xC78AB0E5
    assert masked_crc32c_of(b"") == 0xA282EAD8


def test_every_dtype_has_tensorflows_number():
    assert _dtypes.NUMBERS[np.dtype(np.float32)] == 1
    assert _dtypes.NUMBERS[np.dtype(ml_dtypes.bfloat16)] == 14
    assert _dtypes.NUMBERS[np.dtype(np.float16)] == 19
    assert _dtypes.NUMBERS[np.dtype(ml_dtypes.float4_e2m1fn)] == 33
    assert _dtypes.NUMPY[11] == np.int8
    assert len(_dtypes.NAMES) == 33


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_varints_are_read_as_they_were_written(value):
    data = varint_bytes(value)
    found, end = Span(data, "x").varint(0)
    assert end == len(data) <= 10
    assert value in (found, signed(found))


@given(st.lists(st.tuples(st.integers(1, 1 << 28), st.integers(0, (1 << 64) - 1) | st.binary())))
def test_messages_are_read_as_they_were_written(fields):
    data = b"".join(field(n, 2 if isinstance(v, bytes) else 0, v) for n, v in fields)
    span = Span(data, "x")
    schema = {n: (0, 2) for n, _ in fields}
    found = [
        (n, bytes(span.cut(begin, end)) if integer < 0 else integer)
        for n, integer, begin, end in message(span, schema)
    ]
    assert found == fields


@given(st.lists(st.sampled_from([b"a", b"ab", b"abcabcabc", b"\0" * 70, b"x" * 300])))
def test_snappy_gives_back_what_was_compressed(pieces):
    data = b"".join(pieces)
    assert decompress(Span(snappy(data), "x")) == data


def test_snappys_far_copies_and_long_literals_are_read():
    far = np.random.default_rng(0).bytes(70_000)
    data = far + far[:100]
    assert decompress(Span(snappy(data), "x")) == data


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=40), max_size=60))
def test_tables_are_read_as_they_were_written(rows):
    written = table_bytes(sorted(rows.items()))
    table = Table(Span(written, "x"), True)
    assert [(key, bytes(value)) for key, value in table.rows(True)] == sorted(rows.items())
    for key, value in rows.items():
        assert bytes(table.find(key, True)) == value
    assert table.find(b"\xff" * 30, True) is None


def test_tables_of_several_blocks_are_read_as_they_were_written():
    big, small = bytes(600_000), b"x"
    keys = [b"a", b"ab", b"b\xff", b"b\xff\xff", b"c", b"e", b"\xff", b"\xff\xff"]
    rows = [(key, big if key in (b"ab", b"c") else small) for key in keys]
    rows += [(b"\xff\xff%07d" % i, bytes(90)) for i in range(9_000)]
    table = Table(Span(table_bytes(rows), "x"), True)
    assert [(key, bytes(value)) for key, value in table.rows(True)] == rows
    for key, value in rows[::500]:
        assert bytes(table.find(key, True)) == value
    assert table.find(b"d", True) is None


def test_strings_of_four_gigabytes_are_summed_as_longer_numbers():
    lengths = [1, 1 << 32]
    assert _summed_lengths(lengths, False) == b"\1\0\0\0" + b"\0\0\0\0\1\0\0\0"
    assert _summed_lengths(lengths, True) == b"\0\0\0\1" + b"\0\0\0\1\0\0\0\0"
