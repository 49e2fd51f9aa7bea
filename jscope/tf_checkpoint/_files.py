"""A file's bytes, mapped into memory, and files that appear at once.

Nothing is read before access: a page of the file is read when a byte of it is used, and an array
over the mapping needs no memory of its own. The mapping lives as long as the last
array over it. A file that another process cuts short while it is mapped can't be read
safely; TensorFlow and `Writer` replace files instead, which leaves a mapping as it was.
"""

import contextlib
import fnmatch
import glob
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import Protocol

from .._errors import CheckpointError, CheckpointNotFoundError, JscopeError
from .._stores.errors import StoreError
from .._stores.files import RemoteFile
from .._stores.paths import is_url, located
from .._stores.remote import RemotePath, children
from ._bytes import Span


def map_file(path: str) -> Span:
    """All bytes of a file, read-only; those of an object are read now.

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
        raise _missing(path) from None
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


class Part(Protocol):
    """A file of which parts can be had: a `Span`, or an object."""

    def part(self, offset: int, size: int, what: str) -> Span:
        """As `Span.part`."""


def open_parts(path: str, size: int) -> Part:
    """A file of which parts are read when they are requested.

    Args:
        path: The file.
        size: Its size, as far as is known: that of an object is not asked for.

    Raises:
        CheckpointNotFoundError: If there is none. Of an object only reading shows that.
        CheckpointError: If it can't be read.
    """
    return _Object(path, size) if is_url(path) else map_file(path)


class _Object:
    """An object of a store, as a `Part`."""

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
            raise _missing(self._path) from None
        except ValueError as error:
            whole = Span(b"", self._path)
            raise whole.error(offset, f"{what} of {size} bytes", f"an end: {error}") from None
        return Span(data, self._path, offset)


def is_file(path: str) -> bool:
    """Whether there is a file, or an object."""
    return located(path).is_file() if is_url(path) else os.path.isfile(path)


def is_directory(path: str) -> bool:
    """Whether there is a directory, or an object below it."""
    return located(path).is_dir() if is_url(path) else os.path.isdir(path)


def names_in(directory: str) -> list[str]:
    """The names in a directory; none if it can't be listed."""
    try:
        if is_url(directory):
            return [path.name for path in children(located(directory))]
        return os.listdir(directory)
    except StoreError:
        raise
    except OSError:
        return []


def matching(pattern: str) -> list[str]:
    """The files that a pattern of `glob` matches; in a store only its last component is one."""
    if not is_url(pattern):
        return glob.glob(pattern)
    directory, _, last = pattern.rpartition("/")
    start = _MAGIC.split(last)[0]
    remote = located(f"{directory}/{start}" if start else directory)
    assert isinstance(remote, RemotePath)
    names = remote.beginning_with() if start else [path.name for path in remote.iterdir()]
    return [f"{directory}/{name}" for name in names if fnmatch.fnmatchcase(name, last)]


_MAGIC = re.compile(r"[*?\[]")


def last_bytes(path: str, count: int) -> bytes:
    """The last bytes of a file, or none if it is shorter."""
    remote = located(path) if is_url(path) else None
    if not isinstance(remote, RemotePath):
        return map_file(path).data[-count:].tobytes()
    try:
        return remote.bucket.read(remote.key, -count) or b""
    except StoreError:
        raise
    except ValueError:
        return b""


def _missing(path: str) -> CheckpointNotFoundError:
    return CheckpointNotFoundError(
        f"{path} is missing. Copy it beside the other files of the checkpoint."
    )


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
