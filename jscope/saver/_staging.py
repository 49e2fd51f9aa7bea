"""Staging directories: a save is written there first; stale ones of crashed processes are found.

A staging directory is a directory ``.tmp-<id>`` beside the checkpoints. A save writes all files
in its staging directory first, and moves there what it removes: the old checkpoint of an
overwritten step, an evicted one. Nothing in it is ever listed, with one exception: see
`formats._own_directory`.

Its owner holds a lock (``flock``) on the file ``lock`` in it. The system drops the lock when the
process ends, also by a crash, so a staging directory whose lock can be taken is stale. A process
id would not do: ids are reused, and are unique on one machine only.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..formats._own_directory import STAGING
from ._disk import remove


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
        is_ours = _is(lock, file)
    if is_ours:
        return lock
    os.close(lock)
    return None


def _is(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False
