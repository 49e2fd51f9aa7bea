"""What a callable may use when it is called: its closure, defaults, bound arguments, attributes.

Two questions are answered by walking through these: whether an initializer holds a traced value,
which would fail after the trace with JAX's error for a leaked tracer, far from its cause; and
whether two callables compute the same, so that one compiled program serves both.
"""

import functools
import types
from collections.abc import Hashable, Iterator, Mapping

import jax

from .._errors import InitializerError


def parts(value: object) -> Iterator[tuple[str, object]]:
    """What a callable may use: closure, defaults, bound arguments, attributes; each with words."""
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f"{name!r} in its closure", _contents(cell)) for name, cell in cells)
        defaults = (*(value.__defaults__ or ()), *_by_name(value.__kwdefaults__))
        yield from (("a default argument", default) for default in defaults)
    elif isinstance(value, types.MethodType):
        yield from (("its method's function", value.__func__), ("its object", value.__self__))
    elif isinstance(value, functools.partial):
        yield "its function", value.func
        bound = (*value.args, *_by_name(value.keywords))
        yield from (("a bound argument", argument) for argument in bound)
    elif isinstance(value, dict | list | tuple | set):
        members = value.values() if isinstance(value, dict) else value
        yield from (("a member of a container", member) for member in members)
    elif callable(value):
        attributes = getattr(value, "__dict__", {})
        yield from ((f"its attribute {name!r}", part) for name, part in attributes.items())


def check_untraced(name: str, initializer: object) -> None:
    """Raise if an initializer has a traced value in its closure, or in what else it may use.

    Raises:
        InitializerError: If it, its closure, its defaults or its attributes hold one.
    """
    held = _traced_in(initializer, "the initializer", set())
    if held is not None:
        raise InitializerError(
            f"The initializer of variable {name!r} depends on a traced value ({held}). Initial "
            "values are computed by js.init, when the model's trace is over. If they are to depend "
            "on what the model computes, write js.init(model, inline=True); else compute the "
            "value outside the model, or assign it afterwards."
        )


def _traced_in(value: object, what: str, seen: set[int]) -> str | None:
    """Where in a callable's closure, or in what else it may use, a tracer is, in words; or None."""
    if isinstance(value, jax.core.Tracer):
        return f"{what} is {value.aval.str_short()}"
    if id(value) in seen:
        return None
    seen.add(id(value))
    found = (_traced_in(part, where, seen) for where, part in parts(value))
    return next((where for where in found if where is not None), None)


def signature(value: object, inside: tuple[int, ...] = ()) -> Hashable:
    """A hashable that is equal for callables that compute the same: of equal code and closure.

    jscope's initializers compare by their parameters. The functions that factories such as
    ``jax.nn.initializers.he_normal()`` return do not, though each call returns the same code
    over the same variables; without this, each variable would compile a program of its own.
    ``inside`` holds what is around the value: a function that calls itself is in its own closure.
    """
    if id(value) in inside:
        return id(value)
    if isinstance(value, types.FunctionType):
        keywords = tuple(sorted(value.__kwdefaults__ or ()))
        head: tuple[object, ...] = (value.__code__, id(value.__globals__), keywords)
    elif isinstance(value, functools.partial):
        head = (type(value), tuple(sorted(value.keywords)))
    elif isinstance(value, tuple):
        head = (type(value),)
    elif isinstance(value, float):
        return value.hex()  # 0.0 == -0.0, and 1.0 == 1
    else:
        return (type(value), value) if _is_hashable(value) else id(value)
    inside += (id(value),)
    return (*head, *((where, signature(part, inside)) for where, part in parts(value)))


def _by_name(values: Mapping[str, object] | None) -> Iterator[object]:
    """What a callable may use of keyword arguments, as of its closure: values in order of names."""
    return (value for _, value in sorted((values or {}).items(), key=lambda item: item[0]))


def _is_hashable(value: object) -> bool:
    """Whether a value that a callable uses can be hashed."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _contents(cell: types.CellType) -> object:
    """What a cell of a closure holds."""
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return cell
