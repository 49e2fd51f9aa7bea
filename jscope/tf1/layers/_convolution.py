"""Convolutions, transposed and separable ones, over one, two or three axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax import Array

from ... import initializers as init
from ... import layers
from ..._layer_arithmetic import (
    Sizes,
    along,
    check_static,
    check_window,
    convolve,
    floating,
    sizes_of,
)
from ..._model.named import named
from ..._scope.scope import Scope
from ..._variables.spec import Constraint
from ...layers import Activation, Initial
from ...regularizers import Regularizer
from .._arg_scope import add_arg_scope
from ._layer import (
    CHANNELS_LAST,
    activation_of,
    channels_as_given,
    channels_last,
    check_rank,
    opened,
    refuse_activity,
)


class _OverAxes:
    """A convolution over one, two or three spatial axes, with the channels last or second."""

    def __init__(self, name: str, axes: int):
        self._axes = axes
        self.__name__ = name

    def _applied(
        self,
        layer: Callable[..., Array],
        scope: Scope,
        inputs: Array,
        data_format: str,
        activation: Activation | str | None,
        activity_regularizer: None,
        name: str | Scope | None,
        reuse: bool | None,
        **arguments: Any,
    ) -> Array:
        """What a layer without a name and with channels last gives, in the scope of a name."""
        check_rank(self.__name__, inputs, self._axes)
        refuse_activity(self.__name__, activity_regularizer)
        y = layer(
            opened(scope, name, self.__name__, reuse),
            channels_last(inputs, data_format),
            activation=activation_of(activation),
            **arguments,
        )
        return channels_as_given(y, data_format)


class _Convolution(_OverAxes):
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
        return self._applied(
            layers.conv,
            scope,
            inputs,
            data_format,
            activation,
            activity_regularizer,
            name,
            reuse,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            trainable=trainable,
        )


conv1d = add_arg_scope(_Convolution("conv1d", 1))
conv2d = add_arg_scope(_Convolution("conv2d", 2))
conv3d = add_arg_scope(_Convolution("conv3d", 3))


class _TransposedConvolution(_OverAxes):
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
        return self._applied(
            layers.conv_transpose,
            scope,
            inputs,
            data_format,
            activation,
            activity_regularizer,
            name,
            reuse,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            trainable=trainable,
        )


conv2d_transpose = add_arg_scope(_TransposedConvolution("conv2d_transpose", 2))
conv3d_transpose = add_arg_scope(_TransposedConvolution("conv3d_transpose", 3))


class _SeparableConvolution(_OverAxes):
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
        kernels: dict[str, dict[str, Any]] = {
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
        bias: dict[str, Any] = {
            "initializer": bias_initializer,
            "regularizer": bias_regularizer,
            "constraint": bias_constraint,
        }
        return self._applied(
            separable_conv,
            scope,
            inputs,
            data_format,
            activation,
            activity_regularizer,
            name,
            reuse,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            depth_multiplier=depth_multiplier,
            kernels=kernels,
            use_bias=use_bias,
            bias=bias,
            trainable=trainable,
        )


separable_conv1d = add_arg_scope(_SeparableConvolution("separable_conv1d", 1))
separable_conv2d = add_arg_scope(_SeparableConvolution("separable_conv2d", 2))


@named
def separable_conv(
    scope: Scope,
    x: Array,
    *,
    filters: int,
    kernel_size: Sizes,
    strides: Sizes,
    padding: str,
    dilation_rate: Sizes,
    depth_multiplier: int,
    activation: Activation | None,
    use_bias: bool,
    kernels: Mapping[str, Mapping[str, Any]],
    bias: Mapping[str, Any],
    trainable: bool,
) -> Array:
    """TF1's separable convolution in a given scope, without a name and with channels last.

    Args:
        kernels: The arguments of `Scope.get_variable`, by name.
        bias: Those of ``bias``.
        others: As for `separable_conv2d`.
    """
    check_static(filters=filters, kernel_size=kernel_size, use_bias=use_bias)
    x = floating(x)
    layer = f"separable_conv in the scope {scope._path!r}"
    check_window(layer, x, kernel_size, padding, dilation_rate)
    shapes = separable_shapes(x, filters, kernel_size, depth_multiplier)
    found = [
        scope.get_variable(name, shape, trainable=trainable, **arguments)
        for shape, (name, arguments) in zip(shapes, kernels.items(), strict=True)
    ]
    y = separably_convolved(x, found, strides, padding, dilation_rate)
    if use_bias:
        value = scope.get_variable("bias", (filters,), trainable=trainable, **bias)
        y = y + along(value.astype(y.dtype), (y.ndim - 1,), y.ndim)
    return y if activation is None else activation(y)


# Shared with `tf1.contrib`.


def separable_shapes(
    x: Array, filters: int | None, kernel_size: Sizes, depth_multiplier: int
) -> list[tuple[int, ...]]:
    """The kernel shapes of TF1's separable convolution: depthwise and, with filters, pointwise."""
    axes, channels = x.ndim - 2, x.shape[-1]
    sizes = sizes_of(kernel_size, axes, "kernel_size")
    shapes: list[tuple[int, ...]] = [(*sizes, channels, depth_multiplier)]
    if filters is not None:
        shapes.append((*(1,) * axes, channels * depth_multiplier, filters))
    return shapes


def separably_convolved(
    x: Array, kernels: Sequence[Array], strides: Sizes, padding: str, dilation_rate: Sizes
) -> Array:
    """TF1's separable convolution, of each channel for itself, then, if pointwise, of all."""
    *sizes, channels, multiplier = kernels[0].shape
    grouped = kernels[0].reshape(*sizes, 1, channels * multiplier)
    y = convolve(x, grouped, strides, padding, dilation_rate, channels)
    return y if len(kernels) == 1 else convolve(y, kernels[1], 1, "VALID")
