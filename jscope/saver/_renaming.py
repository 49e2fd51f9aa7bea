"""Other names for what is saved, before it is compared with a target.

A name that ``rename`` speaks of, by itself or by a scope above it, is *mentioned*. Where it
comes to stand on a name that nobody mentions, the latter gives way: a checkpoint with ``w``
and ``w/ExponentialMovingAverage`` restores the average into ``w`` by
``rename={"w/ExponentialMovingAverage": "w"}``, as TF1's dict of names did.

Imports: `_errors`, `_matching`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from .._errors import NameCollisionError, SelectorError, VariableNameError, listed
from .._matching import mentioned, not_there, renamed, with_near_names

Rename: TypeAlias = Mapping[str, str] | Callable[[str], str]


def rename_saved(saved: Mapping[str, Any], rename: Rename | None) -> dict[str, str]:
    """From the new name to the saved one.

    Args:
        saved: Has the saved names.
        rename: From old to new: names of variables, or of scopes, which move all that is
            below them; the longest old name wins, and ``""`` is the root. Or a function from
            each saved name to the new one.

    Raises:
        SelectorError: If an old name is neither a saved name nor a scope of one.
        NameCollisionError: If two mentioned names would become one; all such are listed.
        VariableNameError: If a function gives no string.
    """
    new_of = _by_function(saved, rename) if callable(rename) else _by_mapping(saved, rename or {})
    sources: dict[str, list[str]] = {}
    for old, new in new_of.items():
        sources.setdefault(new, []).append(old)
    twins = [f"{listed(old)} -> {new!r}" for new, old in sources.items() if len(old) > 1]
    if twins:
        raise NameCollisionError(
            f"`rename` gives several saved variables one name: {'; '.join(twins)}. Give each a "
            "name of its own; nothing was read."
        )
    unmentioned = {name: name for name in saved if name not in new_of and name not in sources}
    return unmentioned | {new: old for new, (old,) in sources.items()}


def _by_function(saved: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, str]:
    new_of = {name: rename(name) for name in saved}
    for old, new in new_of.items():
        if not isinstance(new, str):
            raise VariableNameError(
                f"`rename` gave {new!r} for {old!r}, which is no name. Return the new name, or the "
                "name itself if it is to stay."
            )
    return {old: new for old, new in new_of.items() if new != old}


def _by_mapping(saved: Mapping[str, Any], rename: Mapping[str, str]) -> dict[str, str]:
    absent = not_there(saved, rename)
    if absent:
        known = {**saved, **dict.fromkeys(_scopes(saved))}
        raise SelectorError(
            f"Nothing to rename in the checkpoint: {with_near_names(absent, known)}. `rename` goes "
            "from saved names, or scopes of them, to the target's."
        )
    return {name: renamed(rename, name) for name in saved if mentioned(rename, name) is not None}


def _scopes(names: Iterable[str]) -> set[str]:
    """All scopes above names."""
    return {name[:at] for name in names for at, character in enumerate(name) if character == "/"}
