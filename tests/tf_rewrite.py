"""Checkpoints rewritten into what TensorFlow reads but never writes: Snappy and big-endian.

The rows come from TensorFlow's own files, by way of jscope's reader of tables; the tests that have
TensorFlow let it read the results.
"""

import numpy as np

from jscope.tf_checkpoint import _dtypes, _table
from jscope.tf_checkpoint._bytes import FIXED32, VARINT, field, varint_bytes
from jscope.tf_checkpoint._crc32c import extend_crc32c, masked_crc32c, masked_crc32c_of
from jscope.tf_checkpoint._mapped_files import map_file
from jscope.tf_checkpoint._table import FOOTER, TRAILER, Table, table_bytes
from jscope.tf_checkpoint._v2_bundle import Bundle


def rows_of(path):
    """The rows of a table, as bytes."""
    return [(key, bytes(value)) for key, value in Table(map_file(str(path)), True).rows(True)]


def snappy(data):
    """Compress: copies of four bytes or more that were seen before, else literals."""
    out, seen, at, literal = bytearray(varint_bytes(len(data))), {}, 0, 0
    while at < len(data):
        before = seen.get(data[at : at + 4], -1)
        seen[data[at : at + 4]] = at
        size = 0
        while (
            before >= 0
            and at + size < len(data)
            and size < 64
            and (data[before + size] == data[at + size])
        ):
            size += 1
        if size < 4:
            at += 1
            continue
        out += _literals(data[literal:at])
        offset = at - before
        if size < 12 and offset < 1 << 11:
            out += bytes([(offset >> 8) << 5 | (size - 4) << 2 | 1, offset & 0xFF])
        elif offset < 1 << 16:
            out += bytes([(size - 1) << 2 | 2]) + offset.to_bytes(2, "little")
        else:
            out += bytes([(size - 1) << 2 | 3]) + offset.to_bytes(4, "little")
        at = literal = at + size
    return bytes(out + _literals(data[literal:]))


def _literals(data):
    out = b""
    for begin in range(0, len(data), 1 << 16):
        piece = data[begin : begin + (1 << 16)]
        size = len(piece) - 1
        if size < 60:
            out += bytes([size << 2])
        else:
            width = (size.bit_length() + 7) // 8
            out += bytes([(59 + width) << 2]) + size.to_bytes(width, "little")
        out += piece
    return out


def compressed_table(rows):
    """A table of one data block, every block compressed with Snappy."""
    plain = table_bytes(rows)
    footer = plain[-FOOTER:]
    handles = _handles(footer, 2)
    out, moved = bytearray(), []
    index = plain[handles[1][0] : sum(handles[1])]
    key = index[3 : 3 + index[1]]
    (data,) = _handles(index[3 + index[1] :], 1)
    for offset, size in (data, handles[0]):
        moved.append(_append(out, snappy(plain[offset : offset + size])))
    block = _table._Block(1)
    block.add(key, moved[0])
    end = moved[1] + _append(out, snappy(block.contents()))
    return bytes(out) + end.ljust(40, b"\0") + footer[40:]


def _append(out, contents):
    handle = varint_bytes(len(out)) + varint_bytes(len(contents))
    checksum = masked_crc32c_of(contents + b"\x01")
    out += contents + b"\x01" + checksum.to_bytes(4, "little")
    return handle


def _handles(data, count):
    numbers, at = [], 0
    for _ in range(2 * count):
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(value)
    assert TRAILER == 5
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def big_endian(source, target):
    """Copy a bundle of one shard, its numbers swapped."""
    bundle = Bundle(str(source), map_file(f"{source}.index"), True)
    data = bytearray((source.parent / f"{source.name}.data-00000-of-00001").read_bytes())
    rows = []
    for key, value in rows_of(f"{source}.index"):
        row = bundle._rows.get(key)
        if row is None:
            value = field(1, VARINT, 1) + field(2, VARINT, 1) + value[2:]
        elif not row.boxes:
            stored = data[row.offset : row.offset + row.size]
            if row.dtype == _dtypes.STRING:
                swapped, checksum = _swapped_strings(bytes(stored), int(np.prod(row.shape)))
            else:
                dtype = _dtypes.NUMPY[row.dtype]
                width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
                swapped = np.frombuffer(stored, f"u{width}").byteswap().tobytes()
                checksum = masked_crc32c_of(swapped)
            data[row.offset : row.offset + row.size] = swapped
            value = value.replace(field(6, FIXED32, row.checksum), field(6, FIXED32, checksum))
        rows.append((key, value))
    target.with_name(target.name + ".index").write_bytes(table_bytes(rows))
    target.with_name(target.name + ".data-00000-of-00001").write_bytes(data)


def _swapped_strings(stored, count):
    """The checksum of the lengths over big-endian lengths, and itself big-endian."""
    numbers = [length for pair in _handles(stored + b"\0", (count + 1) // 2) for length in pair]
    lengths = numbers[:count]
    at = sum(len(varint_bytes(length)) for length in lengths)
    crc = extend_crc32c(0, b"".join(length.to_bytes(4, "big") for length in lengths))
    tail = masked_crc32c(crc).to_bytes(4, "big") + stored[at + 4 :]
    return stored[:at] + tail, masked_crc32c(extend_crc32c(crc, tail))
