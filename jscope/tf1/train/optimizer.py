"""`Optimizer`: an Optax transformation that knows its slots, as TF1's optimizers do.

An optimizer's state is one `OptimizerState` for all of TF1's: trees of slots like the parameters,
the powers of Adam's betas, and the number of steps. TF's names are not in it: they are made of the
optimizer and the parameters' names.

**Arithmetic.** Every number is converted to the variable's dtype, and all is computed in that
dtype, as TF's kernels do. Python's numbers are float32 before, also for variables of float64.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ..._errors import CheckpointValueError, TreeMismatchError
from ..._names.names import check
from ..._tree.differences import differences
from ..._tree.vartree import VarTree
from ._optax import optax
from .gradients import IndexedSlices, is_slices
from .schedules import Schedule, scalar

Rate: TypeAlias = ArrayLike | Schedule
Slots: TypeAlias = dict[str, Array]


class OptimizerState(NamedTuple):
    """The state of an optimizer of TF1.

    Attributes:
        step: Steps so far, int32: TF's ``global_step``, for schedules.
        slots: From TF's ``slot_name``, such as ``"m"``, to a tree like the parameters.
        powers: The powers of Adam's betas, by name; scalars.
    """

    step: Array
    slots: dict[str, Any]
    powers: dict[str, Array]


@dataclass(frozen=True)
class Slot:
    """What an `Optimizer` says of a slot that it keeps for each variable.

    Attributes:
        key: What TF calls it in ``get_slot``.
        op_name: The last component of its name; slots of one such name are numbered.
        initial: Its initial value.
    """

    key: str
    op_name: str
    initial: float = 0.0


@dataclass(frozen=True)
class Variable:
    """What an optimizer's rule sees of one variable, or of some of its rows.

    Attributes:
        name: Its name, for weight decay.
        gradient: Its gradient.
        value: Its value.
        slots: Its slots, by `Slot.key`.
        rate: The learning rate, in the variable's dtype.
        powers: The powers of betas, in the variable's dtype.
    """

    name: str
    gradient: Array
    value: Array
    slots: Slots
    rate: Array
    powers: Mapping[str, Array]

    def number(self, value: ArrayLike) -> Array:
        """A number in the variable's dtype."""
        return scalar(value).astype(self.gradient.dtype)


class Optimizer(optax.GradientTransformationExtraArgs):  # type: ignore[misc]  # Optax is untyped
    """An Optax transformation with TF1's arithmetic, and what TF1 needs to name its slots.

    It is what each class in `jscope.tf1.train` is; they differ in `slots` and `step`.

    Attributes:
        name: TF's ``name``, from which slots have theirs.
        scope: The variable scope in which TF1's program calls ``minimize`` or
            ``apply_gradients``: slots are called ``<scope>/w/Adam``.
        name_scope: The name scope there: ``<name_scope>/beta1_power``.
        slots: The slots of each variable, in TF's order of creation.
        powers: The initial powers of betas, by name.
        sparse: What is done with `IndexedSlices`: only their rows are updated (``"rows"``), or
            all (``"dense"``).
    """

    name: str
    scope: str
    name_scope: str
    slots: tuple[Slot, ...]
    powers: Mapping[str, ArrayLike]
    sparse: str
    _rate: Rate
    _step: Callable[[Variable], tuple[Array, Slots]]

    def __new__(
        cls,
        learning_rate: Rate,
        step: Callable[[Variable], tuple[Array, Slots]],
        *,
        name: str,
        slots: tuple[Slot, ...] = (),
        powers: Mapping[str, ArrayLike] | None = None,
        sparse: str = "rows",
        scope: str = "",
        name_scope: str | None = None,
    ) -> "Optimizer":
        """Make one of a rule.

        Args:
            learning_rate: A number, or a function of the step.
            step: What is added to a variable, and its new slots.
            name: As the attribute, and so are the others; ``name_scope`` is ``scope`` by default.
            slots: See `Optimizer`.
            powers: See `Optimizer`.
            sparse: See `Optimizer`.
            scope: See `Optimizer`.
            name_scope: See `Optimizer`.
        """
        self: Optimizer = super().__new__(
            cls,
            lambda params: _init(self, params),
            lambda updates, state, params=None, *, global_step=None, **others: _update(
                self, updates, state, params, global_step
            ),
        )
        for given in (name, scope, name_scope or ""):
            if given or given is name:
                check(given)
        self.name, self.slots, self.powers = name, slots, dict(powers or {})
        self.scope, self.name_scope = scope, scope if name_scope is None else name_scope
        self.sparse, self._rate, self._step = sparse, learning_rate, step
        return self

    def __repr__(self) -> str:
        scope = f", scope={self.scope!r}" if self.scope else ""
        return f"<{type(self).__name__} name={self.name!r}{scope}>"

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def _init(optimizer: Optimizer, params: Any) -> OptimizerState:
    """The first state of an `Optimizer`, with its slots and powers."""

    def filled(slot: Slot) -> Any:
        return jax.tree.map(lambda p: jnp.full_like(p, slot.initial), params)

    return OptimizerState(
        step=jnp.zeros((), np.int32),
        slots={slot.key: filled(slot) for slot in optimizer.slots},
        powers={name: scalar(power) for name, power in optimizer.powers.items()},
    )


