"""What a model writes while it runs: TF1's operations on variables, and records.

Each operation checks and computes like the function of the same name in `_ops`, on one variable
of the scope, and returns the new value, which it enters in the lineage's ledger (`_lineage`).

Imports: `_cursor`, `_errors`, `_lineage`, `_names`, `_ops`, `_sites`, `_tree`, JAX.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from jax import Array

from . import _ops
from ._cursor import Cursor
from ._errors import NameCollisionError, ScopeError, listed
from ._lineage import Ledger
from ._names import check, join
from ._ops import Indices, Value
from ._sites import in_transform, transform_around
from ._tree import VarTree, as_tree, from_flat


class Assigning(Cursor):
    """The operations, which work within `js.with_updates` where it began; and `record`."""

    __slots__ = ()

    def _change(self, name: str, operation: Callable[..., VarTree], *arguments: Any) -> Array:
        whole = join(self._path, check(name))
        ledger = self._begun().updates
        if ledger is None or not ledger.takes():
            raise _cannot_assign(whole, ledger, at_boundary=self._begun().at_boundary)
        before = self._written(name, self._place.read(name, self._leaves, counted=False))
        changed = operation(from_flat({whole: before}), whole, *arguments)
        value: Array = changed[whole]
        ledger.entries[whole] = value
        return value

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

    def record(self, name: str, value: Any) -> None:
        """Offer a value, such as an activation, to `js.with_records`; else nothing happens.

        Args:
            name: Relative to this scope.
            value: An array, or a pytree of arrays.

        Raises:
            NameCollisionError: If the name was recorded already, within `js.with_records`.
            ScopeError: If `js.with_records` collects it, but it is made in the body of a transform
                or in a scope made by `Scope.with_values`, so that it would be lost.
        """
        whole = join(self._path, check(name))
        ledger = self._begun().open_records()
        if ledger is None:
            requested = self._place.records
            if requested is not None and requested.picks(name, value):
                raise out_of_reach([whole])
            return
        if not ledger.takes():
            ledger.out_of_reach[whole] = jax.eval_shape(lambda: value)
            return
        if whole in ledger.entries:
            raise NameCollisionError(
                f"{whole!r} was recorded already. A loop needs a name for each: "
                f"scope.record(f'{name}_{{i}}', value)."
            )
        ledger.entries[whole] = value


def out_of_reach(names: Collection[str]) -> ScopeError:
    """Compose the error for records that can't reach the `js.with_records` that selects them."""
    return ScopeError(
        f"The records {listed(names)} were made inside a transform, from which values come out "
        "only as results. Write the function that is transformed with y, records = "
        "js.with_records(block)(scope, x) and return both; or select others. (A scope made by "
        "scope.with_values(tree) needs the same.)"
    )


def _cannot_assign(name: str, ledger: Ledger | None, *, at_boundary: bool) -> ScopeError:
    if at_boundary and not in_transform():
        return ScopeError(
            f"Variable {name!r} was assigned through a scope that was rebuilt from its leaves, as "
            "jax.lax.stop_gradient(scope) and jax.tree.map(f, scope) do. Such a scope no longer "
            "belongs to the call of js.with_updates that collects updates. Write "
            "y, updates = js.with_updates(block)(rebuilt, x), and then scope.update(updates) in "
            "the scope from which it was rebuilt."
        )
    if at_boundary or (ledger is not None and ledger.is_open):
        return ScopeError(
            f"Variable {name!r} was assigned inside {transform_around()}, from which a new value "
            "comes out only as a result. Write the function that is transformed with "
            "y, updates = js.with_updates(block)(scope, x), return both, and outside write "
            "scope.update(updates) in the scope that was passed. (If the whole model is in the "
            "transform: js.with_updates(model)(js.Scope(tree), x).)"
        )
    ended = "js.with_updates has ended" if ledger is not None else "nothing collects updates here"
    return ScopeError(
        f"Variable {name!r} was assigned, but {ended}, and the new value would be lost. Apply the "
        "model with out, updates = js.with_updates(model)(tree, ...); the new state is "
        "state | updates."
    )
