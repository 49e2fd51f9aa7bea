"""Tensor bundles, TensorFlow's second checkpoint format ("V2").

::

    PREFIX.index                   a table, see `_table`
    PREFIX.data-00000-of-00002     values, one after the other, without gaps; a file per shard

The row of the empty key, the first, is the header; the others are entries. Their key is a
variable's name, or that of a part (see `_partitions`)::

    BundleHeaderProto { 1 num_shards: int32; 2 endianness: 0 little, 1 big;
                        3 version { 1 producer: int32; 2 min_consumer: int32;
                                    3 bad_consumers*: int32 } }
    BundleEntryProto  { 1 dtype: see `_dtypes`; 2 shape: see `_partitions`; 3 shard_id: int32;
                        4 offset: int64; 5 size: int64; 6 crc32c: fixed32, masked;
                        7 slices*: see `_partitions` }

Fields that are zero are left out, as in protobuf 3; the shape is there even if it is empty. This
is version 1 of the format: a file that requires newer consumers is refused.

The bytes of a tensor are ``size`` bytes from ``offset`` on in the shard; ``size`` is the number of
elements times that of their bytes, but for strings. The checksum goes over these bytes, before
they are swapped if the bundle is big-endian. No two entries share bytes.

A partitioned variable has an entry with the whole shape and its ``slices``, without an offset,
and another one for each part.

**Strings** are stored as::

    strings := length: varint64 * n, checksum: u32, the bytes of each

The checksum is a masked CRC-32C of the lengths, each as a u32 if it fits and a u64 if not, not
as the varint that is stored. The entry's own checksum goes over those lengths, the four bytes
of the checksum, and the bytes of the strings. In a big-endian bundle these numbers are
big-endian, but not the varints. An empty tensor is its checksum alone, or nothing at all.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _dtypes
from ._bytes import BYTES, FIXED32, VARINT, Span, field, message, number_field, signed, varint_bytes
from ._crc32c import extend_crc32c, masked_crc32c, masked_crc32c_of
from ._entry import Entry, Where
from ._mapped_files import PartialFile, open_parts
from ._partitions import Box, box_bytes, part_key, part_shape, read_box, read_shape, shape_bytes
from ._table import Table

VERSION = 1
_HEADER = {1: (VARINT,), 2: (VARINT,), 3: (BYTES,)}
_VERSIONS = {1: (VARINT,), 2: (VARINT,), 3: (VARINT, BYTES)}
_ENTRY = dict.fromkeys((1, 3, 4, 5), (VARINT,)) | {2: (BYTES,), 6: (FIXED32,), 7: (BYTES,)}


class BundleRow(NamedTuple):
    """A row of a bundle's index, a BundleEntryProto; not yet compared with the data files.

    Attributes:
        at: Its offset in the index, for messages.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int = 0
    size: int = 0
    checksum: int = 0
    boxes: tuple[Box, ...] = ()
    at: int = 0

    def __bytes__(self) -> bytes:
        numbers = ((3, self.shard), (4, self.offset), (5, self.size))
        return b"".join(
            [
                field(1, VARINT, self.dtype),
                field(2, BYTES, shape_bytes(self.shape)),
                *(number_field(number, value) for number, value in numbers),
                field(6, FIXED32, self.checksum) if self.checksum else b"",
                *(field(7, BYTES, box_bytes(box)) for box in self.boxes),
            ]
        )


