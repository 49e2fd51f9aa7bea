"""``tf.contrib.layers``, which slim re-exports: their names and variables, the scope in front.

``slim.conv2d(x, 64, [3, 3], scope="conv1")`` becomes ``contrib.conv2d(scope, x, 64, [3, 3],
scope="conv1")``: the first argument is passed by position, and ``scope=`` is the layer's name. As
there

* weights are ``weights`` and ``biases``, and in the collection ``"model_variables"`` too;
* activations are ReLUs, and paddings ``"SAME"``, where one says nothing;
* default initializers are explicit, so that a scope's don't reach them;
* a normalizer replaces the biases, and has a scope in that of its layer. It is a function
  ``f(scope, x, **normalizer_params)``;
* ``weights_regularizer`` doesn't reach biases;
* all functions take default arguments from `tf1.arg_scope`, which is ``contrib.arg_scope`` too.

``outputs_collections="end_points"`` records the output under this name in the layer's scope, for
`js.with_records`.

Source: ``tf.contrib.layers``, TensorFlow 1.15; ``tf_slim`` 1.1. Names, order, values and gradients
are compared with the latter's.
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from .. import initializers as init
from .. import layers, regularizers
from .._errors import ShapeMismatchError, near
from .._layer_arithmetic import (
    Sizes,
    along,
    at_least_float32,
    check_static,
    check_window,
    convolve,
    convolve_transposed,
    floating,
    sizes_of,
)
from .._names.names import join
from .._names.tf1 import no_attribute, public
from .._scope.scope import Scope
from .._variables.collections import GraphKeys
from ..initializers import Initializer
from ..layers import Activation, Initial
from ..regularizers import Regularizer
from ._arg_scope import add_arg_scope as add_arg_scope
from ._arg_scope import arg_scope as arg_scope
from ._arg_scope import has_arg_scope as has_arg_scope
from .layers._convolution import separable_shapes, separably_convolved
from .layers._layer import (
    activation_of,
    channels_as_given,
    channels_last,
    check_rank,
    is_channels_first,
    keep_prob_of,
    refuse,
)
from .layers._normalization import batch_normalized

Normalizer: TypeAlias = Callable[..., Array]
Collections: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]] | None
Outputs: TypeAlias = str | Sequence[str] | None

__all__ = [
    "UPDATE_OPS",
    "add_arg_scope",
    "arg_scope",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "bias_add",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "convolution",
    "convolution1d",
    "convolution2d",
    "convolution2d_transpose",
    "convolution3d",
    "dropout",
    "embed_sequence",
    "flatten",
    "fully_connected",
    "has_arg_scope",
    "l1_l2_regularizer",
    "l1_regularizer",
    "l2_regularizer",
    "layer_norm",
    "linear",
    "max_pool2d",
    "max_pool3d",
    "model_variables",
    "one_hot_encoding",
    "relu",
    "repeat",
    "separable_conv2d",
    "separable_convolution2d",
    "softmax",
    "stack",
    "sum_regularizer",
    "variance_scaling_initializer",
    "xavier_initializer",
    "xavier_initializer_conv2d",
]

UPDATE_OPS = "update_ops"
_XAVIER = init.glorot_uniform()


class _Weights:
    """The scope of one of contrib's layers, and how its variables are created."""

    def __init__(self, scope: Scope, collections: Collections, trainable: bool):
        self.scope = scope
        self._collections = collections
        self._trainable = trainable

    def get(
        self,
        name: str,
        shape: Sequence[int],
        initializer: Initial,
        regularizer: Regularizer | None = None,
        collections_of: str | None = None,
    ) -> Array:
        keys = self._collections
        if isinstance(keys, Mapping):
            keys = keys.get(name if collections_of is None else collections_of)
        return self.scope.get_variable(
            name,
            tuple(shape),
            initializer=initializer,
            regularizer=regularizer,
            trainable=self._trainable,
            collections=model_variables(keys),
        )


def model_variables(keys: Sequence[str] | None = None) -> tuple[str, ...]:
    """The collections that a model variable of contrib's is in, and more."""
    standard = (GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES)
    return (*standard, *(key for key in keys or () if key not in standard))


