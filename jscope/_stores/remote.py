"""Paths in object stores: the part of `pathlib.Path` that reading needs.

An object store has objects alone. A *directory* is what any object's key continues with ``/``.

Paths that are made of one another share what has been listed: below a directory all at once, and
only once. So they show a store as it was then; `fresh` gives a path that looks anew.
"""

import errno
import fnmatch
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from .bucket import Bucket
from .errors import StoreError

# What is read of an object to see what it is.
_FIRST = 1 << 10


class RemotePath:
    """A path in an object store, such as ``s3://bucket/run/12``; immutable.

    Args:
        bucket: Its bucket.
        key: The key of an object, or of a directory without the last ``/``.
    """

    __slots__ = ("_listings", "bucket", "key")

    def __init__(self, bucket: Bucket, key: str, listings: "_Listings | None" = None):
        self.bucket = bucket
        self.key = key
        self._listings = _Listings(bucket) if listings is None else listings

    @property
    def name(self) -> str:
        """The last component; of a bucket ``""``."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As `pathlib.Path.suffix`."""
        return Path(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        """What it is in; of a bucket itself."""
        return self._of(self.key.rpartition("/")[0])

    def __truediv__(self, name: str) -> "RemotePath":
        return self._of(f"{self.key}/{name}".strip("/"))

    def with_name(self, name: str) -> "RemotePath":
        """Another one beside it."""
        return self.parent / name

    def is_file(self) -> bool:
        """Whether it is an object."""
        return bool(self.key) and self._listings.is_file(self.key)

    def is_dir(self) -> bool:
        """Whether there is an object below it."""
        return not self.key or bool(self._listings.below(self.key))

    def exists(self) -> bool:
        """Whether it is one of the two."""
        return self.is_file() or self.is_dir()

    def is_symlink(self) -> bool:
        """False: there are no links in object stores."""
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """What is directly below it, in order.

        Raises:
            FileNotFoundError: If there is nothing.
        """
        names = self.names()
        if not names and self.key:
            raise FileNotFoundError(errno.ENOENT, "No such directory", str(self))
        return iter([self / name for name in dict.fromkeys(n.partition("/")[0] for n in names)])

    def glob(self, pattern: str) -> list["RemotePath"]:
        """The objects below it whose names match a pattern of as many components."""
        depth = pattern.count("/")
        names = [name for name in self.names() if name.count("/") == depth]
        return [self / name for name in names if fnmatch.fnmatchcase(name, pattern)]

    def names(self) -> list[str]:
        """The names of all objects below it, at any depth, sorted."""
        return self._listings.below(self.key)

    def beginning_with(self) -> list[str]:
        """The names beside it that begin as its own does; only these are listed."""
        start = len(self.key) - len(self.name)
        keys = self.bucket.keys(self.key)
        return list(dict.fromkeys(key[start:].partition("/")[0] for key in keys))

    def read_bytes(self) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: If there is none.
        """
        data = self._listings.read(self.key)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self))
        return data

    def first_bytes(self, most: int) -> bytes:
        """The first bytes of the object, all of a shorter one; they are kept, as listings are.

        Raises:
            FileNotFoundError: If there is none.
        """
        data = self._listings.first_bytes(self.key, most)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", str(self))
        return data[:most]

    def fresh(self) -> "RemotePath":
        """The same path, of which nothing is listed yet."""
        return RemotePath(self.bucket, self.key)

    def _of(self, key: str) -> "RemotePath":
        return RemotePath(self.bucket, key, self._listings)

    def __str__(self) -> str:
        return self.bucket.url(self.key)

    __fspath__ = __str__

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return _made, (self.bucket.scheme, self.bucket.name, self.key)


AnyPath: TypeAlias = Path | RemotePath


def fresh(path: AnyPath) -> AnyPath:
    """A `RemotePath` without what it has listed, so that it looks anew; a local path as it is."""
    return path if isinstance(path, Path) else path.fresh()


def children(directory: AnyPath, pattern: str = "") -> list[AnyPath]:
    """List what is directly below a `RemotePath` or a local path, or matches a pattern, by name.

    Raises:
        OSError: If it can't be listed.
    """
    found: Iterable[AnyPath] = directory.glob(pattern) if pattern else directory.iterdir()
    return sorted(found, key=lambda path: path.name)


def _made(scheme: str, bucket: str, key: str) -> RemotePath:
    """A remote path of these parts, for `RemotePath.__reduce__`."""
    return RemotePath(Bucket(scheme, bucket), key)


class _Listings:
    """What remote paths that are made of one another have listed of their bucket."""

    def __init__(self, bucket: Bucket):
        self._bucket = bucket
        self._below: dict[str, list[str]] = {}
        self._is_file: dict[str, bool] = {}
        self._first: dict[str, bytes] = {}

    def below(self, directory: str) -> list[str]:
        """The names of the objects below a directory, ``""`` for the bucket."""
        known = self._covering(directory)
        if known is None:
            prefix = f"{directory}/" if directory else ""
            keys = self._bucket.keys(prefix)
            names = [key[len(prefix) :] for key in keys]
            # A key that ends with "/" stands for an empty directory in some programs.
            self._below[directory] = [name for name in names if "" not in name.split("/")]
            known = directory
        if known == directory:
            return self._below[directory]
        start = directory[len(known) :].lstrip("/") + "/"
        names = self._below[known]
        # What begins with "a/" comes before "a0", the next character.
        first, last = bisect_left(names, start), bisect_left(names, start[:-1] + "0")
        return [name[len(start) :] for name in names[first:last]]

    def is_file(self, key: str) -> bool:
        """Whether there is an object of a key."""
        known = self._covering(key.rpartition("/")[0])
        if known is not None:
            name, names = key[len(known) :].lstrip("/"), self._below[known]
            return name in names[(at := bisect_left(names, name)) : at + 1]
        if key not in self._is_file:
            self._is_file[key] = self._bucket.exists(key)
        return self._is_file[key]

    def read(self, key: str) -> bytes | None:
        """A whole object as it is now, None if there is none."""
        data = self._bucket.read(key)
        if data is not None:
            self._first[key] = data[:_FIRST]
        return data

    def first_bytes(self, key: str, most: int) -> bytes | None:
        """At least the first bytes of an object, None if there is none."""
        if key not in self._first or most > _FIRST:
            try:
                known = self._bucket.read(key, 0, max(most, _FIRST))
            except StoreError:
                raise
            except ValueError:  # it is shorter
                known = self._bucket.read(key)
            if known is None:
                return None
            self._first[key] = known
        return self._first[key]

    def _covering(self, directory: str) -> str | None:
        """A directory that has been listed and has this one in it, or is it."""
        while directory not in self._below:
            if not directory:
                return None
            directory = directory.rpartition("/")[0]
        return directory
