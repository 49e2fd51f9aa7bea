r"""TensorFlow 1's regularizers: ``f(value) -> scalar``, one term of a loss for one variable.

    scope.get_variable("w", (784, 10), regularizer=regularizers.l2(1e-4))

Any such function is a regularizer. The ones here are immutable, compare and hash by
their parameters, and print as the call that makes them.

The scalar has the dtype of the value (for complex numbers, of their real part). It is
computed in float32 at least: the sum of squares of a million ones is above the largest float16, but
`l2(1e-4)` of them isn't.

Against TF: a scale of 0 gives zero, where TF gives a function that returns None; integers
are scales too, where TF raises; a scale can't be a tensor (multiply the loss by it instead).
"""
# ruff: noqa: N801  # The classes are what users call; `l2` is TF's name.

import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from ._errors import RegularizerError
from ._names.tf1 import no_attribute, public

__all__ = ["Regularizer", "l1", "l1_l2", "l2", "no_regularizer", "sum"]


class Regularizer(Protocol):
    """What adds to the loss: any function of a variable's value that gives a scalar, or None."""

    def __call__(self, value: Array, /) -> Array | None: ...


def no_regularizer(value: Array, /) -> None:
    """Nothing: stops a scope's regularizer from being inherited.

    Source:
        ``tf.no_regularizer``.
    """
    del value


@dataclass(frozen=True)
class l1:
    r"""Sum of absolute values: $\texttt{scale} \cdot \sum_i |w_i|$.

    Args:
        scale: Weight in the loss; a number, not negative.

    Raises:
        RegularizerError: If the scale is negative or not a finite number; and on the call, if the
            value isn't of a floating or complex dtype.

    >>> l1(0.5)(jnp.array([1.0, -2.0]))
    Array(1.5, dtype=float32)

    Source:
        ``tf.contrib.layers.l1_regularizer``, TensorFlow 1.15; the differences are listed above.
    """

    scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _scale(self.scale))

    def __call__(self, value: Array) -> Array:
        """The term for one value."""
        return _total(self, value, lambda w: self.scale * jnp.sum(_absolute(w)))


@dataclass(frozen=True)
class l2:
    r"""Half the sum of squares: $\texttt{scale} \cdot \tfrac12 \sum_i |w_i|^2$.

    Its gradient is ``scale * w``, a weight decay of ``scale``.

    Args:
        scale: Weight in the loss; a number, not negative.

    Raises:
        RegularizerError: As `l1`.

    >>> l2(0.1)(jnp.array([3.0, 4.0]))
    Array(1.25, dtype=float32)

    Source:
        ``tf.contrib.layers.l2_regularizer`` and ``tf.nn.l2_loss``, TensorFlow 1.15; the
        differences stand above. ``tf.keras.regularizers.l2`` has no half: ``l2(0.01)`` there is
        ``l2(0.02)`` here.
    """

    scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _scale(self.scale))

    def __call__(self, value: Array) -> Array:
        """The term for one value."""
        return _total(self, value, lambda w: self.scale / 2 * jnp.sum(_squares(w)))


@dataclass(frozen=True)
class l1_l2:
    r"""The sum of both: `l1` of ``scale_l1`` and `l2` of ``scale_l2``.

    Args:
        scale_l1: Weight of the absolute values; a number, not negative.
        scale_l2: Weight of half the squares; a number, not negative.

    Raises:
        RegularizerError: As `l1`.

    Source:
        ``tf.contrib.layers.l1_l2_regularizer``, TensorFlow 1.15.
    """

    scale_l1: float = 1.0
    scale_l2: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale_l1", _scale(self.scale_l1))
        object.__setattr__(self, "scale_l2", _scale(self.scale_l2))

    def __call__(self, value: Array) -> Array:
        """The term for one value."""

        def both(w: Array) -> Array:
            return self.scale_l1 * jnp.sum(_absolute(w)) + self.scale_l2 / 2 * jnp.sum(_squares(w))

        return _total(self, value, both)


@dataclass(frozen=True)
class sum:
    """The sum of several regularizers; zero if there are none.

    Args:
        regularizers: Functions of the value; those that are None or give None are left out.

    Raises:
        RegularizerError: If it isn't a list, or something in it can't be called; and on the
            call, if one of them doesn't give a scalar.

    >>> sum([l1(1.0), l2(2.0)])(jnp.array([3.0]))
    Array(12., dtype=float32)

    Source:
        ``tf.contrib.layers.sum_regularizer``, TensorFlow 1.15. One difference: TF gives None
        where nothing is left to add.
    """

    regularizers: Iterable[Regularizer | None]

    def __post_init__(self) -> None:
        if not isinstance(self.regularizers, Iterable):
            raise RegularizerError(
                f"`sum` takes a list of regularizers, got {self.regularizers!r}. Write "
                "regularizers.sum([...])."
            )
        kept = tuple(f for f in self.regularizers if f is not None)
        for function in kept:
            if not callable(function):
                raise RegularizerError(f"A regularizer must be callable, got {function!r}.")
        object.__setattr__(self, "regularizers", kept)

    def __call__(self, value: Array) -> Array:
        """The term for one value."""
        dtype = jnp.real(_checked(self, value)).dtype
        total = jnp.zeros((), dtype)
        for function in self.regularizers:
            assert function is not None  # since __post_init__
            term = function(value)
            if term is None:
                continue
            if jnp.shape(term):
                raise RegularizerError(
                    f"A regularizer must give a scalar, but {function!r} gave shape "
                    f"{jnp.shape(term)}."
                )
            total += jnp.asarray(term, dtype)
        return total


def _scale(scale: float) -> float:
    if isinstance(scale, bool) or not isinstance(scale, numbers.Real) or not math.isfinite(scale):
        raise RegularizerError(
            f"The scale of a regularizer must be a finite number, got {scale!r}."
        )
    if scale < 0:
        raise RegularizerError(f"Setting a scale less than 0 on a regularizer: {scale:g}")
    return float(scale)


def _checked(self: object, value: Array) -> Array:
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        raise RegularizerError(
            f"{self!r} needs floating-point or complex numbers, got {value.dtype} of shape "
            f"{value.shape}. Create such a variable without a regularizer (js.no_regularizer)."
        )
    return value


def _absolute(w: Array) -> Array:
    # The gradient is 0 at 0, as TF's; that of jnp.abs is 1, which would push zeros away.
    return jnp.real(w * jax.lax.stop_gradient(jnp.conj(jnp.sign(w))))


def _squares(w: Array) -> Array:
    return jnp.real(w * jnp.conj(w))


def _total(self: object, value: Array, term: Callable[[Array], Array]) -> Array:
    """A regularizer's term, computed in float32 at least, in the dtype of the value."""
    value = _checked(self, value)
    wide = value.astype(jnp.float32) if value.dtype.itemsize < 4 else value
    return term(wide).astype(jnp.real(value).dtype)


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))


def __dir__() -> list[str]:
    return public(globals())
