"""The base classes of initializers: what an initializer may be to those who run it.

Any function of key, shape and dtype is an initializer, and is called in a program of its own. One
of these classes says more of itself: that its value is a `Draw`, which is drawn together with
those of other variables; that NumPy computes it; or which shape it has.
"""

import abc
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from .._errors import InitializerError
from .draws import Draw

_Shape: TypeAlias = tuple[int, ...]
_Dtype: TypeAlias = np.dtype[Any]


class Elementwise(abc.ABC):
    """An initializer whose value is a `Draw`, for all shapes and dtypes or for some."""

    @abc.abstractmethod
    def draw(self, shape: _Shape, dtype: _Dtype) -> Draw | None:
        """The draw whose values are the initializer's; None if it is none.

        Raises:
            InitializerError: If the initializer has no values of this shape and dtype.
        """


class Independent(Elementwise):
    """An initializer that gives floating-point numbers, drawn independently of each other."""

    @abc.abstractmethod
    def floats(self, shape: _Shape, dtype: _Dtype) -> Draw:
        """How they are drawn."""

    def draw(self, shape: _Shape, dtype: _Dtype) -> Draw | None:
        check_floating(self, dtype)
        return self.floats(shape, dtype)

    def __call__(self, key: Array, shape: _Shape, dtype: DTypeLike = jnp.float32) -> Array:
        dtype, shape = np.dtype(dtype), tuple(shape)
        check_floating(self, dtype)
        return self.floats(shape, dtype).values(key, shape)


def check_floating(initializer: object, dtype: _Dtype) -> None:
    """Raise an `InitializerError` unless an initializer is called with a floating-point dtype."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InitializerError(
            f"{initializer!r} gives floating-point numbers, but the variable is {dtype}. Write "
            "dtype=jnp.float32; or for integers init.zeros, init.constant(...) or "
            "init.random_uniform(minval, maxval)."
        )


class Literal(abc.ABC):
    """An initializer that draws nothing, and whose value NumPy computes: nothing is compiled."""

    @abc.abstractmethod
    def array(self, shape: _Shape, dtype: _Dtype) -> np.ndarray[Any, Any]:
        """The value, equal to that of the call with any key. It may be a view, or read-only.

        Raises:
            InitializerError: If the initializer has no value of this shape and dtype.
        """


class KnownShape(abc.ABC):
    """An initializer that knows the shape of its value, and the dtype it has by itself.

    ``get_variable`` uses both where it is given neither; `constant` has an exception.
    The dtype follows JAX's rules: a Python or NumPy integer is int32, and a Python float float32,
    unless x64 is enabled.
    """

    __module__ = "jscope.initializers"  # where it is public

    @property
    @abc.abstractmethod
    def shape(self) -> _Shape:
        """The shape that the variable has when none is requested."""

    @property
    @abc.abstractmethod
    def dtype(self) -> _Dtype:
        """The dtype that the variable has when none is requested."""
