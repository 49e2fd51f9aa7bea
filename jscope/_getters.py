"""Custom getters and creators: functions of the user's between a request and its variable.

A **getter**, ``f(getter, name, **arguments)``, stands between each `get_variable` and its result,
at declaration and at application alike: it may ask for other variables, and return any value.
A **creator**, ``f(next_creator, **arguments)``, stands between a request and the creation of a
variable, so it runs only where a model is declared.

Both compose, the inner scope's first. Getters can change a look-up, so they are part of what JAX
compares of a scope: by identity, bound methods by their object and function. A lambda made in
each call is another getter each time, and traces anew; one at module level isn't.

Imports: `_errors`, `_names`, JAX.
"""

import functools
import types
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeAlias

from ._errors import GetterError, ScopeError

CustomGetter: TypeAlias = Callable[..., Any]
Creator: TypeAlias = Callable[..., Any]


def check_getter(getter: Any) -> CustomGetter:
    """The getter, if it can be called.

    Raises:
        GetterError: In TF's words.
    """
    if not callable(getter):
        raise GetterError(
            f"Passed a custom_getter which is not callable: {getter!r}. A custom getter is a "
            "function f(getter, name, **arguments) that returns a value."
        )
    return getter  # type: ignore[no-any-return]


def identities(getters: Iterable[CustomGetter]) -> tuple[Hashable, ...]:
    """What getters are compared by."""
    return tuple(map(_identity, getters))


def _identity(getter: CustomGetter) -> Hashable:
    if isinstance(getter, types.MethodType):  # each look-up of a method makes another object
        return id(getter.__self__), id(getter.__func__)
    return id(getter)


def composed(getters: Iterable[Callable[..., Any]], innermost: Callable[..., Any]) -> Any:
    """All in one: each calls the one before it, the first calls ``innermost``."""
    function = innermost
    for getter in getters:
        function = functools.partial(getter, function)
    return function


def relative(scope: str, name: Any) -> str:
    """A name that a getter asks for, relative to the scope where it was called.

    Raises:
        ScopeError: If it isn't below the scope, which has no values from elsewhere.
    """
    if not scope:
        return name  # type: ignore[no-any-return]  # which get_variable checks
    if not (isinstance(name, str) and name.startswith(scope + "/")):
        raise ScopeError(
            f"A custom getter that was called in the scope {scope!r} asked for {name!r}, which is "
            f"not below. A scope has only the variables below it: ask for {scope + '/...'!r}, or "
            "read the variable outside and pass its value."
        )
    return name[len(scope) + 1 :]
