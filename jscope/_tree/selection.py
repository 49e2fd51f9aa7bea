"""Picking variables of trees by name, with the selectors of `_names.selectors`.

All functions return new trees with whole names kept, and change nothing.
"""

import functools
import itertools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from .._errors import NameCollisionError, SelectorError, listed, with_near_names
from .._names.assignment import absent_old_names, mapped_name
from .._names.names import check
from .._names.selectors import ALLOW
from .._names.selectors import Selector as Selector
from .._names.selectors import matching as matching
from .vartree import (
    VarTree,
    as_tree,
    from_flat,
    from_values,
    intern_structure,
    structure_of,
    values_of,
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
    chosen = matching(tree, selector, allow_empty=allow_empty, hint=ALLOW)
    return _where(tree, [name in chosen for name in tree])


def drop(tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False) -> VarTree:
    """The variables that a selector does not pick; otherwise as `select`."""
    tree = as_tree(tree)
    chosen = matching(tree, selector, allow_empty=allow_empty, hint=ALLOW)
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
    choices = [
        matching(tree, selector, allow_empty=allow_empty, hint=ALLOW) for selector in selectors
    ]
    part_of = [
        next((i for i, chosen in enumerate(choices) if name in chosen), len(choices))
        for name in tree
    ]
    return tuple(_where(tree, [part == i for part in part_of]) for i in range(len(choices) + 1))


def mask(tree: Mapping[str, Any], selector: Selector, *, allow_empty: bool = False) -> VarTree:
    """A tree of bools, True where the selector picks; made for ``optax.masked``."""
    tree = as_tree(tree)
    chosen = matching(tree, selector, allow_empty=allow_empty, hint=ALLOW)
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
        (label, matching(tree, selector, allow_empty=allow_empty, hint=ALLOW))
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
    new_name = functools.partial(mapped_name, names) if isinstance(names, Mapping) else names
    sources: dict[str, list[str]] = {}
    for name in tree:
        sources.setdefault(check(new_name(name)), []).append(name)
    duplicates = [f"{listed(old)} -> {new!r}" for new, old in sources.items() if len(old) > 1]
    if duplicates:
        raise NameCollisionError(
            f"Variables would get one name: {'; '.join(duplicates)}. Rename or js.drop one of each."
        )
    return from_flat({new: tree[old] for new, (old,) in sources.items()})


def _where(tree: VarTree, keep: list[bool]) -> VarTree:
    """The variables of a tree that are to be kept."""
    names = tuple(itertools.compress(tree, keep))
    return from_values(intern_structure(names), itertools.compress(values_of(tree), keep))


def _check_renames(tree: VarTree, names: Mapping[str, str], allow_empty: bool) -> None:
    """Raise if a map from old names to new ones has names that aren't legal, or not there."""
    for name in itertools.chain(names, names.values()):
        if name != "":  # the root
            check(name)
    absent = absent_old_names(tree, names)
    if absent and not allow_empty:
        raise SelectorError(f"Nothing to rename: {with_near_names(absent, tree)}.", ALLOW)
