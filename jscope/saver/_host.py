"""Arrays of JAX on the host, without a cached copy in the arrays.

On a CPU the data of one device is viewed, not copied: NumPy's view holds the buffer, and JAX reuses
no buffer that is held, whether its array is deleted or donated. JAX keeps any other host copy in
the array from which it was made, for the array's lifetime: so here copies are made from temporary
arrays over the same buffers.
"""

from typing import Any

import jax
import numpy as np

from ._orbax import Array


def detached(array: jax.Array) -> jax.Array:
    """The same buffers, as a temporary array where a copy is needed, which is begun."""
    if _is_on_cpu(array):
        return array
    shards = [shard.data for shard in array.addressable_shards]
    ours = jax.make_array_from_single_device_arrays(array.shape, array.sharding, shards)
    ours.copy_to_host_async()
    return ours


def whole(array: Array) -> np.ndarray[Any, Any]:
    """All of an array, on any devices; all processes call it for the same arrays."""
    if isinstance(array, np.ndarray):
        return array
    if not (array.is_fully_addressable or array.is_fully_replicated):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    shards = detached(array).addressable_shards
    if len(shards) == 1 or array.is_fully_replicated:
        return np.asarray(shards[0].data)
    gathered = np.empty(array.shape, array.dtype)
    for shard in shards:
        if shard.replica_id == 0:
            gathered[shard.index] = np.asarray(shard.data)
    return gathered


def part(array: Array, place: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The values at some indices of the first axes, of which alone a copy is made.

    Args:
        array: An array of which this process has all values.
        place: The indices; of ``()`` it is all of the array.
    """
    if not place:
        return whole(array)
    if isinstance(array, np.ndarray):
        return np.asarray(array[place])
    shards = array.addressable_shards
    if array.is_fully_replicated:
        shards = shards[:1]
    found = np.empty(array.shape[len(place) :], array.dtype)
    for shard in shards:
        starts = [extent.start or 0 for extent in shard.index]
        inside = tuple(index - start for index, start in zip(place, starts, strict=False))
        if all(0 <= index < size for index, size in zip(inside, shard.data.shape, strict=False)):
            found[shard.index[len(place) :]] = np.asarray(_item(shard.data, inside))
    return found


def _item(data: jax.Array, place: tuple[int, ...]) -> jax.Array | np.ndarray[Any, Any]:
    # On a CPU without a computation, which would be compiled for each shape.
    return np.asarray(data)[place] if _is_on_cpu(data) else data[place]


def _is_on_cpu(array: jax.Array) -> bool:
    devices: Any = array.sharding.addressable_devices
    return all(device.platform == "cpu" for device in devices)
