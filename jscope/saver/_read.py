"""Reading the requested arrays of a restore: in parallel, verified, within a bound of memory.

Three parts of it: the *pieces* of a leaf, as it is one saved array, or a stack of several, each of
which is read to its place in the stack, or values in memory; *runs* of small arrays that lie side
by side in a file; and the reading, in the order of the target, chunk by chunk, with as many at
once as the bound allows. A chunk's checksum is compared as soon as it is there, and an array goes
to its devices as soon as its chunks are. So beside the result only arrays in flight are in memory,
never a second copy of the tree; and nothing is returned before all is verified.
"""

import dataclasses
import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._dtypes import Lost, cannot_convert, converted, lost_text
from .._errors import TreeMismatchError
from .._stores.remote import RemotePath
from ..formats._boxes import (
    Array,
    Box,
    Unit,
    aligned,
    chunk_of,
    lengths,
    slices,
    unit,
    units,
    view,
    whole,
)
from ..formats._checksums import crc32c
from ..formats._own_entry import INDEX, ORBAX, RAW, Chunk, Entry, dtype_name
from ..formats._own_source import OwnSource
from ..formats._python_values import PythonValue, is_python, python_value
from ..formats._source import Extent, Source, nothing_left
from . import _processes
from ._exchange import Exchanges, Group, Readers, Slab, group_of, slabs
from ._leaves import Place
from ._placement import Placing, as_weak_as, needed_by, on_host, regions

# The pieces of a leaf.


def entry_of(array: Array) -> Entry:
    """The entry by which a restore reads an array that is in memory already."""
    shape, dtype = array.shape, dtype_name(array.dtype)
    return Entry(shape, dtype, shape, dtype, ORBAX)


class Pieces:
    """The pieces from which a restore reads each leaf: one saved array, or several in a stack.

    Args:
        source: The checkpoint.
        leaves: The leaves that are read, by name.
        saved: From the name of each leaf to saved names, by their places in it.
        made: The values that are in memory already, by leaf and place; `fill` takes them out.

    Attributes:
        is_remote: Whether the checkpoint is in a store.
    """

    def __init__(
        self,
        source: Source,
        leaves: Mapping[str, Any],
        saved: Mapping[str, Mapping[Place, str]],
        made: dict[str, dict[Place, Array]],
    ):
        self.is_remote = isinstance(source.path, RemotePath)
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
    """Whether a restore can read saved arrays into one stack, as its slices."""
    kinds = {(e.shape, e.dtype, e.stored_shape, e.stored_dtype) for e in entries.values()}
    return len(kinds) == 1 and not any(is_python(entry.dtype) for entry in entries.values())


