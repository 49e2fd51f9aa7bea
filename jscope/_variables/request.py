"""A request for a variable: the argument list of `get_variable`, and what it means.

`VariableRequest` is the one place that knows the list. `normalize` reads the arguments of a request
that creates once, so that what follows need not look at them again: a shape is a tuple of ints, a
dtype one that JAX has under its present settings, an initializer a function
``f(key, shape, dtype)``. `check_found` compares them with a variable that exists.

Arguments of TF1 that have no meaning in JAX are refused; the error names what replaces them.

An initializer may take no arguments: ``initializer=lambda: table()``. Such a function gives the
initial value itself, so the variable has that value's shape and dtype, and none may be requested
beside it (a shape with unknown dimensions may). It runs compiled, like any initializer. A parameter
that has a default counts as none; but where the shape is known, what takes a key, a shape and a
dtype gets them. Source: ``tf.get_variable``, TensorFlow 1.15. One difference: a dtype that is
requested must be the value's, where TF ignores it.
"""

import inspect
import operator
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from .. import initializers
from .._dtypes import is_python, widths
from .._errors import DtypeMismatchError, InitializerError, ScopeError, ShapeMismatchError
from ..initializers import Initializer, KnownShape
from ..regularizers import Regularizer
from .closures import signature
from .spec import Constraint, Partitioner, Reuse

Shape: TypeAlias = int | Iterable[int | None] | None


@dataclass(slots=True)
class VariableRequest:
    """The arguments of one `Scope.get_variable`, of which ``name`` is relative to the scope.

    Attributes:
        reuse: None is the scope's.
        is_filled: Whether the scope's defaults are in it already, so that None means none.
    """

    name: str
    shape: Shape = None
    dtype: DTypeLike | None = None
    initializer: Initializer | ArrayLike | None = None
    regularizer: Regularizer | None = None
    trainable: bool = True
    collections: Iterable[str] | None = None
    partitioner: Partitioner | None = None
    validate_shape: bool = True
    constraint: Constraint | None = None
    sharding: PartitionSpec | None = None
    reuse: Reuse | None = None
    is_filled: bool = False

    def for_getters(self, reuse: Reuse) -> dict[str, Any]:
        """The arguments that a custom getter gets beside the name: TF's that have a meaning."""
        arguments = {name: getattr(self, name) for name in _FOR_GETTERS} | {"reuse": reuse}
        if self.sharding is not None:  # not TF's
            arguments["sharding"] = self.sharding
        return arguments

    def for_creators(self) -> dict[str, Any]:
        """The arguments that a variable creator gets beside the name."""
        return {name: getattr(self, name) for name in _FOR_CREATORS}

    def requested_shape(self, name: str) -> Shape:
        """The shape that the call gives, by itself or as that of an initial value; or None."""
        if not self.validate_shape:
            return None
        if self.shape is None:
            if self.initializer is None:
                return None
            # A scope's `init.constant(0.0)` is for variables of any shape.
            is_default = self.is_filled and callable(self.initializer)
            return None if is_default else known_shape(self.initializer)
        if not (self.initializer is None or callable(self.initializer)):
            raise shape_of_constant(name, self.shape)
        return self.shape

    def requested_dtype(
        self, name: str, scope_default: np.dtype[Any] | None
    ) -> np.dtype[Any] | None:
        """The dtype that the call or the scope gives, if any; a value's own beats the scope's."""
        if self.dtype is not None:
            return normalize_dtype(name, self.dtype)
        if scope_default is None or self.is_filled:
            return None
        return None if is_value(self.initializer, self.shape) else scope_default


_FIELDS = tuple(field.name for field in fields(VariableRequest))
_FOR_CREATORS = tuple(
    name for name in _FIELDS if name not in ("name", "validate_shape", "reuse", "is_filled")
)
_FOR_GETTERS = tuple(
    name for name in _FIELDS if name not in ("name", "sharding", "reuse", "is_filled")
)


# Initializers that take no arguments.


@dataclass(frozen=True, eq=False)
class NoArguments:
    """A function of no arguments, as an initializer; and its value's shape and dtype.

    Two are equal if their functions compute the same, as far as `closures.signature` can tell.
    """

    function: Callable[[], ArrayLike]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, key: object, shape: object, dtype: object = None) -> Array:
        del key, shape, dtype  # the caller compares them with the result
        value = self.function()
        return jnp.asarray(value, self.dtype if is_python(value) else None)

    def _key(self) -> tuple[object, ...]:
        return signature(self.function), self.shape, self.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoArguments) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return repr(self.function)


