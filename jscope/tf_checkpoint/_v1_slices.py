"""Saved tensor slices, TensorFlow's first checkpoint format ("V1"), reading only.

A checkpoint is one file, or several called ``NAME-00000-of-00002``; each is a table, see
`_table`. The row of the empty key lists the contents of its file, the others hold values,
each under the key of a part of a variable (see `_partitions`)::

    ""     SavedTensorSlices { 1 meta: SavedTensorSliceMeta { 1 tensor*: SavedSliceMeta;
                                                              2 versions } }
           SavedSliceMeta    { 1 name; 2 shape; 3 type: the dtype's number; 4 slice* }
    other  SavedTensorSlices { 2 data: SavedSlice { 1 name; 2 slice; 3 data: TensorProto } }

A variable that isn't partitioned has one slice, all axes whole. The parts of one variable may
be in several files. There are no checksums but those of the table's blocks.

Of a **TensorProto** only the field of the dtype is there, without shape and dtype: one number per
element in row-major order; none at all if there are no elements::

     5 float_val*: fixed32                    10 int64_val*: varint
     6 double_val*: fixed64                   11 bool_val*: varint
     7 int_val*: varint, of all smaller       12 dcomplex_val*: fixed64, real and imaginary
       integers, as int32                     13 half_val*: varint, the bits of a float16
     8 string_val*: bytes
     9 scomplex_val*: fixed32, real and imaginary

Numbers may be packed, all in one field, or one to a field; both are the same numbers one after
the other. Other dtypes (bfloat16, uint32, uint64, all that came later) have no field.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dtypes
from ._bytes import BYTES, FIXED32, FIXED64, VARINT, Span, message, pieces
from ._entry import Entry, Where
from ._partitions import Box, is_whole, part_key, part_shape, read_box, read_shape
from ._table import Table

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


class _SavedSlices:
    """The slices of one variable in a V1 checkpoint: its dtype and shape, and the table of each."""

    def __init__(self, dtype: int, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.tables: dict[Box, Table] = {}


class Slices:
    """A TensorFlow V1 checkpoint, saved tensor slices, whose contents were read.

    Args:
        prefix: Its file, or the pattern of its files.
        files: The files.
        verify: Whether to compare the checksums of what is read now.

    Raises:
        CheckpointError: If a file is damaged, or they contradict each other.
    """

    def __init__(self, prefix: str, files: Iterable[Span], verify: bool) -> None:
        self.name = prefix
        self._saved: dict[str, _SavedSlices] = {}
        for file in files:
            table = Table(file, verify)
            meta = table.find(b"", verify)
            if meta is None:
                raise file.error(0, "a row with the empty key", "none")
            for contents in pieces(meta, 1):
                for tensor in pieces(contents, 1):
                    self._add(table, tensor)

    def entries(self, verify: bool) -> dict[str, Entry]:
        """All variables, in the order of their names' bytes."""
        found = {}
        for name, saved in sorted(self._saved.items(), key=lambda item: item[0].encode()):
            boxes = tuple(saved.tables)
            if len(boxes) == 1 and is_whole(boxes[0], saved.shape):
                boxes = ()
            dtype = _dtypes.NUMPY.get(saved.dtype)
            if dtype is None or dtype.hasobject:
                nbytes = sum(self.where(name, box).nbytes for box in saved.tables)
            else:
                nbytes = math.prod(saved.shape) * dtype.itemsize
            found[name] = Entry(name, saved.shape, saved.dtype, nbytes, boxes, self, verify)
        return found

    def load(self, name: str, box: Box, verify: bool) -> NDArray[Any]:
        """The values of a part; over the mapped file if they are floating-point numbers."""
        saved, box, table = self._part(name, box)
        value = table.find(part_key(name, box), verify)
        if value is None:
            raise Span(b"", table.name).error(0, f"the values of {name!r}", "no such row")
        shape = part_shape(box, saved.shape)
        for data in pieces(value, 2):
            for proto in pieces(data, 3):
                return proto_values(proto, saved.dtype, math.prod(shape)).reshape(shape)
        raise value.error(0, f"the values of {name!r}", "none")

    def where(self, name: str, box: Box) -> Where:
        """Where the block lies that holds a part; other variables may lie in it as well."""
        _, box, table = self._part(name, box)
        return Where(table.name, *table.extent(part_key(name, box)))

    def _part(self, name: str, box: Box) -> tuple[_SavedSlices, Box, Table]:
        saved = self._saved[name]
        # One whole part may be stored as a box that spells its axes out.
        box = box if box in saved.tables else next(iter(saved.tables))
        return saved, box, saved.tables[box]

    def _add(self, table: Table, tensor: Span) -> None:
        """Record the facts of a SavedSliceMeta."""
        name, dtype = "", 0
        shape: tuple[int, ...] = ()
        slices = []
        fields = {1: (BYTES,), 2: (BYTES,), 3: (VARINT,), 4: (BYTES,)}
        for number, integer, begin, end in message(tensor, fields):
            piece = tensor.cut(begin, end)
            if number == 1:
                name = piece.text()
            elif number == 2:
                shape = read_shape(piece)
            elif number == 3:
                dtype = integer
            else:
                slices.append(piece)
        if not name or not slices or not 0 < dtype < 1 << 31:
            expected = "a variable with a name, a dtype and a slice"
            raise tensor.error(0, expected, f"{name!r}, dtype {dtype}, {len(slices)} slices")
        saved = self._saved.setdefault(name, _SavedSlices(dtype, shape))
        if (saved.dtype, saved.shape) != (dtype, shape):
            expected = f"{_dtypes.name_of(saved.dtype)} {saved.shape} as another part of {name!r}"
            raise tensor.error(0, expected, f"{_dtypes.name_of(dtype)} {shape}")
        for piece in slices:
            box = read_box(piece, shape)
            if box in saved.tables:
                raise piece.error(0, f"each part of {name!r} once", "it twice")
            saved.tables[box] = table


# TensorProto.


def proto_values(proto: Span, number: int, count: int) -> NDArray[Any]:
    """The elements of a V1 checkpoint's TensorProto, as one axis.

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
    parts = [proto.cut(begin, end) for _, _, begin, end in message(proto, {field: wires})]
    if wire == BYTES:
        if len(parts) != count:
            raise proto.error(0, f"{count} strings", len(parts))
        strings = np.empty(count, object)
        strings[:] = list(map(bytes, parts))
        return strings
    dtype = _dtypes.NUMPY[number]
    if len(parts) == 1:
        (packed,) = parts
    else:
        packed = Span(b"".join(part.data for part in parts), proto.name, proto.base)
    if wire == VARINT:
        return _varint_values(packed, dtype, count)
    if len(packed) != count * dtype.itemsize:
        raise packed.error(0, f"{count * dtype.itemsize} bytes of numbers", len(packed))
    return np.frombuffer(packed.data, np.uint8).view(dtype)


def _varint_values(packed: Span, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """The varints of a V1 checkpoint's TensorProto as numbers of its dtype, all in its range."""
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
        numbers, size = _some_varint_values(raw[at : at + _CHUNK], packed, at)
        if numbers.min() < low or numbers.max() > high:
            found = int(numbers.min() if numbers.min() < low else numbers.max())
            raise packed.error(at, f"numbers from {low} to {high}", found)
        result[done : done + numbers.size] = numbers
        done, at = done + numbers.size, at + size
    return result.view(dtype)


def _some_varint_values(
    raw: NDArray[np.uint8], packed: Span, at: int
) -> tuple[NDArray[np.int64], int]:
    """The varints of a V1 TensorProto that end in a piece of it, and how many bytes they take."""
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
