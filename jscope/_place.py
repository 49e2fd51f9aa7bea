"""What bound and declaring scopes have in common: requests, slices of stacks, two messages.

A scope below a stack carries **words**, a ``uint32`` array of shape ``(*lengths, 2)`` with one
leading axis for each stack that is not sliced yet. `jax.lax.scan` and `jax.vmap` slice it with
the variables, so its rank tells whether they have. With random streams the words are those of
the scope's path (`_keys`); else nobody reads them and they are zeros.

Imports: `_defaults`, `_errors`, `_names`, `_recorder`, `_tree`, `_wanted`, `initializers`,
`regularizers`, `sharding`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from . import _wanted
from ._defaults import Defaults
from ._errors import MissingVariableError, ScopeError
from ._names import join
from ._recorder import Constraint, Reuse
from ._tree import missing_variable
from .initializers import Initializer
from .regularizers import Regularizer
from .sharding import Partitioner

Shape: TypeAlias = int | Iterable[int | None] | None


@dataclass(slots=True)
class Request:
    """The arguments of one `Scope.get_variable`, of which ``name`` is relative to the scope.

    Attributes:
        reuse: None is the scope's.
        is_filled: Whether the scope's defaults are in it already, so that None is none.
    """

    name: str
    shape: Shape
    dtype: DTypeLike | None
    initializer: Initializer | ArrayLike | None
    regularizer: Regularizer | None
    trainable: bool
    collections: Iterable[str] | None
    partitioner: Partitioner | None
    validate_shape: bool
    constraint: Constraint | None
    sharding: PartitionSpec | None
    reuse: Reuse | None = None
    is_filled: bool = False

    def filled(self, defaults: Defaults) -> "Request":
        """With the scope's defaults where nothing was said; reuse apart."""
        if self.is_filled or defaults.are_none:
            return self

        def said(value: Any, default: Any) -> Any:
            return default if value is None else value

        initializer = said(self.initializer, defaults.initializer)
        dtype = self.dtype
        if dtype is None and defaults.dtype is not None:
            # A value's own beats the scope's.
            dtype = None if _wanted.is_value(initializer, self.shape) else defaults.dtype
        return Request(
            self.name,
            self.shape,
            dtype,
            initializer,
            said(self.regularizer, defaults.regularizer),
            self.trainable,
            self.collections,
            said(self.partitioner, defaults.partitioner),
            self.validate_shape,
            said(self.constraint, defaults.constraint),
            self.sharding,
            self.reuse,
            True,
        )

    def shape_said(self, name: str) -> Shape:
        """The shape that the call names, by itself or as that of an initial value; or None."""
        if not self.validate_shape:
            return None
        if self.shape is None:
            # A scope's `init.constant(0.0)` is for variables of any shape.
            is_default = self.is_filled and callable(self.initializer)
            return None if is_default else _wanted.known_shape(self.initializer)
        if not (self.initializer is None or callable(self.initializer)):
            raise _wanted.shape_of_constant(name, self.shape)
        return self.shape

    def dtype_said(self, name: str, scope_default: Any) -> Any:
        """The dtype that the call or the scope names, if any; a value's own beats the scope's."""
        if self.dtype is not None:
            return _wanted.normalize_dtype(name, self.dtype)
        if scope_default is None or self.is_filled:
            return None
        is_value = _wanted.is_value(self.initializer, self.shape)
        return None if is_value else scope_default


def unsliced(words: Any) -> int:
    """The number of stacks that are not sliced yet."""
    return int(jnp.ndim(words)) - 1


def zero_words(words: Any, length: int) -> Array:
    """Words that nobody reads, for a stack below a scope with these words, or with None."""
    lead = () if words is None else tuple(words.shape[:-1])
    # JAX's, not NumPy's: users may index the leaves of a stack with traced integers.
    return jnp.zeros((*lead, length, 2), jnp.uint32)


def not_sliced(scope: str, what: str) -> ScopeError:
    """Compose the error for using a stack as if it were one of its slices."""
    return ScopeError(
        f"{what} was asked for in the scope {scope!r}, which is in a stack that is not sliced. "
        "Pass the stack to a transform over its first axis, and ask in the body: "
        "jax.lax.scan(lambda x, layer: (block(layer, x), None), x, scope.stacked(name, length)), "
        "or jax.vmap(block, in_axes=(0, None))(scope.stacked(name, length), x). To read a whole "
        "stacked variable, write scope['name/of/variable'] in the scope around the stack."
    )


def not_there(
    scope: str, name: str, below: Collection[str], everywhere: Collection[str]
) -> MissingVariableError:
    """Compose what is missing; what is below the scope is the better hint, if there is any."""
    if any(known.startswith(name + "/") or known.endswith("/" + name) for known in below):
        return missing_variable(name, below, scope)
    return missing_variable(join(scope, name), everywhere)
