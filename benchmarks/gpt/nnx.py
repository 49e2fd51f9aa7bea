"""The GPT in Flax NNX: modules that hold their variables.

Imports: `mathematics`, Flax, JAX.
"""

from collections.abc import Callable

import jax
from flax import nnx
from jax import Array

from .mathematics import DEVIATION, EPSILON, Config, attend

normal = nnx.initializers.normal(DEVIATION)


class Attention(nnx.Module):
    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.q = dense(width, width, rngs)
        self.k = dense(width, width, rngs)
        self.v = dense(width, width, rngs)
        self.o = dense(width, width, rngs)

    def __call__(self, x: Array) -> Array:
        return self.o(attend(self.q(x), self.k(x), self.v(x), self.heads))


class MLP(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.up = dense(width, 4 * width, rngs)
        self.down = dense(4 * width, width, rngs)

    def __call__(self, x: Array) -> Array:
        return self.down(jax.nn.gelu(self.up(x)))


class Block(nnx.Module):
    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.ln_1 = norm(width, rngs)
        self.attn = Attention(width, heads, rngs)
        self.ln_2 = norm(width, rngs)
        self.mlp = MLP(width, rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nnx.Module):
    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.width
        self.embed = nnx.Embed(config.vocabulary, width, embedding_init=normal, rngs=rngs)
        self.positions = nnx.Param(normal(rngs.params(), (config.length, width)))
        self.blocks = nnx.List([Block(width, config.heads, rngs) for _ in range(config.blocks)])
        self.ln = norm(width, rngs)
        self.head = dense(width, config.vocabulary, rngs)

    def __call__(self, tokens: Array) -> Array:
        x = self.embed(tokens) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


def dense(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=normal, rngs=rngs)


def norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, use_fast_variance=False, rngs=rngs)


def init(config: Config, key: Array, tokens: Array) -> nnx.State:
    """All variables."""
    del tokens  # shapes are known without
    return nnx.state(GPT(config, nnx.Rngs(key)))


def bind(config: Config, key: Array, tokens: Array) -> tuple[Callable[..., Array], nnx.State]:
    """The model as a function of its variables, and the variables."""
    del tokens
    definition, state = nnx.split(GPT(config, nnx.Rngs(key)))
    return lambda state, tokens: nnx.merge(definition, state)(tokens), state
