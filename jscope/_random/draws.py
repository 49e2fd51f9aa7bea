r"""Independent random numbers, as a map of random bits, element by element.

A `Draw` is what `initializers.random_normal` and the like have in common: with $u$ uniform on
``[low, high)``, and $x$ either $u$ itself or ``factor * erf_inv(u)``, which is normal,

    value = scale * min(max(x, least), most) + shift.

There are two ways to the same values, bit for bit:

* `Draw.values` calls `jax.random.uniform`, for one key and one shape, with the parameters as
  constants: what an initializer called by hand, or in a program of its own, computes.
* `values_of` starts from the random bits, with the parameters as arrays. So one compiled program
  computes normal, truncated and uniform numbers of any parameters; see `_variables.batch`.

They are equal because they are the same operations in the same order. What XLA would do with
constants alone is done here, before: it multiplies the two factors of a normal number, the square
root of two and the standard deviation, with each other; and it omits the addition of zero. The sum
with the mean is one instruction with the product (FMA) where the processor has it, either way.

`threefry.random_bits` gives the bits that JAX draws with threefry where
`jax_threefry_partitionable` is set, as it is by default: those of element i depend on the key and
i alone.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .threefry import Words

_Shape: TypeAlias = tuple[int, ...]
_Dtype: TypeAlias = np.dtype[Any]


@dataclass(frozen=True)
class Draw:
    """How random values follow from uniform numbers; see the top of this file.

    Attributes:
        dtype: The dtype of the values, a floating-point one. The parameters are numbers of `wide`.
        low: The least uniform number.
        high: Above the largest uniform number.
        normal: Whether ``factor * erf_inv(u)`` is taken.
        factor: The factor of normal numbers before they are clipped.
        least: What is below becomes this.
        most: What is above becomes this.
        scale: The last factor.
        shift: What is added; -0.0, which changes no number, for nothing.
    """

    dtype: _Dtype
    low: float
    high: float
    normal: bool = False
    factor: float = 1.0
    least: float = -math.inf
    most: float = math.inf
    scale: float = 1.0
    shift: float = -0.0

    @property
    def wide(self) -> _Dtype:
        """What it is computed in: a dtype of 32 bits or more; the values are rounded at the end."""
        return wide(self.dtype)

    def values(self, key: Array, shape: _Shape) -> Array:
        """Independent values."""
        number = self.wide.type
        u = jax.random.uniform(key, shape, self.wide, number(self.low), number(self.high))
        x = number(self.factor) * lax.erf_inv(u) if self.normal else u
        within = jnp.clip(x, number(self.least), number(self.most))
        values: Array = (number(self.scale) * within + number(self.shift)).astype(self.dtype)
        return values

    @functools.cached_property
    def parameters(self) -> np.ndarray[Any, Any]:
        """The parameters for `values_of`, in its order."""
        number = self.wide.type
        span = number(self.high) - number(self.low)
        numbers = (self.low, span, self.normal, self.factor, self.least, self.most)
        return np.array([*numbers, self.scale, self.shift], self.wide)


def wide(dtype: _Dtype) -> _Dtype:
    """The dtype in which random values of a floating-point dtype are drawn, before rounding."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


def uniform(dtype: _Dtype, low: float, high: float) -> Draw:
    """The `Draw` of numbers uniform on ``[low, high)``, also after rounding to the dtype."""
    most = np.nextafter(np.asarray(high, dtype), np.asarray(low, dtype))
    return Draw(dtype, _rounded(dtype, low), _rounded(dtype, high), most=float(most))


def normal(dtype: _Dtype, mean: float, stddev: float) -> Draw:
    """The `Draw` of normal numbers, as `jax.random.normal`."""
    number = wide(dtype).type
    low = np.nextafter(number(-1), number(0))
    scale = number(math.sqrt(2)) * number(_rounded(dtype, stddev))
    return Draw(dtype, float(low), 1.0, True, scale=float(scale), shift=_shift(dtype, mean))


def truncated_normal(dtype: _Dtype, mean: float, stddev: float) -> Draw:
    """The `Draw` of `jax.random.truncated_normal`: truncated at two standard deviations."""
    number = wide(dtype).type
    root, two = number(math.sqrt(2)), number(2)
    high = float(number(math.erf(two / root)))
    most = float(np.nextafter(two, number(0)))
    scale, shift = _rounded(dtype, stddev), _shift(dtype, mean)
    return Draw(dtype, -high, high, True, float(root), -most, most, scale, shift)


def _rounded(dtype: _Dtype, value: float) -> float:
    """A parameter of a `Draw`, as a number of the dtype in which values are drawn."""
    with np.errstate(over="ignore"):
        return float(wide(dtype).type(value))


def _shift(dtype: _Dtype, mean: float) -> float:
    """A mean as the `Draw.shift`: -0.0 for 0."""
    return _rounded(dtype, mean) or -0.0


def values_of(bits: Words, parameters: Array) -> Array:
    """Random values in float32 from random bits, each row with its `Draw.parameters`.

    Args:
        bits: ``[rows, elements]``, uint32.
        parameters: ``[rows, 8]``, float32.
    """
    columns = (parameters[:, i : i + 1] for i in range(8))
    low, span, normal, factor, least, most, scale, shift = columns
    # As jax.random.uniform: the bits are the mantissa of a number from 1 to 2.
    one = np.float32(1).view(np.uint32)
    from_one = lax.bitcast_convert_type(bits >> np.uint32(9) | one, jnp.float32)
    u = jnp.maximum(low, (from_one - np.float32(1)) * span + low)
    x = jnp.where(normal != 0, factor * lax.erf_inv(u), u)
    values: Array = scale * jnp.clip(x, least, most) + shift
    return values
