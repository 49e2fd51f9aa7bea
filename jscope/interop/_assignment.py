"""An assignment map of TensorFlow's checkpoints, as the names of a restore.

What the map does not mention is not restored. Where two entries give one variable of the target,
the more specific decides; see `_names.assignment`.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from .._names.assignment import AssignmentMap, Rule, check_map, problems_of, read_rules
from .._names.selectors import Selector
from ..formats._source import Source
from ..saver._comparison import Call
from ..saver._renaming import Renamed
from ..saver._target import Target
from ._named import SLOTS, named

# All variables, under their own names.
ALL: AssignmentMap = MappingProxyType({"/": "/"})


@dataclass(frozen=True)
class Assignment:
    """The assignment map of `tensorflow.restore` and its other names; a `Naming` of the Saver.

    Attributes:
        map: The map.
        drop: As for `named`.
        averages: As for `named`.
    """

    map: AssignmentMap
    drop: Selector | None
    averages: str | None

    @property
    def call(self) -> Call:
        """As `Naming.call`."""
        return Call(
            "assignment_map",
            is_given=self.map is not ALL,
            default="'/': '/', ",
            others=(),
            on_unexpected=_advice_on_unexpected,
        )

    def check(self) -> None:
        """As `Naming.check`."""
        check_map(self.map)

    def names(self, source: Source, target: Target | None) -> tuple[Source, Renamed]:
        """As `Naming.names`."""
        assert target is not None
        lefts = {left for left in self.map if isinstance(left, str)}
        source, aliases = named(source, self.drop, self.averages, {*target.places, *lefts})
        spelled = {
            left if isinstance(left, re.Pattern) else aliases.get(left, left): right
            for left, right in self.map.items()
        }
        rules = read_rules(spelled, source.entries, target.places)
        return source, _renamed(rules, source, target)


def _renamed(rules: Sequence[Rule], source: Source, target: Target) -> Renamed:
    """An assignment map as a restore's names: which variable of the target is read from what."""
    given: dict[str, tuple[Rule, str]] = {}
    lost: dict[str, str] = {}
    used: set[str] = set()
    problems = list(problems_of(rules, source.entries, target.places))
    for rule in rules:
        for saved, name in rule.pairs(source.entries):
            if name not in target.places:
                lost.setdefault(saved, name)
                continue
            before, other = given.setdefault(name, (rule, saved))
            if before.rank == rule.rank and other != saved:
                one = {other: name}
                problems.append(
                    f"rule: {name!r} is given by {other!r} and by {saved!r}; write one: {one}"
                )
            used.add(saved)
    problems += _whole_and_slices(given, target)
    unexpected = {name: saved for saved, name in lost.items() if saved not in used}
    return Renamed(
        unexpected | {name: saved for name, (_, saved) in given.items()},
        {name: rule.through for name, (rule, _) in given.items() if rule.through is not None},
        about={
            leaf
            for name, (leaf, _) in target.places.items()
            if any(rule.covers.fullmatch(name) for rule in rules)
        },
        expected=functools.partial(_expected, rules, target),
        problems=problems,
    )


def _whole_and_slices(given: Mapping[str, tuple[Rule, str]], target: Target) -> Iterator[str]:
    """A line for each variable that an assignment map gives as a whole and in slices."""
    for name, (_, saved) in given.items():
        if not given.keys().isdisjoint(target.slices.get(name, {}).values()):
            yield f"rule: {name!r} is read as a whole from {saved!r}, and its slices as well"


def _expected(rules: Sequence[Rule], target: Target, name: str) -> str:
    """What a checkpoint should call a variable of the target, by the assignment map."""
    first = next(iter(target.slices.get(name, {}).values()), name)
    saved = (rule.source_of(first) for rule in rules)
    return next((source for source in saved if source is not None), first)


def _advice_on_unexpected(names: Sequence[str]) -> Iterator[str]:
    """An assignment map's lines to write for names that only a TensorFlow checkpoint has."""
    others = [name for name in names if not SLOTS.search(name)]
    if len(others) < len(names):
        yield "Optimizer slots and global_step are left out by drop=tensorflow.SLOTS."
    if any(name.endswith("/ExponentialMovingAverage") for name in others):
        yield (
            "Moving averages are read in place of their variables by "
            "averages='ExponentialMovingAverage', and left out by "
            "drop='**/ExponentialMovingAverage'."
        )
