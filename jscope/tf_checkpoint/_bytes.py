"""Bytes with their offset in a file, and the encodings that all formats here share.

A `Span` is a piece of a file (or of a block that was decompressed) with its offset, so that
errors name it. Nothing here allocates by what a file claims: a length is compared with the bytes
that are there before it is used.

**varint**: little-endian base 128. Each byte gives seven bits, the lowest first; the highest
bit of a byte says that another one follows. At most ten bytes, and at most 64 bits. A negative
int64 is its two's complement, in ten bytes.

**protobuf message**: fields one after the other, each ``tag: varint`` and a value;
``tag = number << 3 | wire``, where *wire* says how the value is stored::

    0 VARINT    a varint
    1 FIXED64   8 bytes, little-endian
    2 BYTES     length: varint, then so many bytes: a string, a message, or packed numbers
    5 FIXED32   4 bytes, little-endian

Numbers that a reader doesn't know are skipped. The groups of old, wire 3 and 4, are refused.
"""

from collections.abc import Iterator, Mapping

from .._errors import CheckpointError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Span:
    """Bytes of a TensorFlow checkpoint's file, with their offset in it for errors.

    Attributes:
        data: Its bytes.
        name: The file's path, and what was done to get at the bytes, for messages.
        base: The offset of the first byte there.
    """

    __slots__ = ("base", "data", "name")

    def __init__(self, data: bytes | bytearray | memoryview, name: str, base: int = 0) -> None:
        self.data = memoryview(data)
        self.name = name
        self.base = base

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def cut(self, begin: int, end: int) -> "Span":
        """The bytes from ``begin`` to ``end``, which must be inside."""
        return Span(self.data[begin:end], self.name, self.base + begin)

    def part(self, offset: int, size: int, what: str) -> "Span":
        """So many bytes of a file from an offset on, if the file has them."""
        if offset + size > len(self):
            raise self.error(offset, f"{what} of {size} bytes", f"a file of {len(self)} bytes")
        return self.cut(offset, offset + size)

    def error(self, at: int, expected: str, found: object) -> CheckpointError:
        """The error that names the file, the offset, what was expected and what is there."""
        return CheckpointError(
            f"{self.name}, offset {self.base + at}: expected {expected}, found {found}. The file "
            "is damaged or was not written by TensorFlow: fetch it again, and compare its size."
        )

    def varint(self, at: int) -> tuple[int, int]:
        """The varint at an offset, and the offset behind it."""
        data = self.data
        value = shift = 0
        for position in range(at, min(at + 10, len(data))):
            byte = data[position]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    raise self.error(at, "a varint of at most 64 bits", "a larger one")
                return value, position + 1
            shift += 7
        found = "the end" if len(data) - at < 10 else "ten bytes that all say that one follows"
        raise self.error(at, "the last byte of a varint", found)

    def text(self) -> str:
        """The bytes as UTF-8."""
        try:
            return str(self.data, "utf-8")
        except UnicodeDecodeError:
            raise self.error(0, "a name in UTF-8", bytes(self.data[:64])) from None


def signed(value: int) -> int:
    """The int64 whose two's complement is the 64-bit number of a varint."""
    return value - (1 << 64) if value >> 63 else value


def message(
    span: Span, schema: Mapping[int, tuple[int, ...]]
) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a protobuf message, in the order in which they are stored.

    Args:
        span: The message.
        schema: For each field number that is wanted, the wires that its value may have.

    Yields:
        ``number, integer, begin, end``: the integer of a VARINT, FIXED32 or FIXED64 as an
        unsigned number, and -1 for BYTES; the bytes of the value are ``span.cut(begin, end)``.
    """
    data, at = span.data, 0
    size = len(data)
    while at < size:
        field_at = at
        tag = data[at]
        at += 1
        if tag >= 0x80:  # Most tags and numbers are of one byte: not worth a call.
            tag, at = span.varint(field_at)
        number, wire = tag >> 3, tag & 7
        begin, integer = at, -1
        if wire == VARINT:
            if at < size and data[at] < 0x80:
                integer = data[at]
                at += 1
            else:
                integer, at = span.varint(at)
        elif wire == BYTES:
            integer, begin = span.varint(at)
            at, integer = begin + integer, -1
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
            integer = int.from_bytes(data[begin:at], "little")
        else:
            raise span.error(field_at, "a protobuf field of wire 0, 1, 2 or 5", f"wire {wire}")
        if not 0 < number < 1 << 29:
            raise span.error(field_at, "a protobuf field number", number)
        if at > size:
            raise span.error(field_at, f"a field of {at - begin} bytes", f"{size - begin}")
        wires = schema.get(number)
        if wires:
            if wire not in wires:
                wanted = " or ".join(map(str, wires))
                raise span.error(field_at, f"wire {wanted} for field {number}", f"wire {wire}")
            yield number, integer, begin, at


def pieces(span: Span, number: int) -> Iterator[Span]:
    """The bytes of each message or string in one field of a protobuf message."""
    for _, _, begin, end in message(span, {number: (BYTES,)}):
        yield span.cut(begin, end)


# Writing.


def varint_bytes(value: int) -> bytes:
    """The bytes of a varint; negative numbers as their 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, wire: int, value: int | bytes) -> bytes:
    """The bytes of a protobuf field."""
    tag = varint_bytes(number << 3 | wire)
    if isinstance(value, bytes):
        return tag + varint_bytes(len(value)) + value
    if wire == FIXED32:
        return tag + value.to_bytes(4, "little")
    return tag + varint_bytes(value)


def number_field(number: int, value: int) -> bytes:
    """The bytes of a protobuf field of a number; none if it is 0, as protobuf 3 does."""
    return field(number, VARINT, value) if value else b""
