"""Gradients of rows, `IndexedSlices`, and TF1's clipping by the norm of all gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from ..._errors import IndexOutOfRangeError, ShapeMismatchError
from ._optax import optax
from .schedules import scalar


@jax.tree_util.register_pytree_node_class
class IndexedSlices:
    """A gradient, or an update, that is zero but for some rows: what ``tf.gather``'s gradient is.

    In JAX a gradient is an array. For one of rows, differentiate with respect to the rows:

    >>> table, ids = jnp.ones((5, 2)), jnp.array([3, 1, 3])
    >>> rows = jax.grad(lambda rows: jnp.sum(rows**2))(table[ids])
    >>> gradient = js.tf1.train.IndexedSlices(rows, ids, table.shape)
    >>> gradient.to_dense()[3]
    Array([4., 4.], dtype=float32)

    The optimizers of `jscope.tf1.train` take it in the place of an array, and some return it as
    an update, which ``optax.apply_updates`` adds: ``variable + update`` is defined.

    Args:
        values: The rows, ``[n, *dense_shape[1:]]``; those of one index are summed.
        indices: Which rows they are, ``[n]`` integers. Rows out of range are dropped.
        dense_shape: The shape of the whole.

    Raises:
        ShapeMismatchError: If ``values``, ``indices`` and ``dense_shape`` don't fit together.
        IndexOutOfRangeError: If an index is concrete and out of range.

    Source: ``tf.IndexedSlices``. Differences: it has a dense shape always; a traced index out of
        range is dropped, since a compiled program can't raise.
    """

    __array_ufunc__ = None  # so that NumPy leaves "array + slices" to __radd__

    def __init__(self, values: ArrayLike, indices: ArrayLike, dense_shape: tuple[int, ...]):
        self.values = jnp.asarray(values)
        self.indices = jnp.asarray(indices)
        self.dense_shape = tuple(map(int, dense_shape))
        rows = (*self.indices.shape, *self.dense_shape[1:])
        if self.indices.ndim != 1 or self.values.shape != rows:
            raise ShapeMismatchError(
                f"IndexedSlices of shape {list(self.dense_shape)} were passed values of shape "
                f"{list(self.values.shape)} and indices of shape {list(self.indices.shape)}. "
                "Indices have one axis, and values are a row for each: write "
                "tf1.train.IndexedSlices(rows.reshape(-1, *table.shape[1:]), ids.reshape(-1), "
                "table.shape)."
            )
        if not isinstance(indices, jax.core.Tracer):
            self._check_range(np.asarray(indices))

    def _check_range(self, indices: np.ndarray[Any, Any]) -> None:
        size = self.dense_shape[0]
        wrong = indices[(indices < 0) | (indices >= size)]
        if wrong.size:
            raise IndexOutOfRangeError(
                f"IndexedSlices were passed index {wrong[0]}, and there are {size} rows: indices "
                f"are in [0, {size})."
            )

    def tree_flatten(self) -> tuple[tuple[Array, Array], tuple[int, ...]]:
        """The arrays, and the shape."""
        return (self.values, self.indices), self.dense_shape

    @classmethod
    def tree_unflatten(cls, shape: tuple[int, ...], arrays: tuple[Array, Array]) -> "IndexedSlices":
        """The inverse of `tree_flatten`, of anything that JAX puts in the place of arrays."""
        return cls._of(*arrays, shape)

    @classmethod
    def _of(cls, values: Array, indices: Array, shape: tuple[int, ...]) -> "IndexedSlices":
        self = object.__new__(cls)
        self.values, self.indices, self.dense_shape = values, indices, shape
        return self

    def to_dense(self) -> Array:
        """The whole as an array; rows of one index are summed. TF: ``tf.convert_to_tensor``."""
        return jnp.zeros(self.dense_shape, self.values.dtype) + self

    def summed(self) -> "IndexedSlices":
        """The same with each index once; spare rows are zero, and out of range."""
        size = self.dense_shape[0]
        indices, where = jnp.unique(
            _in_range(self.indices, size),
            return_inverse=True,
            size=self.indices.shape[0],
            fill_value=size,
        )
        values = jax.ops.segment_sum(self.values, where, self.indices.shape[0])
        return IndexedSlices._of(values, indices, self.dense_shape)

    def rows_of(self, array: Array) -> Array:
        """The rows of an array that are meant; ones, for rows out of range."""
        return array.at[self.indices].get(mode="fill", fill_value=1)

    def put_rows(self, array: Array, rows: Array) -> Array:
        """An array with these in the place of its rows; indices must be there once."""
        return array.at[self.indices].set(rows, mode="drop")

    def with_values(self, values: Array) -> "IndexedSlices":
        """The same rows with other values."""
        return IndexedSlices._of(values, self.indices, self.dense_shape)

    def __radd__(self, array: ArrayLike) -> Array:
        array = jnp.asarray(array)
        indices = _in_range(self.indices, self.dense_shape[0])
        return array.at[indices].add(self.values.astype(array.dtype), mode="drop")

    def __repr__(self) -> str:
        return (
            f"IndexedSlices(values={self.values!r}, indices={self.indices!r}, "
            f"dense_shape={self.dense_shape})"
        )


def _in_range(indices: Array, size: int) -> Array:
    """The indices of `IndexedSlices`, negative ones beyond the end, where they are dropped."""
    return jnp.where(indices < 0, jnp.asarray(size, indices.dtype), indices)


def is_slices(value: object) -> bool:
    """Whether a gradient is `IndexedSlices`, which are one leaf among gradients."""
    return isinstance(value, IndexedSlices)


def global_norm(t_list: Any, name: str | None = None) -> Array:
    r"""$\sqrt{\sum_i g_i^2}$ over all gradients of a tree; rows of one index count apart.

    Source: ``tf.global_norm``. ``optax.tree.norm``, but that `IndexedSlices` may be there.
    """
    del name
    leaves = jax.tree.leaves(t_list, is_leaf=is_slices)
    norm: Array = optax.tree.norm([leaf.values if is_slices(leaf) else leaf for leaf in leaves])
    return norm


def clip_by_global_norm(
    t_list: Any, clip_norm: ArrayLike, use_norm: ArrayLike | None = None, name: str | None = None
) -> tuple[Any, Array]:
    r"""All gradients, times $\texttt{clip\_norm} / \max(\texttt{norm}, \texttt{clip\_norm})$.

    >>> gradients = {"w": jnp.array([3.0, 4.0])}
    >>> clipped, norm = js.tf1.train.clip_by_global_norm(gradients, 1.0)
    >>> norm, clipped["w"]
    (Array(5., dtype=float32), Array([0.6, 0.8], dtype=float32))

    Args:
        t_list: The gradients: any tree, with `IndexedSlices` or without.
        clip_norm: The largest norm.
        use_norm: The norm, if it is known.
        name: TF's; it has no effect.

    Returns:
        The tree of clipped gradients, and the norm before.

    Source:
        ``tf.clip_by_global_norm``. Difference: a tree, and not only a list. From
        ``optax.clip_by_global_norm`` it differs in that it returns the norm, too; that a norm that
        is not finite makes all gradients NaN, where Optax makes the finite ones 0; and in the
        last bits, since gradients are multiplied by one scale.
    """
    del name
    norm = global_norm(t_list) if use_norm is None else jnp.asarray(use_norm)
    limit = scalar(clip_norm).astype(norm.dtype)
    one = jnp.ones((), norm.dtype)
    scale = limit * jnp.minimum(one / norm, one / limit) + (norm - norm)

    def clipped(gradient: Any) -> Any:
        if is_slices(gradient):
            return gradient.with_values(gradient.values * scale.astype(gradient.values.dtype))
        return gradient * scale.astype(gradient.dtype)

    return jax.tree.map(clipped, t_list, is_leaf=is_slices), norm
