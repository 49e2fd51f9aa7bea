"""The interface of a scope's context, which is bound to values or declares.

A context is the static part of a scope: its path, defaults and variables' names. `Bound` and
`Declaring` implement all of `ScopeContext`, so callers never distinguish them. Methods take the
scope's leaves, which JAX sees, beside it.

A scope with random streams carries the **name hash** of its path (`_random.keys`) in two leaves, a
word in each. Below stacks these have one axis for each stack that is not sliced yet:
`jax.lax.scan` and `jax.vmap` slice them with the variables, so their rank shows whether they have.
A scope below a stack that has no streams carries one array of zeros for this, which is not read.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, Self, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from .._errors import ScopeError
from .._random.keys import Lane
from .._tree.vartree import VarTree
from .._variables.request import Reuse, VariableRequest
from .._variables.spec import VariableSpec
from .arguments import Arguments
from .call_sites import Site
from .defaults import Defaults
from .getters import Creator, CustomGetter
from .ledgers import RequestedRecords
from .usage import Usage

Leaves: TypeAlias = tuple[Any, ...]


class ScopeContext(Protocol):
    """The interface of a scope's context: its path, its defaults, its variables.

    Attributes:
        path: The whole path; no result may depend on it.
        getter_path: The path by which custom getters know the scope.
        has_values: Whether variables have values.
        second_use: What to do about a second request for a name that isn't shared, for the error.
        creates: Whether requests create variables, as they do while declaring.
        is_unused: Whether it is known that nothing was done with the scope since it was opened.
    """

    second_use: str
    creates: bool
    is_unused: bool

    @property
    def path(self) -> str: ...
    @property
    def reuse(self) -> Reuse: ...
    @property
    def getters(self) -> tuple[CustomGetter, ...]: ...
    @property
    def getter_path(self) -> str: ...
    @property
    def creators(self) -> tuple[Creator, ...]: ...
    @property
    def defaults(self) -> Defaults: ...
    @property
    def arguments(self) -> Arguments: ...
    @property
    def records(self) -> RequestedRecords | None: ...
    @property
    def has_values(self) -> bool: ...

    # Other contexts.

    def child(self, name: str, leaves: Leaves) -> tuple[Self, Leaves]:
        """That of the scope ``name`` below."""

    def stacked(self, name: str, length: int, leaves: Leaves) -> tuple[Self, Leaves]:
        """That of the stack ``name`` below."""

    def folded(self, i: int | Array, leaves: Leaves) -> tuple[Self, Leaves]:
        """With an integer folded into the random keys."""

    def with_defaults(self, changes: Mapping[str, Any], name: str) -> Self:
        """With other defaults, in the scope that code knows by ``name``."""

    def opened(self, changes: Mapping[str, Any], name: str) -> Self:
        """`with_defaults`, as the last step of `Scope.variable_scope`."""

    def with_arguments(self, arguments: Arguments) -> Self:
        """With other default arguments of functions."""

    def without_constraint(self) -> Self:
        """Without the default that is not inherited."""

    def requesting(self, records: RequestedRecords) -> Self:
        """With records that are requested."""

    def with_values(self, tree: VarTree, leaves: Leaves) -> tuple[Self, Leaves]:
        """Over other values."""

    def static(self) -> Self:
        """What crosses a transform's boundary."""

    def to_bytes(self) -> bytes:
        """The static part as bytes, as `jax.export` writes it; or the error that it can't be."""

    def is_foreign(self, other: "ScopeContext") -> str | None:
        """Why a scope can't be entered from here, in words, or None."""

    # Variables. A found variable has the shape and dtype that the scope sees.

    def fill(self, request: VariableRequest) -> tuple[VariableRequest, np.dtype[Any] | None]:
        """The request with the scope's defaults, and the default dtype if the request has none."""

    def find(self, name: str, whole: str, leaves: Leaves) -> object:
        """The variable of a name, or None."""

    def create(self, whole: str, request: VariableRequest, reuse: Reuse, site: Site) -> object:
        """A new variable, in the form of `find`; or the error that there is none."""

    def value(self, found: Any) -> Array:
        """The value of a found or created variable."""

    def origin(self, found: Any) -> str:
        """Where the shape and dtype of a found variable come from, for an error."""

    def read(self, name: str, leaves: Leaves, *, counted: bool = True) -> Array:
        """The value of a variable that exists."""

    def has(self, name: str) -> bool:
        """Whether a variable exists."""

    def variables(self) -> tuple[str, ...]:
        """The names below the scope, relative to it."""

    def trainable_variables(self, usage: Usage) -> tuple[str, ...]:
        """Those that are trainable."""

    def created(self) -> Mapping[str, VariableSpec]:
        """What the run has created so far, by whole name, in order; nothing if it doesn't."""

    def check_sliced(self, leaves: Leaves, what: str) -> None:
        """Raise if the scope is a stack that is not sliced."""

    def draw(self, stream: str, name: str | None, leaves: Leaves) -> Array:
        """A random key."""

    # Blocks of ``with``.

    def enter(self, site: Site | None, names: frozenset[str]) -> None:
        """Begin a block. The site is given if mistakes in its use are to be noticed.

        Args:
            names: The Python names of the scope around it.
        """

    def leave(self, names: frozenset[str], *, failed: bool) -> str | None:
        """End a block, where the scope has these Python names; what to warn of."""

    def is_from(self, other: "ScopeContext") -> bool:
        """Whether it is known that this scope was opened from the other one."""

    # For the pytree registration, and for printing.

    def names(self) -> tuple[str, ...]:
        """The names of the leaves that are variables, which come first."""

    def with_leaves(
        self, function: Callable[[str, Any], object], rest: object, leaves: Leaves
    ) -> Leaves:
        """Leaves that are ``function(name, value)`` of variables, and ``rest``."""

    def leaf_keys(self, leaves: Leaves) -> Iterable[object]:
        """JAX's keys of the leaves."""

    def summary(self) -> str:
        """A summary of the variables below, for printing."""


def unsliced_stacks(marker: Lane) -> int:
    """The number of stacks around a context that are not sliced yet, by one of its leaves."""
    return int(jnp.ndim(marker))


def stack_marker(outer: Lane | None, length: int) -> Array:
    """The leaf of a stack's context that shows if it is sliced, in place of a name hash."""
    lead = () if outer is None else tuple(outer.shape)
    # JAX's, not NumPy's: users may index the leaves of a stack with traced integers.
    return jnp.zeros((*lead, length), jnp.uint32)


WITH_A_TREE = "jax.export.export(jax.jit(lambda tree, x: model(js.Scope(tree), x)))(tree, x)"


def unsliced_error(scope: str, what: str) -> ScopeError:
    """Compose the error, of any context, for a request in a stack that is not sliced."""
    return ScopeError(
        f"{what} was requested in the scope {scope!r}, which is in a stack that is not sliced. "
        "Pass the stack to a transform over its first axis, and request it in the body: "
        "jax.lax.scan(lambda x, layer: (block(layer, x), None), x, scope.stacked(name, length)), "
        "or jax.vmap(block, in_axes=(0, None))(scope.stacked(name, length), x). To read a whole "
        "stacked variable, write scope['name/of/variable'] in the scope around the stack."
    )
