"""What is written under which name when a tree is exported, and the values themselves.

A map is read from right to left here. Of the rules that give a variable a saved name the most
specific decides; several that are equally specific each give one, so that a variable may be
saved under several names, as tied weights are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .._errors import CheckpointValueError, listed
from .._names.assignment import Function, Rule
from .._tree.vartree import as_tree
from ..formats._boxes import Array
from ..saver._leaves import Place, slices_of
from ..saver._snapshot import part
from ..saver._target import without_value


class ExportedTree(NamedTuple):
    """A tree that is exported, with the names of slices in it.

    Attributes:
        leaves: The values, by name.
        slices: From the names of those in stacks to the names of their slices, by place.
    """

    leaves: Mapping[str, Any]
    slices: Mapping[str, Mapping[Place, str]]

    @property
    def names(self) -> set[str]:
        """The names of all, and of all slices."""
        return {*self.leaves, *(part for of in self.slices.values() for part in of.values())}


def tree_of(variables: Mapping[str, Any], stacks: Iterable[str]) -> ExportedTree:
    """A tree to export, and the names of slices in it.

    Raises:
        CheckpointValueError: If ``stacks`` can't be.
    """
    leaves = dict(as_tree(variables))
    return ExportedTree(leaves, slices_of(leaves, stacks, None))


class ExportedValue(NamedTuple):
    """A value that an export writes: a variable or a slice, and a function.

    Attributes:
        variable: Its variable.
        place: Where in it; of a slice of a stack.
        function: What it goes through, if anything.
    """

    variable: str
    place: Place
    function: Function | None = None


class ExportedNames:
    """The names under which the values of a tree are exported.

    Args:
        separator: What stands between the components of saved names in place of a slash.

    Attributes:
        written: The value of each saved name.
        problems: A line for each value that can't have one.
    """

    def __init__(self, separator: str = "/"):
        self.written: dict[str, ExportedValue] = {}
        self.problems: list[str] = []
        self._separator = separator

    def add(self, source: str, name: str, value: ExportedValue) -> None:
        """Give a value, which the tree calls ``name``, a saved name."""
        source = source.replace("/", self._separator)
        if source in self.written:
            other = self.written[source].variable
            self.problems.append(f"{name!r} and {other!r} would both be {source!r}")
        else:
            self.written[source] = value


def exported_values(tree: ExportedTree) -> Iterator[tuple[str, ExportedValue]]:
    """The values of a tree to export, slices of stacks one by one, each with its name."""
    for variable in tree.leaves:
        for place, name in tree.slices.get(variable, {(): variable}).items():
            yield name, ExportedValue(variable, place)


def add_by_rules(
    names: ExportedNames, tree: ExportedTree, rules: Sequence[Rule], *, keep: bool
) -> None:
    """Give all values to export the saved names that the rules of a map give them.

    Args:
        names: Where they are added.
        tree: The tree.
        rules: As of `_names.assignment.read_rules`, the most specific first.
        keep: Whether what no rule is about keeps its name; otherwise that is a problem.
    """
    for name, value in exported_values(tree):
        sources = _exported_names(name, rules)
        for rule, source in sources:
            if rule.through is None:
                names.add(source, name, value)
            elif rule.through.inverse is None:
                names.problems.append(
                    f"{name!r} goes through a function whose inverse isn't given: "
                    "js.Through(name, function, inverse)"
                )
            else:
                names.add(source, name, value._replace(function=rule.through.inverse))
        if not sources and keep and not _is_covered(name, rules):
            names.add(name, name, value)
        elif not sources:
            names.problems.append(_nameless(name, rules))


def check(problems: Sequence[str], hint: str) -> None:
    """Refuse to export a tree of which something can't be written.

    Raises:
        CheckpointValueError: If there are problems; all are listed.
    """
    if problems:
        raise CheckpointValueError(
            f"The tree can't be exported; nothing was written. {len(problems)} "
            f"problem{'s' * (len(problems) > 1)}:\n  " + "\n  ".join(problems[:50]) + f"\n{hint}"
        )


def why_not_here(leaf: object) -> str | None:
    """Why this process can't export a value, if it can't."""
    if without_value(leaf):
        return "has no value"
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return (
            "is on devices of several processes: gather it first, by the function "
            "process_allgather of JAX's multihost_utils, and export in one process"
        )
    return None


def value_of(tree: ExportedTree, source: str, written: ExportedValue) -> Array:
    """The array that is exported as ``source``, on the host."""
    leaf: Any = tree.leaves[written.variable]  # `check` has refused those without values
    array = part(leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), written.place)
    if written.function is None:
        return array
    try:
        return np.asarray(written.function(array))
    except Exception as error:
        error.add_note(f"This is the inverse of a rule's function, for {source!r}.")
        raise


def _exported_names(name: str, rules: Sequence[Rule]) -> list[tuple[Rule, str]]:
    """The names under which one value is exported, each with the rule that gives it."""
    found = [(rule, s) for rule in rules if (s := rule.source_of(name)) is not None]
    return [(rule, s) for rule, s in found if rule.rank == found[0][0].rank]


def _is_covered(name: str, rules: Sequence[Rule]) -> bool:
    """Whether a rule is about a value to export, at all."""
    return any(rule.covers.fullmatch(name) for rule in rules)


def _nameless(name: str, rules: Sequence[Rule]) -> str:
    """A line for a value to export that no rule gives a name."""
    if _is_covered(name, rules):
        return f"{name!r} is matched by a regular expression only, which can't be inverted"
    rights = listed([rule.right for rule in rules], most=5)
    return f"{name!r} is not matched by the map, whose right sides are {rights}"
