"""``tf.layers``: TF1's signatures, default names and order of creation, with the scope in front.

``tf.layers.dense(x, 10)`` becomes ``layers.dense(scope, x, 10)``. The arithmetic is that of
`jscope.layers`, whose functions choose no names and take channels last. Here

* **a layer opens a scope**: the one of its ``name``, or of its default name, made unique as TF1
  makes it: ``dense``, ``dense_1``, ... In the body of a transform a name is required;
* **variables are created in TF1's order**, with its initializers;
* **what TF1 decides by a tensor is static** here: ``training``;
* all functions take default arguments from `tf1.arg_scope`.

Names, order, values and gradients are compared with TensorFlow's own (`tests/tf1`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .. import initializers as init
from .. import layers
from .._arithmetic import (
    Sizes,
    along,
    at_least_float32,
    axes_of,
    axes_size,
    check_static,
    convolve,
    floating,
    moments,
    normalized,
    over_axes,
    sizes_of,
)
from .._errors import ShapeMismatchError
from .._names.tf1 import no_attribute
from .._scope.scope import Scope
from .._variables.spec import Constraint
from ..layers import Activation, Initial
from ..regularizers import Regularizer
from ._arg_scope import add_arg_scope

CHANNELS_LAST = "channels_last"


@add_arg_scope
def dense(
    scope: Scope,
    /,
    inputs: Array,
    units: int,
    activation: Activation | str | None = None,
    use_bias: bool = True,
    kernel_initializer: Initial = None,
    bias_initializer: Initial = init.zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | Scope | None = None,
    reuse: bool | None = None,
) -> Array:
    """``activation(inputs @ kernel + bias)``, on the last axis.

    >>> def model(scope, x):
    ...     x = js.tf1.layers.dense(scope, x, 8, jax.nn.relu)
    ...     return js.tf1.layers.dense(scope, x, 2)
    >>> list(js.declare(model)(jnp.ones((4, 3))))
    ['dense/kernel', 'dense/bias', 'dense_1/kernel', 'dense_1/bias']

    Args:
        scope: Where the layer's scope is opened: it holds ``kernel`` and ``bias``.
        inputs: (..., features).
        units: The number of outputs.
        activation: A function, or the name of one in `jax.nn`.
        activity_regularizer: TF1's; an error says what replaces it.
        name: The layer's scope, relative to ``scope``, or a scope. Default: ``"dense"``, made
            unique.
        reuse: Whether the variables exist already; for that, give a name.
        others: As for `jscope.layers.dense`.

    Returns:
        (..., units).

    Source: ``tf.layers.dense``.
    """
    _refuse_activity("dense", activity_regularizer)
    return layers.dense(
        opened(scope, name, "dense", reuse),
        inputs,
        units=units,
        activation=activation_of(activation),
        use_bias=use_bias,
        kernel_initializer=kernel_initializer,
        bias_initializer=bias_initializer,
        kernel_regularizer=kernel_regularizer,
        bias_regularizer=bias_regularizer,
        kernel_constraint=kernel_constraint,
        bias_constraint=bias_constraint,
        trainable=trainable,
    )


class _Convolution:
    def __init__(self, axes: int):
        self._axes = axes
        self.__name__ = f"conv{axes}d"

    def __call__(
        self,
        scope: Scope,
        /,
        inputs: Array,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str = CHANNELS_LAST,
        dilation_rate: Sizes = 1,
        activation: Activation | str | None = None,
        use_bias: bool = True,
        kernel_initializer: Initial = None,
        bias_initializer: Initial = init.zeros,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: None = None,
        kernel_constraint: Constraint | None = None,
        bias_constraint: Constraint | None = None,
        trainable: bool = True,
        name: str | Scope | None = None,
        reuse: bool | None = None,
    ) -> Array:
        """Convolution over one, two or three axes.

        Args:
            scope: Where the layer's scope is opened: it holds ``kernel``, (*kernel_size,
                channels, filters), and ``bias``, (filters,).
            inputs: (batch, *spatial, channels), or (batch, channels, *spatial).
            data_format: ``"channels_last"`` or ``"channels_first"``; the result is alike.
            others: As for `dense` and `jscope.layers.conv`.

        Source: ``tf.layers.conv1d``, ``conv2d``, ``conv3d``.
        """
        check_rank(self.__name__, inputs, self._axes)
        _refuse_activity(self.__name__, activity_regularizer)
        y = layers.conv(
            opened(scope, name, self.__name__, reuse),
            channels_last(inputs, data_format),
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            activation=activation_of(activation),
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            trainable=trainable,
        )
        return channels_as_given(y, data_format)


conv1d = add_arg_scope(_Convolution(1))
conv2d = add_arg_scope(_Convolution(2))
conv3d = add_arg_scope(_Convolution(3))


class _TransposedConvolution:
    def __init__(self, axes: int):
        self._axes = axes
        self.__name__ = f"conv{axes}d_transpose"

    def __call__(
        self,
        scope: Scope,
        /,
        inputs: Array,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str = CHANNELS_LAST,
        activation: Activation | str | None = None,
        use_bias: bool = True,
        kernel_initializer: Initial = None,
        bias_initializer: Initial = init.zeros,
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: None = None,
        kernel_constraint: Constraint | None = None,
        bias_constraint: Constraint | None = None,
        trainable: bool = True,
        name: str | Scope | None = None,
        reuse: bool | None = None,
    ) -> Array:
        """Transposed convolution over two or three axes.

        Args:
            scope: Where the layer's scope is opened: it holds ``kernel``, (*kernel_size,
                filters, channels), and ``bias``, (filters,).
            inputs: As for `conv2d`.
            others: As for `conv2d` and `jscope.layers.conv_transpose`.

        Source: ``tf.layers.conv2d_transpose``, ``conv3d_transpose``.
        """
        check_rank(self.__name__, inputs, self._axes)
        _refuse_activity(self.__name__, activity_regularizer)
        y = layers.conv_transpose(
            opened(scope, name, self.__name__, reuse),
            channels_last(inputs, data_format),
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            activation=activation_of(activation),
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            trainable=trainable,
        )
        return channels_as_given(y, data_format)


conv2d_transpose = add_arg_scope(_TransposedConvolution(2))
conv3d_transpose = add_arg_scope(_TransposedConvolution(3))


class _SeparableConvolution:
    def __init__(self, axes: int):
        self._axes = axes
        self.__name__ = f"separable_conv{axes}d"

    def __call__(
        self,
        scope: Scope,
        /,
        inputs: Array,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str = CHANNELS_LAST,
        dilation_rate: Sizes = 1,
        depth_multiplier: int = 1,
        activation: Activation | str | None = None,
        use_bias: bool = True,
        depthwise_initializer: Initial = None,
        pointwise_initializer: Initial = None,
        bias_initializer: Initial = init.zeros,
        depthwise_regularizer: Regularizer | None = None,
        pointwise_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        activity_regularizer: None = None,
        depthwise_constraint: Constraint | None = None,
        pointwise_constraint: Constraint | None = None,
        bias_constraint: Constraint | None = None,
        trainable: bool = True,
        name: str | Scope | None = None,
        reuse: bool | None = None,
    ) -> Array:
        """A convolution of each channel for itself, then one over channels alone.

        Args:
            scope: Where the layer's scope is opened: it holds ``depthwise_kernel``,
                (*kernel_size, channels, depth_multiplier), ``pointwise_kernel``, (1, ..., channels
                * depth_multiplier, filters), and ``bias``, (filters,).
            inputs: As for `conv2d`.
            depth_multiplier: The number of results of each channel.
            others: As for `conv2d`.

        Source: ``tf.layers.separable_conv1d``, ``separable_conv2d``.
        """
        check_rank(self.__name__, inputs, self._axes)
        _refuse_activity(self.__name__, activity_regularizer)
        check_static(filters=filters, kernel_size=kernel_size, use_bias=use_bias)
        x = channels_last(floating(inputs), data_format)
        with opened(scope, name, self.__name__, reuse) as inner:
            variables: dict[str, dict[str, Any]] = {
                "depthwise_kernel": {
                    "initializer": depthwise_initializer,
                    "regularizer": depthwise_regularizer,
                    "constraint": depthwise_constraint,
                },
                "pointwise_kernel": {
                    "initializer": pointwise_initializer,
                    "regularizer": pointwise_regularizer,
                    "constraint": pointwise_constraint,
                },
            }
            depthwise, pointwise = separable_kernels(
                inner, x, filters, kernel_size, depth_multiplier, variables, trainable
            )
            y = separably_convolved(x, depthwise, pointwise, strides, padding, dilation_rate)
            if use_bias:
                bias = inner.get_variable(
                    "bias",
                    (filters,),
                    initializer=bias_initializer,
                    regularizer=bias_regularizer,
                    constraint=bias_constraint,
                    trainable=trainable,
                )
                y = y + along(bias.astype(y.dtype), (y.ndim - 1,), y.ndim)
            function = activation_of(activation)
            y = y if function is None else function(y)
        return channels_as_given(y, data_format)


separable_conv1d = add_arg_scope(_SeparableConvolution(1))
separable_conv2d = add_arg_scope(_SeparableConvolution(2))


@add_arg_scope
def embedding(
    scope: Scope,
    /,
    inputs: Array,
    input_dim: int,
    output_dim: int,
    embeddings_initializer: Initial = None,
    embeddings_regularizer: Regularizer | None = None,
    embeddings_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | Scope | None = None,
    reuse: bool | None = None,
) -> Array:
    """``embeddings[inputs]``.

    Args:
        scope: Where the layer's scope is opened: it holds ``embeddings``.
        inputs: Integers in ``0 ... input_dim - 1``, of any shape.
        others: As for `dense` and `jscope.layers.embedding`.

    Source: ``tf.keras.layers.Embedding``, with the names of ``tf.layers``, where it isn't.
    """
    return layers.embedding(
        opened(scope, name, "embedding", reuse),
        inputs,
        input_dim=input_dim,
        output_dim=output_dim,
        embeddings_initializer=embeddings_initializer,
        embeddings_regularizer=embeddings_regularizer,
        embeddings_constraint=embeddings_constraint,
        trainable=trainable,
    )


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
    r"""``gamma * (x - mean) / sqrt(variance + epsilon) + beta``, over all axes but one.

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
    """Whether TF1 uses its fused kernel by default."""
    return x.ndim == 4 and axis in (-1, 1, 3) and x.dtype != jnp.float64


