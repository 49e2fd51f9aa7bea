"""Reading the requested arrays: in parallel, verified, within a bound of memory.

Arrays are read in the order of the target, chunk by chunk, with as many at once as the bound
allows; a chunk's checksum is compared as soon as it is there, and an array goes to its devices as
soon as its chunks are. So beside the result only arrays in flight are in memory, never a second
copy of the tree; and nothing is returned before all is verified.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from .._dtypes import cannot_convert
from .._errors import TreeMismatchError
from ..formats._boxes import Array, Box, Unit, aligned, lengths, units
from ..formats._checksums import crc32c
from ..formats._entry import INDEX, Chunk, Entry
from ..formats._own_source import OwnSource
from ..formats._python_values import PythonValue, is_python, python_value
from ..formats._source import Source
from ._pieces import Pieces
from ._placing import on_host, place, regions
from ._stacks import Place

# Enough that two large arrays are under way while a third is verified.
IN_FLIGHT = 128 << 20


@dataclasses.dataclass
class _Leaf:
    """A leaf of the target that is being read."""

    name: str
    leaf: Any
    entry: Entry
    boxes: Mapping[Box, Array]
    units_left: int


@dataclasses.dataclass
class Progress:
    """How many bytes of arrays have been read."""

    nbytes: int = 0

    def get(self) -> int:
        """That number, at this moment."""
        return self.nbytes


def read(
    source: Source,
    wanted: Mapping[str, Any],
    saved: Mapping[str, Mapping[Place, str]],
    made: dict[str, dict[Place, Array]],
    *,
    verify: bool = True,
    in_flight: int = IN_FLIGHT,
    progress: Progress,
) -> dict[str, Any]:
    """Read leaves that agree with the checkpoint, to the devices of the target.

    Args:
        source: The checkpoint.
        wanted: The target's leaves, by name.
        saved: From each leaf to saved names, by place: of a stack in slices those of the slices.
        made: The values that are in memory already, likewise; they are taken out, and freed.
        verify: Whether to compare checksums.
        in_flight: How many bytes may be under way at once, if it is more than one chunk.
        progress: Where to count what has been read.

    Returns:
        The values by the target's names.

    Raises:
        TreeMismatchError: If the target's dtypes can't hold values; all variables are listed.
        ValueError, OSError: If something can't be read, or a checksum differs.
    """
    pieces = Pieces(source, wanted, saved, made)
    values: dict[str, Any] = {}
    lost: list[str] = []
    under_way: deque[tuple[_Leaf, Unit, Callable[[], None]]] = deque()
    bytes_under_way = 0

    def finish(name: str, leaf: object, entry: Entry, boxes: Mapping[Box, Array]) -> None:
        try:
            if pieces.is_in_memory(name):
                pieces.fill(name, boxes)
            values[name] = place(name, leaf, entry, boxes)
        except TreeMismatchError as error:
            lost.append(str(error))

    def finish_one() -> None:
        nonlocal bytes_under_way
        leaf, unit, wait = under_way.popleft()
        wait()
        _complete(unit, lambda: pieces.located(leaf.name, unit.box))
        bytes_under_way -= unit.into.nbytes
        progress.nbytes += unit.into.nbytes
        leaf.units_left -= 1
        if not leaf.units_left:
            finish(leaf.name, leaf.leaf, leaf.entry, leaf.boxes)

    # Also where 64-bit dtypes are off: they would be truncated without an error.
    with jax.enable_x64(True):
        for name, leaf in wanted.items():
            entry = pieces.stored(name)
            boxes = _memory(leaf, entry)
            if entry.location == INDEX or pieces.is_in_memory(name):
                finish(name, leaf, entry, boxes)
                continue
            todo = deque(units(boxes, _chunks(entry, verify)))
            job = _Leaf(name, leaf, entry, boxes, len(todo))
            while todo:
                # Not kept here: temporary memory is freed after it has been copied.
                unit = todo.popleft()
                while under_way and bytes_under_way + unit.into.nbytes > in_flight:
                    finish_one()
                under_way.append((job, unit, pieces.start(name, unit.box, unit.into)))
                bytes_under_way += unit.into.nbytes
        while under_way:
            finish_one()
    if lost:
        raise cannot_convert(lost)
    return values


def read_box(
    source: Source, name: str, box: Box, *, verify: bool
) -> Array | jax.Array | PythonValue:
    """Read a box of a stored array, as a value of NumPy, or keys; or a value that is not an array.

    Raises:
        ValueError, OSError: If it can't be read, or a checksum differs.
    """
    entry = source.stored(name)
    if is_python(entry.dtype):
        return python_value(entry.dtype, entry.value)
    data = aligned(lengths(box), entry.stored_dtype)
    if data.size:
        for unit in units({box: data}, _chunks(entry, verify)):
            source.start(name, unit.box, unit.into)()
            _complete(unit, lambda: (name, _file_of(source, name)))
    return on_host(entry, data)


def _memory(leaf: object, entry: Entry) -> dict[Box, Array]:
    """Memory for what this process needs of a stored array."""
    if is_python(entry.dtype):
        return {}
    return {box: aligned(lengths(box), entry.stored_dtype) for box in regions(leaf, entry)}


def _chunks(entry: Entry, verify: bool) -> Sequence[Chunk]:
    """What is read as a whole: to compare checksums, or since it can't be read in parts."""
    is_needed = verify or any(chunk.crc32c is None for chunk in entry.chunks)
    return entry.chunks if is_needed else ()


def _complete(unit: Unit, located: Callable[[], tuple[str, str]]) -> None:
    """Verify what has been read, and copy it to where it is needed.

    Args:
        unit: What has been read.
        located: Gives the saved name that it is of, and its file.
    """
    if unit.crc32c is not None and crc32c(unit.into) != unit.crc32c:
        name, file = located()
        starts = tuple(start for start, _ in unit.box)
        raise ValueError(
            f"{name!r} is damaged in {file}: the checksum of its part at {starts} "
            f"of shape {lengths(unit.box)} differs"
        )
    for part, region in unit.copies:
        region[...] = part


def _file_of(source: Source, name: str) -> str:
    assert isinstance(source, OwnSource)  # others have no checksums
    return source.file_of(name)
