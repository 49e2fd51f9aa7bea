"""Reading the variables that are assigned to a target: all of them, or one error.

Names, shapes and dtypes are compared before values are read. Only values that go through a
function are read for that, since their new shapes and dtypes are the function's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._dtypes import Lost, cannot_convert, converted, lost_text
from .._errors import CheckpointValueError, TreeMismatchError, listed
from .._tree.vartree import VarTree, from_flat
from ._account import Policy, account
from ._checkpoint_names import Named
from ._placing import Array, like
from ._report import Report
from ._target import Assignment, Piece, Place, Target, has_value


def restore(
    target: Target, named: Named, assignment: Assignment, policy: Policy, init: Any
) -> tuple[VarTree, Report]:
    """The tree, and what was done.

    Args:
        target: What is restored into.
        named: The checkpoint.
        assignment: What is to be read for it.
        policy: Which differences are none.
        init: ``(names, given) -> tree`` of a declaration's initial values, or None.

    Raises:
        TreeMismatchError: If something differs that counts.
        CheckpointValueError: If a variable would be left without a value.
    """
    made = {
        (name, place): _through(piece, named)
        for name, pieces in assignment.wanted.items()
        for place, piece in pieces.items()
        if piece.through is not None
    }
    different = account(target, named, assignment, made, policy)
    if different:
        raise TreeMismatchError(
            f"The target and the checkpoint {named.path} differ; nothing was restored. {different}"
        )
    read = {name: pieces for name, pieces in assignment.wanted.items() if pieces}
    fresh = _fresh(target, assignment, policy, can_init=init is not None)
    values, lost = {}, []
    for name, pieces in read.items():
        try:
            values[name] = _value(name, target.leaves[name], pieces, named, made)
        except TreeMismatchError as error:
            lost.append(str(error))
    if lost:
        raise cannot_convert(lost)
    kept = {n: v for n, v in target.leaves.items() if n not in values and n not in fresh}
    initialised = init(fresh, values) if fresh else {}
    tree = from_flat({**kept, **values, **{name: initialised[name] for name in fresh}})
    sources = {
        name: tuple(p.source for _, p in sorted(parts.items())) for name, parts in read.items()
    }
    used = {source for names in sources.values() for source in names}
    return tree, Report(
        path=named.path,
        restored=sources,
        kept=tuple(kept),
        initialised=tuple(fresh),
        unused=tuple(name for name in named.entries if name not in used),
        changed=_changes(target, named, read),
    )


def _through(piece: Piece, named: Named) -> Array:
    assert piece.through is not None
    try:
        return np.asarray(piece.through.function(named.entries[piece.source].read()))
    except Exception as error:
        error.add_note(f"This is the function of a rule, given {piece.source!r}.")
        raise


def _fresh(
    target: Target, assignment: Assignment, policy: Policy, can_init: bool
) -> tuple[str, ...]:
    """The variables that get a declaration's initial values."""
    without = [n for n, leaf in target.leaves.items() if not assignment.wanted.get(n)]
    fresh = tuple(
        name
        for name in without
        if not has_value(target.leaves[name])
        or (policy.missing == "init" and name in assignment.wanted)
    )
    if fresh and not can_init:
        what = "a declaration" if target.declared is not None else "abstract there"
        raise CheckpointValueError(
            f"{len(fresh)} variables would be left without a value, since no rule matches them "
            f"and the target is {what}: {listed(fresh)}. Write key=jax.random.key(0) for a "
            "declaration's initial values, or restore into a tree that has values, as "
            "declared.init(key) gives it."
        )
    return fresh


def _value(
    name: str,
    leaf: Any,
    pieces: Mapping[Place, Piece],
    named: Named,
    made: Mapping[tuple[str, Place], Array],
) -> Any:
    """A variable's value, put together from its slices if it is read in slices.

    Raises:
        TreeMismatchError: If its dtype can't hold a value: a line for `cannot_convert`.
    """
    dtype = np.dtype(leaf.dtype)
    array = np.empty(leaf.shape, dtype)  # also of the whole: what is read is a view of the file
    lost, saved = Lost(), ""
    for place, piece in pieces.items():
        found = made.get((name, place))
        if found is None:
            found = named.entries[piece.source].read()
        array[place], not_held = converted(found, dtype)
        lost, saved = lost.and_those(not_held), str(found.dtype)
    if lost.count:
        raise TreeMismatchError(lost_text(name, saved, array.size, dtype, lost))
    return like(leaf, array)


def _changes(
    target: Target, named: Named, read: Mapping[str, Mapping[Place, Piece]]
) -> dict[str, str]:
    """Conversions of values, by variable."""
    changes = {}
    for name, pieces in read.items():
        piece = next(iter(pieces.values()))
        found, wanted = named.entries[piece.source].dtype, target.leaves[name].dtype
        texts = []
        if piece.through is not None:
            function = piece.through.function
            texts.append(f"through {getattr(function, '__name__', repr(function))}")
        if found != wanted:
            texts.append(f"{found} -> {wanted}")
        if texts:
            changes[name] = ", ".join(texts)
    return changes
