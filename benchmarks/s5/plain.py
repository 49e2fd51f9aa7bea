"""The S5 in plain JAX: functions over nested dicts, one `fold_in` to a draw.

Imports: `mathematics`, JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .mathematics import EPSILON, MOMENTUM, Config, cross_entropy, state_space

Tree = Mapping[str, Any]


def dense(params: Tree, x: Array) -> Array:
    return x @ params["kernel"] + params["bias"]


def dropout(key: Array | None, draw: int, x: Array, config: Config) -> Array:
    if key is None:
        return x
    keep = 1 - config.dropout
    mask = jax.random.bernoulli(jax.random.fold_in(key, draw), keep, x.shape)
    return jnp.where(mask, x / keep, 0)


def batch_norm(params: Tree, state: Tree, x: Array) -> tuple[Array, dict[str, Array]]:
    mean = lax.pmean(x.mean(0), "batch")
    variance = lax.pmean(jnp.square(x - mean).mean(0), "batch")
    y = (x - mean) * lax.rsqrt(variance + EPSILON) * params["gamma"] + params["beta"]
    batch = {"moving_mean": mean, "moving_variance": variance}
    return y, {name: MOMENTUM * state[name] + (1 - MOMENTUM) * batch[name] for name in batch}


def layer(
    params: Tree, state: Tree, key: Array | None, x: Array, config: Config
) -> tuple[Array, Tree]:
    y, moved = batch_norm(params["norm"], state["norm"], x)
    ssm = params["ssm"]
    y = state_space(y, ssm["lambda"], ssm["log_step"], ssm["b"], ssm["c"], ssm["d"])
    y = dropout(key, 0, jax.nn.gelu(y), config)
    y = y * jax.nn.sigmoid(dense(params["gate"], y))
    return x + dropout(key, 1, y, config), {"norm": moved}


def logits(
    params: Tree, state: Tree, key: Array | None, x: Array, config: Config
) -> tuple[Array, Tree]:
    """Of the classes of one sequence, and the moved statistics."""
    keys = None if key is None else jax.random.split(key, config.layers)

    def body(x: Array, slices: tuple[Tree, Tree, Array | None]) -> tuple[Array, Tree]:
        return layer(*slices, x, config)

    x = dense(params["encoder"], x)
    slices = (params["layers"], state["layers"], keys)
    x, moved = lax.scan(jax.checkpoint(body, prevent_cse=False), x, slices)
    return dense(params["decoder"], x.mean(0)), {"layers": moved}


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean cross-entropy of the batch, and the moved statistics."""

    def loss(params: Tree, state: Tree, key: Array | None, batch: tuple[Array, Array]) -> Any:
        sequences, labels = batch
        keys = jax.random.split(key, config.batch) if config.dropout else None

        def one(key: Array | None, x: Array) -> tuple[Array, Tree]:
            return logits(params, state, key, x, config)

        y, state = jax.vmap(one, out_axes=(0, None), axis_name="batch")(keys, sequences)
        return cross_entropy(y, labels), state

    return loss
