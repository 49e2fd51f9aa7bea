"""From ``shape=, dtype=, initializer=`` to an array: what creating one variable means.

`normalize` reads the arguments of a ``get_variable`` once, so that what follows need not
look at them again: a shape is a tuple of ints, a dtype one that JAX has under its present
settings, an initializer a function ``f(key, shape, dtype)``. `run` calls it.

Facts that other files rely on:

* **An initializer runs compiled, never op by op**, whoever asks: XLA fuses, and an eager
  call differs in the last bit of a quarter of the values.
* **One program per (initializer, shape, dtype).** The key is folded inside the program and
  the two words of the name are an argument, so two hundred equal layers compile once.
* **A barrier stands behind each value.** Under a user's jit XLA would fuse the initializer
  with its consumer, which then sees other bits (2e-3 of them apart in bfloat16).
* **What is written down is not compiled.** A literal of 100 MB in a program takes its time
  to compile, and JAX's cache would keep it.
* **Errors name the variable**, also those of initializers, which don't know it.

Imports: `_errors`, `_keys`, `_no_arguments`, `initializers`, JAX and NumPy.
"""

import contextlib
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding

from . import initializers
from ._errors import DtypeMismatchError, InitializerError, ShapeMismatchError
from ._keys import Words, fold_words
from ._no_arguments import NoArguments, no_arguments, takes_any, takes_none
from .initializers import InitializedValue, KnownShape

Initializer: TypeAlias = Callable[[Array, tuple[int, ...], Any], Array]


class Wanted(NamedTuple):
    """What a variable shall be: the three arguments of `get_variable`, read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The shape: this is no stack."""
        return self.shape


class _Wanted(Protocol):  # a VariableSpec
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def slice_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def initializer(self) -> Initializer: ...


# 1. Reading the arguments.


def normalize(name: str, shape: Any, dtype: Any, initializer: Any) -> Wanted:
    """Read the arguments of a `get_variable` that creates.

    Args:
        name: The variable's whole name, for messages.
        shape: An int, a sequence of ints, or None if the initializer knows it; then a dimension
            may be None too.
        dtype: What JAX takes for a dtype; None is the dtype of a value written down, else
            float32. `initializers.constant` that fills a given shape is no value, as in TF.
        initializer: ``f(key, shape, dtype)``; or a number, a list or an array, the initial
            value itself, or a function of no arguments that gives it; or None for TF1's default
            for the dtype.

    Returns:
        ``(shape, dtype, initializer)``, with `initializers.constant` for an initial value.

    Raises:
        InitializerError: If the initializer is none, was not called with its parameters, is
            traced, or needs a shape that is not given; or if a shape is given with a value.
        ShapeMismatchError: If the shape isn't one.
        DtypeMismatchError: If the dtype isn't one, or another than the value's.
    """
    asked = None if dtype is None else normalize_dtype(name, dtype)
    if initializer is not None and not callable(initializer):
        initializer = _constant(name, initializer)
        if shape is not None:
            raise shape_of_constant(name, shape)
        _check_dtype_of_value(name, asked, initializer.dtype)
    _check_called(name, initializer)
    if takes_none(initializer) and not (_is_full(shape) and takes_any(initializer)):
        initializer = _of_no_arguments(name, shape, asked, initializer)
    known = isinstance(initializer, KnownShape | NoArguments)
    if asked is None:
        fills = isinstance(initializer, initializers.constant) and _is_full(shape)
        asked = initializer.dtype if known and not fills else np.dtype(np.float32)
    if shape is None and not known:
        passed = "" if initializer is None else "The initializer passed is not valid by itself. "
        raise InitializerError(
            f"{passed}Variable {name} did not get an initial value, so its `shape` argument must "
            f"be specified. Write get_variable({name.rpartition('/')[2]!r}, shape, ...)."
        )
    if initializer is None:
        initializer = initializers.default(asked, name)
    if known and not _is_full(shape):
        shape = _completed(name, shape, initializer.shape)
    return Wanted(normalize_shape(name, shape), asked, initializer)


