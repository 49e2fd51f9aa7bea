"""Reading, creating and changing variables: ``(tree, name, ...) -> tree``.

TF1's variable operations, as functions of an immutable tree: each returns a new `VarTree`
and changes nothing. Under ``jax.jit(step, donate_argnums=...)`` XLA updates in place.

What holds for all of them:

* **Nothing is broadcast or cast silently.** Values have the variable's shape and dtype.
  Only Python numbers, and scalars of JAX's weak types, which are the same after a trace,
  take the variable's dtype, if it is of their kind and holds them.
* **A name that is missing is an error.** Only `get_variable` with a key creates.
* **Indices out of range** are an error where the indices are concrete. Traced indices
  can't be looked at: an update whose index is out of range is dropped, and the others are
  applied. Negative indices are out of range: TF doesn't count from the end.
* **Every transform works**: the trees, the values and the updates may be traced, and
  gradients flow through all of them.

Checking concrete indices waits for their computation; pass them traced where that counts.

Imports: `_dtypes`, `_errors`, `_initial`, `_keys`, `_names`, `_request`, `_tree`, `initializers`;
JAX, NumPy.
"""

import functools
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Int

from . import _initial, _request
from ._dtypes import can_convert
from ._errors import (
    DtypeMismatchError,
    IndexOutOfRangeError,
    LimitReachedError,
    MissingVariableError,
    ShapeMismatchError,
)
from ._keys import check_key, name_words
from ._names import check, check_root, outward
from ._tree import (
    VarTree,
    as_tree,
    from_values,
    jax_value,
    missing_variable,
    structure_of,
    values_of,
)
from .initializers import InitializedValue, Initializer

# A variable's value or an update: an array, a Python number, or a list of Python numbers.
Value: TypeAlias = Any
Combine: TypeAlias = Callable[[Array, tuple[Array, ...], Array], Array]
Indices: TypeAlias = Int[Array, "..."] | Int[np.ndarray, "..."] | int | list[Any]


# 1. Reading and creating.


def get_variable(
    tree: Mapping[str, Any],
    name: str,
    shape: int | Iterable[int | None] | None = None,
    dtype: DTypeLike | None = None,
    initializer: Initializer | ArrayLike | list[Any] | None = None,
    *,
    key: Array | None = None,
) -> tuple[Any, VarTree]:
    """The value of a variable; if there is none and a key is given, a new one.

    A new variable has the value ``initializer(k, shape, dtype)``, where ``k`` follows from
    ``key`` and ``name`` alone: not from other variables nor from the order of creation. The
    initializer runs compiled, so the value has the same bits under jit and outside.

    Args:
        tree: The variables there are.
        name: The variable's whole name.
        shape: An int or a sequence of ints. Leave it out if the initializer is a value or
            knows its shape. To read, None fits any shape, and a None in it any dimension.
        dtype: Dtype; None is the value's where the initializer is one, else float32. To
            read, None fits any dtype.
        initializer: ``f(key, shape, dtype)``; or a number, a list of numbers or an array, the
            initial value itself, or a function of no arguments that gives it. None is
            ``init.glorot_uniform()`` for floats, and zeros for integers and bools. Ignored if
            the variable exists.
        key: PRNG key to create with; without one, a variable is only looked up.

    Returns:
        ``(value, tree)``. If the variable exists, the tree is the very tree that was given; the
        value is JAX's array if the tree holds NumPy's.

    Raises:
        MissingVariableError: If there is no such variable, and no key.
        ShapeMismatchError: If the variable has another shape, or the shape isn't one.
        DtypeMismatchError: If the variable has another dtype than one given here, or JAX
            doesn't have the dtype under its present settings, such as float64.
        InitializerError: If the initializer can't give the variable its value.

    >>> w, tree = get_variable(VarTree(), "a/w", initializer=[1.0, 2.0], key=jax.random.key(0))
    >>> w
    Array([1., 2.], dtype=float32)
    >>> w, tree = get_variable(tree, "a/w", (2,))

    Source:
        ``tf.get_variable`` under ``AUTO_REUSE`` with a key, under ``reuse=True`` without.
        Differences: where the variable exists, TF checks the default dtype, float32, if none
        is given; here only a given one is checked.
    """
    variables = as_tree(tree)
    position = structure_of(variables).position(check(name))
    if position is not None:
        value = values_of(variables)[position]
        _request.check_found(
            name,
            shape,
            None if dtype is None else _request.normalize_dtype(name, dtype),
            value,
            lambda found: (
                "Request what it has and convert what you read, or give the new variable another "
                "name."
            ),
        )
        return jax_value(value), variables
    if key is None:
        raise MissingVariableError(
            f"{missing_variable(name, variables)} To create it, give key=jax.random.key(...)."
        )
    value = _initial_value(variables, check_root(name), shape, dtype, initializer, check_key(key))
    return value, variables | {name: value}


