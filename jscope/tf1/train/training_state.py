"""A whole training run in TF1's checkpoints: `restore` it, train on, `save` it, and TF trains on.

The names are exactly those of TF's program: its variables, its optimizers' slots, ``global_step``,
and whatever else it saves, such as moving averages.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from ... import formats
from ..._errors import CheckpointValueError, TreeMismatchError
from ..._model.declaration import Declaration
from ..._names.selectors import Selector, matching
from ..._tree.selection import select
from ..._tree.vartree import VarTree, as_tree, from_flat
from ...interop import tensorflow
from ...interop._named import named
from ...saver._leaves import slices_of
from ...sharding import AnyMesh, Rules
from .optimizer import Optimizers, given_by_optimizer, optimizers_by_key
from .slots import GLOBAL_STEP, expected_slots, from_slots, hints, to_slots


class TrainingState(NamedTuple):
    """All that a training step changes; a pytree.

    Attributes:
        params: The variables that are trained.
        state: The declared variables that are not, and what else is carried along.
        opt_state: The optimizer's state, or a dict of several by key.
        global_step: The step, a scalar; None if the program has none.
    """

    params: VarTree
    state: VarTree
    opt_state: Any
    global_step: ArrayLike | None = None


def restore(
    declared: Declaration,
    path: str | os.PathLike[str],
    optimizer: Optimizers,
    *,
    var_list: Selector | Mapping[str, Selector] | None = None,
    others: Selector | None = None,
    mesh: AnyMesh | None = None,
    rules: Rules = (),
    verify: bool = True,
) -> TrainingState:
    """Read a TF1 program's checkpoint, and go on training where it stopped.

    >>> optimizer = js.tf1.train.MomentumOptimizer(0.05, 0.9)  # as in the program
    >>> training = js.tf1.train.restore(declared, "model.ckpt-1000", optimizer)  # doctest: +SKIP
    >>> training.global_step  # doctest: +SKIP
    Array(1000, dtype=int32)

    Args:
        declared: The model's declaration; of several functions, ``declared_a | declared_b``.
        path: As for `jscope.interop.tensorflow.load`.
        optimizer: The optimizer of TF's program; or a mapping of several, in the order in which
            it calls ``minimize``.
        var_list: What the optimizer trains: TF's argument of ``minimize``. By default the
            trainable variables. For several optimizers a mapping of the same keys. Names too, such
            as ``declared.trainable_variables("generator")``: a selector of a scope also selects
            its moving statistics, which have no slots.
        others: Which further variables of the checkpoint to carry along in ``state``, such as
            ``"**/ExponentialMovingAverage"``.
        mesh: What the variables and slots are laid out over, as for `Declaration.init`.
        rules: As for `Declaration.init`.
        verify: Whether to compare checksums.

    Returns:
        A `TrainingState`.

    Raises:
        TreeMismatchError: If names, shapes or dtypes differ: all are listed.
        SelectorError: If ``var_list`` or ``others`` matches nothing.
        CheckpointError: If the checkpoint is not there, or damaged.
    """
    optimizers = optimizers_by_key(optimizer)
    structs = declared.abstract(mesh, rules=rules)
    trained = _trained_names(declared, optimizers, var_list)
    params = {key: from_flat({n: structs[n] for n in names}) for key, names in trained.items()}
    target = structs | expected_slots(optimizers, params)
    stacks = {scope for spec in declared.values() for scope, _ in spec.stack}
    stored = list(named(formats.open(path, verify=verify), None, None).source.entries)
    every = {name for names in trained.values() for name in names}
    untrainable = sorted(every.difference(declared.trainable))
    carried, beside = _compare_names(stored, target, stacks, others, optimizers, untrainable)
    read, _ = tensorflow.restore(target, path, drop=beside, stacks=stacks, verify=verify)
    loaded = tensorflow.load(path, select=beside, verify=verify) if beside else VarTree()
    whole = read | loaded
    given = params if isinstance(optimizer, Mapping) else params[""]
    return TrainingState(
        params=from_flat({n: whole[n] for n in structs if n in every}),
        state=from_flat({n: whole[n] for n in (*structs, *carried) if n not in every}),
        opt_state=from_slots(optimizer, whole, given),
        global_step=jnp.asarray(int(whole[GLOBAL_STEP])) if GLOBAL_STEP in whole else None,
    )


def save(
    training_state: TrainingState,
    path: str | os.PathLike[str],
    optimizer: Optimizers,
    *,
    stacks: Iterable[str] = (),
    global_step_dtype: DTypeLike = np.int64,
    write_state: bool = True,
    overwrite: bool = False,
) -> str:
    """Write a training state as a checkpoint that TF's program trains on from: `restore` inverted.

    >>> js.tf1.train.save(training, "model.ckpt-2000", optimizer)  # doctest: +SKIP
    'model.ckpt-2000'

    Args:
        training_state: What to save: parameters, state, slots and step are all that is written.
        path: The prefix of the new files.
        optimizer: As for `restore`.
        stacks: The scopes that are stacks, as for `jscope.interop.tensorflow.export`.
        global_step_dtype: The dtype that ``global_step`` has in the program;
            ``tf.train.get_or_create_global_step`` makes it int64.
        write_state: As for `jscope.interop.tensorflow.export`, and so is ``overwrite``.
        overwrite: Whether to replace a checkpoint of this prefix.

    Returns:
        The prefix.

    Raises:
        CheckpointValueError: If a name occurs twice, or values can't be written.
        CheckpointExistsError: If there is a checkpoint already.
    """
    params, state = as_tree(training_state.params), as_tree(training_state.state)
    slots = to_slots(optimizer, training_state.opt_state)
    step = training_state.global_step
    parts: dict[str, Mapping[str, Any]] = {"params": params, "state": state, "slots": slots}
    if step is not None:
        parts["global_step"] = {GLOBAL_STEP: np.asarray(step).astype(global_step_dtype)}
        parts["state"] = {n: v for n, v in state.items() if n != GLOBAL_STEP}
        _check_step(state.get(GLOBAL_STEP, step), step)
    _check_apart(parts)
    tree = {name: value for part in parts.values() for name, value in part.items()}
    return tensorflow.export(
        from_flat(tree), path, stacks=stacks, write_state=write_state, overwrite=overwrite
    )


def _trained_names(
    declared: Declaration, optimizers: Mapping[str, Any], var_list: Any
) -> dict[str, tuple[str, ...]]:
    """The variables of a training state that each optimizer trains, by ``var_list``."""
    several = list(optimizers) != [""]
    if var_list is None:
        selectors: dict[str, Any] = dict.fromkeys(optimizers, declared.trainable)
    else:
        selectors = (
            given_by_optimizer(optimizers, var_list, "var_list") if several else {"": var_list}
        )
    abstract = declared.abstract()
    return {key: tuple(select(abstract, selector)) for key, selector in selectors.items()}


def _compare_names(
    stored: list[str],
    target: VarTree,
    stacks: Iterable[str],
    others: Selector | None,
    optimizers: Mapping[str, Any],
    untrainable: list[str],
) -> tuple[list[str], list[str]]:
    """Compare a TF program's checkpoint with the training state to restore: what it has beside it.

    Args:
        stored: The checkpoint's names.
        target: What is expected in it: variables and slots.
        stacks: The scopes that are stacks.
        others: As for `restore`.
        optimizers: By key.
        untrainable: Variables in ``var_list`` that the model declares with ``trainable=False``.

    Raises:
        TreeMismatchError: If names differ; with the optimizer's arguments to write.
    """
    slices = slices_of(target, stacks, None)
    expected = {part for name in target for part in slices.get(name, {(): name}).values()}
    left = {n: None for n in stored if n not in expected and n != GLOBAL_STEP}
    carried: list[str] = []
    if others is not None:
        hint = "Leave others= out if the checkpoint has no others."
        carried = sorted(matching(left, others, hint=hint))
    missing = sorted(expected.difference(stored))
    unexpected = sorted(left.keys() - set(carried))
    if missing or unexpected:
        raise TreeMismatchError(_names_differ(stored, missing, unexpected, optimizers, untrainable))
    return carried, [*carried, *({GLOBAL_STEP}.intersection(stored) - expected)]


def _names_differ(
    stored: list[str],
    missing: list[str],
    unexpected: list[str],
    optimizers: Mapping[str, Any],
    untrainable: list[str],
) -> str:
    """Compose the text for a checkpoint of other names than the training state to restore."""
    lines = [
        *(f"missing: {name!r} is not in the checkpoint" for name in missing),
        *(f"unexpected: {name!r} is in the checkpoint only" for name in unexpected),
    ]
    advice = hints(optimizers, missing, stored)
    without_slots = [n for n in untrainable if any(f"/{n}/" in f"/{m}" for m in missing)]
    if without_slots:
        advice.append(
            f"var_list= selects {without_slots[0]!r}, which is not trainable: TF's optimizers have "
            "no slots of it. Write var_list=declared.trainable_variables(), with the scope that is "
            "trained as its argument: declared.trainable_variables(scope)."
        )
    if unexpected and not advice:
        advice = [
            "Carry along what only the checkpoint has by others=, as in "
            "others='**/ExponentialMovingAverage'. Slots are those of the optimizer and the "
            "var_list= of TF's program."
        ]
    text = "\n".join(f"  {line}" for line in lines)
    return (
        f"The checkpoint's names are not those of the model and "
        f"{', '.join(map(repr, optimizers.values()))}; nothing was restored. {len(lines)} "
        f"difference{'s' * (len(lines) > 1)}:\n{text}\n" + "\n".join(advice)
    )


def _check_step(stated: object, step: ArrayLike) -> None:
    """Raise if a training state has its step twice, and they differ."""
    if int(np.asarray(stated)) != int(np.asarray(step)):
        raise CheckpointValueError(
            f"training_state.global_step is {step}, and 'global_step' in training_state.state is "
            f"{stated}; one of them was not updated. Write training_state._replace(global_step="
            "training_state.state['global_step'])."
        )


def _check_apart(parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if two parts of a training state to save have variables of one name."""
    first: dict[str, str] = {}
    twice = []
    for part, tree in parts.items():
        twice += [f"{n!r} in {first[n]} and {part}" for n in tree if n in first]
        first |= dict.fromkeys(tree, part)
    if twice:
        raise CheckpointValueError(
            f"{len(twice)} names occur twice: {', '.join(twice)}. Parameters, state and slots are "
            "one set of names in a checkpoint: js.drop them from one."
        )