class Bundle:
    """A TensorFlow V2 checkpoint, a tensor bundle, whose index was read.

    Args:
        prefix: The path of its files, without ``.index``.
        index: Its index.
        verify: Whether to compare the index's checksums.

    Raises:
        CheckpointError: If the index is damaged.
    """

    def __init__(self, prefix: str, index: Span, verify: bool) -> None:
        self.prefix = prefix
        self.name = index.name
        self._files: dict[int, PartialFile] = {}
        self._rows: dict[bytes, BundleRow] = {}
        rows = Table(index, verify).rows(verify)
        key, value = next(rows, (None, Span(b"", index.name)))
        if key != b"":
            raise value.error(0, "a bundle's header under the empty key", f"{key!r}")
        self.shards, self._big = _read_header(value)
        for key, value in rows:
            self._rows[key] = _read_row(value, self.shards)
        self._check_overlap()

    def entries(self, verify: bool) -> dict[str, Entry]:
        """All variables, in the order of their names' bytes."""
        found = {}
        for key, row in self._rows.items():
            if key.startswith(b"\x00"):
                continue
            name = Span(key, self.name, row.at).text()
            nbytes = row.size if not row.boxes else self._partitioned_size(name, row)
            found[name] = Entry(name, row.shape, row.dtype, nbytes, row.boxes, self, verify)
        return found

    def load(self, name: str, box: Box, verify: bool) -> NDArray[Any]:
        """The values of a part that NumPy can hold, as they lie in the mapped file if they can."""
        row = self._part(name, box)
        span = self._shard(row.shard).part(row.offset, row.size, f"{name!r}")
        if row.dtype == _dtypes.STRING:
            checksum = row.checksum if verify else None
            return _bundle_strings(span, math.prod(row.shape), checksum, self._big).reshape(
                row.shape
            )
        if verify:
            found = masked_crc32c_of(span.data)
            if found != row.checksum:
                what = f"{row.size} bytes of {name!r} with checksum {row.checksum:08x}"
                raise span.error(0, what, f"{found:08x}")
        return _bundle_numbers(span, _dtypes.NUMPY[row.dtype], self._big).reshape(row.shape)

    def where(self, name: str, box: Box) -> Where:
        """Where the bytes of a part lie."""
        row = self._part(name, box)
        return Where(self._path(row.shard), row.offset, row.size)

    def _part(self, name: str, box: Box) -> BundleRow:
        """The row that has the values of a part."""
        whole = self._rows[name.encode()]
        if not whole.boxes:
            return whole
        shape = part_shape(box, whole.shape)
        part = self._rows.get(part_key(name, box))
        found = "none" if part is None else (_dtypes.name_of(part.dtype), part.shape)
        if part is None or part.boxes or (part.dtype, part.shape) != (whole.dtype, shape):
            wanted = f"a part of {name!r}, {_dtypes.name_of(whole.dtype)} {shape}"
            raise Span(b"", self.name, whole.at).error(0, wanted, found)
        return part

    def _partitioned_size(self, name: str, row: BundleRow) -> int:
        parts = (self._rows.get(part_key(name, box)) for box in row.boxes)
        return sum(part.size for part in parts if part)

    def _path(self, shard: int) -> str:
        return f"{self.prefix}.data-{shard:05d}-of-{self.shards:05d}"

    def _shard(self, shard: int) -> PartialFile:
        if shard not in self._files:
            ends = [row.offset + row.size for row in self._rows.values() if row.shard == shard]
            self._files[shard] = open_parts(self._path(shard), max(ends, default=0))
        return self._files[shard]

    def _check_overlap(self) -> None:
        """Two entries that share bytes would let a small file fill any memory."""
        rows = self._rows.values()
        places = sorted((r.shard, r.offset, r.size, r.at) for r in rows if r.size)
        for (shard, offset, size, _), after in itertools.pairwise(places):
            if shard == after[0] and offset + size > after[1]:
                expected = f"an entry that begins at {offset + size} or later in shard {shard}"
                raise Span(b"", self.name, after[3]).error(0, expected, after[1])


def _bundle_numbers(span: Span, dtype: np.dtype[Any], big: bool) -> NDArray[Any]:
    """The numbers in a bundle's data file, as one axis; swapped if the bundle is big-endian."""
    array = np.frombuffer(span.data, np.uint8)
    if dtype == np.bool_ and array.size and array.max() > 1:
        raise span.error(int(array.argmax()), "a bool, 0 or 1", int(array.max()))
    if big:
        # Of a complex number each half is swapped by itself.
        width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        array = array.view(f"u{width}").byteswap()
    return array.view(dtype)


def _read_header(span: Span) -> tuple[int, bool]:
    """The number of shards of a bundle and whether it is big-endian: its BundleHeaderProto."""
    fields, versions, bad = {1: 0, 2: 0}, {1: 0, 2: 0}, list[int]()
    for number, integer, begin, end in message(span, _HEADER):
        if number < 3:
            fields[number] = integer
            continue
        version = span.cut(begin, end)
        for which, value, at, stop in message(version, _VERSIONS):
            if which < 3:
                versions[which] = value
                continue
            packed = version.cut(at, stop)  # Packed or not, the same varints.
            at = 0
            while at < len(packed):
                value, at = packed.varint(at)
                bad.append(value)
    (shards, endianness), (producer, consumer) = fields.values(), versions.values()
    if not 0 < shards < 1 << 31:
        raise span.error(0, "the number of shards", shards)
    if endianness > 1:
        raise span.error(0, "endianness 0 (little) or 1 (big)", endianness)
    if consumer > VERSION or producer >> 31 or VERSION in bad:
        raise span.error(
            0, f"a bundle for readers of version {VERSION}", f"one for {max(consumer, VERSION + 1)}"
        )
    return shards, bool(endianness)


