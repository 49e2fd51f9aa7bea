"""Custom getters and creators: the user's functions between a request and its variable.

A **getter**, ``f(getter, name, **arguments)``, stands between each `get_variable` and its result,
at declaration and at application alike: it may request other variables, and return any value.
A **creator**, ``f(next_creator, **arguments)``, stands between a request and the creation of a
variable, so it runs only where a model is declared.

Both compose, the inner scope's first. Getters can change a look-up, so they are part of what JAX
compares of a scope: by identity, bound methods by their object and function, `functools.partial`
by its function and arguments. A lambda made in each call is another getter each time, and causes
a new trace; one at module level isn't.

A getter can read names. So a scope with getters is also compared by its path, and equal blocks are
traced once each; unless all its getters are marked by `by_value`: these get names relative to the
requesting scope.
"""

import enum
import functools
import types
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeAlias

from .._errors import GetterError, ScopeError
from .._names.names import join

CustomGetter: TypeAlias = Callable[..., Any]
Creator: TypeAlias = Callable[..., Any]


def check_getter(getter: object) -> CustomGetter:
    """The custom getter, if it can be called.

    Raises:
        GetterError: With TF's text.
    """
    if not callable(getter):
        raise GetterError(
            f"Passed a custom_getter which is not callable: {getter!r}. A custom getter is a "
            "function f(getter, name, **arguments) that returns a value."
        )
    return getter


class _ByValue:
    """A custom getter that `by_value` has marked."""

    __slots__ = ("getter",)

    def __init__(self, getter: CustomGetter):
        self.getter = getter

    def __call__(self, getter: CustomGetter, *args: object, **kwargs: object) -> object:
        return self.getter(getter, *args, **kwargs)

    def __repr__(self) -> str:
        return f"by_value({self.getter!r})"


def by_value(getter: CustomGetter, /) -> CustomGetter:
    """Mark a custom getter that depends on the variable's value only, not on its path.

    Examples are casts, noise, and a stop-gradient of all variables. It gets names relative to the
    scope that requests the variable: ``"w"``, where other getters of scopes get ``"layer_3/w"``.
    So its arguments are the same in equal blocks, and JAX traces them once:

    >>> @js.by_value
    ... def bfloat16(getter, name, **arguments):
    ...     return getter(name, **arguments).astype(jnp.bfloat16)
    >>> scope = js.Scope({"a/w": jnp.ones(2), "b/w": jnp.ones(2)})
    >>> scope = scope.variable_scope(scope, custom_getter=bfloat16)
    >>> block = jax.jit(lambda scope: scope.get_variable("w", (2,)))  # traced once
    >>> block(scope / "a").dtype, block(scope / "b").dtype
    (dtype(bfloat16), dtype(bfloat16))

    Args:
        getter: ``f(getter, name, **arguments)``, as for `Scope.variable_scope`.

    Returns:
        A getter that calls it. Two marks of one getter are equal to JAX.

    Raises:
        GetterError: If it isn't callable.
    """
    return _ByValue(check_getter(getter))


def reads_names(getter: CustomGetter) -> bool:
    """Whether a custom getter gets whole names; else those relative to the requesting scope."""
    return not isinstance(getter, _ByValue)


def path_for(added: Iterable[CustomGetter], path: str | None, known: str | None) -> str | None:
    """The path by which the getters of a scope know it, after more getters are added.

    Args:
        added: The new ones.
        path: By which these know it: from the root, or, if they are given in the body of a
            transform, from its boundary.
        known: By which those that it had know it, or None if none of them reads names.
    """
    return path if known is None and any(map(reads_names, added)) else known


def identities(getters: Iterable[CustomGetter]) -> tuple[Hashable, ...]:
    """The identity by which custom getters are compared."""
    return tuple(map(_identity, getters))


def _identity(getter: object) -> Hashable:
    """The identity of one custom getter, or of what a partial binds: by the parts it is made of."""
    if isinstance(getter, types.MethodType):  # each look-up of a method makes another object
        return id(getter.__self__), id(getter.__func__)
    if isinstance(getter, _ByValue):
        return "by_value", _identity(getter.getter)
    if isinstance(getter, functools.partial):
        keywords = tuple((name, _identity(value)) for name, value in getter.keywords.items())
        return _identity(getter.func), tuple(map(_identity, getter.args)), keywords
    if isinstance(getter, str | bytes | int | float | complex) and not isinstance(
        getter, enum.Enum
    ):
        return type(getter), repr(getter)  # not by value: 1 == 1.0 == True, and -0.0 == 0.0
    return id(getter)


def composed(
    getters: Iterable[Callable[..., Any]], innermost: Callable[..., Any]
) -> Callable[..., Any]:
    """Getters, or creators, in one: each calls the one before it, the first ``innermost``."""
    function = innermost
    for getter in getters:
        function = functools.partial(getter, function)
    return function


def all_in_one(getters: tuple[CustomGetter, ...]) -> CustomGetter:
    """A custom getter that stands for several, outermost first."""
    return lambda getter, *args, **kwargs: composed(getters, getter)(*args, **kwargs)


def composed_in(
    scope: str, getters: Iterable[CustomGetter], innermost: Callable[..., Any]
) -> Callable[..., Any]:
    """Custom getters in one, which takes a name relative to the scope where they are called.

    Args:
        scope: How getters that read names know that scope.
        getters: Outermost first.
        innermost: Takes names relative to the scope.
    """
    if scope:
        getters = (_at(scope, getter) if reads_names(getter) else getter for getter in getters)
    return composed(getters, innermost)


def _at(scope: str, getter: CustomGetter) -> CustomGetter:
    """A custom getter that is called with names relative to a scope, and gets whole ones."""

    def called(outer: CustomGetter, *args: Any, **kwargs: object) -> object:
        def outer_by_whole_name(*args: Any, **kwargs: object) -> object:
            return _with_name(outer, functools.partial(relative, scope), args, kwargs)

        whole = functools.partial(join, scope)
        return _with_name(functools.partial(getter, outer_by_whole_name), whole, args, kwargs)

    return called


def _with_name(
    function: Callable[..., Any],
    change: Callable[[Any], str],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> object:
    """Call a getter with another name, which may be passed by position or by keyword."""
    if args:
        return function(change(args[0]), *args[1:], **kwargs)
    if "name" in kwargs:
        kwargs = {**kwargs, "name": change(kwargs["name"])}
    return function(**kwargs)


def relative(scope: str, name: str) -> str:
    """A name that a getter requests, relative to the scope where it was called.

    Raises:
        ScopeError: If it isn't below the scope, which has no values from outside.
    """
    if not scope:
        return name  # which get_variable checks
    if not (isinstance(name, str) and name.startswith(scope + "/")):
        raise ScopeError(
            f"A custom getter that was called in the scope {scope!r} requested {name!r}, which is "
            f"not below. A scope has only the variables below it: request {scope + '/...'!r}, or "
            "read the variable outside and pass its value."
        )
    return name[len(scope) + 1 :]