def _layer(
    weighted: Callable[[_Weights, Array], Array],
    within: Scope,
    default: str,
    inputs: Array,
    data_format: str | None,
    *,
    scope: str | Scope | None,
    reuse: bool | None,
    collections: Collections,
    trainable: bool,
    biases_initializer: Initial,
    biases_regularizer: Regularizer | None,
    normalizer_fn: Normalizer | None,
    normalizer_params: Mapping[str, Any] | None,
    activation_fn: Activation | None,
    outputs_collections: Outputs,
) -> Array:
    """A layer: its weights, then biases or a normalizer, and the activation, in its own scope.

    Args:
        weighted: ``f(weights, x)``, with the channels last in ``x`` and in the result.
        default: The layer's default name.
        collections: ``variables_collections``.
        others: As for `fully_connected` and `conv2d`.
    """
    with within.variable_scope(scope, default, reuse=reuse) as inner:
        weights = _Weights(inner, collections, trainable)
        y = weighted(weights, channels_last(floating(inputs), data_format))
        if normalizer_fn is None and biases_initializer is not None:
            biases = weights.get("biases", y.shape[-1:], biases_initializer, biases_regularizer)
            y = y + along(biases.astype(y.dtype), (y.ndim - 1,), y.ndim)
        y = channels_as_given(y, data_format)
        if normalizer_fn is not None:
            y = normalizer_fn(inner, y, **(normalizer_params or {}))
        return _activated(inner, y, activation_fn, outputs_collections)


def _activated(
    scope: Scope, y: Array, activation_fn: Activation | None, outputs_collections: Outputs
) -> Array:
    activation = activation_of(activation_fn)
    if activation is not None:
        y = activation(y)
    return _collected(scope, y, outputs_collections)


def _collected(scope: Scope, y: Array, outputs_collections: Outputs, name: str = "") -> Array:
    """Record an output for each of the collections."""
    keys = outputs_collections
    for key in (keys,) if isinstance(keys, str) else keys or ():
        scope.record(join(name, key) if name else key, y)
    return y


@add_arg_scope
def fully_connected(
    within: Scope,
    /,
    inputs: Array,
    num_outputs: int,
    activation_fn: Activation | None = jax.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Initial = _XAVIER,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initial = init.zeros,
    biases_regularizer: Regularizer | None = None,
    reuse: bool | None = None,
    variables_collections: Collections = None,
    outputs_collections: Outputs = None,
    trainable: bool = True,
    scope: str | Scope | None = None,
) -> Array:
    """``activation_fn(inputs @ weights + biases)``, on the last axis.

    >>> from jscope.tf1 import contrib
    >>> def model(scope, x):
    ...     x = contrib.fully_connected(scope, x, 8, scope="hidden")
    ...     return contrib.fully_connected(scope, x, 2, activation_fn=None)
    >>> list(js.declare(model)(jnp.ones((4, 3))))
    ['hidden/weights', 'hidden/biases', 'fully_connected/weights', 'fully_connected/biases']

    Args:
        within: Where the layer's scope is opened: it holds ``weights`` and ``biases``. TF1's
            current scope.
        inputs: (..., features).
        num_outputs: The number of outputs.
        activation_fn: None for none.
        normalizer_fn: ``f(scope, y, **normalizer_params)``, in place of the biases.
        biases_initializer: None for no biases.
        reuse: Whether the variables exist already; ``scope`` is required then.
        variables_collections: More collections of the variables: a list, or a dict with lists for
            ``"weights"`` and ``"biases"``.
        outputs_collections: Names under which the output is recorded.
        scope: The layer's scope, relative to ``within``, or a scope. Default:
            ``"fully_connected"``, made unique.

    Returns:
        (..., num_outputs).

    Source: ``tf.contrib.layers.fully_connected``.
    """
    check_static(num_outputs=num_outputs)

    def product(weights: _Weights, x: Array) -> Array:
        shape = (x.shape[-1], num_outputs)
        kernel = weights.get("weights", shape, weights_initializer, weights_regularizer)
        return x @ kernel.astype(x.dtype)

    return _layer(
        product,
        within,
        "fully_connected",
        inputs,
        None,
        scope=scope,
        reuse=reuse,
        collections=variables_collections,
        trainable=trainable,
        biases_initializer=biases_initializer,
        biases_regularizer=biases_regularizer,
        normalizer_fn=normalizer_fn,
        normalizer_params=normalizer_params,
        activation_fn=activation_fn,
        outputs_collections=outputs_collections,
    )


