"""What a checkpoint is written by: the same few operations on a file system and an object store.

Names are those of files below one directory, their components joined by ``/``. Each operation is
atomic by itself and durable when it returns; nothing is renamed. That is all that a commit by an
index that is written last needs:

============  =================================  =============================================
operation     on a file system                   in an object store
============  =================================  =============================================
`create`      a flushed temporary file and       a PUT on condition that there is no such key
              ``link(2)``
`write`       the same and ``rename(2)``         a PUT
`write_all`   files that are flushed             PUTs, some at a time
`remove`      ``unlink(2)``                      DELETEs
============  =================================  =============================================

After each, the directories are flushed. Readers find a file that `write_all` has not finished; it
is for data that nothing refers to yet.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from .._errors import CheckpointExistsError
from .disk import flush, in_threads, make_directory
from .files import first_bytes, read_file
from .new_file import NewFile
from .remote import AnyPath, RemotePath

Data = bytes | bytearray | memoryview

HEAD = 256


class Store(Protocol):
    """What a store does: create, write, read, list and remove files below a directory.

    Attributes:
        root: The directory.
    """

    @property
    def root(self) -> AnyPath: ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of this name; whether this call has written it.

        Of an object store whose answer is lost, one that has these very bytes counts as written.
        So let no two writers create the same bytes.

        Raises:
            OSError: If it can't be written; then it is unknown whether it is.
        """

    def write(self, name: str, data: bytes) -> None:
        """Write a file, also in place of another: readers find the one or the other.

        Raises:
            OSError: As `create`.
        """

    def write_all(self, files: Iterable[tuple[str, Data]]) -> None:
        """Write files that nobody reads yet; each is taken when there is room for it.

        Raises:
            OSError: If one can't be written; others may be.
        """

    def read(self, name: str) -> bytes | None:
        """A small file, or None if there is none.

        Raises:
            ValueError: If it is a link, or not a regular file.
            OSError: If it can't be read.
        """

    def head(self, name: str) -> bytes | None:
        """The first `HEAD` bytes of a file, or more; None if there is none.

        Raises:
            ValueError, OSError: As `read`.
        """

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and the directories that are empty then; those that are gone are gone.

        Raises:
            OSError: If one can't be removed; others may be.
        """

    def names(self, below: str = "") -> list[str]:
        """The names of all files in a directory, at any depth, sorted; none if it isn't there.

        Links and temporary files count too. What is written meanwhile may be left out.

        Raises:
            OSError: If it can't be listed.
        """


class LocalStore:
    """A `Store` on a file system: a directory, which its first file makes."""

    def __init__(self, root: Path):
        self.root = root

    def create(self, name: str, data: bytes) -> bool:
        """As `Store.create`."""
        try:
            self._commit(name, data, overwrite=False)
        except CheckpointExistsError:
            return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """As `Store.write`."""
        self._commit(name, data, overwrite=True)

    def write_all(self, files: Iterable[tuple[str, Data]]) -> None:
        """As `Store.write_all`."""
        paths = []
        for name, data in files:
            path = self.root / name
            make_directory(path.parent)
            with path.open("wb", buffering=0) as file:
                _write(file.fileno(), data)
            paths.append(path)
        in_threads(flush, [*paths, *{path.parent for path in paths}])

    def read(self, name: str) -> bytes | None:
        """As `Store.read`."""
        try:
            return read_file(self.root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def head(self, name: str) -> bytes | None:
        """As `Store.head`."""
        try:
            return first_bytes(self.root / name, HEAD)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove(self, names: Iterable[str]) -> None:
        """As `Store.remove`."""
        directories = set()
        for name in names:
            path = self.root / name
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            directories.add(path.parent)
        for directory in sorted(directories, reverse=True):
            self._tidy(directory)

    def names(self, below: str = "") -> list[str]:
        """As `Store.names`."""
        found = []

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        start = self.root / below
        for directory, directories, files in os.walk(start, onerror=fail):
            links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
            at = Path(directory).relative_to(self.root)
            found += [(at / name).as_posix() for name in (*files, *links)]
        return sorted(found)

    def _commit(self, name: str, data: bytes, *, overwrite: bool) -> None:
        path = self.root / name
        make_directory(path.parent)
        with NewFile(path, overwrite=overwrite) as file:
            _write(file.descriptor, data)
            file.commit()

    def _tidy(self, directory: Path) -> None:
        """Remove a directory and those it is in while they are empty, and flush what is left."""
        while directory != self.root:
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # it has files
                break
            directory = directory.parent
        with contextlib.suppress(FileNotFoundError):
            flush(directory)


class BucketStore:
    """A `Store`, as `LocalStore` is one, in a bucket: the keys that begin with a prefix."""

    def __init__(self, root: RemotePath):
        self.root = root

    def create(self, name: str, data: bytes) -> bool:
        """As `Store.create`."""
        return self.root.bucket.create(self._key(name), data)

    def write(self, name: str, data: bytes) -> None:
        """As `Store.write`."""
        self.root.bucket.write(self._key(name), data)

    def write_all(self, files: Iterable[tuple[str, Data]]) -> None:
        """As `Store.write_all`."""
        self.begin_all(files)()

    def begin_all(self, files: Iterable[tuple[str, Data]]) -> Callable[[], None]:
        """As `write_all`, and return how to wait for the last ones.

        Raises:
            StoreError: As `write_all`; so does what is returned.
        """
        return self.root.bucket.begin_all((self._key(name), bytes(data)) for name, data in files)

    def read(self, name: str) -> bytes | None:
        """As `Store.read`."""
        return self.root.bucket.read(self._key(name))

    def head(self, name: str) -> bytes | None:
        """As `Store.head`."""
        try:
            return first_bytes(self.root / name, HEAD)
        except FileNotFoundError:
            return None

    def remove(self, names: Iterable[str]) -> None:
        """As `Store.remove`."""
        self.root.bucket.delete(map(self._key, names))

    def names(self, below: str = "") -> list[str]:
        """As `Store.names`."""
        prefix = f"{below}/" if below else ""
        return [prefix + name for name in (self.root / below).fresh().names()]

    def _key(self, name: str) -> str:
        return (self.root / name).key


def store_of(path: AnyPath) -> Store:
    """The `Store` to write below a path: a `LocalStore` or `BucketStore`; it need not be there."""
    return BucketStore(path) if isinstance(path, RemotePath) else LocalStore(path)


def _write(descriptor: int, data: Data) -> None:
    """Write all bytes of a `Store`'s file, which a `LocalStore` has opened."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
