"""The values of variables: arrays, abstract or not, numbers, and any other object.

A tree stores values as they are. What the files that look into them have to know is here: which
values are arrays, how many bytes they have, how they are printed, and when two are equal.
"""

import math
from typing import Any, Protocol, TypeGuard, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .text import bytes_text

T = TypeVar("T")


class Shaped(Protocol):
    """A value that has a shape and a dtype: an array, abstract or not."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> object: ...


def is_array(value: object) -> TypeGuard[Shaped]:
    """Whether a value is an array, abstract or not: it has a shape and a dtype."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


NUMPY_TYPES = (np.ndarray, np.generic)


def jax_value(value: T) -> T | Array:
    """A value as models get it: a NumPy array as JAX's; any other value as it is."""
    if not isinstance(value, NUMPY_TYPES):
        return value
    # V: ml_dtypes' own; not strings, objects, dates, nor records, which JAX can't have.
    is_number = value.dtype.kind in "biufcV" and value.dtype.names is None
    return jnp.asarray(value) if is_number else value


def value_bytes(leaf: object) -> int:
    """The number of bytes of a value; 0 if it is not an array, or has no known shape."""
    return elements(leaf) * int(leaf.dtype.itemsize) if hasattr(leaf, "dtype") else 0


def elements(leaf: object) -> int:
    """The number of elements of a value; 0 if it is not an array, or has no known shape."""
    shape = getattr(leaf, "shape", (0,))
    # Under jax.export a shape may have symbolic dimensions, which are not numbers.
    known = all(isinstance(length, int | np.integer) for length in shape)
    return int(math.prod(shape)) if known else 0


# As text.


def shown_value(value: object) -> tuple[str, str, str]:
    """A variable's value of any type as it is shown: its shape, dtype and bytes."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return str(tuple(value.shape)), str(value.dtype), bytes_text(value_bytes(value))
    leaves = jax.tree.leaves(value)
    if leaves and leaves[0] is not value:
        size = sum(map(value_bytes, leaves))
        return f"{len(leaves)} leaves", type(value).__name__, bytes_text(size)
    text = repr(value)
    return (text if len(text) <= 40 else text[:37] + "..."), type(value).__name__, ""


def value_text(value: object) -> str:
    """A variable's value by its dtype and shape, such as ``float32[3,4]``, for errors."""
    if not is_array(value):
        return f"of type {type(value).__name__}"
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


# Comparing.


def same_bits(a: Any, b: Any) -> bool:
    """Whether two values are equal: in type or dtype, shape, and each bit."""
    if a is b:
        return True
    if not hasattr(a, "dtype") and not hasattr(b, "dtype"):
        if type(a) is not type(b):
            return False
        # In the text of a number, unlike under ==, NaN equals itself and 0.0 is not -0.0.
        return repr(a) == repr(b) if isinstance(a, float | complex) else bool(a == b)
    if not (hasattr(a, "dtype") and hasattr(b, "dtype")):
        return False
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if isinstance(a, jax.ShapeDtypeStruct) or isinstance(b, jax.ShapeDtypeStruct):
        return type(a) is type(b)
    return bool(_bits(a) == _bits(b))


def _bits(array: Array | np.ndarray[Any, Any]) -> object:
    """What of a value that is an array is compared: its bytes, or a list of its Python objects."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    # Arrays of Python objects, or of strings of any length, hold addresses.
    return array.tolist() if array.dtype.kind in "OT" else array.tobytes()