relu = fully_connected
linear = functools.partial(fully_connected, activation_fn=None)


class _Convolution:
    def __init__(self, axes: int | None):
        self._axes = axes
        self.__name__ = f"conv{axes}d" if axes else "convolution"

    def __call__(
        self,
        within: Scope,
        /,
        inputs: Array,
        num_outputs: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str = "SAME",
        data_format: str | None = None,
        rate: Sizes = 1,
        activation_fn: Activation | None = jax.nn.relu,
        normalizer_fn: Normalizer | None = None,
        normalizer_params: Mapping[str, Any] | None = None,
        weights_initializer: Initial = _XAVIER,
        weights_regularizer: Regularizer | None = None,
        biases_initializer: Initial = init.zeros,
        biases_regularizer: Regularizer | None = None,
        reuse: bool | None = None,
        variables_collections: Collections = None,
        outputs_collections: Outputs = None,
        trainable: bool = True,
        scope: str | Scope | None = None,
    ) -> Array:
        """Convolution over one, two or three axes; `convolution` has any number of these.

        Args:
            within: Where the layer's scope is opened, ``"Conv"`` by default: it holds ``weights``,
                (*kernel_size, channels, num_outputs), and ``biases``.
            inputs: (batch, *spatial, channels), or (batch, channels, *spatial).
            kernel_size: One size for all axes, or one for each; so too stride and rate.
            data_format: ``"NHWC"`` or ``"NCHW"``, and those of one and three axes.
            rate: That of a dilated convolution.
            others: As for `fully_connected`.

        Source: ``tf.contrib.layers.conv2d``, ``conv1d``, ``conv3d``, ``convolution``.
        """
        check_static(num_outputs=num_outputs, kernel_size=kernel_size)
        check_rank(self.__name__, inputs, inputs.ndim - 2 if self._axes is None else self._axes)

        def convolved(weights: _Weights, x: Array) -> Array:
            layer = f"{self.__name__} in the scope {weights.scope._path!r}"
            check_window(layer, x, kernel_size, padding, rate)
            sizes = sizes_of(kernel_size, x.ndim - 2, "kernel_size")
            shape = (*sizes, x.shape[-1], num_outputs)
            kernel = weights.get("weights", shape, weights_initializer, weights_regularizer)
            return convolve(x, kernel, stride, padding, rate)

        return _layer(
            convolved,
            within,
            "Conv",
            inputs,
            data_format,
            scope=scope,
            reuse=reuse,
            collections=variables_collections,
            trainable=trainable,
            biases_initializer=biases_initializer,
            biases_regularizer=biases_regularizer,
            normalizer_fn=normalizer_fn,
            normalizer_params=normalizer_params,
            activation_fn=activation_fn,
            outputs_collections=outputs_collections,
        )


convolution = add_arg_scope(_Convolution(None))
conv1d = convolution1d = add_arg_scope(_Convolution(1))
conv2d = convolution2d = add_arg_scope(_Convolution(2))
conv3d = convolution3d = add_arg_scope(_Convolution(3))


@add_arg_scope
def conv2d_transpose(
    within: Scope,
    /,
    inputs: Array,
    num_outputs: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: str = "SAME",
    data_format: str = "NHWC",
    activation_fn: Activation | None = jax.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Initial = _XAVIER,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initial = init.zeros,
    biases_regularizer: Regularizer | None = None,
    reuse: bool | None = None,
    variables_collections: Collections = None,
    outputs_collections: Outputs = None,
    trainable: bool = True,
    scope: str | Scope | None = None,
) -> Array:
    """Transposed convolution over two axes, with contrib's names and arguments.

    Args:
        within: Where the layer's scope is opened, ``"Conv2d_transpose"`` by default: it holds
            ``weights``, (*kernel_size, num_outputs, channels), and ``biases``.
        others: As for `conv2d`.

    Source: ``tf.contrib.layers.conv2d_transpose``.
    """
    check_static(num_outputs=num_outputs, kernel_size=kernel_size)
    check_rank("conv2d_transpose", inputs, 2)

    def convolved(weights: _Weights, x: Array) -> Array:
        shape = (*sizes_of(kernel_size, 2, "kernel_size"), num_outputs, x.shape[-1])
        kernel = weights.get("weights", shape, weights_initializer, weights_regularizer)
        return convolve_transposed(x, kernel, stride, padding)

    return _layer(
        convolved,
        within,
        "Conv2d_transpose",
        inputs,
        data_format,
        scope=scope,
        reuse=reuse,
        collections=variables_collections,
        trainable=trainable,
        biases_initializer=biases_initializer,
        biases_regularizer=biases_regularizer,
        normalizer_fn=normalizer_fn,
        normalizer_params=normalizer_params,
        activation_fn=activation_fn,
        outputs_collections=outputs_collections,
    )


