"""The GPT in Haiku: modules under ``hk.transform``.

Imports: `mathematics`, Haiku, JAX.
"""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
from jax import Array

from .mathematics import DEVIATION, EPSILON, Config, attend

normal = hk.initializers.RandomNormal(DEVIATION)


class Attention(hk.Module):
    def __init__(self, heads: int, name: str):
        super().__init__(name)
        self.heads = heads

    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        q, k, v = (hk.Linear(width, w_init=normal, name=name)(x) for name in "qkv")
        return hk.Linear(width, w_init=normal, name="o")(attend(q, k, v, self.heads))


class MLP(hk.Module):
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        x = jax.nn.gelu(hk.Linear(4 * width, w_init=normal, name="up")(x))
        return hk.Linear(width, w_init=normal, name="down")(x)


class Block(hk.Module):
    def __init__(self, heads: int, name: str):
        super().__init__(name)
        self.heads = heads

    def __call__(self, x: Array) -> Array:
        x = x + Attention(self.heads, "attn")(norm("ln_1")(x))
        return x + MLP("mlp")(norm("ln_2")(x))


class GPT(hk.Module):
    def __init__(self, config: Config):
        super().__init__("gpt")
        self.config = config

    def __call__(self, tokens: Array) -> Array:
        config = self.config
        x = hk.Embed(config.vocabulary, config.width, w_init=normal, name="embed")(tokens)
        x = x + hk.get_parameter("positions", (config.length, config.width), init=normal)
        for i in range(config.blocks):
            x = Block(config.heads, f"block_{i}")(x)
        return hk.Linear(config.vocabulary, w_init=normal, name="head")(norm("ln")(x))


def norm(name: str) -> hk.LayerNorm:
    return hk.LayerNorm(-1, create_scale=True, create_offset=True, eps=EPSILON, name=name)


def transformed(config: Config) -> hk.Transformed:
    return hk.without_apply_rng(hk.transform(lambda tokens: GPT(config)(tokens)))


def init(config: Config, key: Array, tokens: Array) -> Any:
    """All variables."""
    return transformed(config).init(key, tokens)


def bind(config: Config, key: Array, tokens: Array) -> tuple[Callable[..., Array], Any]:
    """The model as a function of its variables, and the variables."""
    model = transformed(config)
    return model.apply, model.init(key, tokens)
