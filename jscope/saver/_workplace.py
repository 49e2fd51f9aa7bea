"""Where a save is written before it is one, and how the leftovers of the dead are known.

A workplace is a directory ``.tmp-<id>`` beside the checkpoints. Whatever a save writes begins
in its workplace, and whatever it removes ends there: the old checkpoint of an overwritten step,
an evicted one. Nothing in it is ever listed, with one exception: see `_listing`.

Its owner holds a lock (``flock``) on the file ``lock`` in it. The system drops the lock when the
process dies, however it dies, so a workplace whose lock can be taken belongs to nobody. A number
of the process would not do: numbers are given again, and are of one machine.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ._disk import remove

_PREFIX = ".tmp-"


class Workplace:
    """A workplace of this process.

    Attributes:
        save_id: What it is called by, and the save for which it is.
        path: The directory.
    """

    def __init__(self, directory: Path):
        lock = None
        while lock is None:
            self.save_id = uuid.uuid4().hex
            self.path = place_of(directory, self.save_id)
            self.path.mkdir()
            # None if somebody took it for a leftover meanwhile, and removed it.
            lock = _lock(self.path, wait=True)
        self._lock = lock

    def leave(self) -> None:
        """Remove it and all that is in it, as far as that goes; the rest is a leftover."""
        remove(self.path)
        os.close(self._lock)


def place_of(directory: Path, save_id: str) -> Path:
    """Where the workplace of a save is."""
    return directory / f"{_PREFIX}{save_id}"


def is_workplace(name: str) -> bool:
    """Whether a directory of this name is a workplace, of the living or the dead."""
    return name.startswith(_PREFIX)


@contextlib.contextmanager
def taken(workplace: Path) -> Iterator[bool]:
    """Take a workplace for the body if it belongs to nobody; give whether it did."""
    try:
        # A link would lead to a directory of anyone's.
        lock = None if workplace.is_symlink() else _lock(workplace, wait=False)
    except OSError:
        # Not ours to write in.
        lock = None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _lock(workplace: Path, *, wait: bool) -> int | None:
    """Take the lock of a workplace; None if somebody has it, or the workplace is gone."""
    file = workplace / "lock"
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        # Somebody has it. Or there are no locks here, and nobody can tell whose it is: then the
        # owner goes on without one, and nobody else will touch it.
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
