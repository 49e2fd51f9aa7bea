"""What the leaves of a target are read from: a saved array, its slices, or values in memory.

A leaf is one saved array, or a stack of several, each of which is read to its place in the stack.
The stack of saved arrays is an array whose chunks are theirs, so it is read and verified as any
other. Values that went through a function of the caller's are in memory already.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

from .._dtypes import Lost, converted, lost_text
from .._errors import TreeMismatchError
from ..formats._boxes import Array, Box, slices
from ..formats._entry import INDEX, ORBAX, Chunk, Entry, dtype_name
from ..formats._own_source import OwnSource
from ..formats._python_values import is_python
from ..formats._source import Source, nothing_left
from ._stacks import Place


def entry_of(array: Array) -> Entry:
    """An array in memory as a saved one that has its dtype."""
    shape, dtype = array.shape, dtype_name(array.dtype)
    return Entry(shape, dtype, shape, dtype, ORBAX)


class Pieces:
    """The leaves of a target, as arrays that can be read in boxes.

    Args:
        source: The checkpoint.
        leaves: The leaves that are read, by name.
        saved: From the name of each leaf to saved names, by their places in it.
        made: The values that are in memory already, by leaf and place; `fill` takes them out.
    """

    def __init__(
        self,
        source: Source,
        leaves: Mapping[str, Any],
        saved: Mapping[str, Mapping[Place, str]],
        made: dict[str, dict[Place, Array]],
    ):
        self._source = source
        self._leaves = leaves
        self._saved = saved
        self._made = made

    def is_in_memory(self, name: str) -> bool:
        """Whether a leaf's values are in memory."""
        return name in self._made

    def stored(self, name: str) -> Entry:
        """As `Source.stored`, of a leaf."""
        saved = self._saved[name]
        if name in self._made:
            return self._entry_in_memory(name)
        if () in saved:
            return self._source.stored(saved[()])
        entries = {place: self._source.stored(old) for place, old in saved.items()}
        return stacked(entries, self._lengths(name))

    def only(self, name: str) -> str | None:
        """The saved name of the one array that a leaf is read from, if it is one."""
        return None if name in self._made else self._saved[name].get(())

    def reads_parts(self, name: str) -> bool:
        """As `Source.reads_parts`, of a leaf."""
        return all(self._source.reads_parts(old) for old in self._saved[name].values())

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """As `Source.start`, of a leaf."""
        saved = self._saved[name]
        if () in saved:
            return self._source.start(saved[()], box, into)
        rank = len(next(iter(saved)))
        waits = [
            self._source.start(saved[place], box[rank:], _inside(into, at))
            for place, at in _places(box[:rank])
        ]
        if all(wait is nothing_left for wait in waits):
            return nothing_left

        def wait() -> None:
            for wait_for_slice in waits:
                wait_for_slice()

        return wait

    def located(self, name: str, box: Box) -> tuple[str, str]:
        """The saved name that a chunk of a leaf is of, and its file, for messages."""
        saved = self._saved[name]
        rank = len(next(iter(saved)))
        old = saved[tuple(start for start, _ in box[:rank])]
        assert isinstance(self._source, OwnSource)  # others have no checksums
        return old, self._source.file_of(old)

    def fill(self, name: str, boxes: Mapping[Box, Array]) -> None:
        """Copy values that are in memory to boxes of the leaf; they are freed.

        Raises:
            TreeMismatchError: If slices of several dtypes become one that can't hold a value: a
                line for `cannot_convert`.
        """
        values = self._made.pop(name)
        if () in values:
            whole = values[()]
            for box, memory in boxes.items():
                memory[...] = whole[slices(box)]
            return
        shape = tuple(self._leaves[name].shape)
        dtype = next(iter(boxes.values())).dtype
        lost, found = Lost(), ""
        for place in sorted(values):
            array = values.pop(place)
            rank = len(place)
            part, not_held = converted(array.reshape(shape[rank:]), dtype)
            if not_held.count:
                lost, found = lost.and_those(not_held), str(array.dtype)
            for box, memory in boxes.items():
                sides = list(zip(place, box[:rank], strict=True))
                if all(start <= at < stop for at, (start, stop) in sides):
                    inside = tuple(at - start for at, (start, _) in sides)
                    _inside(memory, inside)[...] = part[slices(box[rank:])]
        if lost.count:
            raise TreeMismatchError(lost_text(name, found, math.prod(shape), dtype, lost))

    def _entry_in_memory(self, name: str) -> Entry:
        values = self._made[name]
        if () in values:
            return entry_of(values[()])
        dtypes = {array.dtype for array in values.values()}
        shape = tuple(self._leaves[name].shape)
        dtype = dtype_name(dtypes.pop() if len(dtypes) == 1 else self._leaves[name].dtype)
        return Entry(shape, dtype, shape, dtype, ORBAX)

    def _lengths(self, name: str) -> tuple[int, ...]:
        rank = len(next(iter(self._saved[name])))
        return tuple(self._leaves[name].shape[:rank])


def can_be_stacked(entries: Mapping[Place, Entry]) -> bool:
    """Whether saved arrays are slices of one that can be read as any other."""
    kinds = {(e.shape, e.dtype, e.stored_shape, e.stored_dtype) for e in entries.values()}
    return len(kinds) == 1 and not any(is_python(entry.dtype) for entry in entries.values())


def stacked(entries: Mapping[Place, Entry], lengths: tuple[int, ...]) -> Entry:
    """The stack of saved arrays, whose chunks are theirs.

    Args:
        entries: The arrays, by their places in the stack.
        lengths: The stack's first axes.
    """
    first = next(iter(entries.values()))
    ones = (1,) * len(lengths)
    chunks = [
        Chunk((*place, *chunk.start), (*ones, *chunk.shape), chunk.crc32c)
        for place, entry in entries.items()
        for chunk in entry.chunks
    ]
    return Entry(
        (*lengths, *first.shape),
        first.dtype,
        (*lengths, *first.stored_shape),
        first.stored_dtype,
        INDEX if first.location == INDEX else ORBAX,
        chunks=tuple(chunks) if all(entry.chunks for entry in entries.values()) else (),
        key_impl=first.key_impl,
    )


def _places(box: Box) -> list[tuple[Place, Place]]:
    """The places in a box of a stack's axes, each with its index in what is cut out by the box."""
    ranges = [range(start, stop) for start, stop in box]
    starts = [start for start, _ in box]
    return [
        (place, tuple(p - start for p, start in zip(place, starts, strict=True)))
        for place in itertools.product(*ranges)
    ]


def _inside(array: Array, at: Place) -> Array:
    """The view of an array at an index of its first axes."""
    # Without the ellipsis, at an index of all axes this is a copy of the element.
    within: Any = (*at, ...)
    view: Array = array[within]
    return view
