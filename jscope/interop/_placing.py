"""From a NumPy array of a checkpoint to a value like a target's.

Imports: `_errors`; JAX and NumPy.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._errors import TreeMismatchError

Array = np.ndarray[Any, Any]


def can_convert(found: Any, wanted: Any) -> bool:
    """Whether a dtype may become another: of the same kind, or one that holds more.

    The kinds are, in this order: bool, whole numbers, floating-point, complex.
    """
    kinds = [_kind(found), _kind(wanted)]
    return -1 not in kinds and kinds[0] <= kinds[1]


def _kind(dtype: Any) -> int:
    kinds = (np.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next((i for i, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)), -1)


def converted(name: str, array: Array, dtype: Any) -> Array:
    """The array in another dtype.

    Raises:
        TreeMismatchError: If a finite value would not be finite, or a whole number another one.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        result = array.astype(dtype)
        if jnp.issubdtype(dtype, jnp.integer):
            lost = result.astype(array.dtype) != array
        else:
            lost = np.isfinite(array) & ~np.isfinite(result)
    if lost.any():
        raise TreeMismatchError(
            f"{name!r} can't be converted from {array.dtype} to {dtype}, which can't hold "
            f"{array[lost].flat[0]}. Restore it as {array.dtype}, and change the result."
        )
    return result


def like(leaf: Any, array: Array) -> Any:
    """The array where the leaf has its own: NumPy's, or JAX's with the leaf's sharding.

    As with `jscope.Saver`, it is committed to devices only if the leaf is.
    """
    if isinstance(leaf, np.ndarray | np.generic):
        return array
    is_jax = isinstance(leaf, jax.Array)
    sharding = None if is_jax and not leaf.committed else leaf.sharding
    device = next(iter(leaf.sharding.device_set)) if is_jax else None
    # Also where 64-bit dtypes are off: they would be truncated without a word.
    with jax.enable_x64(True), jax.default_device(device) if device else contextlib.nullcontext():
        return jax.device_put(array, sharding)
