"""The bytes of a checkpoint's files, mapped into memory; of an object of a store, read by parts.

Nothing is read before access: a page of the file is read when a byte of it is used, and an array
over the mapping needs no memory of its own. The mapping lives as long as the last
array over it. A file that another process cuts short while it is mapped can't be read
safely; TensorFlow and `Writer` replace files instead, which leaves a mapping as it was.
"""

import mmap
import os
import stat
from typing import Protocol

from .._errors import CheckpointError, CheckpointNotFoundError
from .._stores.errors import StoreError
from .._stores.files import RemoteFile
from .._stores.paths import is_url, located
from .._stores.remote import RemotePath
from ._bytes import Span


def map_file(path: str) -> Span:
    """Map all bytes of a TensorFlow checkpoint's file, read-only; those of an object are read now.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it can't be read.
    """
    remote = located(path) if is_url(path) else None
    try:
        if isinstance(remote, RemotePath):
            return Span(remote.read_bytes(), path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except StoreError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise _missing_file(path) from None
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


class PartialFile(Protocol):
    """A data file of which parts can be had: a mapped one, or an object of a store."""

    def part(self, offset: int, size: int, what: str) -> Span:
        """As `Span.part`."""


def open_parts(path: str, size: int) -> PartialFile:
    """Map a data file, or open an object, to read parts of it when they are requested.

    Args:
        path: The file.
        size: Its size, as far as is known: that of an object is not asked for.

    Raises:
        CheckpointNotFoundError: If there is none. Of an object only reading shows that.
        CheckpointError: If it can't be read.
    """
    return _RemoteParts(path, size) if is_url(path) else map_file(path)


class _RemoteParts:
    """An object of a store in place of a mapped file; each part that is read is a request."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        remote = located(path)
        assert isinstance(remote, RemotePath)
        self._file = RemoteFile(remote, size)

    def part(self, offset: int, size: int, what: str) -> Span:
        data = bytearray(size)
        try:
            self._file.read_into(offset, memoryview(data))
        except StoreError:
            raise
        except FileNotFoundError:
            raise _missing_file(self._path) from None
        except ValueError as error:
            whole = Span(b"", self._path)
            raise whole.error(offset, f"{what} of {size} bytes", f"an end: {error}") from None
        return Span(data, self._path, offset)


def last_bytes(path: str, count: int) -> bytes:
    """The last bytes of a mapped file or an object; none if it is shorter."""
    remote = located(path) if is_url(path) else None
    if not isinstance(remote, RemotePath):
        return map_file(path).data[-count:].tobytes()
    try:
        return remote.bucket.read(remote.key, -count) or b""
    except StoreError:
        raise
    except ValueError:
        return b""


def _missing_file(path: str) -> CheckpointNotFoundError:
    """Compose the error: a file to be mapped, of a TensorFlow checkpoint, is not there."""
    return CheckpointNotFoundError(
        f"{path} is missing. Copy it beside the other files of the checkpoint."
    )