def stacked(entries: Mapping[Place, Entry], lengths: tuple[int, ...]) -> Entry:
    """The entry by which a restore reads saved arrays into one stack; its chunks are theirs.

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
    """The places of slices to read in a box of a stack, each with its index in the box."""
    ranges = [range(start, stop) for start, stop in box]
    starts = [start for start, _ in box]
    return [
        (place, tuple(p - start for p, start in zip(place, starts, strict=True)))
        for place in itertools.product(*ranges)
    ]


def _inside(array: Array, at: Place) -> Array:
    """The view of an array into which one slice of a stack is read."""
    # Without the ellipsis, at an index of all axes this is a copy of the element.
    within: Any = (*at, ...)
    view: Array = array[within]
    return view


# Runs of small arrays.


# The bytes of an array that is read together with others.
_SMALL = 64 << 10
# The bytes between two arrays that are read for nothing.
_GAP = 4 << 10


@dataclasses.dataclass(slots=True)
class _Run:
    """A run of small arrays side by side in a file, which a restore reads at once.

    Attributes:
        first: Where they begin.
        end: The offset after the last one.
        left: How many arrays have not been taken.
        memory: The bytes, once they are read.
    """

    first: Extent
    end: int
    left: int = 0
    memory: Array | None = None

    def goes_on(self, file: str, begin: int, end: int) -> bool:
        """Whether the bytes of an array can be read with these."""
        is_near = file == self.first.file and self.end <= begin <= self.end + _GAP
        return is_near and end - self.first.offset <= self.first.most


class Runs:
    """The small arrays of a checkpoint that are read together with their neighbours, in runs.

    Args:
        source: The checkpoint.
        entries: The arrays that are requested as a whole, by saved name.

    Raises:
        ValueError, OSError: If the bytes of one are not there.
    """

    def __init__(self, source: Source, entries: Mapping[str, Entry]):
        found: list[tuple[str, int, int, str, Extent]] = []
        for name, entry in entries.items():
            size = entry.stored_nbytes
            extent = source.extent(name) if 0 < size <= _SMALL else None
            if extent is not None:
                found.append((extent.file, extent.offset, size, name, extent))
        found.sort()
        self._runs: dict[str, tuple[_Run, int]] = {}
        run: _Run | None = None
        for file, begin, size, name, extent in found:
            end = begin + size
            if run is None or not run.goes_on(file, begin, end):
                run = _Run(extent, end)
            run.end = end
            run.left += 1
            self._runs[name] = run, begin

    def take(self, name: str | None, entry: Entry) -> Array | None:
        """An array, as it is stored; None if it is not read in a run, or has been taken.

        Raises:
            ValueError, OSError: If it can't be read.
        """
        if name not in self._runs:
            return None
        run, begin = self._runs.pop(name)
        first = run.first.offset
        if run.memory is None:
            run.memory = aligned((run.end - first,), np.uint8)
            run.first.read(first, run.memory.data)
        array: Array = np.ndarray(entry.stored_shape, entry.stored_dtype, run.memory, begin - first)
        run.left -= 1
        if not run.left:
            run.memory = None
        return array


# Reading.


# Enough that two large arrays are under way while a third is verified.
IN_FLIGHT = 128 << 20


@dataclasses.dataclass(slots=True)
class _Leaf:
    """A leaf that a restore is reading: what is saved of it, and the memory it is read into.

    Attributes:
        name: Its name.
        leaf: The leaf.
        entry: What is saved of it, as one array.
        regions: What this process needs of that.
        boxes: The memory for that, once it is being read.
        units_left: How many parts are under way, or come by exchanges, and 1 if more are to begin.
    """

    name: str
    leaf: Any
    entry: Entry
    regions: Sequence[Box]
    boxes: Mapping[Box, Array] | None = None
    units_left: int = 1


@dataclasses.dataclass
class Progress:
    """How many bytes of arrays the reads of a restore have given so far."""

    nbytes: int = 0

    def get(self) -> int:
        """That number, at this moment."""
        return self.nbytes


class Prepared(NamedTuple):
    """The leaves of a restore that are ready to be read, and what they are read from.

    Attributes:
        source: The checkpoint.
        pieces: What they are read from.
        leaves: The leaves.
    """

    source: Source
    pieces: Pieces
    leaves: Sequence[_Leaf]


def prepare(
    source: Source,
    wanted: Mapping[str, Any],
    saved: Mapping[str, Mapping[Place, str]],
    made: dict[str, dict[Place, Array]],
) -> Prepared:
    """Prepare leaves to be read: find what each is read from, and the boxes to read of it.

    Args:
        source: The checkpoint.
        wanted: The target's leaves, by name; they agree with the checkpoint.
        saved: From each leaf to saved names, by place: of a stack in slices those of the slices.
        made: The values that are in memory already, likewise; they are taken out, and freed.

    Raises:
        ValueError, OSError: If the bytes of one are not there.
    """
    pieces = Pieces(source, wanted, saved, made)
    leaves = []
    for name, leaf in wanted.items():
        entry = pieces.stored(name)
        leaves.append(_Leaf(name, leaf, entry, regions(leaf, entry)))
    return Prepared(source, pieces, leaves)


def read(
    prepared: Prepared,
    *,
    verify: bool = True,
    in_flight: int = IN_FLIGHT,
    progress: Progress,
    together: bool = False,
) -> dict[str, Any]:
    """Read the leaves of a restore to the devices of the target.

    Args:
        prepared: The leaves.
        verify: Whether to compare checksums.
        in_flight: How many bytes may be under way at once, if it is more than one chunk.
        progress: Where to count what has been read.
        together: Whether all processes do this at once, for the same leaves. What several need is
            read by one then, and exchanged.

    Returns:
        The values by the target's names.

    Raises:
        TreeMismatchError: If the target's dtypes can't hold values; all variables are listed.
        ValueError, OSError: If something can't be read, or a checksum differs.
        ElsewhereError: If another process failed.
    """
    source, pieces, leaves = prepared
    are_alone = not (together and _processes.are_several())
    alone = [job for job in leaves if are_alone and _is_whole(job)]
    entries = {name: job.entry for job in alone if (name := pieces.only(job.name)) is not None}
    reading = _Reading(pieces, Runs(source, entries), verify, in_flight, progress)
    # Also where 64-bit dtypes are off: they would be truncated without an error.
    with jax.enable_x64(True):
        todo = [(job, None) for job in leaves] if are_alone else reading.exchange(leaves)
        for job, chunks in todo:
            reading.start(job, chunks)
        values = reading.finished()
    if reading.lost:
        raise cannot_convert(reading.lost)
    for job in leaves:
        value = values[job.name]
        # Of arrays of several processes these are computations, which all do in the same order.
        if getattr(job.leaf, "weak_type", False) and isinstance(value, jax.Array):
            values[job.name] = as_weak_as(job.leaf, value)
    return values


def _is_whole(job: _Leaf) -> bool:
    """Whether a leaf is read from all of its stored array in this process."""
    return len(job.regions) == 1 and job.regions[0] == whole(job.entry.stored_shape)


class _Reading:
    """The reads of a restore that are under way, and the values that are done.

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

    def exchange(self, leaves: Sequence[_Leaf]) -> list[tuple[_Leaf, Sequence[Chunk]]]:
        """Read what several processes need, this one among them.

        Returns:
            The leaves of which this process needs more, and what.

        Raises:
            Exception: If something can't be read, here or in another process.
        """
        shared: dict[Group, list[tuple[_Leaf, Chunk]]] = {}
        rest: list[tuple[_Leaf, Sequence[Chunk]]] = []
        me = _processes.index()
        for job in leaves:
            own = []
            if job.entry.location != INDEX and not self._pieces.is_in_memory(job.name):
                needed = needed_by(job.leaf, job.entry)
                for chunk in _chunks_to_read(job.entry, self._verify) or map(chunk_of, needed):
                    group = group_of(chunk, needed)
                    if group == (me,):
                        own.append(chunk)
                    elif me in group:
                        shared.setdefault(group, []).append((job, chunk))
                        job.units_left += 1
            if own or job.units_left == 1:
                rest.append((job, own))
            else:
                job.units_left -= 1
        exchanges = Exchanges()
        for group in sorted(shared):
            exchanges.run(group, self._slabs(group, shared[group]))
        if exchanges.failure is not None:
            raise exchanges.failure
        return rest

    def _slabs(self, group: Group, parts: Sequence[tuple[_Leaf, Chunk]]) -> Iterator[Slab]:
        readers = Readers(group)
        for job, chunk in parts:
            dtype = np.dtype(job.entry.stored_dtype)
            boxes = list(slabs(chunk.box, dtype.itemsize))
            incoming = _Incoming(self, job, chunk, len(boxes))
            in_parts = self._pieces.reads_parts(job.name)
            reader = readers.next(math.prod(chunk.shape) * dtype.itemsize) if not in_parts else -1
            for box in boxes:
                if in_parts:
                    reader = readers.next(math.prod(lengths(box)) * dtype.itemsize)
                read = incoming.read_part if in_parts else incoming.read_all
                yield Slab(
                    box,
                    dtype,
                    reader,
                    functools.partial(read, box),
                    functools.partial(incoming.take, box),
                )

    def start(self, job: _Leaf, chunks: Sequence[Chunk] | None) -> None:
        """Begin to read a leaf; wait for others as long as the bound asks for it.

        Args:
            job: The leaf.
            chunks: What this process reads of it; None for all that it needs.
        """
        name, entry = job.name, job.entry
        ready = self._runs.take(self._pieces.only(name), entry) if _is_whole(job) else None
        if ready is not None:
            self._take(job, ready)
            return
        boxes = self._boxes(job)
        if entry.location == INDEX or self._pieces.is_in_memory(name):
            self._finish(job)
            return
        if chunks is None:
            chunks = _chunks_to_read(entry, self._verify) or [*map(chunk_of, boxes)]
        for part in units(boxes, chunks):
            while self._under_way and self._nbytes + part.into.nbytes > self._in_flight:
                self._finish_one()
            job.units_left += 1
            wait = self._pieces.start(name, part.box, part.into)
            if wait is nothing_left:
                self._complete(job, part)
                continue
            self._under_way.append((job, part, wait))
            self._nbytes += part.into.nbytes
        job.units_left -= 1
        if not job.units_left:
            self._finish(job)

    def _take(self, job: _Leaf, array: Array) -> None:
        """Verify an array that has been read with its neighbours."""
        for chunk in _chunks_to_read(job.entry, self._verify):
            part = array if chunk.shape == array.shape else view(array, slices(chunk.box))
            if not _is_intact(part, chunk.crc32c):
                raise _damaged_error(chunk.box, *self._pieces.located(job.name, chunk.box))
        self._progress.nbytes += array.nbytes
        job.boxes = {job.regions[0]: array}
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

    def _boxes(self, job: _Leaf) -> Mapping[Box, Array]:
        if job.boxes is None:
            job.boxes = _read_memory(job.regions, job.entry, self._pieces.is_remote)
        return job.boxes

    def _complete(self, job: _Leaf, unit: Unit, nbytes: int | None = None) -> None:
        """Verify a part that is there.

        Args:
            job: The leaf.
            unit: The part.
            nbytes: How many bytes of it this process has read, if not all.
        """
        if not _is_intact(unit.into, unit.crc32c):
            raise _damaged_error(unit.box, *self._pieces.located(job.name, unit.box))
        for part, region in unit.copies:
            region[...] = part
        self._progress.nbytes += unit.into.nbytes if nbytes is None else nbytes
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


