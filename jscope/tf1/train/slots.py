"""Slots by TF1's names: from an optimizer's state to a tree, and back.

TF names the slots of a variable ``w`` after the variable and the optimizer: ``w/Adam``,
``w/Adam_1``. The variable scope in which ``minimize`` is called comes first: ``train/w/Adam``. A
name that is taken gets the first free number, whichever optimizer of the program took it. The
powers of Adam's betas are called after the name scope, ``train/beta1_power``, and also numbered.

Several optimizers of one program are a mapping, in the order in which the program calls
``minimize``: ``{"critic": AdamOptimizer(), "actor": AdamOptimizer()}``. Their states and parameters
are mappings of the same keys.

Source: ``slot_creator.py`` and ``Optimizer._create_non_slot_variable``, TensorFlow 1.15.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._errors import CheckpointValueError, TreeMismatchError
from ..._names.names import join
from ..._tree.differences import differences
from ..._tree.vartree import VarTree, as_tree, from_flat
from .optimizer import (
    Optimizer,
    Optimizers,
    OptimizerState,
    States,
    given_by_optimizer,
    optimizers_by_key,
)
from .schedules import scalar

GLOBAL_STEP = "global_step"


class SlotNames(NamedTuple):
    """What TF calls the variables of one optimizer.

    Attributes:
        slots: From each slot's key and variable to its name.
        powers: From each power to its name.
    """

    slots: dict[tuple[str, str], str]
    powers: dict[str, str]

    def all(self) -> tuple[str, ...]:
        """All names."""
        return (*self.powers.values(), *self.slots.values())


def to_slots(optimizer: Optimizers, opt_state: States) -> VarTree:
    """The slots as variables, by TF1's names.

    >>> optimizer = js.tf1.train.AdamOptimizer()
    >>> opt_state = optimizer.init(js.VarTree({"w": jnp.ones(2)}))
    >>> list(js.tf1.train.to_slots(optimizer, opt_state))
    ['beta1_power', 'beta2_power', 'w/Adam', 'w/Adam_1']

    Args:
        optimizer: An optimizer of `jscope.tf1.train`, or a mapping of several in TF's order.
        opt_state: Its state; or a mapping of the same keys.

    Returns:
        A tree. The optimizer's own step is not in it: in TF it is ``global_step``, which belongs
        to the program.

    Raises:
        CheckpointValueError: If these are not such an optimizer and its state.
    """
    optimizers = optimizers_by_key(optimizer)
    states = given_by_optimizer(optimizers, opt_state, "opt_state")
    for state in states.values():
        _check_state(state)
    names = slot_names(optimizers, {k: _variables(state) for k, state in states.items()})
    flat: dict[str, Any] = {}
    for key, named in names.items():
        flat |= {name: states[key].powers[power] for power, name in named.powers.items()}
        for (slot, variable), name in named.slots.items():
            flat[name] = states[key].slots[slot][variable]
    return from_flat(flat)


def from_slots(optimizer: Optimizers, tree: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    """An optimizer's state from variables by TF1's names; the inverse of `to_slots`.

    >>> variables = tensorflow.load("model.ckpt-1000")  # doctest: +SKIP
    >>> params = js.select(variables, declared.trainable)  # doctest: +SKIP
    >>> opt_state = js.tf1.train.from_slots(optimizer, variables, params)  # doctest: +SKIP

    Args:
        optimizer: As for `to_slots`.
        tree: Has the slots; what else it has is not read, but ``global_step``, which becomes the
            state's step if it is there.
        params: What the optimizer trains; or a mapping of the same keys as ``optimizer``.

    Returns:
        The state that ``optimizer.init(params)`` would begin, with these slots.

    Raises:
        TreeMismatchError: If slots are missing, or have other shapes or dtypes; all are listed.
        CheckpointValueError: If this is not an optimizer of `jscope.tf1.train`.
    """
    optimizers = optimizers_by_key(optimizer)
    trees = {k: as_tree(p) for k, p in given_by_optimizer(optimizers, params, "params").items()}
    expected = expected_slots(optimizers, trees)
    found = {name: jnp.asarray(tree[name]) for name in expected if name in tree}
    lines = differences(expected, found, "of the optimizer", "in the tree")
    if lines:
        raise TreeMismatchError(_lacking(lines, optimizers, expected, tree))
    names = slot_names(optimizers, trees)
    step = jnp.asarray(np.asarray(tree.get(GLOBAL_STEP, 0)).astype(np.int32))
    states = {
        key: OptimizerState(
            step=step,
            slots={
                slot.key: from_flat({v: found[named.slots[slot.key, v]] for v in trees[key]})
                for slot in optimizers[key].slots
            },
            powers={power: found[name] for power, name in named.powers.items()},
        )
        for key, named in names.items()
    }
    return states if isinstance(optimizer, Mapping) else states[""]


def slot_names(
    optimizers: Mapping[str, Optimizer], variables: Mapping[str, Iterable[str]]
) -> dict[str, SlotNames]:
    """TF's names of the slots of all optimizers of a program.

    Args:
        optimizers: In the order in which TF's program calls ``minimize``.
        variables: What each trains.
    """
    taken: set[str] = set()
    result = {}
    for key, optimizer in optimizers.items():
        powers = {
            power: _free_name(taken, optimizer.name_scope, power)
            for power in sorted(optimizer.powers)
        }
        slots = {
            (slot.key, variable): _free_name(taken, optimizer.scope, f"{variable}/{slot.op_name}")
            for variable in variables[key]
            for slot in optimizer.slots
        }
        result[key] = SlotNames(slots, powers)
    return result


def _free_name(taken: set[str], scope: str, name: str) -> str:
    """A slot's name that is not taken: TF's, or with the first number that makes it free."""
    tried = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1)))
    free = next(whole for each in tried if (whole := join(scope, each)) not in taken)
    taken.add(free)
    return free


def expected_slots(
    optimizers: Mapping[str, Optimizer], params: Mapping[str, Mapping[str, Any]]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes, dtypes and shardings of all slots, by TF's names.

    Args:
        optimizers: As for `slot_names`.
        params: What each trains: arrays, or `jax.ShapeDtypeStruct`.
    """
    expected = {}
    for key, named in slot_names(optimizers, params).items():
        for power, name in named.powers.items():
            dtype = scalar(optimizers[key].powers[power]).dtype
            expected[name] = jax.ShapeDtypeStruct((), dtype)
        for (_, variable), name in named.slots.items():
            value = params[key][variable]
            sharding = getattr(value, "sharding", None)
            if not isinstance(value, jax.ShapeDtypeStruct):
                sharding = None
            struct = jax.ShapeDtypeStruct(np.shape(value), value.dtype, sharding=sharding)
            expected[name] = struct
    return expected


