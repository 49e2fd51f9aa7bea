"""New names for saved variables, before they are compared with a target.

A name that ``rename`` has, by itself or by a scope above it, is *mentioned*. Where its new name
is one that is not mentioned, the latter is dropped: a checkpoint with ``w``
and ``w/ExponentialMovingAverage`` restores the average into ``w`` by
``rename={"w/ExponentialMovingAverage": "w"}``, as TF1's dict of names did. The two variables
that ``zero_debias`` keeps below the name of such an average may be left then, like the ``w``.

A name, or all below a scope, may go to several names at once, written as a tuple: weights that two
variables of the target share are saved once, and
``rename={"embedding/w": ("embedding/w", "head/w")}`` restores both.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from .._errors import (
    CheckpointValueError,
    NameCollisionError,
    SelectorError,
    VariableNameError,
    listed,
)
from .._names.names import DEBIASING
from .._names.selectors import mentioned, not_there, renamed, with_near_names

NewNames: TypeAlias = str | tuple[str, ...]
Rename: TypeAlias = Mapping[str, NewNames] | Callable[[str], NewNames]


def check_rename(rename: object) -> None:
    """Refuse what can't be a renaming, before any checkpoint is opened.

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
    wrong = [
        f"{old!r}: {new!r}"
        for old, new in rename.items()
        if not (isinstance(old, str) and _are_names(new))
    ]
    if wrong:
        raise CheckpointValueError(
            f"`rename` goes from names to names, and has {', '.join(wrong[:10])}. Write "
            "rename={'saved': 'name'}; for several variables that share a saved one "
            "rename={'saved': ('name', 'another')}, a tuple; for the root ''. To leave a saved "
            "variable out write unexpected='ignore'."
        )


def rename_saved(saved: Iterable[str], rename: Rename | None) -> dict[str, str]:
    """From the new names to the saved ones.

    Args:
        saved: The saved names.
        rename: From old to new: names of variables, or of scopes, which move all that is
            below them; the longest old name wins, and ``""`` is the root. Or a function from
            each saved name to the new one. A new name may be a tuple of several.

    Raises:
        SelectorError: If an old name is neither a saved name nor a scope of one.
        NameCollisionError: If two mentioned names would become one; all such are listed.
        VariableNameError: If a function gives no name, or a variable would have an empty one.
        Exception: What a function raises.
    """
    saved = list(saved)
    new_of = _by_function(saved, rename) if callable(rename) else _by_mapping(saved, rename or {})
    nameless = [old for old, names in new_of.items() if "" in names]
    if nameless:
        raise VariableNameError(
            f"`rename` would give an empty name to {listed(nameless)}. '' is the root, for what is "
            "below a scope; a variable needs a name of its own."
        )
    sources: dict[str, list[str]] = {}
    for old, names in new_of.items():
        for new in dict.fromkeys(names):
            sources.setdefault(new, []).append(old)
    duplicates = [f"{listed(old)} -> {new!r}" for new, old in sources.items() if len(old) > 1]
    if duplicates:
        raise NameCollisionError(
            f"`rename` gives several saved variables one name: {'; '.join(duplicates)}. Give each "
            "a name of its own; nothing was read."
        )
    unmentioned = {name: name for name in saved if name not in new_of and name not in sources}
    return unmentioned | {new: old for new, (old,) in sources.items()}


def kept_for_averages(saved: Collection[str], rename: Rename | None) -> frozenset[str]:
    """The variables of ``zero_debias`` below averages that are mentioned by their own names.

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


def _are_names(new: object) -> bool:
    return isinstance(new, str) or (
        isinstance(new, tuple) and bool(new) and all(isinstance(name, str) for name in new)
    )


def _by_function(saved: Iterable[str], rename: Callable[[str], Any]) -> dict[str, tuple[str, ...]]:
    new_of = {name: rename(name) for name in saved}
    for old, new in new_of.items():
        if not _are_names(new):
            raise VariableNameError(
                f"`rename` gave {new!r} for {old!r}, which is not a name. Return the new name, a "
                "tuple of several, or the name itself if it is to stay."
            )
    return {old: _tuple(new) for old, new in new_of.items() if new != old}


def _by_mapping(saved: list[str], rename: Mapping[str, NewNames]) -> dict[str, tuple[str, ...]]:
    absent = not_there(saved, rename)
    if absent:
        known = {**dict.fromkeys(saved), **dict.fromkeys(_scopes(saved))}
        raise SelectorError(
            f"Nothing to rename in the checkpoint: {with_near_names(absent, known)}. `rename` goes "
            "from saved names, or scopes of them, to the target's."
        )
    new_of = {}
    for name in saved:
        old = mentioned(rename, name)
        if old is not None:
            new_of[name] = tuple(renamed({old: new}, name) for new in _tuple(rename[old]))
    return new_of


def _tuple(new: NewNames) -> tuple[str, ...]:
    return (new,) if isinstance(new, str) else new


def _scopes(names: Iterable[str]) -> set[str]:
    """All scopes above names."""
    return {name[:at] for name in names for at, character in enumerate(name) if character == "/"}
