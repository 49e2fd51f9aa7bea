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
"""

from bisect import bisect_left
from collections.abc import Iterator

from . import _checksum
from ._files import File
from ._snappy import decompress
from ._span import Span

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
TRAILER = 5
_KEYS = 16


class Table:
    """The rows of a table.

    Args:
        file: The file.
        verify: Whether to compare the index's checksum. A block's is compared each time that it
            is read, if that is wanted then.

    Raises:
        CheckpointError: If it is not a table, or its index is damaged.
    """

    def __init__(self, file: File, verify: bool) -> None:
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
        size = self._file.data.size
        if size < FOOTER:
            raise self._file.span(0, size, "").error(
                size, f"a table's footer, {FOOTER} bytes", f"a file of {size}"
            )
        footer = self._file.span(size - FOOTER, FOOTER, "a footer")
        found = bytes(footer.data[-8:])
        if found != MAGIC:
            raise footer.error(40, f"a table's magic number {MAGIC.hex()}", found.hex())
        return footer

    def _handle(self, span: Span, at: int) -> tuple[int, int, int]:
        """A block's offset and size, and the offset behind the handle."""
        offset, behind = span.varint(at)
        size, behind = span.varint(behind)
        room = self._file.data.size - FOOTER - TRAILER
        if offset + size > room:
            raise span.error(at, f"a block that ends before offset {room}", offset + size)
        return offset, size, behind

    def _stored(self, offset: int, size: int, verify: bool) -> Span:
        """A block with its trailer, verified."""
        whole = self._file.span(offset, size + TRAILER, "a block")
        if verify:
            stored = int.from_bytes(whole.data[size + 1 :], "little")
            found = _checksum.masked(_checksum.extend(0, whole.data[: size + 1]))
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