@add_arg_scope
def dropout(
    scope: Scope,
    /,
    inputs: Array,
    rate: float = 0.5,
    noise_shape: Sequence[int] | None = None,
    seed: int | None = None,
    training: bool = False,
    name: str | Scope | None = None,
) -> Array:
    """In training, zero with probability ``rate``, else ``x / (1 - rate)``; otherwise ``x``.

    Args:
        scope: Has the random stream ``"dropout"``, if training.
        inputs: Any shape.
        seed: Folded into the random key, which comes from the stream and the layer's scope.
        training: Static. Default: False, as in TF1.
        name: The layer's scope, from which the random key comes. Default: ``"dropout"``, made
            unique, if training.
        others: As for `jscope.layers.dropout`.

    Source: ``tf.layers.dropout``.
    """
    check_static(training=training)
    if not training:
        return inputs
    inner = opened(scope, name, "dropout", None)
    if seed is not None:
        inner = inner.fold(seed)
    return layers.dropout(inner, inputs, rate=rate, noise_shape=noise_shape, training=True)


@add_arg_scope
def flatten(
    scope: Scope,
    /,
    inputs: Array,
    name: str | None = None,
    data_format: str = CHANNELS_LAST,
) -> Array:
    """(batch, ...) as (batch, features), channels last.

    Source: ``tf.layers.flatten``.
    """
    del scope, name  # which TF1 gives to the operations; no variable has them
    if data_format == "channels_first" and inputs.ndim > 2:
        inputs = channels_last(inputs, data_format)
    return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


