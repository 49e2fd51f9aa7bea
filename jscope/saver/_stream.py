"""Writing a checkpoint one variable at a time, for checkpoints larger than memory.

All arrays go to the packed file, one after the other; in a store the larger ones are objects of
their own. Index, checksums and commit are a save's.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .._stores.remote import AnyPath, RemotePath
from ..formats._checksums import chunk_of
from ..formats._own_entry import PACKED, Entry, raw_name
from ..formats._own_index import Index
from ..formats._own_packed import FILE_NAME, Packer
from ._disk import failing_as, make_directory
from ._encoding import Layout, store
from ._in_store import InStore
from ._retention import Retention
from ._staging import Staging, check_alike, check_free, commit, sweep
from ._write import Save

_ALL_PACKED = Layout(packs_up_to=None)


def check_values(values: Collection[tuple[str, Any]]) -> None:
    """Refuse values that can't be streamed; an array without elements may stand for its dtype.

    Raises:
        CheckpointValueError: If there are such; all are listed.
    """
    store(values, _ALL_PACKED)


def streaming(
    directory: AnyPath, step: int
) -> contextlib.AbstractContextManager[Callable[[str, Any], None]]:
    """Stream a checkpoint: the body calls the given function with each name and value.

    It is committed when the body ends, and removed if that raises. No other checkpoint
    is evicted.

    Raises:
        CheckpointExistsError: If the step exists.
        CheckpointError: If it can't be written.
    """
    if isinstance(directory, RemotePath):
        return _to_store(directory, step)
    return _to_disk(directory, step)


@contextmanager
def _to_store(directory: RemotePath, step: int) -> Iterator[Callable[[str, Any], None]]:
    layout = Layout(is_raw=True)
    save = Save.of_all(directory, step, layout, InStore)
    place, memory = InStore(save), BytesIO()
    entries: dict[str, Entry] = {}
    place.make()
    try:
        packer = Packer(memory)

        def write(name: str, value: object) -> None:
            entry, arrays = store([(name, value)], layout)
            if name not in arrays:
                entries[name] = entry[name]
                return
            array = np.asarray(arrays[name])
            with save.failing:
                if entry[name].location == PACKED:
                    offset, chunk = packer.add(array)
                    entries[name] = entry[name]._replace(offset=offset, chunks=(chunk,))
                else:
                    key, chunk = str(len(entries)), chunk_of((0,) * array.ndim, array)
                    place.put([(raw_name(key, chunk.start), array.tobytes())])
                    entries[name] = entry[name]._replace(key=key, chunks=(chunk,))

        yield write
        with save.failing:
            if memory.tell():
                place.put([(FILE_NAME, memory.getvalue())])
            place.commit(Index(step, place.save_id, save.clock(), entries))
    finally:
        place.leave()


@contextmanager
def _to_disk(directory: Path, step: int) -> Iterator[Callable[[str, Any], None]]:
    check_free(directory / str(step), step, overwrite=False)
    check_alike(directory, step, portable=False)
    failing = functools.partial(failing_as, f"Step {step} was not saved to {directory}")
    with failing():
        make_directory(directory)
        sweep(directory)
        staging = Staging(directory)
    written = staging.path / str(step)
    entries: dict[str, Entry] = {}
    try:
        with failing():
            written.mkdir()
            packer = Packer(written / FILE_NAME)

        def write(name: str, value: object) -> None:
            entry, arrays = store([(name, value)], _ALL_PACKED)
            entries[name] = entry[name]
            if name in arrays:
                with failing():
                    offset, chunk = packer.add(np.asarray(arrays[name]))
                entries[name] = entry[name]._replace(offset=offset, chunks=(chunk,))

        with packer:
            yield write
        with failing():
            if not any(entry.location == PACKED for entry in entries.values()):
                (written / FILE_NAME).unlink()
            now = time.time()
            index = Index(step, staging.save_id, now, entries)
            keep_all = Retention.of(None, None, None)
            commit(written, index, staging, directory, overwrite=False, retention=keep_all, now=now)
    finally:
        staging.leave()
