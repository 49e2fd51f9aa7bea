"""Tables: sorted rows of key and value, the container of both checkpoint formats.

An ``.index`` file is one table, and so is a whole file of the first format. It is LevelDB's
table without filters::

    file     := data_block* metaindex_block index_block footer
    block    := contents, compression: u8 (0 none, 1 Snappy), checksum: u32
    contents := entry*, restart: u32 * n, n: u32
    entry    := shared: varint32, non_shared: varint32, size: varint32,
                key[shared:]: non_shared bytes, value: size bytes
    footer   := handle(metaindex), handle(index), zeros up to 40 bytes,
                0xDB4775248B80FB57: u64                                    48 bytes in all
    handle   := offset: varint64, size: varint64     size: of the contents alone

Numbers are little-endian; the checksum is a masked CRC-32C of contents and compression. A key
repeats the first ``shared`` bytes of the key before it. Keys increase strictly, byte by byte,
through the whole file, so no block can come twice and no key either. The entries of the index
block have handles as values; their keys are at least the last key of the block and less than
the first key of the next. The metaindex is empty, and not read. A restart is the offset of an
entry that shares nothing; TensorFlow makes one every 16 entries. They speed up a search, and
are not needed to read entries in order.

Blocks of data don't overlap, and come in the order of the index.

Shared prefixes could make keys of a small file fill any memory, since each may repeat all of
the one before. TensorFlow's restarts allow 16 times what is stored, and so does this file; a
block that Snappy made smaller counts as at most four times its stored size.

**Snappy's raw format**, in which a block may be stored::

    block   := length: varint32, element*           length: of the decompressed bytes
    element := literal | copy                       the two lowest bits of the first byte, tag:
      00  literal  tag >> 2 is length - 1 if below 60; 60..63: length - 1 follows in 1..4 bytes
      01  copy     length = 4 + (tag >> 2 & 7), offset = (tag >> 5) << 8 | next byte
      10  copy     length = 1 + (tag >> 2),     offset in the next 2 bytes
      11  copy     length = 1 + (tag >> 2),     offset in the next 4 bytes

A copy repeats bytes that were decompressed already, from ``offset`` bytes back; an offset smaller
than the length repeats a pattern. No element gives more than 64 bytes for three, so a block that
claims more than 22 times its size is refused before the first byte; the result is never longer
than what was claimed. A library was considered: the maintained ones allocate any length that a
block claims.

**What is written** is byte for byte what TensorFlow writes; where the format leaves a choice: no
compression, a restart every 16 entries (every one in the index), a new block once one has
256 KiB, and before an entry of 512 KiB or more. The index has, for each block, the shortest key
that is at least the block's last and less than the next block's first; for the last block, the
shortest that is at least its last.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from ._bytes import Span, varint_bytes
from ._crc32c import masked_crc32c_of

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
TRAILER = 5
_KEYS = 16
_SNAPPY = 22  # times a block's size, at most, are its decompressed bytes
_BLOCK = 1 << 18
_RESTART = 16


class Table:
    """The sorted rows of key and value in a table of TensorFlow, LevelDB's format.

    Args:
        file: The file.
        verify: Whether to compare the index's checksum. A block's is compared each time that it
            is read, if that is wanted then.

    Raises:
        CheckpointError: If it is not a table, or its index is damaged.
    """

    def __init__(self, file: Span, verify: bool) -> None:
        self._file = file
        self.name = file.name
        footer = self._footer()
        _, _, at = self._handle(footer, 0)
        index = self._handle(footer, at)[:2]
        self._separators: list[bytes] = []
        self._handles: list[tuple[int, int]] = []
        self._parsed: tuple[tuple[int, int], dict[bytes, Span]] | None = None
        above = 0
        for key, value in self._entries(index, None, verify):
            offset, size, _ = self._handle(value, 0)
            if offset < above:
                raise value.error(0, f"a block from offset {above} on", offset)
            above = offset + size + TRAILER
            self._separators.append(key)
            self._handles.append((offset, size))

    def rows(self, verify: bool) -> Iterator[tuple[bytes, Span]]:
        """All rows in order."""
        above: bytes | None = None
        for separator, handle in zip(self._separators, self._handles, strict=True):
            for key, value in self._entries(handle, above, verify):
                if key > separator:
                    raise value.error(0, f"keys of at most {separator!r}", repr(key))
                yield key, value
            above = separator

    def find(self, key: bytes, verify: bool) -> Span | None:
        """The value of a key; reads one block."""
        where = bisect_left(self._separators, key)
        if where == len(self._separators):
            return None
        handle = self._handles[where]
        parsed = self._parsed
        if parsed is None or parsed[0] != handle:
            # Kept, since a reader of all variables requests the next one of this block.
            parsed = self._parsed = handle, dict(self._entries(handle, None, verify))
        elif verify:
            self._stored(*handle, verify)
        return parsed[1].get(key)

    def extent(self, key: bytes) -> tuple[int, int]:
        """Offset and size of the block that has a key, if any has."""
        where = min(bisect_left(self._separators, key), len(self._handles) - 1)
        return self._handles[where]

    def _footer(self) -> Span:
        size = len(self._file)
        if size < FOOTER:
            expected = f"a table's footer, {FOOTER} bytes"
            raise self._file.error(size, expected, f"a file of {size}")
        footer = self._file.cut(size - FOOTER, size)
        found = bytes(footer.data[-8:])
        if found != MAGIC:
            raise footer.error(40, f"a table's magic number {MAGIC.hex()}", found.hex())
        return footer

    def _handle(self, span: Span, at: int) -> tuple[int, int, int]:
        """A block's offset and size, and the offset behind the handle."""
        offset, behind = span.varint(at)
        size, behind = span.varint(behind)
        room = len(self._file) - FOOTER - TRAILER
        if offset + size > room:
            raise span.error(at, f"a block that ends before offset {room}", offset + size)
        return offset, size, behind

    def _stored(self, offset: int, size: int, verify: bool) -> Span:
        """A block with its trailer, verified."""
        whole = self._file.part(offset, size + TRAILER, "a block")
        if verify:
            stored = int.from_bytes(whole.data[size + 1 :], "little")
            found = masked_crc32c_of(whole.data[: size + 1])
            if found != stored:
                expected = f"a block of {size} bytes with checksum {stored:08x}"
                raise whole.error(0, expected, f"{found:08x}")
        return whole

    def _block(self, offset: int, size: int, verify: bool) -> Span:
        """The contents of a block, verified and decompressed."""
        whole = self._stored(offset, size, verify)
        compression = whole.data[size]
        if compression == 1:
            name = f"{self.name}, inside the Snappy block at {offset}"
            return Span(decompress(whole.cut(0, size)), name)
        if compression:
            raise whole.error(size, "compression 0 (none) or 1 (Snappy)", compression)
        return whole.cut(0, size)

    def _entries(
        self, handle: tuple[int, int], above: bytes | None, verify: bool
    ) -> Iterator[tuple[bytes, Span]]:
        """The entries of a block; keys must be greater than ``above``."""
        block = self._block(*handle, verify)
        data, size = block.data, len(block)
        room = _KEYS * min(size, 4 * handle[1])
        restarts = int.from_bytes(data[-4:], "little") if size >= 4 else 0
        end = size - 4 - 4 * restarts
        if not restarts or end < 0:
            raise block.error(max(size - 4, 0), "the number of restarts in a block", restarts)
        at, key = 0, b""
        while at < end:
            begin = at
            lengths = data[at : at + 3]
            if len(lengths) == 3 and max(lengths) < 0x80:  # Nearly always: not worth three calls.
                shared, non_shared, length = lengths
                at += 3
            else:
                shared, at = block.varint(at)
                non_shared, at = block.varint(at)
                length, at = block.varint(at)
            if shared > len(key):
                raise block.error(begin, f"a key that shares {shared} bytes", f"{len(key)} before")
            if non_shared + length > end - at:
                found = f"{end - at} left in the block"
                raise block.error(begin, f"an entry of {non_shared + length} bytes", found)
            room -= shared + non_shared
            if room < 0:
                raise block.error(
                    begin, f"keys of at most {_KEYS} times their block's size", "more"
                )
            key = key[:shared] + data[at : at + non_shared]
            if above is not None and key <= above:
                raise block.error(begin, f"a key after {above!r}", repr(key))
            above = key
            at += non_shared
            yield key, block.cut(at, at + length)
            at += length


