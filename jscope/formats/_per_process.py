"""`PerProcess`, a value that each process of a program has its own of, as text and back.

The text is a JSON list with one member for each process, in their order::

    value := null | true | false | string | whole number of at most 64 bits | [value, ...]
           | {"tuple": [value, ...]} | {"dict": [[key, value], ...]}
           | {"number": hexadecimal} | {"float": 16 hexadecimal digits} | {"complex": 32 of them}
           | {"bytes": base64} | {"array": [dtype, shape, base64]}
           | {"scalar": [dtype, [], base64]} | {"keys": [name, shape, base64]}

Keys of a dict are strings or whole numbers. Arrays and scalars are NumPy's, their elements in C
order and little-endian; ``keys`` are typed PRNG keys, by the name of their implementation, the
shape and the bytes of their data. So every value comes back to the last bit, and of the same type;
only arrays of JAX come back as NumPy's.
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import ml_dtypes
import numpy as np

from .._errors import CheckpointValueError

# What is done where a checkpoint has the values of another number of processes: from them all, in
# the order of the processes, the number of this process, and how many there are, to its value.
OnOtherCount: TypeAlias = Literal["error"] | Callable[[Sequence[Any], int, int], Any]

_LONGEST_INT = 1 << 64
# Of the tuples of `random.getstate()`, of iterators inside iterators.
_DEEPEST = 100
_FORBIDDEN = "OSUVMm"  # the kinds of NumPy's dtypes that are not numbers


@runtime_checkable
class Stateful(Protocol):
    """An object that gives its state and takes it back, as Grain's iterators."""

    def get_state(self) -> Any: ...

    def set_state(self, state: Any, /) -> None: ...


class PerProcess:
    """A value in a tree of which each process saves its own, and gets it back.

    >>> saver.save({"params": params, "data": js.PerProcess(iterator)}, step)   # doctest: +SKIP
    >>> target = {"params": declared.abstract(), "data": js.PerProcess(iterator)}  # doctest: +SKIP
    >>> state = saver.restore(target)                                           # doctest: +SKIP

    Of all other values a save writes one, and those of all processes must be equal.

    Args:
        value: An object with ``get_state()`` and ``set_state(state)``, such as a data iterator of
            Grain: its state is saved, and a restore sets the state of the target's object, when
            all else has been read. Or the value itself, such as ``rng.bit_generator.state``: None,
            numbers, strings, bytes, arrays of this process, PRNG keys, in dicts, lists and tuples.
            A restore returns a new `PerProcess` of the saved one, whatever the target's is.
        on_other_count: What a restore does in a program of another number of processes than saved
            the checkpoint: ``"error"``, or a function from the values of all processes, in their
            order, this process's number from 0 on, and how many there are now, to the value that
            this process gets.
    """

    def __init__(self, value: Any, on_other_count: OnOtherCount = "error"):
        if on_other_count != "error" and not callable(on_other_count):
            raise CheckpointValueError(
                f"`on_other_count` is 'error' or a function, got {on_other_count!r}. Write "
                "js.PerProcess(value, on_other_count=lambda values, process, count: ...), which "
                "returns the value for this process from those of the processes that saved."
            )
        self.value = value
        self.on_other_count = on_other_count

    def __repr__(self) -> str:
        return f"PerProcess({self.value!r})"

    def state(self) -> Any:
        """What is saved: the object's state, or the value itself."""
        return self.value.get_state() if isinstance(self.value, Stateful) else self.value

    def text(self) -> str:
        """What this process saves, as a list of one.

        Raises:
            CheckpointValueError: If it can't be saved.
        """
        return json.dumps([_to_json(self.state(), 0)])

    def with_state(self, state: Any) -> "PerProcess":
        """What a restore returns; sets the object's state."""
        if isinstance(self.value, Stateful):
            self.value.set_state(state)
            return self
        return PerProcess(state, self.on_other_count)


# The errors of reading a text that is none.
_DAMAGE = (ValueError, RecursionError, KeyError, TypeError, OverflowError, struct.error)


def joined(texts: Sequence[str]) -> str:
    """The text of a `PerProcess`, joined from those of all processes."""
    return json.dumps([value for text in texts for value in json.loads(text)])


def values_of(text: str) -> tuple[Any, ...]:
    """The values of all processes, from the text of a `PerProcess`.

    Raises:
        ValueError: If the text is not one of `joined`.
    """
    try:
        values = json.loads(text)
        if type(values) is list and values:
            return tuple([_from_json(value, 0) for value in values])
    except _DAMAGE as error:
        raise ValueError(f"it is not of values per process: {str(error)[:200]}") from error
    raise ValueError("it is not a list of values per process")


