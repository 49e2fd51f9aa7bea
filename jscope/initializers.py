r"""TensorFlow 1's initializers: ``f(key, shape, dtype) -> array``, by TF1's names.

    scope.get_variable("w", (784, 10), initializer=init.glorot_uniform())
    scope.get_variable("b", (10,), initializer=init.zeros)

Any such function is an initializer, those of `jax.nn.initializers` too. The ones here are
called with their parameters first, except `zeros` and `ones`, which need none.

Facts that hold for all of them, and that other files rely on:

* **They are values.** They are immutable, compare and hash by their parameters (arrays by
  content), print as the call that makes them, and pickle. Variables with equal initializers form
  one compile group.
* **They are pure.** The array is a function of key, shape and dtype, which are static except
  the key (typed or ``uint32``, of any implementation). They trace under any transform.
* **Nothing is cast silently.** A dtype that can't hold the values is an `InitializerError`.
* **Half precision is drawn in float32 and rounded.** JAX draws bfloat16 normals from 128
  distinct values, none beyond 2.9 standard deviations.
* **A `KnownShape` has a shape.** A variable with one is created without passing a shape.

Against TF: there is no ``seed`` (the variable's name and the key replace it), and no
``dtype`` in constructors (the variable's is passed; called by hand, the default is float32).
TF's ``partition_info`` has no counterpart: a variable is initialized whole, however sharded.
"""
# ruff: noqa: N801  # The classes are what users call; `random_normal` is TF's name.

import abc
import builtins
import functools
import hashlib
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from ._dtypes import can_convert, integer_limits, number_kind
from ._errors import InitializerError
from ._names import names as _names
from ._names.tf1 import no_attribute, public
from ._random import draws
from ._random.initializer_bases import Independent, KnownShape, Literal, check_floating

__all__ = [
    "InitializedValue",
    "Initializer",
    "KnownShape",
    "categorical",
    "constant",
    "convolutional_orthogonal_1d",
    "convolutional_orthogonal_2d",
    "convolutional_orthogonal_3d",
    "default",
    "delta_orthogonal",
    "fill",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "initialized_value",
    "lecun_normal",
    "lecun_uniform",
    "linspace",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "range",
    "truncated_normal",
    "uniform_unit_scaling",
    "variance_scaling",
    "zeros",
]


_Shape = tuple[int, ...]
_Dtype = np.dtype[Any]


class Initializer(Protocol):
    """An initializer, TF1's or another: a function of key, shape and dtype that gives an array."""

    def __call__(self, key: Array, shape: _Shape, dtype: Any, /) -> Array: ...


# 1. The same value everywhere, or a literal value.


@dataclass(frozen=True, repr=False)
class _Everywhere(Literal):
    """`zeros` and `ones`: initializers themselves, that may be written with ``()`` too."""

    name: str
    value: int

    @overload
    def __call__(self) -> Self: ...
    @overload
    def __call__(self, key: object, shape: _Shape, dtype: DTypeLike = ...) -> Array: ...
    def __call__(
        self, key: object = None, shape: object = None, dtype: DTypeLike = jnp.float32
    ) -> Self | Array:
        if key is None and shape is None:
            return self
        if shape is None:
            raise InitializerError(
                f"`{self.name}` is an initializer, called with (key, shape, dtype); it got "
                f"{key!r} alone. Write initializer=init.{self.name}, and pass the shape to "
                "get_variable."
            )
        return jnp.full(shape, self.value, dtype)

    def array(self, shape: _Shape, dtype: _Dtype) -> np.ndarray[Any, Any]:
        return np.broadcast_to(np.asarray(self.value, dtype), shape)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:  # There is one of each, also after unpickling.
        return self.name


zeros = _Everywhere("zeros", 0)
"""Zero, or False, in any dtype; the same as ``jax.nn.initializers.zeros``.

``zeros()`` is `zeros`. Source: ``tf.zeros_initializer``; strings don't exist in JAX.
"""

ones = _Everywhere("ones", 1)
"""One, or True, in any dtype; the same as ``jax.nn.initializers.ones``.

``ones()`` is `ones`. Source: ``tf.ones_initializer``.
"""


