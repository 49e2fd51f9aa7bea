"""The S5 in jscope: functions over a scope.

Imports: `mathematics`, jscope, JAX.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

import jscope as js
from jscope import initializers
from jscope.layers import batch_norm, dense, dropout

from .mathematics import (
    EPSILON,
    MOMENTUM,
    Config,
    cross_entropy,
    eigenvalues,
    example,
    log_steps,
    state_space,
)


def drop(scope: js.Scope, x: Array, config: Config, name: str) -> Array:
    return dropout(scope, x, rate=config.dropout, training=True, name=name)


def ssm(scope: js.Scope, u: Array, config: Config) -> Array:
    n, width = config.states, config.width
    normal = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")

    def variable(name: str, shape: tuple[int, ...], initializer: Any) -> Array:
        return scope.get_variable(name, shape, jnp.complex64, initializer)

    return state_space(
        u,
        scope.get_variable("lambda", initializer=eigenvalues(n)),
        scope.get_variable("log_step", initializer=log_steps(n)),
        variable("b", (n, width), normal),
        variable("c", (width, n), normal),
        scope.get_variable("d", (width,), initializer=initializers.random_normal()),
    )


def layer(scope: js.Scope, x: Array, config: Config) -> Array:
    y = batch_norm(
        scope / "norm",
        x,
        training=True,
        momentum=MOMENTUM,
        epsilon=EPSILON,
        axis_name="batch",
    )
    y = drop(scope, jax.nn.gelu(ssm(scope / "ssm", y, config)), config, "state")
    y = y * jax.nn.sigmoid(dense(scope / "gate", y, units=config.width))
    return x + drop(scope, y, config, "output")


def logits(scope: js.Scope, x: Array, config: Config) -> Array:
    """Of the classes of one sequence; the moved statistics are assigned."""

    def body(x: Array, slice: js.Scope) -> tuple[Array, js.VarTree]:
        return js.with_updates(layer)(slice, x, config)

    x = dense(scope / "encoder", x, units=config.width)
    layers = scope.stacked("layers", config.layers)
    x, updates = lax.scan(jax.checkpoint(body, prevent_cse=False), x, layers)
    layers.update(updates)
    return dense(scope / "decoder", x.mean(0), units=config.classes)


def mapped(scope: js.Scope, sequences: Array, config: Config) -> Array:
    """The logits of a batch of sequences."""

    def one(scope: js.Scope, i: Array, x: Array) -> tuple[Array, js.VarTree]:
        return js.with_updates(logits)(scope.fold(i), x, config)

    over = jax.vmap(one, in_axes=(None, 0, 0), out_axes=(0, None), axis_name="batch")
    y, updates = over(scope, jnp.arange(config.batch), sequences)
    scope.update(updates)
    return y


def variables(config: Config, key: Array) -> tuple[js.VarTree, js.VarTree]:
    """Initial values: parameters, and moving statistics."""
    sequences, _ = example(config)
    declared = js.declare(mapped)(sequences, config)
    return declared.split(declared.init(key))


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean cross-entropy of the batch, and the moved statistics."""

    def loss(
        params: js.VarTree, state: js.VarTree, key: Array | None, batch: tuple[Array, Array]
    ) -> Any:
        sequences, labels = batch
        rngs = key if config.dropout else None
        y, state = js.with_updates(mapped)(params | state, sequences, config, rngs=rngs)
        return cross_entropy(y, labels), state

    return loss
