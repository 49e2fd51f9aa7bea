"""The target of a restore: what may be one, and how its arrays come to where it has them.

A restored array has the sharding of the target's leaf. It is committed to those devices if
the leaf is, as an array that was placed on purpose; a leaf that is NumPy's, abstract without
a sharding, or was made by plain JAX code gives an array that JAX may move to where others are.

Imports: `_errors`, `_tree` and the files beside this one; JAX and NumPy.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._errors import CheckpointValueError, listed
from .._tree import VarTree
from . import _orbax, _packing
from ._checksums import first_damaged
from ._entries import ORBAX, PACKED, Entry
from ._values import dtype_name, named_leaves, unstore


def check_target(tree: VarTree) -> None:
    """Refuse a target whose leaves can't be told apart, or have no place to be restored to."""
    named = named_leaves(tree)
    tracers = [name for name, leaf in named if isinstance(leaf, jax.core.Tracer)]
    if tracers:
        raise CheckpointValueError(
            f"The target holds tracers: {listed(tracers)}. A restore reads files; call it outside "
            "of jit, grad and vmap and pass its result in."
        )
    twins = sorted(name for name, count in Counter(name for name, _ in named).items() if count > 1)
    if twins:
        raise CheckpointValueError(
            f"The target has two leaves of one name: {listed(twins)}. A value that is a pytree has "
            "leaves named by their place in it, and another variable has that name."
        )
    placeless = [name for name, leaf in named if _is_placeless(leaf)]
    if placeless:
        raise CheckpointValueError(
            f"The target's shardings name no devices: {listed(placeless)} are over an AbstractMesh."
            " Give their jax.ShapeDtypeStruct a sharding over a jax.sharding.Mesh, or none."
        )


def _is_placeless(leaf: Any) -> bool:
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    return isinstance(mesh, jax.sharding.AbstractMesh)


def check_kept(tree: VarTree, chosen: frozenset[str], is_declaration: bool) -> None:
    """A result must have values only, so what is not restored must have one."""
    kept = VarTree({name: value for name, value in tree.items() if name not in chosen})
    absent = [name for name, leaf in named_leaves(kept) if _has_none(leaf)]
    if absent:
        what = "a declaration" if is_declaration else "abstract or deleted there"
        values = "declared.init(key)" if is_declaration else "a tree of values"
        part = "declared.abstract()" if is_declaration else "target"
        raise CheckpointValueError(
            f"{len(absent)} variables would be left without a value, since they are not selected "
            f"and the target is {what}: {listed(absent)}. To keep values for them write "
            f"saver.restore({values}, select=...); to restore the selected ones alone, "
            f"saver.restore(js.select({part}, ...), select='**')."
        )


def _has_none(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array):
        return leaf.is_deleted()
    # A ShapeDtypeStruct, or a declaration's spec.
    return hasattr(leaf, "shape") and not isinstance(leaf, np.ndarray | np.generic)


def read(path: Path, wanted: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Read the wanted leaves, which agree with their entries, to where they are wanted."""
    arrays: dict[str, Any] = {}
    packed = [name for name in wanted if entries[name].place == PACKED]
    if packed:
        file = os.open(path / _packing.FILE_NAME, os.O_RDONLY)
        try:
            arrays |= {name: _packing.read(file, entries[name]) for name in packed}
        finally:
            os.close(file)
    keys = {name: str(entries[name].key) for name in wanted if entries[name].place == ORBAX}
    if keys:
        requests = {key: _request(wanted[name], entries[name]) for name, key in keys.items()}
        found = _orbax.read(path, requests)
        arrays |= {name: found[key] for name, key in keys.items()}
    for name, array in arrays.items():
        _verify(name, entries[name], np.asarray(array))
    # Also where 64-bit dtypes are off: they would be truncated without a word.
    with jax.enable_x64(True):
        values = {
            name: _placed(leaf, entries[name], arrays.get(name)) for name, leaf in wanted.items()
        }
    for name, leaf in wanted.items():
        value = values[name]
        shape, dtype = value.shape, dtype_name(value.dtype)
        if (shape, dtype) != (tuple(leaf.shape), dtype_name(leaf.dtype)):
            raise ValueError(f"{name!r} was read as {dtype}{shape}")
    return values


def _verify(name: str, entry: Entry, array: np.ndarray[Any, Any]) -> None:
    damaged = first_damaged(entry, array)
    if damaged is not None:
        raise ValueError(
            f"{name!r} is damaged: the checksum of its part at {damaged.start} of shape "
            f"{damaged.shape} differs"
        )


def _request(leaf: Any, entry: Entry) -> Any:
    """What to ask Orbax for: an array straight on its devices, or one of NumPy's to be placed."""
    dtype = np.dtype(entry.stored_dtype)
    sharding = _sharding(leaf)
    if sharding is not None and entry.is_as_it_is and jax.dtypes.canonicalize_dtype(dtype) == dtype:
        return jax.ShapeDtypeStruct(entry.stored_shape, dtype, sharding=sharding)
    # An array of one element, seen as one of the whole shape.
    return np.broadcast_to(np.empty((), dtype), entry.stored_shape)


def _placed(leaf: Any, entry: Entry, array: Any) -> jax.Array:
    """The value, where the target has its own."""
    device = next(iter(leaf.sharding.device_set)) if isinstance(leaf, jax.Array) else None
    with contextlib.nullcontext() if device is None else jax.default_device(device):
        value = array if isinstance(array, jax.Array) else unstore(entry, array, leaf.dtype)
        placed: jax.Array = jax.device_put(value, _sharding(leaf))
    return placed


def _sharding(leaf: Any) -> jax.sharding.Sharding | None:
    """The sharding that a leaf is committed to, if it is."""
    if isinstance(leaf, jax.Array) and not leaf.committed:
        # Restored to be uncommitted too: a committed array can't meet one of other devices.
        return None
    sharding = getattr(leaf, "sharding", None)
    return sharding if isinstance(sharding, jax.sharding.Sharding) else None
