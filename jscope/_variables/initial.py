"""From an initializer to an array: what initializing one variable means.

`run` calls the initializer that `_variables.request` has read. Facts that other files rely on:

* **An initializer runs compiled, never op by op**, on every route: XLA fuses, and an eager
  call differs in the last bit of a quarter of the values.
* **Small draws share a program**, of any shapes and parameters: see `batch`. Others have one for
  each (initializer, shape, dtype). The key is folded inside the program and the name hash is an
  argument, so two hundred equal layers compile once.
* **A barrier stands behind each value.** Under a user's jit XLA would fuse the initializer
  with its consumer, which changes bits (2e-3 of them apart in bfloat16).
* **A literal value is not compiled**, outside a trace: NumPy computes it. A literal of 100 MB in a
  program takes its time to compile, and JAX's cache would keep it.
* **Errors name the variable**, also those of initializers, which don't know it.
"""

import concurrent.futures
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.typing import ArrayLike

from .._errors import InitializerError
from .._random.draws import Literal
from .._random.keys import Words, fold_words
from ..initializers import InitializedValue, Initializer, KnownShape
from . import batch

_T = TypeVar("_T")

Call: TypeAlias = tuple[
    str, Initializer, Array, Words, tuple[int, ...], np.dtype[Any], NamedSharding | None
]  # the arguments of `run`


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
        root: The root key, as `_random.keys.check_key` gives it.
        words: The name hash, `_random.keys.name_words`; for a stack those of its slices,
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
    with named(name):
        whole_shape = (*words.shape[:-1], *shape)
        if isinstance(initializer, Literal) and not is_traced(root):
            array = np.broadcast_to(initializer.array(shape, dtype), whole_shape)
            return new_arrays([array], root)[0] if sharding is None else in_shards(array, sharding)
        if isinstance(initializer, KnownShape | Literal):
            value = _checked(initializer, root, shape, dtype)
            return put(jnp.copy(jnp.broadcast_to(value, whole_shape)), sharding)
        slices = words.size // 2
        draw = batch.draw_of(initializer, shape, dtype, slices) if sharding is None else None
        if draw is not None and batch.accepts(root):
            return drawn(root, [batch.Piece(draw, words, shape)])[0]
        compiled = _compiled(sharding)
        computed: Array = compiled(_hashable(initializer), root, words, shape, dtype)
        return computed


def literal(wanted: _Wanted) -> np.ndarray[Any, Any]:
    """The value of a `Literal`, which may be a view of a smaller one."""
    assert isinstance(wanted.initializer, Literal)
    return np.broadcast_to(wanted.initializer.array(wanted.slice_shape, wanted.dtype), wanted.shape)


def traced_literal(
    name: str, wanted: _Wanted, root: Array, sharding: NamedSharding | None
) -> Array:
    """The value of a `Literal`, in a trace."""
    value = checked(name, wanted.initializer, root, wanted.slice_shape, wanted.dtype)
    return put(jnp.broadcast_to(value, wanted.shape), sharding)


def is_traced(root: Array) -> bool:
    """Whether what is computed from a root key is traced.

    Not ``isinstance(root, Tracer)``: from a concrete key JAX computes traced values under a jit.
    """
    return isinstance(jax.random.key_data(root), jax.core.Tracer)


def drawn(root: Array, pieces: Sequence[batch.Piece]) -> list[Array]:
    """The values of variables that are drawn together."""
    if is_traced(root):
        return batch.traced_values(root, pieces)
    return new_arrays(batch.values(root, pieces), root)


def new_arrays(values: Sequence[np.ndarray[Any, Any]], root: Array) -> list[Array]:
    """Arrays with buffers of their own, where a program with this root key would put them."""
    device = root.sharding if root.committed and root.is_fully_replicated else None
    sources = {id(value): batch.unaligned(value) for value in values}
    arrays: list[Array] = jax.device_put([sources[id(value)] for value in values], device)
    return arrays


def in_shards(value: np.ndarray[Any, Any], sharding: NamedSharding) -> Array:
    """An array with buffers of its own, sharded."""
    return jax.make_array_from_callback(value.shape, sharding, lambda index: np.array(value[index]))


def compile_at_once(calls: Sequence[Call]) -> None:
    """Compile the programs of several calls of `run` side by side, where those would in turn.

    They are traced in this thread, which has the configuration that JAX's context managers set.
    Python's lock is free while XLA compiles.
    """
    new = [call for call in calls if not _was_compiled(call)]
    if len(new) < 2:
        return
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = []
        for name, initializer, *arguments, sharding in new:
            with named(name):
                lowered = _compiled(sharding).lower(_hashable(initializer), *arguments)
            compiling.append(pool.submit(lowered.compile))
        for program in compiling:
            program.result()


def _was_compiled(call: Call) -> bool:
    """Whether `compile_at_once` has seen such a call; JAX's own cache takes longer to look up."""
    _, initializer, root, words, shape, dtype, sharding = call
    like = (_hashable(initializer), root.dtype, words.shape, shape, dtype, sharding)
    known = like in _seen
    if len(_seen) >= 1 << 12:  # it is no error to forget
        _seen.clear()
    _seen.add(like)
    return known


_seen: set[object] = set()


def checked(
    name: str, initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """The initializer's value for this key, not compiled, for use in larger programs.

    Raises:
        InitializerError: As `run`.
    """
    with named(name):
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
    with named(name):
        assert isinstance(wanted.initializer, InitializedValue)
        function = wanted.initializer.function or jnp.asarray
        lengths = wanted.shape[:shared]
        slices = source.reshape((math.prod(lengths), *source.shape[shared:]))
        values = jax.jit(functools.partial(lax.map, function))(slices)
        _fitting(wanted.initializer, values[0], wanted.slice_shape, wanted.dtype)
        further = len(wanted.shape) - len(wanted.slice_shape) - shared
        aligned = values.reshape((*lengths, *(1,) * further, *wanted.slice_shape))
        whole = jnp.copy(jnp.broadcast_to(aligned, wanted.shape)).astype(wanted.dtype)
        return put(behind_barrier(whole), sharding)


@functools.lru_cache(maxsize=1024)
def _compiled(sharding: NamedSharding | None) -> Any:  # JAX names no type of a jitted function
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
        return behind_barrier(_checked(initializer, fold_words(root, words), shape, dtype))

    def all_in_turn(root: Array, words: Words) -> Array:
        return in_turn(functools.partial(one, root), words, shape)

    return placed(one if words.ndim == 1 else all_in_turn, sharding, root, words)


def in_turn(one: Callable[[Words], Array], words: Words, shape: tuple[int, ...]) -> Array:
    """One value after another: ``one`` of each name hash, along the other axes of ``words``.

    Barriers keep XLA from folding the hashes into constants, and from fusing the loop with
    its consumer; both would change bits.
    """
    flat = behind_barrier(jnp.asarray(words).reshape((-1, 2)))
    values: Array = lax.map(one, flat)
    return behind_barrier(values).reshape((*words.shape[:-1], *shape))


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


def behind_barrier(value: _T) -> _T:
    """The same array, or tuple of arrays, that XLA doesn't simplify together with its consumers."""
    barrier: Any = lax.optimization_barrier  # not annotated in jax 0.10
    behind: _T = barrier(value)
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
def named(name: str) -> Iterator[None]:
    """Add the variable's name to the errors of its initializer."""
    try:
        yield
    except InitializerError as error:
        raise InitializerError(f"Variable {name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"(While variable {name!r} was initialized.)")
        raise