def _initial_value(
    tree: VarTree, name: str, shape: Any, dtype: Any, initializer: Any, key: Array
) -> Array:
    if not isinstance(initializer, InitializedValue):
        wanted = _request.normalize(name, shape, dtype, initializer)
        return _initial.run(
            name, wanted.initializer, key, name_words(name), wanted.shape, wanted.dtype
        )
    source = next((at for at in outward(name, initializer.name) if at in tree), None)
    if source is None:
        raise MissingVariableError(
            f"The initial value of {name!r} is that of {initializer.name!r}. "
            f"{missing_variable(initializer.name, tree)} Create that variable first."
        )
    like = _initial.like_source(initializer, tree[source])
    wanted = _request.normalize(
        name,
        like.shape if shape is None else shape,
        like.dtype if dtype is None else dtype,
        initializer,
    )
    return _initial.derive(name, wanted, tree[source])


# 2. Assigning.


def assign(tree: Mapping[str, Any], name: str, value: Value) -> VarTree:
    """A tree in which a variable has another value.

    Args:
        tree: The variables; not changed.
        name: The variable's whole name. It must exist: ``assign`` never creates.
        value: The new value, of the variable's shape and dtype. For a scalar variable also a
            Python number; a list of Python numbers takes the variable's dtype as well.

    Returns:
        A new tree, whose arrays share no buffer on account of this, so that it can be donated.

    Raises:
        MissingVariableError: If there is no such variable.
        ShapeMismatchError: If the value has another shape; nothing is broadcast.
        DtypeMismatchError: If the value has another dtype, or is a Python number that the
            dtype can't hold; nothing is cast.

    >>> assign(VarTree({"a": jnp.float32(1)}), "a", 2)["a"]
    Array(2., dtype=float32)

    Source:
        ``tf.assign``. Differences: ``validate_shape=False`` doesn't exist; TF wraps 300 to
        44 in int8.
    """
    variable = _find(tree, name, "assign")
    new = _value(variable, value)
    if any(new is other for other in values_of(variable.tree)):
        new = jnp.copy(new)
    return variable.replaced(new)


def assign_add(tree: Mapping[str, Any], name: str, value: Value) -> VarTree:
    """A tree in which a variable has ``value`` added to it.

    Args:
        tree: The variables; not changed.
        name: The variable's whole name.
        value: What to add, as for `assign`. Integers wrap around where they overflow.

    Returns:
        A new tree.

    Raises:
        MissingVariableError: If there is no such variable.
        ShapeMismatchError: If the value has another shape; nothing is broadcast.
        DtypeMismatchError: As `assign`, and if the variable is no number (bools, PRNG keys).

    Source:
        ``tf.assign_add``, which doesn't broadcast either.
    """
    variable = _find(tree, name, "assign_add", _NUMBERS)
    return variable.replaced(jnp.add(variable.array(), _value(variable, value)))


def assign_sub(tree: Mapping[str, Any], name: str, value: Value) -> VarTree:
    """A tree in which a variable has ``value`` subtracted from it; else as `assign_add`.

    Source:
        ``tf.assign_sub``.
    """
    variable = _find(tree, name, "assign_sub", _NUMBERS)
    return variable.replaced(jnp.subtract(variable.array(), _value(variable, value)))


def count_up_to(tree: Mapping[str, Any], name: str, limit: int) -> tuple[Array, VarTree]:
    """A counter's value, and a tree in which it is one higher; up to a limit.

    Under a trace there can be no error: a counter at or above the limit stays where it is,
    so the value that is returned is never below the limit again. Test it.

    Args:
        tree: The variables; not changed.
        name: The counter's whole name: a scalar, int32 or int64.
        limit: The limit, a Python int, exclusive for the values returned.

    Returns:
        ``(value, tree)``: the value before counting, and the new tree.

    Raises:
        MissingVariableError: If there is no such variable.
        LimitReachedError: If the counter is concrete, and at or above the limit.
        ShapeMismatchError: If the variable isn't a scalar.
        DtypeMismatchError: If the variable isn't int32 or int64, or the limit not an int.

    >>> value, tree = count_up_to(VarTree({"step": jnp.int32(0)}), "step", 3)
    >>> value, tree["step"]
    (Array(0, dtype=int32), Array(1, dtype=int32))

    Source:
        ``tf.count_up_to``.
    """
    variable = _find(tree, name, "count_up_to")
    if variable.dtype not in (np.int32, np.int64):
        raise DtypeMismatchError(
            f"js.count_up_to needs an int32 or int64 counter; variable {name!r} has dtype "
            f"{variable.dtype}."
        )
    if variable.shape != ():
        raise ShapeMismatchError(
            f"js.count_up_to needs a scalar; variable {name!r} has shape {variable.shape}."
        )
    counter, last = variable.array(), _number(variable, limit, "limit")
    if not isinstance(counter, jax.core.Tracer) and counter >= last:
        raise LimitReachedError(
            f"Reached limit of {limit}: variable {name!r} is at {int(counter)}. "
            f"To count again, write js.assign(tree, {name!r}, 0)."
        )
    return counter, variable.replaced(jnp.where(counter < last, counter + 1, counter))


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
    return _scatter_rows(tree, name, indices, updates, "scatter_update", _ANY, _set)