@dataclass(frozen=True, repr=False)
class constant(KnownShape, Literal):
    """A literal value: a number, or numbers that fill the variable row by row.

    If there are fewer numbers than elements, the last one is repeated. Where no shape is
    requested, a number has shape ``()``, a list or an array its own, and the dtype is the value's.
    Where one is, the variable is float32 unless a dtype is requested, as any other is.

    Args:
        value: A number or bool, a list or tuple of them, nested or not, or an array. It is
            copied.

    Raises:
        InitializerError: If the value is anything else; and on the call, if there are more
            numbers than elements, or the dtype can't hold them: a fraction in an integer
            dtype, 300 in uint8, 1 in bool.

    >>> constant([0, 1, 2])(jax.random.key(0), (2, 2), "int32")
    Array([[0, 1],
           [2, 2]], dtype=int32)

    Source:
        ``tf.constant_initializer``. Differences: TF wraps 300 to 44 in uint8, and casts
        NumPy arrays without a check; here both are errors. TF fills with zeros where the list
        is empty; here that is an error. ``jax.nn.initializers.constant`` broadcasts
        where TF fills.
    """

    value: Any = field(default=0, compare=False)
    _digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        _store_array(self, "value")

    @property
    def shape(self) -> _Shape:
        """The shape of the value as it was written."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> _Dtype:
        """The dtype that JAX gives the value."""
        return jax.dtypes.canonicalize_dtype(self.value.dtype)

    def array(self, shape: _Shape, dtype: _Dtype) -> np.ndarray[Any, Any]:
        values = _hold(self, self.value, dtype)
        if not self.shape:
            return np.broadcast_to(values, shape)
        missing = math.prod(shape) - values.size
        if missing < 0 or (missing > 0 and not values.size):
            problem = "Too many elements" if missing < 0 else "No elements"
            raise InitializerError(
                f"{problem} provided. Takes at most {math.prod(shape)}, but got {values.size}. "
                f"A variable of shape {tuple(shape)} is to be filled from {self!r} of shape "
                f"{self.shape}."
            )
        flat = values.reshape(-1)
        return np.pad(flat, (0, missing), mode="edge" if missing else "constant").reshape(shape)

    def __call__(self, key: object, shape: _Shape, dtype: DTypeLike | None = None) -> Array:
        del key
        array = self.array(shape, np.dtype(self.dtype if dtype is None else dtype))
        return jnp.asarray(array) if self.shape else jnp.full(shape, self.value, array.dtype)

    def __repr__(self) -> str:
        return f"constant({_array_text(self.value)})"

    def __reduce__(self) -> tuple[Any, ...]:  # Unpickled arrays would be writable.
        return constant, (self.value,)


def fill(value: complex) -> constant:
    """The initializer `constant` of one number, which is the same everywhere.

    Raises:
        InitializerError: If the value isn't a single number.

    Source:
        ``tf.fill``, whose ``dims`` are the variable's shape here. Difference: ``tf.fill([2], 7)``
        is int32; a variable of a shape is float32 unless a dtype is requested.
    """
    filled = constant(value)
    if filled.shape:
        raise InitializerError(
            f"`fill` takes one number, got {value!r}. Write init.constant({value!r})."
        )
    return filled


class _Sequence(KnownShape, Literal):
    """Numbers that follow from a few parameters, in one dimension."""

    @abc.abstractmethod
    def _values(self) -> np.ndarray[Any, Any]:
        """The numbers, before rounding."""

    def array(self, shape: _Shape, dtype: _Dtype) -> np.ndarray[Any, Any]:
        if tuple(shape) != self.shape:
            raise InitializerError(
                f"{self!r} has shape {self.shape}, but the variable has shape {tuple(shape)}. "
                "Leave the shape out, or change one of the two."
            )
        return _hold(self, self._values(), dtype)

    def __call__(self, key: object, shape: _Shape, dtype: DTypeLike | None = None) -> Array:
        del key
        return jnp.asarray(self.array(shape, np.dtype(self.dtype if dtype is None else dtype)))


@dataclass(frozen=True)
class range(_Sequence):
    r"""Evenly spaced numbers, up to but without a limit: ``start + i * delta``.

    There are $\lceil (\texttt{limit} - \texttt{start}) / \texttt{delta} \rceil$ of them.
    Integers are int32 by themselves; if one argument is a float, all are float32.

    Args:
        start: The first number; if there is no limit, the limit, and counting begins at 0.
        limit: Where to stop, exclusive.
        delta: The step; may be negative.

    Raises:
        InitializerError: If ``delta`` is zero or leads away from the limit, or an argument
            isn't a finite number; and on the call, if the variable has another shape, or a dtype
            that can't hold the numbers.

    >>> range(3, 18, 3)(jax.random.key(0), (5,))
    Array([ 3,  6,  9, 12, 15], dtype=int32)

    Source:
        ``tf.range``. One difference: TF adds ``delta`` again and again, in float32, so that
        its last numbers carry the sum of the rounding errors; here each is rounded once.
    """

    start: float
    limit: Any = None
    delta: float = 1
    _natural: _Dtype = field(init=False, repr=False)  # 3 == 3.0, but range(3) != range(3.0)

    def __post_init__(self) -> None:
        if self.limit is None:
            _store(self, start=0, limit=self.start)
        numbers = {name: _number(self, name) for name in ("start", "limit", "delta")}
        _store(self, **numbers, _natural=np.result_type(*map(type, numbers.values())))
        if self.delta == 0:
            raise InitializerError(f"Requires delta != 0, got {self!r}.")
        if self.delta > 0 and self.start > self.limit:
            raise InitializerError(f"Requires start <= limit when delta > 0, got {self!r}.")
        if self.delta < 0 and self.start < self.limit:
            raise InitializerError(f"Requires start >= limit when delta < 0, got {self!r}.")
        _ = self.shape

    @property
    def shape(self) -> _Shape:
        """How many numbers there are, as a shape."""
        if self._natural == np.int64:
            return (int(-((self.start - self.limit) // self.delta)),)
        # In the dtype itself, as TF does: 0.3 / 0.1 is 3 in float32, and below 3 in float64.
        with np.errstate(all="ignore"):
            start, limit, delta = np.array([self.start, self.limit, self.delta], self.dtype)
            count = np.ceil((limit - start) / delta)
        if not np.isfinite(count):
            raise InitializerError(f"{self!r} has no finite number of elements in {self.dtype}.")
        return (int(count),)

    @property
    def dtype(self) -> _Dtype:
        """int32 or float32; int64 or float64 if x64 is enabled."""
        return jax.dtypes.canonicalize_dtype(self._natural)

    def _values(self) -> np.ndarray[Any, Any]:
        return self.start + self.delta * np.arange(*self.shape, dtype=self._natural)


@dataclass(frozen=True)
class linspace(_Sequence):
    """The initializer with ``num`` evenly spaced numbers from ``start`` to ``stop``, both included.

    Args:
        start: The first number.
        stop: The last number, exactly, unless ``num`` is 1.
        num: How many; at least 1.

    Raises:
        InitializerError: If ``num`` isn't a positive integer, or an end isn't a finite number; and
            on the call, if the variable has another shape or no floating-point dtype.

    >>> linspace(0, 1, 5)(jax.random.key(0), (5,))
    Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)

    Source:
        ``tf.linspace``, TensorFlow 1.15. One difference: TF refuses integer ends; here they
        are read as floats.
    """

    start: float
    stop: float
    num: int

    def __post_init__(self) -> None:
        _store(self, start=float(_number(self, "start")), stop=float(_number(self, "stop")))
        num = _number(self, "num")
        if not isinstance(num, int) or num < 1:
            raise InitializerError(f"Requires num > 0, an integer, got {self!r}.")
        _store(self, num=num)

    @property
    def shape(self) -> _Shape:
        """``(num,)``."""
        return (self.num,)

    @property
    def dtype(self) -> _Dtype:
        """float32; float64 if x64 is enabled."""
        return jax.dtypes.canonicalize_dtype(np.float64)

    def _values(self) -> np.ndarray[Any, Any]:
        return np.linspace(self.start, self.stop, self.num)


# 2. Numbers drawn independently.


@dataclass(frozen=True)
class random_uniform(Independent):
    r"""Uniform on $[\texttt{minval}, \texttt{maxval})$: floats, or integers for an integer dtype.

    Args:
        minval: Lower bound, included.
        maxval: Upper bound, excluded; 1 if it is left out. Integer dtypes need it, and whole
            numbers for both.

    Raises:
        InitializerError: If ``minval`` is above ``maxval``; and on the call, if an integer
            dtype can't hold the bounds, or no integer lies between them.

    Source:
        ``tf.random_uniform_initializer``, over ``jax.random.uniform`` and ``randint``
        (``jax.nn.initializers.uniform`` has no lower bound). Differences: TF knows int32 and
        int64 only; it swaps swapped bounds of floats; and both libraries sometimes round a
        float up to ``maxval``.
    """

    minval: float = 0
    maxval: float | None = None

    def __post_init__(self) -> None:
        _store(self, minval=_number(self, "minval"))
        if self.maxval is not None:
            _store(self, maxval=_number(self, "maxval"))
        if self.minval > self._above:
            raise InitializerError(f"Requires minval <= maxval, got {self!r}.")

    @property
    def _above(self) -> float:
        return 1 if self.maxval is None else self.maxval

    def __call__(self, key: Array, shape: _Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype = np.dtype(dtype)
        if jnp.issubdtype(dtype, jnp.integer):
            return jax.random.randint(key, shape, *self._whole_bounds(dtype), dtype)
        return super().__call__(key, shape, dtype)

    def draw(self, shape: _Shape, dtype: _Dtype) -> draws.Draw | None:
        return None if jnp.issubdtype(dtype, jnp.integer) else super().draw(shape, dtype)

    def floats(self, shape: _Shape, dtype: _Dtype) -> draws.Draw:
        return draws.uniform(dtype, self.minval, self._above)

    def _whole_bounds(self, dtype: _Dtype) -> tuple[int, int]:
        if self.maxval is None:
            raise InitializerError(
                f"Must specify maxval for integer dtype {dtype}. "
                f"Write init.random_uniform({self.minval}, maxval)."
            )
        least, most = integer_limits(dtype)
        low, high = int(self.minval), int(self.maxval)
        if (low, high) != (self.minval, self.maxval) or low < least or high > most:
            raise InitializerError(
                f"{self!r} can't draw {dtype}: the bounds must be whole numbers from {least} to "
                f"{most}."
            )
        if low == high:
            raise InitializerError(f"Need minval < maxval, got {low} >= {high} for {dtype}.")
        return low, high


@dataclass(frozen=True)
class _Normal(Independent):
    mean: float = 0.0
    stddev: float = 1.0
    _of: ClassVar[Callable[[_Dtype, float, float], draws.Draw]]

    def __post_init__(self) -> None:
        _store(self, mean=float(_number(self, "mean")), stddev=_not_negative(self, "stddev"))

    def floats(self, shape: _Shape, dtype: _Dtype) -> draws.Draw:
        return type(self)._of(dtype, self.mean, self.stddev)


@dataclass(frozen=True)
class random_normal(_Normal):
    r"""Normal: $\mathcal{N}(\texttt{mean}, \texttt{stddev}^2)$.

    Args:
        mean: Mean.
        stddev: Standard deviation, not negative.

    >>> random_normal(stddev=0.02)
    random_normal(mean=0.0, stddev=0.02)

    Source:
        ``tf.random_normal_initializer``; ``jax.nn.initializers.normal`` plus the mean. One
        difference: TF takes a negative ``stddev``, as if it were positive.
    """

    _of = draws.normal


@dataclass(frozen=True)
class truncated_normal(_Normal):
    r"""Normal, drawn again where it is more than two ``stddev`` away from the mean.

    The standard deviation of the result is about 0.88 times ``stddev``.

    Args:
        mean: Mean.
        stddev: Standard deviation before truncation, not negative.

    Source:
        ``tf.truncated_normal_initializer``; ``jax.nn.initializers.truncated_normal`` plus the
        mean. One difference: TF takes a negative ``stddev``, as if it were positive.
    """

    _of = draws.truncated_normal


@dataclass(frozen=True, repr=False)
class categorical:
    r"""Initial class numbers: in row $b$ with probabilities $e^{l_{bc}} / \sum_k e^{l_{bk}}$.

    Args:
        logits: $l$, logarithms of probabilities or of anything proportional to them, in shape
            ``[batch, classes]``. The variable is ``[batch, samples]``.

    Raises:
        InitializerError: If the logits aren't real numbers of rank 2 with at least one class;
            and on the call, if the variable isn't ``[batch, samples]``, or its dtype isn't an
            integer one that holds the last class.

    >>> categorical(np.log([[10.0, 10.0]]))(jax.random.key(0), (1, 5)).shape
    (1, 5)

    Source:
        ``tf.multinomial``, whose ``num_samples`` is the variable's second dimension here. One
        difference: TF gives int64; here any integer dtype, int32 by default.
    """

    logits: Any = field(compare=False)
    _digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        _store_array(self, "logits")
        shape = self.logits.shape
        if len(shape) != 2 or not shape[1] or number_kind(self.logits.dtype) == 3:
            raise InitializerError(
                f"Shape must be rank 2 but is rank {len(shape)}, or there are no classes or no "
                f"real numbers: `categorical` takes [batch, classes], got {self.logits.dtype} "
                f"{shape}."
            )

    def __call__(self, key: Array, shape: _Shape, dtype: DTypeLike = jnp.int32) -> Array:
        batch, classes = self.logits.shape
        if len(shape) != 2 or shape[0] != batch:
            raise InitializerError(
                f"{self!r} gives shape ({batch}, samples), but the variable has shape "
                f"{tuple(shape)}."
            )
        dtype = np.dtype(dtype)
        if not jnp.issubdtype(dtype, jnp.integer) or integer_limits(dtype)[1] < classes - 1:
            raise InitializerError(
                f"{self!r} gives class numbers from 0 to {classes - 1}, but the variable is "
                f"{dtype}. Write dtype=jnp.int32."
            )
        logits = jnp.asarray(self.logits, jnp.float32)[:, None, :]
        return jax.random.categorical(key, logits, shape=tuple(shape)).astype(dtype)

    def __repr__(self) -> str:
        return f"categorical({_array_text(self.logits)})"

    def __reduce__(self) -> tuple[Any, ...]:  # Unpickled arrays would be writable.
        return categorical, (self.logits,)


# 3. Numbers scaled to the shape of the variable.


@dataclass(frozen=True)
class uniform_unit_scaling(Independent):
    r"""Uniform on $\pm\,\texttt{factor}\sqrt{3/n}$; ``shape[:-1]`` has $n$ elements.

    With factor 1, ``x @ w`` has about the variance of ``x``.

    Args:
        factor: Multiplies the bound; not negative.

    Source:
        ``tf.uniform_unit_scaling_initializer``. One difference: TF takes a negative factor, as
        if it were positive.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        _store(self, factor=_not_negative(self, "factor"))

    def floats(self, shape: _Shape, dtype: _Dtype) -> draws.Draw:
        bound = self.factor * math.sqrt(3 / max(1, math.prod(shape[:-1])))
        return draws.uniform(dtype, -bound, bound)


