"""Comparing what is wanted with what a checkpoint has: every difference, in one message."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._dtypes import can_convert
from .._errors import near
from .._tree.differences import signature, transposing
from ._assignment import problems_of
from ._checkpoint_names import SLOTS, Named
from ._target import Assignment, Place, Target

# Comparing two names takes 0.4 ms: for 2,000 names that are missing from 2,000, half an hour.
_MOST_COMPARED = 5000


class Policy(NamedTuple):
    """Which differences are allowed; see `tensorflow.restore`."""

    missing: str = "error"
    unexpected: str = "error"
    convert: bool = False


def account(
    target: Target,
    named: Named,
    assignment: Assignment,
    made: Mapping[tuple[str, Place], np.ndarray[Any, Any]],
    policy: Policy,
) -> str | None:
    """Compose what is different, and what to write; None if nothing that counts is.

    Args:
        target: The target of the restore.
        named: The checkpoint.
        assignment: What is to be read for it.
        made: What functions made of values that were read for them, by variable and place.
        policy: Which differences are allowed.
    """
    problems = [
        *problems_of(assignment.rules, named.entries, target.places),
        *(
            f"rule: {name!r} is given by {one!r} and by {other!r}; write one: {{{one!r}: {name!r}}}"
            for name, (one, other) in assignment.twice.items()
        ),
    ]
    missing = list(_missing(target, named, assignment, policy))
    # A rule that is about nothing explains what its variables would otherwise be listed for.
    strict = policy.unexpected == "error" and not problems
    unexpected = list(_unexpected(named, assignment)) if strict else []
    changed, advice = [], []
    for variable, place, wanted, found in _compared(target, named, assignment, made):
        name = target.slices[variable][place] if place else variable
        if found.shape != wanted.shape:
            shapes = f"{found.shape} in the checkpoint, {wanted.shape} in the target"
            python = transposing(found.shape, wanted.shape)
            changed.append(f"shape: {name!r} is {shapes}{': transposed?' if python else ''}")
            if python:
                source = assignment.wanted[variable][place].source
                is_simple = python == ".transpose(1, 0)"
                function = "np.transpose" if is_simple else f"lambda w: w{python}"
                advice.append(
                    "A transposed variable is restored by a rule such as "
                    f"{source!r}: tensorflow.Through({name!r}, {function})."
                )
        is_fine = policy.convert and can_convert(found.dtype, wanted.dtype)
        if found.dtype != wanted.dtype and not is_fine:
            dtypes = f"{found.dtype} in the checkpoint, {wanted.dtype} in the target"
            changed.append(f"dtype: {name!r} is {dtypes}")
            if can_convert(found.dtype, wanted.dtype):
                advice.append("convert=True restores in the target's dtypes.")
    lines = [*problems, *missing, *unexpected, *changed]
    if not lines:
        return None
    if unexpected:
        advice += _advice_on_unexpected(assignment.lost)
    if missing:
        advice.append(
            "Variables that the checkpoint lacks keep their values by missing='keep', or get a "
            "declaration's initial ones by missing='init' and key=..."
        )
    if problems:
        advice.append("Rules go from the checkpoint's names to the target's.")
    text = "\n  ".join(lines)
    return f"{len(lines)} difference{'s' * (len(lines) > 1)}:\n  {text}\n" + "\n".join(
        dict.fromkeys(advice or ["Nothing is cast, reshaped or renamed on its own."])
    )


def _unexpected(named: Named, assignment: Assignment) -> Iterator[str]:
    for source, name in assignment.lost.items():
        would_be = "" if name == source else f", and {name!r} is not in the target"
        only = "" if would_be else " only"
        what = signature(named.entries[source])
        yield f"unexpected: {source!r} {what} is in the checkpoint{only}{would_be}"


def _advice_on_unexpected(lost: Mapping[str, str]) -> Iterator[str]:
    others = [source for source in lost if not SLOTS.search(source)]
    if len(others) < len(lost):
        yield "Optimizer slots are left out by drop=tensorflow.SLOTS."
    if any(source.endswith("/ExponentialMovingAverage") for source in others):
        yield (
            "Moving averages are read in place of their variables by "
            "averages='ExponentialMovingAverage', and left out by "
            "drop='**/ExponentialMovingAverage'."
        )
    if any(not source.endswith("/ExponentialMovingAverage") for source in others):
        yield "What only the checkpoint has is left out by drop=..., or by unexpected='ignore'."


def _missing(target: Target, named: Named, assignment: Assignment, policy: Policy) -> Iterator[str]:
    """A line for each variable, or slice of one, that nothing is read for."""
    hints = max(1, _MOST_COMPARED // max(1, len(named.entries)))
    for variable, pieces in assignment.wanted.items():
        slices = target.slices.get(variable, {})
        if () in pieces and len(pieces) > 1:
            several = pieces[()].source
            yield f"rule: {variable!r} is read as a whole from {several!r}, and its slices as well"
        elif pieces and () not in pieces:
            absent = {name: name for place, name in slices.items() if place not in pieces}
        elif not pieces and policy.missing == "error":
            absent = {variable: next(iter(slices.values()), variable)}
        else:
            continue
        for name, example in absent.items():
            source = assignment.source_of(example)
            hint = f" ({near(source, named.entries)})" if hints > 0 else ""
            hints -= 1
            what = f" {signature(target.leaves[name])}" if name == variable else ", a slice,"
            called = "" if source == name else f" as {source!r}"
            yield f"missing: {name!r}{what} is not in the checkpoint{called}{hint}"


def _compared(
    target: Target,
    named: Named,
    assignment: Assignment,
    made: Mapping[tuple[str, Place], np.ndarray[Any, Any]],
) -> Iterator[tuple[str, Place, Any, Any]]:
    """Each variable and place that is read: what is wanted there, and what is found."""
    for variable, pieces in assignment.wanted.items():
        leaf = target.leaves[variable]
        for place, piece in pieces.items():
            wanted = _Signature(tuple(leaf.shape[len(place) :]), leaf.dtype)
            found = made.get((variable, place), named.entries[piece.source])
            yield variable, place, wanted, found


class _Signature(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any
