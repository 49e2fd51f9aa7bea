"""What makes files and directories of a file system durable."""

import contextlib
import ctypes
import errno
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path


def flush(path: Path) -> None:
    """Flush one file of a file system, or the names in one directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What a file system says that lacks links, or a kind of rename.
LACKING = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EMLINK})
AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def rename_to_free(source: Path, target: Path) -> None:
    """Give a file another name, unless that is taken.

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
    """Linux's rename with flags, or None."""
    try:
        found: Callable[..., int] = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    return found


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
    in_threads(flush, paths)


def in_threads(work: Callable[[Path], None], paths: list[Path]) -> None:
    """Flush many paths, eight at a time, or do something else to them; raise the first error."""
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
