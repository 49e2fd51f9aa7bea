"""The GPT in Flax linen: compact modules.

Imports: `mathematics`, Flax, JAX.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from .mathematics import DEVIATION, EPSILON, Config, attend

normal = nn.initializers.normal(DEVIATION)


class Attention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        q, k, v = (nn.Dense(width, kernel_init=normal, name=name)(x) for name in "qkv")
        return nn.Dense(width, kernel_init=normal, name="o")(attend(q, k, v, self.heads))


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        x = nn.gelu(nn.Dense(4 * width, kernel_init=normal, name="up")(x))
        return nn.Dense(width, kernel_init=normal, name="down")(x)


class Block(nn.Module):
    heads: int
    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = Attention(self.heads, name="attn")(norm("ln_1")(x))
        x = x + (nn.Dropout(self.rate, deterministic=False)(y) if self.rate else y)
        y = MLP(name="mlp")(norm("ln_2")(x))
        return x + (nn.Dropout(self.rate, deterministic=False)(y) if self.rate else y)


class GPT(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        config = self.config
        embed = nn.Embed(config.vocabulary, config.width, embedding_init=normal, name="embed")
        positions = self.param("positions", normal, (config.length, config.width))
        x = embed(tokens) + positions
        for i in range(config.blocks):
            x = Block(config.heads, config.dropout, name=f"block_{i}")(x)
        return nn.Dense(config.vocabulary, kernel_init=normal, name="head")(norm("ln")(x))


def norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, name=name)


def init(config: Config, key: Array, tokens: Array) -> Any:
    """All variables."""
    return GPT(config).init(key, tokens)


def bind(config: Config, key: Array, tokens: Array) -> tuple[Callable[..., Array], Any]:
    """The model as a function of its variables, and the variables."""
    return GPT(config).apply, init(config, key, tokens)
