"""Assignment maps: which variable of a checkpoint becomes which variable of a tree.

A map's entries are *rules*, from the checkpoint's side to the tree's. Each is of one kind, here
from the most specific to the least; where two give one variable of the tree, the more specific
decides:

* a **name** to a name;
* a **scope** to a scope, with all that is below it, or a name or scope with ``*``, each of which
  stands for any characters within one component, the same on both sides, as in
  ``"layer_*/": "layers/*/"``; the longer right side is the more specific;
* a **regular expression** to a template, as `re.Pattern.fullmatch` and `re.Match.expand` have
  it, whole names to whole names; the earlier one in the map is the more specific.

A rule *covers* the variables of the tree that its right side could name: a name, what is below
a scope, or below the part of a template before its first group.

A map from *old names to new ones*, of `js.rename` for one, is simpler: each is the name of a
variable, or of a scope, with all that is below it, or ``""``, the root.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._errors import CheckpointValueError, near

Function: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class Through:
    """The right side of an entry of a map, whose values go through a function.

    >>> import jscope as js
    >>> names = {"dense/kernel": js.Through("dense/w", np.transpose, np.transpose)}

    It may stand wherever a name of the target may, in ``rename=`` of `Saver.restore` and in the
    maps of `jscope.interop`.

    Attributes:
        name: A name, scope, pattern or template of the target.
        function: From the saved value to the target's: NumPy arrays, PRNG keys JAX's.
        inverse: The other way round; only the exports of `jscope.interop` need it.
    """

    name: str
    function: Function
    inverse: Function | None = None


def shown(through: Through) -> str:
    """What to call a `Through`, the right side of an entry of a map, in messages."""
    return f"js.Through({through.name!r}, ...)"


_Right: TypeAlias = str | Through
AssignmentMap: TypeAlias = Mapping[str | re.Pattern[str], _Right | tuple[_Right, ...]]


@dataclass(frozen=True)
class Rule:
    """A rule of an assignment map: one of its entries.

    Attributes:
        left: Its left side, for messages.
        right: Its right side, for messages.
        rank: The smaller one is the more specific.
        through: Its functions, if it has some.
        matches: Matches the checkpoint's names that it is about.
        target: The tree's name for such a name, a template as of `re.Match.expand`.
        matches_target: Matches the tree's names that it is about; None if it can't be inverted.
        source: The checkpoint's name for such a name, a template.
        covers: Matches the tree's names that its right side could be.
    """

    left: str
    right: str
    rank: tuple[int, int]
    through: Through | None
    matches: re.Pattern[str]
    target: str
    matches_target: re.Pattern[str] | None
    source: str
    covers: re.Pattern[str]

    def pairs(self, sources: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The checkpoint's names that match, with the tree's names for them."""
        for name in sources:
            match = self.matches.fullmatch(name)
            if match:
                yield name, match.expand(self.target)

    def source_of(self, target: str) -> str | None:
        """The checkpoint's name for a variable of the tree; None if this rule has none."""
        match = self.matches_target.fullmatch(target) if self.matches_target else None
        return match.expand(self.source) if match else None


def read_rules(
    assignment_map: AssignmentMap, sources: Collection[str], targets: Collection[str]
) -> list[Rule]:
    """The rules of an assignment map, the most specific first.

    Args:
        assignment_map: The map. A slash at the end marks a scope; without one, a
            name is meant if there is such a variable, else a scope.
        sources: The names in the checkpoint.
        targets: The names in the tree, those of slices included.
    """
    check_map(assignment_map)
    pairs = [
        (left, value)
        for left, values in assignment_map.items()
        for value in (values if isinstance(values, tuple) else (values,))
    ]
    rules = []
    for order, (left, value) in enumerate(pairs):
        through = value if isinstance(value, Through) else None
        right = value.name if isinstance(value, Through) else value
        if isinstance(left, re.Pattern):
            rules.append(template_rule(left, right, order, through))
        elif "*" in left or "*" in right:
            rules.append(pattern_rule(left, right, 1, through))
        elif _is_scope(left, sources) or _is_scope(right, targets):
            scopes = left.strip("/"), right.strip("/")
            left, right = (scope and scope + "/" for scope in scopes)
            rules.append(pattern_rule(left, right, 1, through))
        else:
            rules.append(pattern_rule(left, right, 0, through))
    return sorted(rules, key=lambda rule: rule.rank)


def check_map(assignment_map: object) -> None:
    """Refuse what can't be an assignment map.

    Raises:
        CheckpointValueError: If it isn't a mapping of names; all entries that can't be are listed.
    """
    if not isinstance(assignment_map, Mapping):
        raise CheckpointValueError(
            "An assignment map is a dict from the checkpoint's names to the target's, got "
            f"{assignment_map!r}. Write {{'bert/': 'encoder/'}}."
        )
    wrong = wrong_entries(assignment_map)
    if wrong:
        raise CheckpointValueError(
            f"An assignment map goes from names to names; this one has {', '.join(wrong[:10])}. "
            "Write {'bert/': 'encoder/'}; for several variables that share a saved one a tuple, "
            "{'embedding/w': ('embedding/w', 'head/w')}; for a function "
            "{'kernel': js.Through('w', np.transpose)}."
        )


