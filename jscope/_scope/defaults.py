"""What a scope gives to the variables requested in it: the arguments of `variable_scope`.

A default of None is inherited, and can't be unset; `js.no_regularizer` stops a regularizer.
True and `AUTO_REUSE` can't be undone, each can be replaced by the other. Custom getters and
creators compose. A constraint is for variables requested in this scope itself, not below it, as in
TF1, where all other defaults are inherited.

Only reuse, dtype, getters and the default arguments of functions (`_scope.arguments`) can change
what a look-up gives. The others are creation-only: a bound scope keeps them as attributes, and
loses them at a transform's boundary.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from jax.typing import ArrayLike

from .._errors import ConstraintError
from .._variables.initializer_argument import is_value
from .._variables.request import AUTO_REUSE, Reuse, VariableRequest, normalize_dtype
from .._variables.spec import Constraint, Partitioner
from ..initializers import Initializer
from ..regularizers import Regularizer
from .arguments import NO_ARGUMENTS, Arguments
from .getters import Creator, CustomGetter, all_in_one, by_value, check_getter, reads_names

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Defaults:
    """The defaults that a scope gives to requests in it; compared by identity, as arrays are."""

    reuse: Reuse = False
    initializer: Initializer | ArrayLike | None = None
    regularizer: Regularizer | None = None
    partitioner: Partitioner | None = None
    dtype: np.dtype[Any] | None = None
    getters: tuple[CustomGetter, ...] = ()  # outermost first
    getters_from: str | None = None  # declaring: the scope to which their names are relative
    creators: tuple[Creator, ...] = ()  # outermost first
    constraint: Constraint | None = None
    arguments: Arguments = NO_ARGUMENTS

    @functools.cached_property
    def inherited(self) -> Self:
        """Those of the scopes below."""
        return self if self.constraint is None else replace(self, constraint=None)

    @functools.cached_property
    def are_none(self) -> bool:
        """Whether there is nothing to fill a request with."""
        values = (self.initializer, self.regularizer, self.partitioner, self.constraint, self.dtype)
        return all(value is None for value in values)

    @functools.cached_property
    def custom_getter(self) -> CustomGetter | None:
        """The getters as one."""
        if len(self.getters) < 2:
            return self.getters[0] if self.getters else None
        every = all_in_one(self.getters)
        return every if any(map(reads_names, self.getters)) else by_value(every)

    def fill(self, request: VariableRequest) -> VariableRequest:
        """A request with these where nothing was given, except reuse."""
        if request.is_filled or self.are_none:
            return request

        def given(value: T, default: T) -> T:
            return default if value is None else value

        initializer = given(request.initializer, self.initializer)
        dtype = request.dtype
        if dtype is None and self.dtype is not None:
            # A value's own beats the scope's.
            dtype = None if is_value(initializer, request.shape) else self.dtype
        return replace(
            request,
            dtype=dtype,
            initializer=initializer,
            regularizer=given(request.regularizer, self.regularizer),
            partitioner=given(request.partitioner, self.partitioner),
            constraint=given(request.constraint, self.constraint),
            is_filled=True,
        )

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With what `read` gives; getters and creators are added inside of those there are."""
        added = {key: getattr(self, key) + changes[key] for key in _ADDED if key in changes}
        return replace(self, **{**changes, **added}) if changes else self


_ADDED = ("getters", "creators")


def read(
    scope: str,
    *,
    reuse: Reuse | None,
    initializer: object,
    regularizer: object,
    partitioner: object,
    custom_getter: object,
    dtype: object,
    constraint: object,
) -> dict[str, Any]:
    """Read the defaults in the arguments of a `variable_scope`: those that are given, checked.

    Args:
        scope: The scope that is entered, for messages.
        others: As of `Scope.variable_scope`.
    """
    # By identity: 1 and numpy.True_ equal True, but the checks of reuse compare identity.
    if not (reuse is None or reuse is False or reuse is True or reuse is AUTO_REUSE):
        raise ValueError(
            f"The reuse parameter must be True or False or None or js.AUTO_REUSE, got {reuse!r}."
        )
    if not (partitioner is None or callable(partitioner)):
        raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}.")
    if not (constraint is None or callable(constraint)):
        raise ConstraintError(
            f"The `constraint` argument must be a callable f(value) -> value, got {constraint!r}."
        )
    given: dict[str, Any] = {
        "reuse": reuse or None,
        "initializer": initializer,
        "regularizer": regularizer,
        "partitioner": partitioner,
        "constraint": constraint,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if custom_getter is not None:
        changes["getters"] = (check_getter(custom_getter),)
    if dtype is not None:
        changes["dtype"] = normalize_dtype(f"{scope}/**" if scope else "**", dtype)
    return changes
