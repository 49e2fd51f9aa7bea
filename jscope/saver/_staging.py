"""Commit: written files become a checkpoint, and evicted ones are removed after it.

1. The index is written into the staging directory and read back, and all that it names must be
   there.
2. The new state file is written there. It and everything that was written before are flushed to
   disk: each file, each directory. That of the packed arrays began when they were written.
3. One rename gives the new directory its step's name; or, if the step is there already, one
   exchange of the two directories. One more replaces the state file. The parent is flushed.
   Only then is the step saved.
4. Evicted checkpoints are moved to the staging directory, which is removed.

A process that crashes leaves the old or the new checkpoint: before 3. the old one, with a stale
staging directory that the next Saver removes; after it the new one. An evicted checkpoint is
removed from the state file first, then moved as a whole, before the first of its files is removed.

**Staging directories.** A staging directory is a directory ``.tmp-<id>`` beside the checkpoints. A
save writes all files in its staging directory first, and moves there what it removes: the old
checkpoint of an overwritten step, an evicted one. Nothing in it is ever listed, with one exception:
see `formats._own_steps`.

Its owner holds a lock (``flock``) on the file ``lock`` in it. The system drops the lock when the
process ends, also by a crash, so a staging directory whose lock can be taken is stale. A process
id would not do: ids are reused, and are unique on one machine only.
"""

import contextlib
import dataclasses
import fcntl
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .._errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointValueError,
    CheckpointWarning,
    listed,
)
from .._stores.disk import exchange, flush, flush_all, locked, remove
from .._stores.mounts import bucket_mounter
from .._stores.remote import AnyPath
from ..formats._open import other_checkpoint
from ..formats._orbax import ITEM, METADATA
from ..formats._own_index import Index, files_to_list, read_save_id, write_index
from ..formats._own_source import check_readable
from ..formats._own_state import FILE_NAME as STATE_FILE
from ..formats._own_state import Record, read_state, write_state
from ..formats._own_steps import STAGING, all_replaced, checkpoints, has_index, listing, replaced
from ._write import Save


class Staging:
    """A staging directory of this process.

    Attributes:
        save_id: The id of the save, in the directory's name.
        path: The directory.
    """

    def __init__(self, directory: Path):
        lock = None
        while lock is None:
            self.save_id = uuid.uuid4().hex
            self.path = staging_path(directory, self.save_id)
            self.path.mkdir()
            # None if another process removed it as stale meanwhile.
            lock = _lock(self.path, wait=True)
        self._lock = lock

    def leave(self) -> None:
        """Remove it and its contents, as far as possible; the rest is stale."""
        remove(self.path)
        os.close(self._lock)


def staging_path(directory: Path, save_id: str) -> Path:
    """The path of a save's staging directory."""
    return directory / f"{STAGING}{save_id}"


@contextlib.contextmanager
def taken(staging: Path) -> Iterator[bool]:
    """Lock a staging directory for the body if it is stale; give whether it was."""
    try:
        # A link could lead to any directory.
        lock = None if staging.is_symlink() else _lock(staging, wait=False)
    except OSError:
        # A directory that this process may not write.
        lock = None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _lock(staging: Path, *, wait: bool) -> int | None:
    """Take the lock of a staging directory; None if another process has it, or if it is gone."""
    file = staging / "lock"
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        # Another process has it. Or the file system has no locks and the owner is unknown: then the
        # owner goes on without one, and other processes leave the directory alone.
        is_ours = wait
    else:
        is_ours = _is_same(lock, file)
    if is_ours:
        return lock
    os.close(lock)
    return None


def _is_same(descriptor: int, file: Path) -> bool:
    """Whether the lock of a staging directory is the file that was opened."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def commit(
    save: Save, written: Path, index: Index, staging: Staging, settle: Callable[[], None]
) -> None:
    """Commit what is in a staging directory: make it the checkpoint of its step.

    Args:
        save: The save.
        written: A directory in the staging directory that has all files but the index.
        index: The index.
        staging: The staging directory.
        settle: Waits for files that are being flushed.

    Raises:
        CheckpointExistsError: If the step was saved meanwhile, and is not to be overwritten.
        CheckpointError: If it can't be read back. Nothing was replaced or removed then.
    """
    directory = staging.path.parent
    index = dataclasses.replace(index, files=files_to_list(written))
    write_index(written, index)
    _read_back(written, index, directory)
    state_file = staging.path / "state"
    with locked(directory):
        check_free(directory / str(save.step), save.step, save.overwrite)
        steps = checkpoints(directory)
        newest = Record(save.step, index.save_id, index.saved_at, index.metrics)
        state = read_state(directory, steps, newest)
        state, going = save.retention.apply(state, save.kept_since)
        write_state(state_file, state)
        settle()
        flush_all(written, state_file)
        _put_in_place(save, written, state_file, staging)
        _evict([steps[record.step] for record in going], staging)


def _read_back(written: Path, index: Index, directory: Path) -> None:
    """Refuse to commit a staging directory whose files can't be read back."""
    try:
        check_readable(written, index)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Step {index.step} was not saved to {directory}: the written files can't be read "
            f"back. No other step was replaced or removed. {error}"
        ) from error


