"""Entering scopes: the methods of `Scope` that give other scopes.

Imports: `_cursor`, `_errors`, `_initial`, `_names`, `_recorder`, `initializers`,
`regularizers`, `sharding`.
"""

import operator
from typing import Any, Self

from jax.typing import ArrayLike, DTypeLike

from . import _initial
from ._cursor import Cursor
from ._errors import ShapeMismatchError
from ._names import check
from ._recorder import AUTO_REUSE, Reuse
from .initializers import Initializer
from .regularizers import Regularizer
from .sharding import Partitioner


class Entering(Cursor):
    """``scope / name``, `variable_scope`, `shared`, `stacked`."""

    __slots__ = ()

    @property
    def reuse(self) -> Reuse:
        """False, True or `AUTO_REUSE`."""
        return self._place.reuse

    def __truediv__(self, name: str) -> Self:
        """The scope ``name`` below this one; ``scope / "a/b"`` is ``scope / "a" / "b"``."""
        if not isinstance(name, str):
            raise TypeError(f"scope / name takes a string, got {name!r} of {type(name).__name__}.")
        place, leaves = self._place.child(check(name), self._leaves)
        return self._at(place, leaves, self._begun())

    def variable_scope(
        self,
        name: str,
        *,
        reuse: Reuse | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        partitioner: Partitioner | None = None,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """The scope ``name`` below this one, with defaults for what is in it.

        Every argument that is None is inherited. The result is its own context manager,
        ``with scope.variable_scope("a") as s:``; leaving it does nothing.

        Args:
            name: Relative to this scope.
            reuse: True: variables must exist; `AUTO_REUSE`: get or create. Inherited, it
                can't be undone: False means the same as None.
            initializer: Default for `get_variable`.
            regularizer: Default for `get_variable`; `js.no_regularizer` stops inheritance.
            partitioner: ``f(name, shape, dtype) -> PartitionSpec``, asked for each variable
                that is created without ``sharding``; see `js.sharding`.
            dtype: Default for `get_variable`.

        Source: ``tf.variable_scope``. Differences: a scope is a value and nothing is
            entered; names can't be empty; a partitioner gives how a variable is sharded over
            a mesh, and the variable stays one array.
        """
        # By identity: 1 and numpy.True_ equal True, but are not it where reuse is looked at.
        if not any(reuse is known for known in (None, False, True, AUTO_REUSE)):
            raise ValueError(
                "The reuse parameter must be True or False or None or js.AUTO_REUSE, got "
                f"{reuse!r}."
            )
        if not (partitioner is None or callable(partitioner)):
            raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}.")
        defaults: dict[str, Any] = {
            "reuse": reuse or None,
            "initializer": initializer,
            "regularizer": regularizer,
            "partitioner": partitioner,
            "dtype": None,
        }
        below = self / name
        if dtype is not None:
            defaults["dtype"] = _initial.normalize_dtype(f"{below.name}/**", dtype)
        changed = {key: value for key, value in defaults.items() if value is not None}
        below._place = below._place.with_defaults(changed)
        return below

    def shared(self, name: str) -> Self:
        """The scope ``name`` below this one, in which asking twice means sharing.

        Short for ``variable_scope(name, reuse=AUTO_REUSE)``.
        """
        return self.variable_scope(name, reuse=AUTO_REUSE)

    def stacked(self, name: str, length: int) -> Self:
        """The scope ``name`` as a stack: ``length`` equal layers, sliced by `scan` or `vmap`.

        Its variables have a leading axis of this length. A transform over it gives its body
        one slice, a scope like any other:

        >>> def tower(scope, x):
        ...     layers = scope.stacked("layers", 12)
        ...     return jax.lax.scan(lambda x, layer: (block(layer, x), None), x, layers)[0]

        Slice ``i`` of ``layers/w`` has the initial value and the random draws that ``layers/i/w``
        has in a loop over ``scope / f"layers/{i}"``, to the last bit; `js.stack` and `js.unstack`
        convert one tree into the other. Stacks nest to any depth.

        Args:
            name: Relative to this scope.
            length: The number of slices, at least 1.

        Raises:
            ShapeMismatchError: If the tree's variables below ``name`` don't have this many
                slices; all such are listed.
        """
        try:
            length = operator.index(length)
        except TypeError:
            raise TypeError(
                f"The length of the stack {name!r} must be an int when the model is traced, got "
                f"{length!r}."
            ) from None
        if length < 1:
            raise ShapeMismatchError(f"The stack {name!r} needs at least one slice, got {length}.")
        place, leaves = self._place.stacked(check(name), length, self._leaves)
        return self._at(place, leaves, self._begun())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None
