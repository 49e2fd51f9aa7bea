"""What a scope is made of; `Scope` and its parts stand on it.

Four slots: the **place**, what is static; the **leaves**, what JAX sees; and what JAX must never
see (`_scope` says why): the **lineage**, and the scopes that were **opened** through this one.
Each part adds the methods of one idea: `_entering`, `_asking`, `_drawing`, `_assigning`.

Imports: `_bound`, `_declaring`, `_getters`, `_lineage`, `_names`, `_openings`, `_recorder`,
`initializers`, `regularizers`, `sharding`, JAX and NumPy.
"""

from typing import Any, Self

import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ._bound import Bound
from ._declaring import Declaring
from ._getters import CustomGetter
from ._lineage import Lineage
from ._names import join
from ._openings import Openings
from ._recorder import Constraint, Reuse
from .initializers import Initializer
from .regularizers import Regularizer
from .sharding import Partitioner


class Cursor:
    """A place in a tree of variables, with the values below it."""

    __slots__ = ("_leaves", "_lineage", "_opened", "_place")

    _place: Bound | Declaring
    _leaves: tuple[Any, ...]
    _lineage: Lineage | None
    _opened: Openings | None

    @property
    def name(self) -> str:
        """The path from the root scope, or from the last transform's boundary; ``""`` there.

        The same while declaring as while applying. Behind a boundary nothing tells where the scope
        hangs: JAX traces a body once for all scopes of equal structure. What `jax.tree.map` and
        other pytree functions rebuild has passed a boundary, too.
        """
        lineage = self._lineage
        if lineage is None:
            return ""
        boundary = lineage.boundary
        return self._path[len(boundary) + 1 :] if boundary else self._path

    @property
    def _path(self) -> str:
        """The whole path, for keys within a run and for error texts; no result may depend on it.

        Behind a transform's boundary it is that of the scope that was traced first.
        """
        return self._place.path

    # What `variable_scope` said. Behind a transform's boundary a bound scope has lost what can't
    # change a look-up: initializer, regularizer, partitioner and constraint are None there.

    @property
    def reuse(self) -> Reuse:
        """False, True or `AUTO_REUSE`."""
        return self._place.reuse

    @property
    def dtype(self) -> Any:
        """The dtype of variables that name none."""
        named = self._place.defaults.dtype
        return np.dtype(np.float32) if named is None else named

    @property
    def initializer(self) -> Initializer | ArrayLike | None:
        """The default initializer, or None."""
        return self._place.defaults.initializer

    @property
    def regularizer(self) -> Regularizer | None:
        """The default regularizer, or None."""
        return self._place.defaults.regularizer

    @property
    def partitioner(self) -> Partitioner | None:
        """The default partitioner, or None."""
        return self._place.defaults.partitioner

    @property
    def constraint(self) -> Constraint | None:
        """The constraint of what is asked for in this very scope, or None."""
        return self._place.defaults.constraint

    @property
    def custom_getter(self) -> CustomGetter | None:
        """The custom getter, or None; of several, a function that composes them."""
        return self._place.defaults.custom_getter

    def _at(
        self,
        place: Bound | Declaring,
        leaves: tuple[Any, ...],
        lineage: Lineage | None,
        opened: Openings | None = None,
    ) -> Self:
        """Another scope."""
        other = object.__new__(type(self))
        other._place = place
        other._leaves = leaves
        other._lineage = lineage
        other._opened = opened
        return other

    def _begun(self) -> Lineage:
        if self._lineage is None:
            self._lineage = Lineage(self._path, at_boundary=True)
        return self._lineage

    def _openings(self) -> Openings:
        if self._opened is None:
            self._opened = Openings(self._path)
        return self._opened

    def _current_leaves(self) -> tuple[Any, ...]:
        """The leaves, with what was assigned to variables."""
        updates = None if self._lineage is None else self._lineage.updates
        if updates is None or not updates.entries:
            return self._leaves
        names, path, written = self._place.names(), self._path, updates.entries
        current = (
            written.get(join(path, name), leaf)
            for name, leaf in zip(names, self._leaves, strict=False)
        )
        return (*current, *self._leaves[len(names) :])

    def _written(self, name: str, value: Array) -> Array:
        """What was assigned to a variable, else its value."""
        updates = None if self._lineage is None else self._lineage.updates
        if updates is None or not updates.entries:
            return value
        written: Array = updates.entries.get(join(self._path, name), value)
        return written
