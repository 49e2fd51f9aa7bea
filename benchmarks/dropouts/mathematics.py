r"""The size of the model, which is $x \leftarrow x + \mathrm{dropout}(\tanh(x W + b))$, repeated.

Imports: JAX.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

NAMES = ("dense_0", "dense_1", "dense_2", "dense_3")  # of the dense layers of a block


@dataclass(frozen=True)
class Config:
    """The number of blocks, the size of ``x``, and the rate of dropout."""

    layers: int = 24
    width: int = 32
    batch: int = 8
    dropout: float = 0.1


def example(config: Config) -> Float[Array, "batch width"]:
    """A batch of vectors."""
    return jnp.ones((config.batch, config.width))
