"""``tf.nn.rnn_cell``: cells, each one step over time.

A cell is made as in TF1, ``cell = layers.BasicLSTMCell(128)``, and called with the scope in front,
``output, state = cell(scope, x, state)``. As there, it has its variables where it is first called,
in a scope of its own, ``basic_lstm_cell``, made unique; later calls of the same object in one run
of the model share them. It is a template (`js.make_template`), so it holds no state.

Gates are in TF1's order: i, j, f, o.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from ... import layers
from ..._layer_arithmetic import floating
from ..._model.template import Template
from ..._names.names import check
from ..._scope.call_sites import call_site
from ..._scope.scope import Scope
from ...layers import Activation, Initial
from ._layer import activation_of, keep_prob_of, refuse
from ._rnn_arguments import (
    Sizes,
    State,
    check_dtypes,
    check_inputs,
    check_state,
    other_state,
)


class LSTMStateTuple(NamedTuple):
    """The state of an LSTM: ``c``, and the output ``h``."""

    c: Array
    h: Array


class RNNCell:
    """A cell: one step over time. Subclasses give `call`, `state_size` and `output_size`.

    Args:
        name: The cell's scope, relative to that of its first call. Default: the class's name in
            small letters, made unique.
        reuse: Whether its variables exist already.
        dtype: No effect: variables have the scope's dtype.

    Source: ``tf.nn.rnn_cell.RNNCell``. Difference: `call` has the cell's scope as first argument.
    """

    def __init__(
        self, *, name: str | None = None, reuse: bool | None = None, dtype: DTypeLike | None = None
    ):
        del dtype
        default = _snake_case(type(self).__name__)
        self._reuse = reuse
        unique = default if name is None and reuse else name
        self._template: Template[tuple[Array, State]] = Template(
            check(default),
            self._called,
            None if unique is None else check(unique),
            None,
            call_site(),
            kind="cell",
            naming=type(self).__name__ + "(..., name={!r})",
        )

    @property
    def state_size(self) -> Sizes:
        """The sizes of the state's arrays."""
        raise NotImplementedError(f"{type(self).__name__} has no state_size.")

    @property
    def output_size(self) -> int:
        """The size of the output."""
        raise NotImplementedError(f"{type(self).__name__} has no output_size.")

    def call(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        """One step, in the cell's own scope: output and new state."""
        raise NotImplementedError(f"{type(self).__name__} has no call.")

    def zero_state(self, batch_size: int, dtype: DTypeLike = jnp.float32) -> State:
        """A state of zeros."""
        return jax.tree.map(lambda size: jnp.zeros((batch_size, size), dtype), self.state_size)

    def __call__(self, scope: Scope, /, inputs: Array, state: State) -> tuple[Array, State]:
        """One step, from (batch, features) and a state to the output and the new state."""
        return self._template(scope, inputs, state)

    def enter(self, scope: Scope) -> Scope:
        """Open the cell's scope, if it isn't open, for calls in a transform; a scope for them."""
        around = self._template.around(scope)
        if around is None:
            self._enter_parts(self._template.enter(scope)[0])
        return around or scope

    def _enter_parts(self, scope: Scope) -> None:
        """Open the scopes of the cells that this one calls, in its own scope."""

    def _called(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        if self._reuse:
            scope = scope.variable_scope(scope, reuse=True)
        self._check(scope, inputs, state)
        return self.call(scope, inputs, state)

    def _check(self, scope: Scope, inputs: Array, state: State) -> None:
        """Raise if inputs and state don't fit the cell; one of the caller's own may take any."""


def check_cell(function: str, cell: object) -> None:
    """Raise unless a cell is an object of a subclass of `RNNCell`, not the class itself."""
    if isinstance(cell, RNNCell):
        return
    if isinstance(cell, type) and issubclass(cell, RNNCell):
        raise TypeError(
            f"{function} takes a cell, got the class {cell.__name__}, which makes cells. Write "
            f"{cell.__name__}(...), with its arguments."
        )
    raise TypeError(
        f"The argument 'cell' of {function} is not an RNNCell: got {cell!r}. Write a subclass of "
        "js.tf1.layers.RNNCell with state_size, output_size and call."
    )


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _identity(x: Array) -> Array:
    """The activation ``"linear"``."""
    return x


class _OfUnits(RNNCell):
    """A cell whose state is its output, one array of ``num_units``."""

    def __init__(
        self,
        num_units: int,
        activation: Activation | str | None,
        *,
        reuse: bool | None,
        name: str | None,
        dtype: DTypeLike | None,
    ):
        super().__init__(name=name, reuse=reuse, dtype=dtype)
        self._units = num_units
        self._activation = activation_of(activation or jnp.tanh) or _identity

    @property
    def state_size(self) -> Sizes:
        return self._units

    @property
    def output_size(self) -> int:
        return self._units

    def _check(self, scope: Scope, inputs: Array, state: State) -> None:
        cell = f"{type(self).__name__} in the scope {scope._path!r}"
        check_inputs(cell, inputs)
        check_state(cell, inputs, self.state_size, state)
        check_dtypes(cell, floating(inputs), state)


class BasicRNNCell(_OfUnits):
    r"""$h' = \tanh([x, h]\, \mathrm{kernel} + \mathrm{bias})$.

    Source: ``tf.nn.rnn_cell.BasicRNNCell``.
    """

    def __init__(
        self,
        num_units: int,
        activation: Activation | str | None = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(num_units, activation, reuse=reuse, name=name, dtype=dtype)

    def call(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        both = jnp.concatenate([floating(inputs), state], axis=1)
        h = self._activation(layers.dense(scope, both, units=self._units))
        return h, h


class _LSTM(_OfUnits):
    """A cell whose state is ``c`` and the output, as a tuple or side by side in one array."""

    def __init__(
        self,
        num_units: int,
        activation: Activation | str | None,
        forget_bias: float,
        state_is_tuple: bool,
        *,
        reuse: bool | None,
        name: str | None,
        dtype: DTypeLike | None,
    ):
        super().__init__(num_units, activation, reuse=reuse, name=name, dtype=dtype)
        self._forget_bias = forget_bias
        self._is_tuple = state_is_tuple

    @property
    def state_size(self) -> Sizes:
        sizes = (self._units, self.output_size)
        return LSTMStateTuple(*sizes) if self._is_tuple else sum(sizes)  # type: ignore[arg-type]

    def _split(self, state: State) -> tuple[Array, Array]:
        if self._is_tuple:
            c, h = state
            return c, h
        return state[:, : self._units], state[:, self._units :]

    def _joined(self, c: Array, h: Array) -> State:
        return LSTMStateTuple(c, h) if self._is_tuple else jnp.concatenate([c, h], axis=1)


class BasicLSTMCell(_LSTM):
    """A long short-term memory: `jscope.layers.lstm_cell` with a name.

    >>> cell = js.tf1.layers.BasicLSTMCell(8)
    >>> def model(scope, x):
    ...     return js.tf1.layers.dynamic_rnn(scope, cell, x, dtype=jnp.float32)
    >>> list(js.declare(model)(jnp.ones((2, 5, 3))))
    ['rnn/basic_lstm_cell/kernel', 'rnn/basic_lstm_cell/bias']

    Args:
        num_units: The size of ``c`` and ``h``.
        forget_bias: Added to the forget gate, not to the variable.
        state_is_tuple: Whether a state is an `LSTMStateTuple`; else both in one array.
        activation: A function, or the name of one in `jax.nn`; ``"linear"`` is none. Default: tanh.
        others: As for `RNNCell`.

    Source: ``tf.nn.rnn_cell.BasicLSTMCell``.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation | str | None = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(
            num_units,
            activation,
            forget_bias,
            state_is_tuple,
            reuse=reuse,
            name=name,
            dtype=dtype,
        )

    def call(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        c, h = self._split(state)
        h, (c, _) = layers.lstm_cell(
            scope, inputs, (c, h), activation=self._activation, forget_bias=self._forget_bias
        )
        return h, self._joined(c, h)


class LSTMCell(_LSTM):
    r"""A long short-term memory with peepholes, clipping and a projection, each if wanted.

    With $(i, j, f, o) = [x, m]\, \mathrm{kernel} + \mathrm{bias}$,

    $$c' = \sigma(f + \texttt{forget\_bias} + w_f c)\, c + \sigma(i + w_i c) \tanh(j), \qquad
    m' = (\sigma(o + w_o c') \tanh(c'))\, \mathrm{projection}.$$

    Args:
        num_units: The size of ``c``.
        use_peepholes: Whether there are $w_f, w_i, w_o$: ``w_f_diag``, ``w_i_diag``, ``w_o_diag``.
        cell_clip: ``c`` is clipped to between minus and plus this.
        initializer: Of all variables but ``bias``.
        num_proj: The size of the output, by ``projection/kernel``. Default: no projection.
        proj_clip: The projected output is clipped to between minus and plus this.
        num_unit_shards: With ``num_proj_shards``: errors; a partitioner of the scope replaces them.
        others: As for `BasicLSTMCell`.

    Source: ``tf.nn.rnn_cell.LSTMCell``.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Initial = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: None = None,
        num_proj_shards: None = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Activation | str | None = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(
            num_units,
            activation,
            forget_bias,
            state_is_tuple,
            reuse=reuse,
            name=name,
            dtype=dtype,
        )
        refuse(
            "LSTMCell",
            "write scope.variable_scope(name, partitioner=...) around it",
            num_unit_shards=num_unit_shards,
            num_proj_shards=num_proj_shards,
        )
        self._peepholes = use_peepholes
        self._cell_clip = cell_clip
        self._initializer = initializer
        self._projected = num_proj
        self._proj_clip = proj_clip

    @property
    def output_size(self) -> int:
        return self._units if self._projected is None else self._projected

    def call(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        c, m = self._split(state)
        gates = layers.dense(
            scope,
            jnp.concatenate([floating(inputs), m], axis=1),
            units=4 * self._units,
            kernel_initializer=self._initializer,
        )
        i, j, f, o = jnp.split(gates, 4, axis=1)
        f = f + self._forget_bias
        if self._peepholes:
            of_f, of_i, of_o = (self._diagonal(scope, gate, c) for gate in "fio")
            f, i = f + of_f * c, i + of_i * c
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * self._activation(j)
        if self._cell_clip is not None:
            c = jnp.clip(c, -self._cell_clip, self._cell_clip)
        o = o + of_o * c if self._peepholes else o
        m = self._through_projection(scope, jax.nn.sigmoid(o) * self._activation(c))
        return m, self._joined(c, m)

    def _diagonal(self, scope: Scope, gate: str, c: Array) -> Array:
        """The weights of a peephole, one for each unit."""
        name = f"w_{gate}_diag"
        w = scope.get_variable(name, (self._units,), initializer=self._initializer)
        return w.astype(c.dtype)[None]

    def _through_projection(self, scope: Scope, m: Array) -> Array:
        if self._projected is None:
            return m
        m = layers.dense(
            scope / "projection",
            m,
            units=self._projected,
            use_bias=False,
            kernel_initializer=self._initializer,
        )
        return m if self._proj_clip is None else jnp.clip(m, -self._proj_clip, self._proj_clip)


class GRUCell(_OfUnits):
    """A gated recurrent unit: `jscope.layers.gru_cell` with a name.

    Args:
        num_units: The size of the state.
        bias_initializer: Default: ones for the gates, zeros for the candidate.
        others: As for `BasicLSTMCell`.

    Source: ``tf.nn.rnn_cell.GRUCell``.
    """

    def __init__(
        self,
        num_units: int,
        activation: Activation | str | None = None,
        reuse: bool | None = None,
        kernel_initializer: Initial = None,
        bias_initializer: Initial = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(num_units, activation, reuse=reuse, name=name, dtype=dtype)
        self._kernel_initializer = kernel_initializer
        self._bias_initializer = bias_initializer

    def call(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        h = layers.gru_cell(
            scope,
            inputs,
            state,
            activation=self._activation,
            kernel_initializer=self._kernel_initializer,
            bias_initializer=self._bias_initializer,
        )
        return h, h


class MultiRNNCell(RNNCell):
    """Cells on top of each other, in ``multi_rnn_cell/cell_0``, ``cell_1``, ...

    Args:
        cells: From the first to the last. One object given twice shares its variables.
        state_is_tuple: Must be True.

    Source: ``tf.nn.rnn_cell.MultiRNNCell``.
    """

    def __init__(self, cells: Sequence[RNNCell], state_is_tuple: bool = True):
        if not cells:
            raise ValueError("Must specify at least one cell for MultiRNNCell.")
        if not state_is_tuple:
            raise TypeError(
                "MultiRNNCell with state_is_tuple=False is not supported: the state is a tuple. "
                "jnp.concatenate joins its parts."
            )
        for cell in cells:
            check_cell("MultiRNNCell", cell)
        super().__init__()
        self._cells = tuple(cells)

    @property
    def state_size(self) -> Sizes:
        return tuple(cell.state_size for cell in self._cells)

    @property
    def output_size(self) -> int:
        return self._cells[-1].output_size

    def _enter_parts(self, scope: Scope) -> None:
        for i, cell in enumerate(self._cells):
            cell.enter(scope.variable_scope(f"cell_{i}"))

    def _check(self, scope: Scope, inputs: Array, state: State) -> None:
        if not isinstance(state, list | tuple) or len(state) != len(self._cells):
            cell = f"MultiRNNCell in the scope {scope._path!r}"
            raise other_state(cell, inputs, self.state_size, state)

    def call(self, scope: Scope, inputs: Array, state: State) -> tuple[Array, State]:
        states = []
        for i, (cell, each) in enumerate(zip(self._cells, state, strict=True)):
            # An object that is given again has its variables below, where it was given first.
            first = next(j for j, other in enumerate(self._cells) if other is cell)
            below = scope.variable_scope(f"cell_{first}")
            inputs, new = cell(below if first == i else below.fold(i), inputs, each)
            states.append(new)
        return inputs, tuple(states)


class DropoutWrapper(RNNCell):
    """A cell with dropout of its inputs, outputs and states; it has no scope of its own.

    The masks come from the random stream ``"dropout"``, other ones at each step of `dynamic_rnn`.

    Args:
        cell: What is wrapped.
        input_keep_prob: The probability to keep a value; with 1 nothing is drawn. So too
            output_keep_prob, and state_keep_prob, which spares the ``c`` of an LSTM.
        variational_recurrent: With ``input_size`` and ``dtype``: an error if True.
        seed: Folded into the random keys.

    Source: ``tf.nn.rnn_cell.DropoutWrapper``.
    """

    def __init__(
        self,
        cell: RNNCell,
        input_keep_prob: float = 1.0,
        output_keep_prob: float = 1.0,
        state_keep_prob: float = 1.0,
        variational_recurrent: bool = False,
        input_size: None = None,
        dtype: DTypeLike | None = None,
        seed: int | None = None,
    ):
        super().__init__(dtype=dtype)
        check_cell("DropoutWrapper", cell)
        refuse(
            "DropoutWrapper",
            "draw one mask outside of the loop, and multiply by it in a cell of your own",
            variational_recurrent=variational_recurrent or None,
            input_size=input_size,
        )
        self._cell = cell
        self._keep = {
            "input": keep_prob_of("input_keep_prob", input_keep_prob),
            "output": keep_prob_of("output_keep_prob", output_keep_prob),
        }
        self._keep_state = keep_prob_of("state_keep_prob", state_keep_prob)
        self._seed = seed

    @property
    def state_size(self) -> Sizes:
        return self._cell.state_size

    @property
    def output_size(self) -> int:
        return self._cell.output_size

    def enter(self, scope: Scope) -> Scope:
        return self._cell.enter(scope)

    def __call__(self, scope: Scope, /, inputs: Array, state: State) -> tuple[Array, State]:
        inputs = self._dropped(scope, inputs, "input", self._keep["input"])
        output, state = self._cell(scope, inputs, state)
        if self._keep_state != 1:
            state = self._dropped_state(scope, state)
        return self._dropped(scope, output, "output", self._keep["output"]), state

    def _dropped_state(self, scope: Scope, state: State) -> State:
        if isinstance(state, LSTMStateTuple):
            return state._replace(h=self._dropped(scope, state.h, "state", self._keep_state))
        parts, structure = jax.tree.flatten(state)
        each = (
            self._dropped(scope, part, f"state_{i}", self._keep_state)
            for i, part in enumerate(parts)
        )
        return jax.tree.unflatten(structure, list(each))

    def _dropped(self, scope: Scope, x: Array, name: str, keep: float) -> Array:
        if keep == 1:
            return x
        scope = scope if self._seed is None else scope.fold(self._seed)
        return layers.dropout(scope, x, rate=1 - keep, training=True, name=name)