class _Incoming:
    """A chunk of a leaf that this process reads in part, and gets the rest of by exchanges."""

    def __init__(self, reading: _Reading, job: _Leaf, chunk: Chunk, slabs: int):
        self._reading = reading
        self._job = job
        self._chunk = chunk
        self._left = slabs
        self._nbytes = 0
        self._is_read = False

    @functools.cached_property
    def _unit(self) -> Unit:
        found = unit(self._reading._boxes(self._job), self._chunk)
        assert found is not None  # this process needs it
        return found

    def read_part(self, box: Box, into: Array) -> Callable[[], None]:
        """Begin to read a slab."""
        self._nbytes += into.nbytes
        return self._reading._pieces.start(self._job.name, box, into)

    def read_all(self, box: Box, into: Array) -> Callable[[], None]:
        """Read all of the chunk, unless it is here, for a slab of it."""
        if not self._is_read:
            self._reading._pieces.start(self._job.name, self._chunk.box, self._unit.into)()
            self._nbytes += self._unit.into.nbytes
            self._is_read = True
        into[...] = self._inside(box)
        return nothing_left

    def take(self, box: Box, values: Array) -> None:
        """Take a slab, and the chunk if it is the last one."""
        self._inside(box)[...] = values
        self._left -= 1
        if not self._left:
            self._reading._complete(self._job, self._unit, self._nbytes)

    def _inside(self, box: Box) -> Array:
        return view(self._unit.into, slices(box, self._unit.box))


