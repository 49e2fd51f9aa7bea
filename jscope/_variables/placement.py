"""Placing initial values: on which devices they are, in buffers of their own.

No two variables share a buffer, so that a tree of them can be donated to a jitted step. Where a
sharding is given, each device computes, or gets, its own shard and no more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.typing import ArrayLike

# NumPy values.


def new_arrays(values: Sequence[np.ndarray[Any, Any]], root: Array) -> list[Array]:
    """Initial values by NumPy, placed where programs with this root key place theirs."""
    device = root.sharding if root.committed and root.is_fully_replicated else None
    sources = {id(value): unaligned(value) for value in values}
    arrays: list[Array] = jax.device_put([sources[id(value)] for value in values], device)
    return arrays


def unaligned(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An initial value to place, in memory that JAX copies, so that no two variables share it.

    On a CPU it uses the memory of NumPy's arrays where that is aligned to 64 bytes. Then two arrays
    of one value would share it, and none could be donated.
    """
    if value.flags.c_contiguous and value.ctypes.data % 64:
        return value
    memory = np.empty(value.nbytes + 128, np.uint8)
    at = 64 - memory.ctypes.data % 64 + max(value.itemsize, 1)
    copy: np.ndarray[Any, Any] = memory[at : at + value.nbytes].view(value.dtype)
    copy = copy.reshape(value.shape)
    copy[...] = value
    return copy


def in_shards(value: np.ndarray[Any, Any], sharding: NamedSharding) -> Array:
    """An initial value by NumPy, placed over the devices of a sharding."""
    return jax.make_array_from_callback(value.shape, sharding, lambda index: np.array(value[index]))


# In a trace, and values that exist.


def placed(
    compute: Callable[..., Array], sharding: NamedSharding | None, *arrays: ArrayLike
) -> Array:
    """An initial value, computed in a trace such that each device computes the shard it holds."""
    if sharding is None:
        return compute(*arrays)
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        # Under an explicit mesh a new array is whole on each device, unless its sharding is given.
        sharded: Any = jax.sharding.auto_axes(compute, out_sharding=sharding)(*arrays)
    else:
        sharded = lax.with_sharding_constraint(compute(*arrays), traceable(sharding))
    value: Array = sharded
    return value


def traceable(sharding: NamedSharding) -> NamedSharding:
    """The placement of an initial value as a sharding that JAX accepts in a trace.

    A mesh with explicit axes is one for types, and types with shardings need `jax.set_mesh`.
    Without it, the same devices are an automatic mesh.
    """
    mesh = sharding.mesh
    if AxisType.Explicit not in mesh.axis_types or not jax.sharding.get_abstract_mesh().empty:
        return sharding
    automatic = (AxisType.Auto,) * len(mesh.axis_names)
    same: Any = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)
    return NamedSharding(same, sharding.spec)


def put(value: Array, sharding: NamedSharding | None) -> Array:
    """An initial value, or one given in its place, placed over the devices of a sharding."""
    if sharding is None:
        return value
    if isinstance(value, jax.core.Tracer):
        return placed(jnp.asarray, sharding, value)
    moved: Array = jax.device_put(value, sharding)
    return moved
