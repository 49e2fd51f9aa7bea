"""Reading, creating and changing variables: ``(tree, name, ...) -> tree``.

TF1's variable operations, as functions of an immutable tree: each returns a new `VarTree`
and changes nothing. Under ``jax.jit(step, donate_argnums=...)`` XLA updates in place.

Rules that hold for all of them:

* **Nothing is broadcast or cast silently.** Values have the variable's shape and dtype.
  Only Python numbers, and scalars of JAX's weak types, which are the same after a trace,
  take the variable's dtype, if it is of their kind and holds them.
* **A name that is missing is an error.** Only `get_variable` with a key creates.
* **Indices out of range** are an error where the indices are concrete. Traced indices
  can't be checked: an update whose index is out of range is dropped, and the others are
  applied. Negative indices are out of range: TF doesn't count from the end.
* **Every transform works**: the trees, the values and the updates may be traced, and
  all of them are differentiable.

Checking concrete indices waits for their computation; pass traced ones to avoid that.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from .._dtypes import can_convert
from .._errors import (
    DtypeMismatchError,
    LimitReachedError,
    MissingVariableError,
    ShapeMismatchError,
    missing_variable,
)
from .._names.names import check, check_root, outward
from .._random.keys import check_key, name_words
from .._tree.values import jax_value
from .._tree.vartree import (
    VarTree,
    as_tree,
    from_values,
    structure_of,
    values_of,
)
from .._variables import initial_value as _initial
from .._variables import request as _request
from .._variables.request import Shape
from ..initializers import InitializedValue, Initializer

# A variable's value or an update: an array, a Python number, or a list of Python numbers.
Value: TypeAlias = ArrayLike | Sequence["Value"]
Combine: TypeAlias = Callable[[Array, tuple[Array, ...], Array], Array]


# 1. Reading and creating.


def get_variable(
    tree: Mapping[str, Any],
    name: str,
    shape: Shape = None,
    dtype: DTypeLike | None = None,
    initializer: Initializer | ArrayLike | list[Any] | None = None,
    *,
    key: Array | None = None,
) -> tuple[Array, VarTree]:
    """Read a variable of a tree without a scope; if there is none and a key is given, create it.

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
        ``(value, tree)``. If the variable exists, the tree is the same object; the
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
    tree: VarTree,
    name: str,
    shape: Shape,
    dtype: DTypeLike | None,
    initializer: object,
    key: Array,
) -> Array:
    """The initial value of a variable that an operation, without a scope, adds to a tree."""
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
        A new tree that can be donated: the new value shares no buffer with ``value``.

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
    variable = find(tree, name, "assign")
    new = checked_value(variable, value)
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
        DtypeMismatchError: As `assign`, and if the variable is not a number (bools, PRNG keys).

    Source:
        ``tf.assign_add``, which doesn't broadcast either.
    """
    variable = find(tree, name, "assign_add", NUMBERS)
    return variable.replaced(jnp.add(variable.array(), checked_value(variable, value)))


def assign_sub(tree: Mapping[str, Any], name: str, value: Value) -> VarTree:
    """A tree in which a variable has ``value`` subtracted from it; else as `assign_add`.

    Source:
        ``tf.assign_sub``.
    """
    variable = find(tree, name, "assign_sub", NUMBERS)
    return variable.replaced(jnp.subtract(variable.array(), checked_value(variable, value)))


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
    variable = find(tree, name, "count_up_to")
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


# Shared by the operations: finding a variable, and reading a value.

ANY: tuple[Any, ...] = ()
NUMBERS: tuple[Any, ...] = (jnp.number,)
REAL: tuple[Any, ...] = (jnp.integer, jnp.floating)


@dataclass(frozen=True, eq=False)
class Variable:
    """The variable that an operation assigns to, with the facts that its checks need."""

    tree: VarTree
    name: str
    operation: str
    value: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Array:
        """The value, to compute with."""
        if isinstance(self.value, jax.ShapeDtypeStruct):
            raise DtypeMismatchError(
                f"Variable {self.name!r} is abstract, it has no value to compute with. Write "
                f"jax.eval_shape(lambda tree: js.{self.operation}(tree, ...), tree)."
            )
        return jnp.asarray(self.value)

    def replaced(self, new: object) -> VarTree:
        """The tree with another value in its place."""
        structure = structure_of(self.tree)
        values = (new if n == self.name else v for n, v in self.tree.items())
        return from_values(structure, tuple(values))

    def scattered(self, combine: Combine, at: tuple[Array, ...], updates: Array) -> VarTree:
        """The tree with the updates combined into the value."""
        if not at[0].size or 0 in self.shape:  # XLA has no gather for these
            return self.replaced(self.array())
        return self.replaced(combine(self.array(), at, updates))


def find(
    tree: Mapping[str, Any], name: str, operation: str, kinds: tuple[Any, ...] = ANY
) -> Variable:
    """Look up the variable to assign to, and check that its dtype is one the operation is for."""
    variables = as_tree(tree)
    if name not in variables:
        raise MissingVariableError(
            f"{missing_variable(name, variables)} js.{operation} never creates a variable: write "
            f"tree | {{{name!r}: value}}."
        )
    value = variables[name]
    shape, dtype = _request.shape_and_dtype(name, value)
    if kinds and not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        which = "real numbers" if kinds is REAL else "numbers"
        raise DtypeMismatchError(
            f"js.{operation} needs {which}; variable {name!r} has dtype {dtype}. Compute the value "
            f"and write js.assign(tree, {name!r}, value)."
        )
    # NumPy's int64 or float64, such as from a checkpoint.
    _request.normalize_dtype(name, dtype)
    return Variable(variables, name, operation, value, shape, dtype)


def checked_value(
    variable: Variable, value: Any, requested: tuple[int, ...] | None = None
) -> Array:
    """The value to assign, as a JAX array of the variable's dtype, or raise.

    Of the variable's shape; or, for updates, of the shape ``requested`` or a scalar.
    """
    what = "value" if requested is None else "updates"
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
    if requested is None and value.shape != variable.shape:
        raise ShapeMismatchError(_value_shape_text(variable, value.shape))
    if requested is not None and value.shape not in (requested, ()):
        raise updates_shape_error(variable, value.shape, requested)
    # NumPy arrays are copied: the caller may change them, and JAX may share their memory.
    return jnp.array(value) if isinstance(value, np.ndarray | np.generic) else value


def _strong(variable: Variable, value: Array, what: str) -> Array | np.ndarray[Any, Any]:
    """A scalar to assign of a weak type, as a traced Python number has, in the variable's dtype."""
    if not isinstance(value, jax.core.Tracer):
        return _number(variable, value.item(), what)
    fits = can_convert(value.dtype, variable.dtype)
    return lax.convert_element_type(value, variable.dtype) if fits else value


