"""A checkpoint as the commands see it, in any format."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable, of which nothing is read yet.

    Attributes:
        shape: Its shape.
        dtype: NumPy's or ml_dtypes' dtype of what `read` gives; ``object`` for bytes.
        nbytes: What it takes, in bytes.
        read: Reads it, and compares its checksum, if it has one.
        kind: What it is called in a table: its dtype, or ``string``, ``key<fry>``, ...
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int
    read: Callable[[], Array]
    kind: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.dtype.name)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=object))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: Where it is.
        format: The name of its format, for printing.
        variables: By name, in natural order: ``layer_2`` before ``layer_10``.
        checksum: The checksum of its bytes, such as ``CRC-32C``, or ``""`` if nothing does.
        check: Checks what belongs to no single variable.
    """

    path: str
    format: str
    variables: Mapping[str, Variable]
    checksum: str
    check: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.variables.items(), key=lambda item: natural(item[0])))
        object.__setattr__(self, "variables", ordered)


class Writer(Protocol):
    """Takes each variable once, in any order; all were announced by name, shape and dtype."""

    def write(self, name: str, array: Array) -> None: ...


def natural(name: str) -> list[str | tuple[int, str]]:
    """A key to sort names by, in which numbers count as numbers, of any length."""
    parts = re.split("([0-9]+)", name)
    return [_number(part) if i % 2 else part for i, part in enumerate(parts)]


def _number(digits: str) -> tuple[int, str]:
    # Not an int, which Python does not make of more than 4,300 digits.
    significant = digits.lstrip("0")
    return len(significant), significant
