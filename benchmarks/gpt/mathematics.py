"""What the GPT computes, without its parameters.

Imports: JAX.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

DEVIATION = 0.02  # of initial kernels and embeddings
EPSILON = 1e-5  # in layer norms


@dataclass(frozen=True)
class Config:
    """The size of a GPT; the width is a multiple of the number of heads.

    Dropout is after attention and after the MLP, in plain JAX, jscope and linen only.
    """

    blocks: int
    width: int = 64
    heads: int = 4
    vocabulary: int = 256
    length: int = 32
    dropout: float = 0.0


def layer_norm(
    x: Float[Array, "... width"], scale: Float[Array, " width"], bias: Float[Array, " width"]
) -> Float[Array, "... width"]:
    r"""$(x - \mu) / \sqrt{\sigma^2 + \epsilon} \cdot \texttt{scale} + \texttt{bias}$."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + bias


def attend(
    q: Float[Array, "batch time width"],
    k: Float[Array, "batch time width"],
    v: Float[Array, "batch time width"],
    heads: int,
) -> Float[Array, "batch time width"]:
    """Causal self-attention, after the projections to queries, keys and values."""
    *batch, time, width = q.shape
    q, k, v = (a.reshape(*batch, time, heads, width // heads) for a in (q, k, v))
    scores = jnp.einsum("...qhd,...khd->...hqk", q, k) * (width // heads) ** -0.5
    causal = jnp.tril(jnp.ones((time, time), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
    return jnp.einsum("...hqk,...khd->...qhd", weights, v).reshape(*batch, time, width)
