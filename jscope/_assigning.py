"""TF1's operations on variables, as methods of a scope: what a model writes while it runs.

Each checks and computes like the function of the same name in `_ops`, on one variable of the
scope, and returns the new value. What becomes of it, `Scope` decides.

Imports: `_ops`, JAX.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jax import Array

from . import _ops
from ._ops import Indices, Value
from ._tree import VarTree, as_tree


class Assigning:
    """The operations; they work within `js.with_updates`, in the trace in which that began."""

    __slots__ = ()

    def _change(self, name: str, operation: Callable[..., VarTree], *arguments: Any) -> Array:
        raise NotImplementedError

    def assign(self, name: str, value: Value) -> Array:
        """Give a variable a new value, of its shape and dtype; later reads see it.

        Args:
            name: Relative to this scope.
            value: As for `js.assign`.

        Returns:
            The new value.

        Raises:
            ScopeError: Outside `js.with_updates`, or in another trace than it began in.
            MissingVariableError: If there is no such variable.
            ShapeMismatchError: If the value has another shape.
            DtypeMismatchError: If the value has another dtype.

        Source: ``tf.assign``.
        """
        return self._change(name, _ops.assign, value)

    def update(self, updates: Mapping[str, Any]) -> None:
        """`assign` each of a tree of updates, such as an inner `js.with_updates` returned.

        >>> y, updates = js.with_updates(block)(scope / "a", x)  # doctest: +SKIP
        >>> (scope / "a").update(updates)  # doctest: +SKIP
        """
        for name, value in as_tree(updates).items():
            self.assign(name, value)

    def assign_add(self, name: str, value: Value) -> Array:
        """Add to a variable: `js.assign_add`; returns the new value."""
        return self._change(name, _ops.assign_add, value)

    def assign_sub(self, name: str, value: Value) -> Array:
        """Subtract from a variable: `js.assign_sub`; returns the new value."""
        return self._change(name, _ops.assign_sub, value)

    def scatter_update(self, name: str, indices: Indices, updates: Value) -> Array:
        """Replace rows: `js.scatter_update`; returns the new value."""
        return self._change(name, _ops.scatter_update, indices, updates)

    def scatter_add(self, name: str, indices: Indices, updates: Value) -> Array:
        """Add to rows: `js.scatter_add`; returns the new value."""
        return self._change(name, _ops.scatter_add, indices, updates)

    def scatter_sub(self, name: str, indices: Indices, updates: Value) -> Array:
        """Subtract from rows: `js.scatter_sub`; returns the new value."""
        return self._change(name, _ops.scatter_sub, indices, updates)

    def scatter_mul(self, name: str, indices: Indices, updates: Value) -> Array:
        """Multiply rows: `js.scatter_mul`; returns the new value."""
        return self._change(name, _ops.scatter_mul, indices, updates)

    def scatter_div(self, name: str, indices: Indices, updates: Value) -> Array:
        """Divide rows: `js.scatter_div`; returns the new value."""
        return self._change(name, _ops.scatter_div, indices, updates)

    def scatter_min(self, name: str, indices: Indices, updates: Value) -> Array:
        """The minimum of rows and updates: `js.scatter_min`; returns the new value."""
        return self._change(name, _ops.scatter_min, indices, updates)

    def scatter_max(self, name: str, indices: Indices, updates: Value) -> Array:
        """The maximum of rows and updates: `js.scatter_max`; returns the new value."""
        return self._change(name, _ops.scatter_max, indices, updates)

    def scatter_nd_update(self, name: str, indices: Indices, updates: Value) -> Array:
        """Replace places: `js.scatter_nd_update`; returns the new value."""
        return self._change(name, _ops.scatter_nd_update, indices, updates)

    def scatter_nd_add(self, name: str, indices: Indices, updates: Value) -> Array:
        """Add to places: `js.scatter_nd_add`; returns the new value."""
        return self._change(name, _ops.scatter_nd_add, indices, updates)

    def scatter_nd_sub(self, name: str, indices: Indices, updates: Value) -> Array:
        """Subtract from places: `js.scatter_nd_sub`; returns the new value."""
        return self._change(name, _ops.scatter_nd_sub, indices, updates)

    def batch_scatter_update(self, name: str, indices: Indices, updates: Value) -> Array:
        """Replace rows, batch by batch: `js.batch_scatter_update`; returns the new value."""
        return self._change(name, _ops.batch_scatter_update, indices, updates)

    def count_up_to(self, name: str, limit: int) -> Array:
        """Count up to a limit: `js.count_up_to`; returns the value before."""
        before: list[Array] = []

        def count(tree: VarTree, whole: str) -> VarTree:
            value, counted = _ops.count_up_to(tree, whole, limit)
            before.append(value)
            return counted

        self._change(name, count)
        return before[0]
