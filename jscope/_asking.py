"""Asking for variables: the methods of `Scope` that look variables up, or create them.

Imports: `_cursor`, `_names`, `_place`, `_recorder`, `_sites`, `initializers`, `regularizers`, JAX.
"""

from collections.abc import Iterable

from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from ._cursor import Cursor
from ._names import check
from ._place import Request
from ._recorder import Constraint
from ._sites import call_site
from .initializers import Initializer
from .regularizers import Regularizer


class Asking(Cursor):
    """`get_variable`, ``scope[name]`` and `has`."""

    __slots__ = ()

    def get_variable(
        self,
        name: str,
        shape: int | Iterable[int] | None = None,
        dtype: DTypeLike | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        trainable: bool = True,
        *,
        constraint: Constraint | None = None,
        sharding: PartitionSpec | None = None,
    ) -> Array:
        """The value of a variable; while declaring, the variable is created.

        Args:
            name: Relative to this scope; ``a/b`` is ``b`` in the scope ``a``.
            shape: The variable's shape; left out if ``initializer`` is a value. While
                applying a model, None accepts any shape.
            dtype: The variable's dtype. Default: the scope's, or float32. While applying a
                model, a dtype that nobody named isn't checked.
            initializer: ``f(key, shape, dtype) -> array``, or the initial value itself.
                Default: the scope's, or Glorot uniform for floats and zeros for integers
                and bools.
            regularizer: ``f(value) -> scalar`` for `Declaration.regularization_loss`.
                Default: the scope's.
            trainable: Whether an optimizer should update it.
            constraint: ``f(value) -> value`` for `Declaration.apply_constraints`.
            sharding: How `Declaration.init` shards it over a mesh. Default: what the scope's
                partitioner says.

        Returns:
            The value; an abstract one while declaring.

        Raises:
            MissingVariableError: If it doesn't exist: in a bound scope, or with ``reuse=True``.
            VariableExistsError: If it was asked for already, and sharing was not said.
            ShapeMismatchError: If it has another shape.
            DtypeMismatchError: If it has another dtype than was named.
            InitializerError: If the initial value doesn't fit.
            RegularizerError: If the regularizer isn't callable.
            ScopeError: If this scope is a stack that is not sliced.

        Source: ``tf.get_variable``. Differences: a shared variable's dtype is checked only if
            one is named; a constant initial value of another shape is an error when sharing.
        """
        request = Request(
            check(name), shape, dtype, initializer, regularizer, trainable, constraint, sharding
        )
        value: Array = self._place.get(request, self._leaves, self._begun(), call_site())
        return self._written(name, value)

    def __getitem__(self, name: str) -> Array:
        """The value of a variable that exists; never creates, and may be repeated."""
        self._place.check_sliced(self._leaves, f"Variable {name!r}")
        return self._written(check(name), self._place.read(name, self._leaves))

    def has(self, name: str) -> bool:
        """Whether the variable exists: in the tree, or, declaring, among those created so far."""
        return self._place.has(check(name))