convolution2d_transpose = conv2d_transpose


@add_arg_scope
def separable_conv2d(
    within: Scope,
    /,
    inputs: Array,
    num_outputs: int | None,
    kernel_size: Sizes,
    depth_multiplier: int = 1,
    stride: Sizes = 1,
    padding: str = "SAME",
    data_format: str = "NHWC",
    rate: Sizes = 1,
    activation_fn: Activation | None = jax.nn.relu,
    normalizer_fn: Normalizer | None = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Initial = _XAVIER,
    pointwise_initializer: Initial = None,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initial = init.zeros,
    biases_regularizer: Regularizer | None = None,
    reuse: bool | None = None,
    variables_collections: Collections = None,
    outputs_collections: Outputs = None,
    trainable: bool = True,
    scope: str | Scope | None = None,
) -> Array:
    """A convolution of each channel for itself, then, unless ``num_outputs`` is None, over all.

    Args:
        within: Where the layer's scope is opened, ``"SeparableConv2d"`` by default: it holds
            ``depthwise_weights``, (*kernel_size, channels, depth_multiplier),
            ``pointwise_weights``, (1, 1, channels * depth_multiplier, num_outputs), and
            ``biases``.
        others: As for `conv2d`.

    Source: ``tf.contrib.layers.separable_conv2d``.
    """
    check_static(num_outputs=num_outputs, kernel_size=kernel_size)
    check_rank("separable_conv2d", inputs, 2)
    pointwise = weights_initializer if pointwise_initializer is None else pointwise_initializer
    initial = {"depthwise_weights": weights_initializer, "pointwise_weights": pointwise}

    def convolved(weights: _Weights, x: Array) -> Array:
        layer = f"separable_conv2d in the scope {weights.scope._path!r}"
        check_window(layer, x, kernel_size, padding, rate)
        shapes = separable_shapes(x, num_outputs, kernel_size, depth_multiplier)
        kernels = [
            weights.get(name, shape, initializer, weights_regularizer, collections_of="weights")
            for shape, (name, initializer) in zip(shapes, initial.items(), strict=False)
        ]
        return separably_convolved(x, kernels, stride, padding, rate)

    return _layer(
        convolved,
        within,
        "SeparableConv2d",
        inputs,
        data_format,
        scope=scope,
        reuse=reuse,
        collections=variables_collections,
        trainable=trainable,
        biases_initializer=biases_initializer,
        biases_regularizer=biases_regularizer,
        normalizer_fn=normalizer_fn,
        normalizer_params=normalizer_params,
        activation_fn=activation_fn,
        outputs_collections=outputs_collections,
    )


separable_convolution2d = separable_conv2d


@add_arg_scope
def bias_add(
    within: Scope,
    /,
    inputs: Array,
    activation_fn: Activation | None = None,
    initializer: Initial = init.zeros,
    regularizer: Regularizer | None = None,
    reuse: bool | None = None,
    variables_collections: Collections = None,
    outputs_collections: Outputs = None,
    trainable: bool = True,
    data_format: str = "NHWC",
    scope: str | Scope | None = None,
) -> Array:
    """``inputs + biases``, on the axis of channels, in a scope ``"BiasAdd"`` by default.

    Source: ``tf.contrib.layers.bias_add``.
    """
    return _layer(
        lambda weights, x: x,
        within,
        "BiasAdd",
        inputs,
        data_format,
        scope=scope,
        reuse=reuse,
        collections=variables_collections,
        trainable=trainable,
        biases_initializer=initializer,
        biases_regularizer=regularizer,
        normalizer_fn=None,
        normalizer_params=None,
        activation_fn=activation_fn,
        outputs_collections=outputs_collections,
    )