# Snappy.


def decompress(span: Span) -> bytearray:
    """The decompressed bytes of a table's block that Snappy has compressed."""
    data, end = span.data, len(span)
    length, at = span.varint(0)
    if length > _SNAPPY * end:
        raise span.error(0, f"at most {_SNAPPY} times {end} bytes, all that Snappy can do", length)
    out = bytearray()
    while at < end:
        begin = at
        tag = data[at]
        at += 1
        if not tag & 3:
            size, at = _snappy_literal(span, tag >> 2, at)
            if size > min(end - at, length - len(out)):
                raise span.error(begin, "a literal that fits", f"one of {size} bytes")
            out += data[at : at + size]
            at += size
            continue
        width = (0, 1, 2, 4)[tag & 3]
        if end - at < width:
            raise span.error(begin, f"{width} bytes of a copy's offset", end - at)
        offset = int.from_bytes(data[at : at + width], "little")
        at += width
        if tag & 3 == 1:
            size, offset = 4 + (tag >> 2 & 7), (tag >> 5) << 8 | offset
        else:
            size = 1 + (tag >> 2)
        if not 0 < offset <= len(out) or size > length - len(out):
            raise span.error(begin, "a copy of bytes that are there", f"{size} from {offset} back")
        start = len(out) - offset
        pattern = bytes(out[start : start + size])
        out += (pattern * -(-size // len(pattern)))[:size]
    if len(out) != length:
        raise span.error(end, f"{length} decompressed bytes", len(out))
    return out


def _snappy_literal(span: Span, size: int, at: int) -> tuple[int, int]:
    """The length of a literal in a block of Snappy's, and the offset of its first byte."""
    if size < 60:
        return size + 1, at
    width = size - 59
    if len(span) - at < width:
        raise span.error(at, f"{width} bytes of a literal's length", len(span) - at)
    return int.from_bytes(span.data[at : at + width], "little") + 1, at + width


# Writing.


class _Block:
    """The contents of a table's block that is being written."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._bytes = bytearray()
        self._restarts = [0]
        self._count = 0
        self.last = b""

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._count and self._count % self._interval == 0:
            self._restarts.append(len(self._bytes))
        elif self._count:
            shared = _common_front(self.last, key)
        lengths = (shared, len(key) - shared, len(value))
        self._bytes += b"".join([*map(varint_bytes, lengths), key[shared:], value])
        self._count += 1
        self.last = key

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def size(self) -> int:
        return len(self._bytes) + 4 * len(self._restarts) + 4

    def contents(self) -> bytes:
        numbers = [*self._restarts, len(self._restarts)]
        return bytes(self._bytes) + b"".join(n.to_bytes(4, "little") for n in numbers)


def table_bytes(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a table of these rows.

    Args:
        rows: Keys and values; the keys must increase.
    """
    out = bytearray()
    index, block = _Block(1), _Block(_RESTART)
    for key, value in rows:
        if block and (block.size >= _BLOCK or len(key) + len(value) >= 2 * _BLOCK):
            index.add(_separator(block.last, key), _append_block(out, block))
            block = _Block(_RESTART)
        block.add(key, value)
    if block:
        index.add(_successor(block.last), _append_block(out, block))
    footer = _append_block(out, _Block(_RESTART)) + _append_block(out, index)
    return bytes(out) + footer.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def _append_block(out: bytearray, block: _Block) -> bytes:
    """Append a block with its trailer to a table; its handle."""
    contents = block.contents()
    handle = varint_bytes(len(out)) + varint_bytes(len(contents))
    contents += b"\0"  # no compression
    out += contents + masked_crc32c_of(contents).to_bytes(4, "little")
    return handle


def _common_front(a: bytes, b: bytes) -> int:
    """How many bytes two keys of a table share at the front."""
    shared = min(len(a), len(b))
    if a[:shared] == b[:shared]:
        return shared
    return next(at for at in range(shared) if a[at] != b[at])


def _separator(last: bytes, limit: bytes) -> bytes:
    """A short key for a table's index, from a block's ``last`` on and below ``limit``."""
    common = _common_front(last, limit)
    if common < min(len(last), len(limit)) and last[common] + 1 < limit[common]:
        return last[:common] + bytes([last[common] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """A short key for a table's index, from its ``last`` on."""
    for position, byte in enumerate(last):
        if byte < 0xFF:
            return last[:position] + bytes([byte + 1])
    return last
