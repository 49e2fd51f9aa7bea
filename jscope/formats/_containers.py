"""The containers of a saved pytree, as JSON and back: the structure that leaf names don't have.

A description is one of

=============================  ================================================================
``null``                       a leaf: the next one, in the order of the index
``[child, ...]``               a list
``{"tuple": [child, ...]}``    a tuple
``{"dict": {key: child}}``     a dict whose keys are strings; also a NamedTuple, a dataclass and any
                               other node, by the names that their children have
``{"dict": [[key, child]]}``   a dict whose keys are whole numbers
``{"dict": number}``           a dict of so many leaves, by their names in the index; of those, what
                               stands before the first is the dict's own
``{"VarTree": number}``        a `VarTree` of so many variables; of their names in the index, what
                               stands before the first is the tree's own
``{"VarTree": {name: child}}`` a `VarTree` whose values are pytrees
=============================  ================================================================

Classes are never named, so an object of a user's class comes back as a dict.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax

from .._errors import JscopeError
from .._names.names import check
from .._tree.vartree import VarTree, from_flat

Item: TypeAlias = tuple[str, Any]
Description: TypeAlias = "list[Description] | dict[str, Any] | None"

# The errors of reading a text that is not a description.
_DAMAGE = (KeyError, TypeError, AttributeError, StopIteration, RecursionError, OverflowError)


@dataclasses.dataclass(frozen=True)
class Containers:
    """The containers of a saved pytree, to be filled with values.

    Attributes:
        description: See the first lines of this file.
        names: The values' names, in its order.
    """

    description: Description
    names: tuple[str, ...]

    def filled(self, values: Sequence[object]) -> object:
        """The containers, with values in the order of the names.

        Raises:
            ValueError: If the description isn't one of so many values.
        """
        items = iter(zip(self.names, values, strict=True))
        try:
            tree = _filled(self.description, "", items)
        except (*_DAMAGE, JscopeError) as error:
            raise ValueError(f"the description of its containers is damaged: {error!r}") from error
        if next(items, None) is not None:
            raise ValueError("the description of its containers has fewer leaves than it has")
        return tree


def describe(tree: object) -> Description:
    """The description of a pytree's containers, in which None is a leaf."""
    if isinstance(tree, VarTree) and jax.tree_util.all_leaves(tree.values()):
        return {"VarTree": len(tree)}  # without iterating over them
    if (
        type(tree) is dict
        and tree
        and all(type(key) is str for key in tree)
        and jax.tree_util.all_leaves(tree.values(), is_leaf=lambda x: x is None)
    ):
        return {"dict": len(tree)}

    @functools.cache
    def paths() -> list[Sequence[Any]]:
        found, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
        return [path for path, _ in found]

    return _described(jax.tree.structure(tree, is_leaf=lambda x: x is None), paths, 0, 0)


def of_paths(
    paths: Mapping[str, Sequence[str | int]], empty: Mapping[str, Description]
) -> Containers:
    """Find a pytree's containers, nested dicts and lists, from the paths to its leaves.

    Args:
        paths: From names to paths; a whole number is an index in a list.
        empty: Those of these names that stand for a container without leaves, and that.

    Raises:
        ValueError: If one is both a leaf and a container, or they are nested too deeply.
    """
    if list(paths.values()) == [()]:
        return Containers(None, tuple(paths))
    root: dict[str | int, Any] = {}
    for name, path in paths.items():
        level = root
        for key in path[:-1]:
            level = level.setdefault(key, {})
            if not isinstance(level, dict):
                raise ValueError(f"{name!r} is below a leaf")
        if not path or path[-1] in level:
            raise ValueError(f"{name!r} is a leaf and a container")
        level[path[-1]] = name
    names: list[str] = []
    try:
        return Containers(_nested(root, names, empty), tuple(names))
    except RecursionError:
        raise ValueError("its containers are nested too deeply") from None


def _nested(
    level: str | dict[Any, Any], names: list[str], empty: Mapping[str, Description]
) -> Description:
    """The description of containers of nested dicts and lists."""
    if isinstance(level, str):
        if level in empty:
            return {"dict": {}} if empty[level] == {} else empty[level]
        names.append(level)
        return None
    if level and all(isinstance(key, int) for key in level):
        return [_nested(level[key], names, empty) for key in sorted(level)]
    return {"dict": {str(key): _nested(below, names, empty) for key, below in level.items()}}


def _described(
    structure: jax.tree_util.PyTreeDef,
    paths: Callable[[], Sequence[Sequence[Any]]],
    at: int,
    depth: int,
) -> Description:
    """The description of the containers in a part of a pytree's structure.

    Args:
        structure: The part's.
        paths: Gives the paths of the whole pytree's leaves, which take time.
        at: Where the part's leaves begin.
        depth: How deep it is.
    """
    data = structure.node_data()
    if data is None:
        return None
    kind, keys = data
    nodes: list[Description] = []
    starts = [at]
    if structure.num_nodes == structure.num_leaves + 1:  # of leaves alone
        nodes = [None] * structure.num_leaves
        starts = list(range(at, at + structure.num_leaves + 1))
    else:
        for child in structure.children():
            nodes.append(_described(child, paths, starts[-1], depth + 1))
            starts.append(starts[-1] + child.num_leaves)
    if kind is list:
        return nodes
    if kind is tuple:
        return {"tuple": nodes}
    if kind is dict and all(type(key) is int for key in keys) and keys:
        return {"dict": [list(pair) for pair in zip(keys, nodes, strict=True)]}
    if kind is VarTree:
        is_flat = all(node is None for node in nodes)
        return {"VarTree": len(nodes) if is_flat else dict(zip(keys.names, nodes, strict=True))}
    known = keys if kind is dict else getattr(kind, "_fields", None)
    if known is not None and all(type(key) is str for key in known):
        return {"dict": dict(zip(known, nodes, strict=True))}
    # A container without leaves has no path, so its name is unknown.
    named = {
        jax.tree_util.keystr(tuple(paths()[start][depth : depth + 1]), simple=True): node
        for (start, end), node in zip(itertools.pairwise(starts), nodes, strict=True)
        if start < end
    }
    return {"dict": named}


def _filled(description: Any, name: str, items: Iterator[Item]) -> object:
    """The containers that a description has, filled with the next values."""
    if description is None:
        return next(items)[1]
    if isinstance(description, list):
        return [_filled(child, _join(name, i), items) for i, child in enumerate(description)]
    ((kind, below),) = description.items()
    if kind == "tuple":
        return tuple([_filled(child, _join(name, i), items) for i, child in enumerate(below)])
    if kind in ("VarTree", "dict") and isinstance(below, int):
        found = list(itertools.islice(items, below))
        before = _join(name, "")
        if len(found) != below or not all(n.startswith(before) for n, _ in found):
            raise ValueError(f"the description of its containers has no such tree: {name!r}")
        flat = {n[len(before) :]: value for n, value in found}
        return flat if kind == "dict" else from_flat({check(n): v for n, v in flat.items()})
    pairs = below.items() if isinstance(below, dict) else [(key, child) for key, child in below]
    children = {key: _filled(child, _join(name, key), items) for key, child in pairs}
    if kind == "VarTree":
        return from_flat({check(key): child for key, child in children.items()})
    if kind != "dict":
        raise KeyError(kind)
    return children


def _join(name: str, key: str | int) -> str:
    """The name of a child of a container."""
    return f"{name}/{key}" if name else str(key)
