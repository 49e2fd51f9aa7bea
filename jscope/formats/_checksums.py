"""CRC-32C of arrays and of boxes of them.

The checksum of an array is that of its elements' bytes in C order, as NumPy holds them in memory
on a little-endian machine. It is computed where the array is, without a copy if it is contiguous.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tf_checkpoint._crc32c import extend_crc32c
from ._own_entry import Chunk


def as_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of an array in C order, as ``uint8``, without a copy if it has them so."""
    # Arrays of dtypes that NumPy doesn't know have no buffer of their own, and zero-dimensional
    # ones can't be viewed as another dtype.
    return array.ravel().view(np.uint8)


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of an array in C order, without a copy if it has them so."""
    return as_bytes(array).data


def crc32c(array: np.ndarray[Any, Any]) -> int:
    """The checksum of an array: the CRC-32C of its bytes in C order."""
    return crc32c_of(as_bytes(array))


def crc32c_of(data: bytes | memoryview | np.ndarray[Any, Any]) -> int:
    """The checksum of some bytes, their CRC-32C."""
    return extend_crc32c(0, data)


def chunk_of(start: Sequence[int], array: np.ndarray[Any, Any]) -> Chunk:
    """Compute an array's checksum, for the chunk that it is from ``start`` of the whole on."""
    return Chunk(tuple(start), array.shape, crc32c(array))
