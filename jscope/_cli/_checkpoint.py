"""A checkpoint as the commands see it, in any format."""

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import formats
from .._errors import CheckpointError
from ..formats._own_index import check_files
from ..formats._own_source import OwnSource
from ..formats._source import FileSource, Source

if TYPE_CHECKING:
    from ..saver._checkpoint import SavedVariable

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


def open_checkpoint(path: str) -> Checkpoint:
    """Open a checkpoint; only the list of its variables is read.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    source = formats.open(path)
    variables = dict(sorted(_variables(source).items(), key=lambda item: natural(item[0])))
    found = str(source.path), source.format, variables, source.checksum
    if not isinstance(source, OwnSource):
        return Checkpoint(*found)
    index = source.index

    def check() -> None:
        try:
            check_files(source.path, index)
        except (ValueError, OSError) as error:
            raise CheckpointError(f"{source.path} is damaged: {error}") from error

    return Checkpoint(*found, check)


def natural(name: str) -> list[str | tuple[int, str]]:
    """A key to sort names by, in which numbers count as numbers, of any length."""
    parts = re.split("([0-9]+)", name)
    return [_number(part) if i % 2 else part for i, part in enumerate(parts)]


def _number(digits: str) -> tuple[int, str]:
    # Not an int, which Python does not make of more than 4,300 digits.
    significant = digits.lstrip("0")
    return len(significant), significant


def _variables(source: Source) -> dict[str, Variable]:
    if isinstance(source, FileSource):
        return {name: _of_file(variable) for name, variable in source.variables.items()}
    from ..saver._checkpoint import Checkpoint as Opened

    return {name: _of_saved(saved) for name, saved in Opened(source).items()}


def _of_file(variable: Any) -> Variable:
    if not hasattr(variable, "read"):
        value = _as_array(variable)
        kind = "" if hasattr(variable, "dtype") else f"python {type(variable).__name__}"
        return Variable(value.shape, value.dtype, value.nbytes, lambda: value, kind)
    kind = "string" if variable.dtype.kind in "OSU" else ""
    return Variable(variable.shape, variable.dtype, variable.nbytes, variable.read, kind)


def _of_saved(saved: "SavedVariable") -> Variable:
    if saved.kind.startswith("python "):
        value = _as_array(saved.read())
        return Variable(value.shape, value.dtype, value.nbytes, lambda: value, saved.kind)

    def read() -> Array:
        return _as_array(saved.read())

    if saved.kind.startswith("key<"):
        data = np.empty(0, np.uint32)
        size = saved.nbytes // data.itemsize
        shape = (*saved.shape, size // max(1, int(np.prod(saved.shape))))
        return Variable(shape, data.dtype, saved.nbytes, read, saved.kind)
    return Variable(saved.shape, saved.dtype, saved.nbytes, read, saved.kind)


def _as_array(value: object) -> Array:
    """An array of NumPy; keys as their data, text as bytes."""
    import jax

    if isinstance(value, jax.Array):
        return np.asarray(jax.random.key_data(value))
    if isinstance(value, tuple):  # of the values that each process has its own of
        with np.printoptions(threshold=sys.maxsize, floatmode="unique"):
            value = repr(value)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")  # as the names of files may have them
    return (
        np.array(value, object) if value is None or isinstance(value, bytes) else np.asarray(value)
    )
