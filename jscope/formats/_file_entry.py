"""`Entry`: what is known of a variable in a file before its bytes are read."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from ._boxes import Box

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Entry:
    """One variable of an opened file of another library, before its bytes are read.

    The commands show the variables of every checkpoint as such.

    Attributes:
        shape: Its shape.
        dtype: NumPy's or ml_dtypes' dtype of what `read` gives; ``object`` for bytes.
        nbytes: The bytes that it takes in memory.
        read: Reads it as a new array, checked against the file's checksum if it has one.
        read_box: Reads a box of it into an array of the box's shape, if parts can be read.
        kind: What it is called in a table: its dtype, or ``string``, ``key<fry>``, ...
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int
    read: Callable[[], Array] = field(repr=False)
    read_box: Callable[[Box, Array], None] | None = field(default=None, repr=False)
    kind: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.dtype.name)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Signature(Protocol):
    """The shape and dtype of an `Entry` of another library's file, or of an array to be written."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...
