"""The names by which the leaves of any pytree are saved.

A leaf's name is the path to it, its parts joined with ``/``: the keys of mappings, the indices
in lists and tuples, the attributes of dataclasses and NamedTuples. So a `VarTree`'s
variables have their own names, ``{"params": tree}`` has ``params/enc/w``, and Optax's state below
``opt`` has names such as ``opt/0/mu/enc/w``. A nested dict and the flat one of the same names are
saved alike.

No two leaves have one name, and a name is not empty, does not end with ``/`` (which Orbax
drops) and can be spelled in UTF-8. ``None`` is a leaf here, so that it is saved as such.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax

from .._errors import CheckpointValueError, listed
from .._tree.vartree import VarTree, leaf_name


def as_pytree(tree: object) -> object:
    """A pytree as it is; a mapping that JAX doesn't know as a `VarTree`."""
    if isinstance(tree, Mapping) and jax.tree_util.all_leaves([tree]):
        return VarTree(tree)
    return tree


def flatten(tree: object, what: str) -> tuple[list[tuple[str, Any]], Any]:
    """The leaves of a pytree by name, and the structure that `jax.tree.unflatten` takes.

    Args:
        tree: Any pytree; another mapping is taken as a `VarTree`.
        what: What to call it in errors: ``"The tree"``, ``"The target"``.

    Raises:
        CheckpointValueError: If two leaves have one name, or one can't be a name.
    """
    tree = as_pytree(tree)
    try:
        named, structure = _named(tree)
    except ValueError as error:
        # A dict whose keys can't be sorted.
        raise CheckpointValueError(f"{what} can't be flattened by JAX: {error}") from error
    counts = Counter(name for name, _ in named)
    duplicates = sorted(name for name, count in counts.items() if count > 1)
    if duplicates:
        raise CheckpointValueError(
            f"{what} has two leaves of one name: {listed(duplicates)}. A leaf's name is the path "
            "to it, joined with '/'; rename a key on one of the paths."
        )
    if "" in counts:
        raise CheckpointValueError(
            f"{what} has a leaf without a name; it is of type {type(tree).__name__}, and leaves "
            "are named by the path to them. Give it a name, as in {'x': value}."
        )
    check_names(counts, what)
    return named, structure


def _named(tree: object) -> tuple[list[tuple[str, Any]], Any]:
    if isinstance(tree, VarTree):
        leaves, structure = jax.tree.flatten(tree, is_leaf=lambda x: x is None)
        values = list(tree.values())
        # Without values that are pytrees the names are the variables'.
        if list(map(id, leaves)) == list(map(id, values)):
            return list(zip(tree, leaves, strict=True)), structure
    found, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    return [(leaf_name(path), leaf) for path, leaf in found], structure


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse what can't be a saved name.

    Raises:
        CheckpointValueError: If there is one; all are listed.
    """
    nameless = [name for name in names if name.endswith("/") or not _is_text(name)]
    if nameless:
        raise CheckpointValueError(
            f"{what} has names that can't be saved, as they end with '/' or are not UTF-8: "
            f"{listed(nameless)}. Rename them."
        )


def check_nestable(names: Collection[str]) -> None:
    """Refuse names to save that nested dicts can't have, or that Orbax takes for one another.

    Orbax calls an array by its keys joined with ``.``: ``a/b`` and ``a.b`` would be one.

    Raises:
        CheckpointValueError: If there are any; all are listed.
    """
    scopes = {name[:at] for name in names for at, letter in enumerate(name) if letter == "/"}
    dotted = Counter(name.replace("/", ".") for name in names)
    bad = [
        name
        for name in names
        if name in scopes or not all(name.split("/")) or dotted[name.replace("/", ".")] > 1
    ]
    if bad:
        raise CheckpointValueError(
            f"These names can't be saved for stock Orbax, in nested dicts: {listed(bad)}. One is a "
            "value and a scope, has an empty part, or differs from another only in '.' for '/'. "
            "Rename them, or save without portable=True."
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
