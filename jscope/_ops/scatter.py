"""TF1's scatter operations: rows, elements and slices of a variable, by their indices.

The rules of `_ops.assign` hold for these too.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Int

from .._errors import (
    DtypeMismatchError,
    IndexOutOfRangeError,
    ShapeMismatchError,
)
from .._tree.vartree import (
    VarTree,
)
from .assign import ANY, NUMBERS, REAL, Combine, Value, checked_value, find, updates_shape_error

Indices: TypeAlias = Int[Array, "..."] | Int[np.ndarray, "..."] | int | list[Any]
_Array: TypeAlias = Array | np.ndarray[Any, Any]


# 3. Scattering rows.


def scatter_update(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    r"""A tree in which some rows of a variable have other values.

    For every position $p$ of ``indices``, with ``v`` the variable,

    $$\texttt{v}[\texttt{indices}[p]] \leftarrow \texttt{updates}[p].$$

    If an index occurs twice, one of its updates wins, and which is undefined, as in TF.

    Args:
        tree: The variables; not changed.
        name: The variable's whole name; it has at least one dimension.
        indices: Integers (int32 or int64) in ``[0, v.shape[0])``, of any shape. Negative ones
            don't count from the end.
        updates: Of shape ``indices.shape + v.shape[1:]`` and the variable's dtype; or a scalar
            for all, which may be a Python number.

    Returns:
        A new tree.

    Raises:
        MissingVariableError: If there is no such variable.
        IndexOutOfRangeError: If an index is concrete and out of range. Updates with traced
            indices out of range are dropped, and the others applied.
        ShapeMismatchError: If the updates have another shape, or the variable has no rows.
        DtypeMismatchError: If the indices aren't integers, or the updates have another dtype.

    >>> tree = VarTree({"v": jnp.array([10.0, 20.0, 30.0])})
    >>> scatter_update(tree, "v", [2, 0], [1.0, 2.0])["v"]
    Array([ 2., 20.,  1.], dtype=float32)

    Source:
        ``tf.scatter_update``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_update", ANY, _set)


