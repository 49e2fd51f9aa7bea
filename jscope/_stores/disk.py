"""Files and directories of a file system: made durable, renamed, exchanged, locked, removed."""

import contextlib
import ctypes
import errno
import fcntl
import functools
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_AT_ONCE = 8


def flush(path: Path) -> None:
    """Flush one file of a file system, or the names in one directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What a file system says that lacks links, or a kind of rename.
LACKING = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EMLINK})
AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCHANGE = -100, 1, 2


def rename_to_free(source: Path, target: Path) -> None:
    """Give a file of a file system another name, unless that is taken.

    By a link and its removal, which every kind of system has; else by a rename of Linux's.

    Raises:
        FileExistsError: If the name is taken.
        OSError: If it can't be done, or the file system has no way to do it.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in LACKING:
            raise
        _rename_alone(source, target, error)
    else:
        with contextlib.suppress(OSError):
            source.unlink()


def _rename_alone(source: Path, target: Path, error: OSError) -> None:
    """Rename a file on a disk by Linux's own call, unless the new name is taken."""
    rename = renameat2()
    if rename is None:
        raise error
    ends = AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target)
    if rename(*ends, _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(source), None, str(target))


@functools.cache
def renameat2() -> Callable[..., int] | None:
    """Linux's call that renames a file of a file system with flags, or None."""
    try:
        found: Callable[..., int] = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    return found


def exchange(first: Path, second: Path) -> bool:
    """Exchange two directories of a Saver in one step; False if this system can't."""
    rename = renameat2()
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return True


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


def make_directory(directory: Path, flushing: Callable[[Path], object] = flush) -> None:
    """Make a directory of a file system and its parents, each flushed to disk in its own parent.

    Args:
        directory: The directory.
        flushing: Flushes a parent, or sees to it that this is done.
    """
    if not directory.is_dir():
        make_directory(directory.parent, flushing)
        directory.mkdir(exist_ok=True)
        flushing(directory.parent)


def write_new(path: Path, data: memoryview) -> None:
    """Write a file to a file system where none is yet, and flush it to disk."""
    with path.open("xb", buffering=0) as file:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())


def flush_all(*roots: Path) -> None:
    """Flush files, and directories with all that is in them, to disk, all at once."""
    paths: list[Path] = []
    for root in roots:
        paths.append(root)
        for directory, directories, files in os.walk(root):
            paths += (Path(directory, name) for name in (*directories, *files))
    in_threads(flush, paths)


def in_threads(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do the same to many files of a file system, eight at a time; raise the first error.

    An item is taken when a thread is free for it.
    """
    # A file system writes its journal once for all that wait for it at a time.
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []
    lock, rest = threading.Lock(), iter(items)

    def run() -> None:
        try:
            while not errors:
                with lock:
                    taken = list(itertools.islice(rest, 1))
                if not taken:
                    return
                if len(threads) < _AT_ONCE - 1:
                    start_another()
                work(taken[0])
        except BaseException as error:
            errors.append(error)

    def start_another() -> None:
        thread = threading.Thread(target=run)
        with contextlib.suppress(RuntimeError):  # at the program's end no thread can start
            thread.start()
            threads.append(thread)

    run()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


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