def hints(
    optimizers: Mapping[str, Optimizer], missing: Iterable[str], known: Iterable[str]
) -> list[str]:
    """What to write if slots are there by other names, for errors.

    Args:
        optimizers: As for `slot_names`.
        missing: Names of slots that are not there.
        known: The names that are there.
    """
    known = list(known)
    texts: dict[str, None] = {}
    for name in missing:
        scope = next((k.removesuffix(f"/{name}") for k in known if k.endswith(f"/{name}")), None)
        if scope is not None:
            argument = "name_scope" if name.endswith("_power") else "scope"
            texts[
                f"{join(scope, name)!r} is there: TF's program calls minimize in a scope; write "
                f"{argument}={scope!r} in the optimizer's arguments."
            ] = None
    if not texts and any(not n.endswith("_power") for n in missing):
        name = next(n for n in missing if not n.endswith("_power"))
        variable = name.rpartition("/")[0]
        there = [k for k in known if k.startswith(f"{variable}/")]
        if there:
            texts[
                f"Of {variable!r} there are {', '.join(map(repr, there))}: in TF's program it has "
                "another optimizer, or one of another name=."
            ] = None
    return list(texts)


def _lacking(
    lines: Iterable[str],
    optimizers: Mapping[str, Optimizer],
    expected: Mapping[str, Any],
    tree: Mapping[str, Any],
) -> str:
    """Compose the text for slots that are missing, or of another shape or dtype."""
    lines = tuple(lines)
    missing = [name for name in expected if name not in tree]
    shown = "\n".join(f"  {line}" for line in lines)
    advice = hints(optimizers, missing, tree) or [
        "Give the optimizer as TF's program has it; for slots at their initial values write "
        "optimizer.init(params)."
    ]
    return (
        f"The slots of {', '.join(map(repr, optimizers.values()))} differ from the tree in "
        f"{len(lines)} place{'s' * (len(lines) > 1)}:\n{shown}\n" + "\n".join(advice)
    )


def _variables(state: OptimizerState) -> tuple[str, ...]:
    """The names of the variables of which a state has slots."""
    return tuple(next(iter(state.slots.values()), ()))


def _check_state(state: object) -> None:
    """Raise unless a state has slots by name."""
    if not isinstance(state, OptimizerState):
        raise CheckpointValueError(
            f"`opt_state` is {type(state).__name__}, not the OptimizerState that an optimizer of "
            "jscope.tf1.train has. Of a chain give the state of the optimizer in it: "
            "tf1.train.to_slots(adam, opt_state[1])."
        )
    for tree in state.slots.values():
        if not isinstance(tree, Mapping):
            raise CheckpointValueError(
                f"The slots are of parameters in a {type(tree).__name__}, which have no names. "
                "Train a tree by name: optimizer.init(js.VarTree(params))."
            )