def is_value(initializer: Any, shape: Any) -> bool:
    """Whether an initializer, passed beside this shape, is the initial value itself."""
    if initializer is None:
        return False
    return not callable(initializer) or (not _is_full(shape) and takes_none(initializer))


def shape_of_constant(name: str, shape: Any) -> InitializerError:
    """Compose TF1's error for a shape that is given beside an initial value."""
    return InitializerError(
        f"Variable {name!r}: If initializer is a constant, do not specify shape. Leave "
        f"shape={shape!r} out, or write initializer=init.constant(value) to fill the shape."
    )


def _is_full(shape: Any) -> bool:
    if isinstance(shape, Iterable) and _rank(shape):
        return all(dimension is not None for dimension in shape)
    return shape is not None


def _completed(name: str, shape: Any, own: tuple[int, ...]) -> tuple[int, ...]:
    """The initial value's own shape, if it is one that was asked for."""
    if shape is not None and not _fits(_dimensions(name, shape), own):
        raise ShapeMismatchError(
            f"Shape of a new variable ({name}) must be fully defined, or fit its initial value's "
            f"{own}, but instead was {shape!r}."
        )
    return own


def _check_dtype_of_value(name: str, asked: Any, found: Any) -> None:
    if asked is not None and asked != found:
        raise DtypeMismatchError(
            f"Variable {name!r}: Initializer type '{found}' and explicit dtype '{asked}' don't "
            "match. Leave dtype= out, or give a value of that dtype, such as np.asarray(value, "
            f"{asked.name!r})."
        )


def _of_no_arguments(name: str, shape: Any, asked: Any, function: Any) -> NoArguments:
    if _is_full(shape):
        raise InitializerError(
            f"Variable {name!r}: {function!r} takes no arguments. If it makes initializers, call "
            f"it first; if it gives the initial value itself, leave shape={shape!r} out."
        )
    initializer = no_arguments(name, function)
    _check_dtype_of_value(name, asked, initializer.dtype)
    return initializer


def known_shape(initializer: Any) -> tuple[int, ...] | None:
    """The shape of an initial value that is written down; None for all other initializers."""
    if isinstance(initializer, KnownShape):
        return initializer.shape
    if initializer is None or callable(initializer):
        return None
    return tuple(np.shape(initializer))


def normalize_shape(name: str, shape: int | Iterable[Any]) -> tuple[int, ...]:
    """A shape as a tuple of ints; 5 is ``(5,)``.

    Raises:
        ShapeMismatchError: If a dimension is traced, unknown, negative or no integer.
    """
    if type(shape) is tuple and all(type(d) is int and d >= 0 for d in shape):
        return shape  # what nearly every look-up passes
    dimensions = tuple(shape) if isinstance(shape, Iterable) and _rank(shape) else (shape,)
    if any(isinstance(d, jax.core.Tracer) for d in dimensions):
        raise ShapeMismatchError(
            f"The shape of variable {name!r} must be known when the model is traced, got the "
            f"traced {shape!r}. Take it from x.shape, or pass a Python int."
        )
    if None in dimensions:
        raise ShapeMismatchError(
            f"Shape of a new variable ({name}) must be fully defined, but instead was {shape!r}."
        )
    try:
        whole = tuple(operator.index(d) for d in dimensions)
    except TypeError:
        raise ShapeMismatchError(
            f"The shape of variable {name!r} must be an int or a sequence of ints, got {shape!r}."
        ) from None
    for dimension in whole:
        if dimension < 0:
            raise ShapeMismatchError(
                f"Variable {name!r}: Dimension {dimension} must be >= 0, in shape {whole}."
            )
    return whole