@dataclass(frozen=True, repr=False)
class variance_scaling(Independent):
    r"""Random numbers of variance $\texttt{scale} / n$, where $n$ counts inputs or outputs.

    A matrix is ``[inputs, outputs]``. A convolution kernel is ``[..., inputs, outputs]``, and
    both counts are multiplied by the elements of its window. A vector has its length for
    both, a scalar 1. An $n$ below 1, of an empty array, counts as 1.

    Args:
        scale: Positive factor of the variance.
        mode: What $n$ is: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``, their mean.
        distribution: ``"uniform"``, ``"untruncated_normal"``, or ``"truncated_normal"``: at two
            standard deviations, widened by 1.14 so that the variance is as promised.
            ``"normal"`` is truncated too.

    Raises:
        InitializerError: If a parameter is none of these.

    Source:
        ``tf.variance_scaling_initializer``. ``jax.nn.initializers.variance_scaling`` gives the
        same numbers from rank 2 on, up to rounding; but its ``"normal"`` isn't truncated, and
        it refuses vectors, scalars and empty arrays.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        scale = float(_number(self, "scale"))
        if scale <= 0:
            raise InitializerError(f"`scale` must be positive float. Got {scale!r}.")
        if self.mode not in (modes := ("fan_in", "fan_out", "fan_avg")):
            raise InitializerError(f"Invalid `mode` argument: {self.mode!r}. Write one of {modes}.")
        distribution = str(self.distribution).lower()  # as TF does
        if distribution == "normal":
            distribution = "truncated_normal"
        if distribution not in (known := ("truncated_normal", "untruncated_normal", "uniform")):
            raise InitializerError(
                f"Invalid `distribution` argument: {self.distribution!r}. Write one of {known}."
            )
        _store(self, scale=scale, distribution=distribution)

    def floats(self, shape: _Shape, dtype: _Dtype) -> draws.Draw:
        if len(shape) < 2:
            inputs = outputs = math.prod(shape)
        else:
            inputs, outputs = (math.prod(shape[:-2]) * count for count in shape[-2:])
        n = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[self.mode]
        stddev = math.sqrt(self.scale / max(1, n))
        if self.distribution == "uniform":
            bound = math.sqrt(3) * stddev
            return draws.uniform(dtype, -bound, bound)
        if self.distribution == "untruncated_normal":
            return draws.normal(dtype, 0.0, stddev)
        # The standard deviation of a standard normal that is truncated at two.
        return draws.truncated_normal(dtype, 0.0, stddev / 0.87962566103423978)

    def __repr__(self) -> str:
        parameters = (self.scale, self.mode, self.distribution)
        if parameters in _NAMED:
            return f"{_NAMED[parameters]}()"
        return "variance_scaling(scale={!r}, mode={!r}, distribution={!r})".format(*parameters)


_NAMED = {
    (1.0, "fan_avg", "uniform"): "glorot_uniform",
    (1.0, "fan_avg", "truncated_normal"): "glorot_normal",
    (2.0, "fan_in", "uniform"): "he_uniform",
    (2.0, "fan_in", "truncated_normal"): "he_normal",
    (1.0, "fan_in", "uniform"): "lecun_uniform",
    (1.0, "fan_in", "truncated_normal"): "lecun_normal",
}


def glorot_uniform() -> variance_scaling:
    r"""Uniform on $\pm\sqrt{6 / (\text{inputs} + \text{outputs})}$; TF1's default.

    Source:
        ``tf.glorot_uniform_initializer``, ``jax.nn.initializers.glorot_uniform``; X. Glorot and
        Y. Bengio, *Understanding the difficulty of training deep feedforward neural
        networks*, 2010.
    """
    return variance_scaling(1.0, "fan_avg", "uniform")


def glorot_normal() -> variance_scaling:
    r"""Truncated normal of variance $2 / (\text{inputs} + \text{outputs})$.

    Source:
        ``tf.glorot_normal_initializer``, ``jax.nn.initializers.glorot_normal``; Glorot and
        Bengio, as `glorot_uniform`.
    """
    return variance_scaling(1.0, "fan_avg", "truncated_normal")


def he_uniform() -> variance_scaling:
    r"""Uniform on $\pm\sqrt{6 / \text{inputs}}$, for layers that end in a ReLU.

    Source:
        ``tf.initializers.he_uniform``, ``jax.nn.initializers.he_uniform``; K. He et al.,
        *Delving deep into rectifiers*, 2015.
    """
    return variance_scaling(2.0, "fan_in", "uniform")


def he_normal() -> variance_scaling:
    r"""Truncated normal of variance $2 / \text{inputs}$, for layers that end in a ReLU.

    Source:
        ``tf.initializers.he_normal``, ``jax.nn.initializers.he_normal``; He et al., as
        `he_uniform`.
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal")


