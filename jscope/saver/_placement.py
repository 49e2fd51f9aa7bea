"""From bytes on the host to a value like a target's leaf.

A restored value has the leaf's type: of NumPy where that is NumPy's, a number of Python where
that is one, else a `jax.Array` with the leaf's sharding. It is committed to those devices if the
leaf is, as an array that was placed on purpose; a leaf that is abstract without a sharding, or
was made by plain JAX code, gives an array that JAX may move to other arrays' devices. It is
as weakly typed as the leaf, so that a function which was traced for the leaf is not traced again.
"""

import contextlib
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from .._dtypes import Lost, converted, lost_text
from .._errors import TreeMismatchError
from ..formats._boxes import Array, Box, of_slices, view, whole
from ..formats._own_entry import Entry, dtype_name
from ..formats._per_process import PerProcess
from ..formats._python_values import is_python, python_value
from ._comparison import signature_text, stands_for_python
from ._encoding import key_dtype
from ._processes import count

# The bytes, and the number, of arrays that go to devices together: in a loop that does nothing else
# JAX takes half of the time. On a CPU they are not copied, elsewhere they are freed after it.
_TOGETHER = 8 << 20
_MOST_TOGETHER = 200


class CallerError(Exception):
    """JAX refuses to place a value as the target has it, or a function of the caller's fails.

    Attributes:
        error: What JAX raised when a value was placed, or the function.
    """

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


def regions(leaf: object, entry: Entry) -> tuple[Box, ...]:
    """Which boxes of a stored array a leaf's placement needs in this process."""
    sharding = _dividing(leaf, entry)
    if sharding is None or (sharding.is_fully_replicated and sharding.is_fully_addressable):
        return (whole(entry.stored_shape),)
    indices = sharding.addressable_devices_indices_map(entry.shape).values()
    return tuple(dict.fromkeys(of_slices(index or (), entry.shape) for index in indices))


def needed_by(leaf: object, entry: Entry) -> Mapping[Box, tuple[int, ...]]:
    """Which boxes of a stored array a leaf's placement needs, and in which processes.

    An array of one process is one of its own in each of them.
    """
    sharding = _dividing(leaf, entry)
    if sharding is None or sharding.is_fully_addressable:
        return {whole(entry.stored_shape): tuple(range(count()))}
    return _by_sharding(sharding, entry.shape)


def _dividing(leaf: object, entry: Entry) -> Sharding | None:
    """The sharding of a leaf's placement, if it divides the array as it is stored."""
    as_saved = entry.key_impl is None and getattr(leaf, "shape", None) == entry.shape
    return sharding_of(leaf) if as_saved else None


@functools.lru_cache(1 << 10)
def _by_sharding(sharding: Sharding, shape: tuple[int, ...]) -> Mapping[Box, tuple[int, ...]]:
    """Which boxes a placement by a sharding needs, and in which processes."""
    found: dict[Box, set[int]] = {}
    devices: Any = sharding.devices_indices_map(shape)
    for device, index in devices.items():
        found.setdefault(of_slices(index or (), shape), set()).add(device.process_index)
    return {box: tuple(sorted(processes)) for box, processes in found.items()}


class Placing:
    """Places values as a target's leaves have them: on their devices, with their shardings.

    Attributes:
        values: Those that are done, by name; after `flush` that is all of them.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        # By name shape, sharding and parts; of those that are not to be committed, by device.
        self._committed: dict[str, tuple[tuple[int, ...], Sharding, Mapping[Box, Array]]] = {}
        self._uncommitted: dict[jax.Device | None, dict[str, Array]] = {}
        self._nbytes = self._count = 0

    def add(self, name: str, leaf: Any, entry: Entry, boxes: Mapping[Box, Array]) -> None:
        """Take the stored array's boxes that `regions` named; they are not to be changed later.

        Raises:
            TreeMismatchError: If the leaf's dtype can't hold a value: a line for `cannot_convert`.
            CallerError: If JAX refuses this one, or one that was taken before.
        """
        if not hasattr(leaf, "dtype") or stands_for_python(leaf, entry):
            self.values[name] = _as_python(name, leaf, entry, boxes)
            return
        shape, dtype = tuple(leaf.shape), dtype_name(leaf.dtype)
        if entry.key_impl is not None:
            (data,) = boxes.values()
            with _default_device(_device_of(leaf)):
                self.values[name] = _placed_keys(data, entry, shape, sharding_of(leaf))
            return
        arrays = _converted(name, entry, boxes, dtype)
        if isinstance(leaf, np.ndarray | np.generic):
            (array,) = arrays.values()
            array = array.reshape(shape)
            self.values[name] = array[()] if isinstance(leaf, np.generic) else array
            return
        sharding = sharding_of(leaf)
        if sharding is not None:
            self._committed[name] = shape, sharding, arrays
        else:
            (array,) = arrays.values()
            self._uncommitted.setdefault(_device_of(leaf), {})[name] = array.reshape(shape)
        self._nbytes += sum([array.nbytes for array in arrays.values()])
        self._count += 1
        if self._nbytes >= _TOGETHER or self._count == _MOST_TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Send what waits to its devices.

        Raises:
            CallerError: If JAX refuses it, with the name of a variable.
        """
        committed, self._committed = self._committed, {}
        uncommitted, self._uncommitted = self._uncommitted, {}
        self._nbytes = self._count = 0
        for name, (shape, sharding, arrays) in committed.items():
            try:
                self.values[name] = _committed(shape, sharding, arrays)
            except Exception as error:
                dtype = dtype_name(next(iter(arrays.values())).dtype)
                raise _refused(name, shape, dtype, f" with {sharding}", error) from error
        for device, several in uncommitted.items():
            with _default_device(device):
                try:
                    placed = jax.device_put([*several.values()])
                except Exception:
                    placed = [_alone(name, array) for name, array in several.items()]
            self.values.update(zip(several, placed, strict=True))


