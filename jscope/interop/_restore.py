"""Restoring a target: comparing all that is assigned to it, then reading it, and the report.

Names, shapes and dtypes are compared before values are read, and every difference is in one
message. Only values that go through a function are read for that, since their new shapes and
dtypes are the function's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .._dtypes import can_convert
from .._errors import CheckpointValueError, TreeMismatchError, listed, near
from .._names.assignment import problems_of
from .._stores.paths import located
from .._tree.differences import transposing
from .._tree.text import table
from .._tree.values import value_text
from .._tree.vartree import VarTree, from_flat
from ..formats._source import FileSource
from ..saver._comparison import Policy
from ..saver._leaves import Place
from ..saver._placement import CallerError
from ..saver._read import Progress, can_be_stacked, prepare, read
from ..tf_checkpoint import Entry
from ._named import SLOTS, Named
from ._target import Assignment, Leaf, Piece, Target, has_value

Array: TypeAlias = np.ndarray[Any, Any]
Found: TypeAlias = Entry | Array

# Comparing two names takes 0.4 ms: for 2,000 names that are missing from 2,000, half an hour.
_MOST_COMPARED = 5000


@dataclass(frozen=True, repr=False)
class Report:
    """The report of a restore. Prints as a table.

    Attributes:
        path: The checkpoint.
        restored: From the target's names to what they were read from: a name, or the names of all
            slices of a stack.
        kept: The target's names that kept their values.
        initialized: The target's names that got a declaration's initial values.
        unused: The checkpoint's names that were not read.
        changed: Conversions of values, such as ``"float32 -> bfloat16"``.
    """

    path: str
    restored: Mapping[str, tuple[str, ...]]
    kept: tuple[str, ...]
    initialized: tuple[str, ...]
    unused: tuple[str, ...]
    changed: Mapping[str, str]

    def __repr__(self) -> str:
        total = len(self.restored) + len(self.kept) + len(self.initialized)
        rows = [
            *((name, "restored", self._how(name)) for name in self.restored),
            *((name, "kept", "") for name in self.kept),
            *((name, "initialized", "") for name in self.initialized),
            *((name, "unused", "in the checkpoint only") for name in self.unused),
        ]
        head = f"Restored {len(self.restored):,} of {total:,} variables from {self.path}"
        return f"{head}\n{table(('name', 'what', 'how'), rows)}"

    def _how(self, name: str) -> str:
        sources = self.restored[name]
        first = "" if sources == (name,) else f"from {sources[0]!r}"
        if len(sources) > 1:
            first += f" and {len(sources) - 1} more slices"
        return ", ".join(part for part in (first, self.changed.get(name, "")) if part)


def restored(
    target: Target,
    named: Named,
    assignment: Assignment,
    policy: Policy,
    init: Callable[..., VarTree] | None,
) -> tuple[VarTree, Report]:
    """The tree, and what was done.

    Args:
        target: What is restored into.
        named: The checkpoint.
        assignment: What is to be read for it.
        policy: Which differences are allowed.
        init: A declaration's ``init``, but for ``given`` and ``only``; or None.

    Raises:
        TreeMismatchError: If something differs that counts.
        CheckpointValueError: If a variable would be left without a value.
    """
    found = {
        name: {place: _found(piece, named) for place, piece in pieces.items()}
        for name, pieces in assignment.wanted.items()
    }
    different = _differences(target, named, assignment, found, policy)
    if different:
        raise TreeMismatchError(
            f"The target and the checkpoint {named.path} differ; nothing was restored. {different}"
        )
    fresh = _fresh(target, assignment, policy, can_init=init is not None)
    values = _read(target, named, assignment, found)
    kept = {n: v for n, v in target.leaves.items() if n not in values and n not in fresh}
    initialized = init(given=values, only=dict.fromkeys(fresh)) if init and fresh else {}
    tree = from_flat({**kept, **values, **{name: initialized[name] for name in fresh}})
    assigned = {name: pieces for name, pieces in assignment.wanted.items() if pieces}
    sources = {
        name: tuple(p.source for _, p in sorted(pieces.items()))
        for name, pieces in assigned.items()
    }
    used = {source for names in sources.values() for source in names}
    return tree, Report(
        path=named.path,
        restored=sources,
        kept=tuple(kept),
        initialized=fresh,
        unused=tuple(name for name in named.entries if name not in used),
        changed=_changes(target, named, assigned),
    )


def _found(piece: Piece, named: Named) -> Found:
    """What the checkpoint has for a piece: its entry, or what a function makes of its values."""
    entry = named.entries[piece.source]
    if piece.through is None:
        return entry
    try:
        return np.asarray(piece.through.function(entry.read()))
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


def _read(
    target: Target,
    named: Named,
    assignment: Assignment,
    found: Mapping[str, Mapping[Place, Found]],
) -> dict[str, Leaf]:
    """The variables for which something is found, read to where the target has them.

    Raises:
        TreeMismatchError: If the target's dtypes can't hold values; all variables are listed.
    """
    source = FileSource(located(named.path), named.entries, format="TensorFlow checkpoint")
    saved = {
        name: {place: piece.source for place, piece in pieces.items()}
        for name, pieces in assignment.wanted.items()
        if pieces
    }
    in_memory = {
        name: {place: np.asarray(part) for place, part in found[name].items()}
        for name, places in saved.items()
        if any(isinstance(part, np.ndarray) for part in found[name].values())
        or not can_be_stacked({place: source.entries[old] for place, old in places.items()})
    }
    leaves = {name: target.leaves[name] for name in saved}
    try:
        return read(prepare(source, leaves, saved, in_memory), progress=Progress())
    except CallerError as refused:
        raise refused.error from refused.error.__cause__


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


# The differences.


def _differences(
    target: Target,
    named: Named,
    assignment: Assignment,
    found: Mapping[str, Mapping[Place, Found]],
    policy: Policy,
) -> str | None:
    """Compose what is different, and what to write; None if nothing that counts is."""
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
    changed = list(_changed(target, assignment, found, policy))
    lines = [*problems, *missing, *unexpected, *(line for line, _ in changed)]
    if not lines:
        return None
    advice = [text for _, text in changed if text]
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


def _changed(
    target: Target,
    assignment: Assignment,
    found: Mapping[str, Mapping[Place, Found]],
    policy: Policy,
) -> Iterator[tuple[str, str]]:
    """A line for each shape and dtype that differs, and what to write, if there is something."""
    for variable, place, part in (
        (variable, *item) for variable, parts in found.items() for item in parts.items()
    ):
        leaf = target.leaves[variable]
        shape = tuple(leaf.shape[len(place) :])
        name = target.slices[variable][place] if place else variable
        if part.shape != shape:
            text = f"shape: {name!r} is {part.shape} in the checkpoint, {shape} in the target"
            python = transposing(part.shape, shape)
            if python is None:
                yield text, ""
            else:
                source = assignment.wanted[variable][place].source
                is_simple = python == ".transpose(1, 0)"
                function = "np.transpose" if is_simple else f"lambda w: w{python}"
                advice = (
                    "A transposed variable is restored by a rule such as "
                    f"{source!r}: js.Through({name!r}, {function})."
                )
                yield f"{text}: transposed?", advice
        can = can_convert(part.dtype, leaf.dtype)
        if part.dtype != leaf.dtype and not (policy.convert and can):
            advice = "convert=True restores in the target's dtypes." if can else ""
            dtypes = f"{part.dtype} in the checkpoint, {leaf.dtype} in the target"
            yield f"dtype: {name!r} is {dtypes}", advice


def _unexpected(named: Named, assignment: Assignment) -> Iterator[str]:
    for source, name in assignment.lost.items():
        would_be = "" if name == source else f", and {name!r} is not in the target"
        only = "" if would_be else " only"
        what = value_text(named.entries[source])
        yield f"unexpected: {source!r} {what} is in the checkpoint{only}{would_be}"


def _advice_on_unexpected(lost: Mapping[str, str]) -> Iterator[str]:
    others = [source for source in lost if not SLOTS.search(source)]
    if len(others) < len(lost):
        yield "Optimizer slots and global_step are left out by drop=tensorflow.SLOTS."
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
            what = f" {value_text(target.leaves[name])}" if name == variable else ", a slice,"
            called = "" if source == name else f" as {source!r}"
            yield f"missing: {name!r}{what} is not in the checkpoint{called}{hint}"
