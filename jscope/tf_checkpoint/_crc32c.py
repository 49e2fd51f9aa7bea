"""CRC-32C (Castagnoli), and the form in which TensorFlow stores it.

TensorFlow stores a checksum masked,
``masked(c) = (c >> 15 | c << 17) + 0xA282EAD8  (mod 2^32)``. A checksum is stored beside bytes
that may contain checksums themselves; the mask keeps the checksum of such bytes from being a
constant. That of ``b"123456789"`` is ``0xE3069283``, which is stored as ``0xC78AB0E5``.
"""

from typing import Any

import google_crc32c
import numpy as np

# The library holds the interpreter's lock while it sums, 11 GB a second here, so long runs of
# bytes go to it in pieces.
_PIECE = 1 << 22


def extend_crc32c(crc: int, data: bytes | memoryview | np.ndarray[Any, Any]) -> int:
    """The CRC-32C of the bytes summed so far, followed by these; an array is one of ``uint8``."""
    # The library takes no memoryview, but an array over one.
    array = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    if array.size <= _PIECE:
        return int(google_crc32c.extend(crc, array))
    for begin in range(0, array.size, _PIECE):
        crc = google_crc32c.extend(crc, array[begin : begin + _PIECE])
    return crc


def masked_crc32c(crc: int) -> int:
    """A CRC-32C in the masked form in which TensorFlow stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def masked_crc32c_of(data: bytes | memoryview) -> int:
    """The CRC-32C of bytes, in the masked form in which TensorFlow stores it."""
    return masked_crc32c(extend_crc32c(0, data))
