"""Default arguments of functions, which travel with a scope: what `tf1.arg_scope` gives.

They decide what a function requests and computes, so they are part of what JAX compares of a
scope, and cross a transform's boundary. They are compared by value: numbers, strings, tuples, lists
and dicts of such, and whatever is hashable; arrays by identity. So the same arguments given in
each call cause no new trace.
"""

import enum
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeAlias

Function: TypeAlias = Callable[..., Any]


class Arguments:
    """Default arguments by function; immutable, and compared by value."""

    __slots__ = ("_identity", "_of")

    def __init__(self, of: Mapping[Function, Mapping[str, object]]):
        self._of = of
        self._identity = frozenset((function, _identity(each)) for function, each in of.items())

    def of(self, function: Function) -> Mapping[str, object]:
        """Those of one function."""
        return self._of.get(function, {})

    def added(self, functions: Iterable[Function], given: Mapping[str, object]) -> "Arguments":
        """With more for some functions, which replace those of the same name."""
        changed = {function: {**self.of(function), **given} for function in functions}
        return Arguments({**self._of, **changed})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arguments) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


NO_ARGUMENTS = Arguments({})


def _identity(value: object) -> Hashable:
    """What a default argument is compared by: its value if it is hashable, else its identity."""
    if isinstance(value, Mapping):
        return "mapping", tuple((key, _identity(each)) for key, each in value.items())
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_identity, value))
    if isinstance(value, functools.partial):
        return "partial", _identity(value.func), _identity(value.args), _identity(value.keywords)
    if isinstance(value, int | float | complex) and not isinstance(value, enum.Enum):
        return type(value), repr(value)  # not by value: 1 == 1.0 == True, and -0.0 == 0.0
    try:
        hash(value)
    except TypeError:
        return id(value)  # which `Arguments` keeps alive
    return type(value), value
