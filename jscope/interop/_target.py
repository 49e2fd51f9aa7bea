"""The target of a restore, and which of its variables each rule fills.

A stack of layers is one variable of the target, and one for each slice in a checkpoint; see
`saver._target`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np

from .._errors import CheckpointValueError, listed
from .._model.declaration import Declaration
from .._names.assignment import AssignmentMap, Rule, Through, read_rules
from .._names.selectors import Selector, matching
from .._tree.vartree import as_tree
from ..saver._leaves import Place, slices_of
from ..saver._target import asked_for, check_shardings
from ..sharding import AnyMesh, Rules
from ._named import Named

Leaf: TypeAlias = jax.Array | np.ndarray[Any, Any] | np.generic | jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Target:
    """The target of a restore.

    Attributes:
        leaves: Its values, or their specs, by name.
        places: From each name, those of slices included, to its variable and the index in it.
        slices: From each variable in a stack to the names of its slices, by place.
        declared: The declaration, if it is one.
    """

    leaves: Mapping[str, Leaf]
    places: Mapping[str, tuple[str, Place]]
    slices: Mapping[str, Mapping[Place, str]]
    declared: Declaration | None


@dataclass(frozen=True)
class Piece:
    """Where a variable, or a slice of one, is read from, and what for."""

    source: str
    through: Through | None


@dataclass(frozen=True)
class Assignment:
    """What is to be read for a target.

    Attributes:
        rules: The rules, the most specific first.
        wanted: The variables that are requested, each with the sources of its slices.
        lost: From the checkpoint's names to the target's, for those that rules are about but
            that the target has no variable for.
        twice: The target's names that two rules give, none of them more specific, with a name
            in the checkpoint for each.
    """

    rules: Sequence[Rule]
    wanted: Mapping[str, Mapping[Place, Piece]]
    lost: Mapping[str, str]
    twice: Mapping[str, tuple[str, str]]

    def source_of(self, name: str) -> str:
        """What the checkpoint should call a variable or slice of the target."""
        sources = (rule.source_of(name) for rule in self.rules)
        return next((source for source in sources if source is not None), name)


def take_apart(
    target: Mapping[str, Any], stacks: Iterable[str], mesh: AnyMesh | None = None, rules: Rules = ()
) -> Target:
    """The variables of a target, and the names of their slices.

    Raises:
        CheckpointValueError: If a value is not an array, or ``stacks`` or a sharding is invalid.
    """
    declared = target if isinstance(target, Declaration) else None
    tree = as_tree(target) if declared is None else declared.abstract(mesh, rules=rules)
    strange = [n for n, v in tree.items() if not (hasattr(v, "shape") and hasattr(v, "dtype"))]
    if strange:
        raise CheckpointValueError(
            f"A TensorFlow checkpoint holds arrays, and these of the target are not: "
            f"{listed(strange)}. Leave them out: js.drop(target, ...)."
        )
    check_shardings(list(tree.items()))
    slices = slices_of(dict(tree), stacks, declared)
    places = {
        part: (name, place) for name, parts in slices.items() for place, part in parts.items()
    }
    return Target(dict(tree), places | {name: (name, ()) for name in tree}, slices, declared)


def assign(
    target: Target, named: Named, assignment_map: AssignmentMap, select: Selector | None
) -> Assignment:
    """Which variable is read from what.

    Raises:
        SelectorError: If ``select`` picks nothing.
        CheckpointValueError: If a rule can't be one.
    """
    spelled = {
        left if isinstance(left, re.Pattern) else named.aliases.get(left, left): right
        for left, right in assignment_map.items()
    }
    rules = read_rules(spelled, named.entries, target.places)
    given: dict[str, tuple[Rule, str]] = {}
    lost: dict[str, str] = {}
    twice: dict[str, tuple[str, str]] = {}
    used: set[str] = set()
    for rule in rules:
        for source, name in rule.pairs(named.entries):
            if name not in target.places:
                lost.setdefault(source, name)
                continue
            used.add(source)
            before, other = given.setdefault(name, (rule, source))
            if before.rank == rule.rank and other != source:
                twice[name] = (other, source)
    pieces: dict[str, dict[Place, Piece]] = {}
    for name, (rule, source) in given.items():
        variable, place = target.places[name]
        pieces.setdefault(variable, {})[place] = Piece(source, rule.through)
    covered = {
        variable
        for name, (variable, _) in target.places.items()
        if any(rule.covers.fullmatch(name) for rule in rules)
    }
    lost = {source: name for source, name in lost.items() if source not in used}
    if select is not None:
        selectable = target.leaves if target.declared is None else target.declared
        covered &= matching(selectable, select, hint="Leave select= out to restore all variables.")
        meant = asked_for(dict.fromkeys(lost.values()), select)
        lost = {source: name for source, name in lost.items() if name in meant}
    wanted = {name: pieces.get(name, {}) for name in target.leaves if name in covered}
    return Assignment(rules, wanted, lost, twice)


def has_value(leaf: object) -> bool:
    """Whether a leaf can be kept: an array, not a spec."""
    if isinstance(leaf, jax.Array):
        return not leaf.is_deleted()
    return isinstance(leaf, np.ndarray | np.generic)
