"""The names and signatures of a user's functions, and of the functions that jscope makes of them.

Functions that jscope makes of a user's function have its name and its arguments, which JAX reads.
``jax.jit(f, static_argnames="training")`` finds the position of an argument in the signature;
profiles, lowered programs and JAX's errors show the name and the line.
"""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import jax

Function: TypeAlias = Callable[..., object]
F = TypeVar("F", bound=Function)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COPIED = ("__module__", "__doc__")


def plain_function(function: Function) -> Function:
    """The function with code and signature in a callable: in partials, wrappers, ``__call__``."""
    while not hasattr(function, "__code__"):
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(type(function).__call__, "__code__"):
            function = type(function).__call__
        else:
            break
    plain: Function = inspect.unwrap(function)
    return plain


def name_of(function: object) -> str:
    """The name that goes with the signature of a user's function, a partial or an object."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def named_like(wrapper: F, function: Function, *, first: tuple[str, ...] | None = None) -> F:
    """Give a wrapper the signature of a user's function, and its name and documentation.

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
        signature = _signature_of(function, first)
        if signature is not None:
            wrapper.__signature__ = signature  # type: ignore[attr-defined]
    return wrapper


def _signature_of(function: Function, first: tuple[str, ...] | None) -> inspect.Signature | None:
    """For a wrapper's signature: that of a user's function, with other first arguments; or None."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if first is not None:
        if parameters and parameters[0].kind in _POSITIONAL:
            del parameters[0]
        taken = {parameter.name for parameter in parameters}
        names = [f"{name}_" if name in taken else name for name in first]
        before = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        parameters = before + parameters
    return inspect.Signature(parameters)


# Names of a model's arguments.


class ArgumentNames(inspect.Signature):
    """A signature in which JAX finds the names of arguments, such as ``batch['image']``."""

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self._names = names

    def bind(self, *args: object, **kwargs: object) -> inspect.BoundArguments:
        named = dict(zip(self._names, args, strict=True))
        return inspect.BoundArguments(self, OrderedDict(named, **kwargs))


def argument_names(model: Function, args: tuple[object, ...], kwargs: object) -> list[str]:
    """The names of the leaves of a model's arguments: ``x``, ``batch['image']``.

    Args:
        model: ``model(scope, *args, **kwargs)``.
        args: Positional arguments, pytrees.
        kwargs: Arguments by name, pytrees.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    positional = _positional_names(model, 1 + len(args))[1:]
    names = []
    for (which, argument, *rest), _ in flat:
        name = argument.key if which.idx else positional[argument.idx]
        names.append(name + jax.tree_util.keystr(tuple(rest)))
    # A user's node may give its children one key.
    is_unique = len(set(names)) == len(names)
    return names if is_unique else [f"{name} (leaf {i})" for i, name in enumerate(names)]


def _positional_names(model: Function, count: int) -> list[str]:
    """The names, in a model's signature, of the first arguments passed by position."""
    try:
        parameters = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in _POSITIONAL][:count]
    rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "args")
    return names + [f"{rest}[{i}]" for i in range(count - len(names))]
