"""The two layouts of a stack: one variable with a leading axis, or one variable for each slice.

A loop over ``scope / f"layers/{i}"`` makes ``layers/0/w``, ``layers/1/w``, ...; a stack,
``scope.stacked("layers", n)``, makes ``layers/w`` with a leading axis of length n. `stack` and
`unstack` convert trees between the two, and other pytrees of their structure: gradients, the state
of an optimizer, masks, abstract values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .._errors import TreeMismatchError, listed, missing_scope
from .._names.names import check
from .values import Shaped, is_array, value_text
from .vartree import VarTree, as_tree, from_flat

T = TypeVar("T")


def stack(tree: T, scope: str, *, axis: int = 0) -> T:
    """Make one stack of the slices ``scope/0``, ``scope/1``, ...

    >>> tree = VarTree({"layers/0/w": jnp.zeros(3), "layers/1/w": jnp.ones(3), "b": jnp.ones(2)})
    >>> js.stack(tree, "layers")
    VarTree of 2 variables, 8 elements, 32 B
    name      shape   dtype    bytes
    b         (2,)    float32    8 B
    layers/w  (2, 3)  float32   24 B

    Args:
        tree: A tree or mapping of variables, or a pytree with such trees inside, such as an
            Optax state. A value that is not an array, such as a mask's, must be the same in each
            slice, and is kept once.
        scope: The whole name of the scope whose children 0, 1, ... are the slices.
        axis: Where the new axis goes. For a stack in stacks that are stacked already, their
            number: ``js.stack(js.stack(tree, "a"), "a/b", axis=1)``.

    Returns:
        A new tree of the same kind. Trees inside a pytree that have no such scope stay as they
        are, and so does a pytree without any.

    Raises:
        MissingVariableError: If no tree has such a scope.
        TreeMismatchError: If slices are missing or uneven, or differ in shape or dtype; all that
            is uneven is listed.
    """
    return _in_all_trees(tree, scope, lambda tree: _stacked(tree, scope, axis), "stacked")


def unstack(tree: T, scope: str, *, axis: int = 0, length: int | None = None) -> T:
    """Take a stack apart into its slices ``scope/0``, ``scope/1``, ...: the inverse of `stack`.

    >>> tree = VarTree({"layers/w": jnp.zeros((2, 3)), "b": jnp.ones(2)})
    >>> list(js.unstack(tree, "layers"))
    ['b', 'layers/0/w', 'layers/1/w']

    Args:
        tree: As for `stack`. A value that is not an array is repeated.
        scope: The whole name of the stack's scope.
        axis: The axis that counts the slices.
        length: The number of slices; needed only if there is no array.

    Returns:
        A new tree of the same kind, whose values share no buffer with the old one's.

    Raises:
        MissingVariableError: If no tree has such a scope.
        TreeMismatchError: If variables don't have that axis, or not of one length; all such are
            listed.
    """
    trees = [part for _, part in _trees_in(tree) if _below(part, scope)]
    if length is None:
        sizes = (size for part in trees for size in _lengths(part, scope, axis))
        length = next(sizes, None)
    return _in_all_trees(
        tree, scope, lambda tree: _unstacked(tree, scope, axis, length), "unstacked"
    )


Converted = tuple[dict[str, Any], list[str]]  # what replaces the variables below, and problems


def _in_all_trees(tree: T, scope: str, convert: Callable[[VarTree], Converted], done: str) -> T:
    """Stack or unstack what is below a scope, in each tree of variables that a pytree holds."""
    check(scope)
    trees = _trees_in(tree)
    if trees and not any(_below(part, scope) for _, part in trees):
        raise missing_scope(scope, trees[0][1])
    problems: list[str] = []
    results: list[VarTree] = []
    for place, part in trees:
        below = _below(part, scope)
        replacing, found = convert(part) if below else ({}, [])
        problems += [f"  {place}{problem}" for problem in found]
        stay = {name: value for name, value in part.items() if name not in below}
        results.append(part if found else from_flat({**stay, **replacing}))
    if problems:
        raise TreeMismatchError(
            f"{scope!r} can't be {done}, in {len(problems)} place{'s' * (len(problems) > 1)}:\n"
            + "\n".join(problems)
        )
    if isinstance(tree, Mapping) and not isinstance(tree, VarTree) and not _holds_trees(tree):
        return cast(T, results[0])
    rest = iter(results)
    converted = jax.tree.map(
        lambda leaf: next(rest) if _is_tree(leaf) else leaf, tree, is_leaf=_is_tree
    )
    return cast(T, converted)


def _is_tree(leaf: object) -> bool:
    return isinstance(leaf, VarTree)


def _holds_trees(tree: object) -> bool:
    return any(map(_is_tree, jax.tree.leaves(tree, is_leaf=_is_tree)))


def _trees_in(tree: object) -> list[tuple[str, VarTree]]:
    """The trees of variables in a pytree, to stack or unstack, with their paths."""
    if isinstance(tree, VarTree) or (isinstance(tree, Mapping) and not _holds_trees(tree)):
        return [("", as_tree(tree))]
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_tree)
    return [(f"{jax.tree_util.keystr(path)}: ", leaf) for path, leaf in leaves if _is_tree(leaf)]


def _below(tree: VarTree, scope: str) -> dict[str, str]:
    """The names below the scope of a stack, or of its slices, and those relative to it."""
    start = len(scope) + 1
    return {name: name[start:] for name in tree if name.startswith(scope + "/")}


# From slices to a stack.


def _stacked(tree: VarTree, scope: str, axis: int) -> Converted:
    """The stacks that the slices below a scope make, by name; and what is uneven."""
    slices: dict[str, dict[int, str]] = {}
    problems = []
    for name, inside in _below(tree, scope).items():
        index, _, rest = inside.partition("/")
        if not (index.isdecimal() and str(int(index)) == index):
            problems.append(f"{name!r}: {index!r} is not the number of a slice")
        elif not rest:
            problems.append(f"{name!r}: a slice is a scope, and this is a variable")
        else:
            slices.setdefault(rest, {})[int(index)] = name
    present = {index for names in slices.values() for index in names}
    absent = [index for index in range(len(present)) if index not in present]
    if absent:
        problems.append(f"no slice {listed(absent)}, though there is {scope}/{max(present)}")
    stacks = {}
    for rest, names in slices.items():
        missing = [f"{scope}/{index}/{rest}" for index in sorted(present - names.keys())]
        if missing:
            problems.append(f"missing: {listed(missing)}, though there is {min(names.values())!r}")
            continue
        ordered = [names[index] for index in sorted(names)]
        values = [tree[name] for name in ordered]
        uneven = list(_uneven(ordered, values, axis))
        problems += uneven
        if not uneven:
            stacks[f"{scope}/{rest}"] = jax.tree.map(
                lambda *leaves: _stack_leaves(leaves, axis), *values
            )
    return stacks, problems


def _uneven(names: Sequence[str], values: Sequence[Any], axis: int) -> Iterator[str]:
    """Why slices can't be stacked to one array, each compared with the first."""
    first = values[0]
    structure: Any = jax.tree.structure(first)
    for name, value in zip(names, values, strict=True):
        if jax.tree.structure(value) != structure:
            yield f"{name!r} is another pytree than {names[0]!r}"
            continue
        for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(value), strict=True):
            if not is_array(one) and not is_array(other):
                if other != one:
                    yield f"{name!r} is {other!r} and {names[0]!r} is {one!r}, which are not arrays"
            elif value_text(other) != value_text(one):
                yield f"{name!r} is {value_text(other)} and {names[0]!r} is {value_text(one)}"
            elif value is first and not -len(one.shape) - 1 <= axis <= len(one.shape):
                yield f"{name!r} of shape {tuple(one.shape)} has no place for axis {axis}"


