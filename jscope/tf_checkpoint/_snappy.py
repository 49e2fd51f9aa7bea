"""Snappy's raw block format, decompressed within bounds.

::

    block   := length: varint32, element*           length: of the decompressed bytes
    element := literal | copy                       the two lowest bits of the first byte, tag:
      00  literal  tag >> 2 is length - 1 if below 60; 60..63: length - 1 follows in 1..4 bytes
      01  copy     length = 4 + (tag >> 2 & 7), offset = (tag >> 5) << 8 | next byte
      10  copy     length = 1 + (tag >> 2),     offset in the next 2 bytes
      11  copy     length = 1 + (tag >> 2),     offset in the next 4 bytes

Numbers are little-endian. A copy repeats bytes that were decompressed already, from ``offset``
bytes back; an offset smaller than the length repeats a pattern.

No element gives more than 64 bytes for three, so a block that claims more than 22 times its
size is refused before the first byte; the result is never longer than what was claimed.

A library was considered: the maintained ones allocate any length that a block claims.
"""

from ._span import Span

_MOST = 22


def decompress(span: Span) -> bytearray:
    """The decompressed bytes of a block."""
    data, end = span.data, len(span)
    length, at = span.varint(0)
    if length > _MOST * end:
        raise span.error(0, f"at most {_MOST} times {end} bytes, all that Snappy can do", length)
    out = bytearray()
    while at < end:
        begin = at
        tag = data[at]
        at += 1
        if not tag & 3:
            size, at = _literal(span, tag >> 2, at)
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


def _literal(span: Span, size: int, at: int) -> tuple[int, int]:
    """The length of a literal, and the offset of its first byte."""
    if size < 60:
        return size + 1, at
    width = size - 59
    if len(span) - at < width:
        raise span.error(at, f"{width} bytes of a literal's length", len(span) - at)
    return int.from_bytes(span.data[at : at + width], "little") + 1, at + width
