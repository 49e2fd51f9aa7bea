r"""What the S5 computes, without its parameters.

A state-space layer is the linear system $x'(t) = \Lambda x(t) + B u(t)$, $y(t) = 2\, \mathrm{Re}(C
x(t)) + D u(t)$ with a diagonal of complex eigenvalues $\Lambda$, each for itself and its conjugate.

Imports: JAX and NumPy.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

EPSILON = 1e-5  # in norms
MOMENTUM = 0.9  # of their moving statistics


@dataclass(frozen=True)
class Config:
    """The size of an S5, of its batch, and the rate of its dropout."""

    layers: int = 4
    width: int = 32
    states: int = 32
    features: int = 8
    classes: int = 10
    batch: int = 4
    length: int = 128
    dropout: float = 0.1


def example(config: Config) -> tuple[Float[Array, "batch length features"], Int[Array, " batch"]]:
    """Sequences and their classes."""
    shape = (config.batch, config.length, config.features)
    sequences = jnp.sin(jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape) ** 1.1)
    return sequences, jnp.arange(config.batch) % config.classes


def eigenvalues(states: int) -> Complex[np.ndarray, " states"]:
    r"""The first ones of the layers, $-1/2 + i \pi n$."""
    return (-0.5 + 1j * np.pi * np.arange(states)).astype(np.complex64)


def log_steps(states: int) -> Float[np.ndarray, " states"]:
    """The first ones of the layers: from 0.001 to 0.1."""
    return np.linspace(np.log(1e-3), np.log(1e-1), states, dtype=np.float32)


def state_space(
    u: Float[Array, "length width"],
    eigenvalues: Complex[Array, " states"],
    log_step: Float[Array, " states"],
    b: Complex[Array, "states width"],
    c: Complex[Array, "width states"],
    d: Float[Array, " width"],
) -> Float[Array, "length width"]:
    r"""The layer, with a zero-order hold of the input.

    With $\bar\Lambda = e^{\Lambda \Delta}$ and $\bar B = \Lambda^{-1} (\bar\Lambda - 1) B$, it is
    $x_t = \bar\Lambda x_{t-1} + \bar B u_t$, in parallel over all $t$.
    """
    held = jnp.exp(eigenvalues * jnp.exp(log_step).astype(eigenvalues.dtype))
    inputs = ((held - 1) / eigenvalues)[:, None] * b
    driven = u.astype(b.dtype) @ inputs.T
    factors = jnp.broadcast_to(held, driven.shape)
    _, x = jax.lax.associative_scan(_compose, (factors, driven))
    return 2 * (x @ c.T).real + u * d


def _compose(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
    """One after the other of two maps ``x -> a x + b``."""
    return then[0] * first[0], then[0] * first[1] + then[1]


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, ""]:
    """The mean over the batch, in nats."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -chosen.mean()
