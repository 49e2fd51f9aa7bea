"""What a scope is made of; `Scope` and its parts stand on it.

Three slots: the **place**, what is static; the **leaves**, what JAX sees; and the **lineage**,
what JAX must never see (`_scope` says why). Each part adds the methods of one idea:
`_entering`, `_asking`, `_drawing`, `_assigning`.

Imports: `_bound`, `_declaring`, `_lineage`, `_names`.
"""

from typing import Any, Self

from jax import Array

from ._bound import Bound
from ._declaring import Declaring
from ._lineage import Lineage
from ._names import join


class Cursor:
    """A place in a tree of variables, with the values below it."""

    __slots__ = ("_leaves", "_lineage", "_place")

    _place: Bound | Declaring
    _leaves: tuple[Any, ...]
    _lineage: Lineage | None

    @property
    def name(self) -> str:
        """The path from the root, or from the last transform's boundary; ``""`` at the root."""
        return self._place.path

    def _at(
        self, place: Bound | Declaring, leaves: tuple[Any, ...], lineage: Lineage | None
    ) -> Self:
        """Another scope."""
        other = object.__new__(type(self))
        other._place = place
        other._leaves = leaves
        other._lineage = lineage
        return other

    def _begun(self) -> Lineage:
        if self._lineage is None:
            self._lineage = Lineage(at_boundary=True)
        return self._lineage

    def _written(self, name: str, value: Array) -> Array:
        """What was assigned to a variable, else its value."""
        updates = None if self._lineage is None else self._lineage.updates
        if updates is None or not updates.entries:
            return value
        written: Array = updates.entries.get(join(self.name, name), value)
        return written
