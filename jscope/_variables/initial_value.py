"""The initial value of one variable: from its initializer to an array.

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
from jax.sharding import NamedSharding

from .._errors import InitializerError
from .._random.initializer_bases import KnownShape, Literal
from .._random.keys import Words, fold_words, gives_traced_keys
from ..initializers import InitializedValue, Initializer
from . import batch
from .placement import in_shards, new_arrays, placed, put

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
    with errors_named(name):
        whole_shape = (*words.shape[:-1], *shape)
        if isinstance(initializer, Literal) and not gives_traced_keys(root):
            array = np.broadcast_to(initializer.array(shape, dtype), whole_shape)
            return new_arrays([array], root)[0] if sharding is None else in_shards(array, sharding)
        if isinstance(initializer, KnownShape | Literal):
            value = _checked(initializer, root, shape, dtype)
            return put(jnp.copy(jnp.broadcast_to(value, whole_shape)), sharding)
        slices = words.size // 2
        draw = batch.draw_of(initializer, shape, dtype, slices) if sharding is None else None
        if draw is not None and batch.accepts(root):
            return batch.drawn_together(root, [batch.Piece(draw, words, shape)])[0]
        compiled = _compiled(sharding)
        computed: Array = compiled(_hashable(initializer), root, words, shape, dtype)
        return computed


def literal(wanted: _Wanted) -> np.ndarray[Any, Any]:
    """The initial value of one variable whose initializer is a `Literal`; it may be a view."""
    assert isinstance(wanted.initializer, Literal)
    return np.broadcast_to(wanted.initializer.array(wanted.slice_shape, wanted.dtype), wanted.shape)


def traced_literal(
    name: str, wanted: _Wanted, root: Array, sharding: NamedSharding | None
) -> Array:
    """The initial value of one variable whose initializer is a `Literal`, in a trace."""
    value = uncompiled(name, wanted.initializer, root, wanted.slice_shape, wanted.dtype)
    return put(jnp.broadcast_to(value, wanted.shape), sharding)


def compile_at_once(calls: Sequence[Call]) -> None:
    """Compile the programs of single initial values, those of several `run`, side by side.

    They are traced in this thread, which has the configuration that JAX's context managers set.
    Python's lock is free while XLA compiles.
    """
    new = [call for call in calls if not _was_compiled(call)]
    if len(new) < 2:
        return
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = []
        for name, initializer, *arguments, sharding in new:
            with errors_named(name):
                lowered = _compiled(sharding).lower(_hashable(initializer), *arguments)
            compiling.append(pool.submit(lowered.compile))
        for program in compiling:
            program.result()


def _was_compiled(call: Call) -> bool:
    """Whether `compile_at_once` has seen this one initial value; JAX's cache is slower to ask."""
    _, initializer, root, words, shape, dtype, sharding = call
    like = (_hashable(initializer), root.dtype, words.shape, shape, dtype, sharding)
    known = like in _seen
    if len(_seen) >= 1 << 12:  # it is no error to forget
        _seen.clear()
    _seen.add(like)
    return known


_seen: set[object] = set()


def uncompiled(
    name: str, initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """The initial value of one variable for its own key, not compiled: a part of larger programs.

    Raises:
        InitializerError: As `run`.
    """
    with errors_named(name):
        return _checked(initializer, key, shape, dtype)


def like_source(
    initializer: InitializedValue, source: Array | jax.ShapeDtypeStruct
) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an initial value that is another variable's, from that one's."""
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
    """The initial value of one variable that is another one's, by `initializers.initialized_value`.

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
    with errors_named(name):
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
    """The compiled function that computes the initial value of one variable, in this sharding."""
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
    """The initial value of one variable, or of each slice of a stack, to be compiled."""

    def one(root: Array, words: Words) -> Array:
        return behind_barrier(_checked(initializer, fold_words(root, words), shape, dtype))

    def all_in_turn(root: Array, words: Words) -> Array:
        return slices_in_turn(functools.partial(one, root), words, shape)

    return placed(one if words.ndim == 1 else all_in_turn, sharding, root, words)


def slices_in_turn(one: Callable[[Words], Array], words: Words, shape: tuple[int, ...]) -> Array:
    """The initial values of slices, one after another: ``one`` of each name hash in ``words``.

    Barriers keep XLA from folding the hashes into constants, and from fusing the loop with
    its consumer; both would change bits.
    """
    flat = behind_barrier(jnp.asarray(words).reshape((-1, 2)))
    values: Array = lax.map(one, flat)
    return behind_barrier(values).reshape((*words.shape[:-1], *shape))


def behind_barrier(value: _T) -> _T:
    """An initial value, or a tuple of them, that XLA doesn't fuse with its consumers."""
    barrier: Any = lax.optimization_barrier  # not annotated in jax 0.10
    behind: _T = barrier(value)
    return behind


class _ById:
    """An initializer without a hash, for the compiled program of an initial value."""

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
    """One variable's initializer, as a static argument of its compiled initial value."""
    try:
        hash(initializer)
    except TypeError:
        return _ById(initializer)
    return initializer


def _checked(
    initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """What an initializer gives for a key, if that fits as the initial value."""
    return _fitting(initializer, initializer(key, shape, dtype), shape, dtype)


def _fitting(
    initializer: object, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """The initial value, if an initializer has given the shape and dtype it was called with."""
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
def errors_named(name: str) -> Iterator[None]:
    """Add a variable's name to errors while its initial value is computed."""
    try:
        yield
    except InitializerError as error:
        raise InitializerError(f"Variable {name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"(While variable {name!r} was initialized.)")
        raise