def _read_row(span: Span, shards: int) -> BundleRow:
    """Read a row of a bundle's index, a BundleEntryProto, and check its members."""
    numbers = [0] * 7
    shape: tuple[int, ...] | None = None
    slices = []
    for number, integer, begin, end in message(span, _ENTRY):
        if number == 7:
            slices.append(span.cut(begin, end))
        elif number != 2:
            numbers[number] = integer
        elif shape is None:
            shape = read_shape(span.cut(begin, end))
        else:
            raise span.error(0, "one shape", "two")
    _, dtype, _, shard, offset, size, checksum = numbers
    shape = shape or ()
    boxes = tuple(read_box(piece, shape) for piece in slices)
    if not 0 < dtype < 1 << 31:
        raise span.error(0, "a dtype's number", dtype)
    if shard >= shards:
        raise span.error(0, f"a shard below {shards}", shard)
    if (offset + size) >> 63:
        found = f"{signed(size)} bytes at {signed(offset)}"
        raise span.error(0, "an extent that ends below 2^63", found)
    known = _dtypes.NUMPY.get(dtype)
    if not boxes and known is not None and dtype != _dtypes.STRING:
        expected = math.prod(shape) * known.itemsize
        if size != expected:
            what = f"{expected} bytes of {_dtypes.name_of(dtype)} {shape}"
            raise span.error(0, what, f"a size of {size}")
    return BundleRow(dtype, shape, shard, offset, 0 if boxes else size, checksum, boxes, span.base)


# Strings.


def _bundle_strings(span: Span, count: int, checksum: int | None, big: bool) -> NDArray[Any]:
    """The strings of a tensor in a bundle's data file, as an array of ``bytes``.

    Args:
        span: What is stored.
        count: How many there are; at least so many bytes must be there.
        checksum: The entry's, or None to verify nothing.
        big: Whether the numbers are big-endian.
    """
    if count > len(span):
        raise span.error(0, f"{count} strings", f"{len(span)} bytes")
    strings = np.empty(count, object)
    if not len(span):
        return strings
    lengths, at = [], 0
    for _ in range(count):
        length, at = span.varint(at)
        lengths.append(length)
    if len(span) - at != 4 + sum(lengths):
        raise span.error(at, f"{4 + sum(lengths)} bytes of strings", len(span) - at)
    if checksum is not None:
        crc = extend_crc32c(0, _summed_lengths(lengths, big))
        stored = int.from_bytes(span.data[at : at + 4], "big" if big else "little")
        if masked_crc32c(crc) != stored:
            raise span.error(at, f"lengths with checksum {stored:08x}", f"{masked_crc32c(crc):08x}")
        found = masked_crc32c(extend_crc32c(crc, span.data[at:]))
        if found != checksum:
            raise span.error(0, f"strings with checksum {checksum:08x}", f"{found:08x}")
    at += 4
    for position, length in enumerate(lengths):
        strings[position] = bytes(span.data[at : at + length])
        at += length
    return strings


def string_bytes(strings: Iterable[bytes]) -> tuple[bytes, int]:
    """What a V2 bundle stores of a tensor of strings, and the entry's masked checksum."""
    strings = list(strings)
    lengths = [len(string) for string in strings]
    crc = extend_crc32c(0, _summed_lengths(lengths, big=False))
    tail = b"".join([masked_crc32c(crc).to_bytes(4, "little"), *strings])
    head = b"".join(map(varint_bytes, lengths))
    return head + tail, masked_crc32c(extend_crc32c(crc, tail))


def _summed_lengths(lengths: list[int], big: bool) -> bytes:
    """The lengths of strings as a bundle's checksum sees them, which is not as they are stored."""
    order = ">" if big else "<"
    if max(lengths, default=0) < 1 << 32:
        return np.array(lengths, order + "u4").tobytes()
    return b"".join(
        np.array(length, order + ("u4" if length < 1 << 32 else "u8")).tobytes()
        for length in lengths
    )
