"""What cells and loops of RNNs are given, checked: inputs, states and lengths."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._errors import DtypeMismatchError, ShapeMismatchError

State: TypeAlias = Any  # a pytree of arrays, (batch, size) each
Sizes: TypeAlias = Any  # a pytree of ints, in the structure of a state


def check_inputs(cell: str, inputs: Array) -> None:
    """Raise if the inputs of one step have not two axes."""
    if inputs.ndim != 2:
        raise ShapeMismatchError(
            f"{cell} takes inputs of shape (batch, features), got {inputs.shape}. dynamic_rnn "
            "takes (batch, time, features), and static_rnn a list of (batch, features)."
        )


def check_state(cell: str, inputs: Array, sizes: Sizes, state: State) -> None:
    """Raise if a state has another structure, or other shapes, than a cell's sizes give."""
    batch = inputs.shape[0]
    expected = [(batch, size) for size in jax.tree.leaves(sizes)]
    if [np.shape(part) for part in jax.tree.leaves(state)] != expected:
        raise other_state(cell, inputs, sizes, state)


def other_state(cell: str, inputs: Array, sizes: Sizes, state: State) -> ShapeMismatchError:
    """Compose the error for a state of another structure, or of other shapes."""
    expected = jax.tree.map(lambda size: (inputs.shape[0], size), sizes)
    found = jax.tree.map(np.shape, state)
    return ShapeMismatchError(
        f"{cell} has state_size {sizes}, so its state for inputs of shape {inputs.shape} has the "
        f"shape {expected}, but got {found}. The cell's number of units is that of its state: "
        "make the cell with another, or the state with cell.zero_state(batch_size, dtype)."
    )


def check_dtypes(cell: str, inputs: Array, state: State) -> None:
    """Raise if a part of the state has another dtype than the inputs."""
    for part in jax.tree.leaves(state):
        if part.dtype != inputs.dtype:
            raise DtypeMismatchError(
                f"{cell} has inputs of dtype {inputs.dtype} and a state of dtype {part.dtype}. "
                "Write dtype=x.dtype for an initial state of zeros, or cast one of the two."
            )


def check_time(inputs: Array | Sequence[Array]) -> None:
    """Raise if the inputs of a loop are not one array with an axis of time."""
    if not isinstance(inputs, Array | np.ndarray):
        raise TypeError(
            f"dynamic_rnn takes one array (batch, time, features), got a {type(inputs).__name__} "
            f"of {len(inputs)}. Write jnp.stack(inputs, 1), or static_rnn for a list of steps."
        )
    if inputs.ndim < 2:
        raise ShapeMismatchError(
            f"dynamic_rnn takes inputs of shape (batch, time, features), got {inputs.shape}."
        )


def check_steps(inputs: Array | Sequence[Array]) -> None:
    """Raise if the inputs of `static_rnn` are not a list of steps."""
    if isinstance(inputs, Array | np.ndarray):
        raise TypeError(
            "static_rnn takes a list of (batch, features), one for each step, got a "
            f"{type(inputs).__name__} of shape {inputs.shape}. "
            "Write list(jnp.unstack(x, axis=1)) for x of shape (batch, time, features)."
        )
    if not inputs:
        raise ValueError("Argument `inputs` must not be empty.")


def lengths_of(
    function: str, sequence_length: Array | Sequence[int] | None, batch: int
) -> Array | None:
    """The lengths of the sequences of a batch, as int32: floats are cut off, as TF casts."""
    if sequence_length is None:
        return None
    lengths = jnp.asarray(sequence_length)
    if lengths.shape != (batch,):
        raise ShapeMismatchError(
            f"`sequence_length` of {function} is of shape {lengths.shape}, for a batch of {batch}. "
            f"Give one length for each sequence: the shape is ({batch},)."
        )
    return lengths.astype(jnp.int32)
