"""Shapes, and the boxes that cut them into parts.

A partitioned variable is stored in parts, each a box of the whole: a start and a length per
axis. Both formats store shapes and boxes as these protobuf messages::

    TensorShapeProto { 2 dim*: { 1 size: int64 }; 3 unknown_rank: bool }
    TensorSliceProto { 1 extent*: { 1 start: int64; 2 length: int64 } }

An extent without a length is a whole axis; a start of 0 is left out. A shape has at most 254
axes, as in TensorFlow, and less than 2^59 elements, whose bytes NumPy can count.

The key of a part is encoded by **ordered code**, in which the order of bytes is the order of the
values::

    key    := number(0), string(name), number(rank), (signed(start), signed(length))*
    number := n: u8, then the number in n bytes, big-endian; 0 has n = 0
    string := the bytes, a zero as 00 FF, then 00 01 (names are UTF-8, so they have no byte FF)
    signed := two's complement in the least n bytes that spare n bits, big-endian; the first n
              bits are then inverted. 0 is 80, 63 is BF, 64 is C0 40, -1 is 7F

A whole axis is start 0, length -1. Such keys begin with a zero byte and come before all names.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

from ._bytes import BYTES, VARINT, Span, field, message, number_field, signed

MOST_AXES = 254
_SHAPE = {2: (BYTES,), 3: (VARINT,)}
_AXIS = {1: (VARINT,)}
_SLICE = {1: (BYTES,)}
_EXTENT = {1: (VARINT,), 2: (VARINT,)}

# A start and a length per axis; None is a whole axis.
Extent: TypeAlias = tuple[int, int] | None
Box: TypeAlias = tuple[Extent, ...]


def read_shape(span: Span) -> tuple[int, ...]:
    """Read the shape of a variable, partitioned or whole, from a TensorShapeProto."""
    shape: list[int] = []
    for number, integer, begin, end in message(span, _SHAPE):
        if number == 3:
            if integer:
                raise span.error(0, "a shape of known rank", "an unknown one")
            continue
        size = 0
        for _, last, _, _ in message(span.cut(begin, end), _AXIS):
            size = last
        if size >> 63:
            raise span.error(begin, "the size of an axis", signed(size))
        shape.append(size)
    if len(shape) > MOST_AXES:
        raise span.error(0, f"a shape of at most {MOST_AXES} axes", len(shape))
    # NumPy counts bytes in an int64, axes of size 0 as if they were 1, and up to 16 per element.
    if math.prod(filter(None, shape)) >> 59:
        raise span.error(0, "a shape with less than 2^59 elements", tuple(shape))
    return tuple(shape)


def shape_bytes(shape: Sequence[int]) -> bytes:
    """The shape of a variable, partitioned or whole, as the bytes of a TensorShapeProto."""
    return b"".join(field(2, BYTES, number_field(1, size)) for size in shape)


def read_box(span: Span, shape: Sequence[int]) -> Box:
    """Read the box of a part from a TensorSliceProto; it must be inside the whole's shape."""
    box: list[Extent] = []
    for _, _, begin, end in message(span, _SLICE):
        start, length = 0, -1
        for number, integer, _, _ in message(span.cut(begin, end), _EXTENT):
            if number == 1:
                start = signed(integer)
            else:
                length = signed(integer)
        if len(box) == len(shape):
            raise span.error(0, f"a box of {len(shape)} axes", "more")
        most = shape[len(box)]
        if (start, length) == (0, -1):
            box.append(None)
        elif start < 0 or length < 0 or start + length > most:
            raise span.error(begin, f"a part of an axis of {most}", f"{length} from {start} on")
        else:
            box.append((start, length))
    if len(box) < len(shape):
        raise span.error(0, f"a box of {len(shape)} axes", len(box))
    return tuple(box)


def box_bytes(box: Box) -> bytes:
    """The box of a part of a partitioned variable, as the bytes of a TensorSliceProto."""
    out = b""
    for extent in box:
        # The length is in a oneof, so it is written even if it is 0.
        inside = b"" if extent is None else number_field(1, extent[0]) + field(2, VARINT, extent[1])
        out += field(1, BYTES, inside)
    return out


def part_slices(box: Box, shape: Sequence[int]) -> tuple[slice, ...]:
    """The slices that cut a part out of a partitioned variable, from the part's box."""
    return tuple(
        slice(0, size) if extent is None else slice(extent[0], sum(extent))
        for extent, size in zip(box, shape, strict=True)
    )


def part_shape(box: Box, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a part of a partitioned variable, from the part's box."""
    return tuple(
        size if extent is None else extent[1] for extent, size in zip(box, shape, strict=True)
    )


def is_whole(box: Box, shape: Sequence[int]) -> bool:
    """Whether a part's box is all of the variable, so that TensorFlow stores no parts."""
    return all(extent in (None, (0, size)) for extent, size in zip(box, shape, strict=True))


# Ordered code.


def part_key(name: str, box: Box) -> bytes:
    """The key, in ordered code, under which TensorFlow stores a part of a partitioned variable."""
    string = name.encode().replace(b"\x00", b"\x00\xff")
    numbers = (n for extent in box for n in ((0, -1) if extent is None else extent))
    box_key = _ordered_number(len(box)) + b"".join(map(_ordered_signed, numbers))
    return b"\x00" + string + b"\x00\x01" + box_key


def _ordered_number(value: int) -> bytes:
    """A number in ordered code, for the key of a part of a partitioned variable."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _ordered_signed(value: int) -> bytes:
    """A signed number in ordered code, for the key of a part."""
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    inverted = ((1 << size) - 1) << 7 * size
    return (value % (1 << 8 * size) ^ inverted).to_bytes(size, "big")
