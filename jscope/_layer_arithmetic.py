"""The arithmetic of layers, without variables: `layers` and `tf1.layers` share it.

Functions of arrays. Channels come last, behind one, two or three spatial axes.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from ._errors import ShapeMismatchError

Sizes: TypeAlias = int | Sequence[int]


def convolve(
    x: Array,
    kernel: Array,
    strides: Sizes,
    padding: str,
    dilation_rate: Sizes = 1,
    groups: int = 1,
) -> Array:
    """A layer's convolution of (batch, *spatial, channels), in the dtype of ``x``."""
    axes = x.ndim - 2
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        sizes_of(strides, axes, "strides"),
        padding_of(padding),
        rhs_dilation=sizes_of(dilation_rate, axes, "dilation_rate"),
        dimension_numbers=layout_of(axes),
        feature_group_count=groups,
    )


def convolve_transposed(x: Array, kernel: Array, strides: Sizes, padding: str) -> Array:
    """The gradient of `convolve` by its input; the kernel is (*sizes, filters, channels)."""
    axes = x.ndim - 2
    return lax.conv_transpose(
        x,
        kernel.astype(x.dtype),
        sizes_of(strides, axes, "strides"),
        padding_of(padding),
        dimension_numbers=layout_of(axes),
        transpose_kernel=True,
    )


