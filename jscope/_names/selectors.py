"""Selectors: which names are picked, the one mechanism behind every feature that picks.

A **selector** is one of

* a glob, matched against the whole name by components: ``*`` stands for any characters
  within one component, ``?`` for one character, ``[a-cx]`` for one of these and ``[!a-cx]``
  for one of the others; a component ``**`` stands for any number of components, at the end
  for one or more, so that ``"enc/**"`` is everything below the scope ``enc`` and ``"**/w"``
  every ``w``;
* a compiled regular expression, searched for in the name (anchor it with ``^`` and ``$``);
* a predicate ``(name, value) -> bool``;
* a mapping, such as another tree or a declaration: exactly its names;
* a list, tuple or set of selectors: all names that any of them picks.

A selector that matches nothing, alone or within a collection, is an error that offers near
names, and so is a mapping's name that the tree does not have: otherwise a misspelled selector
would leave a layer untrained. ``allow_empty=True`` allows an empty result; a function that passes
on its caller's ``allow_empty`` gives `ALLOW` as the error's hint.

Names are matched in any mapping from names to any values, such as the index of a checkpoint, so
this file needs no JAX.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from .._errors import SelectorError, listed, near, with_near_names
from .names import CHARACTERS

Selector: TypeAlias = (
    str | re.Pattern[str] | Callable[[str, Any], bool] | Mapping[str, Any] | Collection["Selector"]
)


def matching(
    tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False, hint: str = ""
) -> frozenset[str]:
    """The names that a selector picks; every part of it must pick one, unless ``allow_empty``.

    Args:
        tree: From names to values; only predicates read the values.
        selector: The selector.
        allow_empty: Whether it may pick nothing.
        hint: What the caller's caller can write if that is meant.

    Raises:
        SelectorError: If it picks nothing, or is not a selector.
    """
    if isinstance(selector, Mapping):
        return _named_by(tree, selector, allow_empty, hint)
    if isinstance(selector, Collection) and not isinstance(selector, str | bytes):
        parts = [matching(tree, part, allow_empty=allow_empty, hint=hint) for part in selector]
        if not parts and not allow_empty:
            raise SelectorError("An empty collection of selectors picks nothing.", hint)
        return frozenset().union(*parts)
    picks = _predicate(selector)
    chosen = frozenset(name for name, value in tree.items() if picks(name, value))
    if not chosen and not allow_empty:
        raise _matches_nothing(tree, selector, hint)
    return chosen


ALLOW = "Write allow_empty=True if that is meant."


def _predicate(selector: Selector) -> Callable[[str, Any], bool]:
    """The function of name and value that says if a single selector picks a variable."""
    if isinstance(selector, str):
        pattern = _glob(selector)
        return lambda name, value: pattern.fullmatch(name) is not None
    if isinstance(selector, re.Pattern):
        if not isinstance(selector.pattern, str):
            raise SelectorError(f"{selector!r} matches bytes; names are strings.")
        return lambda name, value: selector.search(name) is not None
    if callable(selector):
        return lambda name, value: bool(selector(name, value))
    raise SelectorError(
        f"{selector!r} of type {type(selector).__name__} is not a selector. It may be a glob such "
        "as 'enc/**', re.compile(...), a function of (name, value), something with names, or a "
        "list of these."
    )


@functools.lru_cache(maxsize=4096)
def _glob(glob: str) -> re.Pattern[str]:
    """The pattern of a glob."""
    components = glob.split("/")
    if not all(components):
        raise SelectorError(
            f"The glob {glob!r} has an empty component. Names have no leading, trailing or double "
            f"'/'; for everything below a scope write 'scope/**'."
        )
    pattern = ""
    for i, component in enumerate(components):
        last = i == len(components) - 1
        if component == "**":
            pattern += "[^/]+(?:/[^/]+)*" if last else "(?:[^/]+/)*"
        elif "**" in component:
            raise SelectorError(
                f"In the glob {glob!r}, '**' must be a whole component, as in 'enc/**/w'."
            )
        else:
            pattern += _component_pattern(component, glob) + ("" if last else "/")
    return re.compile(pattern)


def _component_pattern(component: str, glob: str) -> str:
    """The pattern of one component of a glob that is a selector."""
    # One character class, "*" or "?" at a time; everything else stands for itself.
    pattern = ""
    for part in re.findall(r"\[!?[^\]]+\]|.", component, re.DOTALL):
        if len(part) > 1:
            pattern += _class_pattern(part, glob)
        elif part in "[]":
            raise SelectorError(
                f"In the glob {glob!r}, {part!r} has no partner. '[...]' stands for one character."
            )
        else:
            pattern += {"*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return pattern


def _class_pattern(text: str, glob: str) -> str:
    """The pattern of a character class of a glob, such as ``[!a-c]``."""
    # Spelled out in the alphabet of names, since re's own classes have a syntax of their own
    # ("[^a]", "[\W]", "[a--c]") and could match the "/" between components.
    others = text[1] == "!"
    strange = set(text[1 + others : -1]).difference(CHARACTERS)
    if strange:
        raise SelectorError(
            f"In the glob {glob!r}, {text!r} holds {listed(sorted(strange))}, which no name has. "
            "For all but some characters write '[!...]'."
        )
    inside: set[str] = set()
    for first, last in re.findall(r"(.)(?:-(.))?", text[1 + others : -1]):
        if last and last < first:
            raise SelectorError(f"In the glob {glob!r}, the range '{first}-{last}' is empty.")
        inside.update(c for c in CHARACTERS if first <= c <= (last or first))
    chosen = [c for c in CHARACTERS if (c in inside) != others]
    return f"[{re.escape(''.join(chosen))}]" if chosen else "(?!)"


def _named_by(
    tree: Mapping[str, Any], names: Mapping[str, Any], allow_empty: bool, hint: str
) -> frozenset[str]:
    """The names that a mapping, as a selector, picks."""
    if not names and not allow_empty:
        raise SelectorError("A selector without names picks nothing.", hint)
    absent = [name for name in names if name not in tree]
    if absent and not allow_empty:
        raise SelectorError(
            f"Of {len(names)} names selected, {len(absent)} are not in the tree of {len(tree)}: "
            f"{with_near_names(absent, tree)}.",
            hint,
        )
    return frozenset(name for name in names if name in tree)


def _matches_nothing(tree: Mapping[str, Any], selector: Selector, hint: str) -> SelectorError:
    """Compose the error for a selector, such as a glob, that matches no name; with near names."""
    if isinstance(selector, str):
        scope = selector.rstrip("*").rstrip("/")
        below = [name for name in tree if name.startswith(scope + "/")]
        if below:
            what = "it" if scope == selector else repr(scope)
            return SelectorError(
                f"The selector {selector!r} matches no variable: {what} is a scope of "
                f"{len(below)}. Write {scope + '/**'!r} for all that is below it."
            )
        close = near(selector, tuple(tree))
        return SelectorError(f"The selector {selector!r} matches no variable ({close}).", hint)
    shown = selector.pattern if isinstance(selector, re.Pattern) else selector
    return SelectorError(
        f"The selector {shown!r} matches none of {len(tree)} variables: {listed(tree, most=5)}.",
        hint,
    )
