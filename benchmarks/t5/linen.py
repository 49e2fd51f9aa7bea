"""The T5 in Flax linen: compact modules under `nn.scan` and `nn.remat`.

Imports: `mathematics`, Flax, JAX.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from .mathematics import (
    EPSILON,
    Config,
    attended,
    attention_weights,
    cross_entropy,
    relative_buckets,
    shifted,
)


def dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, name=name)


def norm(name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=EPSILON, name=name)


def drop(x: Array, config: Config) -> Array:
    return nn.Dropout(config.dropout, deterministic=False)(x)


class Attention(nn.Module):
    config: Config
    causal: bool

    @nn.compact
    def __call__(self, x: Array, memory: Array, bias: Array | None) -> Array:
        config = self.config

        def heads(name: str, of: Array) -> Array:
            y = dense(config.heads * config.head_size, name)(of)
            return y.reshape(*of.shape[:-1], config.heads, config.head_size)

        weights = attention_weights(heads("query", x), heads("key", memory), bias, self.causal)
        y = attended(drop(weights, config), heads("value", memory))
        return drop(dense(config.width, "output")(y), config)


class MLP(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        x = drop(nn.relu(dense(config.hidden, "up")(x)), config)
        return drop(dense(config.width, "down")(x), config)


class EncoderLayer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, bias: Array, memory: None) -> tuple[Array, None]:
        config = self.config
        y = norm("norm_1")(x)
        x = x + Attention(config, False, name="attention")(y, y, bias)
        return x + MLP(config, name="mlp")(norm("norm_2")(x)), None


class DecoderLayer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, bias: Array, memory: Array) -> tuple[Array, None]:
        config = self.config
        y = norm("norm_1")(x)
        x = x + Attention(config, True, name="attention")(y, y, bias)
        y = norm("norm_2")(x)
        x = x + Attention(config, False, name="cross")(y, memory, None)
        return x + MLP(config, name="mlp")(norm("norm_3")(x)), None


class Side(nn.Module):
    """The encoder, or the decoder: its layers, between dropouts."""

    config: Config
    layer: type[nn.Module]
    bidirectional: bool

    @nn.compact
    def __call__(self, x: Array, memory: Array | None = None) -> Array:
        config = self.config
        initializer = nn.initializers.normal(config.width**-0.5)
        table = self.param("relative", initializer, (config.buckets, config.heads))
        buckets = relative_buckets(config.length, config.buckets, self.bidirectional)
        bias = table[buckets].transpose(2, 0, 1)
        scanned = nn.scan(
            nn.remat(self.layer, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=config.layers,
        )
        x, _ = scanned(config, name="layers")(drop(x, config), bias, memory)
        return drop(norm("norm")(x), config)


class T5(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, inputs: Array, before: Array) -> Array:
        config = self.config
        shape = (config.vocabulary, config.width)
        table = self.param("embeddings", nn.initializers.normal(1.0), shape)
        memory = Side(config, EncoderLayer, True, name="encoder")(table[inputs])
        y = Side(config, DecoderLayer, False, name="decoder")(table[before], memory)
        return y * config.width**-0.5 @ table.T


def variables(config: Config, key: Array, batch: tuple[Array, Array]) -> Any:
    """Initial values by collection."""
    inputs, targets = batch
    return T5(config).init({"params": key, "dropout": key}, inputs, shifted(targets))


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean cross-entropy of the targets, and the state, of which there is none."""
    model = T5(config)

    def loss(params: Any, state: Any, key: Array | None, batch: tuple[Array, Array]) -> Any:
        inputs, targets = batch
        rngs = {"dropout": key} if config.dropout else {}
        y = model.apply({"params": params}, inputs, shifted(targets), rngs=rngs)
        return cross_entropy(y, targets), state

    return loss
