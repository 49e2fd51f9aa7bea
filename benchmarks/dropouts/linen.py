"""The blocks in Flax linen: a compact module under `nn.scan` and `nn.remat`.

Imports: `mathematics`, Flax, JAX.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from .mathematics import NAMES, Config


class Block(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, _: None) -> tuple[Array, None]:
        for name in NAMES:
            y = nn.tanh(nn.Dense(self.config.width, name=name)(x))
            x = x + nn.Dropout(self.config.dropout, deterministic=False)(y)
        return x, None


class Blocks(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scanned = nn.scan(
            nn.remat(Block, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.config.layers,
        )
        y: Array = scanned(self.config, name="layers")(x, None)[0]
        return y


def variables(config: Config, key: Array, batch: Array) -> Any:
    """Initial values by collection."""
    return Blocks(config).init({"params": key, "dropout": key}, batch)


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean square of the output, and the state, of which there is none."""
    model = Blocks(config)

    def loss(params: Any, state: Any, key: Array | None, x: Array) -> Any:
        rngs = {"dropout": key} if config.dropout else {}
        return jnp.square(model.apply({"params": params}, x, rngs=rngs)).mean(), state

    return loss
