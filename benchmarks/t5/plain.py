"""The T5 in plain JAX: functions over nested dicts, one `fold_in` to a draw.

Imports: `mathematics`, JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .mathematics import (
    EPSILON,
    Config,
    attended,
    attention_weights,
    cross_entropy,
    relative_buckets,
    shifted,
)

Params = Mapping[str, Any]


def dropout(key: Array | None, draw: int, x: Array, config: Config) -> Array:
    if key is None:
        return x
    keep = 1 - config.dropout
    mask = jax.random.bernoulli(jax.random.fold_in(key, draw), keep, x.shape)
    return jnp.where(mask, x / keep, 0)


def norm(params: Params, x: Array) -> Array:
    square = jnp.square(x).mean(-1, keepdims=True)
    return x * lax.rsqrt(square + EPSILON) * params["gamma"]


def attention(
    params: Params,
    key: Array | None,
    draw: int,
    x: Array,
    memory: Array,
    bias: Array | None,
    causal: bool,
    config: Config,
) -> Array:
    def heads(name: str, of: Array) -> Array:
        y = of @ params[name]["kernel"]
        return y.reshape(*of.shape[:-1], config.heads, config.head_size)

    weights = attention_weights(heads("query", x), heads("key", memory), bias, causal)
    weights = dropout(key, draw, weights, config)
    y = attended(weights, heads("value", memory)) @ params["output"]["kernel"]
    return dropout(key, draw + 1, y, config)


def mlp(params: Params, key: Array | None, draw: int, x: Array, config: Config) -> Array:
    x = dropout(key, draw, jax.nn.relu(x @ params["up"]["kernel"]), config)
    return dropout(key, draw + 1, x @ params["down"]["kernel"], config)


def encoder_layer(params: Params, key: Array | None, x: Array, bias: Array, c: Config) -> Array:
    y = norm(params["norm_1"], x)
    x = x + attention(params["attention"], key, 0, y, y, bias, False, c)
    return x + mlp(params["mlp"], key, 2, norm(params["norm_2"], x), c)


def decoder_layer(
    params: Params, key: Array | None, x: Array, memory: Array, bias: Array, c: Config
) -> Array:
    y = norm(params["norm_1"], x)
    x = x + attention(params["attention"], key, 0, y, y, bias, True, c)
    y = norm(params["norm_2"], x)
    x = x + attention(params["cross"], key, 2, y, memory, None, False, c)
    return x + mlp(params["mlp"], key, 4, norm(params["norm_3"], x), c)


def side(
    params: Params,
    key: Array | None,
    x: Array,
    layer: Callable[[Params, Array | None, Array, Array], Array],
    bidirectional: bool,
    config: Config,
) -> Array:
    """The encoder, or the decoder: its layers, between dropouts."""
    buckets = relative_buckets(config.length, config.buckets, bidirectional)
    bias = params["relative"][buckets].transpose(2, 0, 1)
    outer, inner = (None, None) if key is None else jax.random.split(key)
    keys = None if inner is None else jax.random.split(inner, config.layers)

    def body(x: Array, slices: tuple[Params, Array | None]) -> tuple[Array, None]:
        return layer(*slices, x, bias), None

    x = dropout(outer, 0, x, config)
    x, _ = lax.scan(jax.checkpoint(body, prevent_cse=False), x, (params["layers"], keys))
    return dropout(outer, 1, norm(params["norm"], x), config)


def logits(
    params: Params, key: Array | None, inputs: Array, before: Array, config: Config
) -> Array:
    """Of each target, from the inputs and the targets before it."""
    keys = (None, None) if key is None else jax.random.split(key)
    table = params["embeddings"]

    def encode(params: Params, key: Array | None, x: Array, bias: Array) -> Array:
        return encoder_layer(params, key, x, bias, config)

    memory = side(params["encoder"], keys[0], table[inputs], encode, True, config)

    def decode(params: Params, key: Array | None, x: Array, bias: Array) -> Array:
        return decoder_layer(params, key, x, memory, bias, config)

    y = side(params["decoder"], keys[1], table[before], decode, False, config)
    return y * config.width**-0.5 @ table.T


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean cross-entropy of the targets, and the state, of which there is none."""

    def loss(params: Params, state: Any, key: Array | None, batch: tuple[Array, Array]) -> Any:
        inputs, targets = batch
        key = key if config.dropout else None
        y = logits(params, key, inputs, shifted(targets), config)
        return cross_entropy(y, targets), state

    return loss
