"""``packed.bin``: the small arrays of a checkpoint in one file, one after the other.

A file of its own takes a fraction of a millisecond to make and to flush, and in a store a request;
a disk writes 4 MB in a few. So arrays of up to `LIMIT` bytes are written here.

The file has no header. Each array's bytes, in C order and little-endian, begin at the offset
that its entry in the index gives, a multiple of `ALIGNMENT`, so that a mapped file can be an
array on a CPU without a copy. Between arrays there are zeros.
"""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from .._stores.files import File
from ._checksums import as_bytes, crc32c_of
from ._own_entry import Chunk, whole_chunk

FILE_NAME = "packed.bin"
LIMIT = 4 << 20
ALIGNMENT = 64


class Packer:
    """Writes the file, array by array.

    Args:
        path: The file, which must not exist, and which the first array makes; or memory in its
            place; None to compute offsets and checksums only.
    """

    def __init__(self, path: Path | BytesIO | None):
        self._path = path
        self._file: IO[bytes] | None = None
        self._end = 0

    def add(self, array: np.ndarray[Any, Any]) -> tuple[int, Chunk]:
        """Write an array; return where it begins, and all of it as a chunk."""
        if self._file is None:
            self._file = self._opened()
        offset, data = self._end, as_bytes(array)
        self._file.write(data.data)
        padding = -len(data) % ALIGNMENT
        if padding:
            self._file.write(bytes(padding))
        self._end += len(data) + padding
        return offset, whole_chunk(array.shape, crc32c_of(data))

    def _opened(self) -> IO[bytes]:
        if isinstance(self._path, BytesIO):
            return self._path
        name, mode = (os.devnull, "wb") if self._path is None else (self._path, "xb")
        return open(name, mode, buffering=1 << 18)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        # Of a file, another thread may be flushing it.
        if self._file is not None and (kind is not None or self._path is None):
            self._file.close()

    def finish(self) -> Callable[[], None]:
        """Complete the file; return how to flush it to disk and close it."""
        if self._file is not None:
            self._file.flush()
        return self._to_disk

    def _to_disk(self) -> None:
        if self._file is not None:
            with self._file:
                os.fsync(self._file.fileno())


def read(file: File, offset: int, into: np.ndarray[Any, Any]) -> None:
    """Read one array of ``packed.bin``.

    Args:
        file: The file.
        offset: Where the array begins.
        into: Memory for it, in C order.

    Raises:
        ValueError: If the file ends too soon.
        OSError: If it can't be read.
    """
    file.read_into(offset, into.reshape(-1).view(np.uint8).data)