def moments(
    x: Array, axes: tuple[int, ...], kept: tuple[int, ...], mean_of: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Mean and variance for a normalization layer, over ``axes``, divided by their number.

    Args:
        x: At least float32.
        axes: The axes to average over.
        kept: The others.
        mean_of: From the mean of these values to that of a whole batch, over mapped axes.
    """
    mean = mean_of(x.mean(axes))
    return mean, mean_of(lax.square(x - along(mean, kept, x.ndim)).mean(axes))


def normalized(
    x: Array,
    mean: Array,
    variance: Array,
    axes: tuple[int, ...],
    epsilon: float,
    gamma: Array | None,
    beta: Array | None,
) -> Array:
    """A normalization layer: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    Args:
        x: Any shape.
        mean, variance: Of the axes ``axes``.
        axes: Those of ``x`` that are kept.
        epsilon: Added to the variance.
        gamma, beta: Such that they broadcast with ``x``, or None for 1 and 0.
    """
    factor = along(lax.rsqrt(variance + epsilon), axes, x.ndim)
    if gamma is not None:
        factor = factor * gamma
    y = (x - along(mean, axes, x.ndim)) * factor
    return y if beta is None else y + beta


# Mapped axes.


def over_axes(value: Array, axis_name: str | Sequence[str] | None, creates: bool) -> Array:
    """A layer's mean over mapped axes; while declaring, over those of them that are there.

    It has the shape of the value, so nothing that is declared depends on it.
    """
    names = _names(axis_name)
    if creates:
        names = tuple(name for name in names if is_mapped(name))
    mean: Array = lax.pmean(value, names) if names else value
    return mean


def axes_size(axis_name: str | Sequence[str] | None) -> int:
    """The number of batches that a layer averages over: the product of the sizes of mapped axes."""
    return math.prod(int(lax.axis_size(name)) for name in _names(axis_name) if is_mapped(name))


def _names(axis_name: str | Sequence[str] | None) -> tuple[str, ...]:
    if axis_name is None:
        return ()
    return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)


def is_mapped(axis_name: str) -> bool:
    """Whether a mapped axis, over which a layer's arithmetic is to average, is there."""
    try:
        lax.axis_size(axis_name)
    except NameError:
        return False
    return True


# Arguments of layers.


def check_static(**hyperparameters: object) -> None:
    """Raise if a layer's hyperparameter is traced: it decides what is computed."""
    for name, value in hyperparameters.items():
        if any(isinstance(part, jax.core.Tracer) for part in jax.tree.leaves(value)):
            raise TypeError(
                f"`{name}` is traced, but it decides what is computed, so it must be known before. "
                f"Bind it outside the transform, functools.partial(layer, {name}=...), or write "
                f"jax.jit(..., static_argnames={name!r})."
            )


def floating(x: Array) -> Array:
    """The input of a layer, if its values are floating-point numbers."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"A layer computes with floating-point values, got x of dtype {x.dtype}. Write "
            "x.astype(jnp.float32), or layers.embedding for indices."
        )
    return x


def at_least_float32(x: Array) -> Array:
    """The input of a layer, in float32 if its dtype is narrower."""
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)


def along(value: Array, axes: tuple[int, ...], rank: int) -> Array:
    """A layer's parameter with these axes, reshaped to broadcast with an input of that rank."""
    # Reshaped, not expanded: the gradient of a broadcast sums over the new axes of size 1.
    sizes = dict(zip(axes, value.shape, strict=True))
    return value.reshape([sizes.get(i, 1) for i in range(rank)])


def axes_of(axis: Sizes, x: Array) -> tuple[int, ...]:
    """The axes that a layer's arithmetic goes over, counted from the front, in order."""
    axes = tuple(map(operator.index, axis if isinstance(axis, Sequence) else (axis,)))
    strange = [i for i in axes if not -x.ndim <= i < x.ndim]
    if strange:
        raise ShapeMismatchError(f"There is no axis {strange[0]} in x of shape {x.shape}.")
    return tuple(sorted(i % x.ndim for i in axes))


def spatial_axes(x: Array, what: str) -> int:
    """The number of spatial axes of a layer's input, (batch, *spatial, channels)."""
    if x.ndim not in (3, 4, 5):
        raise ShapeMismatchError(
            f"{what} takes x of shape (batch, *spatial, channels) with one, two or three spatial "
            f"axes, got {x.shape}. For one example without a batch, write x[None]."
        )
    floating(x)
    return x.ndim - 2


def sizes_of(size: Sizes, axes: int, argument: str) -> tuple[int, ...]:
    """Sizes or strides for a layer's arithmetic, one for each spatial axis, from this argument."""
    sizes = tuple(map(operator.index, size if isinstance(size, Sequence) else (size,) * axes))
    if len(sizes) != axes:
        raise ShapeMismatchError(
            f"{size!r} has {len(sizes)} sizes, for {axes} spatial axes. Give one for each, or an "
            "int for all."
        )
    if min(sizes) < 1:
        raise ShapeMismatchError(
            f"`{argument}` must be at least 1 along each spatial axis, got {size!r}."
        )
    return sizes


def check_window(
    layer: str, x: Array, size: Sizes, padding: str, rate: Sizes = 1, argument: str = "kernel_size"
) -> None:
    """Raise if a window is larger than (batch, *spatial, channels), so that there is no result."""
    check_static(**{argument: size, "dilation_rate": rate})
    axes = x.ndim - 2
    sizes, rates = sizes_of(size, axes, argument), sizes_of(rate, axes, "dilation_rate")
    if padding_of(padding) == "SAME":
        return
    for axis, (length, one, step) in enumerate(zip(x.shape[1:-1], sizes, rates, strict=True)):
        window = (one - 1) * step + 1
        if window > length:
            raise ShapeMismatchError(
                f"{layer}: Negative dimension size caused by subtracting {window} from {length}: "
                f"the window, of {argument} {size!r}, is larger than x of shape {x.shape} along "
                f"spatial axis {axis}. Write padding='SAME', or a smaller {argument}."
            )


def padding_of(padding: str) -> str:
    """The padding for a layer's arithmetic, in capital letters, if it is one."""
    if str(padding).upper() not in ("SAME", "VALID"):
        raise ValueError(
            f"`padding` is 'SAME' or 'VALID', got {padding!r}. For others pad before: "
            "jnp.pad(x, ...)."
        )
    return padding.upper()


def layout_of(axes: int) -> tuple[str, str, str]:
    """The layouts of input, kernel and output, as JAX's convolutions take them."""
    spatial = "DHW"[-axes:]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
