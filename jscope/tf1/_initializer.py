"""TF1's form of initializers, as one of jscope's."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from .._errors import InitializerError


def initializer(function: Callable[..., ArrayLike], /) -> "OfTensorFlow":
    """An initializer in TF1's form, ``f(shape, dtype, partition_info=None)``, as one of jscope's.

    >>> def rows(shape, dtype=None, partition_info=None):
    ...     return np.arange(shape[0])[:, None] * np.ones(shape)
    >>> def model(scope):
    ...     return scope.get_variable("w", (2, 3), initializer=js.tf1.initializer(rows))
    >>> js.init(model)(jax.random.key(0))["w"][:, 0]
    Array([0., 1.], dtype=float32)

    It must compute the same each time, by NumPy or JAX: there is no key in this form. For random
    values write ``f(key, shape, dtype)``, or use `jscope.initializers`.

    Args:
        function: Is called with the shape as a list and, as it takes them, ``dtype`` and
            ``partition_info=None``. A result of another floating-point or integer dtype is
            converted to the variable's.

    Raises:
        InitializerError: If it can't be called, or takes a key first.

    Source: ``tf.get_variable(initializer=)``.
    """
    if not callable(function):
        raise InitializerError(
            "js.tf1.initializer takes a function of shape, dtype and partition_info, got "
            f"{function!r}. A value is an initializer as it is."
        )
    first = next(iter(_parameters(function)), None)
    if first is not None and first.name == "key":
        called = getattr(function, "__name__", type(function).__name__)
        raise InitializerError(
            f"js.tf1.initializer takes a function of shape, dtype and partition_info, but {called} "
            f"takes a random key first, as jscope's initializers do. Write initializer={called}."
        )
    return OfTensorFlow(function)


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class OfTensorFlow:
    """The result of `initializer`. Equal for one function."""

    function: Callable[..., ArrayLike]

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any) -> Array:
        del key  # there is none in TF1's form
        offered = {"dtype": dtype, "partition_info": None}
        others = _parameters(self.function)[1:]
        required = [p.name for p in others if p.default is p.empty and p.kind in _BY_POSITION]
        if offered.keys() >= set(required):
            given = {p.name: offered[p.name] for p in others if p.name in offered}
            value = self.function(list(shape), **given)
        else:  # under names of its own
            value = self.function(list(shape), *[*offered.values()][: len(required)])
        if isinstance(value, Array):
            return value.astype(dtype)
        return jnp.asarray(np.asarray(value), dtype)