def lecun_uniform() -> variance_scaling:
    r"""Uniform on $\pm\sqrt{3 / \text{inputs}}$.

    Source:
        ``tf.initializers.lecun_uniform``, ``jax.nn.initializers.lecun_uniform``; Y. LeCun et
        al., *Efficient backprop*, 1998.
    """
    return variance_scaling(1.0, "fan_in", "uniform")


def lecun_normal() -> variance_scaling:
    r"""Truncated normal of variance $1 / \text{inputs}$.

    Source:
        ``tf.initializers.lecun_normal``, ``jax.nn.initializers.lecun_normal``; LeCun et al.,
        as `lecun_uniform`.
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal")


# 4. Matrices and kernels that multiply lengths by ``gain``.


@dataclass(frozen=True)
class _Gain(abc.ABC):
    gain: float = 1.0

    def __post_init__(self) -> None:
        _store(self, gain=float(_number(self, "gain")))

    @abc.abstractmethod
    def _draw(self, key: Array, shape: _Shape, dtype: _Dtype) -> Array:
        """An array of a floating-point dtype of 32 bits or more."""

    def __call__(self, key: Array, shape: _Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype = np.dtype(dtype)
        check_floating(self, dtype)
        return self._draw(key, tuple(shape), draws.wide(dtype)).astype(dtype)


@dataclass(frozen=True)
class orthogonal(_Gain):
    r"""A random matrix with $W^\top W = \texttt{gain}^2 I$, or $W W^\top$ if it is wider than high.

    With more than two dimensions, the matrix is ``[prod(shape[:-1]), shape[-1]]``, reshaped.
    All such matrices are equally likely.

    Args:
        gain: Factor by which lengths grow.

    Raises:
        InitializerError: On the call, if the shape has fewer than two dimensions.

    Source:
        ``tf.orthogonal_initializer``, ``jax.nn.initializers.orthogonal``; A. Saxe et al.,
        *Exact solutions to the nonlinear dynamics of learning in deep linear neural networks*,
        2014. One difference from both: bfloat16 and float16 work.
    """

    def _draw(self, key: Array, shape: _Shape, dtype: _Dtype) -> Array:
        if len(shape) < 2:
            raise InitializerError(
                "The tensor to initialize must be at least two-dimensional for `orthogonal`, got "
                f"shape {shape}. Write init.glorot_uniform() or init.zeros for vectors."
            )
        return jax.nn.initializers.orthogonal(self.gain)(key, shape, dtype)


@dataclass(frozen=True)
class delta_orthogonal(_Gain):
    """A convolution kernel with an orthogonal matrix at its centre and zeros elsewhere.

    The convolution, of stride 1 and with circular padding, multiplies the length of its input
    by ``gain``.

    Args:
        gain: Factor by which lengths grow.

    Raises:
        InitializerError: On the call, if the shape isn't ``[..., inputs, outputs]`` with one to
            three dimensions of the window, and no more inputs than outputs.

    Source:
        ``tf.contrib.framework.convolutional_delta_orthogonal``,
        ``jax.nn.initializers.delta_orthogonal``; L. Xiao et al., *Dynamical isometry and a mean
        field theory of CNNs*, 2018, algorithm 2. Here bfloat16 and float16 work.
    """

    def _draw(self, key: Array, shape: _Shape, dtype: _Dtype) -> Array:
        if not 3 <= len(shape) <= 5:
            raise InitializerError(
                "The tensor to initialize must be at least three-dimensional and at most "
                f"five-dimensional for `delta_orthogonal`, got shape {shape}."
            )
        _check_filters(self, shape)
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        return jax.nn.initializers.delta_orthogonal(self.gain)(key, shape, dtype)


@dataclass(frozen=True)
class _ConvolutionalOrthogonal(_Gain):
    _window: ClassVar[int]

    def _draw(self, key: Array, shape: _Shape, dtype: _Dtype) -> Array:
        if len(shape) != self._window + 2:
            rank = {1: "three", 2: "four", 3: "five"}[self._window]
            raise InitializerError(
                f"The tensor to initialize must be {rank}-dimensional for {self!r}, got shape "
                f"{shape}."
            )
        _check_filters(self, shape)
        *window, inputs, outputs = shape
        if len(set(window)) > 1:
            raise InitializerError(
                f"Kernel sizes must be equal for {self!r}, got {tuple(window)} in shape {shape}. "
                "Write init.delta_orthogonal() for other windows."
            )
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        # Convolving with [P, 1 - P] along one axis, P a projection, keeps lengths and makes the
        # window one longer; P projects on a random half of a random basis. TF multiplies
        # these small kernels with one another before the matrix: the same, but slower.
        # All random numbers come from one draw, since each costs a second to compile.
        axes = tuple(builtins.range(len(window))) * (window[0] - 1)
        normal = jax.random.normal(key, (len(axes) + 1, outputs + 1, outputs), dtype)
        q, r = jnp.linalg.qr(normal[:, :-1])
        bases = q * jnp.sign(jnp.diagonal(r, axis1=1, axis2=2))[:, None, :]
        halves = bases * (normal[:, -1:] > 0).astype(dtype)
        multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
        kernel = bases[0, :inputs].reshape((1,) * len(window) + (inputs, outputs)) * self.gain
        for axis, half in zip(axes, halves[1:]):
            inside = multiply(multiply(kernel, half), half.T)
            gap = jnp.zeros_like(jax.lax.index_in_dim(kernel, 0, axis))
            left = jnp.concatenate([inside, gap], axis)
            kernel = left + jnp.concatenate([gap, kernel - inside], axis)
        return kernel


@dataclass(frozen=True)
class convolutional_orthogonal_1d(_ConvolutionalOrthogonal):
    """A kernel ``[size, inputs, outputs]`` that multiplies the length of its input by ``gain``.

    As with `delta_orthogonal`, for stride 1 and circular padding; but here the kernel is spread
    over the whole window.

    Args:
        gain: Factor by which lengths grow.

    Raises:
        InitializerError: On the call, if the shape has another rank, sides of different sizes,
            or more inputs than outputs.

    Source:
        ``tf.contrib.framework.convolutional_orthogonal_1d``; Xiao et al., as
        `delta_orthogonal`, algorithm 1. Here bfloat16 and float16 work.
    """

    _window = 1


@dataclass(frozen=True)
class convolutional_orthogonal_2d(_ConvolutionalOrthogonal):
    """A kernel ``[size, size, inputs, outputs]``, otherwise as `convolutional_orthogonal_1d`.

    Source:
        ``tf.contrib.framework.convolutional_orthogonal_2d``.
    """

    _window = 2


@dataclass(frozen=True)
class convolutional_orthogonal_3d(_ConvolutionalOrthogonal):
    """A kernel ``[size, size, size, inputs, outputs]``, as `convolutional_orthogonal_1d`.

    Source:
        ``tf.contrib.framework.convolutional_orthogonal_3d``.
    """

    _window = 3


@dataclass(frozen=True)
class identity(_Gain, Literal):
    """A matrix with ``gain`` on its diagonal and zeros elsewhere; it needn't be square.

    Args:
        gain: The number on the diagonal.

    Raises:
        InitializerError: On the call, if the variable isn't a matrix.

    Source:
        ``tf.initializers.identity``.
    """

    def array(self, shape: _Shape, dtype: _Dtype) -> np.ndarray[Any, Any]:
        check_floating(self, dtype)
        if len(shape) != 2:
            raise InitializerError(
                f"Identity matrix initializer can only be used for 2D matrices, got shape {shape}."
            )
        wide = draws.wide(dtype)
        values: np.ndarray[Any, Any] = np.eye(*shape, dtype=wide) * wide.type(self.gain)
        return values.astype(dtype)

    def _draw(self, key: Array, shape: _Shape, dtype: _Dtype) -> Array:
        del key
        return jnp.asarray(self.array(shape, dtype))


# 5. The value of another variable; the default.


@dataclass(frozen=True)
class InitializedValue:
    """The initializer that takes another variable's initial value; see `initialized_value`."""

    name: str
    function: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        _names.check(self.name)
        if self.function is not None and not callable(self.function):
            raise InitializerError(f"`function` must be callable, got {self.function!r}.")

    def __call__(self, key: object, shape: _Shape, dtype: DTypeLike = jnp.float32) -> Array:
        """Raise: one initializer can't know the variables of the others."""
        del key, shape, dtype
        raise InitializerError(
            f"{self!r} can't be computed by itself, it needs the value of {self.name!r}. Pass it "
            "to get_variable as initializer=, and js.init gives both variables their values."
        )

    def __repr__(self) -> str:
        function = "" if self.function is None else f", {self.function!r}"
        return f"initialized_value({self.name!r}{function})"


