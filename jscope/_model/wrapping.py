"""Functions that jscope makes of a user's function: they have its name and its arguments.

JAX reads both. ``jax.jit(f, static_argnames="training")`` finds the position of an argument in
the signature; profiles, lowered programs and JAX's errors show the name and the line.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COPIED = ("__module__", "__doc__")


def plain_function(function: Any) -> Any:
    """The function that has the code, inside partials and wrappers, or an object's ``__call__``."""
    while not hasattr(function, "__code__"):
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(type(function).__call__, "__code__"):
            return type(function).__call__
        else:
            return function
    return inspect.unwrap(function)


def name_of(function: object) -> str:
    """A function's name; that of the function in a partial, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def named_like(wrapper: F, function: Any, *, first: tuple[str, ...] | None = None) -> F:
    """Give a wrapper the name, the documentation and the signature of a function.

    Args:
        wrapper: Takes what ``function`` takes; changed in place, and returned.
        function: Any callable.
        first: What the wrapper takes instead of the function's first argument, by position.
            Default: that argument.
    """
    plain = plain_function(function)
    # `inspect` follows `__wrapped__` to a signature, which costs nothing here. Not so JAX, which
    # looks for a name and a line: partials and objects with `__call__` have none.
    is_plain = inspect.unwrap(function) is plain
    functools.update_wrapper(wrapper, function if is_plain else plain, _COPIED, ())
    wrapper.__name__ = wrapper.__qualname__ = name_of(function)
    if first is not None or not is_plain:
        _set_signature(wrapper, function, first)
    return wrapper


def _set_signature(wrapper: Any, function: Any, first: tuple[str, ...] | None) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some that are written in C have none
        return
    parameters = list(signature.parameters.values())
    if first is not None:
        if parameters and parameters[0].kind in _POSITIONAL:
            del parameters[0]
        taken = {parameter.name for parameter in parameters}
        names = [f"{name}_" if name in taken else name for name in first]
        before = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        parameters = before + parameters
    wrapper.__signature__ = inspect.Signature(parameters)
