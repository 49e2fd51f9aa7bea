"""The GPT in plain JAX: functions over nested dicts.

Imports: `mathematics`, JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import normal, ones, zeros

from .mathematics import DEVIATION, Config, attend, layer_norm


def dense(params: Mapping[str, Any], x: Array) -> Array:
    return x @ params["w"] + params["b"]


def norm(params: Mapping[str, Any], x: Array) -> Array:
    return layer_norm(x, params["scale"], params["bias"])


def attention(params: Mapping[str, Any], x: Array, heads: int) -> Array:
    q, k, v = (dense(params[name], x) for name in "qkv")
    return dense(params["o"], attend(q, k, v, heads))


def mlp(params: Mapping[str, Any], x: Array) -> Array:
    return dense(params["down"], jax.nn.gelu(dense(params["up"], x)))


def dropout(key: Array | None, draw: int, x: Array, rate: float) -> Array:
    if key is None:
        return x
    mask = jax.random.bernoulli(jax.random.fold_in(key, draw), 1 - rate, x.shape)
    return jnp.where(mask, x / (1 - rate), 0)


def block(
    params: Mapping[str, Any], x: Array, heads: int, key: Array | None = None, rate: float = 0.0
) -> Array:
    y = attention(params["attn"], norm(params["ln_1"], x), heads)
    x = x + dropout(key, 0, y, rate)
    return x + dropout(key, 1, mlp(params["mlp"], norm(params["ln_2"], x)), rate)


def gpt(
    params: Mapping[str, Any],
    tokens: Array,
    config: Config,
    block: Callable[..., Array] = block,
    key: Array | None = None,
) -> Array:
    """Logits; ``block`` may be a jitted one, with ``heads`` static; ``key`` is for dropout."""
    x = params["embed"]["w"][tokens] + params["positions"]["w"]
    keys = jax.random.split(key, config.blocks) if key is not None and config.dropout else None
    for i in range(config.blocks):
        of_dropout = () if keys is None else (keys[i], config.dropout)
        x = block(params[f"block_{i}"], x, config.heads, *of_dropout)
    return dense(params["head"], norm(params["ln"], x))


def scanned(params: Mapping[str, Any], tokens: Array, config: Config) -> Array:
    """Logits, from the blocks' parameters stacked under ``blocks``."""
    x = params["embed"]["w"][tokens] + params["positions"]["w"]

    def body(x: Array, layer: Mapping[str, Any]) -> tuple[Array, None]:
        return block(layer, x, config.heads), None

    x, _ = jax.lax.scan(body, x, params["blocks"])
    return dense(params["head"], norm(params["ln"], x))


def init(config: Config, key: Array, tokens: Array) -> dict[str, Any]:
    """All variables."""
    del tokens  # shapes are known without
    keys = iter(jax.random.split(key, 6 * config.blocks + 3))
    draw, width = normal(DEVIATION), config.width

    def dense(inputs: int, outputs: int) -> dict[str, Array]:
        return {"w": draw(next(keys), (inputs, outputs)), "b": zeros(key, (outputs,))}

    def norm() -> dict[str, Array]:
        return {"scale": ones(key, (width,)), "bias": zeros(key, (width,))}

    def block() -> dict[str, Any]:
        return {
            "attn": {name: dense(width, width) for name in "qkvo"},
            "ln_1": norm(),
            "ln_2": norm(),
            "mlp": {"up": dense(width, 4 * width), "down": dense(4 * width, width)},
        }

    return {
        "embed": {"w": draw(next(keys), (config.vocabulary, width))},
        "positions": {"w": draw(next(keys), (config.length, width))},
        "ln": norm(),
        "head": dense(width, config.vocabulary),
        **{f"block_{i}": block() for i in range(config.blocks)},
    }


def bind(config: Config, key: Array, tokens: Array) -> tuple[Callable[..., Array], Any]:
    """The model as a function of its variables, and the variables."""
    return lambda params, tokens: gpt(params, tokens, config), init(config, key, tokens)
