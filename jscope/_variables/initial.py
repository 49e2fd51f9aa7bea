"""From an initializer to an array: what initializing one variable means.

`run` calls the initializer that `_variables.request` has read. Facts that other files rely on:

* **An initializer runs compiled, never op by op**, on every route: XLA fuses, and an eager
  call differs in the last bit of a quarter of the values.
* **One program per (initializer, shape, dtype).** The key is folded inside the program and
  the name hash is an argument, so two hundred equal layers compile once.
* **A barrier stands behind each value.** Under a user's jit XLA would fuse the initializer
  with its consumer, which changes bits (2e-3 of them apart in bfloat16).
* **A literal value is not compiled.** A literal of 100 MB in a program takes its time
  to compile, and JAX's cache would keep it.
* **Errors name the variable**, also those of initializers, which don't know it.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.typing import ArrayLike

from .._errors import InitializerError
from .._keys import Words, fold_words
from ..initializers import InitializedValue, Initializer, KnownShape


class _Wanted(Protocol):  # a VariableSpec
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def slice_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def initializer(self) -> Initializer: ...


def run(
    name: str,
    initializer: Initializer,
    root: Array,
    words: Words,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    sharding: NamedSharding | None = None,
) -> Array:
    """The initial value of one variable, by a compiled program; also under a user's jit.

    Args:
        name: The variable's whole name, for messages.
        initializer: ``f(key, shape, dtype)``.
        root: The root key, as `_keys.check_key` gives it.
        words: The name hash, `_keys.name_words`; for a stack those of its slices,
            ``(*lengths, 2)``.
        shape: Of one slice, as `normalize` gives it.
        dtype: As `normalize` gives it.
        sharding: How the value is sharded, a stack's axes included. Each device computes
            its own shard.

    Returns:
        A new array that shares its buffer with no other.

    Raises:
        InitializerError: If the result is not of the requested shape and dtype.
    """
    with _named(name):
        if isinstance(initializer, KnownShape):
            value = _checked(initializer, root, shape, dtype)
            whole = jnp.broadcast_to(value, (*words.shape[:-1], *shape))
            return put(jnp.copy(whole), sharding)
        compiled = _compiled(sharding)
        return compiled(_hashable(initializer), root, words, shape, dtype)


def checked(
    name: str, initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """The initializer's value for this key, not compiled, for use in larger programs.

    Raises:
        InitializerError: As `run`.
    """
    with _named(name):
        return _checked(initializer, key, shape, dtype)


def like_source(
    initializer: InitializedValue, source: Array | jax.ShapeDtypeStruct
) -> jax.ShapeDtypeStruct:
    """The shape and dtype that `initializers.initialized_value` has by itself."""
    value = jax.ShapeDtypeStruct(source.shape, source.dtype)
    like: jax.ShapeDtypeStruct = jax.eval_shape(initializer.function or jnp.asarray, value)
    return like


def derive(
    name: str,
    wanted: _Wanted,
    source: Array,
    shared: int = 0,
    sharding: NamedSharding | None = None,
) -> Array:
    """The value that `initializers.initialized_value` gives, from the other variable's.

    Args:
        name: The variable's whole name, for messages.
        wanted: Its spec.
        source: The other variable's value.
        shared: The number of stacks that hold both variables, whose slices correspond. A
            further stack's slices all get the same value.
        sharding: How the value is sharded.

    Raises:
        InitializerError: If the function gives another shape or dtype than is wanted.
    """
    with _named(name):
        assert isinstance(wanted.initializer, InitializedValue)
        function = wanted.initializer.function or jnp.asarray
        lengths = wanted.shape[:shared]
        slices = source.reshape((math.prod(lengths), *source.shape[shared:]))
        values = jax.jit(functools.partial(lax.map, function))(slices)
        _fitting(wanted.initializer, values[0], wanted.slice_shape, wanted.dtype)
        further = len(wanted.shape) - len(wanted.slice_shape) - shared
        aligned = values.reshape((*lengths, *(1,) * further, *wanted.slice_shape))
        whole = jnp.copy(jnp.broadcast_to(aligned, wanted.shape)).astype(wanted.dtype)
        return put(_behind_barrier(whole), sharding)


@functools.lru_cache(maxsize=1024)
def _compiled(sharding: NamedSharding | None) -> Callable[..., Array]:
    """The functions that compute initial values, compiled, with results of this sharding."""
    compute = functools.partial(_values, sharding=sharding)
    return jax.jit(compute, static_argnums=(0, 3, 4), out_shardings=sharding)


def _values(
    initializer: Initializer,
    root: Array,
    words: Words,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    sharding: NamedSharding | None,
) -> Array:
    def one(root: Array, words: Words) -> Array:
        return _behind_barrier(_checked(initializer, fold_words(root, words), shape, dtype))

    def all_in_turn(root: Array, words: Words) -> Array:
        return in_turn(functools.partial(one, root), words, shape)

    return placed(one if words.ndim == 1 else all_in_turn, sharding, root, words)


def in_turn(one: Callable[[Words], Array], words: Words, shape: tuple[int, ...]) -> Array:
    """One value after another: ``one`` of each name hash, along the other axes of ``words``.

    Barriers keep XLA from folding the hashes into constants, and from fusing the loop with
    its consumer; both would change bits.
    """
    flat = _behind_barrier(jnp.asarray(words).reshape((-1, 2)))
    values: Array = lax.map(one, flat)
    return _behind_barrier(values).reshape((*words.shape[:-1], *shape))


def placed(
    compute: Callable[..., Array], sharding: NamedSharding | None, *arrays: ArrayLike
) -> Array:
    """``compute(*arrays)``, inside a trace, such that each device computes its own shard."""
    if sharding is None:
        return compute(*arrays)
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        # Under an explicit mesh a new array is whole on each device, unless its sharding is given.
        sharded: Any = jax.sharding.auto_axes(compute, out_sharding=sharding)(*arrays)
    else:
        sharded = lax.with_sharding_constraint(compute(*arrays), for_computing(sharding))
    value: Array = sharded
    return value


def for_computing(sharding: NamedSharding) -> NamedSharding:
    """The same sharding such that JAX accepts it in a trace.

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
    """An existing value, sharded."""
    if sharding is None:
        return value
    if isinstance(value, jax.core.Tracer):
        return placed(jnp.asarray, sharding, value)
    moved: Array = jax.device_put(value, sharding)
    return moved