def read_box(
    source: Source, name: str, box: Box, *, verify: bool
) -> Array | jax.Array | PythonValue:
    """Read one box of a requested array to the host, as NumPy's or keys; or a value of Python.

    Raises:
        ValueError, OSError: If it can't be read, or a checksum differs.
    """
    entry = source.stored(name)
    if is_python(entry.dtype):
        return python_value(entry.dtype, entry.value)
    data = aligned(lengths(box), entry.stored_dtype)
    if data.size:
        for unit in units({box: data}, _chunks_to_read(entry, verify)):
            source.start(name, unit.box, unit.into)()
            if not _is_intact(unit.into, unit.crc32c):
                raise _damaged_error(unit.box, name, _file_of(source, name))
            for part, region in unit.copies:
                region[...] = part
    return on_host(entry, data)


def _read_memory(regions: Sequence[Box], entry: Entry, is_remote: bool) -> dict[Box, Array]:
    """The memory into which boxes of a stored array are read."""
    if is_python(entry.dtype):
        return {}
    # What an object is received in breaks up the system's huge pages, and it takes longer to put
    # new ones together than to fill small ones. One thread copies objects, and several read files.
    is_raw = entry.location == RAW
    pages = {"huge": not is_raw, "at_once": is_raw and is_remote}
    return {box: aligned(lengths(box), entry.stored_dtype, **pages) for box in regions}


def _chunks_to_read(entry: Entry, verify: bool) -> Sequence[Chunk]:
    """The chunks that a restore reads as wholes: for checksums, or as it can't read parts."""
    is_needed = verify or any(chunk.crc32c is None for chunk in entry.chunks)
    return entry.chunks if is_needed else ()


def _is_intact(array: Array, checksum: int | None) -> bool:
    """Whether the checksum of what was read is the saved one."""
    return checksum is None or crc32c(array) == checksum


def _damaged_error(box: Box, name: str, file: str) -> ValueError:
    """Compose the error: what a restore has read does not have the saved checksum.

    Args:
        box: What has been read.
        name: The saved name that it is of.
        file: Its file.
    """
    starts = tuple(start for start, _ in box)
    return ValueError(
        f"{name!r} is damaged in {file}: the checksum of its part at {starts} "
        f"of shape {lengths(box)} differs"
    )


def _file_of(source: Source, name: str) -> str:
    """The file from which a restore has read an array, for an error on its checksum."""
    assert isinstance(source, OwnSource)  # others have no checksums
    return source.file_of(name)
