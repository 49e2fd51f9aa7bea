"""The blocks in plain JAX: functions over nested dicts, one `fold_in` to a draw.

Imports: `mathematics`, JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from .mathematics import NAMES, Config


def dropout(key: Array | None, draw: int, x: Array, config: Config) -> Array:
    if key is None:
        return x
    keep = 1 - config.dropout
    mask = jax.random.bernoulli(jax.random.fold_in(key, draw), keep, x.shape)
    return jnp.where(mask, x / keep, 0)


def block(params: Mapping[str, Any], key: Array | None, x: Array, config: Config) -> Array:
    for draw, name in enumerate(NAMES):
        y = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"])
        x = x + dropout(key, draw, y, config)
    return x


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean square of the output, and the state, of which there is none."""

    def body(x: Array, slices: tuple[Mapping[str, Any], Array | None]) -> tuple[Array, None]:
        return block(*slices, x, config), None

    def loss(params: Mapping[str, Any], state: Any, key: Array | None, x: Array) -> Any:
        keys = jax.random.split(key, config.layers) if config.dropout else None
        slices = (params["layers"], keys)
        x, _ = lax.scan(jax.checkpoint(body, prevent_cse=False), x, slices)
        return jnp.square(x).mean(), state

    return loss
