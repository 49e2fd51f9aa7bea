"""``tf.nn.dynamic_rnn`` and its kin: loops over time.

The loop is `jax.lax.scan`. Variables are ``rnn/basic_lstm_cell/kernel``, ``rnn/multi_rnn_cell/
cell_0/basic_lstm_cell/kernel``, ..., as in TF1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from ..._scope.scope import Scope
from ._rnn_arguments import State, check_steps, check_time, lengths_of
from ._rnn_cells import RNNCell, check_cell


def dynamic_rnn(
    within: Scope,
    /,
    cell: RNNCell,
    inputs: Array,
    sequence_length: Array | Sequence[int] | None = None,
    initial_state: State = None,
    dtype: DTypeLike | None = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: str | Scope | None = None,
) -> tuple[Array, State]:
    """A cell over all steps of time, by `jax.lax.scan`.

    Args:
        within: Where the loop's scope is opened, ``"rnn"`` by default: it holds the cell's.
        cell: An `RNNCell`. In each step its scope has random keys of its own (`Scope.fold`).
        inputs: (batch, time, features), or (time, batch, features) if ``time_major``.
        sequence_length: (batch,), integers, or floats, which are cut off: after so many steps
            outputs are zero, and the state stays.
        initial_state: Default: zeros of ``dtype``, which is required then.
        parallel_iterations: With ``swap_memory``: no effect. `jax.checkpoint` saves memory.
        scope: The loop's scope, relative to ``within``, or a scope.

    Returns:
        The outputs, as ``inputs``; and the last state.

    Raises:
        ValueError: If there is neither an initial state nor a dtype.
        VariableExistsError: If another cell has variables of these names: two layers need scopes
            of their own.
        ShapeMismatchError, DtypeMismatchError: If inputs, state, lengths and cell don't fit.

    Source: ``tf.nn.dynamic_rnn``.
    """
    del parallel_iterations, swap_memory
    check_cell("dynamic_rnn", cell)
    check_time(inputs)
    with within.variable_scope(scope or "rnn") as inner:
        steps = inputs if time_major else jnp.swapaxes(inputs, 0, 1)
        start = _first_state(cell, steps.shape[1], initial_state, dtype)
        lengths = lengths_of("dynamic_rnn", sequence_length, steps.shape[1])
        around = cell.enter(inner)
        # The body's names are requested around it too, so that another loop can't have them.
        around = around._at(
            around._context, around._leaves, around._begun().in_loop(), around._openings()
        )

        def body(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
            time, x = now
            output, new = cell(around.fold(time), x, state)
            return _kept(time, lengths, output, new, state)

        times = jnp.arange(len(steps), dtype=jnp.int32)
        last, outputs = lax.scan(body, start, (times, steps))
    return outputs if time_major else jnp.swapaxes(outputs, 0, 1), last


def static_rnn(
    within: Scope,
    /,
    cell: RNNCell,
    inputs: Sequence[Array],
    initial_state: State = None,
    dtype: DTypeLike | None = None,
    sequence_length: Array | Sequence[int] | None = None,
    scope: str | Scope | None = None,
) -> tuple[list[Array], State]:
    """A cell over a list of steps, one after the other in the program.

    Args:
        inputs: One (batch, features) for each step.
        others: As for `dynamic_rnn`.

    Returns:
        A list of outputs, and the last state.

    Source: ``tf.nn.static_rnn``.
    """
    check_cell("static_rnn", cell)
    check_steps(inputs)
    with within.variable_scope(scope or "rnn") as inner:
        state = _first_state(cell, inputs[0].shape[0], initial_state, dtype)
        lengths = lengths_of("static_rnn", sequence_length, inputs[0].shape[0])
        outputs = []
        for time, x in enumerate(inputs):
            output, new = cell(inner.fold(time), x, state)
            state, output = _kept(time, lengths, output, new, state)
            outputs.append(output)
    return outputs, state


def bidirectional_dynamic_rnn(
    within: Scope,
    /,
    cell_fw: RNNCell,
    cell_bw: RNNCell,
    inputs: Array,
    sequence_length: Array | Sequence[int] | None = None,
    initial_state_fw: State = None,
    initial_state_bw: State = None,
    dtype: DTypeLike | None = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: str | Scope | None = None,
) -> tuple[tuple[Array, Array], tuple[State, State]]:
    """`dynamic_rnn` forwards and backwards, in ``bidirectional_rnn/fw`` and ``.../bw``.

    Returns:
        The outputs of both, in the order of the inputs; and their last states.

    Source: ``tf.nn.bidirectional_dynamic_rnn``.
    """
    del parallel_iterations, swap_memory
    check_time(inputs)
    lengths = lengths_of("bidirectional_dynamic_rnn", sequence_length, inputs.shape[time_major])

    def run(inner: Scope, cell: RNNCell, x: Array, state: State) -> tuple[Array, State]:
        return dynamic_rnn(
            inner, cell, x, lengths, state, dtype, time_major=time_major, scope=inner
        )

    def backwards(x: Array) -> Array:
        return _reversed(x, lengths, time_major)

    with within.variable_scope(scope or "bidirectional_rnn") as both:
        forward, last = run(both.variable_scope("fw"), cell_fw, inputs, initial_state_fw)
        reverse = both.variable_scope("bw")
        backward, first = run(reverse, cell_bw, backwards(inputs), initial_state_bw)
    return (forward, backwards(backward)), (last, first)


def _first_state(cell: RNNCell, batch: int, initial_state: State, dtype: DTypeLike | None) -> State:
    if initial_state is not None:
        # Not weakly typed, as jnp.full(shape, 0.5) is: JAX would trace the body again.
        return jax.tree.map(lambda part: jnp.asarray(part, part.dtype), initial_state)
    if dtype is None:
        raise ValueError("If no initial_state is provided, argument `dtype` must be specified")
    return cell.zero_state(batch, dtype)


def _kept(
    time: Array | int,
    lengths: Array | None,
    output: Array,
    new: State,
    old: State,
) -> tuple[State, Array]:
    """State and output of a step, in the structure of the old state, unless it is over."""
    new = jax.tree.unflatten(jax.tree.structure(old), jax.tree.leaves(new))
    if lengths is None:
        return new, output
    goes_on = time < lengths

    def chosen(value: Array, otherwise: Array) -> Array:
        mask = goes_on.reshape(-1, *(1,) * (value.ndim - 1))
        return jnp.where(mask, value, otherwise)

    return jax.tree.map(chosen, new, old), chosen(output, jnp.zeros_like(output))


def _reversed(x: Array, lengths: Array | None, time_major: bool) -> Array:
    """Each sequence of the batch backwards, as far as it goes."""
    axis = 0 if time_major else 1
    if lengths is None:
        return jnp.flip(x, axis)
    time = jnp.arange(x.shape[axis], dtype=jnp.int32)[:, None]
    ends = lengths[None]
    where = jnp.where(time < ends, ends - 1 - time, time)  # (time, batch)
    where = where if time_major else where.T
    return jnp.take_along_axis(x, where[:, :, None], axis=axis)