def initialized_value(
    name: str, function: Callable[[Array], Array] | None = None
) -> InitializedValue:
    """The initial value of another variable, passed through ``function`` if there is one.

    The order in which the two variables are created doesn't matter.

    Args:
        name: Name of the other variable.
        function: From the other variable's value to this one's. Equal initializers form one
            compile group; a function equals itself alone, so define it once, at module level.

    Raises:
        VariableNameError: If the name isn't legal.
        InitializerError: If ``function`` isn't callable; and whenever it is called by hand.

    >>> initialized_value("encoder/w")
    initialized_value('encoder/w')

    Source:
        ``tf.Variable.initialized_value``. One difference: in TF the other variable may have
        been assigned to before this one is initialized; here it is always the initial value.
    """
    return InitializedValue(name, function)


def default(dtype: DTypeLike, name: str = "of unknown name") -> Initializer:
    """TF1's choice where no initializer is given: `glorot_uniform` for floats, else `zeros`.

    Args:
        dtype: The variable's dtype: floating, integer or bool.
        name: The variable's name, for the message.

    Raises:
        InitializerError: For complex numbers, which have no default, and for anything else.

    Source:
        ``tf.get_variable(initializer=None)``.
    """
    if jnp.issubdtype(dtype, jnp.floating):
        return _default_of_floats()
    if jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_):
        return zeros
    raise InitializerError(
        f"An initializer for variable {name} of {dtype} is required: that dtype has no default. "
        "Write initializer=init.zeros, or another."
    )