def takes_none(initializer: object) -> bool:
    """Whether something can be called without arguments, to give an initial value."""
    if isinstance(initializer, types.FunctionType):  # nearly all other initializers
        defaults = initializer.__defaults__ or ()
        keywords = initializer.__kwdefaults__ or {}
        code = initializer.__code__
        return code.co_argcount == len(defaults) and code.co_kwonlyargcount == len(keywords)
    if not callable(initializer) or type(initializer).__module__ == initializers.__name__:
        return False
    try:
        parameters = inspect.signature(initializer).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in several for p in parameters)


def takes_any(initializer: Callable[..., object]) -> bool:
    """Whether a callable of no arguments also takes key, shape and dtype."""
    try:
        inspect.signature(initializer).bind(None, None, None)
    except TypeError:
        return False
    return True


def no_arguments(
    name: str, function: Callable[[], ArrayLike], requested: np.dtype[Any] | None
) -> NoArguments:
    """The function as an initializer; runs it once, abstractly.

    If it gives Python's numbers, they get the requested dtype, if it is one of theirs.

    Raises:
        InitializerError: If it doesn't return an array.
    """
    has_dtype = True

    def value() -> Array:
        nonlocal has_dtype
        given = function()
        has_dtype = not is_python(given)
        return jnp.asarray(given)

    try:
        like = jax.eval_shape(value)
    except TypeError as error:
        raise InitializerError(
            f"Variable {name!r}: The initializer passed is not valid. It should be a callable with "
            f"no arguments that gives an array, but {function!r} raised {error}"
        ) from error
    if requested is not None and not has_dtype and requested in widths(like.dtype):
        return NoArguments(function, like.shape, requested)
    return NoArguments(function, like.shape, like.dtype)


class Wanted(NamedTuple):
    """What a variable is to be: three arguments of `get_variable`, normalized."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The shape, since this is not a stack."""
        return self.shape


def normalize(name: str, shape: Shape, dtype: DTypeLike | None, initializer: Any) -> Wanted:
    """Read the arguments of a `get_variable` that creates.

    Args:
        name: The variable's whole name, for messages.
        shape: An int, a sequence of ints, or None if the initializer knows it; then a dimension
            may be None too.
        dtype: What JAX takes for a dtype; None is the dtype of a literal value, else
            float32. `initializers.constant` that fills a given shape is not a value, as in TF.
            Python's numbers are int32 and float32 where that is requested, as in TF, also
            with x64.
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
    requested = None if dtype is None else normalize_dtype(name, dtype)
    if initializer is not None and not callable(initializer):
        value, initializer = initializer, _constant(name, initializer)
        if shape is not None:
            raise shape_of_constant(name, shape)
        _check_dtype_of_value(name, requested, value, initializer)
    _check_called(name, initializer)
    if takes_none(initializer) and not (_is_full(shape) and takes_any(initializer)):
        initializer = _of_no_arguments(name, shape, requested, initializer)
    known = isinstance(initializer, KnownShape | NoArguments)
    if requested is None:
        fills = isinstance(initializer, initializers.constant) and _is_full(shape)
        requested = initializer.dtype if known and not fills else np.dtype(np.float32)
    if shape is None and not known:
        passed = "" if initializer is None else "The initializer passed is not valid by itself. "
        raise InitializerError(
            f"{passed}Variable {name} did not get an initial value, so its `shape` argument must "
            f"be specified. Write get_variable(..., shape=()) for a scalar, or another shape."
        )
    if initializer is None:
        initializer = initializers.default(requested, name)
    if known and not _is_full(shape):
        shape = _completed(name, shape, initializer.shape)
    return Wanted(normalize_shape(name, shape), requested, initializer)


def is_value(initializer: object, shape: object) -> bool:
    """Whether an initializer, passed beside this shape, is the initial value itself."""
    if initializer is None:
        return False
    return not callable(initializer) or (not _is_full(shape) and takes_none(initializer))


def shape_of_constant(name: str, shape: object) -> InitializerError:
    """Compose TF1's error for a shape that is given beside an initial value."""
    return InitializerError(
        f"Variable {name!r}: If initializer is a constant, do not specify shape. Leave "
        f"shape={shape!r} out, or write initializer=init.constant(value) to fill the shape."
    )


def _is_full(shape: object) -> bool:
    if isinstance(shape, Iterable) and _rank(shape):
        return all(dimension is not None for dimension in shape)
    return shape is not None


def _completed(name: str, shape: Shape, own: tuple[int, ...]) -> tuple[int, ...]:
    """The initial value's own shape, if it is one that was requested."""
    if shape is not None and not _fits(_dimensions(name, shape), own):
        raise ShapeMismatchError(
            f"Shape of a new variable ({name}) must be fully defined, or fit its initial value's "
            f"{own}, but instead was {shape!r}."
        )
    return own


