"""What may be passed as ``initializer=``: ``f(key, shape, dtype)``, a literal value, ``f()``.

`read_initializer` makes an initializer ``f(key, shape, dtype)`` of each; what is none of these is
an error that says what to write.

An initializer may take no arguments: ``initializer=lambda: table()``. Such a function gives the
initial value itself, so the variable has that value's shape and dtype, and none may be requested
beside it (a shape with unknown dimensions may). It runs compiled, like any initializer. A parameter
that has a default counts as none; but where the shape is known, what takes a key, a shape and a
dtype gets them. Source: ``tf.get_variable``, TensorFlow 1.15. One difference: a dtype that is
requested must be the value's, where TF ignores it.
"""

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from .. import initializers
from .._dtypes import is_python, widths
from .._errors import DtypeMismatchError, InitializerError, near
from .._random.initializer_bases import KnownShape
from ..initializers import Initializer
from .closures import signature


def read_initializer(
    name: str, shape: object, requested: np.dtype[Any] | None, initializer: Any
) -> Initializer:
    """The initializer of an argument ``initializer``: itself, or made of a value or a function.

    Args:
        name: The variable's whole name, for messages.
        shape: The shape that is passed beside it.
        requested: The dtype that is requested, or None.
        initializer: The argument; not None.
    """
    if not callable(initializer):
        value, initializer = initializer, _constant(name, initializer)
        if shape is not None:
            raise shape_of_constant(name, shape, value)
        _check_dtype_of_value(name, requested, value, initializer)
    _check_called(name, initializer)
    if takes_none(initializer) and not (is_full(shape) and _takes_any(initializer)):
        return _of_no_arguments(name, shape, requested, initializer)
    read: Initializer = initializer
    return read


def is_value(initializer: object, shape: object) -> bool:
    """Whether an argument ``initializer`` is, or gives, the initial value, beside this shape."""
    if initializer is None:
        return False
    return not callable(initializer) or (not is_full(shape) and takes_none(initializer))


def known_shape(initializer: Initializer | ArrayLike | None) -> tuple[int, ...] | None:
    """The shape of an argument ``initializer`` that is a literal value; None for all others."""
    if isinstance(initializer, KnownShape):
        return initializer.shape
    if initializer is None or callable(initializer):
        return None
    return tuple(np.shape(initializer))


def is_full(shape: object) -> bool:
    """Whether the shape beside an argument ``initializer`` is given, with all its dimensions."""
    if isinstance(shape, Iterable) and rank(shape):
        return all(dimension is not None for dimension in shape)
    return shape is not None


def rank(shape: object) -> int:
    """The number of dimensions of the array or sequence given as shape beside ``initializer``."""
    return getattr(shape, "ndim", 1)  # an array of no dimensions has __iter__, which raises


def _check_called(name: str, initializer: object) -> None:
    """Raise if the argument ``initializer`` is a class or function that makes initializers."""
    ours = getattr(initializer, "__module__", None) == initializers.__name__
    if inspect.isclass(initializer) or (
        ours and inspect.isfunction(initializer) and "<locals>" not in initializer.__qualname__
    ):
        called = f"{'init.' if ours else ''}{initializer.__name__}()"
        raise InitializerError(
            f"Variable {name!r}: {initializer.__name__} is not an initializer, but makes one from "
            f"its parameters: write {called}."
        )
    if not ours and callable(initializer) and _has_tf1s_form(initializer):
        raise _in_tf1s_form(name, initializer)


def _in_tf1s_form(name: str, initializer: Callable[..., object]) -> InitializerError:
    """Compose the error for an ``initializer`` in TF1's form."""
    called = _called(initializer)
    return InitializerError(
        f"Variable {name!r}: the initializer {called} takes the shape first and no random key, "
        "as those of TF1. Here it is f(key, shape, dtype). Write "
        f"initializer=js.tf1.initializer({called}), or give it a key as its first argument."
    )


def _called(initializer: object) -> str:
    """What an ``initializer`` is called in messages."""
    while isinstance(initializer, functools.partial):
        initializer = initializer.func
    return getattr(initializer, "__name__", type(initializer).__name__)


