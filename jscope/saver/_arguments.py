"""The arguments of a Saver's methods, as callers may give them: a step, flags, metadata.

Metadata are values that JSON holds and returns unchanged. Numbers and strings of NumPy, and arrays
without axes, are stored as Python's of the same value.
"""

import dataclasses
import datetime
import enum
import json
import operator
import os
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import jax
import numpy as np

from .. import formats
from .._dtypes import FLOATS, INTEGERS
from .._errors import CheckpointValueError
from .._stores.remote import AnyPath
from ..formats._source import Source

StepOrPath: TypeAlias = int | str | os.PathLike[str] | None


def checked_step_or_path(step: StepOrPath) -> StepOrPath:
    """The argument ``step`` as an int; or as the path or None that it is."""
    return step if step is None or isinstance(step, str | os.PathLike) else checked_step(step)


def open_checkpoint(directory: AnyPath, step: StepOrPath, *, verify: bool = True) -> Source:
    """The argument ``step`` as an open checkpoint: of a step, of a path, or the newest for None.

    Args:
        directory: The directory.
        step: The step, or path.
        verify: As for `formats.open`.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it is damaged.
    """
    if isinstance(step, str | os.PathLike):
        return formats.open(step, verify=verify)
    return formats.open(directory, step, verify=verify)


def checked_step(step: int) -> int:
    """The argument ``step`` as an int; NumPy's and JAX's integers are steps too.

    Raises:
        CheckpointValueError: If it is not a whole number of at least 0.
    """
    try:
        if isinstance(step, bool) or getattr(step, "dtype", None) == np.dtype(bool):
            raise TypeError
        index = operator.index(step)
    except TypeError:
        raise CheckpointValueError(
            f"A step is a whole number, got {step!r} of type {type(step).__name__}."
        ) from None
    if index < 0:
        raise CheckpointValueError(f"A step is at least 0, got {index}.")
    return index


def check_flags(**flags: object) -> None:
    """Refuse arguments that are neither True nor False: ``overwrite="no"`` would overwrite.

    Raises:
        CheckpointValueError: If it is neither.
    """
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise CheckpointValueError(f"`{name}` is True or False, got {value!r}.")


# Metadata.


_ADVICE = (
    "Write lists, dicts with strings as keys, strings, numbers, True, False and None{}. Arrays go "
    "into the tree."
)


def check_metadata(metadata: object) -> object:
    """A copy of the user's metadata, as it will be read.

    Raises:
        CheckpointValueError: If JSON does not hold it, or would change it, with the path.
    """
    try:
        given = _of_python(metadata)
        copy = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        where, value = next(_not_held(metadata, "metadata"), ("", None))
        raise CheckpointValueError(
            f"metadata is what JSON holds: {error}{f', at {where}' if where else ''}. "
            + _ADVICE.format(_instead(where, value))
        ) from error
    changed = next(_changes(given, copy, "metadata"), None)
    if changed:
        what, where, value = changed
        raise CheckpointValueError(
            f"metadata is what JSON holds, and {what}. " + _ADVICE.format(_instead(where, value))
        )
    return copy


def _of_python(value: object) -> object:
    """The metadata with NumPy's numbers, and arrays without axes, as Python's."""
    if isinstance(value, dict):
        return {key: _of_python(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_of_python(member) for member in value]
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"Object of type {type(value).__name__}, a tracer, has no value")
    if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0:
        if isinstance(value.dtype, np.dtypes.StrDType):
            return str(value)
        name = str(value.dtype)
        if name == "bool" or name in INTEGERS:
            return bool(value) if name == "bool" else int(value)
        return float(value) if name in FLOATS else value
    return value


def _not_held(value: object, where: str) -> Iterator[tuple[str, object]]:
    """The path of a member of the metadata that JSON can't hold, and the member."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _not_held(member, f"{where}[{key!r}]")
    elif isinstance(value, list):
        for i, member in enumerate(value):
            yield from _not_held(member, f"{where}[{i}]")
    else:
        try:
            json.dumps(_of_python(value), allow_nan=False)
        except (TypeError, ValueError):
            yield where, value


def _changes(before: object, after: object, where: str) -> Iterator[tuple[str, str, object]]:
    """The members of the metadata that JSON would change: a text, the path, and the member."""
    if isinstance(before, dict) and type(after) is dict:
        for key, member in before.items():
            if not isinstance(key, str):
                what = f"{where} has the key {key!r}, which would come back as a string"
                yield what, f"{where}[{key!r}]", member
                return
            yield from _changes(member, after[key], f"{where}[{key!r}]")
    elif isinstance(before, list) and type(after) is list:
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{where}[{i}]")
    elif type(before) is not type(after) or before != after:
        kinds = f"of type {type(before).__name__} would come back as {type(after).__name__}"
        yield f"{where} {kinds}", where, before


def _instead(where: str, value: object) -> str:
    """The line to write instead of a member of the metadata, such as ``: list(metadata['a'])``."""
    if isinstance(value, enum.Enum):
        return f": {where}.value"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f": dataclasses.asdict({where})"
    if isinstance(value, os.PathLike | np.dtype | datetime.date):
        return f": str({where})"
    if isinstance(value, Mapping):
        return f": dict({where})"
    if isinstance(value, tuple):
        return f": list({where})"
    if isinstance(value, set | frozenset):
        return f": sorted({where})"
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f": {where}.tolist()"
    return ""
