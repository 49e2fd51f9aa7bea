"""Batch normalization, with TF1's two ways to compute the moving variance."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ... import initializers as init
from ..._errors import ShapeMismatchError
from ..._layer_arithmetic import (
    along,
    at_least_float32,
    axes_of,
    axes_size,
    check_static,
    floating,
    moments,
    normalized,
    over_axes,
)
from ..._scope.scope import Scope
from ..._variables.spec import Constraint
from ...layers import Initial
from ...regularizers import Regularizer
from .._arg_scope import add_arg_scope
from ._layer import opened, refuse


@add_arg_scope
def batch_normalization(
    scope: Scope,
    /,
    inputs: Array,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Initial = init.zeros,
    gamma_initializer: Initial = init.ones,
    moving_mean_initializer: Initial = init.zeros,
    moving_variance_initializer: Initial = init.ones,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    training: bool = False,
    trainable: bool = True,
    name: str | Scope | None = None,
    reuse: bool | None = None,
    renorm: bool = False,
    renorm_clipping: None = None,
    renorm_momentum: float = 0.99,
    fused: bool | None = None,
    virtual_batch_size: None = None,
    adjustment: None = None,
    *,
    update: bool = True,
    axis_name: str | Sequence[str] | None = None,
) -> Array:
    r"""TF1's batch normalization: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    In training, mean and variance are those of the batch, and the moving statistics become
    ``m + (batch - m) * (1 - momentum)``, which `js.with_updates` returns, in place of
    ``UPDATE_OPS``.

    Args:
        scope: Where the layer's scope is opened: it holds ``gamma``, ``beta``, ``moving_mean``
            and ``moving_variance``, created in this order.
        inputs: Any shape.
        axis: The axis that is kept.
        training: Static. Default: False, as in TF1.
        fused: Whether to compute as TF's fused kernel does: the moving variance gets
            that of the batch times n / (n - 1). Default: where TF1 uses that kernel: for four
            axes, the kept one being the second or the last.
        update: Whether to assign the moving statistics; False needs no `js.with_updates`. Not
            TF1's, where one left out ``UPDATE_OPS``.
        axis_name: The mapped axes whose batches count as one. Not TF1's.
        renorm: With ``renorm_clipping``, ``virtual_batch_size`` and ``adjustment``: errors.
        others: As for `dense`.

    Raises:
        ScopeError: In training, outside `js.with_updates`, unless ``update=False``.

    Source: ``tf.layers.batch_normalization``. Difference: TensorFlow 1 raises the epsilon of its
        fused kernel to 1.001e-5; this, as TensorFlow 2, doesn't.
    """
    refuse(
        "batch_normalization",
        "jscope has none of batch renormalization, virtual batches and adjustments",
        renorm=renorm or None,
        renorm_clipping=renorm_clipping,
        virtual_batch_size=virtual_batch_size,
        adjustment=adjustment,
    )
    check_static(training=training, axis=axis, center=center, scale=scale, fused=fused)
    gamma: dict[str, Any] = {
        "initializer": gamma_initializer,
        "regularizer": gamma_regularizer,
        "constraint": gamma_constraint,
        "trainable": trainable,
    }
    beta: dict[str, Any] = {
        "initializer": beta_initializer,
        "regularizer": beta_regularizer,
        "constraint": beta_constraint,
        "trainable": trainable,
    }
    variables: dict[str, dict[str, Any]] = {
        **({"gamma": gamma} if scale else {}),
        **({"beta": beta} if center else {}),
        "moving_mean": {"initializer": moving_mean_initializer, "trainable": False},
        "moving_variance": {"initializer": moving_variance_initializer, "trainable": False},
    }
    with opened(scope, name, "batch_normalization", reuse) as inner:
        return batch_normalized(
            inner,
            inputs,
            axis,
            variables,
            momentum=momentum,
            epsilon=epsilon,
            training=training,
            fused=_is_fused(inputs, axis) if fused is None else fused,
            update=update,
            axis_name=axis_name,
        )


def _is_fused(x: Array, axis: int) -> bool:
    """Whether TF1's layer for batch normalization uses its fused kernel by default."""
    return x.ndim == 4 and axis in (-1, 1, 3) and x.dtype != jnp.float64


def batch_normalized(
    scope: Scope,
    x: Array,
    axis: int,
    variables: Mapping[str, Mapping[str, Any]],
    *,
    momentum: float,
    epsilon: float,
    training: bool,
    fused: bool,
    update: bool,
    axis_name: str | Sequence[str] | None = None,
) -> Array:
    """Batch normalization in a layer's own scope, for `tf1.contrib` too.

    Args:
        variables: The arguments of `Scope.get_variable`, by name, in order of creation.
        others: As of `batch_normalization`.
    """
    kept = axes_of(axis, x)
    if len(kept) != 1:
        raise ShapeMismatchError(f"Batch normalization keeps one axis, got axis={axis!r}.")
    others = tuple(i for i in range(x.ndim) if i not in kept)
    wide = at_least_float32(floating(x))
    values = {
        name: scope.get_variable(
            name, (x.shape[kept[0]],), wide.dtype if name in _MOVING else None, **arguments
        )
        for name, arguments in variables.items()
    }
    count = math.prod(x.shape[i] for i in others)

    def over_mapped(value: Array) -> Array:
        return over_axes(value, axis_name, scope._context.creates)

    mean, variance = values["moving_mean"], values["moving_variance"]
    if training:
        mean, variance = moments(wide, others, kept, over_mapped)
        if update:
            count = count * axes_size(axis_name)
            factor = count / max(count - 1, 1) if fused else 1
            for name, batch in zip(_MOVING, (mean, variance * factor), strict=True):
                old = values[name]
                new = old + (lax.stop_gradient(batch) - old) * (1 - momentum)
                scope.assign(name, new)
    gamma, beta = (
        along(values[name].astype(wide.dtype), kept, x.ndim) if name in values else None
        for name in ("gamma", "beta")
    )
    return normalized(wide, mean, variance, kept, epsilon, gamma, beta).astype(x.dtype)


_MOVING = ("moving_mean", "moving_variance")