def _update(
    optimizer: Optimizer,
    gradients: Any,
    state: OptimizerState,
    params: Any,
    global_step: ArrayLike | None,
) -> tuple[Any, OptimizerState]:
    """An `Optimizer`'s update of all variables, with TF's ``global_step``."""
    if params is None:
        raise ValueError(
            f"{type(optimizer).__name__}.update was not passed the parameters: write "
            "optimizer.update(gradients, opt_state, params)."
        )
    _check_same(params, gradients, "gradients")
    for tree in state.slots.values():
        _check_same(params, tree, "slots of the state")
    rate = optimizer._rate
    if callable(rate):
        rate = rate(state.step if global_step is None else global_step)

    def new(path: tuple[Any, ...], value: Any, gradient: Any, *slots: Array) -> _New:
        return _New(*_updated(optimizer, path, value, gradient, slots, rate, state))

    keys = tuple(slot.key for slot in optimizer.slots)
    trees = (state.slots[key] for key in keys)
    each = jax.tree_util.tree_map_with_path(new, params, gradients, *trees)
    updates = jax.tree.map(lambda new: new.update, each)
    powers = {
        name: power * scalar(optimizer.powers[name]).astype(power.dtype)
        for name, power in state.powers.items()
    }
    slots = {key: jax.tree.map(lambda new, key=key: new.slots[key], each) for key in keys}
    return updates, OptimizerState(optax.safe_increment(state.step), slots, powers)


class _New:
    """An `Optimizer`'s update of one variable, and its slots; a leaf, which no NamedTuple is."""

    def __init__(self, update: Array | IndexedSlices, slots: Slots):
        self.update, self.slots = update, slots


def _updated(
    optimizer: Optimizer,
    path: tuple[Any, ...],
    value: ArrayLike,
    gradient: Array | IndexedSlices,
    slots: tuple[Array, ...],
    rate: ArrayLike,
    state: OptimizerState,
) -> tuple[Array | IndexedSlices, Slots]:
    """An optimizer's update of one variable, and its new slots."""
    name, value = jax.tree_util.keystr(path, simple=True, separator="/"), jnp.asarray(value)
    powers = {name: power.astype(value.dtype) for name, power in state.powers.items()}
    shared = (scalar(rate).astype(value.dtype), powers)
    old = {slot.key: jnp.asarray(x) for slot, x in zip(optimizer.slots, slots, strict=True)}
    if isinstance(gradient, IndexedSlices) and optimizer.sparse == "dense":
        gradient = gradient.to_dense()
    if not isinstance(gradient, IndexedSlices):
        return optimizer._step(Variable(name, jnp.asarray(gradient), value, old, *shared))
    rows = gradient.summed()
    old_rows = {key: rows.rows_of(slot) for key, slot in old.items()}
    update, new = optimizer._step(
        Variable(name, rows.values, rows.rows_of(value), old_rows, *shared)
    )
    return rows.with_values(update), {k: rows.put_rows(old[k], new[k]) for k in old}