class _Pooling:
    def __init__(self, kind: str, axes: int):
        self._pool = layers.max_pool if kind == "max" else layers.avg_pool
        self._axes = axes
        self.__name__ = f"{kind}_pooling{axes}d"

    def __call__(
        self,
        scope: Scope,
        /,
        inputs: Array,
        pool_size: Sizes,
        strides: Sizes,
        padding: str = "valid",
        data_format: str = CHANNELS_LAST,
        name: str | None = None,
    ) -> Array:
        """The largest value, or the mean, of each window; ``strides`` has no default.

        Source: ``tf.layers.max_pooling2d``, ``average_pooling2d``, and those of one and three axes.
        """
        del scope, name  # which TF1 gives to the operations; no variable has them
        check_rank(self.__name__, inputs, self._axes)
        x = channels_last(inputs, data_format)
        y = self._pool(x, pool_size=pool_size, strides=strides, padding=padding)
        return channels_as_given(y, data_format)


max_pooling1d = add_arg_scope(_Pooling("max", 1))
max_pooling2d = add_arg_scope(_Pooling("max", 2))
max_pooling3d = add_arg_scope(_Pooling("max", 3))
average_pooling1d = add_arg_scope(_Pooling("average", 1))
average_pooling2d = add_arg_scope(_Pooling("average", 2))
average_pooling3d = add_arg_scope(_Pooling("average", 3))


