"""From bytes on the host to a value like a target's leaf.

A restored value has the leaf's type: of NumPy where that is NumPy's, a number of Python where
that is one, else a `jax.Array` with the leaf's sharding. It is committed to those devices if the
leaf is, as an array that was placed on purpose; a leaf that is abstract without a sharding, or
was made by plain JAX code, gives an array that JAX may move to other arrays' devices. It is
as weakly typed as the leaf, so that a function which was traced for the leaf is not traced again.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from .._dtypes import Lost, converted, lost_text
from .._errors import TreeMismatchError
from .._weak_types import as_weak_as
from ..formats._boxes import Array, Box, of_slices, whole
from ..formats._entry import Entry, dtype_name
from ..formats._python_values import is_python, python_value
from ._account import signature_text, stands_for_python
from ._values import key_dtype


class CallerError(Exception):
    """What the caller gave is the cause, not the checkpoint: a target or a function.

    Attributes:
        error: What JAX raised when a value was placed, or the function.
    """

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


def regions(leaf: object, entry: Entry) -> list[Box]:
    """Which boxes of the stored array this process needs."""
    sharding = sharding_of(leaf)
    as_saved = entry.key_impl is None and getattr(leaf, "shape", None) == entry.shape
    if sharding is None or not as_saved:
        return [whole(entry.stored_shape)]
    indices = sharding.addressable_devices_indices_map(entry.shape).values()
    return list(dict.fromkeys(of_slices(index or (), entry.shape) for index in indices))


def place(name: str, leaf: Any, entry: Entry, boxes: Mapping[Box, Array]) -> object:
    """The value, from the stored array's boxes that `regions` named.

    Raises:
        TreeMismatchError: If the leaf's dtype can't hold a value: a line for `cannot_convert`.
        CallerError: If JAX refuses.
    """
    if not hasattr(leaf, "dtype") or stands_for_python(leaf, entry):
        return _as_python(name, leaf, entry, boxes)
    shape, dtype = tuple(leaf.shape), dtype_name(leaf.dtype)
    if entry.key_impl is not None:
        (data,) = boxes.values()
        with _device_of(leaf):
            return _keys(data, entry, shape, sharding_of(leaf))
    if is_python(entry.dtype):
        boxes = {(): np.asarray(python_value(entry.dtype, entry.value))}
    values, lost = {}, Lost()
    for box, data in boxes.items():
        values[box], not_held = converted(_elements(entry, data), dtype)
        lost = lost.and_those(not_held)
    if lost.count:
        size = sum(array.size for array in values.values())
        raise TreeMismatchError(lost_text(name, entry.dtype, size, dtype, lost))
    if isinstance(leaf, np.ndarray | np.generic):
        (array,) = values.values()
        array = array.reshape(shape)
        return array[()] if isinstance(leaf, np.generic) else array
    try:
        return as_weak_as(leaf, _on_devices(leaf, shape, values))
    except Exception as error:
        where = f" with {leaf.sharding}" if getattr(leaf, "sharding", None) is not None else ""
        text = signature_text(shape, dtype)
        error.add_note(f"{name!r} was read, and can't be made a jax.Array {text}{where}.")
        raise CallerError(error) from error


def on_host(entry: Entry, data: Array) -> Array | jax.Array:
    """A value on the host, from a box of the stored array; keys are JAX's."""
    if entry.key_impl is not None:
        return _keys(data, entry, data.shape[:-1], None)
    return _elements(entry, data)


def _elements(entry: Entry, data: Array) -> Array:
    """Stored elements as elements of the value; the same bits."""
    return data if entry.is_as_it_is else data.view(np.dtype(entry.dtype))


def sharding_of(leaf: object) -> Sharding | None:
    """The sharding to which a leaf is committed, if it is."""
    if isinstance(leaf, jax.Array) and not leaf.committed:
        # Restored to be uncommitted too: a committed array can't meet one of other devices.
        return None
    sharding = getattr(leaf, "sharding", None)
    return sharding if isinstance(sharding, Sharding) else None


def _device_of(leaf: object) -> contextlib.AbstractContextManager[Any]:
    """The device of new arrays that are not committed: the leaf's."""
    if isinstance(leaf, jax.Array):
        device: contextlib.AbstractContextManager[Any] = jax.default_device(
            next(iter(leaf.sharding.device_set))
        )
        return device
    return contextlib.nullcontext()


def _as_python(name: str, leaf: object, entry: Entry, boxes: Mapping[Box, Array]) -> object:
    if is_python(entry.dtype):
        value = python_value(entry.dtype, entry.value)
    else:
        (array,) = boxes.values()
        value = _elements(entry, array).item()
    if hasattr(leaf, "dtype") or type(value) is type(leaf):
        return value
    return _of_type(type(leaf), name, value, entry)


def _of_type(kind: type[Any], name: str, value: object, entry: Entry) -> object:
    """A number as another of Python's types; a whole number as the same number."""
    try:
        converted_value = kind(value)
        is_lost = isinstance(value, int) and converted_value != value
    except OverflowError:  # an int that is larger than all floats
        is_lost = True
    if is_lost:
        raise TreeMismatchError(
            f"{name!r} can't be converted from {entry.dtype} to python {kind.__name__}, which "
            f"can't hold its value {value}"
        )
    return converted_value


def _keys(
    data: Array, entry: Entry, shape: tuple[int, ...], sharding: Sharding | None
) -> jax.Array:
    data = data.reshape((*shape, *data.shape[-1:]))
    key_dtype(entry)  # there are such here
    impl = str(entry.key_impl)
    keys: jax.Array
    if isinstance(sharding, NamedSharding) and not sharding.is_fully_addressable:
        unsharded = (None,) * (data.ndim - len(sharding.spec))
        sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, *unsharded))
        arrays = jax.make_array_from_callback(data.shape, sharding, data.__getitem__)
        keys = jax.random.wrap_key_data(arrays, impl=impl)
        return keys
    keys = jax.random.wrap_key_data(jnp.asarray(data), impl=impl)
    return keys if sharding is None else jax.device_put(keys, sharding)


def _on_devices(leaf: object, shape: tuple[int, ...], values: Mapping[Box, Array]) -> jax.Array:
    sharding = sharding_of(leaf)
    placed: jax.Array
    if sharding is None or len(sharding.device_set) == 1:
        (array,) = values.values()
        with _device_of(leaf):
            placed = jax.device_put(array.reshape(shape), sharding)
        return placed
    box, array = next(iter(values.items()))
    if len(values) == 1 and box == whole(array.shape):
        # All of it, perhaps of another shape.
        array = array.reshape(shape)
        return jax.make_array_from_callback(shape, sharding, array.__getitem__)
    parts = [
        jax.device_put(
            values[of_slices(index or (), shape)],
            SingleDeviceSharding(device, memory_kind=sharding.memory_kind),
        )
        for device, index in sharding.addressable_devices_indices_map(shape).items()
    ]
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)
