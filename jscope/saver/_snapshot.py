"""The arrays of a save as they are at one moment, on the host, and their checksums.

On a CPU a snapshot of JAX's arrays copies nothing: NumPy's view of the data holds the buffer, and
JAX reuses no buffer that is held, whether its array is deleted or donated. From an accelerator the
arrays are copied once. JAX keeps any other host copy in the array
from which it was made, for the array's lifetime: so here copies are made from temporary arrays over
the same buffers. NumPy's own arrays, which the caller may change during an asynchronous save, are
copied, by Orbax if it writes them.

The first process makes the entries, from each process's facts of its shards: see `merge`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from .._errors import CheckpointError, listed
from ..formats._checksums import bytes_of, chunk_of
from ..formats._own_entry import ORBAX, PACKED, RAW, Chunk, Entry, raw_name
from ..formats._own_packed import Packer
from ..formats._python_values import is_python, python_value
from ..formats._source import nothing_left
from . import _orbax, _processes
from ._encoding import Layout
from ._orbax import Array
from ._processes import different_values, signature

# The facts of a value in one process: its signature, its chunks, its offset.
Part = Mapping[str, tuple[str | None, Sequence[Any], int]]


class Files(Protocol):
    """Where a snapshot writes its files; they are durable after `settle`."""

    def packer(self) -> Packer:
        """Begin to write the packed arrays."""

    def put_packed(self, packer: Packer) -> None:
        """Write the file of the packed arrays, unless there are none."""

    def put(self, files: Iterable[tuple[str, memoryview]]) -> None:
        """Write new files, by their names; some at a time."""

    def settle(self) -> None:
        """Wait for all files."""


class Snapshot:
    """The snapshot of a save in one process: copies of what it writes.

    Args:
        entries: The entries of all values, not yet complete.
        arrays: Those that have bytes to be written.
        is_lasting: Whether the caller goes on before all is written.
    """

    def __init__(
        self, entries: Mapping[str, Entry], arrays: Mapping[str, Array], *, is_lasting: bool
    ):
        self._entries = entries
        self._packed: dict[str, Array] = {}
        self._chunks: dict[str, Callable[[], list[Chunk]]] = {}
        self._raw: dict[str, list[tuple[Sequence[int], np.ndarray[Any, Any]]]] = {}
        # NumPy's arrays, which every process has whole, and the first one writes.
        self._common = {name for name, array in arrays.items() if isinstance(array, np.ndarray)}
        self._arrays: dict[str, Array] = {}
        # All copies are begun before one is waited for.
        arrays = {
            name: detached(array)
            if isinstance(array, jax.Array) and (is_lasting or entries[name].location != PACKED)
            else array
            for name, array in arrays.items()
        }
        for name, array in arrays.items():
            if entries[name].location == PACKED:
                # Else one at a time, if that needs memory.
                self._packed[name] = whole(array, copies=True) if is_lasting else array
            elif entries[name].location == RAW:
                is_changing = is_lasting and name in self._common
                self._raw[name] = _parts(array.copy() if is_changing else array)
            else:
                self._arrays[name] = array
                self._chunks[name] = _chunks(array, is_lasting)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays together."""
        return sum([entry.stored_nbytes for entry in self._entries.values()])

    @property
    def needs_orbax(self) -> bool:
        """Whether there are arrays for Orbax to write."""
        return bool(self._arrays)

    def begin_orbax(self, path: Path, layout: Layout) -> Callable[[], None]:
        """Start to write the arrays that Orbax writes; return how to wait.

        Args:
            path: Where they are to be, a name in a directory that exists.
            layout: That of the save.
        """
        keys = array_keys(self._entries, portable=layout.portable)
        values: dict[str, Any] = {keys[name]: array for name, array in self._arrays.items()}
        if layout.portable:
            values |= {
                name: python_value(entry.dtype, entry.value)
                for name, entry in self._entries.items()
                if is_python(entry.dtype)
            }
        self._arrays = {}
        if not values:
            return nothing_left
        return _orbax.begin(path, values, nested=layout.portable, compresses=layout.compresses)

    def write(self, place: Files) -> Part:
        """Write all others; return the facts of all."""
        compared = self._entries if _processes.are_several() else {}
        texts = {name: signature(entry) for name, entry in compared.items()}
        part: dict[str, tuple[str | None, Sequence[Chunk], int]] = {}
        chunks: dict[str, list[Chunk]] = {
            name: [] for name in self._entries.keys() - self._packed.keys()
        }
        # All processes take part where an array is gathered; one is in memory at a time.
        with place.packer() if _processes.is_first() else Packer(None) as packer:
            for name, array in self._packed.items():
                offset, chunk = packer.add(whole(array))
                part[name] = texts.get(name), (chunk,), offset
            if _processes.is_first():
                place.put_packed(packer)
        place.put(self._files(chunks))
        for name, of_array in self._chunks.items():
            chunks[name] += of_array()
        return part | {name: (texts.get(name), found, 0) for name, found in chunks.items()}

    def _files(self, chunks: Mapping[str, list[Chunk]]) -> Iterator[tuple[str, memoryview]]:
        """The files of shards; the chunk of each is in ``chunks`` when it is taken."""
        keys = array_keys(self._entries, portable=False)
        for name, shards in self._raw.items():
            for start, array in shards:
                chunks[name].append(chunk_of(start, array))
                if name not in self._common or _processes.is_first():
                    yield raw_name(keys[name], start), bytes_of(array)


