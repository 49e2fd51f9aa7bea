"""The S5 in Flax linen: compact modules under `nn.vmap`, `nn.scan` and `nn.remat`.

Imports: `mathematics`, Flax, JAX.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from .mathematics import (
    EPSILON,
    MOMENTUM,
    Config,
    cross_entropy,
    eigenvalues,
    log_steps,
    state_space,
)

normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal", dtype=jnp.complex64)


def drop(x: Array, config: Config) -> Array:
    return nn.Dropout(config.dropout, deterministic=False)(x)


class SSM(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, u: Array) -> Array:
        n, width = self.config.states, self.config.width
        return state_space(
            u,
            self.param("lambda", lambda key: jnp.asarray(eigenvalues(n))),
            self.param("log_step", lambda key: jnp.asarray(log_steps(n))),
            self.param("b", normal, (n, width)),
            self.param("c", normal, (width, n)),
            self.param("d", nn.initializers.normal(1.0), (width,)),
        )


class Layer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, _: None) -> tuple[Array, None]:
        config = self.config
        norm = nn.BatchNorm(
            use_running_average=False,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            axis_name="batch",
            name="norm",
        )
        y = drop(nn.gelu(SSM(config, name="ssm")(norm(x))), config)
        y = y * nn.sigmoid(nn.Dense(config.width, name="gate")(y))
        return x + drop(y, config), None


class Classifier(nn.Module):
    """Of one sequence."""

    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        x = nn.Dense(config.width, name="encoder")(x)
        scanned = nn.scan(
            nn.remat(Layer, prevent_cse=False),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=config.layers,
        )
        x, _ = scanned(config, name="layers")(x, None)
        return nn.Dense(config.classes, name="decoder")(x.mean(0))


Mapped = nn.vmap(
    Classifier,
    variable_axes={"params": None, "batch_stats": None},
    split_rngs={"params": False, "dropout": True},
    axis_name="batch",
)


def variables(config: Config, key: Array, batch: tuple[Array, Array]) -> Any:
    """Initial values by collection."""
    return Mapped(config).init({"params": key, "dropout": key}, batch[0])


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean cross-entropy of the batch, and the moved statistics."""
    model = Mapped(config)

    def loss(params: Any, state: Any, key: Array | None, batch: tuple[Array, Array]) -> Any:
        sequences, labels = batch
        rngs = {"dropout": key} if config.dropout else {}
        variables = {"params": params, "batch_stats": state}
        y, moved = model.apply(variables, sequences, rngs=rngs, mutable=["batch_stats"])
        return cross_entropy(y, labels), moved["batch_stats"]

    return loss
