"""The toy GPT's frameworks by name, and its input.

Imports: `gpt`, jscope, JAX and NumPy.
"""

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from gpt import haiku_, linen, nnx, plain, scopes
from gpt.mathematics import Config
from gpt.values import with_values

import jscope as js

OURS, PLAIN = "jscope", "plain JAX"
FRAMEWORKS: dict[str, types.ModuleType] = {
    PLAIN: plain,
    OURS: scopes,
    "Haiku": haiku_,
    "linen": linen,
    "NNX": nnx,
}
PEERS = ("Haiku", "linen", "NNX")


def unnamed() -> types.ModuleType:
    """The GPT of jscope once more, of functions that `js.named` is not applied to."""
    named = sys.modules.pop(scopes.__name__)
    try:
        with mock.patch.object(js, "named", lambda function: function):
            return importlib.import_module(scopes.__name__)
    finally:
        sys.modules[scopes.__name__] = named


def example(config: Config) -> tuple[jax.Array, jax.Array]:
    """A key and a batch of tokens, ``[batch, time]``."""
    key = jax.random.key(0)
    return key, jnp.arange(2 * config.length).reshape(2, -1) % config.vocabulary


def abstract(framework: types.ModuleType, config: Config) -> tuple[Callable[..., jax.Array], Any]:
    """The model as a function of its variables, and their shapes: nothing is computed."""
    models = []

    def variables(key: jax.Array, tokens: jax.Array) -> Any:
        apply, variables = framework.bind(config, key, tokens)
        models.append(apply)
        return variables

    shapes = jax.eval_shape(variables, *example(config))
    return models[0], shapes


def disagreement() -> float:
    """The largest difference between the frameworks' logits from the same values, with one block.

    Raises:
        AssertionError: If a framework has other variables than jscope.
    """
    config = Config(blocks=1)
    _, tokens = example(config)
    random = np.random.default_rng(0)
    values = {
        name: 0.1 * random.standard_normal(spec.shape, np.float32)
        for name, spec in js.declare(scopes.gpt)(tokens, config).items()
    }
    logits = []
    for framework in FRAMEWORKS.values():
        apply, variables = abstract(framework, config)
        logits.append(jax.jit(apply)(with_values(variables, values), tokens))
    return max(float(abs(found - logits[0]).max()) for found in logits)
