"""Files and directories: made durable, renamed, exchanged, removed after a failure."""

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .._errors import CheckpointError
from ..formats._new_file import flush as flush


def make_directory(directory: Path) -> None:
    """Make a directory and its parents, each flushed to its own parent."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        flush(directory.parent)


def flush_all(*roots: Path) -> None:
    """Flush files, and directories with all that is in them, to disk, all at once."""
    paths: list[Path] = []
    for root in roots:
        paths.append(root)
        for directory, directories, files in os.walk(root):
            paths += (Path(directory, name) for name in (*directories, *files))
    _in_threads(flush, paths)


def _in_threads(work: Callable[[Path], None], paths: list[Path]) -> None:
    # A file system writes its journal once for all that wait for it at a time.
    errors: list[BaseException] = []
    parts = [paths[i::8] for i in range(max(1, min(8, len(paths))))]

    def run(mine: list[Path]) -> None:
        try:
            while mine:
                work(mine[-1])
                mine.pop()
        except BaseException as error:
            errors.append(error)

    threads = []
    for mine in parts[1:]:
        thread = threading.Thread(target=run, args=(mine,))
        with contextlib.suppress(RuntimeError):  # at the program's end no thread can start
            thread.start()
            threads.append(thread)
    run(parts[0])
    for thread in threads:
        thread.join()
    # What is left is of threads that did not start, or that the hook of a debugger ended.
    while not errors and any(parts):
        run(next(filter(None, parts)))
    if errors:
        raise errors[0]


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False if this system can't."""
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return True


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Exclude other threads and processes that lock the same, where the file system can."""
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
    """Raise any failure of the body as a `CheckpointError` that begins with ``what``."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        # TensorStore's messages have hundreds of lines; the whole text is in the cause.
        first = str(error).partition("\n")[0]
        raise CheckpointError(f"{what}: {type(error).__name__}: {first[:500]}") from error


def size_of(root: Path) -> int:
    """The bytes of all files in a directory; of those that vanish meanwhile, none."""
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(directory, name)).st_size
    return total


def remove(path: Path) -> None:
    """Remove a directory and its contents, as far as possible."""
    shutil.rmtree(path, ignore_errors=True)
