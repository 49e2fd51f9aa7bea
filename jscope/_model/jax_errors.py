"""JAX's errors about a model, in jscope's terms: needed values, unbound axes, unequal branches.

A context manager around a run of the model raises jscope's error from JAX's: of a model that needs
a value where there are shapes and dtypes only, of one that uses a mapped axis which is not bound,
and of branches that assign different variables. They are recognized by JAX's texts; if a version of
JAX writes another, its own error is raised.
"""

import contextlib
import re
from collections.abc import Iterator

import jax

from .._errors import BranchError, ConcreteValueError, JscopeError, UnboundAxisError, listed
from .._scope.call_sites import last_site
from .signatures import Function, name_of, plain_function


@contextlib.contextmanager
def with_values_explained(model: Function) -> Iterator[None]:
    """Turn JAX's error that a model which is declared needs a value into jscope's."""
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
    """Turn JAX's error that a mapped axis is not bound into jscope's.

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
    """The arguments whose values a model needs, by the text of JAX's error; else None."""
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
    """A model's name and line, as JAX's errors write them."""
    plain = plain_function(model)
    code = getattr(plain, "__code__", None)
    if code is None:
        return name_of(model)
    return f"{plain.__name__} at {code.co_filename}:{code.co_firstlineno}"


def _needs_value(model: Function, arguments: str, error: Exception) -> ConcreteValueError:
    """Compose jscope's error that a model which is declared needs the values of arguments."""
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
    """Turn JAX's error that branches return different updates into jscope's."""
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
    """Compose jscope's error from the text of JAX's about branches; None if it is another."""
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
    """The names that stand in quotes in the text of an error of JAX."""
    return set(re.findall("'([^']+)'", names))