def _stack_leaves(leaves: Sequence[Any], axis: int) -> object:
    """The arrays of all slices of one leaf, stacked to one array."""
    first = leaves[0]
    if not is_array(first):
        return first
    if isinstance(first, jax.ShapeDtypeStruct):
        shape, spec = list(first.shape), _axis_shardings(first)
        place = axis % (len(shape) + 1)
        shape.insert(place, len(leaves))
        if spec is not None:
            spec.insert(place, None)
        return _struct(first, shape, spec)
    if all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves):
        return np.stack(leaves, axis)
    return jnp.stack(leaves, axis)


# From a stack to slices.


def _lengths(tree: VarTree, scope: str, axis: int) -> Iterator[int]:
    """The number of slices along an axis, by each array of a stack."""
    for name in _below(tree, scope):
        for leaf in jax.tree.leaves(tree[name]):
            if is_array(leaf) and _has_axis(leaf, axis):
                yield leaf.shape[axis]


def _unstacked(tree: VarTree, scope: str, axis: int, length: int | None) -> Converted:
    """The slices of the stack of a scope, by name; and what has another number of slices."""
    problems = []
    if length is None:
        problems.append("no array has the number of slices; write length=...")
    slices = {}
    for name, rest in _below(tree, scope).items():
        leaves, structure = jax.tree.flatten(tree[name])
        for leaf in filter(is_array, leaves):
            if not _has_axis(leaf, axis):
                problems.append(f"{name!r} of shape {tuple(leaf.shape)} has no axis {axis}")
            elif leaf.shape[axis] != length:
                problems.append(
                    f"{name!r} of shape {tuple(leaf.shape)} has {leaf.shape[axis]} slices along "
                    f"axis {axis}, not {length}"
                )
        if not problems:
            assert length is not None
            parts = [_slices_of(leaf, axis, length) for leaf in leaves]
            for i in range(length):
                value = jax.tree.unflatten(structure, [part[i] for part in parts])
                slices[f"{scope}/{i}/{rest}"] = value
    return slices, problems


def _slices_of(leaf: Any, axis: int, length: int) -> Sequence[Any]:
    """One stacked leaf, taken apart into its slices."""
    if not is_array(leaf):
        return [leaf] * length
    if isinstance(leaf, jax.ShapeDtypeStruct):
        shape, spec = list(leaf.shape), _axis_shardings(leaf)
        del shape[axis]
        if spec is not None:
            del spec[axis]
        return [_struct(leaf, shape, spec)] * length
    if isinstance(leaf, np.ndarray):
        return [leaf.take(i, axis) for i in range(length)]
    return jnp.unstack(jnp.asarray(leaf), axis=axis)


def _has_axis(leaf: Shaped, axis: int) -> bool:
    return -len(leaf.shape) <= axis < len(leaf.shape)


def _axis_shardings(leaf: jax.ShapeDtypeStruct) -> list[Any] | None:
    """How each axis of a stack's abstract value is sharded, if that is given."""
    if not isinstance(leaf.sharding, NamedSharding):
        return None
    return [*leaf.sharding.spec, *(None,) * (len(leaf.shape) - len(leaf.sharding.spec))]


def _struct(
    like: jax.ShapeDtypeStruct, shape: Sequence[int], spec: Sequence[Any] | None
) -> jax.ShapeDtypeStruct:
    """An abstract value of a stack or slice, with another shape, on the mesh of one like it."""
    if spec is None:
        return jax.ShapeDtypeStruct(tuple(shape), like.dtype)
    assert isinstance(like.sharding, NamedSharding)
    sharding = NamedSharding(like.sharding.mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(tuple(shape), like.dtype, sharding=sharding)