# Shared with `tf1.contrib`.


def opened(scope: Scope, name: str | Scope | None, default: str, reuse: bool | None) -> Scope:
    """The scope of a layer, as ``tf.layers`` opens it: to reuse the default name is possible."""
    if name is None and reuse:
        name = default
    return scope.variable_scope(name, default, reuse=reuse)


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
    """Batch normalization in a layer's own scope.

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


def separable_kernels(
    scope: Scope,
    x: Array,
    filters: int | None,
    kernel_size: Sizes,
    depth_multiplier: int,
    variables: Mapping[str, Mapping[str, Any]],
    trainable: bool,
) -> list[Array]:
    """The depthwise and, if there are filters, the pointwise kernel, under the names given."""
    axes, channels = x.ndim - 2, x.shape[-1]
    shapes = [(*sizes_of(kernel_size, axes), channels, depth_multiplier)]
    if filters is not None:
        shapes.append((*(1,) * axes, channels * depth_multiplier, filters))
    return [
        scope.get_variable(name, shape, trainable=trainable, **arguments)
        for (name, arguments), shape in zip(variables.items(), shapes, strict=False)
    ]


def separably_convolved(
    x: Array,
    depthwise: Array,
    pointwise: Array | None,
    strides: Sizes,
    padding: str,
    dilation_rate: Sizes,
) -> Array:
    """Each channel convolved for itself, then, with a pointwise kernel, all at each place."""
    *sizes, channels, multiplier = depthwise.shape
    grouped = depthwise.reshape(*sizes, 1, channels * multiplier)
    y = convolve(x, grouped, strides, padding, dilation_rate, channels)
    return y if pointwise is None else convolve(y, pointwise, 1, "VALID")


def channels_last(x: Array, data_format: str | None) -> Array:
    """(batch, *spatial, channels) from either format."""
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
    """Raise if an input has another number of spatial axes."""
    if x.ndim != axes + 2:
        raise ShapeMismatchError(
            f"Input 0 of layer {layer} is incompatible with the layer: expected {axes + 2} axes, "
            f"found {x.ndim}. Full shape received: {x.shape}."
        )


def activation_of(activation: Activation | str | None) -> Activation | None:
    """A function, by its name in `jax.nn`."""
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


def _refuse_activity(layer: str, activity_regularizer: object) -> None:
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


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, globals())