def normalize_dtype(name: str, dtype: Any) -> Any:
    """A dtype as NumPy's, if JAX has it under its present settings.

    Raises:
        DtypeMismatchError: If it is no dtype, or a 64-bit one while x64 is not enabled.
    """
    try:
        if jnp.issubdtype(dtype, jax.dtypes.extended):
            return dtype  # of typed PRNG keys
        wanted = np.dtype(dtype)
    except TypeError:
        raise DtypeMismatchError(
            f"The dtype of variable {name!r} must be one of JAX's, such as jnp.float32, got "
            f"{dtype!r}."
        ) from None
    has: np.dtype[Any] = jax.dtypes.canonicalize_dtype(wanted)
    if isinstance(dtype, type) and dtype in (float, int, complex):
        return has  # Python's types are JAX's defaults: jnp.zeros(3, float) is float32.
    if has != wanted:
        raise DtypeMismatchError(
            f"Variable {name!r} is asked for as {wanted}, which JAX has only with "
            f"jax.config.update('jax_enable_x64', True). Enable it, or write dtype=jnp.{has}."
        )
    return wanted


def shape_and_dtype(name: str, value: Any) -> tuple[tuple[int, ...], Any]:
    """The shape and dtype of a variable's value, or of its spec.

    Raises:
        DtypeMismatchError: If it has none; a tree may hold anything.
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return tuple(value.shape), value.dtype
    if isinstance(value, bool | int | float | complex):
        return (), jnp.result_type(value)
    raise DtypeMismatchError(
        f"Variable {name!r} holds a {type(value).__name__}, not an array. Read it "
        f"with tree[{name!r}] or scope[...], replace it with tree | {{{name!r}: value}}."
    )


def check_found(name: str, shape: Any, dtype: Any, found: Any, hint: str) -> None:
    """Raise if a variable is asked for with another shape or dtype than it has.

    Args:
        name: The variable's whole name.
        shape: The shape asked for, as a user writes it; None fits any, and a None in it any
            dimension.
        dtype: The dtype asked for, as `normalize_dtype` gives it; None fits any.
        found: The variable's value or spec.
        hint: What to do about it, for the message.

    Raises:
        ShapeMismatchError: In TF's words.
        DtypeMismatchError: In TF's words.
    """
    found_shape, found_dtype = shape_and_dtype(name, found)
    plain = type(shape) is tuple and _INT.issuperset(map(type, shape))
    if shape is not None and not (plain and shape == found_shape):  # else as nearly always
        asked = _dimensions(name, shape)
        if not _fits(asked, found_shape):
            raise ShapeMismatchError(
                f"Trying to share variable {name}, but specified shape {asked} and found shape "
                f"{found_shape}. {hint}"
            )
    if dtype is not None and dtype != found_dtype:
        raise DtypeMismatchError(
            f"Trying to share variable {name}, but specified dtype {dtype} and found dtype "
            f"{found_dtype}. {hint}"
        )


_INT = frozenset({int})


def _dimensions(name: str, shape: Any) -> tuple[Any, ...]:
    """A shape in which dimensions may be None; those that aren't are looked at."""
    asked = tuple(shape) if isinstance(shape, Iterable) and _rank(shape) else (shape,)
    normalize_shape(name, tuple(d for d in asked if d is not None))
    return asked


def _fits(asked: tuple[Any, ...], found: tuple[int, ...]) -> bool:
    return len(asked) == len(found) and all(a in (None, f) for a, f in zip(asked, found))


def _rank(shape: Any) -> int:
    return getattr(shape, "ndim", 1)  # an array of no dimensions is iterable, until one tries


def _constant(name: str, value: Any) -> initializers.constant:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise InitializerError(
            f"The initial value of variable {name!r} is traced, but initial values can't depend on "
            f"traced values: {value!r}. Compute it outside the model, or assign it afterwards; if "
            "it shall depend on what the model computes, write js.init(model, inline=True)."
        )
    try:
        return initializers.constant(value)
    except InitializerError:
        raise InitializerError(
            f"Variable {name!r}: The initializer passed is not valid: {value!r} of type "
            f"{type(value).__name__}. Pass a function f(key, shape, dtype), such as init.zeros or "
            "init.glorot_uniform(); or a number, a list of numbers or an array, and no shape."
        ) from None


