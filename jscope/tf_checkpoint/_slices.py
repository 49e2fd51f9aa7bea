"""Saved tensor slices, TensorFlow's first checkpoint format ("V1"), reading only.

A checkpoint is one file, or several called ``NAME-00000-of-00002``; each is a table, see
`_tree.text`. The row of the empty key lists the contents of its file, the others hold values,
each under the key of a part of a variable (see `_boxes`)::

    ""     SavedTensorSlices { 1 meta: SavedTensorSliceMeta { 1 tensor*: SavedSliceMeta;
                                                              2 versions } }
           SavedSliceMeta    { 1 name; 2 shape; 3 type: the dtype's number; 4 slice* }
    other  SavedTensorSlices { 2 data: SavedSlice { 1 name; 2 slice; 3 data: TensorProto } }

A variable that isn't partitioned has one slice, all axes whole. The parts of one variable may
be in several files. `_packed` describes a TensorProto; shape and dtype are not in
it. There are no checksums but those of the table's blocks.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dtypes
from ._boxes import Box, is_whole, lengths, part_key, read_box, read_shape
from ._entry import Entry, Where
from ._files import File
from ._packed import values
from ._span import BYTES, VARINT, Span, message, pieces
from ._table import Table


class _Saved:
    """A variable: its facts by its first file, and where its parts are."""

    def __init__(self, dtype: int, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.tables: dict[Box, Table] = {}


class Slices:
    """A V1 checkpoint whose contents were read.

    Args:
        prefix: Its file, or the pattern of its files.
        files: The files.
        verify: Whether to compare the checksums of what is read now.

    Raises:
        CheckpointError: If a file is damaged, or they contradict each other.
    """

    def __init__(self, prefix: str, files: Iterable[File], verify: bool) -> None:
        self.name = prefix
        self._saved: dict[str, _Saved] = {}
        for file in files:
            table = Table(file, verify)
            meta = table.find(b"", verify)
            if meta is None:
                raise Span(b"", file.name).error(0, "a row with the empty key", "none")
            for contents in pieces(meta, 1):
                for tensor in pieces(contents, 1):
                    self._add(table, tensor)

    def entries(self, verify: bool) -> dict[str, Entry]:
        """All variables, in the order of their names' bytes."""
        found = {}
        for name, saved in sorted(self._saved.items(), key=lambda item: item[0].encode()):
            dtype = _dtypes.NUMPY.get(saved.dtype, np.dtype(object))
            boxes = tuple(saved.tables)
            if len(boxes) == 1 and is_whole(boxes[0], saved.shape):
                boxes = ()
            if dtype.hasobject:
                nbytes = sum(self.where(name, box).nbytes for box in saved.tables)
            else:
                nbytes = math.prod(saved.shape) * dtype.itemsize
            tf_dtype = _dtypes.name_of(saved.dtype)
            found[name] = Entry(name, saved.shape, dtype, tf_dtype, nbytes, boxes, self, verify)
        return found

    def load(self, name: str, box: Box, verify: bool) -> NDArray[Any]:
        """The values of a part; over the mapped file if they are floating-point numbers."""
        saved, box, table = self._part(name, box)
        value = table.find(part_key(name, box), verify)
        if value is None:
            raise Span(b"", table.name).error(0, f"the values of {name!r}", "no such row")
        shape = lengths(box, saved.shape)
        for data in pieces(value, 2):
            for proto in pieces(data, 3):
                return values(proto, saved.dtype, math.prod(shape)).reshape(shape)
        raise value.error(0, f"the values of {name!r}", "none")

    def where(self, name: str, box: Box) -> Where:
        """Where the block lies that holds a part; other variables may lie in it as well."""
        _, box, table = self._part(name, box)
        return Where(table.name, *table.extent(part_key(name, box)))

    def _part(self, name: str, box: Box) -> tuple[_Saved, Box, Table]:
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
        saved = self._saved.setdefault(name, _Saved(dtype, shape))
        if (saved.dtype, saved.shape) != (dtype, shape):
            expected = f"{_dtypes.name_of(saved.dtype)} {saved.shape} as another part of {name!r}"
            raise tensor.error(0, expected, f"{_dtypes.name_of(dtype)} {shape}")
        for piece in slices:
            box = read_box(piece, shape)
            if box in saved.tables:
                raise piece.error(0, f"each part of {name!r} once", "it twice")
            saved.tables[box] = table