def _has_tf1s_form(initializer: Callable[..., object]) -> bool:
    """Whether an ``initializer`` takes TF1's arguments: the shape first, or ``partition_info``."""
    names = _argument_names(initializer)
    return names[:1] == ("shape",) or "partition_info" in names


def _argument_names(initializer: Callable[..., object]) -> tuple[str, ...]:
    """The argument names of what is passed as ``initializer``, without ``self``; or none."""
    if isinstance(initializer, functools.partial):
        return tuple(inspect.signature(initializer).parameters)
    function = initializer if hasattr(initializer, "__code__") else type(initializer).__call__
    code = getattr(function, "__code__", None)
    if code is None:
        return ()
    names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
    return names[1:] if names[:1] == ("self",) else names


def check_form(
    name: str, initializer: Initializer, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Raise if an initializer can't be called with key, shape and dtype.

    Where the names of its arguments don't tell, the function is run, abstractly: once for each.
    """
    if type(initializer).__module__.startswith("jscope."):
        return
    function = initializer if isinstance(initializer, types.FunctionType) else None
    code = None if function is None else function.__code__
    if code in _of_this_form or _argument_names(initializer)[:3] == ("key", "shape", "dtype"):
        return
    if not _takes_any(initializer):
        raise InitializerError(
            f"Variable {name!r}: the initializer {_called(initializer)} is called with a random "
            f"key, the shape and the dtype, but takes {inspect.signature(initializer)}. Write it "
            "as a function f(key, shape, dtype)."
        )
    if not _runs(lambda: initializer(jax.random.key(0), shape, dtype)) and _runs(
        lambda: initializer(list(shape), dtype, None)  # type: ignore[arg-type]
    ):
        raise _in_tf1s_form(name, initializer)
    if code is not None:
        _of_this_form.add(code)


_of_this_form: weakref.WeakSet[types.CodeType] = weakref.WeakSet()


def _runs(function: Callable[[], object]) -> bool:
    """Whether an initializer's call can be traced, and gives an array or a number."""
    try:
        jax.eval_shape(lambda: jnp.asarray(function()))
    except Exception:  # of a user's function: any
        return False
    return True


# Literal values.


def _constant(name: str, value: object) -> initializers.constant:
    """The initializer of an argument that is a literal value."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise InitializerError(
            f"The initial value of variable {name!r} is traced, but initial values can't depend on "
            f"traced values: {value!r}. Compute it outside the model, or assign it afterwards; if "
            "it is to depend on what the model computes, write js.init(model, inline=True)."
        )
    try:
        return initializers.constant(value)
    except InitializerError:
        raise InitializerError(
            f"Variable {name!r}: The initializer passed is not valid: {value!r} of type "
            f"{type(value).__name__}. Pass a function f(key, shape, dtype), such as init.zeros or "
            "init.glorot_uniform(); or a number, a list of numbers or an array, and no shape."
        ) from None


def shape_of_constant(name: str, shape: object, value: object) -> InitializerError:
    """Compose TF1's error for a shape given beside an ``initializer`` that is a literal value."""
    if isinstance(value, str):
        is_known = value in initializers.__all__
        known = f"Write initializer=init.{value}()." * is_known or near(value, initializers.__all__)
        return InitializerError(
            f"Variable {name!r}: the initializer is the string {value!r}, not a function "
            f"f(key, shape, dtype). {known}"
        )
    return InitializerError(
        f"Variable {name!r}: If initializer is a constant, do not specify shape. Leave "
        f"shape={shape!r} out, or write initializer=init.constant(value) to fill the shape."
    )


def _check_dtype_of_value(
    name: str, requested: np.dtype[Any] | None, value: object, found: initializers.constant
) -> None:
    """Raise if an ``initializer`` that is a literal value has another dtype than requested.

    Python's numbers have no dtype, and may have that of either setting of `jax_enable_x64`.
    """
    if requested is None:
        return
    if not is_python(value):
        if requested != found.dtype:
            raise _other_dtype(name, found.dtype, requested)
    elif requested not in widths(found.value.dtype):
        raise _other_dtype(name, found.dtype, requested)
    elif requested.kind == "i" and not np.array_equal(found.value.astype(requested), found.value):
        raise DtypeMismatchError(
            f"Variable {name!r}: Initializer type '{found.value.dtype}' and explicit dtype "
            f"'{requested}' don't match: {requested} can't hold {value!r}. Write dtype=jnp.int64, "
            "with jax.config.update('jax_enable_x64', True)."
        )


def _other_dtype(name: str, found: object, requested: np.dtype[Any]) -> DtypeMismatchError:
    """Compose the error for an ``initializer`` that is a value of another dtype than requested."""
    return DtypeMismatchError(
        f"Variable {name!r}: Initializer type '{found}' and explicit dtype '{requested}' don't "
        "match. Leave dtype= out, or give a value of that dtype, such as np.asarray(value, "
        f"{requested.name!r})."
    )


# Functions of no arguments.


@dataclass(frozen=True, eq=False)
class NoArguments:
    """An initializer that is a function of no arguments; and its value's shape and dtype.

    Two are equal if their functions compute the same, as far as `closures.signature` can tell.
    """

    function: Callable[[], ArrayLike]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, key: object, shape: object, dtype: object = None) -> Array:
        del key, shape, dtype  # the caller compares them with the result
        value = self.function()
        return jnp.asarray(value, self.dtype if is_python(value) else None)

    def _key(self) -> tuple[object, ...]:
        return signature(self.function), self.shape, self.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoArguments) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return repr(self.function)


