"""The T5 in jscope: functions over a scope.

Imports: `mathematics`, jscope, JAX.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax

import jscope as js
from jscope import initializers
from jscope.layers import dense, dropout, rms_norm

from .mathematics import (
    EPSILON,
    Config,
    attended,
    attention_weights,
    cross_entropy,
    example,
    relative_buckets,
    shifted,
)


def drop(scope: js.Scope, x: Array, config: Config, name: str | None = None) -> Array:
    return dropout(scope, x, rate=config.dropout, training=True, name=name)


def norm(scope: js.Scope, x: Array) -> Array:
    return rms_norm(scope, x, epsilon=EPSILON)


def attention(
    scope: js.Scope, x: Array, memory: Array, bias: Array | None, causal: bool, config: Config
) -> Array:
    def heads(name: str, of: Array) -> Array:
        y = dense(scope / name, of, units=config.heads * config.head_size, use_bias=False)
        return y.reshape(*of.shape[:-1], config.heads, config.head_size)

    weights = attention_weights(heads("query", x), heads("key", memory), bias, causal)
    weights = drop(scope, weights, config, "weights")
    y = attended(weights, heads("value", memory))
    y = dense(scope / "output", y, units=config.width, use_bias=False)
    return drop(scope, y, config, "output")


def mlp(scope: js.Scope, x: Array, config: Config) -> Array:
    x = dense(scope / "up", x, units=config.hidden, use_bias=False, activation=jax.nn.relu)
    x = drop(scope, x, config, "hidden")
    x = dense(scope / "down", x, units=config.width, use_bias=False)
    return drop(scope, x, config, "output")


def encoder_layer(scope: js.Scope, x: Array, bias: Array, config: Config) -> Array:
    y = norm(scope / "norm_1", x)
    x = x + attention(scope / "attention", y, y, bias, False, config)
    return x + mlp(scope / "mlp", norm(scope / "norm_2", x), config)


def decoder_layer(scope: js.Scope, x: Array, memory: Array, bias: Array, config: Config) -> Array:
    y = norm(scope / "norm_1", x)
    x = x + attention(scope / "attention", y, y, bias, True, config)
    y = norm(scope / "norm_2", x)
    x = x + attention(scope / "cross", y, memory, None, False, config)
    return x + mlp(scope / "mlp", norm(scope / "norm_3", x), config)


def side(
    scope: js.Scope,
    x: Array,
    layer: Callable[[js.Scope, Array, Array], Array],
    bidirectional: bool,
    config: Config,
) -> Array:
    """The encoder, or the decoder: its layers, between dropouts."""
    initializer = initializers.random_normal(stddev=config.width**-0.5)
    table = scope.get_variable("relative", (config.buckets, config.heads), initializer=initializer)
    buckets = relative_buckets(config.length, config.buckets, bidirectional)
    bias = table[buckets].transpose(2, 0, 1)

    def body(x: Array, slice: js.Scope) -> tuple[Array, None]:
        return layer(slice, x, bias), None

    x = drop(scope, x, config, "input")
    layers = scope.stacked("layers", config.layers)
    x, _ = lax.scan(jax.checkpoint(body, prevent_cse=False), x, layers)
    return drop(scope, norm(scope / "norm", x), config, "output")


def logits(scope: js.Scope, inputs: Array, before: Array, config: Config) -> Array:
    """Of each target, from the inputs and the targets before it."""
    initializer = initializers.random_normal(stddev=1.0)
    shape = (config.vocabulary, config.width)
    table = scope.get_variable("embeddings", shape, initializer=initializer)

    def encode(layer: js.Scope, x: Array, bias: Array) -> Array:
        return encoder_layer(layer, x, bias, config)

    memory = side(scope / "encoder", table[inputs], encode, True, config)

    def decode(layer: js.Scope, x: Array, bias: Array) -> Array:
        return decoder_layer(layer, x, memory, bias, config)

    y = side(scope / "decoder", table[before], decode, False, config)
    return y * config.width**-0.5 @ table.T


def variables(config: Config, key: Array) -> tuple[js.VarTree, js.VarTree]:
    """Initial values: parameters, and the state, which is empty."""
    inputs, targets = example(config)
    declared = js.declare(logits)(inputs, shifted(targets), config)
    return declared.split(declared.init(key))


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean cross-entropy of the targets, and the state, of which there is none."""

    def loss(
        params: js.VarTree, state: js.VarTree, key: Array | None, batch: tuple[Array, Array]
    ) -> Any:
        inputs, targets = batch
        scope = js.Scope(params, rngs=key if config.dropout else None)
        return cross_entropy(logits(scope, inputs, shifted(targets), config), targets), state

    return loss
