r"""Keras's constraints: ``f(value) -> value``, applied after each update of an optimizer.

    scope.get_variable("w", (784, 10), constraint=constraints.max_norm(2.0))
    params = declared.apply_constraints(optax.apply_updates(params, updates))

Any such function is a constraint. The ones here are immutable, compare and hash by their
parameters, and print as the call that makes them. A value that satisfies one keeps all its bits.

A norm is $\|w\| = \sqrt{\sum_i w_i^2}$ along ``axis``: with the default 0, that of each column of a
matrix ``(inputs, outputs)``, which are the weights into one unit. Of a kernel ``(height, width,
inputs, outputs)`` it takes ``axis=(0, 1, 2)``. Half precision is computed in float32.

Against Keras: it adds 1e-7 to norms before it divides by them. So weights inside of a bound shrink
a little in each step, and tiny ones don't get the norm they should.
"""
# ruff: noqa: N801  # The classes are what users call; `max_norm` is Keras's name.

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, overload

import jax.numpy as jnp
from jax import Array

from ._errors import ConstraintError
from ._names.tf1 import public

__all__ = ["max_norm", "min_max_norm", "non_neg", "unit_norm"]


@dataclass(frozen=True, repr=False)
class _NonNeg:
    @overload
    def __call__(self) -> Self: ...
    @overload
    def __call__(self, value: Array) -> Array: ...
    def __call__(self, value: Array | None = None) -> Self | Array:
        return self if value is None else jnp.maximum(value, jnp.zeros((), value.dtype))

    def __repr__(self) -> str:
        return "non_neg"

    def __reduce__(self) -> str:  # There is one, also after unpickling.
        return "non_neg"


non_neg = _NonNeg()
r"""No negative numbers: $\max(w_i, 0)$. ``non_neg()`` is `non_neg`.

Source: ``tf.keras.constraints.non_neg``, which makes NaN of $-\infty$; here it becomes 0.
"""


@dataclass(frozen=True)
class unit_norm:
    r"""Vectors of length one: $w / \|w\|$; zero vectors stay.

    Args:
        axis: The axis, or axes, along which the norm is taken.

    Raises:
        ConstraintError: If ``axis`` isn't an int or a tuple of ints; and on the call, if the value
            isn't of a floating dtype, or has no such axis.

    >>> unit_norm()(jnp.array([[3.0, 0.0], [4.0, 0.0]]))
    Array([[0.6, 0. ],
           [0.8, 0. ]], dtype=float32)

    Source:
        ``tf.keras.constraints.unit_norm``; the difference is described above.
    """

    axis: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        _store_axis(self)

    def __call__(self, value: Array) -> Array:
        """The nearest value that satisfies it."""
        return _scaled(self, value, lambda norm: jnp.ones_like(norm))


@dataclass(frozen=True)
class max_norm:
    r"""Vectors that are not longer than ``max_value``; longer ones are scaled down to it.

    Args:
        max_value: The largest norm; a number, not negative.
        axis: The axis, or axes, along which the norm is taken.

    Raises:
        ConstraintError: As `unit_norm`, and if ``max_value`` is negative or not a finite number.

    >>> max_norm(1.0)(jnp.array([[3.0, 0.1], [4.0, 0.1]]))
    Array([[0.6, 0.1],
           [0.8, 0.1]], dtype=float32)

    Source:
        ``tf.keras.constraints.max_norm``; the difference is described above.
    """

    max_value: float = 2.0
    axis: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        _store_number(self, "max_value", math.inf)
        _store_axis(self)

    def __call__(self, value: Array) -> Array:
        """The nearest value that satisfies it."""
        return _scaled(self, value, lambda norm: jnp.minimum(norm, self.max_value))


@dataclass(frozen=True)
class min_max_norm:
    r"""Vectors whose length is between two numbers; others are scaled towards the nearer one.

    With $c$ the norm clipped to ``[min_value, max_value]``, the new norm is
    $\texttt{rate}\, c + (1 - \texttt{rate})\, \|w\|$. Zero vectors stay.

    Args:
        min_value: The smallest norm; a number, not negative.
        max_value: The largest norm; not less than ``min_value``.
        rate: How far a norm goes there in one application, in [0, 1].
        axis: The axis, or axes, along which the norm is taken.

    Raises:
        ConstraintError: As `unit_norm`, and if a number is out of range.

    Source:
        ``tf.keras.constraints.min_max_norm``; the difference is described above.
    """

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    axis: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        _store_number(self, "min_value", math.inf)
        _store_number(self, "max_value", math.inf)
        _store_number(self, "rate", 1.0)
        _store_axis(self)
        if self.min_value > self.max_value:
            raise ConstraintError(f"`min_value` must not be above `max_value`, got {self!r}.")

    def __call__(self, value: Array) -> Array:
        """The value, nearer to what satisfies it."""

        def wanted(norm: Array) -> Array:
            clipped = jnp.clip(norm, self.min_value, self.max_value)
            return jnp.where(clipped == norm, norm, norm + self.rate * (clipped - norm))

        return _scaled(self, value, wanted)


_OfNorm: TypeAlias = unit_norm | max_norm | min_max_norm


def _scaled(self: _OfNorm, value: Array, wanted: Callable[[Array], Array]) -> Array:
    """The value with the norms that ``wanted`` makes of its norms."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ConstraintError(
            f"{self!r} needs floating-point numbers, got {value.dtype} of shape {value.shape}."
        )
    axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
    if any(not -value.ndim <= axis < value.ndim for axis in axes):
        raise ConstraintError(
            f"{self!r} was applied to a value of shape {value.shape}, which has no axis {axes}."
        )
    wide = value.astype(jnp.float32) if value.dtype.itemsize < 4 else value
    norm = jnp.sqrt(jnp.sum(wide * wide, axis=axes, keepdims=True))
    target = wanted(norm)
    changes = (target != norm) & (norm > 0)
    factor = jnp.where(changes, target / jnp.where(norm > 0, norm, 1), 1)
    return (wide * jnp.broadcast_to(factor, wide.shape)).astype(value.dtype)


def _store_axis(self: Any) -> None:
    several = isinstance(self.axis, list | tuple)
    axes = tuple(self.axis) if several else (self.axis,)
    if not axes or any(isinstance(a, bool) or not isinstance(a, numbers.Integral) for a in axes):
        raise ConstraintError(f"`axis` must be an int or a tuple of ints, got {self.axis!r}.")
    object.__setattr__(self, "axis", tuple(map(int, axes)) if several else int(axes[0]))


def _store_number(self: object, name: str, most: float) -> None:
    number = getattr(self, name)
    is_number = isinstance(number, numbers.Real) and not isinstance(number, bool)
    if not (is_number and 0 <= number <= most and math.isfinite(number)):
        limit = "not negative" if most == math.inf else f"in [0, {most:g}]"
        raise ConstraintError(f"`{name}` must be a finite number, {limit}, got {number!r}.")
    object.__setattr__(self, name, float(number))


def __dir__() -> list[str]:
    return public(globals())
