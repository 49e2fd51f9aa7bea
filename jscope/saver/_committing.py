"""The moment at which what was written becomes a checkpoint, and what is removed after it.

1. The new state file is written, into the workplace, as it will be. It and everything that was
   written before are flushed to disk: each file, each directory.
2. It is opened there as a reader opens it, by its index, and all that the index names is found.
3. One rename gives the new directory its step's name; or, if the step is there already, one
   exchange of the two directories. One more puts the state file in its place. The parent is
   flushed. Now it is saved, and not before.
4. What the retention evicts is moved to the workplace, and that is removed.

A process that dies leaves the old or the new, whenever it dies: before 3. the old, with a workplace
that the next Saver removes; after it the new. An evicted checkpoint is out of the state file before
it is touched, and out of its place, whole, before the first of its files is removed.
"""

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from .._errors import CheckpointError, CheckpointExistsError, CheckpointWarning
from ._disk import exchange, flush, flush_all, locked, remove
from ._index import FILE_NAME, Index, read_save_id, write_index
from ._listing import all_replaced, checkpoints, replaced
from ._retention import Retention
from ._source import check_readable
from ._state import FILE_NAME as STATE_FILE
from ._state import Record, read_state, write_state
from ._workplace import Workplace, is_workplace, taken


def commit(
    written: Path,
    index: Index,
    workplace: Workplace,
    directory: Path,
    *,
    overwrite: bool,
    retention: Retention,
    now: float,
) -> None:
    """Make what was written in a workplace the checkpoint of its step.

    Args:
        written: A directory in the workplace that has all files but the index.
        index: The index.
        workplace: The workplace.
        directory: Where the checkpoints are.
        overwrite: Whether it may take the place of another.
        retention: What is kept beside it.
        now: Where the hours of the retention begin, if they have not yet.

    Raises:
        CheckpointExistsError: If the step was saved meanwhile, and is not to be overwritten.
        CheckpointError: If it can't be read back. Nothing was replaced or removed then.
    """
    write_index(written, index)
    _read_back(written, index, directory)
    state_file = workplace.path / "state"
    with locked(directory):
        check_place(directory / str(index.step), index.step, overwrite)
        steps = checkpoints(directory)
        newest = Record(index.step, index.save_id, index.saved_at, index.metrics)
        state, going = retention.apply(read_state(directory, steps, newest), now)
        write_state(state_file, state)
        flush_all(written, state_file)
        _put_in_place(written, state_file, index, workplace, directory)
        _evict([steps[record.step] for record in going], workplace, directory)


def _read_back(written: Path, index: Index, directory: Path) -> None:
    try:
        check_readable(written, index)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Step {index.step} was not saved to {directory}: what was written can't be read back. "
            f"No other step was replaced or removed. {error}"
        ) from error


def check_place(path: Path, step: int, overwrite: bool) -> None:
    """Refuse a step whose place is taken.

    Raises:
        CheckpointExistsError: If there is something that may not be overwritten.
    """
    if not os.path.lexists(path):
        return
    if not (path / FILE_NAME).is_file():
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
    """Remove the workplaces of the dead, and put back what they were about to replace."""
    names = os.listdir(directory) if directory.is_dir() else []
    for workplace in [directory / name for name in names if is_workplace(name)]:
        with taken(workplace) as is_ours:
            if is_ours:
                for step, old in all_replaced(workplace).items():
                    if not os.path.lexists(directory / str(step)):
                        os.rename(old, directory / str(step))
                        flush(directory)
                remove(workplace)


def _put_in_place(
    written: Path, state_file: Path, index: Index, workplace: Workplace, directory: Path
) -> None:
    step, path = index.step, directory / str(index.step)
    # What is told to have failed must not be there, and what it was to replace must.
    with contextlib.ExitStack() as undo:
        if path.exists() and exchange(written, path):
            undo.callback(exchange, written, path)
        else:
            if path.exists():
                old = replaced(workplace.path, step)
                os.rename(path, old)
                undo.callback(os.rename, old, path)
                flush(workplace.path)
            try:
                os.rename(written, path)
            except OSError:
                # Whoever else saves here was faster, where directories can't be locked.
                check_place(path, step, overwrite=False)
                raise
            undo.callback(os.rename, path, written)
        os.replace(state_file, directory / STATE_FILE)
        flush(directory)
        if read_save_id(path) != index.save_id:
            raise CheckpointError(f"Step {step} was not saved: it is not found in {path}.")
        undo.pop_all()


def _evict(paths: Sequence[Path], workplace: Workplace, directory: Path) -> None:
    try:
        for path in paths:
            # Unless somebody else has removed it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, workplace.path / f"evicted-{path.name}")
        if paths:
            flush(directory)
    except OSError as error:
        # All is saved and written down; the next save finds what is too much.
        warnings.warn(
            f"A checkpoint in {directory} could not be evicted: {error}",
            CheckpointWarning,
            stacklevel=2,
        )
