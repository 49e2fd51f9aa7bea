"""The variables of a checkpoint of any format, as the commands show them."""

import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats._file_entry import Array, Entry
from ..formats._source import FileSource, Source

if TYPE_CHECKING:
    from ..saver._checkpoint import SavedVariable


def variables_of(source: Source) -> dict[str, Entry]:
    """The variables of a checkpoint of any format for a command, ``layer_2`` before ``layer_10``.

    Raises:
        CheckpointError: If its index is damaged.
    """
    if isinstance(source, FileSource):
        found = {name: _of_file(variable) for name, variable in source.variables.items()}
    else:
        from ..saver._checkpoint import Checkpoint  # which needs JAX

        found = {name: _of_saved(saved) for name, saved in Checkpoint(source).items()}
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


def natural(name: str) -> list[str | tuple[int, str]]:
    """A key to sort a checkpoint's variables for a command by: ``layer_2`` before ``layer_10``."""
    parts = re.split("([0-9]+)", name)
    return [_digits_key(part) if i % 2 else part for i, part in enumerate(parts)]


def _digits_key(digits: str) -> tuple[int, str]:
    """A key to sort variables for a command by one number in their names, of any length."""
    # Not an int, which Python does not make of more than 4,300 digits.
    significant = digits.lstrip("0")
    return len(significant), significant


def _of_file(variable: Any) -> Entry:
    """A variable of another library's file, as the commands show it."""
    if not hasattr(variable, "read"):
        value = _as_array(variable)
        kind = "" if hasattr(variable, "dtype") else f"python {type(variable).__name__}"
        return Entry(value.shape, value.dtype, value.nbytes, lambda: value, kind=kind)
    if isinstance(variable, Entry):
        return variable
    kind = "string" if variable.dtype.kind in "OSU" else ""
    return Entry(variable.shape, variable.dtype, variable.nbytes, variable.read, kind=kind)


def _of_saved(saved: "SavedVariable") -> Entry:
    """A variable that jscope or Orbax saved, as the commands show it."""
    if saved.kind.startswith("python "):
        value = _as_array(saved.read())
        return Entry(value.shape, value.dtype, value.nbytes, lambda: value, kind=saved.kind)

    def read() -> Array:
        return _as_array(saved.read())

    if saved.kind.startswith("key<"):
        data = np.empty(0, np.uint32)
        size = saved.nbytes // data.itemsize
        shape = (*saved.shape, size // max(1, int(np.prod(saved.shape))))
        return Entry(shape, data.dtype, saved.nbytes, read, kind=saved.kind)
    return Entry(saved.shape, saved.dtype, saved.nbytes, read, kind=saved.kind)


def _as_array(value: object) -> Array:
    """A variable of any format as a NumPy array for a command; keys as data, text as bytes."""
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