# To JSON.


def _to_json(value: Any, depth: int) -> Any:
    """A value of one process as JSON; what can't be saved per process is refused."""
    if depth > _DEEPEST:
        raise CheckpointValueError(f"is nested deeper than {_DEEPEST}")
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if abs(value) < _LONGEST_INT else {"number": hex(value)}
    if type(value) is float:
        return {"float": struct.pack(">d", value).hex()}
    if type(value) is complex:
        return {"complex": struct.pack(">dd", value.real, value.imag).hex()}
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if type(value) is list:
        return [_to_json(part, depth + 1) for part in value]
    if type(value) is tuple:
        return {"tuple": [_to_json(part, depth + 1) for part in value]}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _to_json(part, depth + 1)] for key, part in value.items()]}
    return _array_to_json(value)


def _array_to_json(value: Any) -> Any:
    """An array or keys of one process as JSON."""
    import jax
    import jax.numpy as jnp

    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        if not value.is_fully_addressable:
            raise CheckpointValueError(
                "has a jax.Array that lies in several processes: put it into the tree itself"
            )
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            data = np.asarray(jax.random.key_data(value))
            return {"keys": [str(jax.random.key_impl(value)), list(data.shape), _base64(data)]}
        value = np.asarray(value)
    if type(value) is np.ndarray or isinstance(value, np.generic):
        name = np.dtype(value.dtype).name
        if name in _NAMES or value.dtype.kind not in _FORBIDDEN:
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return {kind: [name, list(value.shape), _base64(np.asarray(value))]}
    raise CheckpointValueError(
        f"has a value of type {type(value).__name__}, which can't be saved: give an object with "
        "get_state and set_state, or numbers, strings, bytes and arrays in dicts, lists and tuples"
    )


def _base64(array: np.ndarray[Any, Any]) -> str:
    """The bytes of one process's array as base64, little-endian."""
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return base64.b64encode(little.tobytes()).decode()


# Those of ml_dtypes, whose kind is that of a void.
_NAMES = frozenset(
    name
    for name, scalar in vars(ml_dtypes).items()
    if isinstance(scalar, type) and issubclass(scalar, np.generic)
)


# From JSON, of an untrusted source.


def _from_json(value: Any, depth: int) -> Any:
    """A value of one process, from untrusted JSON."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if value is None or type(value) in (bool, str, int):
        return value
    if type(value) is list:
        return [_from_json(part, depth + 1) for part in value]
    if type(value) is not dict:
        raise ValueError(f"{value!r} is not a value")
    ((kind, of),) = value.items()
    if kind == "tuple" and type(of) is list:
        return tuple([_from_json(part, depth + 1) for part in of])
    if kind == "dict" and all(type(key) in (str, int) for key, _ in of):
        return {key: _from_json(part, depth + 1) for key, part in of}
    return _SCALARS[kind](of)


def _array_from_json(members: Any) -> Any:
    """An array of one process, from JSON."""
    name, shape, text = members
    dtype = np.dtype(getattr(ml_dtypes, name) if name in _NAMES else name)
    if name not in _NAMES and dtype.kind in _FORBIDDEN:
        raise ValueError(f"{name!r} is not a dtype of numbers")
    return _array_of_bytes(dtype, shape, text)


def _array_of_bytes(dtype: np.dtype[Any], shape: Any, text: Any) -> Any:
    """An array of one process, from its shape and base64."""
    data = _bytes_from_json(text)
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{shape!r} is not a shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes are not {dtype}{shape}")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _keys_from_json(members: Any) -> Any:
    """PRNG keys of one process, from JSON."""
    import jax

    impl, shape, text = members
    data = _array_of_bytes(np.dtype(np.uint32), shape, text)
    return jax.random.wrap_key_data(data, impl=impl)


def _bytes_from_json(text: Any) -> bytes:
    """The bytes of one process's value, from base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError) as error:
        raise ValueError("it is not base64") from error


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "number": lambda text: int(text, 16),
    "float": lambda text: struct.unpack(">d", bytes.fromhex(text))[0],
    "complex": lambda text: complex(*struct.unpack(">dd", bytes.fromhex(text))),
    "bytes": _bytes_from_json,
    "array": _array_from_json,
    "scalar": lambda members: _array_from_json(members)[()],
    "keys": _keys_from_json,
}
