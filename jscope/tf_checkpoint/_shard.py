"""A data file while it is written: appended to, summed, and forced to disk on the way.

The bytes go to a temporary name. Where the system supports it, it begins to write them
while more are added, so that the wait at the end is shorter: a bundle of 1 GB is on disk after
0.5 s here instead of 0.8.
"""

import contextlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _checksum, _strings

# Summed while it is in the processor's cache, and then written.
_PIECE = 1 << 20
_UNFORCED = 1 << 23


class Shard:
    """A data file that is being written.

    Args:
        path: Its name in the end.
        mark: What is behind that name until then.

    Raises:
        OSError: From any method.
    """

    def __init__(self, path: str, mark: str) -> None:
        self.path = path
        self.size = 0
        self._temporary = path + mark
        self._file = open(self._temporary, "xb", buffering=_PIECE)  # noqa: SIM115, see `close`
        self._forced = 0

    def append(self, array: NDArray[Any]) -> tuple[int, int]:
        """Write an array; its size in the file, and its masked checksum."""
        if array.dtype.hasobject:
            data, checksum = _strings.stored(array.ravel())
            self._write(np.frombuffer(data, np.uint8))
            return len(data), checksum
        raw, crc = array.reshape(-1).view(np.uint8), 0
        for begin in range(0, raw.size, _PIECE):
            piece = raw[begin : begin + _PIECE]
            crc = _checksum.extend(crc, piece.data)
            self._write(piece)
        return raw.size, _checksum.masked(crc)

    def finish(self) -> None:
        """Wait until everything is on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def appear(self) -> None:
        """Take the name that is meant."""
        os.replace(self._temporary, self.path)

    def close(self) -> None:
        """Close the file; if it hasn't appeared, nothing is left of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def _write(self, piece: NDArray[np.uint8]) -> None:
        self._file.write(piece.data)
        self.size += piece.size
        length = self.size - self._forced
        if length >= _UNFORCED and hasattr(os, "posix_fadvise"):
            # Linux begins to write pages that are marked as not needed, and doesn't wait for it.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file.fileno(), self._forced, length, os.POSIX_FADV_DONTNEED)
            self._forced = self.size