@add_arg_scope
def batch_norm(
    within: Scope,
    /,
    inputs: Array,
    decay: float = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Activation | None = None,
    param_initializers: Mapping[str, Initial] | None = None,
    param_regularizers: Mapping[str, Regularizer] | None = None,
    updates_collections: str | None = UPDATE_OPS,
    is_training: bool = True,
    reuse: bool | None = None,
    variables_collections: Collections = None,
    outputs_collections: Outputs = None,
    trainable: bool = True,
    batch_weights: None = None,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: str | Scope | None = None,
    renorm: bool = False,
    renorm_clipping: None = None,
    renorm_decay: float = 0.99,
    adjustment: None = None,
    *,
    update: bool = True,
    axis_name: str | Sequence[str] | None = None,
) -> Array:
    """Batch normalization over all axes but that of the channels.

    Args:
        within: Where the layer's scope is opened, ``"BatchNorm"`` by default: it holds ``beta``,
            ``gamma`` if ``scale``, ``moving_mean`` and ``moving_variance``.
        inputs: Any shape.
        decay: The momentum of the moving statistics.
        scale: Default: False, unlike in ``tf.layers``.
        param_initializers: By name, for ``beta``, ``gamma``, ``moving_mean``,
            ``moving_variance``.
        param_regularizers: By name, for ``beta`` and ``gamma``.
        updates_collections: In TF1 it says when updates run, and here nothing:
            `js.with_updates` returns them. As in TF1 it decides the order of creation, and with
            None the fused kernel is used for two axes too.
        is_training: Static. Default: True, unlike in ``tf.layers``.
        fused: As for `tf1.layers.batch_normalization`; None is True.
        update, axis_name: As for `tf1.layers.batch_normalization`.
        batch_weights: With ``zero_debias_moving_mean``, ``renorm``, ``renorm_clipping`` and
            ``adjustment``: errors.
        others: As for `fully_connected`.

    Raises:
        ScopeError: In training, outside `js.with_updates`, unless ``update=False``.

    Source: ``tf.contrib.layers.batch_norm``.
    """
    refuse(
        "batch_norm",
        "jscope has none of weighted batches, debiased means, renormalization and adjustments",
        batch_weights=batch_weights,
        zero_debias_moving_mean=zero_debias_moving_mean or None,
        renorm=renorm or None,
        renorm_clipping=renorm_clipping,
        adjustment=adjustment,
    )
    check_static(is_training=is_training, center=center, scale=scale, fused=fused)
    _check_names("param_initializers", param_initializers, _PARAMETERS)
    _check_names("param_regularizers", param_regularizers, ("beta", "gamma"))
    is_fused = fused is not False and inputs.ndim in (2, 4) and inputs.dtype != jnp.float64
    # TF1 has three implementations, which create variables in different orders.
    in_layer = updates_collections == UPDATE_OPS and not (is_fused and inputs.ndim == 2)
    initializers, of_regularizers = param_initializers or {}, param_regularizers or {}
    names = ["gamma"] * scale + ["beta"] * center if in_layer else ["beta"] * center
    names += ["gamma"] * (scale and not in_layer)
    keys = variables_collections

    def arguments(name: str) -> dict[str, Any]:
        default = init.ones if name in ("gamma", "moving_variance") else init.zeros
        more = keys.get(name) if isinstance(keys, Mapping) else keys
        return {
            "initializer": initializers.get(name, default),
            "regularizer": of_regularizers.get(name),
            "trainable": trainable and name in ("gamma", "beta"),
            "collections": model_variables(more),
        }

    with within.variable_scope(scope, "BatchNorm", reuse=reuse) as inner:
        y = batch_normalized(
            inner,
            inputs,
            1 if is_channels_first(data_format) else -1,
            {name: arguments(name) for name in (*names, "moving_mean", "moving_variance")},
            momentum=decay,
            epsilon=epsilon,
            training=is_training,
            fused=is_fused,
            update=update,
            axis_name=axis_name,
        )
        return _activated(inner, y, activation_fn, outputs_collections)


_PARAMETERS = ("beta", "gamma", "moving_mean", "moving_variance")