def wrong_entries(assignment_map: Mapping[Any, object]) -> list[str]:
    """The entries of an assignment map that don't go from a name or pattern to names."""
    return [
        f"{left!r}: {right!r}"
        for left, right in assignment_map.items()
        if not (isinstance(left, str | re.Pattern) and is_right_side(right))
    ]


def is_right_side(right: object) -> bool:
    """Whether an entry of an assignment map may have this right side."""
    if isinstance(right, tuple):
        return (
            bool(right)
            and not any(isinstance(r, tuple) for r in right)
            and all(map(is_right_side, right))
        )
    if isinstance(right, Through):
        return isinstance(right.name, str) and callable(right.function)
    return isinstance(right, str)


def problems_of(
    rules: Iterable[Rule], sources: Collection[str] | None, targets: Collection[str] | None
) -> Iterator[str]:
    """A line for each side of an assignment map's rules that fits no name; None: not compared."""
    for rule in rules:
        sides = (
            (rule.left, rule.matches, sources, "in the checkpoint"),
            (rule.right, rule.covers, targets, "in the target"),
        )
        for side, pattern, names, where in sides:
            if names is not None and not any(map(pattern.fullmatch, names)):
                what = f"nothing like {side!r}" if rule.rank[0] else f"no variable {side!r}"
                shown = f"{rule.left!r}: {rule.right!r}"
                yield f"rule: {shown} has {what} {where} ({_near(side, names)})"


def _near(side: str, names: Collection[str]) -> str:
    """Names that look like one side of a rule of an assignment map, as text."""
    if side.endswith("/"):
        scopes = {n[: i + 1] for n in names for i, character in enumerate(n) if character == "/"}
        return near(side, sorted(scopes)) if scopes else "there are no scopes at all"
    return near(side, names)


def _is_scope(side: str, names: Collection[str]) -> bool:
    """Whether one side of a rule is about scopes of these names."""
    if side == "" or side.endswith("/"):
        return True
    return side not in names and any(name.startswith(side + "/") for name in names)


def pattern_rule(left: str, right: str, kind: int, through: Through | None) -> Rule:
    """The rule from a name to a name, or from a scope to a scope; stars may be in either."""
    below = [side == "" or side.endswith("/") for side in (left, right)]
    if left.count("*") != right.count("*") or below[0] != below[1]:
        raise CheckpointValueError(
            f"The rule {left!r}: {right!r} has not the same stars on both sides, or a scope on one "
            "only. Write 'scope/layer_*/': 'layers/*/', or 'layer_*/w': 'layers/*/w'."
        )
    (matches, source), (covers, target) = (_read(side, below[0]) for side in (left, right))
    return Rule(
        left=left,
        right=right,
        rank=(kind, right.count("*") - len(right)),
        through=through,
        matches=matches,
        target=target,
        matches_target=covers,
        source=source,
        covers=covers,
    )


def _read(side: str, is_scope: bool) -> tuple[re.Pattern[str], str]:
    """A pattern for the names that one side of a rule is about, and a template for such a name."""
    pattern = re.escape(side).replace(r"\*", "([^/]+)") + "(.+)" * is_scope
    template = side.replace("\\", r"\\") + "*" * is_scope
    for group in range(template.count("*")):
        template = template.replace("*", rf"\g<{group + 1}>", 1)
    return re.compile(pattern), template


def template_rule(left: re.Pattern[str], right: str, order: int, through: Through | None) -> Rule:
    """The rule of names from a regular expression to a template, as `re.Match.expand` has it."""
    literal = right.partition("\\")[0]
    could_be = re.compile(re.escape(literal) + ("" if literal == right else ".+"))
    return Rule(
        left=left.pattern,
        right=right,
        rank=(2, order),
        through=through,
        matches=left,
        target=right,
        matches_target=None,
        source=right,
        covers=could_be,
    )


# Maps from old names to new ones.


def mapped_name(names: Mapping[str, str], name: str) -> str:
    """A name by a map from old to new ones: the longest decides, its own or that of a scope."""
    old = deciding_name(names, name)
    if old is None:
        return name
    below = name[len(old) :].removeprefix("/")
    return "/".join(part for part in (names[old], below) if part)


def deciding_name(names: Mapping[str, Any], name: str) -> str | None:
    """The old name in a map to new ones that decides what a name becomes; or None."""
    end = len(name)
    while end > 0:
        if name[:end] in names:
            return name[:end]
        end = name.rfind("/", 0, end)
    return "" if "" in names else None


def absent_old_names(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """The old names in a map to new ones that are neither a variable, nor a scope, nor the root."""
    there = {""}
    for name in known:
        while name not in there:
            there.add(name)
            name = name.rpartition("/")[0]
    return [name for name in names if name not in there]
