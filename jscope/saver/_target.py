"""The target of a restore: the names of its leaves, and which of them are requested.

Any pytree may be: a `VarTree`, a declaration, or a training state of tuples, dataclasses and
dictionaries. A leaf's name is its path in the pytree, components joined by ``/``; in a `VarTree`
that is the variable's name. None is a leaf, and so are numbers and strings of Python.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._errors import CheckpointValueError, listed
from .._model.declaration import Declaration
from .._names.selectors import Selector, matching
from .._tree.vartree import VarTree
from ..formats._entry import dtype_name
from ..formats._python_values import python_dtype
from ..sharding import AnyMesh, Rules
from ._naming import flatten
from ._stacks import Place, slices_of
from ._values import left_out

ALL_IN_TARGET = "Leave select= out to restore all variables."


@dataclasses.dataclass(frozen=True)
class Target:
    """A pytree, taken apart.

    Attributes:
        leaves: Its leaves by name, in order; of a declaration, `jax.ShapeDtypeStruct`.
        rebuild: From leaves in this order to the pytree.
        selectable: The values that selectors see, by name: variables, or leaves if there are none.
        owner: From the name of a leaf to that of its selectable value.
        declared: The declaration, if the target is one.
        slices: From the leaves that are in stacks to the names of their slices, by place.
    """

    leaves: Mapping[str, Any]
    rebuild: Callable[[Sequence[Any]], Any]
    selectable: Mapping[str, Any]
    owner: Mapping[str, str]
    declared: Declaration | None = None
    slices: Mapping[str, Mapping[Place, str]] = dataclasses.field(default_factory=dict)


def take_apart(
    target: object, mesh: AnyMesh | None, rules: Rules, stacks: Iterable[str] = ()
) -> Target:
    """The leaves of a target, with names.

    Args:
        target: A pytree or a declaration.
        mesh: What a declaration's variables are laid out over.
        rules: As for `Declaration.abstract`.
        stacks: The scopes that are stacks; a declaration knows its own.

    Raises:
        CheckpointValueError: If leaves have the same name, or can't be restored; all are listed;
            or if ``stacks`` can't be.
        ShardingError: If ``rules`` don't fit.
    """
    declared = target if isinstance(target, Declaration) else None
    if declared is None and (mesh is not None or rules):
        raise CheckpointValueError(
            "`mesh` and `rules` lay a declaration's variables out, and the target is not a "
            "declaration. Give its leaves shardings instead, as in "
            "jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)."
        )
    pytree = target if declared is None else declared.abstract(mesh, rules=rules)
    named, structure = flatten(pytree, "The target")
    _check(named)
    leaves = dict(named)
    slices = slices_of(leaves, stacks, declared)
    if not isinstance(pytree, VarTree):
        owner = {name: name for name in leaves}
        return Target(leaves, structure.unflatten, leaves, owner, slices=slices)
    # A value that is a pytree has several leaves.
    owners = list(pytree)
    if owners != list(leaves):
        owners = [name for name, value in pytree.items() for _ in _leaves(value)]
    owner = dict(zip(leaves, owners, strict=True))
    # A predicate sees a declaration's specs, so that it can pick trainable variables.
    selectable = pytree if declared is None else declared
    return Target(leaves, structure.unflatten, selectable, owner, declared, slices)


def selected(target: Target, selector: Selector | None, hint: str) -> frozenset[str]:
    """The leaves that a selector picks; all of them if it is None.

    Args:
        target: The target.
        selector: The selector.
        hint: What to write if it picks nothing and that is meant.

    Raises:
        SelectorError: If it matches nothing.
    """
    if selector is None:
        return frozenset(target.leaves)
    chosen = matching(target.selectable, selector, hint=hint)
    return frozenset(name for name, owner in target.owner.items() if owner in chosen)


def asked_for(saved: Mapping[str, Any], selector: Selector | None) -> frozenset[str]:
    """Which of the names that only the checkpoint has a selector picks by name.

    A predicate applies to the target's variables only, and so does a mapping.
    """
    if selector is None:
        return frozenset(saved)
    if isinstance(selector, str | re.Pattern):
        return matching(saved, selector, allow_empty=True)
    if isinstance(selector, Collection) and not isinstance(selector, Mapping):
        return frozenset().union(*(asked_for(saved, part) for part in selector))
    return frozenset()


def _check(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse leaves that can't be restored."""
    tracers = [name for name, leaf in named if isinstance(leaf, jax.core.Tracer)]
    if tracers:
        raise CheckpointValueError(
            f"The target holds tracers: {listed(tracers)}. A restore reads files; call it outside "
            "of jit, grad and vmap and pass its result in."
        )
    strange = [f"{n!r} is a {type(leaf).__name__}" for n, leaf in named if not _is_known(leaf)]
    if strange:
        raise CheckpointValueError(
            f"The target holds what can't be restored: {'; '.join(strange[:10])}. A leaf is an "
            "array, a jax.ShapeDtypeStruct, a number or string of Python, or None. Give classes "
            "of your own to jax.tree_util.register_dataclass, with static fields for the rest.",
            left_out([leaf for _, leaf in named if not _is_known(leaf)], "target"),
        )
    placeless = [name for name, leaf in named if _is_placeless(leaf)]
    if placeless:
        raise CheckpointValueError(
            f"The target's shardings name no devices: {listed(placeless)} are over an AbstractMesh."
            " Give their jax.ShapeDtypeStruct a sharding over a jax.sharding.Mesh, or none."
        )
    check_shardings(named)


def check_shardings(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse shardings that don't cut their leaves into equal shards, before anything is read.

    Raises:
        CheckpointValueError: If there are such; all are listed.
    """
    uncut = []
    for name, leaf in named:
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, jax.sharding.Sharding) and not isinstance(leaf, jax.Array):
            try:
                sharding.shard_shape(tuple(leaf.shape))
            except ValueError:
                spec = getattr(sharding, "spec", sharding)
                mesh = f" over {dict(sharding.mesh.shape)}" if hasattr(sharding, "mesh") else ""
                uncut.append(f"\n  {name!r} of shape {tuple(leaf.shape)} by {spec}{mesh}")
    if uncut:
        count = "1 leaf" if len(uncut) == 1 else f"{len(uncut)} leaves"
        raise CheckpointValueError(
            f"The target's shardings don't cut {count} into equal shards; nothing was read:"
            f"{''.join(uncut)}\nGive their jax.ShapeDtypeStruct another PartitionSpec, such as "
            "jax.sharding.PartitionSpec(), or another mesh."
        )


def _leaves(value: object) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=lambda x: x is None)


def _is_known(leaf: object) -> bool:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return python_dtype(leaf) is not None
    try:
        dtype_name(leaf.dtype)
    except TypeError:  # another library's
        return False
    return True


def _is_placeless(leaf: object) -> bool:
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    return isinstance(mesh, jax.sharding.AbstractMesh)


def without_value(leaf: object) -> bool:
    """Whether a leaf can't be kept: it is abstract, or its buffer is gone."""
    if isinstance(leaf, jax.Array):
        return leaf.is_deleted()
    return hasattr(leaf, "shape") and not isinstance(leaf, np.ndarray | np.generic)
