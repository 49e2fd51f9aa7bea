"""Writing a checkpoint one variable at a time, for checkpoints larger than memory.

All arrays go to the packed file, one after the other. Index, checksums and commit are a save's.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..formats._entry import PACKED, Entry
from ..formats._own_index import Index
from ..formats._own_packed import FILE_NAME, Packer
from ._committing import check_free, commit, sweep
from ._disk import failing_as, make_directory
from ._retention import Retention
from ._staging import Staging
from ._values import Layout, store

_ALL_PACKED = Layout(packs_up_to=None)


def check_values(values: Collection[tuple[str, Any]]) -> None:
    """Refuse values that can't be stored; an array without elements may stand for one of its dtype.

    Raises:
        CheckpointValueError: If there are such; all are listed.
    """
    store(values, _ALL_PACKED)


@contextmanager
def streaming(directory: Path, step: int) -> Iterator[Callable[[str, Any], None]]:
    """Write a checkpoint; the body calls the given function with each name and value.

    It is committed when the body ends, and removed if that raises. No other checkpoint
    is evicted.

    Raises:
        CheckpointExistsError: If the step exists.
        CheckpointError: If it can't be written.
    """
    check_free(directory / str(step), step, overwrite=False)
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
                entries[name] = dataclasses.replace(entry[name], offset=offset, chunks=(chunk,))

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
