"""The toy GPT's frameworks by name, and its input.

Imports: `gpt`, JAX.
"""

import types

import jax
import jax.numpy as jnp
from gpt import haiku_, linen, nnx, plain, scopes
from gpt.mathematics import Config

OURS, PLAIN = "jscope", "plain JAX"
FRAMEWORKS: dict[str, types.ModuleType] = {
    PLAIN: plain,
    OURS: scopes,
    "Haiku": haiku_,
    "linen": linen,
    "NNX": nnx,
}
PEERS = ("Haiku", "linen", "NNX")


def example(config: Config) -> tuple[jax.Array, jax.Array]:
    """A key and a batch of tokens, ``[batch, time]``."""
    key = jax.random.key(0)
    return key, jnp.arange(2 * config.length).reshape(2, -1) % config.vocabulary
