"""`VariableSpec`: what is declared of a variable."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from ..initializers import Initializer
from ..regularizers import Regularizer
from .collections import GraphKeys

Constraint: TypeAlias = Callable[[Array], Array]
Partitioner: TypeAlias = Callable[[str, tuple[int, ...], Any], PartitionSpec | None]
Stack: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class VariableSpec:
    """The spec of a variable: all that is declared of it.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
        initializer: ``f(key, shape, dtype) -> array``, its initial value.
        trainable: Whether an optimizer should update it.
        regularizer: ``f(value) -> scalar`` or None.
        constraint: ``f(value) -> value`` or None, for `Declaration.apply_constraints`.
        sharding: How one slice is sharded over a mesh; None if not given.
        collections: The collections that were named for it, for `Declaration.collection`.
        stack: ``(scope, length)`` of each stack around it, outermost first. The shape begins
            with these lengths; initializer, regularizer, constraint and sharding are those of
            one slice.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer
    trainable: bool = True
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    sharding: PartitionSpec | None = None
    collections: tuple[str, ...] = (GraphKeys.GLOBAL_VARIABLES,)
    stack: Stack = ()

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The shape of one slice: without the stacks' lengths."""
        return self.shape[len(self.stack) :]
