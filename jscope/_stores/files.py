"""The contents of a checkpoint's directory, and the only way in which its files are opened.

A checkpoint may come from an untrusted source, so its index is compared with the directory before
anything is opened or allocated. Names of an index are looked up in the `Contents`; none is ever a
path. So nothing outside the directory is opened.

Only regular files count. Symbolic links are not followed: a link can name any file
of the machine. The directory itself may be a link, such as to a step on another disk.
"""

import contextlib
import dataclasses
import errno
import functools
import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from .remote import AnyPath, RemotePath

T = TypeVar("T")

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True)
class Contents:
    """The files in a directory, at any depth.

    Attributes:
        directory: The directory.
        sizes: The sizes of the regular files in bytes, by their names in the directory, whose
            parts are joined by ``/``.
        others: The names of what is neither a regular file nor a directory: links, pipes, devices.
    """

    directory: Path
    sizes: Mapping[str, int]
    others: frozenset[str]

    def size(self, name: str) -> int:
        """The size of a file.

        Raises:
            ValueError: If there is no regular file of this name.
        """
        size = self.sizes.get(name)
        if size is None:
            raise ValueError(self._why_not(name))
        return size

    def below(self, name: str) -> int:
        """The bytes of all files in the directory of this name; of all, if it is empty.

        Raises:
            ValueError: If there is something else in it than files and directories.
        """
        other = next((o for o in self.others if not name or f"{o}/".startswith(f"{name}/")), None)
        if other is not None:
            raise ValueError(self._why_not(other))
        return self._totals[name]

    @functools.cached_property
    def _totals(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for name, size in self.sizes.items():
            totals[""] += size
            totals[name.partition("/")[0]] += size
        return totals

    def _why_not(self, name: str) -> str:
        ways = [name, *map(str, PurePosixPath(name).parents)] if self.others else []
        other = next((way for way in ways if way in self.others), None)
        return f"{name} is gone" if other is None else not_regular(other)


def contents(directory: Path) -> Contents:
    """List the regular files in the directory of a checkpoint, with their sizes.

    Raises:
        OSError: If it can't be listed. Files that are removed meanwhile are left out.
    """
    sizes: dict[str, int] = {}
    others = set()
    todo = [""]
    while todo:
        parent = todo.pop()
        try:
            with os.scandir(directory / parent) as found:
                for entry in found:
                    name = parent + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{name}/")
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            sizes[name] = entry.stat(follow_symlinks=False).st_size
                    else:
                        others.add(name)
        except FileNotFoundError:
            if not parent:
                raise
    return Contents(directory, sizes, frozenset(others))


class File(Protocol):
    """A file or an object, opened for reading.

    Attributes:
        path: Where it is.
    """

    @property
    def path(self) -> AnyPath: ...

    @property
    def size(self) -> int:
        """Its bytes. Of an object that may take requests: prefer `has_size`."""

    def has_size(self, size: int) -> bool:
        """Whether it has so many bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """A range of its bytes.

        Raises:
            ValueError: If it ends before the range does.
            OSError: If it can't be read.
        """

    def read_into(self, start: int, into: memoryview) -> None:
        """Fill memory with its bytes from ``start`` on.

        Raises:
            ValueError, OSError: As `read`.
        """

    def close(self) -> None:
        """Close it."""


class LocalFile:
    """A regular file of a file system, as a `File`.

    Args:
        path: The file.
        descriptor: It, opened; `close` closes it.
    """

    def __init__(self, path: Path, descriptor: int):
        self.path = path
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """As `File.size`; as it is now."""
        return os.fstat(self.descriptor).st_size

    def has_size(self, size: int) -> bool:
        """As `File.has_size`."""
        return self.size == size

    def read(self, start: int, stop: int) -> bytes:
        """As `File.read`."""
        data = bytearray(min(stop, self.size) - start if stop > start else 0)
        self.read_into(start, memoryview(data))
        if len(data) < stop - start:
            raise ValueError(_ends_at(self.path, start + len(data)))
        return bytes(data)

    def read_into(self, start: int, into: memoryview) -> None:
        """As `File.read_into`."""
        at = 0
        while at < len(into):
            count = os.preadv(self.descriptor, [into[at:]], start + at)
            if count == 0:
                raise ValueError(_ends_at(self.path, start + at))
            at += count

    def close(self) -> None:
        """As `File.close`."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class RemoteFile:
    """An object of a store, as a `File`; opening it makes no request.

    Args:
        path: The object.
    """

    def __init__(self, path: RemotePath):
        self.path = path

    @functools.cached_property
    def size(self) -> int:
        """As `File.size`."""
        return self._there(self.path.bucket.size(self.path.key))

    def has_size(self, size: int) -> bool:
        """As `File.has_size`."""
        return self._there(self.path.bucket.has_size(self.path.key, size))

    def read(self, start: int, stop: int) -> bytes:
        """As `File.read`."""
        if stop <= start:
            return b""
        return self._there(self.path.bucket.read(self.path.key, start, stop))

    def read_into(self, start: int, into: memoryview) -> None:
        """As `File.read_into`."""
        self.path.bucket.read_into(self.path.key, start, into)

    def close(self) -> None:
        """As `File.close`; nothing is held."""

    def _there(self, found: T | None) -> T:
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self.path))
        return found


def open_file(path: AnyPath) -> File:
    """Open a regular file, or an object, for reading.

    Raises:
        ValueError: If it is not one: a pipe, which might never end, or a link.
        OSError: If it can't be opened. Of an object only reading shows that.
    """
    if isinstance(path, RemotePath):
        return RemoteFile(path)
    return LocalFile(path, open_descriptor(path))


def open_descriptor(path: Path) -> int:
    """Open a regular file for reading; return its descriptor.

    Raises:
        ValueError, OSError: As `open_file`.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        if path.is_symlink():
            raise ValueError(not_regular(path.name)) from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError(not_regular(path.name))


def read_file(path: AnyPath, most: int | None = None) -> bytes:
    """The bytes of a regular file or an object, or the first ones.

    Raises:
        ValueError: As `open_file`.
        OSError: If it can't be read.
    """
    if isinstance(path, RemotePath):
        return path.read_bytes()[:most]
    with os.fdopen(open_descriptor(path), "rb") as file:
        return file.read(-1 if most is None else most)


def _ends_at(path: AnyPath, end: int) -> str:
    return f"{path.name} ends at byte {end}"


def not_regular(name: str) -> str:
    """Compose the error for a file that is not read."""
    return (
        f"{name} is not a regular file, and links in a checkpoint are not followed: copy the "
        "checkpoint with its files, as cp -rL does"
    )
