"""The target of a restore: what its leaves are, which of them are restored, and how it is rebuilt.

**Without a target** a checkpoint's own names, dtypes and shapes are expected, and the result is
what was saved: a `VarTree`, or the containers of the pytree. Where only a part is requested, or
names are changed, and where a checkpoint has no containers, such as files of TensorFlow,
safetensors and NumPy, it is a `VarTree`.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._errors import CheckpointValueError, MissingVariableError, VariableNameError, listed, near
from .._model.declaration import Declaration
from .._names.names import check
from .._names.selectors import Selector, matching
from .._stores.remote import AnyPath
from .._tree.vartree import VarTree, from_flat
from ..formats._own_entry import Entry, dtype_name
from ..formats._per_process import PerProcess
from ..formats._python_values import PER_PROCESS, PythonValue, is_python, python_dtype, python_value
from ..formats._source import Source
from ..sharding import AnyMesh, Rules
from ._encoding import key_dtype, left_out
from ._leaves import ALL_IN_VAR_LIST, Place, VarList, flatten, slices_of
from ._renaming import Renamed

ALL_IN_TARGET = "Leave select= out to restore all variables."


@dataclasses.dataclass(frozen=True)
class Target:
    """The target of a restore, taken apart into leaves.

    Attributes:
        leaves: Its leaves by name, in order; of a declaration, `jax.ShapeDtypeStruct`.
        rebuild: From leaves in this order to the pytree.
        selectable: The values that selectors see, by name: variables, or leaves if there are none.
        owner: From the name of a leaf to that of its selectable value, where it is another one.
        declared: The declaration, if the target is one.
        slices: From the leaves that are in stacks to the names of their slices, by place.
    """

    leaves: Mapping[str, Any]
    rebuild: Callable[[Sequence[Any]], Any]
    selectable: Mapping[str, Any]
    owner: Mapping[str, str] = dataclasses.field(default_factory=dict)
    declared: Declaration | None = None
    slices: Mapping[str, Mapping[Place, str]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def places(self) -> Mapping[str, tuple[str, Place]]:
        """From each name, those of slices included, to its leaf and the place in it."""
        whole = {name: (name, ()) for name in self.leaves}
        return {p: (n, at) for n, of in self.slices.items() for at, p in of.items()} | whole


def take_apart(
    target: object, mesh: AnyMesh | None, rules: Rules, stacks: Iterable[str] = ()
) -> Target:
    """Take a target apart into its leaves, with names.

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
    _check_target(named)
    leaves = dict(named)
    slices = slices_of(leaves, stacks, declared)
    if not isinstance(pytree, VarTree):
        return Target(leaves, structure.unflatten, leaves, slices=slices)
    # A value that is a pytree has several leaves.
    owner = {}
    if list(pytree) != list(leaves):
        owners = [name for name, value in pytree.items() for _ in _leaves_of_value(value)]
        owner = dict(zip(leaves, owners, strict=True))
    # A predicate sees a declaration's specs, so that it can pick trainable variables.
    selectable = pytree if declared is None else declared
    return Target(leaves, structure.unflatten, selectable, owner, declared, slices)


def selected(target: Target, selector: Selector | None, hint: str) -> frozenset[str]:
    """The leaves of the target that a selector picks; all of them if it is None.

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
    return frozenset(name for name in target.leaves if target.owner.get(name, name) in chosen)


def asked_for(saved: Mapping[str, Any], selector: Selector | None) -> frozenset[str]:
    """Which names that the target doesn't have, and the checkpoint has, a selector picks.

    A predicate applies to the target's variables only, and so does a mapping.
    """
    if selector is None:
        return frozenset(saved)
    if isinstance(selector, str | re.Pattern):
        return matching(saved, selector, allow_empty=True)
    if isinstance(selector, Collection) and not isinstance(selector, Mapping):
        return frozenset().union(*(asked_for(saved, part) for part in selector))
    return frozenset()


def _check_target(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse a target with leaves that can't be restored."""
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
    """Refuse a target with leaves that their shardings don't cut into equal shards.

    Raises:
        CheckpointValueError: If there are such; all are listed.
    """
    uncut = []
    for name, leaf in named:
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, jax.sharding.Sharding) or isinstance(leaf, jax.Array):
            continue
        if not sharding.is_fully_replicated:
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


def _leaves_of_value(value: object) -> list[Any]:
    """Take one value of a target apart into its leaves, None among them."""
    return jax.tree.leaves(value, is_leaf=lambda x: x is None)


def _is_known(leaf: object) -> bool:
    """Whether a leaf of a target is of a type that can be restored."""
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return python_dtype(leaf) is not None
    try:
        dtype_name(leaf.dtype)
    except TypeError:  # another library's
        return False
    return True


