"""A request for a variable: the argument list of `get_variable`, and what it means.

`VariableRequest` is the one place that knows the list. `normalize` reads the arguments of a request
that creates once, so that what follows need not look at them again: a shape is a tuple of ints, a
dtype one that JAX has under its present settings, an initializer a function
``f(key, shape, dtype)``, made of the argument by `initializer_argument`. `check_found` compares
them with a variable that exists.

Arguments of TF1 that have no meaning in JAX are refused; the error names what replaces them.
"""

import enum
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from .. import initializers
from .._errors import DtypeMismatchError, InitializerError, ScopeError, ShapeMismatchError
from .._random.initializer_bases import KnownShape
from ..initializers import Initializer
from ..regularizers import Regularizer
from .initializer_argument import (
    NoArguments,
    check_form,
    is_full,
    is_value,
    known_shape,
    rank,
    read_initializer,
    shape_of_constant,
)
from .spec import Constraint, Partitioner

Shape: TypeAlias = int | Iterable[int | None] | None


class ReuseMode(enum.Enum):
    """The type of `AUTO_REUSE`, with which a request finds a variable, or else creates it."""

    AUTO_REUSE = "get or create"

    def __repr__(self) -> str:
        return "AUTO_REUSE"


AUTO_REUSE = ReuseMode.AUTO_REUSE
Reuse: TypeAlias = bool | Literal[ReuseMode.AUTO_REUSE]


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
            raise shape_of_constant(name, self.shape, self.initializer)
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


class Wanted(NamedTuple):
    """The shape, dtype and initializer of a request for a new variable, normalized."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The shape, since this is not a stack."""
        return self.shape


def normalize(name: str, shape: Shape, dtype: DTypeLike | None, initializer: Any) -> Wanted:
    """Read the arguments of a request that creates a variable.

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
    if initializer is not None:
        initializer = read_initializer(name, shape, requested, initializer)
    known = isinstance(initializer, KnownShape | NoArguments)
    if requested is None:
        fills = isinstance(initializer, initializers.constant) and is_full(shape)
        requested = initializer.dtype if known and not fills else np.dtype(np.float32)
    if shape is None and not known:
        passed = "" if initializer is None else "The initializer passed is not valid by itself. "
        raise InitializerError(
            f"{passed}Variable {name} did not get an initial value, so its `shape` argument must "
            f"be specified. Write get_variable(..., shape=()) for a scalar, or another shape."
        )
    if initializer is None:
        initializer = initializers.default(requested, name)
    if known and not is_full(shape):
        shape = _completed(name, shape, initializer.shape)
    wanted = Wanted(normalize_shape(name, shape), requested, initializer)
    check_form(name, initializer, wanted.shape, requested)
    return wanted


def _completed(name: str, shape: Shape, own: tuple[int, ...]) -> tuple[int, ...]:
    """A requested shape with unknown dimensions, completed to its initial value's, if that fits."""
    if shape is not None and not _fits(_dimensions(name, shape), own):
        raise ShapeMismatchError(
            f"Shape of a new variable ({name}) must be fully defined, or fit its initial value's "
            f"{own}, but instead was {shape!r}."
        )
    return own


def normalize_shape(name: str, shape: Shape) -> tuple[int, ...]:
    """Read the shape in a request for a variable: a tuple of ints; 5 is ``(5,)``.

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
    """Read the dtype in a request for a variable: NumPy's, if JAX has it under its settings.

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
    """The shape and dtype of a variable, for comparison with a request; from its value or spec.

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
    """A requested shape, in which dimensions may be None; the others are checked."""
    requested = _as_tuple(shape)
    normalize_shape(name, tuple(d for d in requested if d is not None))
    return requested


def _fits(requested: tuple[Any, ...], found: tuple[int, ...]) -> bool:
    """Whether a variable's shape is one that is requested, in which dimensions may be None."""
    return len(requested) == len(found) and all(a in (None, f) for a, f in zip(requested, found))


def _as_tuple(shape: object) -> tuple[Any, ...]:
    """A requested shape as a tuple; 5 is ``(5,)``."""
    return tuple(shape) if isinstance(shape, Iterable) and rank(shape) else (shape,)


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
    """Compose the error for a request for a variable with arguments of no meaning in JAX."""
    name, value = next(item for item in arguments.items() if item[1] is not None)
    return ScopeError(
        f"{where} was passed {name}={value!r}, which has no meaning in JAX: {_INSTEAD[name]}. "
        f"If it is passed by position, write None there. Leave {name}= out."
    )
