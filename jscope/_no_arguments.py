"""Initialisers that take no arguments: ``initializer=lambda: table()``.

Such a function gives the initial value itself, so the variable has that value's shape and dtype,
and none may be asked for beside it (a shape with unknown dimensions may). It runs compiled, like
any initialiser. A parameter that has a default counts as none; but where the shape is known, what
takes a key, a shape and a dtype gets them.

Source: ``tf.get_variable``, TensorFlow 1.15. One difference: a dtype that is asked for must be the
value's, where TF ignores it.

Imports: `_dtypes`, `_errors`, `initializers`, JAX and NumPy.
"""

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from . import initializers
from ._dtypes import is_python, widths
from ._errors import InitializerError


@dataclass(frozen=True)
class NoArguments:
    """A function of no arguments, as an initialiser; and what its value is like."""

    function: Callable[[], Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, key: Any, shape: Any, dtype: Any = None) -> Array:
        del key, shape, dtype  # whoever calls it compares them with what it gives
        value = self.function()
        return jnp.asarray(value, self.dtype if is_python(value) else None)

    def __repr__(self) -> str:
        return repr(self.function)


def takes_none(initializer: Any) -> bool:
    """Whether something can be called without arguments, to give an initial value."""
    if isinstance(initializer, types.FunctionType):  # nearly all that isn't jscope's
        defaults = initializer.__defaults__ or ()
        keywords = initializer.__kwdefaults__ or {}
        code = initializer.__code__
        return code.co_argcount == len(defaults) and code.co_kwonlyargcount == len(keywords)
    if not callable(initializer) or type(initializer).__module__ == initializers.__name__:
        return False
    try:
        parameters = inspect.signature(initializer).parameters.values()
    except (TypeError, ValueError):  # a builtin that doesn't say
        return False
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in several for p in parameters)


def takes_any(initializer: Callable[..., Any]) -> bool:
    """Whether what can be called without arguments may as well be called with key, shape, dtype."""
    try:
        inspect.signature(initializer).bind(None, None, None)
    except TypeError:
        return False
    return True


def no_arguments(name: str, function: Callable[[], Any], asked: Any = None) -> NoArguments:
    """The function as an initialiser; runs it once, abstractly.

    If it gives Python's numbers, they have the dtype that is asked for, where they can.

    Raises:
        InitializerError: If it gives no array.
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
    takes = asked is not None and not has_dtype and asked in widths(like.dtype)
    return NoArguments(function, like.shape, asked if takes else like.dtype)