def _check_names(argument: str, given: Mapping[str, object] | None, known: Collection[str]) -> None:
    """Raise for a parameter of batch normalization that there isn't."""
    for name in given or ():
        if name not in known:
            raise ValueError(
                f"`{argument}` of batch_norm has {name!r}, which is not one of its parameters "
                f"({near(name, known)})."
            )


@add_arg_scope
def layer_norm(
    within: Scope,
    /,
    inputs: Array,
    center: bool = True,
    scale: bool = True,
    activation_fn: Activation | None = None,
    reuse: bool | None = None,
    variables_collections: Collections = None,
    outputs_collections: Outputs = None,
    trainable: bool = True,
    begin_norm_axis: int = 1,
    begin_params_axis: int = -1,
    scope: str | Scope | None = None,
) -> Array:
    """Contrib's layer normalization: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    Args:
        within: Where the layer's scope is opened, ``"LayerNorm"`` by default: it holds ``beta``
            and ``gamma``, of the sizes of the axes from ``begin_params_axis``.
        inputs: Any shape.
        begin_norm_axis: Mean and variance are over the axes from this one.
        others: As for `fully_connected`. Epsilon is 1e-12, and 1e-3 for float16.

    Source: ``tf.contrib.layers.layer_norm``. Difference: the statistics of float16 and bfloat16
        are computed in float32.
    """
    check_static(begin_norm_axis=begin_norm_axis, begin_params_axis=begin_params_axis)
    rank = inputs.ndim
    if begin_params_axis >= rank or begin_norm_axis >= rank:
        raise ShapeMismatchError(
            f"begin_params_axis ({begin_params_axis}) and begin_norm_axis ({begin_norm_axis}) must "
            f"be below the rank of the inputs, {rank}."
        )
    with within.variable_scope(scope, "LayerNorm", reuse=reuse) as inner:
        variables = _Weights(inner, variables_collections, trainable)
        wide = at_least_float32(floating(inputs))
        shape = inputs.shape[begin_params_axis:]
        beta = variables.get("beta", shape, init.zeros) if center else None
        gamma = variables.get("gamma", shape, init.ones) if scale else None
        axes = tuple(range(begin_norm_axis % rank, rank))
        epsilon = 1e-3 if inputs.dtype == jnp.float16 else 1e-12
        y = wide - wide.mean(axes, keepdims=True)
        y = y * lax.rsqrt(lax.square(y).mean(axes, keepdims=True) + epsilon)
        last = tuple(range(rank - len(shape), rank))
        if gamma is not None:
            y = y * along(gamma.astype(y.dtype), last, rank)
        if beta is not None:
            y = y + along(beta.astype(y.dtype), last, rank)
        return _activated(inner, y.astype(inputs.dtype), activation_fn, outputs_collections)


@add_arg_scope
def dropout(
    within: Scope,
    /,
    inputs: Array,
    keep_prob: float = 0.5,
    noise_shape: Sequence[int | None] | None = None,
    is_training: bool = True,
    outputs_collections: Outputs = None,
    scope: str | Scope | None = None,
    seed: int | None = None,
) -> Array:
    """In training, ``x / keep_prob`` with probability ``keep_prob``, else zero.

    Args:
        within: Has the random stream ``"dropout"``, if training.
        is_training: Static. Default: True, unlike in ``tf.layers``.
        scope: The layer's scope, from which the random key comes. Default: ``"Dropout"``, made
            unique, if training.
        others: As for `tf1.layers.dropout`.

    Source: ``tf.contrib.layers.dropout``.
    """
    check_static(is_training=is_training, keep_prob=keep_prob)
    if not is_training:
        # A default name needs no scope, which could not be made unique inside transforms.
        here = within.variable_scope(scope, "Dropout") if outputs_collections else within
        return _collected(here, inputs, outputs_collections)
    inner = within.variable_scope(scope, "Dropout")
    folded = inner if seed is None else inner.fold(seed)
    rate = 1 - keep_prob_of("keep_prob", keep_prob)
    y = layers.dropout(folded, inputs, rate=rate, noise_shape=noise_shape, training=True)
    return _collected(inner, y, outputs_collections)


