"""Writing a table, byte for byte as TensorFlow does; `_tree.text` describes the format.

Choices that the format leaves open are TensorFlow's: no compression, a restart every 16 entries
(every one in the index), a new block once one has 256 KiB, and before an entry of 512 KiB or
more. The index has, for each block, the shortest key that is at least the block's last and less
than the next block's first; for the last block, the shortest that is at least its last.
"""

from collections.abc import Iterable

from . import _checksum
from ._span import varint_bytes
from ._table import FOOTER, MAGIC

_BLOCK = 1 << 18
_RESTART = 16


class _Block:
    """The contents of a block that is being written."""

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
            shared = _common(self.last, key)
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


def table(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a table.

    Args:
        rows: Keys and values; the keys must increase.
    """
    out = bytearray()
    index, block = _Block(1), _Block(_RESTART)
    finished: tuple[bytes, bytes] | None = None  # the last block's last key, and its handle
    for key, value in rows:
        if block and (block.size >= _BLOCK or len(key) + len(value) >= 2 * _BLOCK):
            finished = block.last, _append(out, block)
            block = _Block(_RESTART)
        if finished:
            index.add(_separator(finished[0], key), finished[1])
            finished = None
        block.add(key, value)
    if block:
        index.add(_successor(block.last), _append(out, block))
    footer = _append(out, _Block(_RESTART)) + _append(out, index)
    return bytes(out) + footer.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def _append(out: bytearray, block: _Block) -> bytes:
    """Append a block with its trailer; its handle."""
    contents = block.contents()
    handle = varint_bytes(len(out)) + varint_bytes(len(contents))
    checksum = _checksum.masked(_checksum.extend(0, contents + b"\0"))
    out += contents + b"\0" + checksum.to_bytes(4, "little")
    return handle


def _common(a: bytes, b: bytes) -> int:
    """How many bytes two keys share at the front."""
    shared = min(len(a), len(b))
    if a[:shared] == b[:shared]:
        return shared
    return next(at for at in range(shared) if a[at] != b[at])


def _separator(last: bytes, limit: bytes) -> bytes:
    """A short key from ``last`` on and below ``limit``."""
    common = _common(last, limit)
    if common < min(len(last), len(limit)) and last[common] + 1 < limit[common]:
        return last[:common] + bytes([last[common] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """A short key from ``last`` on."""
    for position, byte in enumerate(last):
        if byte < 0xFF:
            return last[:position] + bytes([byte + 1])
    return last
