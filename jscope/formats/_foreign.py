"""Checkpoints that jscope did not write: which kind a path is, and how it is opened.

| kind | recognized by |
|---|---|
| Orbax, Flax, MaxText | ``_METADATA`` in the directory, or in directories in it: `_orbax` |
| safetensors | a file ``*.safetensors``, or a directory of such |
| NumPy | a file ``*.npz`` |
| TensorFlow | ``PATH.index`` beside the prefix ``PATH``; one of its files; or a directory of such |
| Flax before Orbax | a file that is one map in MessagePack |

Steps are directories or files called by a number, or by a word, ``_`` and a number.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import tf_checkpoint
from .._errors import CheckpointError, listed
from . import _orbax, npz, safetensors
from ._boxes import Array, Box, slices
from ._containers import Containers, of_paths
from ._entry import INDEX, KNOWN, ORBAX, Entry, dtype_name
from ._python import python_dtype, python_text
from ._source import Source, nothing_left

_TENSORFLOW = re.compile(r"\.(?:index|meta|data-\d{5}-of-\d{5})$", re.ASCII)
_STEP = re.compile(r"(?:\w*_)?(\d+)", re.ASCII)


def open_foreign(path: Path) -> Source | None:
    """Open a checkpoint of another library; None if there is none of a known kind.

    Raises:
        CheckpointError: If it is damaged.
        OSError: If it can't be read.
    """
    trees = _orbax.items(path)
    if trees:
        return _orbax.OrbaxSource(path, trees)
    open_file = _file_kind(path)
    if open_file is None:
        return None
    variables = open_file(path)
    containers = None
    if isinstance(variables, _FlaxValues):
        containers = of_paths(variables.paths, {})
    return FileSource(path, variables, containers)


def _file_kind(path: Path) -> Callable[[Path], Mapping[str, Any]] | None:
    """How to open a path that is not a checkpoint of Orbax."""
    if path.is_file():
        if path.suffix == ".safetensors":
            return safetensors.open_file
        if path.suffix == ".npz":
            return npz.open_file
        if _TENSORFLOW.search(path.name):
            return tf_checkpoint.open
    if path.is_dir() and any(path.glob("*.safetensors")):
        return _together
    if Path(f"{path}.index").is_file() or has_tensorflows(path):
        return tf_checkpoint.open
    return _flax_values if _is_flax_map(path) else None


def is_foreign(path: Path) -> bool:
    """Whether `open_foreign` would open a path."""
    return bool(_orbax.items(path)) or _file_kind(path) is not None


def foreign_steps(directory: Path) -> dict[int, Path]:
    """The checkpoints of other libraries in a directory, by step."""
    found: dict[int, Path] = {}
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        match = _STEP.fullmatch(path.name)
        if match and (_orbax.items(path) or _is_flax_map(path)):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def has_tensorflows(path: Path) -> bool:
    """Whether a path is a directory of TensorFlow's checkpoints."""
    return path.is_dir() and any(path.glob("*.index"))


def _is_flax_map(path: Path) -> bool:
    """Whether a file begins as a map in MessagePack does."""
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(1)
    return first in (b"\xde", b"\xdf") or b"\x80" <= first <= b"\x8f"


def _flax_values(path: Path) -> "_FlaxValues":
    """The values of ``flax.training.checkpoints`` from before it used Orbax, by name."""
    from flax import serialization

    try:
        nested = serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # of several libraries, for files of other formats
        raise CheckpointError(f"{path} is not a checkpoint of Flax, or damaged: {error}") from error
    found = _FlaxValues()
    todo: list[tuple[tuple[str, ...], Any]] = [((), nested)]
    while todo:
        keys, value = todo.pop()
        name = "/".join(keys)
        if isinstance(value, dict):
            todo += [((*keys, str(key)), below) for key, below in reversed(value.items())]
        elif name in found:
            raise CheckpointError(f"{path} is damaged: it has two values of the name {name!r}.")
        elif not _is_value(value):
            kind = getattr(value, "dtype", None) or type(value).__name__
            raise CheckpointError(f"{path} has {name!r}, of type {kind}, which can't be read.")
        else:
            found[name] = value
            found.paths[name] = keys
    return found


class _FlaxValues(dict[str, Any]):
    """Values by name.

    Attributes:
        paths: The keys of the nested dicts, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paths: dict[str, tuple[str, ...]] = {}


def _is_value(value: object) -> bool:
    if hasattr(value, "dtype"):
        return value.dtype.kind in "OSU" or dtype_name(value.dtype) in KNOWN
    return python_dtype(value) is not None


def _together(path: Path) -> dict[str, Any]:
    """The tensors of a directory's safetensors files."""
    found: dict[str, Any] = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors = safetensors.open_file(file)
        duplicates = [name for name in tensors if name in found]
        if duplicates:
            raise CheckpointError(
                f"Several files in {path} have {listed(duplicates)}. Restore from one of the files."
            )
        found |= tensors
    return found


class FileSource:
    """Variables that are read whole, as `_source.Source`.

    Args:
        path: The file or directory.
        variables: By name, with ``shape``, ``dtype`` and ``read()``, or values.
        containers: Which pytree they are of, if that is known.
    """

    fillers: frozenset[str] = frozenset()

    def __init__(
        self, path: Path, variables: Mapping[str, Any], containers: Containers | None = None
    ):
        self.path = path
        self.containers = containers
        self.metadata = None
        self.index_bytes = 0
        # JAX has no arrays of strings.
        self._variables = {n: v for n, v in variables.items() if not _has_strings(v)}
        self.entries = {name: _entry(v) for name, v in self._variables.items()}

    def stored(self, name: str) -> Entry:
        """As `Source.stored`; each format's reader compares them when it opens the file."""
        return self.entries[name]

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """As `Source.start`."""
        variable = self._variables[name]
        array = variable.read() if hasattr(variable, "read") else variable
        into[...] = array[slices(box)]
        return nothing_left

    def close(self) -> None:
        """As `Source.close`."""


def _has_strings(variable: object) -> bool:
    return hasattr(variable, "dtype") and variable.dtype.kind in "OSU"


def _entry(variable: Any) -> Entry:
    if hasattr(variable, "dtype"):
        shape, dtype = tuple(variable.shape), dtype_name(variable.dtype)
        return Entry(shape, dtype, shape, dtype, ORBAX)
    dtype = str(python_dtype(variable))
    return Entry((), dtype, (), dtype, INDEX, value=python_text(variable))
