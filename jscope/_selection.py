"""Selection: picking variables by name, the one mechanism behind every feature that does so.

A **selector** is one of

* a glob, matched against the whole name by components: ``*`` stands for any characters
  within one component, ``?`` for one character, ``[a-cx]`` for one of these and ``[!a-cx]``
  for one of the others; a component ``**`` stands for any number of components, at the end
  for one or more, so that ``"enc/**"`` is everything below the scope ``enc`` and ``"**/w"``
  every ``w``;
* a compiled regular expression, searched for in the name (anchor it with ``^`` and ``$``);
* a predicate ``(name, value) -> bool``;
* a mapping, such as another tree or a declaration: exactly its names;
* a list, tuple or set of selectors: whatever one of them picks.

A selector that matches nothing, alone or within a collection, is an error that offers near
names, and so is a mapping's name that the tree does not have: a typing error must not
become an untrained layer. ``allow_empty=True`` says that nothing is fine too.

All functions return new trees with whole names kept, and change nothing.

Imports: `_errors`, `_names`, `_tree`.
"""

import functools
import itertools
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, TypeAlias

from ._errors import NameCollisionError, SelectorError, listed, near
from ._names import CHARACTERS, check
from ._tree import (
    VarTree,
    as_tree,
    from_flat,
    from_values,
    intern_structure,
    structure_of,
    values_of,
)

Selector: TypeAlias = (
    str | re.Pattern[str] | Callable[[str, Any], bool] | Mapping[str, Any] | Collection["Selector"]
)


def select(tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False) -> VarTree:
    """The variables that a selector picks.

    >>> list(select(VarTree({"enc": {"w": 1.0, "b": 2.0}, "head": {"w": 3.0}}), "**/w"))
    ['enc/w', 'head/w']

    Args:
        tree: A tree, or another mapping of names to values.
        selector: See `jscope.Selector`.
        allow_empty: Whether the result may be empty.

    Raises:
        SelectorError: If the selector, or a part of it, matches nothing.
    """
    tree = as_tree(tree)
    chosen = matching(tree, selector, allow_empty=allow_empty)
    return _where(tree, [name in chosen for name in tree])


def drop(tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False) -> VarTree:
    """The variables that a selector does not pick; otherwise as `select`."""
    tree = as_tree(tree)
    chosen = matching(tree, selector, allow_empty=allow_empty)
    return _where(tree, [name not in chosen for name in tree])


def partition(
    tree: Mapping[str, Any], *selectors: Selector, allow_empty: bool = False
) -> tuple[VarTree, ...]:
    """Split a tree: one part per selector, and the rest last.

    A variable goes to the first selector that picks it, so the parts are disjoint and
    ``a | b | ... | rest`` is the tree again.

    Raises:
        SelectorError: If a selector matches nothing in the whole tree.
    """
    tree = as_tree(tree)
    choices = [matching(tree, selector, allow_empty=allow_empty) for selector in selectors]
    part_of = [
        next((i for i, chosen in enumerate(choices) if name in chosen), len(choices))
        for name in tree
    ]
    return tuple(_where(tree, [part == i for part in part_of]) for i in range(len(choices) + 1))


def mask(tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False) -> VarTree:
    """A tree of bools, True where the selector picks; made for ``optax.masked``."""
    tree = as_tree(tree)
    chosen = matching(tree, selector, allow_empty=allow_empty)
    return from_values(structure_of(tree), tuple(name in chosen for name in tree))


def labels(
    tree: Mapping[str, Any],
    selectors: Mapping[Hashable, Selector],
    default: Hashable | None = None,
    *,
    allow_empty: bool = False,
) -> VarTree:
    """A tree of labels; made for ``optax.multi_transform``.

    Args:
        tree: A tree, or another mapping of names to values.
        selectors: From label to selector; the first that picks a variable labels it.
        default: The label of variables that none picks.
        allow_empty: Whether a selector may match nothing.

    Raises:
        SelectorError: If a selector matches nothing, or a variable has no label and there
            is no ``default``.
    """
    tree = as_tree(tree)
    choices = [
        (label, matching(tree, selector, allow_empty=allow_empty))
        for label, selector in selectors.items()
    ]
    found = [next((label for label, chosen in choices if name in chosen), default) for name in tree]
    without = [name for name, label in zip(tree, found, strict=True) if label is None]
    if without:
        raise SelectorError(
            f"No label for {listed(without)}. Add a selector that picks them, or default='...'."
        )
    return from_values(structure_of(tree), tuple(found))


