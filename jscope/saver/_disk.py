"""Files and directories: made durable, renamed, exchanged, removed after a failure."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .._errors import CheckpointError
from .._stores.disk import AT_FDCWD
from .._stores.disk import flush as flush
from .._stores.disk import flush_all as flush_all
from .._stores.disk import make_directory as make_directory
from .._stores.disk import renameat2 as _renameat2


def exchange(first: Path, second: Path) -> bool:
    """Exchange two directories of a Saver in one step; False if this system can't."""
    rename = _renameat2()
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return True


_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Exclude other threads and processes that lock the same directory of a Saver, if it can be."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        # Network file systems don't lock directories. The code under this lock loses no
        # checkpoint if two processes run it at once.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Raise any failure of a Saver in the body as a `CheckpointError` that begins with ``what``."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        # TensorStore's messages have hundreds of lines; the whole text is in the cause.
        first = str(error).partition("\n")[0]
        raise CheckpointError(f"{what}: {type(error).__name__}: {first[:500]}") from error


def size_of(root: Path) -> int:
    """The bytes of all files in a directory on a disk, as far as they are written."""
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(directory, name)).st_size
    return total


def remove(path: Path) -> None:
    """Remove a directory of a Saver and its contents, as far as possible."""
    shutil.rmtree(path, ignore_errors=True)
