"""A file's bytes, mapped into memory, and files that appear at once.

Nothing is read before access: a page of the file is read when a byte of it is used, and an array
over the mapping needs no memory of its own. The mapping lives as long as the last
array over it. A file that another process cuts short while it is mapped can't be read
safely; TensorFlow and `Writer` replace files instead, which leaves a mapping as it was.
"""

import contextlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterator

from .._errors import CheckpointError, CheckpointNotFoundError, JscopeError
from ._bytes import Span


def map_file(path: str) -> Span:
    """All bytes of a file, read-only.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointNotFoundError(
            f"{path} is missing. Copy it beside the other files of the checkpoint."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a regular file, so not a checkpoint's.")
        if not status.st_size:
            return Span(b"", path)
        mapped = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    return Span(memoryview(mapped), path)


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """What the system refuses, as a `CheckpointError`."""
    try:
        yield
    except JscopeError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{what} can't be written: {error.strerror} ({error.filename or what})."
        ) from error


def appear(path: str, data: bytes) -> None:
    """Write a file that readers never see incomplete."""
    temporary = f"{path}.tempstate{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(path)


def sync_directory(path: str) -> None:
    """Force the names in a file's directory to disk."""
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