def check_free(path: Path, step: int, overwrite: bool) -> None:
    """Refuse to stage a step whose path exists.

    Raises:
        CheckpointExistsError: If there is a file or directory that may not be overwritten.
        CheckpointError: If it can't be, since it is in a bucket that is mounted.
    """
    if not os.path.lexists(path):
        return
    if not has_index(path):
        raise in_the_way(path, step)
    if not overwrite:
        raise CheckpointExistsError(
            f"Step {step} is saved already, in {path}.",
            f"To replace it write saver.save(tree, {step}, overwrite=True): the old one stays "
            "until the new one is complete and on disk.",
        )
    mounter = bucket_mounter(path)
    if mounter is not None:
        raise CheckpointError(
            f"Step {step} can't be overwritten in {path}: {mounter} mounts a bucket there, and "
            "moves a directory object by object, so that for a time there would be no whole step. "
            "Save another step, or give the Saver the bucket's URL."
        )


def in_the_way(path: AnyPath, step: int) -> CheckpointExistsError:
    """Compose the error: what isn't jscope's checkpoint has the place of a step to be saved."""
    return CheckpointExistsError(
        f"{path} is in the way of step {step}, and is not a checkpoint of jscope. Remove it, or "
        "give Saver another directory."
    )


def check_alike(directory: Path, step: int, *, portable: bool) -> None:
    """Refuse to stage a step beside steps of the other kind: those that stock Orbax reads, or not.

    Its `CheckpointManager` takes each directory that is called by a number for a step of its own.

    Raises:
        CheckpointExistsError: If another library's checkpoint is that step.
        CheckpointValueError: If there is such a step.
    """
    found = listing(directory)
    other = other_checkpoint(directory, found, step)
    if other is not None:
        raise in_the_way(other, step)
    there = {other: path for other, path in found.steps.items() if other != step}
    if portable:
        # Before 0.2 a portable checkpoint had no item.
        own = [n for n, at in there.items() if not (is_portable(at) or (at / METADATA).exists())]
        if own:
            raise CheckpointValueError(
                f"Step {step} can't be saved to {directory} for stock Orbax: its "
                f"CheckpointManager would take steps {listed(own)} for its own, which only jscope "
                "reads.",
                "Give such checkpoints a directory of their own: "
                f"Saver('runs/portable').save(tree, {step}, portable=True).",
            )
    elif any(map(is_portable, there.values())):
        raise CheckpointValueError(
            f"{directory} has steps for stock Orbax, whose CheckpointManager would take step "
            f"{step} for its own, and could not read it.",
            f"Write saver.save(tree, {step}, portable=True), or give the Saver another directory.",
        )


def is_portable(path: AnyPath) -> bool:
    """Whether what is staged, or a step beside it, is as Orbax's `CheckpointManager` has it."""
    return (path / ITEM / METADATA).exists()


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


def _put_in_place(save: Save, written: Path, state_file: Path, staging: Staging) -> None:
    """Rename or exchange what is staged into place, or leave all as it was."""
    step, directory = save.step, staging.path.parent
    path = directory / str(step)
    # Where directories can't be locked, another process may have saved the step meanwhile.
    replaces = save.overwrite and path.exists()
    before = read_save_id(path) if replaces else None
    # If this raises, the new checkpoint must not be there, and the old one must.
    with contextlib.ExitStack() as undo:
        if replaces and exchange(written, path):
            undo.callback(exchange, written, path)
        else:
            if replaces:
                if is_portable(path) or is_portable(written):
                    raise CheckpointError(
                        "This file system can't exchange two directories, and Orbax would find no "
                        f"step {step} between two renames. Remove {path} first, or save another "
                        "step."
                    )
                old = replaced(staging.path, step)
                os.rename(path, old)
                undo.callback(os.rename, old, path)
                flush(staging.path)
            try:
                os.rename(written, path)
            except OSError:
                check_free(path, step, overwrite=False)
                raise
            undo.callback(os.rename, path, written)
        os.replace(state_file, directory / STATE_FILE)
        flush(directory)
        # Or it is another's, which has replaced this one since.
        if read_save_id(path) in (None, before):
            raise CheckpointError(f"Step {step} was not saved: it is not found in {path}.")
        undo.pop_all()


def _evict(paths: Sequence[Path], staging: Staging) -> None:
    """Evict checkpoints after a commit: move them to a staging directory, to be removed with it."""
    directory = staging.path.parent
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
