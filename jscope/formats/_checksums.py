"""CRC-32C of arrays and of boxes of them.

The checksum of an array is that of its elements' bytes in C order, as NumPy holds them in memory
on a little-endian machine. It is computed where the array is, without a copy if it is contiguous.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._own_entry import Chunk

# The library holds Python's global lock while it computes: half a millisecond for this size.
_AT_ONCE = 8 << 20


def crc32c(array: np.ndarray[Any, Any]) -> int:
    """The CRC-32C of an array's bytes in C order."""
    import google_crc32c

    # Zero-dimensional arrays can't be viewed as another dtype.
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    crc: int = google_crc32c.extend(0, data[:_AT_ONCE])
    for start in range(_AT_ONCE, len(data), _AT_ONCE):
        crc = google_crc32c.extend(crc, data[start : start + _AT_ONCE])
    return crc


def crc32c_of(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    return crc32c(np.frombuffer(data, np.uint8))


def chunk_of(start: Sequence[int], array: np.ndarray[Any, Any]) -> Chunk:
    """The chunk that an array is, if it begins at ``start`` of the whole."""
    return Chunk(tuple(start), array.shape, crc32c(array))