def scatter_add(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are added to rows of a variable; duplicates accumulate.

    Arguments and errors as `scatter_update`, and bools can't be added.

    >>> tree = VarTree({"v": jnp.array([10.0, 20.0, 30.0])})
    >>> scatter_add(tree, "v", [0, 2, 0], [2.0, 4.0, 5.0])["v"]
    Array([17., 20., 34.], dtype=float32)

    Source:
        ``tf.scatter_add``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_add", _NUMBERS, _add)


def scatter_sub(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are subtracted from rows; duplicates accumulate.

    Arguments and errors as `scatter_add`.

    Source:
        ``tf.scatter_sub``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_sub", _NUMBERS, _subtract)


def scatter_mul(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are multiplied by ``updates``; duplicates accumulate.

    Arguments and errors as `scatter_add`.

    Source:
        ``tf.scatter_mul``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_mul", _NUMBERS, _multiply)


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
    return _scatter_rows(tree, name, indices, updates, "scatter_div", _NUMBERS, _divide)


def scatter_min(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are at most ``updates``; duplicates accumulate.

    NaN in a row or an update gives NaN. Arguments and errors as `scatter_add`, and complex
    numbers have no order.

    Source:
        ``tf.scatter_min``. Differences: TF skips an update that is NaN, and has the operation
        for the dtypes of 16 bits or more only.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_min", _REAL, _min)


def scatter_max(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which rows of a variable are at least ``updates``; else as `scatter_min`.

    Source:
        ``tf.scatter_max``.
    """
    return _scatter_rows(tree, name, indices, updates, "scatter_max", _REAL, _max)


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
    return _scatter_places(tree, name, indices, updates, "scatter_nd_update", _ANY, _set)


def scatter_nd_add(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are added to elements or slices; duplicates accumulate.

    Arguments and errors as `scatter_nd_update`, and bools can't be added.

    Source:
        ``tf.scatter_nd_add``.
    """
    return _scatter_places(tree, name, indices, updates, "scatter_nd_add", _NUMBERS, _add)


def scatter_nd_sub(tree: Mapping[str, Any], name: str, indices: Indices, updates: Value) -> VarTree:
    """A tree in which ``updates`` are subtracted from elements or slices; else as `scatter_nd_add`.

    Source:
        ``tf.scatter_nd_sub``.
    """
    return _scatter_places(tree, name, indices, updates, "scatter_nd_sub", _NUMBERS, _subtract)


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
    return _scatter_places(tree, name, places, updates, "batch_scatter_update", _ANY, _set)


def _with_batch_coordinates(last: Any) -> Any:
    """``batch + [n]`` indices as places ``batch + [n, k]``, NumPy's if they are."""
    xp: Any = np if isinstance(last, np.ndarray) else jnp
    axes = [
        xp.broadcast_to(
            np.arange(length, dtype=last.dtype).reshape((-1,) + (1,) * (last.ndim - axis - 1)),
            last.shape,
        )
        for axis, length in enumerate(last.shape[:-1])
    ]
    return xp.stack([*axes, last], axis=-1)


# What the operations share: finding a variable, and reading a value.

_ANY: tuple[Any, ...] = ()
_NUMBERS: tuple[Any, ...] = (jnp.number,)
_REAL: tuple[Any, ...] = (jnp.integer, jnp.floating)


@dataclass(frozen=True, eq=False)
class _Variable:
    """The variable that an operation is about, with the facts that its checks need."""

    tree: VarTree
    name: str
    operation: str
    value: Any
    shape: tuple[int, ...]
    dtype: Any

    def array(self) -> Array:
        """The value, to compute with."""
        if isinstance(self.value, jax.ShapeDtypeStruct):
            raise DtypeMismatchError(
                f"Variable {self.name!r} is abstract, it has no value to compute with. Write "
                f"jax.eval_shape(lambda tree: js.{self.operation}(tree, ...), tree)."
            )
        return jnp.asarray(self.value)

    def replaced(self, new: Any) -> VarTree:
        """The tree with another value in its place."""
        structure = structure_of(self.tree)
        values = (new if n == self.name else v for n, v in self.tree.items())
        return from_values(structure, tuple(values))

    def scattered(self, combine: Combine, at: tuple[Array, ...], updates: Array) -> VarTree:
        """The tree with the updates combined into the value."""
        if not at[0].size or 0 in self.shape:  # what XLA has no gather for
            return self.replaced(self.array())
        return self.replaced(combine(self.array(), at, updates))


def _find(
    tree: Mapping[str, Any], name: str, operation: str, kinds: tuple[Any, ...] = _ANY
) -> _Variable:
    """Look a variable up, and check that its dtype is one the operation is for."""
    variables = as_tree(tree)
    if name not in variables:
        raise MissingVariableError(
            f"{missing_variable(name, variables)} js.{operation} never creates a variable: write "
            f"tree | {{{name!r}: value}}."
        )
    value = variables[name]
    shape, dtype = _request.shape_and_dtype(name, value)
    if kinds and not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        which = "real numbers" if kinds is _REAL else "numbers"
        raise DtypeMismatchError(
            f"js.{operation} needs {which}; variable {name!r} has dtype {dtype}. Compute the value "
            f"and write js.assign(tree, {name!r}, value)."
        )
    # NumPy's int64 or float64, say from a checkpoint.
    _request.normalize_dtype(name, dtype)
    return _Variable(variables, name, operation, value, shape, dtype)


def _value(variable: _Variable, value: Any, asked: tuple[int, ...] | None = None) -> Array:
    """What the user passed, as a JAX array of the variable's dtype.

    Of the variable's shape; or, for updates, of the shape ``asked`` or a scalar.
    """
    what = "value" if asked is None else "updates"
    if not hasattr(value, "dtype"):
        value = _number(variable, value, what)
    elif getattr(value, "weak_type", False) and value.shape == ():
        value = _strong(variable, value, what)
    if value.dtype != variable.dtype:
        are_keys = any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in (value, variable))
        write = "" if are_keys else f": write {what}.astype('{variable.dtype}')"
        raise DtypeMismatchError(
            f"Variable {variable.name!r} has dtype {variable.dtype}, the {what} has dtype "
            f"{value.dtype}. Nothing is cast silently{write}."
        )
    if asked is None and value.shape != variable.shape:
        raise ShapeMismatchError(_value_shape_text(variable, value.shape))
    if asked is not None and value.shape not in (asked, ()):
        raise _updates_shape_error(variable, value.shape, asked)
    # A copy of what is NumPy's: the caller may change it, and JAX may share its memory.
    return jnp.array(value) if isinstance(value, np.ndarray | np.generic) else value


def _strong(variable: _Variable, value: Array, what: str) -> Any:
    """A scalar of a weak type, which a Python number has after a trace, in the variable's dtype."""
    if not isinstance(value, jax.core.Tracer):
        return _number(variable, value.item(), what)
    fits = can_convert(value.dtype, variable.dtype)
    return lax.convert_element_type(value, variable.dtype) if fits else value


def _number(variable: _Variable, value: Any, what: str) -> Any:
    """Python numbers, alone or in lists, as NumPy's of the variable's dtype, if it holds them."""
    is_list = isinstance(value, list | tuple)
    leaves = jax.tree.leaves(value, is_leaf=lambda x: x is None) if is_list else [value]
    if not all(isinstance(x, int | float | complex) and not hasattr(x, "dtype") for x in leaves):
        are_numbers = all(np.issubdtype(getattr(x, "dtype", type(x)), np.number) for x in leaves)
        write = f" Write jnp.asarray({what}, '{variable.dtype}')." if are_numbers else ""
        raise DtypeMismatchError(
            f"The {what} for variable {variable.name!r} must be an array, a Python number or a "
            f"list of Python numbers, got {value!r}.{write}"
        )
    with np.errstate(all="ignore"):
        try:
            held = np.array(value, variable.dtype)
            fits = not held.size or _holds(held, np.array(value))
        except (OverflowError, TypeError, ValueError):  # 300 in int8, a PRNG key, a ragged list
            fits = False
    if not fits:
        raise DtypeMismatchError(
            f"Variable {variable.name!r} has dtype {variable.dtype}, which can't hold the {what} "
            f"{value!r}. Nothing is wrapped, cut or made an integer silently"
            f"{_cast_text(value, what, variable.dtype)}."
        )
    return held


def _cast_text(value: Any, what: str, dtype: Any) -> str:
    """The line that casts Python numbers, if there is one."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the imaginary part is cut
        try:
            np.asarray(value).astype(dtype)
        except (OverflowError, TypeError, ValueError):  # 10**30, a PRNG key, a ragged list
            return ""
    return f": write np.asarray({what}).astype('{dtype}') if that is meant"


def _holds(held: Any, written: Any) -> bool:
    # TF takes True for 1, and 1 for 1.0, but not 1 for True, nor 1.0 for 1.
    fits = can_convert(written.dtype, held.dtype)
    return fits and np.array_equal(np.isfinite(held), np.isfinite(written))


def _value_shape_text(variable: _Variable, shape: tuple[int, ...]) -> str:
    name = variable.name
    write = _broadcast_text("value", shape, variable.shape)
    if shape == ():
        write = f": write jnp.full_like(tree[{name!r}], value) if that is meant"
    return (
        f"Variable {name!r} has shape {variable.shape}, the value has shape {shape}. js."
        f"{variable.operation} doesn't broadcast{write}."
    )


def _broadcast_text(what: str, shape: tuple[int, ...], asked: tuple[int, ...]) -> str:
    """The line that broadcasts, if there is one."""
    try:
        is_possible = np.broadcast_shapes(shape, asked) == asked
    except ValueError:
        return ""
    return f": write jnp.broadcast_to({what}, {asked}) if that is meant" if is_possible else ""


def _updates_shape_error(
    variable: _Variable, shape: tuple[int, ...], asked: tuple[int, ...]
) -> ShapeMismatchError:
    return ShapeMismatchError(
        f"Variable {variable.name!r} of shape {variable.shape} needs updates of shape {asked} for "
        f"these indices, got shape {shape}. js.{variable.operation} doesn't broadcast"
        f"{_broadcast_text('updates', shape, asked)}."
    )


# Indices.


def _indices(name: str, indices: Any, operation: str) -> Any:
    """Indices as an array, NumPy's if they are concrete; or say that they are no integers."""
    if not hasattr(indices, "dtype"):
        traced = any(isinstance(i, jax.core.Tracer) for i in jax.tree.leaves(indices))
        empty = isinstance(indices, list) and not jax.tree.leaves(indices)
        xp: Any = jnp if traced else np
        indices = xp.asarray(indices, np.int32 if empty else None)
    if indices.dtype not in (np.int32, np.int64):
        raise DtypeMismatchError(
            f"The indices of js.{operation} for variable {name!r} must be int32 or int64, got "
            f"{indices.dtype}. Write jnp.asarray(indices, 'int32')."
        )
    if isinstance(indices, jax.core.Tracer) or not getattr(indices, "is_fully_addressable", True):
        return indices
    return np.asarray(indices)


def _scatter_rows(
    tree: Mapping[str, Any],
    name: str,
    indices: Any,
    updates: Any,
    operation: str,
    kinds: tuple[Any, ...],
    combine: Combine,
) -> VarTree:
    variable = _find(tree, name, operation, kinds)
    rows = _indices(name, indices, operation)
    if not variable.shape:
        raise ShapeMismatchError(
            f"js.{operation} needs a variable of at least one dimension; {name!r} is a scalar. "
            f"Write js.assign(tree, {name!r}, value)."
        )
    if isinstance(rows, np.ndarray):
        _check_rows(name, rows, variable.shape[0])
    asked = rows.shape + variable.shape[1:]
    new = jnp.broadcast_to(_value(variable, updates, asked), asked)
    new = new.reshape((rows.size, *variable.shape[1:]))
    # Concrete indices are in range by now, so narrowing int64 to int32 loses nothing.
    return variable.scattered(combine, (jnp.asarray(rows).reshape(-1),), new)


def _scatter_places(
    tree: Mapping[str, Any],
    name: str,
    indices: Any,
    updates: Any,
    operation: str,
    kinds: tuple[Any, ...],
    combine: Combine,
) -> VarTree:
    variable = _find(tree, name, operation, kinds)
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
    asked = places.shape[:-1] + slices
    new = _value(variable, updates, asked)
    if new.shape != asked:
        raise _updates_shape_error(variable, new.shape, asked)
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


def _from_the_end(index: Any) -> str:
    return " Negative indices don't count from the end." if index < 0 else ""


# Combining: (variable, coordinates, updates) -> variable, where updates out of range are
# dropped. JAX's scatters do that if told not to count negative indices from the end.

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
