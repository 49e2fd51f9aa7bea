"""Which numbers a dtype can hold: Python's order of kinds, and arrays from one dtype to another.

Imports: `_errors`; JAX and NumPy.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ._errors import TreeMismatchError

_KINDS = (np.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def number_kind(dtype: DTypeLike) -> int:
    """0 for bool, 1 for whole numbers, 2 for floating-point, 3 for complex ones; else -1."""
    return next((i for i, kind in enumerate(_KINDS) if jnp.issubdtype(dtype, kind)), -1)


def can_convert(found: DTypeLike, wanted: DTypeLike) -> bool:
    """Whether a dtype's numbers may become another's: of the same kind, or a later one."""
    return 0 <= number_kind(found) <= number_kind(wanted)


def converted(
    name: str, array: np.ndarray[Any, Any], dtype: DTypeLike, found: str | None = None
) -> np.ndarray[Any, Any]:
    """A variable's array in another dtype; floating-point numbers may be rounded.

    Args:
        name: The variable's name.
        array: Its array.
        dtype: Another dtype; `can_convert` says that it may be tried.
        found: What the array's dtype is called in an error.

    Raises:
        TreeMismatchError: If a finite value would not be finite, or a whole number another one.
    """
    dtype = np.dtype(dtype)
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        result = array.astype(dtype)
        if jnp.issubdtype(dtype, jnp.integer):
            lost = result.astype(array.dtype) != array
        else:
            lost = np.isfinite(array) & ~np.isfinite(result)
    if lost.any():
        found = found or str(array.dtype)
        raise TreeMismatchError(
            f"{name!r} can't be converted from {found} to {dtype}, which can't hold "
            f"{array[lost].flat[0]}. Restore it as {found}, and change the result."
        )
    return result
