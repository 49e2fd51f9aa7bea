"""Numbers and strings in a protobuf ``TensorProto``, as the first checkpoint format keeps them.

Only the field of the dtype is there, one number per element in row-major order; none at all if
there are no elements::

     5 float_val*: fixed32                    10 int64_val*: varint
     6 double_val*: fixed64                   11 bool_val*: varint
     7 int_val*: varint, of all smaller       12 dcomplex_val*: fixed64, real and imaginary
       integers, as int32                     13 half_val*: varint, the bits of a float16
     8 string_val*: bytes
     9 scomplex_val*: fixed32, real and imaginary

Numbers may be packed, all in one field, or one to a field; both are the same numbers one after
the other. Other dtypes (bfloat16, uint32, uint64, all that came later) have no field.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dtypes
from ._span import BYTES, FIXED32, FIXED64, VARINT, Span, message

# TensorFlow's name of a dtype -> field, wire.
_FIELDS = {
    **dict.fromkeys(("int32", "int16", "int8", "uint16", "uint8"), (7, VARINT)),
    **dict.fromkeys(("qint32", "qint16", "qint8", "quint16", "quint8"), (7, VARINT)),
    "float": (5, FIXED32),
    "double": (6, FIXED64),
    "string": (8, BYTES),
    "complex64": (9, FIXED32),
    "int64": (10, VARINT),
    "bool": (11, VARINT),
    "complex128": (12, FIXED64),
    "half": (13, VARINT),
}
_CHUNK = 1 << 16


def values(proto: Span, number: int, count: int) -> NDArray[Any]:
    """The elements of a TensorProto, one axis.

    Args:
        proto: The message.
        number: The dtype's number.
        count: How many elements there must be.
    """
    name = _dtypes.name_of(number)
    if name not in _FIELDS:
        raise proto.error(0, "a dtype that version 1 can hold", name)
    field, wire = _FIELDS[name]
    wires = (wire,) if wire == BYTES else (wire, BYTES)
    pieces = [proto.cut(begin, end) for _, _, begin, end in message(proto, {field: wires})]
    if wire == BYTES:
        if len(pieces) != count:
            raise proto.error(0, f"{count} strings", len(pieces))
        strings = np.empty(count, object)
        strings[:] = [bytes(piece) for piece in pieces]
        return strings
    dtype = _dtypes.NUMPY[number]
    packed = pieces[0] if len(pieces) == 1 else _joined(pieces, proto)
    if wire == VARINT:
        return _varints(packed, dtype, count)
    if len(packed) != count * dtype.itemsize:
        raise packed.error(0, f"{count * dtype.itemsize} bytes of numbers", len(packed))
    return np.frombuffer(packed.data, np.uint8).view(dtype)


def _joined(pieces: list[Span], proto: Span) -> Span:
    return Span(b"".join(piece.data for piece in pieces), proto.name, proto.base)


def _varints(packed: Span, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """Varints as numbers of a dtype; none is out of its range."""
    raw = np.frombuffer(packed.data, np.uint8)
    ends = np.flatnonzero(raw < 0x80) if raw.size <= _CHUNK else None
    found = int(np.count_nonzero(raw < 0x80)) if ends is None else ends.size
    if found != count or (raw.size and raw[-1] >= 0x80):
        raise packed.error(0, f"{count} varints", found)
    bits = np.dtype(np.uint16) if dtype.kind == "f" else dtype
    low, high = (0, 1) if dtype == np.bool_ else (np.iinfo(bits).min, np.iinfo(bits).max)
    result = np.empty(count, bits)
    done = at = 0
    while at < raw.size:
        # Some at a time, so that what is needed on the way is small beside the result.
        numbers, size = _some_varints(raw[at : at + _CHUNK], packed, at)
        if numbers.min() < low or numbers.max() > high:
            found = int(numbers.min() if numbers.min() < low else numbers.max())
            raise packed.error(at, f"numbers from {low} to {high}", found)
        result[done : done + numbers.size] = numbers
        done, at = done + numbers.size, at + size
    return result.view(dtype)


def _some_varints(raw: NDArray[np.uint8], packed: Span, at: int) -> tuple[NDArray[np.int64], int]:
    """The varints that end in a piece, and how many bytes they take."""
    ends = np.flatnonzero(raw < 0x80)
    if not ends.size:
        raise packed.error(at, "a varint of at most ten bytes", "a longer one")
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    widest = int(widths.max())
    if widest > 10 or (widest == 10 and raw[ends[widths == 10]].max() > 1):
        raise packed.error(at, "varints of at most 64 bits", "a longer one")
    numbers = np.zeros(ends.size, np.uint64)
    for place in range(widest):
        has = widths > place
        seven = (raw[starts[has] + place] & 0x7F).astype(np.uint64)
        numbers[has] |= seven << np.uint64(7 * place)
    return numbers.view(np.int64), int(ends[-1]) + 1
