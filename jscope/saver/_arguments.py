"""The arguments that a caller may give as a step."""

import operator
import os
from typing import TypeAlias

import numpy as np

from .. import formats
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
