"""The GPT in jscope: functions over a scope, whose operations have its names in profiles.

Imports: `mathematics`, jscope, JAX.
"""

import functools
from collections.abc import Callable

import jax
from jax import Array

import jscope as js
from jscope import initializers

from .mathematics import DEVIATION, Config, attend, layer_norm

normal = initializers.random_normal(stddev=DEVIATION)


@js.named
def dense(scope: js.Scope, x: Array, *, features: int) -> Array:
    w = scope.get_variable("w", (x.shape[-1], features), initializer=normal)
    b = scope.get_variable("b", (features,), initializer=initializers.zeros)
    return x @ w + b


@js.named
def norm(scope: js.Scope, x: Array) -> Array:
    scale = scope.get_variable("scale", x.shape[-1:], initializer=initializers.ones)
    bias = scope.get_variable("bias", x.shape[-1:], initializer=initializers.zeros)
    return layer_norm(x, scale, bias)


@js.named
def attention(scope: js.Scope, x: Array, *, heads: int) -> Array:
    width = x.shape[-1]
    q, k, v = (dense(scope / name, x, features=width) for name in "qkv")
    return dense(scope / "o", attend(q, k, v, heads), features=width)


@js.named
def mlp(scope: js.Scope, x: Array) -> Array:
    width = x.shape[-1]
    return dense(
        scope / "down", jax.nn.gelu(dense(scope / "up", x, features=4 * width)), features=width
    )


@js.named
def block(scope: js.Scope, x: Array, heads: int, rate: float = 0.0) -> Array:
    y = attention(scope / "attn", norm(scope / "ln_1", x), heads=heads)
    x = x + js.layers.dropout(scope / "attn", y, rate=rate, training=True)
    y = mlp(scope / "mlp", norm(scope / "ln_2", x))
    return x + js.layers.dropout(scope / "mlp", y, rate=rate, training=True)


def gpt(
    scope: js.Scope, tokens: Array, config: Config, block: Callable[..., Array] = block
) -> Array:
    """Logits; ``block`` may be a jitted one, with ``heads`` static."""
    embeddings = scope.get_variable(
        "embed/w", (config.vocabulary, config.width), initializer=normal
    )
    positions = scope.get_variable("positions/w", (config.length, config.width), initializer=normal)
    x = embeddings[tokens] + positions
    block = functools.partial(block, rate=config.dropout) if config.dropout else block
    for i in range(config.blocks):
        x = block(scope / f"block_{i}", x, config.heads)
    return dense(scope / "head", norm(scope / "ln", x), features=config.vocabulary)


def scanned(scope: js.Scope, tokens: Array, config: Config) -> Array:
    """Logits, with the blocks as one stack."""
    embeddings = scope.get_variable(
        "embed/w", (config.vocabulary, config.width), initializer=normal
    )
    positions = scope.get_variable("positions/w", (config.length, config.width), initializer=normal)
    x = embeddings[tokens] + positions

    def body(x: Array, layer: js.Scope) -> tuple[Array, None]:
        return block(layer, x, config.heads), None

    x, _ = jax.lax.scan(body, x, scope.stacked("blocks", config.blocks))
    return dense(scope / "head", norm(scope / "ln", x), features=config.vocabulary)


def init(config: Config, key: Array, tokens: Array) -> js.VarTree:
    """All variables."""
    return js.init(gpt)(key, tokens, config)


def bind(config: Config, key: Array, tokens: Array) -> tuple[Callable[..., Array], js.VarTree]:
    """The model as a function of its variables, and the variables."""
    return lambda tree, tokens: gpt(js.Scope(tree), tokens, config), init(config, key, tokens)
