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
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from .remote import AnyPath, RemotePath

T = TypeVar("T")

# Of an object that is read piece by piece.
_SMALL = 1 << 20
_LEAST, _AHEAD = 1 << 16, 8 << 20
_GAP = 1 << 12

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True)
class Contents:
    """The names and sizes of the files below a directory, as they were listed.

    Attributes:
        directory: The directory.
        sizes: The sizes of the regular files in bytes, by their names in the directory, whose
            parts are joined by ``/``.
        others: The names of what is neither a regular file nor a directory: links, pipes, devices.
    """

    directory: AnyPath
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


def contents(directory: AnyPath, known: Mapping[str, int] | None = None) -> Contents:
    """List the regular files below a directory, with their sizes.

    Args:
        directory: The directory.
        known: Sizes by name, for a store, which lists none; what it lacks counts as 0.

    Raises:
        OSError: If it can't be listed. Files that are removed meanwhile are left out.
    """
    if isinstance(directory, RemotePath):
        there = {name: (known or {}).get(name, 0) for name in directory.names()}
        return Contents(directory, there, frozenset())
    sizes: dict[str, int] = {}
    others = set()
    todo = [""]
    while todo:
        parent = todo.pop()
        try:
            with os.scandir(directory / parent) as entries:
                for entry in entries:
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


class EndOfFileError(ValueError):
    """The error of reading a `File` past its end.

    Attributes:
        end: Where it ends.
    """

    def __init__(self, path: AnyPath, end: int):
        super().__init__(f"{path.name} ends at byte {end}")
        self.end = end


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

    def fill(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fill several pieces of memory, each from a start on.

        Raises:
            ValueError, OSError: As `read`.
        """

    def begin_fill(self, parts: Iterable[tuple[int, memoryview]]) -> Callable[[], None]:
        """As `fill`, and return how to wait; of an object it is under way meanwhile.

        Raises:
            ValueError, OSError: As `read`; so does what is returned.
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
        data = bytearray(max(0, min(stop, self.size) - start))
        self.read_into(start, memoryview(data))
        if len(data) < stop - start:
            raise EndOfFileError(self.path, start + len(data))
        return bytes(data)

    def read_into(self, start: int, into: memoryview) -> None:
        """As `File.read_into`."""
        at = 0
        while at < len(into):
            count = os.preadv(self.descriptor, [into[at:]], start + at)
            if count == 0:
                raise EndOfFileError(self.path, start + at)
            at += count

    def fill(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """As `File.fill`."""
        for start, into in parts:
            self.read_into(start, into)

    def begin_fill(self, parts: Iterable[tuple[int, memoryview]]) -> Callable[[], None]:
        """As `File.begin_fill`; done at once."""
        self.fill(parts)
        return lambda: None

    def close(self) -> None:
        """As `File.close`."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class RemoteFile:
    """A `File`, as `LocalFile` is one, that is an object of a store; opening it makes no request.

    Each reading is a request. Of small ones that follow each other more is read at each, if the
    object's size is known: up to `_AHEAD` bytes.

    Args:
        path: The object.
        size: Its size, if that is known.
    """

    def __init__(self, path: RemotePath, size: int | None = None):
        self.path = path
        self._size = size
        self._lock = threading.Lock()
        self._held = (0, b"")  # what has been read ahead, and where it begins
        self._next = 0  # where the last reading ended
        self._ahead = 0

    @property
    def size(self) -> int:
        """As `File.size`."""
        if self._size is None:
            self._size = self._there(self.path.bucket.size(self.path.key))
        return self._size

    def has_size(self, size: int) -> bool:
        """As `File.has_size`."""
        if self._size is None and self._there(self.path.bucket.has_size(self.path.key, size)):
            self._size = size
        return self._size == size

    def read(self, start: int, stop: int) -> bytes:
        """As `File.read`."""
        if stop <= start:
            return b""
        return self._there(self.path.bucket.read(self.path.key, start, stop))

    def read_into(self, start: int, into: memoryview) -> None:
        """As `File.read_into`."""
        with self._lock:
            at, held = self._held
            # Between the arrays of a file there may be some bytes of padding.
            is_next = 0 <= start - self._next < _GAP
            self._next = start + len(into)
            found = held[start - at : self._next - at] if at <= start else b""
            into[: len(found)] = found
            rest = into[len(found) :]
            if rest:
                self._ahead = min(_AHEAD, max(_LEAST, 4 * self._ahead)) if is_next else 0
                self._read_on(start + len(found), rest)

    def _read_on(self, start: int, into: memoryview) -> None:
        """Read what isn't held, and more if it is small."""
        stop = start + len(into)
        ahead = min(self._size or 0, stop + self._ahead)
        if len(into) > _SMALL or ahead <= stop:
            self.fill([(start, into)])
            return
        data = self.read(start, ahead)
        self._held = start, data
        into[:] = data[: len(into)]

    def fill(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """As `File.fill`; some at once."""
        self.path.bucket.fill(self.path.key, parts)

    def begin_fill(self, parts: Iterable[tuple[int, memoryview]]) -> Callable[[], None]:
        """As `File.begin_fill`."""
        return self.path.bucket.begin_fill(self.path.key, parts)

    def close(self) -> None:
        """As `File.close`; nothing is open."""

    def _there(self, found: T | None) -> T:
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self.path))
        return found


def open_file(path: AnyPath, *, follow: bool = False) -> File:
    """Open a regular file, or an object, for reading.

    Args:
        path: The file.
        follow: Whether it may be a link. Not in jscope's own checkpoints, which may come from
            anywhere; other libraries keep files behind links.

    Raises:
        ValueError: If it is not one: a pipe, which might never end, or a link.
        OSError: If it can't be opened. Of an object only reading shows that.
    """
    if isinstance(path, RemotePath):
        return RemoteFile(path)
    return LocalFile(path, _descriptor(path, follow))


def _descriptor(path: Path, follow: bool) -> int:
    """Open a regular file to read it as a `LocalFile`; a link only if links are followed."""
    try:
        descriptor = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    except OSError:
        if path.is_symlink() and not follow:
            raise ValueError(not_regular(path.name)) from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError(not_regular(path.name))


def read_file(path: AnyPath, *, follow: bool = False) -> bytes:
    """The bytes of a regular file or an object; the arguments are those of `open_file`.

    Raises:
        ValueError: As `open_file`.
        OSError: If it can't be read.
    """
    if isinstance(path, RemotePath):
        return path.read_bytes()
    with os.fdopen(_descriptor(path, follow), "rb") as file:
        return file.read()


def first_bytes(path: AnyPath, most: int, *, follow: bool = False) -> bytes:
    """The first bytes of a regular file or an object; of a shorter one all.

    Raises:
        ValueError: As `open_file`.
        OSError: If it can't be read.
    """
    if isinstance(path, RemotePath):
        return path.first_bytes(most)
    with os.fdopen(_descriptor(path, follow), "rb") as file:
        return file.read(most)


def not_regular(name: str) -> str:
    """Compose the error: what is to be opened as a `File` is not a regular file."""
    return (
        f"{name} is not a regular file, and links in a checkpoint are not followed: copy the "
        "checkpoint with its files, as cp -rL does"
    )