_default_of_floats = functools.cache(
    glorot_uniform
)  # built once, since checking its parameters takes time


# Shared by the initializers.


def _store(self: object, **fields: object) -> None:
    """Set parameters of one of TF1's initializers, which are frozen, while it is being built."""
    for name, value in fields.items():
        object.__setattr__(self, name, value)


def _number(self: object, name: str) -> int | float:
    """An initializer's parameter ``name`` as a finite Python number, or raise."""
    value = given = getattr(self, name)
    if getattr(given, "ndim", None) == 0 and not isinstance(given, jax.core.Tracer):
        value = given.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InitializerError(
            f"`{name}` of `{type(self).__name__}` must be a finite number that isn't traced, got "
            f"{given!r}."
        )
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _not_negative(self: object, name: str) -> float:
    value = float(_number(self, name))
    if value < 0:
        raise InitializerError(
            f"`{name}` of `{type(self).__name__}` must not be negative, got {value!r}."
        )
    return value


def _store_array(self: constant | categorical, name: str) -> None:
    """Make an initializer's array a read-only copy, and take the digest it is compared by."""
    given = getattr(self, name)
    owner = f"`{name}` of `{type(self).__name__}`"
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        raise InitializerError(
            f"{owner} must be a constant, got a traced array: {given!r}. Initial values that "
            "depend on inputs go through js.init(model, inline=True)."
        )
    try:
        array = np.array(given, order="C")
        array = array.astype(array.dtype.newbyteorder("="))
        kind = number_kind(array.dtype)
    except (TypeError, ValueError):
        kind = -1  # ragged lists, PRNG keys
    if kind < 0:
        raise InitializerError(
            f"Invalid type for initial value: {owner} must be a number, a list or tuple of "
            f"numbers, or an array, got {given!r} of type {type(given).__name__}."
        )
    array.flags.writeable = False
    about = f"{array.dtype.name} {array.shape} ".encode()
    _store(self, **{name: array}, _digest=hashlib.sha256(about + array.tobytes()).digest())