def _check_dtype_of_value(
    name: str, requested: np.dtype[Any] | None, value: object, found: initializers.constant
) -> None:
    """Raise if a literal value has another dtype than requested.

    Python's numbers have no dtype, and may have that of either setting of `jax_enable_x64`.
    """
    if requested is None:
        return
    if not is_python(value):
        if requested != found.dtype:
            raise _other_dtype(name, found.dtype, requested)
    elif requested not in widths(found.value.dtype):
        raise _other_dtype(name, found.dtype, requested)
    elif requested.kind == "i" and not np.array_equal(found.value.astype(requested), found.value):
        raise DtypeMismatchError(
            f"Variable {name!r}: Initializer type '{found.value.dtype}' and explicit dtype "
            f"'{requested}' don't match: {requested} can't hold {value!r}. Write dtype=jnp.int64, "
            "with jax.config.update('jax_enable_x64', True)."
        )


def _other_dtype(name: str, found: object, requested: np.dtype[Any]) -> DtypeMismatchError:
    return DtypeMismatchError(
        f"Variable {name!r}: Initializer type '{found}' and explicit dtype '{requested}' don't "
        "match. Leave dtype= out, or give a value of that dtype, such as np.asarray(value, "
        f"{requested.name!r})."
    )


def _of_no_arguments(
    name: str, shape: object, requested: np.dtype[Any] | None, function: Callable[[], ArrayLike]
) -> NoArguments:
    if _is_full(shape):
        raise InitializerError(
            f"Variable {name!r}: {function!r} takes no arguments. If it makes initializers, call "
            f"it first; if it gives the initial value itself, leave shape={shape!r} out."
        )
    initializer = no_arguments(name, function, requested)
    if requested is not None and requested != initializer.dtype:
        raise _other_dtype(name, initializer.dtype, requested)
    return initializer


def known_shape(initializer: Initializer | ArrayLike | None) -> tuple[int, ...] | None:
    """The shape of a literal initial value; None for all other initializers."""
    if isinstance(initializer, KnownShape):
        return initializer.shape
    if initializer is None or callable(initializer):
        return None
    return tuple(np.shape(initializer))


def normalize_shape(name: str, shape: Shape) -> tuple[int, ...]:
    """A shape as a tuple of ints; 5 is ``(5,)``.

    Raises:
        ShapeMismatchError: If a dimension is traced, unknown, negative or not an integer.
    """
    if type(shape) is tuple:  # the common case
        for dimension in shape:
            if type(dimension) is not int or dimension < 0:
                break
        else:
            return shape
    dimensions = _as_tuple(shape)
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


def normalize_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """A dtype as NumPy's, if JAX has it under its present settings.

    Raises:
        DtypeMismatchError: If it is not a dtype, or a 64-bit one while x64 is not enabled.
    """
    try:
        is_extended = jnp.issubdtype(dtype, jax.dtypes.extended)  # of typed PRNG keys
        wanted: np.dtype[Any] = dtype if is_extended else np.dtype(dtype)
    except TypeError:
        raise DtypeMismatchError(
            f"The dtype of variable {name!r} must be one of JAX's, such as jnp.float32, got "
            f"{dtype!r}."
        ) from None
    if is_extended:
        return wanted
    has: np.dtype[Any] = jax.dtypes.canonicalize_dtype(wanted)
    if isinstance(dtype, type) and dtype in (float, int, complex):
        return has  # Python's types are JAX's defaults: jnp.zeros(3, float) is float32.
    if has != wanted:
        raise DtypeMismatchError(
            f"Variable {name!r} is requested as {wanted}, which JAX has only with "
            f"jax.config.update('jax_enable_x64', True). Enable it, or write dtype=jnp.{has}."
        )
    return wanted


def shape_and_dtype(name: str, value: object) -> tuple[tuple[int, ...], np.dtype[Any]]:
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


def check_found(
    name: str, shape: object, dtype: object, found: object, hint: Callable[[Any], str]
) -> None:
    """Raise if a variable is requested with another shape or dtype than it has.

    Args:
        name: The variable's whole name.
        shape: The shape requested, as a user writes it; None fits any, and a None in it any
            dimension.
        dtype: The dtype requested, as `normalize_dtype` gives it; None fits any.
        found: The variable's value or spec.
        hint: Composes from ``found`` what to do about it, for the message.

    Raises:
        ShapeMismatchError: With TF's text.
        DtypeMismatchError: With TF's text.
    """
    found_shape, found_dtype = shape_and_dtype(name, found)
    plain = type(shape) is tuple and _INT.issuperset(map(type, shape))
    if shape is not None and not (plain and shape == found_shape):  # a match is the common case
        requested = _dimensions(name, shape)
        if not _fits(requested, found_shape):
            raise ShapeMismatchError(
                f"Trying to share variable {name}, but specified shape {requested} and found shape "
                f"{found_shape}. {hint(found)}"
            )
    if dtype is not None and dtype != found_dtype:
        raise DtypeMismatchError(
            f"Trying to share variable {name}, but specified dtype {dtype} and found dtype "
            f"{found_dtype}. {hint(found)}"
        )


