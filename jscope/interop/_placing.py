"""From a NumPy array of a checkpoint to a value like a target's."""

import contextlib
from typing import Any

import jax
import numpy as np

from .._weak_types import as_weak_as

Array = np.ndarray[Any, Any]


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
        return as_weak_as(leaf, jax.device_put(array, sharding))