class _Pooling:
    def __init__(self, kind: str, axes: int):
        self._pool = layers.max_pool if kind == "max" else layers.avg_pool
        self._axes = axes
        self._default = f"{kind.capitalize()}Pool{axes}D"
        self.__name__ = f"{kind}_pool{axes}d"

    def __call__(
        self,
        within: Scope,
        /,
        inputs: Array,
        kernel_size: Sizes,
        stride: Sizes = 2,
        padding: str = "VALID",
        data_format: str = "NHWC",
        outputs_collections: Outputs = None,
        scope: str | None = None,
    ) -> Array:
        """The largest value, or the mean, of each window.

        Args:
            within: As for `fully_connected`; there are no variables.
            scope: Under which the output is recorded. Default: ``"MaxPool2D"`` and the like.
            others: As for `conv2d`.

        Source: ``tf.contrib.layers.max_pool2d``, ``avg_pool2d``, ``max_pool3d``, ``avg_pool3d``.
        """
        check_rank(self.__name__, inputs, self._axes)
        x = channels_last(inputs, data_format)
        check_window(self.__name__, x, kernel_size, padding)
        y = self._pool(x, pool_size=kernel_size, strides=stride, padding=padding)
        y = channels_as_given(y, data_format)
        return _collected(within, y, outputs_collections, scope or self._default)


max_pool2d = add_arg_scope(_Pooling("max", 2))
max_pool3d = add_arg_scope(_Pooling("max", 3))
avg_pool2d = add_arg_scope(_Pooling("avg", 2))
avg_pool3d = add_arg_scope(_Pooling("avg", 3))


@add_arg_scope
def flatten(
    within: Scope,
    /,
    inputs: Array,
    outputs_collections: Outputs = None,
    scope: str | None = None,
) -> Array:
    """(batch, ...) as (batch, features).

    Source: ``tf.contrib.layers.flatten``.
    """
    y = inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))
    return _collected(within, y, outputs_collections, scope or "Flatten")


@add_arg_scope
def softmax(within: Scope, /, logits: Array, scope: str | None = None) -> Array:
    """The softmax over the last axis.

    Source: ``tf.contrib.layers.softmax``.
    """
    del within, scope  # which TF1 gives to the operations; no variable has them
    return jax.nn.softmax(logits, axis=-1)


@add_arg_scope
def one_hot_encoding(
    within: Scope,
    /,
    labels: Array,
    num_classes: int,
    on_value: float = 1.0,
    off_value: float = 0.0,
    outputs_collections: Outputs = None,
    scope: str | None = None,
) -> Array:
    """(...) integers as (..., num_classes) floats.

    Source: ``tf.contrib.layers.one_hot_encoding``.
    """
    y = jax.nn.one_hot(labels, num_classes) * (on_value - off_value) + off_value
    return _collected(within, y, outputs_collections, scope or "OneHotEncoding")


@add_arg_scope
def embed_sequence(
    within: Scope,
    /,
    ids: Array,
    vocab_size: int | None = None,
    embed_dim: int | None = None,
    unique: bool = False,
    initializer: Initial = None,
    regularizer: Regularizer | None = None,
    trainable: bool = True,
    scope: str | Scope | None = None,
    reuse: bool | None = None,
) -> Array:
    """``embeddings[ids]``, in a scope ``"EmbedSequence"`` by default.

    Args:
        within: Where the layer's scope is opened: it holds ``embeddings``, (vocab_size,
            embed_dim).
        ids: Integers, of any shape.
        unique: No effect: which rows are read once is the compiler's.
        initializer: Default: the scope's, or Glorot uniform.

    Source: ``tf.contrib.layers.embed_sequence``. Difference: an id out of range gives NaN.
    """
    del unique
    if vocab_size is None or embed_dim is None:
        raise ValueError("Must specify vocab size and embedding dimension when not reusing.")
    inner = within.variable_scope(scope, "EmbedSequence", reuse=reuse)
    table = inner.get_variable(
        "embeddings",
        (vocab_size, embed_dim),
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=model_variables(),
    )
    rows: Array = table.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return rows