def takes_none(initializer: object) -> bool:
    """Whether an initializer can be called without arguments, to give the initial value."""
    if isinstance(initializer, types.FunctionType):  # nearly all other initializers
        defaults = initializer.__defaults__ or ()
        keywords = initializer.__kwdefaults__ or {}
        code = initializer.__code__
        return code.co_argcount == len(defaults) and code.co_kwonlyargcount == len(keywords)
    if not callable(initializer) or type(initializer).__module__ == initializers.__name__:
        return False
    try:
        parameters = inspect.signature(initializer).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not p.empty or p.kind in several for p in parameters)


def _takes_any(initializer: Callable[..., object]) -> bool:
    """Whether an initializer that takes no arguments also takes key, shape and dtype."""
    try:
        inspect.signature(initializer).bind(None, None, None)
    except TypeError:
        return False
    return True


def no_arguments(
    name: str, function: Callable[[], ArrayLike], requested: np.dtype[Any] | None
) -> NoArguments:
    """The initializer of a function of no arguments, which is run once, on abstract values.

    If it gives Python's numbers, they get the requested dtype, if it is one of theirs.

    Raises:
        InitializerError: If it doesn't return an array.
    """
    has_dtype = True

    def value() -> Array:
        nonlocal has_dtype
        given = function()
        has_dtype = not is_python(given)
        return jnp.asarray(given)

    try:
        like = jax.eval_shape(value)
    except TypeError as error:
        raise InitializerError(
            f"Variable {name!r}: The initializer passed is not valid. It should be a callable with "
            f"no arguments that gives an array, but {function!r} raised {error}"
        ) from error
    if requested is not None and not has_dtype and requested in widths(like.dtype):
        return NoArguments(function, like.shape, requested)
    return NoArguments(function, like.shape, like.dtype)


def _of_no_arguments(
    name: str, shape: object, requested: np.dtype[Any] | None, function: Callable[[], ArrayLike]
) -> NoArguments:
    """The initializer of a function of no arguments that was passed beside this shape and dtype."""
    if is_full(shape):
        raise InitializerError(
            f"Variable {name!r}: {function!r} takes no arguments. If it makes initializers, call "
            f"it first; if it gives the initial value itself, leave shape={shape!r} out."
        )
    initializer = no_arguments(name, function, requested)
    if requested is not None and requested != initializer.dtype:
        raise _other_dtype(name, initializer.dtype, requested)
    return initializer
