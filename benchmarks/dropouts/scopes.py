"""The blocks in jscope: functions over a scope.

Imports: `mathematics`, jscope, JAX.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

import jscope as js
from jscope.layers import dense, dropout

from .mathematics import NAMES, Config, example


def block(scope: js.Scope, x: Array, config: Config) -> Array:
    for name in NAMES:
        y = dense(scope / name, x, units=config.width, activation=jnp.tanh)
        x = x + dropout(scope / name, y, rate=config.dropout, training=True)
    return x


def model(scope: js.Scope, x: Array, config: Config) -> Array:
    def body(x: Array, slice: js.Scope) -> tuple[Array, None]:
        return block(slice, x, config), None

    layers = scope.stacked("layers", config.layers)
    return lax.scan(jax.checkpoint(body, prevent_cse=False), x, layers)[0]


def variables(config: Config, key: Array) -> tuple[js.VarTree, js.VarTree]:
    """Initial values: parameters, and the state, which is empty."""
    declared = js.declare(model)(example(config), config)
    return declared.split(declared.init(key))


def objective(config: Config) -> Callable[..., tuple[Array, Any]]:
    """The mean square of the output, and the state, of which there is none."""

    def loss(params: js.VarTree, state: js.VarTree, key: Array | None, x: Array) -> Any:
        scope = js.Scope(params, rngs=key if config.dropout else None)
        return jnp.square(model(scope, x, config)).mean(), state

    return loss
