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

import numpy as np
from numpy.typing import NDArray

from .._errors import CheckpointError, CheckpointNotFoundError, JscopeError
from ._span import Span


class File:
    """The bytes of one file.

    Attributes:
        name: Its path, for messages.
        data: Its bytes, read-only.
    """

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: NDArray[np.uint8]) -> None:
        self.name = name
        self.data = data

    def span(self, offset: int, size: int, what: str) -> Span:
        """So many bytes from an offset on, if the file has them."""
        if offset < 0 or size < 0 or offset + size > self.data.size:
            raise Span(b"", self.name, offset).error(
                0, f"{what} of {size} bytes", f"a file of {self.data.size} bytes"
            )
        return Span(self.data[offset : offset + size].data, self.name, offset)


def map_file(path: str) -> File:
    """Map a file.

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
            return File(path, np.empty(0, np.uint8))
        mapped = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    return File(path, np.frombuffer(mapped, np.uint8))


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
