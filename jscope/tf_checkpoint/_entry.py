"""One variable of a checkpoint: what is known of it, and its values on access."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .._errors import CheckpointError
from . import _dtypes
from ._partitions import Box, part_slices


class Where(NamedTuple):
    """Where the bytes of an entry of a TensorFlow checkpoint are.

    Attributes:
        file: The file's path.
        offset: Of the first byte.
        nbytes: How many.
    """

    file: str
    offset: int
    nbytes: int


class EntrySource(Protocol):
    """Where the entries of a TensorFlow checkpoint get their values: from a V1 or a V2 file."""

    @property
    def name(self) -> str:
        """The checkpoint's name, for messages."""
        ...

    def load(self, name: str, box: Box, verify: bool) -> NDArray[Any]:
        """The values of a part, as they lie in the file if that can be."""
        ...

    def where(self, name: str, box: Box) -> Where:
        """Where the bytes of a part lie."""
        ...


class Entry:
    """One variable of a TensorFlow checkpoint. Its values are read when they are requested.

    ``entry.read()`` is the whole, ``entry[10:20]`` a piece of it: of a partitioned variable
    only the parts that it needs are read. ``np.asarray(entry)`` works as well.

    Attributes:
        name: The key under which it is stored.
        shape: Its shape.
        dtype: NumPy's or ml_dtypes' dtype. Strings are ``bytes`` objects, dtype object.
        tf_dtype: TensorFlow's name of the dtype, such as ``"float"``, ``"string"``, ``"qint8"``.
        nbytes: Bytes of the values, as they are stored.
        parts: For a partitioned variable, the slices of each of its stored parts; else ``()``.
    """

    __slots__ = ("_boxes", "_source", "_verify", "dtype", "name", "nbytes", "shape", "tf_dtype")

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        number: int,
        nbytes: int,
        boxes: Sequence[Box],
        source: EntrySource,
        verify: bool,
    ) -> None:
        self.name = name
        self.shape = shape
        self.dtype = _dtypes.NUMPY.get(number, np.dtype(object))
        self.tf_dtype = _dtypes.name_of(number)
        self.nbytes = nbytes
        self._boxes = boxes
        self._source = source
        self._verify = verify

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def parts(self) -> tuple[tuple[slice, ...], ...]:
        """The slices of each stored part, or ``()`` if the variable is stored in one piece."""
        return tuple(part_slices(box, self.shape) for box in self._boxes)

    @property
    def where(self) -> tuple[Where, ...]:
        """Where the bytes of each part lie."""
        return tuple(self._source.where(self.name, box) for box in self._stored())

    def __repr__(self) -> str:
        parts = f", {len(self._boxes)} parts" if self._boxes else ""
        return f"<{self.name!r}: {self.tf_dtype} {self.shape}, {self.nbytes} bytes{parts}>"

    def read(self) -> NDArray[Any]:
        """All values.

        Returns:
            A read-only array over the mapped file where the file allows: numbers in one piece,
            in this machine's byte order, at an aligned offset. Otherwise a new array.

        Raises:
            CheckpointError: If the file is damaged, or the dtype can't be read.
        """
        return self._read(self._verify)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Some of the values, by NumPy's indexing; always an array."""
        if not self._boxes:
            return np.asarray(self.read()[index])
        self._check_numpy()
        wanted, then = _enclosing_box(index, self.shape)
        return np.asarray(self._assembled(wanted, self._verify)[then])

    # Python would iterate by index, and each step would read and verify everything.
    __iter__ = None

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """What ``np.asarray`` calls."""
        return np.array(self.read(), dtype=dtype, copy=copy)

    def _check_numpy(self) -> None:
        unknown = self.dtype.hasobject and self.tf_dtype != "string"
        if unknown or self.ndim > 64:
            what = f"dtype {self.tf_dtype}" if unknown else f"{self.ndim} axes"
            raise CheckpointError(
                f"{self.name!r} in {self._source.name} has {what}, which NumPy can't hold. Leave "
                "it out: the other variables can be read."
            )

    def _read(self, verify: bool) -> NDArray[Any]:
        self._check_numpy()
        if self._boxes:
            return self._assembled(part_slices((None,) * self.ndim, self.shape), verify)
        (box,) = self._stored()
        values = self._source.load(self.name, box, verify)
        return values if values.flags.aligned else values.copy()

    def _stored(self) -> Sequence[Box]:
        return self._boxes or ((None,) * self.ndim,)

    def _assembled(self, wanted: tuple[slice, ...], verify: bool) -> NDArray[Any]:
        """The values inside a box, put together from the parts that overlap it."""
        pieces = []
        for box in self._boxes:
            held = part_slices(box, self.shape)
            common = [
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(held, wanted, strict=True)
            ]
            if all(c.start < c.stop for c in common):
                values = self._source.load(self.name, box, verify)
                pieces.append((_within_outer(common, wanted), values[_within_outer(common, held)]))
        shape = tuple(max(0, s.stop - s.start) for s in wanted)
        # Elements are counted before the result is allocated. If there are as many as
        # requested and none is missing, no element was stored twice.
        if sum(values.size for _, values in pieces) != math.prod(shape):
            raise self._gaps(wanted)
        result, filled = np.empty(shape, self.dtype), np.zeros(shape, bool)
        for place, values in pieces:
            result[place] = values
            filled[place] = True
        if not filled.all():
            raise self._gaps(wanted)
        return result

    def _gaps(self, wanted: tuple[slice, ...]) -> CheckpointError:
        inside = ", ".join(f"{s.start}:{s.stop}" for s in wanted)
        return CheckpointError(
            f"The stored parts of {self.name!r} don't cover [{inside}] of {self.shape} once each. "
            "The checkpoint was put together wrongly: save it again."
        )


def _within_outer(box: Sequence[slice], outer: Sequence[slice]) -> tuple[slice, ...]:
    """A box of an `Entry` that is read, as slices counted from the corner of another box."""
    return tuple(
        slice(inner.start - o.start, inner.stop - o.start)
        for inner, o in zip(box, outer, strict=True)
    )


def _enclosing_box(index: object, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], Any]:
    """What an `Entry` reads for an index: the box that encloses it, and the index to apply to that.

    Integers, slices and an ellipsis are narrowed; for any other index the box is all.
    """
    whole = tuple(slice(0, size) for size in shape)
    given = index if isinstance(index, tuple) else (index,)
    narrow = [i for i in given if i is not Ellipsis]
    simple = all(isinstance(i, slice) or _is_integer(i) for i in narrow)
    if not simple or len(given) - len(narrow) > 1 or len(narrow) > len(shape):
        return whole, index
    box, then = list(whole), list(given)
    left = given.index(Ellipsis) if Ellipsis in given else len(given)
    for position, item in enumerate(given):
        if item is Ellipsis:
            continue
        axis = position if position < left else len(shape) - len(given) + position
        reached = range(shape[axis])
        if _is_integer(item):
            if not -shape[axis] <= item < shape[axis]:
                return whole, index  # NumPy raises the error.
            box[axis], then[position] = slice(reached[item], reached[item] + 1), 0
            continue
        chosen = reached[item]
        ends = sorted((chosen[0], chosen[-1])) if chosen else [0, -1]
        box[axis], then[position] = slice(ends[0], ends[1] + 1), slice(None, None, item.step)
    return tuple(box), tuple(then)


def _is_integer(item: object) -> bool:
    """Whether an item of the index by which an `Entry` is read is an integer."""
    return isinstance(item, (int, np.integer)) and not isinstance(item, bool)