def scatter_add(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are added to rows of a variable; duplicates accumulate.

    Arguments and errors as `scatter_update`, and bools can't be added.

    >>> tree = VarTree({"v": jnp.array([10.0, 20.0, 30.0])})
    >>> scatter_add(tree, "v", [0, 2, 0], [2.0, 4.0, 5.0])["v"]
    Array([17., 20., 34.], dtype=float32)

    Source:
        ``tf.scatter_add``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_add", NUMBERS, _add)


def scatter_sub(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are subtracted from rows; duplicates accumulate.

    Arguments and errors as `scatter_add`.

    Source:
        ``tf.scatter_sub``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_sub", NUMBERS, _subtract)


def scatter_mul(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are multiplied by ``updates``; duplicates accumulate.

    Arguments and errors as `scatter_add`.

    Source:
        ``tf.scatter_mul``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_mul", NUMBERS, _multiply)


def scatter_div(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are divided by ``updates``; duplicates accumulate.

    A floating or complex row is divided once, by the product of its updates (in float32 if it
    is narrower). Integers are divided one update after the other, each towards zero, which
    takes a step per index; by zero they give what XLA gives, -1.

    Arguments and errors as `scatter_add`.

    Source:
        ``tf.scatter_div``. Differences: TF divides floats one by one too, so that with
        duplicates the last bit may differ; division of an integer by zero ends its process.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_div", NUMBERS, _divide)


def scatter_min(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are at most ``updates``; duplicates accumulate.

    NaN in a row or an update gives NaN. Arguments and errors as `scatter_add`, and complex
    numbers have no order.

    Source:
        ``tf.scatter_min``. Differences: TF skips an update that is NaN, and has the operation
        for the dtypes of 16 bits or more only.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_min", REAL, _min)


def scatter_max(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are at least ``updates``; else as `scatter_min`.

    Source:
        ``tf.scatter_max``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_max", REAL, _max)


# 4. Scattering elements and slices.


def scatter_nd_update(
    tree: Mapping[str, Any], name: str, indices: Indices, updates: Value
) -> VarTree:
    r"""A tree in which elements or slices of a variable have other values.

    The last axis of ``indices`` holds the leading coordinates of a place in the variable
    ``v``. For every position $p$ of the other axes,

    $$\texttt{v}[\texttt{indices}[p, 0], \dots, \texttt{indices}[p, k - 1]]
      \leftarrow \texttt{updates}[p].$$

    If a place occurs twice, one of its updates wins, and which is undefined, as in TF.

    Args:
        tree: The variables; not changed.
        name: The variable's whole name; it has at least one dimension.
        indices: Integers (int32 or int64) of shape ``[..., k]`` with ``1 <= k <= v.ndim``;
            coordinate ``i`` is in ``[0, v.shape[i])``.
        updates: Of shape ``indices.shape[:-1] + v.shape[k:]`` and the variable's dtype.

    Returns:
        A new tree.

    Raises:
        MissingVariableError: If there is no such variable.
        IndexOutOfRangeError: If a place is concrete and outside the variable. Updates with
            traced indices outside are dropped, and the others applied.
        ShapeMismatchError: If the updates have another shape, or ``k`` is out of range.
        DtypeMismatchError: If the indices aren't integers, or the updates have another dtype.

    >>> tree = VarTree({"v": jnp.zeros((2, 2))})
    >>> scatter_nd_update(tree, "v", [[1, 0], [0, 1]], [5.0, 6.0])["v"]
    Array([[0., 6.],
           [5., 0.]], dtype=float32)

    Source:
        ``tf.scatter_nd_update``.
    """
    return _scatter_places(tree, name, indices, updates, "scatter_nd_update", ANY, _set)


def scatter_nd_add(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are added to elements or slices; duplicates accumulate.

    Arguments and errors as `scatter_nd_update`, and bools can't be added.

    Source:
        ``tf.scatter_nd_add``.
    """
    return _scatter_places(tree, name, indices, updates, "scatter_nd_add", NUMBERS, _add)


def scatter_nd_sub(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are subtracted from elements or slices; else as `scatter_nd_add`.

    Source:
        ``tf.scatter_nd_sub``.
    """
    return _scatter_places(tree, name, indices, updates, "scatter_nd_sub", NUMBERS, _subtract)


def batch_scatter_update(
    tree: Mapping[str, Any], name: str, indices: Indices, updates: Value
) -> VarTree:
    r"""`scatter_update` in every element of a batch.

    The leading axes of ``indices``, all but the last, are axes of the variable ``v`` too. For
    every position $b$ of theirs and $p$ of the last,

    $$\texttt{v}[b, \texttt{indices}[b, p]] \leftarrow \texttt{updates}[b, p].$$

    Args:
        tree: The variables; not changed.
        name: The variable's whole name; it has at least as many dimensions as ``indices``.
        indices: Integers (int32 or int64) of shape ``batch + [n]``, where no axis of ``batch``
            is longer than the variable's, in ``[0, v.shape[len(batch)])``.
        updates: Of shape ``indices.shape + v.shape[len(batch) + 1:]`` and the variable's dtype.

    Returns:
        A new tree.

    Raises:
        MissingVariableError, IndexOutOfRangeError, ShapeMismatchError, DtypeMismatchError: As
            `scatter_nd_update`.

    >>> tree = VarTree({"v": jnp.zeros((2, 3))})
    >>> batch_scatter_update(tree, "v", [[0, 2], [1, 0]], [[1.0, 2.0], [3.0, 4.0]])["v"]
    Array([[1., 0., 2.],
           [4., 3., 0.]], dtype=float32)

    Source:
        ``tf.batch_scatter_update``.
    """
    last = _indices(name, indices, "batch_scatter_update")
    if last.ndim == 0:
        raise ShapeMismatchError(
            f"js.batch_scatter_update of {name!r} needs indices of at least one dimension, got a "
            "scalar. Write js.scatter_update."
        )
    places = _with_batch_coordinates(last)
    return _scatter_places(tree, name, places, updates, "batch_scatter_update", ANY, _set)


def _with_batch_coordinates(last: _Array) -> _Array:
    """Scatter indices ``batch + [n]`` as places ``batch + [n, k]``, NumPy's if they are."""
    xp: Any = np if isinstance(last, np.ndarray) else jnp
    axes = [
        xp.broadcast_to(
            np.arange(length, dtype=last.dtype).reshape((-1,) + (1,) * (last.ndim - axis - 1)),
            last.shape,
        )
        for axis, length in enumerate(last.shape[:-1])
    ]
    places: _Array = xp.stack([*axes, last], axis=-1)
    return places


# Indices.


def _indices(name: str, indices: Any, operation: str) -> _Array:
    """Scatter indices as an array, NumPy's if they are concrete; raise if they aren't integers."""
    if not hasattr(indices, "dtype"):
        traced = any(isinstance(i, jax.core.Tracer) for i in jax.tree.leaves(indices))
        empty = isinstance(indices, list) and not jax.tree.leaves(indices)
        xp: Any = jnp if traced else np
        indices = xp.asarray(indices, np.int32 if empty else None)
    array: _Array = indices
    if array.dtype not in (np.int32, np.int64):
        raise DtypeMismatchError(
            f"The indices of js.{operation} for variable {name!r} must be int32 or int64, got "
            f"{array.dtype}. Write jnp.asarray(indices, 'int32')."
        )
    if isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True):
        return array
    return np.asarray(array)


def _scatter_rows(
    tree: Mapping[str, Any],
    name: str,
    indices: Indices,
    updates: Value,
    operation: str,
    kinds: tuple[Any, ...],
    combine: Combine,
) -> VarTree:
    variable = find(tree, name, operation, kinds)
    rows = _indices(name, indices, operation)
    if not variable.shape:
        raise ShapeMismatchError(
            f"js.{operation} needs a variable of at least one dimension; {name!r} is a scalar. "
            f"Write js.assign(tree, {name!r}, value)."
        )
    if isinstance(rows, np.ndarray):
        _check_rows(name, rows, variable.shape[0])
    requested = rows.shape + variable.shape[1:]
    new = jnp.broadcast_to(checked_value(variable, updates, requested), requested)
    new = new.reshape((rows.size, *variable.shape[1:]))
    # Concrete indices are in range by now, so narrowing int64 to int32 loses nothing.
    return variable.scattered(combine, (jnp.asarray(rows).reshape(-1),), new)


def _scatter_places(
    tree: Mapping[str, Any],
    name: str,
    indices: Indices,
    updates: Value,
    operation: str,
    kinds: tuple[Any, ...],
    combine: Combine,
) -> VarTree:
    variable = find(tree, name, operation, kinds)
    places = _indices(name, indices, operation)
    rank = len(variable.shape)
    if places.ndim == 0 or not 1 <= places.shape[-1] <= rank:
        raise ShapeMismatchError(
            f"js.{operation} needs indices whose last axis holds 1 to {rank} coordinates, since "
            f"variable {name!r} has shape {variable.shape}; got indices of shape {places.shape}."
        )
    if isinstance(places, np.ndarray):
        _check_places(name, places, variable.shape)
    depth = places.shape[-1]
    slices = variable.shape[depth:]
    requested = places.shape[:-1] + slices
    new = checked_value(variable, updates, requested)
    if new.shape != requested:
        raise updates_shape_error(variable, new.shape, requested)
    count = math.prod(places.shape[:-1])
    at = tuple(jnp.asarray(places[..., axis]).reshape(-1) for axis in range(depth))
    return variable.scattered(combine, at, new.reshape((count, *slices)))


def _check_rows(name: str, rows: np.ndarray[Any, Any], length: int) -> None:
    outside = np.argwhere((rows < 0) | (rows >= length))
    if len(outside):
        where = tuple(outside[0])
        raise IndexOutOfRangeError(
            f"indices{_place_text(where)} = {rows[where]} is not in [0, {length}), for variable "
            f"{name!r}.{_from_the_end(rows[where])}"
        )


def _check_places(name: str, places: np.ndarray[Any, Any], shape: tuple[int, ...]) -> None:
    lengths = np.asarray(shape[: places.shape[-1]])
    outside = np.argwhere(np.any((places < 0) | (places >= lengths), axis=-1))
    if len(outside):
        where = tuple(outside[0])
        place = places[where]
        raise IndexOutOfRangeError(
            f"indices{_place_text(where)} = {place.tolist()} does not index into shape "
            f"{list(shape)}, for variable {name!r}.{_from_the_end(place.min())}"
        )


def _place_text(where: Iterable[Any]) -> str:
    text = ",".join(map(str, where))
    return f"[{text}]" if text else ""


def _from_the_end(index: int) -> str:
    return " Negative indices don't count from the end." if index < 0 else ""


# Combining: (variable, coordinates, updates) -> variable, where updates out of range are
# dropped. JAX's scatters do that with ``wrap_negative_indices=False``.

_DROP: dict[str, Any] = {"mode": "drop", "wrap_negative_indices": False}


def _set(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    return variable.at[at].set(updates, **_DROP)


def _add(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    return variable.at[at].add(updates, **_DROP)


def _subtract(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    return variable.at[at].subtract(updates, **_DROP)


def _min(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    return variable.at[at].min(updates, **_DROP)


def _max(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    return variable.at[at].max(updates, **_DROP)


def _multiply(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    (rows,) = at
    if jnp.issubdtype(variable.dtype, jnp.inexact):
        return _multiply_inexact(variable, rows, updates)
    return variable.at[rows].multiply(updates, **_DROP)


@jax.custom_jvp
def _multiply_inexact(variable: Array, rows: Array, updates: Array) -> Array:
    return variable.at[rows].multiply(updates, **_DROP)


@_multiply_inexact.defjvp
def _multiply_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    # JAX has no derivative of a scatter with duplicates that multiplies. Products by sorting
    # have one, of any order, also where factors are zero.
    variable, rows, updates = primals
    by_sorting = functools.partial(_by_product, operator.mul, rows)
    _, tangent = jax.jvp(by_sorting, (variable, updates), (tangents[0], tangents[2]))
    return _multiply_inexact(variable, rows, updates), tangent


def _divide(variable: Array, at: tuple[Array, ...], updates: Array) -> Array:
    (rows,) = at
    if jnp.issubdtype(variable.dtype, jnp.inexact):
        quotient: Array = _by_product(operator.truediv, rows, variable, updates)
        return quotient

    def one(i: Array, v: Array) -> Array:
        row, update = rows[i], updates[i]
        old = v.at[row].get(mode="fill", fill_value=1, wrap_negative_indices=False)
        return v.at[row].set(lax.div(old, update), **_DROP)

    divided: Array = lax.fori_loop(0, len(rows), one, variable)
    return divided


@functools.partial(jax.jit, static_argnums=0)
def _by_product(
    combine: Callable[[Array, Array], Array], rows: Array, variable: Array, updates: Array
) -> Array:
    """``combine(row, product of its updates)`` in every row that has updates.

    Sorting brings the updates of a row together, a scan multiplies them up, and the last of
    each run has the whole product. Memory and time grow with the updates, not the variable.
    """
    length = variable.shape[0]
    narrow = jnp.issubdtype(variable.dtype, jnp.floating) and variable.dtype.itemsize < 4
    wide = jnp.dtype(jnp.float32) if narrow else variable.dtype
    order = jnp.argsort(rows)
    sorted_rows = rows[order]
    differs, one = sorted_rows[1:] != sorted_rows[:-1], jnp.ones(1, bool)
    column = (-1,) + (1,) * (updates.ndim - 1)
    # Padding is often zeros, and 1 / 0 would make the gradient of what is dropped NaN.
    inside = (sorted_rows >= 0) & (sorted_rows < length)
    factors = jnp.where(inside.reshape(column), updates[order].astype(wide), 1)

    def join(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
        # Not where(right[0], right[1], left[1] * right[1]): its gradient is NaN next to inf.
        return left[0] | right[0], jnp.where(right[0], 1, left[1]) * right[1]

    begins = jnp.concatenate([one, differs]).reshape(column)
    _, products = lax.associative_scan(join, (begins, factors))
    # All but the last of a run point behind the variable, each elsewhere, and are dropped.
    behind = length + jnp.arange(len(rows), dtype=rows.dtype)
    target = jnp.where(inside & jnp.concatenate([differs, one]), sorted_rows, behind)
    old = variable.at[target].get(mode="fill", fill_value=1, unique_indices=True)
    new = combine(old.astype(wide), products).astype(variable.dtype)
    return variable.at[target].set(new, mode="drop", unique_indices=True)