_INT = frozenset({int})


def _dimensions(name: str, shape: object) -> tuple[Any, ...]:
    """A shape in which dimensions may be None; the others are checked."""
    requested = _as_tuple(shape)
    normalize_shape(name, tuple(d for d in requested if d is not None))
    return requested


def _fits(requested: tuple[Any, ...], found: tuple[int, ...]) -> bool:
    return len(requested) == len(found) and all(a in (None, f) for a, f in zip(requested, found))


def _as_tuple(shape: object) -> tuple[Any, ...]:
    return tuple(shape) if isinstance(shape, Iterable) and _rank(shape) else (shape,)


def _rank(shape: object) -> int:
    return getattr(shape, "ndim", 1)  # an array of no dimensions has __iter__, which raises


def _constant(name: str, value: object) -> initializers.constant:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise InitializerError(
            f"The initial value of variable {name!r} is traced, but initial values can't depend on "
            f"traced values: {value!r}. Compute it outside the model, or assign it afterwards; if "
            "it is to depend on what the model computes, write js.init(model, inline=True)."
        )
    try:
        return initializers.constant(value)
    except InitializerError:
        raise InitializerError(
            f"Variable {name!r}: The initializer passed is not valid: {value!r} of type "
            f"{type(value).__name__}. Pass a function f(key, shape, dtype), such as init.zeros or "
            "init.glorot_uniform(); or a number, a list of numbers or an array, and no shape."
        ) from None


def _check_called(name: str, initializer: object) -> None:
    """Raise if an initializer's class, or the function that makes one, was passed itself."""
    ours = getattr(initializer, "__module__", None) == initializers.__name__
    if inspect.isclass(initializer) or (
        ours and inspect.isfunction(initializer) and "<locals>" not in initializer.__qualname__
    ):
        called = f"{'init.' if ours else ''}{initializer.__name__}()"
        raise InitializerError(
            f"Variable {name!r}: {initializer.__name__} is not an initializer, but makes one from "
            f"its parameters: write {called}."
        )
    if not ours and callable(initializer) and _has_tf1s_form(initializer):
        called = getattr(initializer, "__name__", type(initializer).__name__)
        raise InitializerError(
            f"Variable {name!r}: the initializer {called} takes the shape first and no random key, "
            "as those of TF1. Here it is f(key, shape, dtype). Write "
            f"initializer=js.tf1.initializer({called}), or give it a key as its first argument."
        )


def _has_tf1s_form(initializer: Callable[..., object]) -> bool:
    """Whether a function's first argument is a shape, or one of them is ``partition_info``."""
    function = initializer if hasattr(initializer, "__code__") else type(initializer).__call__
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    names = code.co_varnames[: code.co_argcount]
    names = names[1:] if names[:1] == ("self",) else names
    return names[:1] == ("shape",) or "partition_info" in names


# Arguments of TF1 that have no meaning in JAX.


_INSTEAD = {
    "aggregation": ("the training step averages gradients, by jax.lax.pmean or by jit over a mesh"),
    "auxiliary_name_scope": (
        "js.named, layers and `with scope:` name operations, by the scope's path; for other names "
        "write `with jax.named_scope(name):`"
    ),
    "caching_device": (
        "XLA places reads itself; sharding=, or rules= of declared.init(key, mesh=mesh), places "
        "variables"
    ),
    "synchronization": (
        "there are no replicas that differ: sharding= lays a variable out, and trainable=False "
        "marks what is not trained"
    ),
    "use_resource": (
        "all variables are values, which read as resource variables do: what was assigned before"
    ),
    "values": "they pick a graph, and there is none",
}


def refused(where: str, **arguments: object) -> ScopeError:
    """Compose the error for TF1's arguments, of which at least one is not None."""
    name, value = next(item for item in arguments.items() if item[1] is not None)
    return ScopeError(
        f"{where} was passed {name}={value!r}, which has no meaning in JAX: {_INSTEAD[name]}. "
        f"If it is passed by position, write None there. Leave {name}= out."
    )
