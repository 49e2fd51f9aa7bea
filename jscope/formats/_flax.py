"""Checkpoints that Flax wrote before it used Orbax: one file, a map in MessagePack."""

import re
from typing import Any

from .._errors import CheckpointError
from .._stores.files import first_bytes
from .._stores.remote import AnyPath
from ._own_entry import KNOWN, dtype_name
from ._python_values import python_dtype
from ._source import FileSource

_MAP = re.compile(rb"[\x81-\x8f\xde\xdf]")
_EMPTY = b"\x80"


def is_flax(path: AnyPath) -> bool:
    """Whether a file is one map in MessagePack, as Flax wrote, by its name and its first bytes.

    Its name ends with ``.msgpack``, or with a number, a step, or has no ending.
    """
    if path.suffix not in ("", ".msgpack") and not path.suffix[1:].isdecimal():
        return False
    if not path.is_file():  # nor is a pipe one, which would block
        return False
    first = first_bytes(path, 2, follow=True)
    return bool(_MAP.match(first)) or first == _EMPTY  # a pickle begins with the latter, too


def open_flax(path: AnyPath) -> FileSource:
    """Open a file that Flax wrote; all of it is read.

    Raises:
        CheckpointError: If it is damaged, or has values that are not arrays, numbers or strings.
    """
    from flax import serialization

    from ._containers import of_paths

    data = path.read_bytes()
    try:
        nested = serialization.msgpack_restore(data)
    except Exception as error:  # of several libraries, for files of other formats
        raise CheckpointError(f"{path} is not a checkpoint of Flax, or damaged: {error}") from error
    values: dict[str, Any] = {}
    paths: dict[str, tuple[str, ...]] = {}
    todo: list[tuple[tuple[str, ...], Any]] = [((), nested)]
    while todo:
        keys, value = todo.pop()
        name = "/".join(keys)
        if isinstance(value, dict):
            todo += [((*keys, str(key)), below) for key, below in reversed(value.items())]
        elif name in values:
            raise CheckpointError(f"{path} is damaged: it has two values of the name {name!r}.")
        elif not _is_value(value):
            kind = getattr(value, "dtype", None) or type(value).__name__
            raise CheckpointError(f"{path} has {name!r}, of type {kind}, which can't be read.")
        else:
            values[name] = value
            paths[name] = keys
    return FileSource(path, values, format="checkpoint of Flax", containers=of_paths(paths, {}))


def _is_value(value: object) -> bool:
    """Whether a member of a file of Flax is an array, a number or a string."""
    if hasattr(value, "dtype"):
        return value.dtype.kind in "OSU" or dtype_name(value.dtype) in KNOWN
    return python_dtype(value) is not None
