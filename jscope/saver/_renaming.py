"""``rename``: what the saved names become in the target.

A saved name that ``rename`` has, by itself, by a scope above it or by a pattern, is *mentioned*,
and one entry decides what becomes of it; here from the first to the last that is looked at:

* the name itself;
* the first regular expression that it matches as a whole;
* the longest scope above it, or name or scope with ``*`` that it matches. A ``*`` stands for any
  characters within one component, the same on both sides.

A slash at the end marks a scope; a name without one is the variable's, and what is below it.

Where a new name is that of a saved variable that is not mentioned, the latter has lost its name: an
unexpected variable. But what is below a variable may take its place: a checkpoint with ``w`` and
``w/ExponentialMovingAverage`` restores the average into ``w`` by
``rename={"w/ExponentialMovingAverage": "w"}``, as TF1's dict of names did. The two variables
that ``zero_debias`` keeps below the name of such an average may be left then, like the ``w``.

A name, or all below a scope, may go to several names at once, written as a tuple: weights that two
variables of the target share are saved once, and
``rename={"embedding/w": ("embedding/w", "head/w")}`` restores both. A `Through` instead of a name
has a function that the values go through.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from .._errors import (
    CheckpointValueError,
    NameCollisionError,
    SelectorError,
    VariableNameError,
    listed,
    with_near_names,
)
from .._names.assignment import (
    Rule,
    Through,
    absent_old_names,
    deciding_name,
    is_right_side,
    pattern_rule,
    template_rule,
    wrong_entries,
)
from .._names.names import DEBIASING
from ._leaves import VarList

NewNames: TypeAlias = str | Through | tuple[str | Through, ...]
Rename: TypeAlias = Mapping[str | re.Pattern[str], NewNames] | Callable[[str], NewNames]

# A new name, and the function that its values go through.
_New: TypeAlias = tuple[str, Through | None]


class Renamed(NamedTuple):
    """The names of a checkpoint's variables after renaming.

    Attributes:
        saved: From the new names to the saved ones.
        through: The functions that values go through, by new name.
        about: The leaves of the target that are to be restored; None if all are.
        aside: The saved names that may be left.
        taken: From new names to the saved variables which have lost them to others.
        expected: What a name of the target should be in the checkpoint, for messages; None if it
            is the same.
        problems: A line for each entry that can't be followed.
        listed: From the new names to those that ``var_list`` has for them, where it is a dict.
    """

    saved: Mapping[str, str]
    through: Mapping[str, Through]
    about: Collection[str] | None = None
    aside: Collection[str] = ()
    taken: Mapping[str, str] = MappingProxyType({})
    expected: Callable[[str], str] | None = None
    problems: Sequence[str] = ()
    listed: Mapping[str, str] = MappingProxyType({})


UNCHANGED = Renamed({}, {})


def check_rename(rename: object) -> None:
    """Refuse what can't be ``rename``, before any checkpoint is opened.

    Raises:
        CheckpointValueError: If it is neither a function nor a mapping of names; all entries that
            can't be are listed.
    """
    if rename is None or callable(rename):
        return
    if not isinstance(rename, Mapping):
        raise CheckpointValueError(
            f"`rename` is a mapping from saved names to the target's, or a function; got "
            f"{rename!r}. Write rename={{'saved/scope': 'scope'}}."
        )
    wrong = wrong_entries(rename)
    if wrong:
        raise CheckpointValueError(
            f"`rename` goes from names to names, and has {', '.join(wrong[:10])}. Write "
            "rename={'saved': 'name'}; for several variables that share a saved one "
            "rename={'saved': ('name', 'another')}, a tuple; for the root ''; for a function of "
            "the values rename={'saved': js.Through('name', np.transpose)}. To leave a saved "
            "variable out write unexpected='ignore'."
        )


def check_separator(names: object) -> None:
    """Refuse what can't separate the components of saved names, to be renamed with slashes.

    Raises:
        CheckpointValueError: If it is not a string, or an empty one.
    """
    if not (isinstance(names, str) and names):
        raise CheckpointValueError(
            f"`names` is what separates the components of saved names, got {names!r}. Write "
            "names='.' for names as PyTorch's, model.layers.0.weight."
        )


def rename_saved(saved: Collection[str], rename: Rename | None, separator: str = "/") -> Renamed:
    """Rename the saved variables: the new names, from ``rename`` and the separator.

    Args:
        saved: The saved names.
        rename: From old to new: names of variables, or of scopes, which move all that is
            below them; the longest old name wins, and ``""`` is the root. Or a function from
            each saved name to the new one. A new name may be a `Through`, or a tuple of several.
        separator: What separates the components of saved names. If it is not ``/``, that is put
            in its place first, in names and in the old ones of ``rename``.

    Raises:
        SelectorError: If an old name is neither a saved name nor a scope of one.
        NameCollisionError: If two mentioned names would become one; all such are listed.
        VariableNameError: If a function gives no name, or a variable would have an empty one.
        Exception: What a function raises.
    """
    spelled = _spelled_with_slashes(saved, separator)
    if not rename:
        return Renamed(spelled, {})
    if callable(rename):
        new_of = _by_function(spelled, rename)
    else:
        slashed = {
            old.replace(separator, "/") if isinstance(old, str) else old: new
            for old, new in rename.items()
        }
        new_of = _by_mapping(spelled, slashed)
    nameless = [old for old, news in new_of.items() if any(not name for name, _ in news)]
    if nameless:
        raise VariableNameError(
            f"`rename` would give an empty name to {listed(nameless)}. '' is the root, for what is "
            "below a scope; a variable needs a name of its own."
        )
    sources: dict[str, list[str]] = {}
    through: dict[str, Through] = {}
    for old, news in new_of.items():
        for name, function in dict.fromkeys(news):
            sources.setdefault(name, []).append(old)
            if function is not None:
                through[name] = function
    duplicates = [f"{listed(old)} -> {new!r}" for new, old in sources.items() if len(old) > 1]
    if duplicates:
        raise NameCollisionError(
            f"`rename` gives several saved variables one name, and nothing was read: "
            f"{'; '.join(duplicates[:10])}. Give each a name of its own. If they are one value "
            "that was exported under several names, keep one of its entries and write "
            "unexpected='ignore'."
        )
    moved = {new: old for new, (old,) in sources.items()}
    unmentioned = {name: old for name, old in spelled.items() if name not in new_of}
    return Renamed(
        unmentioned | {new: spelled[old] for new, old in moved.items()},
        through,
        taken={
            name: old
            for name, old in unmentioned.items()
            if name in moved and not moved[name].startswith(f"{name}/")
        },
    )


def named_by_var_list(renamed: Renamed, var_list: VarList | None) -> Renamed:
    """The names of saved variables, where a ``var_list`` that is a dict gives them."""
    if not isinstance(var_list, Mapping):
        return renamed
    saved, through = renamed.saved, renamed.through
    return renamed._replace(
        saved={name: saved[old] for old, name in var_list.items() if old in saved},
        through={name: through[old] for old, name in var_list.items() if old in through},
        listed={name: old for old, name in var_list.items()},
    )


def kept_for_averages(saved: Collection[str], rename: Rename | None) -> frozenset[str]:
    """The ``zero_debias`` variables that may be left where ``rename`` has their averages' names.

    >>> saved = ["w", "w/mean", "w/mean/biased", "w/mean/local_step", "w/Adam"]
    >>> sorted(kept_for_averages(saved, {"w/mean": "w"}))
    ['w/mean/biased', 'w/mean/local_step']
    """
    if rename is None or callable(rename):
        return frozenset()
    below = ([f"{name}/{what}" for what in DEBIASING] for name in rename if name in saved)
    return frozenset(
        name for names in below if all(name in saved for name in names) for name in names
    )


def _spelled_with_slashes(saved: Collection[str], separator: str) -> dict[str, str]:
    """The saved names by their spelling with slashes, before they are renamed."""
    spelled = {name.replace(separator, "/"): name for name in saved}
    if len(spelled) < len(saved):
        found: dict[str, list[str]] = {}
        for name in saved:
            found.setdefault(name.replace(separator, "/"), []).append(name)
        same = [f"{listed(names)} -> {new!r}" for new, names in found.items() if len(names) > 1]
        raise NameCollisionError(
            f"The separator {separator!r} spells several saved names alike: "
            f"{'; '.join(same[:10])}. Leave it out, and give each a name of its own by rename=, a "
            "function."
        )
    return spelled


def _new_names(new: NewNames) -> tuple[_New, ...]:
    """The new names in one entry of ``rename``, each with the function that values go through."""
    return tuple(
        (name.name, name) if isinstance(name, Through) else (name, None)
        for name in (new if isinstance(new, tuple) else (new,))
    )


def _by_function(saved: Iterable[str], rename: Callable[[str], Any]) -> dict[str, tuple[_New, ...]]:
    """The new names of saved ones by ``rename`` that is a function."""
    given = {name: rename(name) for name in saved}
    for old, new in given.items():
        if not is_right_side(new):
            raise VariableNameError(
                f"`rename` gave {new!r} for {old!r}, which is not a name. Return the new name, a "
                "tuple of several, or the name itself if it is to stay."
            )
    return {old: _new_names(new) for old, new in given.items() if new != old}


def _by_mapping(
    saved: Collection[str], rename: Mapping[str | re.Pattern[str], NewNames]
) -> dict[str, tuple[_New, ...]]:
    """The new names of saved ones by ``rename`` that is a mapping."""
    names = _RenameEntries(saved, rename)
    absent = names.absent(saved)
    if absent:
        known = {**dict.fromkeys(saved), **dict.fromkeys(_scopes_above(saved))}
        raise SelectorError(
            f"Nothing to rename in the checkpoint: {with_near_names(absent, known)}. `rename` goes "
            "from saved names, or scopes of them, to the target's."
            + _hint_on_stars(absent, saved, rename)
        )
    return {name: new for name in saved if (new := names.of(name)) is not None}


class _RenameEntries:
    """The entries of a ``rename`` that is a mapping, by kind.

    Args:
        saved: The saved names.
        rename: The mapping.

    Attributes:
        own: The entries without a slash at the end: of variables, and of scopes.
        slashed: The entries with one, of scopes only.
        scopes: The entries of scopes.
        patterns: The rules of each regular expression, in order, and then of each entry with ``*``,
            the longest first; with the length.
    """

    def __init__(
        self, saved: Collection[str], rename: Mapping[str | re.Pattern[str], NewNames]
    ) -> None:
        self.own: dict[str, tuple[_New, ...]] = {}
        self.slashed: dict[str, tuple[_New, ...]] = {}
        self.patterns: list[tuple[float, list[Rule]]] = []
        for old, new in rename.items():
            news = _new_names(new)
            if isinstance(old, re.Pattern):
                rules = [template_rule(old, name, 0, function) for name, function in news]
                self.patterns.append((math.inf, rules))
            elif old in saved or not ("*" in old or _is_scope(old, news)):
                self.own[old] = news
            elif "*" in old:
                rules = [pattern_rule(old, name, 1, function) for name, function in news]
                # How much of a name it has beside the stars.
                self.patterns.append((len(old.rstrip("/")) - old.count("*"), rules))
            else:
                self.slashed[old.strip("/")] = _stripped(news)
        self.scopes = self.own | self.slashed
        self.patterns.sort(key=operator.itemgetter(0), reverse=True)

    def of(self, name: str) -> tuple[_New, ...] | None:
        """What a saved name becomes; None if no entry mentions it."""
        if name in self.own:
            return self.own[name]
        scope = deciding_name(self.scopes, name.rpartition("/")[0])
        for length, rules in self.patterns:
            if scope is not None and len(scope) > length:
                break
            if rules[0].matches.fullmatch(name):
                return _matched_names(rules, name)
        if scope is None:
            return None
        below = name[len(scope) :].removeprefix("/")
        return tuple(
            ("/".join(part for part in (new, below) if part), function)
            for new, function in self.scopes[scope]
        )

    def absent(self, saved: Collection[str]) -> list[str]:
        """The old names that are about nothing."""
        found = absent_old_names(saved, self.own)
        found += absent_old_names({name.rpartition("/")[0] for name in saved}, self.slashed)
        first = [rules[0] for _, rules in self.patterns]
        return found + [rule.left for rule in first if not any(map(rule.matches.fullmatch, saved))]


def _is_scope(old: str, news: Iterable[_New]) -> bool:
    """Whether an entry of ``rename`` is about a scope, by its slash at the end."""
    return old.endswith("/") or any(name.endswith("/") for name, _ in news)


def _stripped(news: Iterable[_New]) -> tuple[_New, ...]:
    """The new names in an entry of ``rename`` about a scope, without the slash at the end."""
    return tuple((name.strip("/"), function) for name, function in news)


def _matched_names(rules: Iterable[Rule], name: str) -> tuple[_New, ...]:
    """The new names of a saved one that a pattern in ``rename`` matches."""
    found = []
    for rule in rules:
        try:
            found += [(new, rule.through) for _, new in rule.pairs([name])]
        except (re.error, IndexError) as error:
            raise CheckpointValueError(
                f"`rename` has {rule.left!r}: {rule.right!r}, which is not a template of the "
                f"regular expression: {error}. Groups are written \\1 or \\g<name>."
            ) from None
    return tuple(found)


def _hint_on_stars(
    absent: Collection[str], saved: Collection[str], rename: Mapping[Any, NewNames]
) -> str:
    """What to write if an entry of ``rename`` with stars is of scopes, without the slash."""
    for old in absent:
        new = rename.get(old)
        if "*" in old and not old.endswith("/") and isinstance(new, str):
            scope = pattern_rule(old + "/", new.rstrip("/") + "/", 1, None)
            if any(map(scope.matches.fullmatch, saved)):
                entry = {scope.left: scope.right}
                return f" Scopes with * have a slash at the end: write rename={entry}."
    return ""


def _scopes_above(names: Iterable[str]) -> set[str]:
    """All scopes above saved names, which ``rename`` may have."""
    return {name[:at] for name in names for at, character in enumerate(name) if character == "/"}