def _alone(name: str, array: Array) -> jax.Array:
    """Place one of several arrays that JAX has refused together, if it isn't the cause."""
    try:
        placed: jax.Array = jax.device_put(array)
        return placed
    except Exception as error:
        raise _refused(name, array.shape, dtype_name(array.dtype), "", error) from error


def _refused(
    name: str, shape: tuple[int, ...], dtype: str, where: str, error: Exception
) -> CallerError:
    """Compose the error: JAX refuses to place a value that was read."""
    text = signature_text(shape, dtype)
    error.add_note(f"{name!r} was read, and can't be made a jax.Array {text}{where}.")
    return CallerError(error)


def _committed(
    shape: tuple[int, ...], sharding: Sharding, arrays: Mapping[Box, Array]
) -> jax.Array:
    """A value placed with a sharding, from its parts for the devices of this process."""
    array = next(iter(arrays.values()))
    if array.size == math.prod(shape):  # all of it, perhaps of another shape
        array = array.reshape(shape)
        return jax.make_array_from_callback(shape, sharding, lambda index: view(array, index or ()))
    return jax.make_array_from_callback(
        shape, sharding, lambda index: arrays[of_slices(index or (), shape)]
    )


def _converted(
    name: str, entry: Entry, boxes: Mapping[Box, Array], dtype: str
) -> Mapping[Box, Array]:
    """The boxes of a value that is to be placed, converted to the leaf's dtype."""
    if entry.dtype == entry.stored_dtype == dtype:
        return boxes
    if is_python(entry.dtype):
        boxes = {(): np.asarray(python_value(entry.dtype, entry.value))}
    arrays, lost = {}, Lost()
    for box, data in boxes.items():
        arrays[box], not_held = converted(_elements(entry, data), dtype)
        lost = lost.and_those(not_held)
    if lost.count:
        size = sum(array.size for array in arrays.values())
        raise TreeMismatchError(lost_text(name, entry.dtype, size, dtype, lost))
    return arrays


def on_host(entry: Entry, data: Array) -> Array | jax.Array:
    """A value that is placed on the host, from a box of the stored array; keys are JAX's."""
    if entry.key_impl is not None:
        return _placed_keys(data, entry, data.shape[:-1], None)
    return _elements(entry, data)


def _elements(entry: Entry, data: Array) -> Array:
    """The stored elements of a value that is placed, as elements of its dtype; the same bits."""
    return data if entry.is_as_it_is else data.view(np.dtype(entry.dtype))


def sharding_of(leaf: object) -> Sharding | None:
    """The sharding to place a restored value with: its leaf's, if the leaf is committed to one."""
    if isinstance(leaf, jax.Array) and not leaf.committed:
        # Restored to be uncommitted too: a committed array can't meet one of other devices.
        return None
    sharding = getattr(leaf, "sharding", None)
    return sharding if isinstance(sharding, Sharding) else None


def _device_of(leaf: object) -> jax.Device | None:
    """The device where values are placed uncommitted: the leaf's; None is the default one."""
    if isinstance(leaf, jax.Array):
        device: jax.Device = next(iter(leaf.sharding.device_set))
        return device
    return None


def _default_device(device: jax.Device | None) -> contextlib.AbstractContextManager[Any]:
    """Place the values restored in the body on a device; for None on the default one."""
    if device is None:
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = jax.default_device(device)
    return context


def _as_python(name: str, leaf: object, entry: Entry, boxes: Mapping[Box, Array]) -> object:
    """A value that is placed in a leaf that is a number, a string or None of Python."""
    if is_python(entry.dtype):
        value = python_value(entry.dtype, entry.value)
    else:
        (array,) = boxes.values()
        value = _elements(entry, array).item()
    if hasattr(leaf, "dtype") or type(value) is type(leaf) or isinstance(leaf, PerProcess):
        return value
    return _of_type(type(leaf), name, value, entry)


def _of_type(kind: type[Any], name: str, value: object, entry: Entry) -> object:
    """A number that is placed in a leaf of another of Python's types, the same if it is whole."""
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


def _placed_keys(
    data: Array, entry: Entry, shape: tuple[int, ...], sharding: Sharding | None
) -> jax.Array:
    """PRNG keys that are placed as a leaf has them."""
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


def as_weak_as(leaf: object, array: jax.Array) -> jax.Array:
    """A placed array, weakly typed if a leaf of a target is: the same values, device, sharding.

    ``jnp.asarray(1.0)``, a step counter that began as a number of Python, and what a jitted
    function makes of one are weakly typed: their dtype gives way to another operand's. Weak types
    are part of the key of JAX's cache of traces, so an array that lost its weak type causes one
    more trace.
    """
    if not getattr(leaf, "weak_type", False):
        return array
    device = None if array.committed else next(iter(array.devices()))
    with jax.default_device(device):
        # No function of JAX's public API makes an array of any shape weak; this is what it does
        # within, by the one name that is exported (JAX 0.10.2 to 0.12.0).
        weak: jax.Array = jax.lax.convert_element_type_p.bind(
            array, new_dtype=array.dtype, weak_type=True, sharding=None
        )
    # Over explicit axes JAX spells P("x") as P("x", None), which are two for its caches.
    return weak if weak.sharding == array.sharding else jax.device_put(weak, array.sharding)
