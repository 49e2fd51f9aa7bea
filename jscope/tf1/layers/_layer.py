"""What the layers share: their scope, the formats of their data, and what they refuse.

Some of it is for `tf1.contrib` too.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ..._errors import ShapeMismatchError
from ..._scope.scope import Scope
from ...layers import Activation

CHANNELS_LAST = "channels_last"


def opened(scope: Scope, name: str | Scope | None, default: str, reuse: bool | None) -> Scope:
    """The scope of a layer, as ``tf.layers`` opens it: to reuse the default name is possible."""
    if name is None and reuse:
        name = default
    return scope.variable_scope(name, default, reuse=reuse)


def channels_last(x: Array, data_format: str | None) -> Array:
    """The input of any of TF1's layers, in either format, as (batch, *spatial, channels)."""
    return jnp.moveaxis(x, 1, -1) if is_channels_first(data_format) else x


def channels_as_given(x: Array, data_format: str | None) -> Array:
    """What `channels_last` takes, from what it gives."""
    return jnp.moveaxis(x, -1, 1) if is_channels_first(data_format) else x


def is_channels_first(data_format: str | None) -> bool:
    """Whether the channels are the second axis."""
    if data_format in _LAST:
        return False
    if data_format in _FIRST:
        return True
    raise ValueError(
        f"`data_format` is 'channels_last' or 'channels_first' (in contrib 'NHWC' or 'NCHW'), got "
        f"{data_format!r}."
    )


_LAST = (None, CHANNELS_LAST, "NWC", "NHWC", "NDHWC")
_FIRST = ("channels_first", "NCW", "NCHW", "NCDHW")


def check_rank(layer: str, x: Array, axes: int) -> None:
    """Raise if the input of any of TF1's layers has another number of spatial axes."""
    if x.ndim != axes + 2:
        raise ShapeMismatchError(
            f"Input 0 of layer {layer} is incompatible with the layer: expected {axes + 2} axes, "
            f"found {x.ndim}. Full shape received: {x.shape}."
        )


def activation_of(activation: Activation | str | None) -> Activation | None:
    """The activation of any of TF1's layers: a function, also by its name in `jax.nn`."""
    if activation is not None and not isinstance(activation, str) and not callable(activation):
        raise TypeError(
            "An activation is a function, or the name of one in jax.nn, got "
            f"{activation!r} of type {type(activation).__name__}. Write None for none."
        )
    if not isinstance(activation, str):
        return activation
    if activation == "linear":
        return None
    function = getattr(jax.nn, activation, None)
    if not callable(function):
        raise ValueError(
            f"There is no activation jax.nn.{activation}. Pass a function, such as jax.nn.relu."
        )
    found: Activation = function
    return found


def keep_prob_of(argument: str, keep_prob: float) -> float:
    """A probability to keep a value, if it is one."""
    if not 0 < keep_prob <= 1:
        raise ValueError(
            f"`{argument}` is the probability to keep a value, in (0, 1], got {keep_prob!r}. With "
            "1 nothing is dropped."
        )
    return keep_prob


def refuse_activity(layer: str, activity_regularizer: object) -> None:
    """Raise if any of TF1's layers is given a regularizer of its output."""
    refuse(
        layer,
        "a loss of activities is a result: write scope.record('activity_loss', f(y)) after the "
        "layer, and collect it by js.with_records(model)",
        activity_regularizer=activity_regularizer,
    )


def refuse(layer: str, instead: str, **arguments: object) -> None:
    """Raise for arguments that are given, and mean nothing here."""
    for name, value in arguments.items():
        if value is not None:
            raise TypeError(f"{layer}(..., {name}={value!r}) is not supported: {instead}.")
