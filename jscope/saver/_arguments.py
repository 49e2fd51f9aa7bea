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
from collections.abc import Mapping
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


def check_metadata(metadata: object) -> object:
    """A copy of the user's metadata, as it will be read.

    Raises:
        CheckpointValueError: If JSON does not hold it, or would change it, with the path.
    """
    try:
        return _copied(metadata, "metadata")
    except RecursionError as error:
        raise _not_held(f": {error}") from error


def _copied(value: object, where: str) -> object:
    """A member of the metadata, as it will be read."""
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                what = f", and {where} has the key {key!r}, which would come back as a string"
                raise _not_held(what, f"{where}[{key!r}]", member)
        return {str(key): _copied(member, f"{where}[{key!r}]") for key, member in value.items()}
    if isinstance(value, list):
        return [_copied(member, f"{where}[{i}]") for i, member in enumerate(value)]
    try:
        given = _of_python(value)
        copy = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise _not_held(f": {error}, at {where}", where, value) from error
    if type(copy) is not type(given) or copy != given:
        kinds = f"of type {type(given).__name__} would come back as {type(copy).__name__}"
        raise _not_held(f", and {where} {kinds}", where, value)
    return copy


def _of_python(value: object) -> object:
    """A number of NumPy in the metadata, or an array without axes, as Python's."""
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


def _not_held(problem: str, where: str = "", value: object = None) -> CheckpointValueError:
    """Compose the error: JSON does not hold a member of the metadata."""
    return CheckpointValueError(
        f"metadata is what JSON holds{problem}. Write lists, dicts with strings as keys, strings, "
        f"numbers, True, False and None{_instead(where, value)}. Arrays go into the tree."
    )


_INSTEAD = (
    (enum.Enum, "{}.value"),
    ((os.PathLike, np.dtype, datetime.date), "str({})"),
    (Mapping, "dict({})"),
    (tuple, "list({})"),
    ((set, frozenset), "sorted({})"),
)


def _instead(where: str, value: object) -> str:
    """The line to write instead of a member of the metadata, such as ``: list(metadata['a'])``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f": dataclasses.asdict({where})"
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f": {where}.tolist()"
    found = (f": {line.format(where)}" for kinds, line in _INSTEAD if isinstance(value, kinds))
    return next(found, "")