def rename(
    tree: Mapping[str, Any],
    names: Mapping[str, str] | Callable[[str], str],
    *,
    allow_empty: bool = False,
) -> VarTree:
    """Give variables other names.

    >>> list(rename(VarTree({"enc/w": 1.0, "enc/b": 2.0}), {"enc": "encoder", "enc/b": "bias"}))
    ['bias', 'encoder/w']

    Args:
        tree: A tree, or another mapping of names to values.
        names: From old to new: names of variables, or of scopes, which move all that is
            below them; the longest old name wins, and ``""`` is the root. Or a function
            from each old whole name to the new one.
        allow_empty: Whether an old name may be absent.

    Raises:
        SelectorError: If an old name is neither a variable nor a scope.
        NameCollisionError: If two variables would get one name; all such are listed.
        VariableNameError: If a new name is not legal.
    """
    tree = as_tree(tree)
    if isinstance(names, Mapping):
        _check_renames(tree, names, allow_empty)
    new_name = functools.partial(_renamed, names) if isinstance(names, Mapping) else names
    sources: dict[str, list[str]] = {}
    for name in tree:
        sources.setdefault(check(new_name(name)), []).append(name)
    twins = [f"{listed(old)} -> {new!r}" for new, old in sources.items() if len(old) > 1]
    if twins:
        raise NameCollisionError(
            f"Variables would get one name: {'; '.join(twins)}. Rename or js.drop one of each."
        )
    return from_flat({new: tree[old] for new, (old,) in sources.items()})


def map_named(tree: Mapping[str, Any], function: Callable[[str, Any], Any]) -> VarTree:
    """A tree of the same names with ``function(name, value)`` for each variable.

    >>> map_named(VarTree({"a/w": 2.0}), lambda name, value: f"{name} is {value}")["a/w"]
    'a/w is 2.0'
    """
    tree = as_tree(tree)
    return from_values(structure_of(tree), tuple(function(*item) for item in tree.items()))


def matching(
    tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False
) -> frozenset[str]:
    """The names that a selector picks; every part of it must pick one, unless ``allow_empty``."""
    if isinstance(selector, Mapping):
        return _named_by(tree, selector, allow_empty)
    if isinstance(selector, Collection) and not isinstance(selector, str | bytes):
        parts = [matching(tree, part, allow_empty=allow_empty) for part in selector]
        if not parts and not allow_empty:
            raise SelectorError("An empty collection of selectors picks nothing. " + _ALLOW)
        return frozenset().union(*parts)
    picks = _predicate(selector)
    chosen = frozenset(name for name, value in tree.items() if picks(name, value))
    if not chosen and not allow_empty:
        raise SelectorError(_matches_nothing(tree, selector))
    return chosen


_ALLOW = "Say allow_empty=True if that is meant."


def _predicate(selector: Selector) -> Callable[[str, Any], bool]:
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
    tree: Mapping[str, Any], names: Mapping[str, Any], allow_empty: bool
) -> frozenset[str]:
    if not names and not allow_empty:
        raise SelectorError(f"A selector without names picks nothing. {_ALLOW}")
    absent = [name for name in names if name not in tree]
    if absent and not allow_empty:
        raise SelectorError(
            f"Of {len(names)} names selected, {len(absent)} are not in the tree of {len(tree)}: "
            f"{_with_near_names(absent, tree)}. {_ALLOW}"
        )
    return frozenset(name for name in names if name in tree)


def _matches_nothing(tree: Mapping[str, Any], selector: Selector) -> str:
    if isinstance(selector, str):
        scope = selector.rstrip("*").rstrip("/")
        below = [name for name in tree if name.startswith(scope + "/")]
        if below:
            what = "it" if scope == selector else repr(scope)
            return (
                f"The selector {selector!r} matches no variable: {what} is a scope of "
                f"{len(below)}. Write {scope + '/**'!r} for all that is below it."
            )
        close = near(selector, tuple(tree))
        return f"The selector {selector!r} matches no variable ({close}). {_ALLOW}"
    shown = selector.pattern if isinstance(selector, re.Pattern) else selector
    return (
        f"The selector {shown!r} matches none of {len(tree)} variables: {listed(tree, most=5)}. "
        f"{_ALLOW}"
    )


def _with_near_names(absent: list[str], tree: Mapping[str, Any]) -> str:
    # Near names cost a comparison with every variable, so not for hundreds of absent ones.
    first = "; ".join(f"{name!r} ({near(name, tuple(tree))})" for name in absent[:10])
    return first + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")


def _where(tree: VarTree, keep: list[bool]) -> VarTree:
    names = tuple(itertools.compress(tree, keep))
    return from_values(intern_structure(names), itertools.compress(values_of(tree), keep))


def _renamed(names: Mapping[str, str], name: str) -> str:
    end = len(name)
    while end > 0:
        if name[:end] in names:
            new = names[name[:end]]
            return f"{new}{name[end:]}" if new else name[end + 1 :]
        end = name.rfind("/", 0, end)
    return f"{names['']}/{name}" if names.get("") else name


def _check_renames(tree: VarTree, names: Mapping[str, str], allow_empty: bool) -> None:
    for name in itertools.chain(names, names.values()):
        if name != "":  # the root
            check(name)
    if allow_empty:
        return

    def is_there(old: str) -> bool:
        places = structure_of(tree).places_below(old)
        return old == "" or old in tree or places.start < places.stop

    absent = [old for old in names if not is_there(old)]
    if absent:
        raise SelectorError(f"Nothing to rename: {_with_near_names(absent, tree)}. {_ALLOW}")
