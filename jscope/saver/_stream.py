"""Writing a checkpoint one variable at a time, for checkpoints larger than memory.

Index, checksums and commit are a save's.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from .._stores.remote import AnyPath
from ..formats._checksums import bytes_of, chunk_of
from ..formats._own_entry import PACKED, Entry, raw_name
from ..formats._own_index import Index
from ..formats._own_packed import Packer
from ._encoding import Layout, store
from ._in_store import place_of
from ._orbax import Array
from ._snapshot import Files
from ._write import Save


def check_values(values: Collection[tuple[str, Any]]) -> None:
    """Refuse values that can't be streamed; an array without elements may stand for its dtype.

    Raises:
        CheckpointValueError: If there are such; all are listed.
    """
    store(values, Layout())


@contextlib.contextmanager
def streaming(directory: AnyPath, step: int) -> Iterator[Callable[[str, Any], None]]:
    """Stream a checkpoint: the body calls the given function with each name and value.

    It is committed when the body ends, and removed if that raises. No other checkpoint
    is evicted.

    Raises:
        CheckpointExistsError: If the step exists.
        CheckpointError: If it can't be written.
    """
    save = Save(directory, step, place_of(directory))
    place = save.place(save)
    entries: dict[str, Entry] = {}
    try:
        place.make()
        with place.packer() as packer:

            def write(name: str, value: object) -> None:
                entry, arrays = store([(name, value)], save.layout)
                entries[name] = entry[name]
                if name in arrays:
                    key = str(len(entries))
                    with save.failing:
                        entries[name] = _written(entry[name], arrays[name], key, place, packer)

            yield write
            with save.failing:
                place.put_packed(packer)
                place.commit(Index(step, place.save_id, save.clock(), entries))
    finally:
        place.leave()


def _written(entry: Entry, value: Array, key: str, place: Files, packer: Packer) -> Entry:
    """Write one array of a checkpoint that is streamed; return its entry, complete."""
    array = np.asarray(value)
    if entry.location == PACKED:
        offset, chunk = packer.add(array)
        return entry._replace(offset=offset, chunks=(chunk,))
    chunk = chunk_of((0,) * array.ndim, array)
    place.put([(raw_name(key, chunk.start), bytes_of(array))])
    place.settle()
    return entry._replace(key=key, chunks=(chunk,))
