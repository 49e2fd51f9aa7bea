"""What bound and declaring scopes have in common: requests, slices of stacks, two messages.

A scope below a stack carries **words**, a ``uint32`` array of shape ``(*lengths, 2)`` with one
leading axis for each stack that is not sliced yet. `jax.lax.scan` and `jax.vmap` slice it with
the variables, so its rank tells whether they have. With random streams the words are those of
the scope's path (`_keys`); else nobody reads them and they are zeros.

Imports: `_errors`, `_names`, `_initial`, `_sites`, `_tree`, `initializers`, `regularizers`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from . import _initial
from ._errors import MissingVariableError, ScopeError
from ._names import join
from ._recorder import Constraint
from ._tree import missing_variable
from .initializers import Initializer
from .regularizers import Regularizer


@dataclass(slots=True)
class Request:
    """The arguments of one `Scope.get_variable`."""

    name: str
    shape: int | Iterable[int] | None
    dtype: DTypeLike | None
    initializer: Initializer | ArrayLike | None
    regularizer: Regularizer | None
    trainable: bool
    constraint: Constraint | None
    sharding: PartitionSpec | None

    def shape_said(self) -> int | Iterable[int] | None:
        """The shape that the call names, by itself or as that of an initial value; or None."""
        return _initial.known_shape(self.initializer) if self.shape is None else self.shape

    def dtype_said(self, whole: str, scope_default: Any) -> Any:
        """The dtype that the call or the scope names, if any; a value's own beats the scope's."""
        if self.dtype is not None:
            return _initial.normalize_dtype(whole, self.dtype)
        is_value = self.initializer is not None and not callable(self.initializer)
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