def _check_same(params: Any, tree: Any, what: str) -> None:
    """Raise unless an optimizer's gradients or state have the variables of the parameters."""
    if not (isinstance(params, VarTree) and isinstance(tree, VarTree)):
        return  # JAX compares other trees
    dense = {name: _dense_struct(g) if is_slices(g) else g for name, g in tree.items()}
    if params.keys() == dense.keys() and all(map(_is_alike, params.values(), dense.values())):
        return
    lines = differences(dict(params), dense, "of the parameters", f"of the {what}")
    raise TreeMismatchError(
        f"The {what} are not those of the parameters, in {len(lines)} "
        f"place{'s' * (len(lines) > 1)}:\n"
        + "\n".join(f"  {line}" for line in lines)
        + "\nAn optimizer trains the variables that its state was made for: opt_state = "
        "optimizer.init(params), with gradients with respect to these params."
    )


def _dense_struct(slices: IndexedSlices) -> jax.ShapeDtypeStruct:
    """The shape and dtype, for an `Optimizer`, of the gradient that `IndexedSlices` stand for."""
    return jax.ShapeDtypeStruct(slices.dense_shape, slices.values.dtype)


def _is_alike(value: Any, other: Any) -> bool:
    """Whether an `Optimizer`'s gradient has the shape and dtype of the parameter."""
    dtypes = (getattr(x, "dtype", None) for x in (value, other))
    return np.shape(value) == np.shape(other) and len(set(dtypes)) == 1


# Several optimizers of one program.


Optimizers: TypeAlias = Optimizer | Mapping[str, Optimizer]
States: TypeAlias = OptimizerState | Mapping[str, OptimizerState]


def optimizers_by_key(optimizer: Optimizers) -> dict[str, Optimizer]:
    """An `Optimizer`, or a mapping of several, as a mapping; a single one has the key ``""``.

    Raises:
        CheckpointValueError: If one is not of `jscope.tf1.train`.
    """
    several = isinstance(optimizer, Mapping)
    optimizers = dict(optimizer) if isinstance(optimizer, Mapping) else {"": optimizer}
    for key, one in optimizers.items():
        if not isinstance(one, Optimizer):
            what = f"{key!r} of `optimizer`" if several else "`optimizer`"
            raise CheckpointValueError(
                f"{what} is {type(one).__name__}, and only an optimizer of jscope.tf1.train knows "
                "the names of its slots. Of a chain give the optimizer and its own state: "
                "adam = tf1.train.AdamOptimizer(); chain = optax.chain(clip, adam); "
                "tf1.train.to_slots(adam, opt_state[1])."
            )
    return optimizers


def given_by_optimizer(
    optimizers: Mapping[str, Optimizer], values: Any, what: str
) -> dict[str, Any]:
    """What was given beside an `Optimizer`, or beside a mapping of several, as a mapping.

    Raises:
        CheckpointValueError: If the keys are not the same.
    """
    if list(optimizers) == [""]:
        return {"": values}
    if not isinstance(values, Mapping) or values.keys() != optimizers.keys():
        found = list(values) if isinstance(values, Mapping) else type(values).__name__
        raise CheckpointValueError(
            f"`optimizer` is a mapping of {list(optimizers)}, and `{what}` is not one of the same "
            f"keys: {found}."
        )
    return {key: values[key] for key in optimizers}