def _is_placeless(leaf: object) -> bool:
    """Whether a leaf of a target can't be restored to devices, as its sharding names none."""
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    return isinstance(mesh, jax.sharding.AbstractMesh)


def without_value(leaf: object) -> bool:
    """Whether a leaf of a target has no value to keep: it is abstract, or its buffer is gone."""
    if isinstance(leaf, jax.Array):
        return leaf.is_deleted()
    return hasattr(leaf, "shape") and not isinstance(leaf, np.ndarray | np.generic)


# Without a target.


# Illegal names that an error shows.
_SHOWN = 10


def whole(
    source: Source,
    renamed: Renamed,
    entries: Mapping[str, Entry],
    select: Selector | None,
    var_list: VarList | None,
) -> Target:
    """The target of a restore without one: all that is saved, or what is selected of it.

    Args:
        source: The checkpoint.
        renamed: The names of its variables, those of ``var_list`` if it is a dict.
        entries: What is saved, or made of it by functions, by these names.
        select: As for `Saver.restore`, of the new names.
        var_list: As for `Saver`.

    Raises:
        SelectorError: If a selector picks nothing.
        VariableNameError: If the result would be a `VarTree` and names are illegal; all are listed.
        ValueError: If the checkpoint's description of its containers is damaged.
    """
    is_all = select is None and var_list is None and not renamed.through
    is_all = is_all and all(name == old for name, old in renamed.saved.items())
    containers = source.containers if is_all else None
    if containers is not None:
        containers.filled([None] * len(containers.names))  # before anything is read
        leaves = {name: leaf_as_saved(source.entries[name]) for name in containers.names}
        return Target(leaves, containers.filled, leaves)
    leaves = {name: leaf_as_saved(entries[name]) for name in renamed.saved}
    if isinstance(var_list, Mapping):
        var_list = None
    for selector, hint in ((select, ALL_IN_TARGET), (var_list, ALL_IN_VAR_LIST)):
        if selector is not None:
            chosen = matching(leaves, selector, hint=hint)
            leaves = {name: leaf for name, leaf in leaves.items() if name in chosen}
    check_legal(source.path, {name: renamed.saved[name] for name in leaves})

    def tree(values: Sequence[Any]) -> VarTree:
        return from_flat(dict(zip(leaves, values, strict=True)))

    return Target(leaves, tree, leaves)


def check_listed(source: Source, renamed: Renamed, var_list: VarList | None) -> None:
    """Refuse a ``var_list`` of names that are not saved, where there is no target.

    Raises:
        MissingVariableError: If it is a dict, and has such.
    """
    given = var_list if isinstance(var_list, Mapping) else ()
    missing = [saved for saved in given if saved not in renamed.saved]
    if missing:
        raise MissingVariableError(
            f"var_list has {listed(missing)}, which the checkpoint {source.path} does not have "
            f"({near(missing[0], renamed.saved)})."
        )


def check_legal(path: AnyPath, names: Mapping[str, str]) -> None:
    """Refuse names of a restore without a target that a `VarTree` can't have.

    Args:
        path: The checkpoint's.
        names: From the names of the result to the saved ones.

    Raises:
        VariableNameError: If there are such; all are listed.
    """
    illegal = {name: text for name in names if (text := _what_is_wrong(name))}
    if illegal:
        shown = "\n  ".join(list(illegal.values())[:_SHOWN])
        location = str(path)
        raise VariableNameError(
            f"{len(illegal)} of {len(names)} names in {path} aren't legal in a VarTree:\n  {shown}",
            f"\nWrite saver.restore(step={location!r}, rename=function), with a function from each "
            "saved name to a legal one, or read them one by one: "
            f"saver.open({location!r})[{names[next(iter(illegal))]!r}].read().",
        )


def _what_is_wrong(name: str) -> str:
    """Why a name can't be in a `VarTree` without a target; empty if it can."""
    try:
        check(name)
    except VariableNameError as error:
        return str(error)
    return ""


def leaf_as_saved(entry: Entry) -> jax.ShapeDtypeStruct | PythonValue | PerProcess:
    """A leaf of a target that expects a value exactly as it is saved."""
    if entry.dtype == PER_PROCESS:
        return PerProcess(None)
    if is_python(entry.dtype):
        return python_value(entry.dtype, entry.value)
    if entry.key_impl is None:
        return jax.ShapeDtypeStruct(entry.shape, np.dtype(entry.dtype))
    return jax.ShapeDtypeStruct(entry.shape, key_dtype(entry))
