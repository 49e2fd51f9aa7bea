"""What the T5 computes, without its parameters.

Imports: JAX and NumPy.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

EPSILON = 1e-6  # in norms


@dataclass(frozen=True)
class Config:
    """The size of a T5, of its batch, and the rate of its dropout."""

    layers: int = 4  # of the encoder, and of the decoder
    width: int = 64
    heads: int = 4
    head_size: int = 16
    hidden: int = 128
    vocabulary: int = 256
    buckets: int = 32
    batch: int = 2
    length: int = 32
    dropout: float = 0.1


def example(config: Config) -> tuple[Int[Array, "batch length"], Int[Array, "batch length"]]:
    """Inputs and targets."""
    tokens = jnp.arange(config.batch * config.length).reshape(config.batch, config.length)
    return 7 * tokens % config.vocabulary, 5 * tokens % config.vocabulary


def shifted(targets: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
    """The decoder's inputs: the start, 0, and all targets but the last."""
    return jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))


def relative_buckets(
    length: int, count: int, bidirectional: bool, most: int = 128
) -> Int[np.ndarray, "length length"]:
    r"""The bucket of the distance between each query and each key.

    Half of the buckets are for one distance each, the others for ranges that grow to ``most`` as
    $\log$. If bidirectional, half of all are for keys behind the query; else these have bucket 0.
    """
    distance = np.arange(length)[:, None] - np.arange(length)  # of a key before the query
    first = 0
    if bidirectional:
        count //= 2
        first = count * (distance < 0)
        distance = abs(distance)
    distance, exact = np.maximum(distance, 0), count // 2
    grown = np.log(np.maximum(distance, 1) / exact) / np.log(most / exact) * (count - exact)
    far = np.minimum(exact + grown.astype(int), count - 1)
    return (first + np.where(distance < exact, distance, far)).astype(np.int32)


def attention_weights(
    q: Float[Array, "batch length heads size"],
    k: Float[Array, "batch others heads size"],
    bias: Float[Array, "heads length others"] | None,
    causal: bool,
) -> Float[Array, "batch heads length others"]:
    r"""$\mathrm{softmax}(q k^T + b)$; T5 scales its initial values, not its scores."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
    if bias is not None:
        scores = scores + bias[None]
    if causal:
        scores = jnp.where(np.tri(q.shape[1], dtype=bool), scores, -1e9)
    return jax.nn.softmax(scores)


def attended(
    weights: Float[Array, "batch heads length others"],
    v: Float[Array, "batch others heads size"],
) -> Float[Array, "batch length width"]:
    """The heads' weighted means, side by side."""
    y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return y.reshape(*y.shape[:2], -1)


def cross_entropy(
    logits: Float[Array, "batch length vocabulary"], targets: Int[Array, "batch length"]
) -> Float[Array, ""]:
    """The mean over all positions, in nats."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)
    return -chosen.mean()
