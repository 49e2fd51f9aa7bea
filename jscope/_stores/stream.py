"""A file or an object as a stream, for libraries that read streams."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from .files import File, open_file
from .remote import AnyPath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What `zipfile` reads at a time is small, and each reading of an object is a request.
_AHEAD = 1 << 16


@contextlib.contextmanager
def opened_stream(path: AnyPath) -> Iterator[BinaryIO]:
    """Open a file or an object as a stream; links are followed.

    Raises:
        OSError: If it can't be opened.
    """
    if isinstance(path, Path):
        with path.open("rb") as local:
            yield local
    else:
        yield cast(BinaryIO, io.BufferedReader(_Stream(open_file(path)), _AHEAD))


class _Stream(io.RawIOBase):
    """The stream of a file's or an object's bytes, from a position on."""

    def __init__(self, file: File):
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self._file.size if start is None else start)
        if self._at < 0:
            self._at = 0
            raise ValueError(f"there is no byte {offset}")
        return self._at

    def readinto(self, into: "WriteableBuffer") -> int:
        memory = memoryview(into).cast("B")
        count = max(0, min(len(memory), self._file.size - self._at))
        self._file.read_into(self._at, memory[:count])
        self._at += count
        return count
