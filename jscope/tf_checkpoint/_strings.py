"""String tensors, as a bundle stores them.

::

    strings := length: varint64 * n, checksum: u32, the bytes of each

The checksum is a masked CRC-32C of the lengths, each as a u32 if it fits and a u64 if not, not
as the varint that is stored. The entry's own checksum goes over those lengths, the four bytes
of the checksum, and the bytes of the strings. In a big-endian bundle these numbers are
big-endian, but not the varints. An empty tensor is its checksum alone, or nothing at all.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _checksum
from ._span import Span, varint_bytes


def read(span: Span, count: int, checksum: int | None, big: bool) -> NDArray[Any]:
    """The strings, as an array of ``bytes``.

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
        found = _checksum.extend(0, _as_summed(lengths, big))
        stored = int.from_bytes(span.data[at : at + 4], "big" if big else "little")
        if _checksum.masked(found) != stored:
            raise span.error(
                at, f"lengths with checksum {stored:08x}", f"{_checksum.masked(found):08x}"
            )
        found = _checksum.masked(_checksum.extend(found, span.data[at:]))
        if found != checksum:
            raise span.error(0, f"strings with checksum {checksum:08x}", f"{found:08x}")
    at += 4
    for position, length in enumerate(lengths):
        strings[position] = bytes(span.data[at : at + length])
        at += length
    return strings


def stored(strings: Iterable[bytes]) -> tuple[bytes, int]:
    """What is stored of strings, and the entry's checksum, masked."""
    strings = list(strings)
    lengths = [len(string) for string in strings]
    crc = _checksum.extend(0, _as_summed(lengths, big=False))
    tail = b"".join([_checksum.masked(crc).to_bytes(4, "little"), *strings])
    head = b"".join(map(varint_bytes, lengths))
    return head + tail, _checksum.masked(_checksum.extend(crc, tail))


def _as_summed(lengths: list[int], big: bool) -> bytes:
    order = ">" if big else "<"
    if max(lengths, default=0) < 1 << 32:
        return np.array(lengths, order + "u4").tobytes()
    return b"".join(
        np.array(length, order + ("u4" if length < 1 << 32 else "u8")).tobytes()
        for length in lengths
    )