def repeat(
    within: Scope,
    /,
    inputs: Array,
    repetitions: int,
    layer: Callable[..., Array],
    *args: Any,
    scope: str | Scope | None = None,
    **kwargs: Any,
) -> Array:
    """One layer some times, each on what the one before gave, with scopes of its own.

    ``repeat(scope, x, 3, conv2d, 64, [3, 3], scope="conv1")`` has its variables in
    ``conv1/conv1_1``, ``conv1/conv1_2`` and ``conv1/conv1_3``.

    Args:
        within: Where the scope is opened, ``"Repeat"`` by default.
        layer: ``f(scope, x, *args, scope=name, **kwargs)``.

    Source: ``tf.contrib.layers.repeat``.
    """
    return _in_turn(within, inputs, layer, [args] * repetitions, kwargs, scope, "Repeat")


def stack(
    within: Scope,
    /,
    inputs: Array,
    layer: Callable[..., Array],
    stack_args: Sequence[Any],
    *,
    scope: str | Scope | None = None,
    **kwargs: Any,
) -> Array:
    """One layer for each of some arguments, each on what the one before gave.

    ``stack(scope, x, fully_connected, [32, 64], scope="fc")`` has its variables in ``fc/fc_1``
    and ``fc/fc_2``.

    Args:
        within: Where the scope is opened, ``"Stack"`` by default.
        layer: ``f(scope, x, *arguments, scope=name, **kwargs)``.
        stack_args: For each layer a tuple of arguments, or one.

    Source: ``tf.contrib.layers.stack``.
    """
    if not isinstance(stack_args, list | tuple):
        raise ValueError("stack_args need to be a list or tuple")
    each = [a if isinstance(a, list | tuple) else (a,) for a in stack_args]
    return _in_turn(within, inputs, layer, each, kwargs, scope, "Stack")


def _in_turn(
    within: Scope,
    x: Array,
    layer: Callable[..., Array],
    arguments: Sequence[Sequence[Any]],
    kwargs: Mapping[str, Any],
    scope: str | Scope | None,
    default: str,
) -> Array:
    name = scope.name if isinstance(scope, Scope) else scope
    name = name or _name_of(layer) or default.lower()
    with within.variable_scope(scope, default) as inner:
        for i, each in enumerate(arguments):
            x = layer(inner, x, *each, scope=f"{name}_{i + 1}", **kwargs)
    return x


def _name_of(layer: Callable[..., Array]) -> str | None:
    """The name that contrib's function has in TF1, where some functions have two."""
    plain = layer.func if isinstance(layer, functools.partial) else layer
    name = getattr(plain, "__name__", None)
    return _LONG_NAMES.get(name, name) if name else None


_LONG_NAMES = {
    "conv1d": "convolution1d",
    "conv2d": "convolution2d",
    "conv3d": "convolution3d",
    "conv2d_transpose": "convolution2d_transpose",
    "separable_conv2d": "separable_convolution2d",
}


# The initializers and regularizers that slim's programs name.

l1_regularizer = regularizers.l1
l2_regularizer = regularizers.l2
l1_l2_regularizer = regularizers.l1_l2
sum_regularizer = regularizers.sum


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: DTypeLike | None = None
) -> Initializer:
    """Glorot's initializer, uniform or, if not, normal.

    Args:
        seed: With ``dtype``: no effect. The variable's name and key replace it.

    Source: ``tf.contrib.layers.xavier_initializer``. Difference: the normal is cut off at two
        standard deviations and corrected for it, as that of ``tf.glorot_normal_initializer``;
        contrib's correction is 1.3 for the variance, this 1.2925.
    """
    del seed, dtype
    return init.glorot_uniform() if uniform else init.glorot_normal()


xavier_initializer_conv2d = xavier_initializer


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: int | None = None,
    dtype: DTypeLike | None = None,
) -> Initializer:
    """He's initializer, by default: `initializers.variance_scaling` with contrib's arguments.

    Args:
        factor: The variance is ``factor / n``.
        mode: What n is: ``"FAN_IN"``, ``"FAN_OUT"`` or ``"FAN_AVG"``.
        uniform: Whether it is uniform; else normal, as `xavier_initializer` says.
        seed: With ``dtype``: no effect. The variable's name and key replace it.

    Source: ``tf.contrib.layers.variance_scaling_initializer``.
    """
    del seed, dtype
    kind = "uniform" if uniform else "truncated_normal"
    return init.variance_scaling(factor, mode.lower(), kind)


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))


def __dir__() -> list[str]:
    return public(globals())