def _behind_barrier(value: Array) -> Array:
    barrier: Any = lax.optimization_barrier  # not annotated in jax 0.10
    behind: Array = barrier(value)
    return behind


class _ById:
    """An initializer that can't be hashed, as a static argument: equal to itself alone."""

    def __init__(self, initializer: Initializer):
        self.initializer = initializer

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: object) -> Array:
        return self.initializer(key, shape, dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.initializer is other.initializer

    def __hash__(self) -> int:
        return id(self.initializer)

    def __repr__(self) -> str:
        return repr(self.initializer)


def _hashable(initializer: Initializer) -> Initializer:
    try:
        hash(initializer)
    except TypeError:
        return _ById(initializer)
    return initializer


def _checked(
    initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    return _fitting(initializer, initializer(key, shape, dtype), shape, dtype)


def _fitting(
    initializer: object, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    called = f"was called for shape {shape} and dtype {dtype}"
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        hint = " It makes initializers: call it with its parameters first." * callable(value)
        raise InitializerError(
            f"{initializer!r} {called}, and returned {type(value).__name__}, not an array.{hint}"
        )
    if value.shape != shape or value.dtype != dtype:
        raise InitializerError(
            f"{initializer!r} {called}, and returned shape {value.shape} and dtype {value.dtype}. "
            "Nothing is reshaped or cast: an initializer must use the shape and dtype it is passed."
        )
    # Not weakly typed, as jnp.full(shape, 0.5) is: the first update would trace a step again.
    return jnp.asarray(value, dtype)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Add the variable's name to the errors of its initializer."""
    try:
        yield
    except InitializerError as error:
        raise InitializerError(f"Variable {name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"(While variable {name!r} was initialized.)")
        raise