def array_keys(entries: Mapping[str, Entry], *, portable: bool) -> dict[str, str]:
    """The keys that a snapshot gives to the arrays it writes one by one, by their names."""
    names = [name for name, entry in entries.items() if entry.location in (ORBAX, RAW)]
    return {name: name if portable else str(i) for i, name in enumerate(names)}


def merge(
    entries: Mapping[str, Entry], parts: Sequence[Part], *, portable: bool
) -> dict[str, Entry]:
    """Merge what the snapshots of all processes recorded into complete entries.

    Raises:
        CheckpointValueError: If they were given different trees, or values that differ.
        CheckpointError: If no process has some part of an array.
    """
    keys = array_keys(entries, portable=portable)
    complete = {}
    differing = sorted({name for part in parts for name in part} - entries.keys())
    for name, entry in entries.items():
        try:
            chunks = _agreed([part[name] for part in parts])
        except (KeyError, ValueError):
            differing.append(name)
            continue
        offset = parts[0][name][2]
        complete[name] = entry._replace(key=keys.get(name), chunks=chunks, offset=offset)
    if differing:
        raise different_values(differing)
    uncovered = [name for name, entry in complete.items() if not entry.is_covered]
    if uncovered:
        raise CheckpointError(f"Missing shards of {listed(uncovered)}: no process has them.")
    return complete


def _agreed(recorded: Sequence[tuple[str | None, Sequence[Any], int]]) -> tuple[Chunk, ...]:
    """All chunks of a value, merged from what the snapshots of the processes recorded of it.

    Raises:
        ValueError: If two processes recorded different facts of one.
    """
    text, chunks, _ = recorded[0]
    if len(recorded) == 1:
        return tuple(chunks)
    found: dict[Any, int] = {}
    for other_text, chunks, _ in recorded:
        for start, shape, crc in chunks:
            if found.setdefault((tuple(start), tuple(shape)), crc) != crc:
                raise ValueError
        if other_text != text:
            raise ValueError
    return tuple(Chunk(start, shape, crc) for (start, shape), crc in found.items())


def _chunks(array: Array, is_lasting: bool) -> Callable[[], list[Chunk]]:
    """How to compute the chunks of this process's part of an array."""
    parts = _parts(array)
    if isinstance(array, np.ndarray) and is_lasting:
        chunks = [chunk_of(start, part) for start, part in parts]
        return lambda: chunks
    return lambda: [chunk_of(start, part) for start, part in parts]


def _parts(array: Array) -> list[tuple[Sequence[int], np.ndarray[Any, Any]]]:
    """What a snapshot takes of an array in this process: each shard, and where it begins."""
    if isinstance(array, np.ndarray):
        return [((0,) * array.ndim, array)]
    return [
        (
            [box.indices(length)[0] for box, length in zip(shard.index, array.shape, strict=True)],
            np.asarray(shard.data),
        )
        for shard in array.addressable_shards
        if shard.replica_id == 0
    ]


def detached(array: jax.Array) -> jax.Array:
    """The same buffers, as a temporary array whose copy to the host is begun where it needs one."""
    if _is_on_cpu(array):
        return array
    shards = [shard.data for shard in array.addressable_shards]
    ours = jax.make_array_from_single_device_arrays(array.shape, array.sharding, shards)
    ours.copy_to_host_async()
    return ours


def whole(array: Array, *, copies: bool = False) -> np.ndarray[Any, Any]:
    """A snapshot of all of an array, on the host; all processes call it for the same arrays.

    Args:
        array: The array.
        copies: Whether a NumPy array, which the caller may change, is copied.
    """
    if isinstance(array, np.ndarray):
        return array.copy() if copies else array
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))  # a temporary array
    if not array.is_fully_addressable:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    gathered = np.empty(array.shape, array.dtype)
    for shard in detached(array).addressable_shards:
        if shard.replica_id == 0:
            gathered[shard.index] = np.asarray(shard.data)
    return gathered


def part(array: Array, place: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A snapshot of an array at some indices of its first axes: a copy on the host, of no more.

    Args:
        array: An array of which this process has all values.
        place: The indices; of ``()`` it is all of the array.
    """
    if not place:
        return whole(array)
    if isinstance(array, np.ndarray):
        return np.asarray(array[place])
    shards = array.addressable_shards
    if array.is_fully_replicated:
        shards = shards[:1]
    found = np.empty(array.shape[len(place) :], array.dtype)
    for shard in shards:
        starts = [extent.start or 0 for extent in shard.index]
        inside = tuple(index - start for index, start in zip(place, starts, strict=False))
        if all(0 <= index < size for index, size in zip(inside, shard.data.shape, strict=False)):
            found[shard.index[len(place) :]] = np.asarray(_item(shard.data, inside))
    return found


def _item(data: jax.Array, place: tuple[int, ...]) -> jax.Array | np.ndarray[Any, Any]:
    # On a CPU without a computation, which would be compiled for each shape.
    return np.asarray(data)[place] if _is_on_cpu(data) else data[place]


def _is_on_cpu(array: jax.Array) -> bool:
    # The devices of an array are of one platform.
    devices: Any = array.sharding.addressable_devices
    return bool(next(iter(devices)).platform == "cpu")