def _check_called(name: str, initializer: Any) -> None:
    """Raise if an initializer's class, or the function that makes one, was passed itself."""
    ours = getattr(initializer, "__module__", None) == initializers.__name__
    maker = inspect.isfunction(initializer) and "<locals>" not in initializer.__qualname__
    if inspect.isclass(initializer) or (ours and maker):
        called = f"{'init.' if ours else ''}{initializer.__name__}()"
        raise InitializerError(
            f"Variable {name!r}: {initializer.__name__} is not an initializer, but makes one from "
            f"its parameters: write {called}."
        )


# 2. Running it.


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
        words: The two words of the name, `_keys.name_words`; of a stack those of its slices,
            ``(*lengths, 2)``.
        shape: Of one slice, as `normalize` gives it.
        dtype: As `normalize` gives it.
        sharding: How the value is sharded, a stack's axes included. Each device computes
            its own shard.

    Returns:
        A new array that shares its buffer with no other.

    Raises:
        InitializerError: If the initializer gives something else than was asked for.
    """
    with _named(name):
        if isinstance(initializer, KnownShape):
            value = _checked(initializer, root, shape, dtype)
            whole = jnp.broadcast_to(value, (*words.shape[:-1], *shape))
            return put(jnp.copy(whole), sharding)
        compiled = _compiled(sharding)
        result: Array = compiled(_hashable(initializer), root, words, shape, dtype)
        return result


def checked(
    name: str, initializer: Initializer, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """What the initializer gives for this very key, not compiled, for use in larger programs.

    Raises:
        InitializerError: As `run`.
    """
    with _named(name):
        return _checked(initializer, key, shape, dtype)


def like_source(initializer: InitializedValue, source: Any) -> jax.ShapeDtypeStruct:
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
def _compiled(sharding: NamedSharding | None) -> Any:
    """What computes initial values, as compiled programs whose results are sharded so."""
    compute = functools.partial(_values, sharding=sharding)
    return jax.jit(compute, static_argnums=(0, 3, 4), out_shardings=sharding)


def _values(
    initializer: Any,
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
    """One value after another: ``one`` of each pair of words, along the words' other axes.

    Barriers keep XLA from folding the words into constants, and the loop from fusing with
    what consumes it; both would change bits.
    """
    flat = _behind_barrier(jnp.asarray(words).reshape((-1, 2)))
    values: Array = lax.map(one, flat)
    return _behind_barrier(values).reshape((*words.shape[:-1], *shape))


def placed(compute: Callable[..., Array], sharding: NamedSharding | None, *arrays: Any) -> Array:
    """``compute(*arrays)``, inside a trace, such that each device computes its own shard."""
    if sharding is None:
        return compute(*arrays)
    if AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types:
        # Under an explicit mesh a new array is whole on each device, unless it says otherwise.
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
    """A value that is there already, sharded."""
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

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.initializer(key, shape, dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.initializer is other.initializer

    def __hash__(self) -> int:
        return id(self.initializer)

    def __repr__(self) -> str:
        return repr(self.initializer)


def _hashable(initializer: Initializer) -> Any:
    try:
        hash(initializer)
    except TypeError:
        return _ById(initializer)
    return initializer


def _checked(initializer: Any, key: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return _fitting(initializer, initializer(key, shape, dtype), shape, dtype)


def _fitting(initializer: Any, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    asked = f"was asked for shape {shape} and dtype {dtype}"
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        hint = " It makes initializers: call it with its parameters first." * callable(value)
        raise InitializerError(
            f"{initializer!r} {asked}, and gave no array but {type(value).__name__}.{hint}"
        )
    if value.shape != shape or value.dtype != dtype:
        raise InitializerError(
            f"{initializer!r} {asked}, and gave shape {value.shape} and dtype {value.dtype}. "
            "Nothing is reshaped or cast: an initializer must use the shape and dtype it is passed."
        )
    # Not weakly typed, as jnp.full(shape, 0.5) is: the first update would trace a step again.
    return jnp.asarray(value, dtype)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the variable's name into the errors of its initializer."""
    try:
        yield
    except InitializerError as error:
        raise InitializerError(f"Variable {name!r}: {error}") from error
    except Exception as error:
        error.add_note(f"(While variable {name!r} was initialised.)")
        raise