def _array_text(array: np.ndarray[Any, Any]) -> str:
    """An array in the ``repr`` of TF1's initializers: Python that makes it; or dtype and shape."""
    if array.size > 10:
        return f"<{array.dtype} array of shape {array.shape}>"
    if array.dtype in (np.bool_, np.int64, np.float64, np.complex128):
        return repr(array.tolist())
    return f"np.array({array.tolist()!r}, {array.dtype.name!r})"


def _hold(
    self: KnownShape, values: np.ndarray[Any, Any], wanted: DTypeLike
) -> np.ndarray[Any, Any]:
    """The values of a literal initializer in another dtype, or raise if it can't hold them."""
    dtype = np.dtype(wanted)
    if can_convert(values.dtype, dtype):
        with np.errstate(all="ignore"):
            result = values.astype(dtype)
        if number_kind(dtype) != 1:
            held = np.array_equal(np.isfinite(result), np.isfinite(values))
        else:
            held = np.array_equal(result.astype(object), values.astype(object))
        if held:
            return result
    raise InitializerError(
        f"{self!r} has {values.dtype} values that {dtype} can't hold. Write other values, or "
        "request another dtype."
    )


def _check_filters(self: object, shape: _Shape) -> None:
    if shape[-2] > shape[-1]:
        raise InitializerError(
            f"In_filters cannot be greater than out_filters for {self!r}, got {shape[-2]} and "
            f"{shape[-1]} in shape {tuple(shape)}."
        )


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, __all__)


def __dir__() -> list[str]:
    return public(globals())
