"""`dense`, `embedding`, `dropout` and `flatten`: layers without spatial axes."""

import math
from collections.abc import Sequence

from jax import Array

from ... import initializers as init
from ... import layers
from ..._layer_arithmetic import check_static
from ..._scope.scope import Scope
from ..._variables.spec import Constraint
from ...layers import Activation, Initial
from ...regularizers import Regularizer
from .._arg_scope import add_arg_scope
from ._layer import CHANNELS_LAST, activation_of, channels_last, opened, refuse_activity


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
    """TF1's dense layer: ``activation(inputs @ kernel + bias)``, on the last axis.

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
    refuse_activity("dense", activity_regularizer)
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
def dropout(
    scope: Scope,
    /,
    inputs: Array,
    rate: float = 0.5,
    noise_shape: Sequence[int | None] | None = None,
    seed: int | None = None,
    training: bool = False,
    name: str | Scope | None = None,
) -> Array:
    """TF1's dropout: in training, zero with probability ``rate``, else ``x / (1 - rate)``.

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
