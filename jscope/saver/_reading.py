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
from ..formats._boxes import Array, Box, Unit, aligned, lengths, units, whole
from ..formats._checksums import crc32c
from ..formats._entry import INDEX, Chunk, Entry
from ..formats._own_source import OwnSource
from ..formats._python_values import PythonValue, is_python, python_value
from ..formats._source import Source, nothing_left
from ._pieces import Pieces
from ._placing import Placing, on_host, regions
from ._runs import Runs
from ._stacks import Place

# Enough that two large arrays are under way while a third is verified.
IN_FLIGHT = 128 << 20


@dataclasses.dataclass(slots=True)
class _Leaf:
    """A leaf of the target that is being read.

    Attributes:
        name: Its name.
        leaf: The leaf.
        entry: What is saved of it, as one array.
        regions: What this process needs of that.
        boxes: The memory for that, once it is being read.
        units_left: How many parts are under way, and 1 for those that are not begun.
    """

    name: str
    leaf: Any
    entry: Entry
    regions: Sequence[Box]
    boxes: Mapping[Box, Array] | None = None
    units_left: int = 1


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
    leaves = []
    for name, leaf in wanted.items():
        entry = pieces.stored(name)
        leaves.append(_Leaf(name, leaf, entry, regions(leaf, entry)))
    runs = Runs(source, [pieces.only(job.name) for job in leaves if _is_whole(job)])
    reading = _Reading(pieces, runs, verify, in_flight, progress)
    # Also where 64-bit dtypes are off: they would be truncated without an error.
    with jax.enable_x64(True):
        for job in leaves:
            reading.start(job)
        values = reading.finished()
    if reading.lost:
        raise cannot_convert(reading.lost)
    return values


def _is_whole(job: _Leaf) -> bool:
    """Whether this process needs all of the stored array."""
    return len(job.regions) == 1 and job.regions[0] == whole(job.entry.stored_shape)


class _Reading:
    """The reads under way, and the values that are done.

    Attributes:
        lost: A line for each value that the target's dtype can't hold.
    """

    def __init__(
        self, pieces: Pieces, runs: Runs, verify: bool, in_flight: int, progress: Progress
    ):
        self._pieces = pieces
        self._runs = runs
        self._verify = verify
        self._in_flight = in_flight
        self._progress = progress
        self._placing = Placing()
        self._under_way: deque[tuple[_Leaf, Unit, Callable[[], None]]] = deque()
        self._nbytes = 0
        self.lost: list[str] = []

    def start(self, job: _Leaf) -> None:
        """Begin to read a leaf; wait for others as long as the bound asks for it."""
        name, entry = job.name, job.entry
        is_in_memory = self._pieces.is_in_memory(name)
        ready = self._runs.take(self._pieces.only(name), entry) if _is_whole(job) else None
        job.boxes = _memory(job.regions, entry) if ready is None else {job.regions[0]: ready}
        if entry.location == INDEX or is_in_memory:
            self._finish(job)
            return
        for unit in units(job.boxes, _chunks(entry, self._verify)):
            while self._under_way and self._nbytes + unit.into.nbytes > self._in_flight:
                self._finish_one()
            job.units_left += 1
            if ready is not None:
                self._complete(job, unit)
                continue
            wait = self._pieces.start(name, unit.box, unit.into)
            if wait is nothing_left:
                self._complete(job, unit)
                continue
            self._under_way.append((job, unit, wait))
            self._nbytes += unit.into.nbytes
        job.units_left -= 1
        if not job.units_left:
            self._finish(job)

    def finished(self) -> dict[str, Any]:
        """All values, when the reads under way are done."""
        while self._under_way:
            self._finish_one()
        self._placing.flush()
        return self._placing.values

    def _finish_one(self) -> None:
        job, unit, wait = self._under_way.popleft()
        wait()
        self._nbytes -= unit.into.nbytes
        self._complete(job, unit)

    def _complete(self, job: _Leaf, unit: Unit) -> None:
        _complete(unit, lambda: self._pieces.located(job.name, unit.box))
        self._progress.nbytes += unit.into.nbytes
        job.units_left -= 1
        if not job.units_left:
            self._finish(job)

    def _finish(self, job: _Leaf) -> None:
        assert job.boxes is not None
        try:
            if self._pieces.is_in_memory(job.name):
                self._pieces.fill(job.name, job.boxes)
            self._placing.add(job.name, job.leaf, job.entry, job.boxes)
            job.boxes = None
        except TreeMismatchError as error:
            self.lost.append(str(error))


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


def _memory(regions: Sequence[Box], entry: Entry) -> dict[Box, Array]:
    """Memory for boxes of a stored array."""
    if is_python(entry.dtype):
        return {}
    return {box: aligned(lengths(box), entry.stored_dtype) for box in regions}


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
