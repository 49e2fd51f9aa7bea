"""The arrays of a save as they are at one moment, on the host, and their checksums.

On a CPU a snapshot of JAX's arrays copies nothing: NumPy's view holds the buffer, and JAX reuses
no buffer that is held, whether its array is deleted or donated. From an accelerator the arrays are
copied, once, since Orbax looks at the same views. NumPy's own arrays, which the caller may change,
are copied if they are packed, and by Orbax if not.

Imports: `_checksums`, `_entries`, `_orbax`, `_packing`; JAX and NumPy.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import _orbax, _packing
from ._checksums import chunk_of
from ._entries import PACKED, Chunk, Entry
from ._orbax import Array


class Snapshot:
    """What is to be written."""

    def __init__(self, entries: Mapping[str, Entry], arrays: Mapping[str, Array]):
        self._packed = {}
        self._chunks: dict[str, Callable[[], tuple[Chunk, ...]]] = {}
        self._arrays: dict[str, Array] = {}
        self._keys: dict[str, str] = {}
        for array in arrays.values():
            if isinstance(array, jax.Array):
                array.copy_to_host_async()
        for name, array in arrays.items():
            if entries[name].place == PACKED:
                is_theirs = isinstance(array, jax.Array)
                self._packed[name] = np.asarray(array) if is_theirs else np.array(array)
            else:
                self._arrays[str(len(self._arrays))] = array
                self._keys[name] = str(len(self._keys))
                self._chunks[name] = _chunks(array)
        places = _packing.offsets(array.nbytes for array in self._packed.values())
        self._offsets = dict(zip(self._packed, places, strict=True))
        self._entries = entries

    def begin(self, directory: Path) -> Callable[[], None]:
        """Start to write all arrays into a directory that does not exist; return how to finish."""
        write = _orbax.begin(directory, self._arrays) if self._arrays else directory.mkdir

        def finish() -> None:
            write()
            if self._packed:
                _packing.write(directory, list(self._packed.values()))

        return finish

    def entries(self) -> dict[str, Entry]:
        """The entries of all values, with offsets and checksums."""
        return {name: self._complete(name, entry) for name, entry in self._entries.items()}

    def _complete(self, name: str, entry: Entry) -> Entry:
        if name in self._packed:
            array = self._packed[name]
            chunk = chunk_of((0,) * array.ndim, array)
            return dataclasses.replace(entry, offset=self._offsets[name], chunks=(chunk,))
        if name in self._chunks:
            return dataclasses.replace(entry, key=self._keys[name], chunks=self._chunks[name]())
        return entry


def _chunks(array: Array) -> Callable[[], tuple[Chunk, ...]]:
    """How to compute the chunks of an array that Orbax is to write."""
    if isinstance(array, np.ndarray):
        # At once, as this is no copy.
        chunk = chunk_of((0,) * array.ndim, array)
        return lambda: (chunk,)
    parts: list[tuple[tuple[int, ...], np.ndarray[Any, Any]]] = [
        (
            tuple(box.indices(n)[0] for box, n in zip(shard.index, array.shape, strict=True)),
            np.asarray(shard.data),
        )
        for shard in array.addressable_shards
        if shard.replica_id == 0
    ]
    return lambda: tuple(chunk_of(start, part) for start, part in parts)