def _number(variable: Variable, value: object, what: str) -> np.ndarray[Any, Any]:
    """Python numbers to assign, alone or in lists, in the variable's dtype, if it holds them."""
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


def _cast_text(value: object, what: str, dtype: np.dtype[Any]) -> str:
    """For the error: the line that casts Python numbers, which are to be assigned."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the imaginary part is cut
        try:
            np.asarray(value).astype(dtype)
        except (OverflowError, TypeError, ValueError):  # 10**30, a PRNG key, a ragged list
            return ""
    return f": write np.asarray({what}).astype('{dtype}') if that is meant"


def _holds(held: np.ndarray[Any, Any], written: np.ndarray[Any, Any]) -> bool:
    """Whether NumPy's numbers in a variable's dtype are the Python numbers to assign."""
    # TF takes True for 1, and 1 for 1.0, but not 1 for True, nor 1.0 for 1.
    fits = can_convert(written.dtype, held.dtype)
    return fits and np.array_equal(np.isfinite(held), np.isfinite(written))


def _value_shape_text(variable: Variable, shape: tuple[int, ...]) -> str:
    """For the error: the shapes of a variable and of the value to assign."""
    name = variable.name
    write = _broadcast_text("value", shape, variable.shape)
    if shape == ():
        write = f": write jnp.full_like(tree[{name!r}], value) if that is meant"
    return (
        f"Variable {name!r} has shape {variable.shape}, the value has shape {shape}. js."
        f"{variable.operation} doesn't broadcast{write}."
    )


def _broadcast_text(what: str, shape: tuple[int, ...], requested: tuple[int, ...]) -> str:
    """For the error: the line that broadcasts a value, which is to be assigned, if one does."""
    try:
        is_possible = np.broadcast_shapes(shape, requested) == requested
    except ValueError:
        return ""
    return f": write jnp.broadcast_to({what}, {requested}) if that is meant" if is_possible else ""


def updates_shape_error(
    variable: Variable, shape: tuple[int, ...], requested: tuple[int, ...]
) -> ShapeMismatchError:
    """Compose the error for updates to assign of another shape than the places they are for."""
    return ShapeMismatchError(
        f"Variable {variable.name!r} of shape {variable.shape} needs updates of shape {requested} "
        f"for these indices, got shape {shape}. js.{variable.operation} doesn't broadcast"
        f"{_broadcast_text('updates', shape, requested)}."
    )
