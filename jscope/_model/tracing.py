"""Running a model on abstract values, and JAX's errors in terms of the model.

JAX names a traced function and its arguments in its errors, so it is given the model's names. Two
of these errors are wrapped in jscope's: a model that needs a value where there are shapes and
dtypes only, and a model that uses a mapped axis which is not bound.
"""

import contextlib
import inspect
import operator
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from .._errors import ConcreteValueError, JscopeError, UnboundAxisError
from .._scope.call_sites import last_site
from .wrapping import name_of, named_like, plain_function

AxisSizes = Mapping[str, int]


def run_abstractly(
    run: Callable[..., None],
    model: object,
    names: Sequence[str],
    arrays: Sequence[Any],
    axis_sizes: AxisSizes | None,
) -> None:
    """Trace ``run(*arrays)`` on abstract values, under the name of the model.

    Args:
        run: Calls the model.
        model: The model, for its name and its line in the user's code.
        names: The names of the arrays.
        arrays: What is traced.
        axis_sizes: Mapped axes and their sizes; none by default.

    Raises:
        ConcreteValueError: If the model needs a value.
        UnboundAxisError: If it uses an axis that is not in ``axis_sizes``.
    """
    named_like(run, model)
    run.__signature__ = _Named(names)  # type: ignore[attr-defined]
    cure = (
        "Give the axes and their sizes: "
        "js.declare({model}, axis_sizes={{{axis!r}: 8}})(...), and so for js.init."
    )
    with with_axes_explained(model, cure), with_values_explained(model):
        if axis_sizes:
            # Not a vmap of the model: JAX 0.10 gives an all_to_all of what is not mapped another
            # shape there than in jax.shard_map.
            jax.make_jaxpr(run, axis_env=list(axis_sizes.items()))(*arrays)
        else:
            jax.eval_shape(run, *arrays)


class _Named(inspect.Signature):
    """A signature in which JAX finds any names of arguments, such as ``batch['image']``."""

    __slots__ = ("_names",)

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self._names = names

    def bind(self, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        named = dict(zip(self._names, args, strict=True))
        return inspect.BoundArguments(self, OrderedDict(named, **kwargs))


def check_axis_sizes(axis_sizes: object) -> None:
    """Raise unless these are sizes of mapped axes: strings to ints of at least 1; or None.

    Raises:
        TypeError: If they are something else.
        ValueError: If a size is less than 1.
    """
    if axis_sizes is None:
        return
    if not isinstance(axis_sizes, Mapping):
        raise TypeError(f"{_AXIS_SIZES}; got {axis_sizes!r}.")
    for name, size in axis_sizes.items():
        if not isinstance(name, str):
            raise TypeError(f"{_AXIS_SIZES}; got {name!r} as the name of an axis.")
        try:
            number = operator.index(size)
        except TypeError:
            raise TypeError(f"{_AXIS_SIZES}; got {size!r} as the size of {name!r}.") from None
        if number < 1:
            raise ValueError(f"{_AXIS_SIZES}, of at least 1; got {size!r} as the size of {name!r}.")


_AXIS_SIZES = "`axis_sizes` maps the names of axes to their sizes, such as {'b': 8}"


def argument_names(model: Any, args: Any, kwargs: object) -> list[str]:
    """The names of the leaves of a model's arguments: ``x``, ``batch['image']``.

    Args:
        model: ``model(scope, *args, **kwargs)``.
        args: Positional arguments, pytrees.
        kwargs: Arguments by name, pytrees.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    positional = _positional_names(model, 1 + len(args))[1:]
    names = []
    for (which, argument, *rest), _ in flat:
        name = argument.key if which.idx else positional[argument.idx]
        names.append(name + jax.tree_util.keystr(tuple(rest)))
    # A user's node may give its children one key.
    is_unique = len(set(names)) == len(names)
    return names if is_unique else [f"{name} (leaf {i})" for i, name in enumerate(names)]


def _positional_names(model: Any, count: int) -> list[str]:
    """Names of the first arguments that are passed by position."""
    try:
        parameters = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in _BY_POSITION][:count]
    rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "args")
    return names + [f"{rest}[{i}]" for i in range(count - len(names))]


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# JAX's errors.


@contextlib.contextmanager
def with_values_explained(model: object) -> Iterator[None]:
    """Raise jscope's error where JAX finds that a model that is declared needs a value."""
    try:
        yield
    except JscopeError:
        raise
    except (TypeError, IndexError, AttributeError) as error:
        arguments = _arguments_needed(model, error)
        if arguments is None:
            raise
        raise _needs_value(model, arguments, error) from error


@contextlib.contextmanager
def with_axes_explained(model: object, cure: str) -> Iterator[None]:
    """Raise jscope's error where JAX finds that a mapped axis is not bound.

    Args:
        model: The model.
        cure: What to write instead, with the fields ``{model}`` and ``{axis}``.
    """
    try:
        yield
    except NameError as error:
        found = _UNBOUND.search(str(error))
        if isinstance(error, JscopeError) or found is None:
            raise
        raise UnboundAxisError(
            f"{_where(model)} uses the mapped axis {found[1]!r}, which is not bound, at\n"
            f"{last_site(error)}\n{cure.format(model=name_of(model), axis=found[1])}"
        ) from error


def _arguments_needed(model: object, error: Exception) -> str | None:
    """Whose values a model needs, or None if it is another error."""
    text = str(error)
    origin = _ORIGIN.search(text)
    if origin is None:
        is_index = isinstance(error, jax.errors.NonConcreteBooleanIndexError)
        return _SOMETHING if is_index else None
    if origin[1] not in (_where(model), "<unknown>"):
        return None  # the body of a transform, which needs it wherever the model runs
    found = _DEPENDS.search(text)
    return _SOMETHING if found is None else found[1]


_SOMETHING = "something that it computes"

# The text of JAX 0.10 to 0.12; if it changes, JAX's own error is raised.
_UNBOUND = re.compile(r"unbound axis name:? ([^\s.]+)")
_ORIGIN = re.compile(r"while tracing the function (.+?) for \w+\. ", re.DOTALL)
_DEPENDS = re.compile(r"depends on the values? of the arguments? (.+?)\.(?=\s|$)", re.DOTALL)


def _where(model: object) -> str:
    """A model's name and line, as JAX writes them."""
    plain = plain_function(model)
    code = getattr(plain, "__code__", None)
    if code is None:
        return name_of(model)
    return f"{plain.__name__} at {code.co_filename}:{code.co_firstlineno}"


def _needs_value(model: object, arguments: str, error: Exception) -> ConcreteValueError:
    name = name_of(model)
    return ConcreteValueError(
        f"js.declare({name}) runs the model on shapes and dtypes alone, and {_where(model)} needs "
        f"the value of {arguments}, at\n{last_site(error)}\nWrite what needs no value, such as "
        "jnp.where, jax.lax.cond or x.astype. If an argument is a setting, pass it as a Python "
        "number instead of an array, or bind it with functools.partial. Or run the model once on "
        f"values: js.init({name}, inline=True)(key, ...)."
    )
