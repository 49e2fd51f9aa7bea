"""Commit: written files become a checkpoint, and evicted ones are removed after it.

1. The new state file is written into the staging directory. It and everything that was written
   before are flushed to disk: each file, each directory.
2. The checkpoint is opened there as a reader opens it, by its index, and all that the index names
   must be there.
3. One rename gives the new directory its step's name; or, if the step is there already, one
   exchange of the two directories. One more replaces the state file. The parent is flushed.
   Only then is the step saved.
4. Evicted checkpoints are moved to the staging directory, which is removed.

A process that crashes leaves the old or the new checkpoint: before 3. the old one, with a stale
staging directory that the next Saver removes; after it the new one. An evicted checkpoint is
removed from the state file first, then moved as a whole, before the first of its files is removed.
"""

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from .._errors import CheckpointError, CheckpointExistsError, CheckpointWarning
from ..formats._own_directory import STAGING, all_replaced, checkpoints, has_index, replaced
from ..formats._own_index import Index, read_save_id, write_index
from ..formats._own_source import check_readable
from ..formats._own_state import FILE_NAME as STATE_FILE
from ..formats._own_state import Record, read_state, write_state
from ._disk import exchange, flush, flush_all, locked, remove
from ._retention import Retention
from ._staging import Staging, taken


def commit(
    written: Path,
    index: Index,
    staging: Staging,
    directory: Path,
    *,
    overwrite: bool,
    retention: Retention,
    now: float,
) -> None:
    """Make a directory in a staging directory the checkpoint of its step.

    Args:
        written: A directory in the staging directory that has all files but the index.
        index: The index.
        staging: The staging directory.
        directory: Where the checkpoints are.
        overwrite: Whether it may replace another.
        retention: The rule for the checkpoints beside it.
        now: When the hours of the retention begin, if they have not yet.

    Raises:
        CheckpointExistsError: If the step was saved meanwhile, and is not to be overwritten.
        CheckpointError: If it can't be read back. Nothing was replaced or removed then.
    """
    write_index(written, index)
    _read_back(written, index, directory)
    state_file = staging.path / "state"
    with locked(directory):
        check_free(directory / str(index.step), index.step, overwrite)
        steps = checkpoints(directory)
        newest = Record(index.step, index.save_id, index.saved_at, index.metrics)
        state, going = retention.apply(read_state(directory, steps, newest), now)
        write_state(state_file, state)
        flush_all(written, state_file)
        _put_in_place(written, state_file, index, staging, directory)
        _evict([steps[record.step] for record in going], staging, directory)


def _read_back(written: Path, index: Index, directory: Path) -> None:
    try:
        check_readable(written, index)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Step {index.step} was not saved to {directory}: the written files can't be read "
            f"back. No other step was replaced or removed. {error}"
        ) from error


def check_free(path: Path, step: int, overwrite: bool) -> None:
    """Refuse a step whose path exists.

    Raises:
        CheckpointExistsError: If there is a file or directory that may not be overwritten.
    """
    if not os.path.lexists(path):
        return
    if not has_index(path):
        raise CheckpointExistsError(
            f"{path} is in the way of step {step}, and is not a checkpoint of jscope. Remove it, "
            "or give Saver another directory."
        )
    if not overwrite:
        raise CheckpointExistsError(
            f"Step {step} is saved already, in {path}.",
            f"To replace it write saver.save(tree, {step}, overwrite=True): the old one stays "
            "until the new one is complete and on disk.",
        )


def sweep(directory: Path) -> None:
    """Remove stale staging directories, and put back the checkpoints that were moved there."""
    names = os.listdir(directory) if directory.is_dir() else []
    for staging in [directory / name for name in names if name.startswith(STAGING)]:
        with taken(staging) as is_ours:
            if is_ours:
                for step, old in all_replaced(staging).items():
                    if not os.path.lexists(directory / str(step)):
                        os.rename(old, directory / str(step))
                        flush(directory)
                remove(staging)


def _put_in_place(
    written: Path, state_file: Path, index: Index, staging: Staging, directory: Path
) -> None:
    step, path = index.step, directory / str(index.step)
    # If this raises, the new checkpoint must not be there, and the old one must.
    with contextlib.ExitStack() as undo:
        if path.exists() and exchange(written, path):
            undo.callback(exchange, written, path)
        else:
            if path.exists():
                old = replaced(staging.path, step)
                os.rename(path, old)
                undo.callback(os.rename, old, path)
                flush(staging.path)
            try:
                os.rename(written, path)
            except OSError:
                # Another process saved the step meanwhile, where directories can't be locked.
                check_free(path, step, overwrite=False)
                raise
            undo.callback(os.rename, path, written)
        os.replace(state_file, directory / STATE_FILE)
        flush(directory)
        if read_save_id(path) != index.save_id:
            raise CheckpointError(f"Step {step} was not saved: it is not found in {path}.")
        undo.pop_all()


def _evict(paths: Sequence[Path], staging: Staging, directory: Path) -> None:
    try:
        for path in paths:
            # Unless another process has removed it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, staging.path / f"evicted-{path.name}")
        if paths:
            flush(directory)
    except OSError as error:
        # The step is saved and recorded; the next save evicts the checkpoint.
        warnings.warn(
            f"A checkpoint in {directory} could not be evicted: {error}",
            CheckpointWarning,
            stacklevel=2,
        )
