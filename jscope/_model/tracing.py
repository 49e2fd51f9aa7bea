"""Running a user's function: under its own name, on abstract values, and JAX's errors in its terms.

Functions that jscope makes of a user's function have its name and its arguments, which JAX reads.
``jax.jit(f, static_argnames="training")`` finds the position of an argument in the signature;
profiles, lowered programs and JAX's errors show the name and the line.

Some of these errors are wrapped in jscope's: of a model that needs a value where there are shapes
and dtypes only, of one that uses a mapped axis which is not bound, and of branches that assign
different variables.
"""

import contextlib
import functools
import inspect
import operator
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

import jax

from .._errors import BranchError, ConcreteValueError, JscopeError, UnboundAxisError, listed
from .._scope.call_sites import last_site

AxisSizes: TypeAlias = Mapping[str, int]
Function: TypeAlias = Callable[..., object]
F = TypeVar("F", bound=Function)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COPIED = ("__module__", "__doc__")


def plain_function(function: Function) -> Function:
    """The function that has the code, inside partials and wrappers, or an object's ``__call__``."""
    while not hasattr(function, "__code__"):
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(type(function).__call__, "__code__"):
            function = type(function).__call__
        else:
            break
    plain: Function = inspect.unwrap(function)
    return plain


def name_of(function: object) -> str:
    """A function's name; that of the function in a partial, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def named_like(wrapper: F, function: Function, *, first: tuple[str, ...] | None = None) -> F:
    """Give a wrapper the name, the documentation and the signature of a function.

    Args:
        wrapper: Takes what ``function`` takes; changed in place, and returned.
        function: Any callable.
        first: What the wrapper takes instead of the function's first argument, by position.
            Default: that argument.
    """
    plain = plain_function(function)
    # `inspect` follows `__wrapped__` to a signature, which costs nothing here. Not so JAX, which
    # looks for a name and a line: partials and objects with `__call__` have none.
    is_plain = inspect.unwrap(function) is plain
    functools.update_wrapper(wrapper, function if is_plain else plain, _COPIED, ())
    wrapper.__name__ = wrapper.__qualname__ = name_of(function)
    if first is not None or not is_plain:
        signature = _signature_of(function, first)
        if signature is not None:
            wrapper.__signature__ = signature  # type: ignore[attr-defined]
    return wrapper


def _signature_of(function: Function, first: tuple[str, ...] | None) -> inspect.Signature | None:
    """The signature of a function, with other first arguments; of some in C there is none."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if first is not None:
        if parameters and parameters[0].kind in _POSITIONAL:
            del parameters[0]
        taken = {parameter.name for parameter in parameters}
        names = [f"{name}_" if name in taken else name for name in first]
        before = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        parameters = before + parameters
    return inspect.Signature(parameters)


# On abstract values.


def run_abstractly(
    run: Callable[..., None],
    model: Function,
    names: Sequence[str],
    arrays: Sequence[object],
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

    def bind(self, *args: object, **kwargs: object) -> inspect.BoundArguments:
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


def argument_names(model: Function, args: tuple[object, ...], kwargs: object) -> list[str]:
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


def _positional_names(model: Function, count: int) -> list[str]:
    """Names of the first arguments that are passed by position."""
    try:
        parameters = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in _POSITIONAL][:count]
    rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "args")
    return names + [f"{rest}[{i}]" for i in range(count - len(names))]


# JAX's errors.


@contextlib.contextmanager
def with_values_explained(model: Function) -> Iterator[None]:
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
def with_axes_explained(model: Function, cure: str) -> Iterator[None]:
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


def _arguments_needed(model: Function, error: Exception) -> str | None:
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


def _where(model: Function) -> str:
    """A model's name and line, as JAX writes them."""
    plain = plain_function(model)
    code = getattr(plain, "__code__", None)
    if code is None:
        return name_of(model)
    return f"{plain.__name__} at {code.co_filename}:{code.co_firstlineno}"


def _needs_value(model: Function, arguments: str, error: Exception) -> ConcreteValueError:
    name = name_of(model)
    return ConcreteValueError(
        f"js.declare({name}) runs the model on shapes and dtypes alone, and {_where(model)} needs "
        f"the value of {arguments}, at\n{last_site(error)}\nWrite what needs no value, such as "
        "jnp.where, jax.lax.cond or x.astype. If an argument is a setting, pass it as a Python "
        "number instead of an array, or bind it with functools.partial. Or run the model once on "
        f"values: js.init({name}, inline=True)(key, ...)."
    )


@contextlib.contextmanager
def branches_explained() -> Iterator[None]:
    """Raise an error of ours where JAX finds that branches return different updates."""
    try:
        yield
    except TypeError as error:
        explained = _of_branches(str(error))
        if explained is None:
            raise
        raise explained from error


# The text of JAX 0.10 to 0.12; if it changes, JAX's own error is raised.
_BRANCHES = re.compile(
    r"(cond|switch) branch outputs must have the same pytree structure.*? output at path [^ ]* is "
    r"a <class '[^']*VarTree'> with pytree metadata Structure\((.*?)\) but (.*?) output at path "
    r"[^ ]* is a <class '[^']*VarTree'> with pytree metadata Structure\((.*?)\), so",
    re.DOTALL,
)
# For unequal numbers of variables it names those that differ, and nothing else.
_OF_UNEQUAL_NUMBERS = re.compile(
    r"(cond|switch) branch outputs must have the same pytree structure.*? output at path [^ ]* is "
    r"a <class '[^']*VarTree'> with \d+ child(?:ren)? but [^\n]*? is a <class '[^']*VarTree'> with "
    r"\d+ child(?:ren)?, so the numbers of children do not match, with the symmetric difference of "
    r"key sets: {(.*?)}",
    re.DOTALL,
)


def _of_branches(text: str) -> BranchError | None:
    if found := _BRANCHES.search(text):
        transform, first, which, second = found.groups()
        here, there = _quoted(first), _quoted(second)
        sides = [(here - there, "only by the first branch"), (there - here, f"only by {which}")]
    elif found := _OF_UNEQUAL_NUMBERS.search(text):
        transform, names = found.groups()
        here, there = _quoted(names), set()
        sides = [(here, "not by all")]
    else:
        return None
    which = " and ".join(f"{listed(sorted(names))} {by}" for names, by in sides if names)
    return BranchError(
        f"The branches of jax.lax.{transform} assign different variables: {which}. "
        "JAX requires results of one structure from all. Write for each branch "
        f"js.with_updates(branch, always={sorted(here ^ there)!r}), which returns these variables' "
        "values whether it assigns them or not."
    )


def _quoted(names: str) -> set[str]:
    return set(re.findall("'([^']+)'", names))
