"""Finding traced values in what should be static: an initializer that closes over one.

Declaring runs no initializer, and initialising happens when the trace is over; such an
initializer would fail there with JAX's words for a leaked tracer, far from its cause.

Imports: `_errors`, JAX.
"""

import functools
import types
from typing import Any

import jax

from ._errors import InitializerError


def check_untraced(name: str, initializer: Any) -> None:
    """Raise if an initializer holds a traced value, as far as can be seen without running it.

    Raises:
        InitializerError: If it, its closure, its defaults or its attributes hold one.
    """
    held = _traced_in(initializer, "the initializer", set())
    if held is not None:
        raise InitializerError(
            f"The initializer of variable {name!r} depends on a traced value ({held}). Initial "
            "values are computed by js.init, when the model's trace is over. If they shall depend "
            "on what the model computes, write js.init(model, inline=True); else compute the "
            "value outside the model, or assign it afterwards."
        )


def _traced_in(value: Any, what: str, seen: set[int]) -> str | None:
    """Where in a value a tracer was found, in words, or None."""
    if isinstance(value, jax.core.Tracer):
        return f"{what} is {value.aval.str_short()}"
    if id(value) in seen:
        return None
    seen.add(id(value))
    for where, part in _parts(value):
        found = _traced_in(part, where, seen)
        if found is not None:
            return found
    return None


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What a callable may use when it is called. Other objects are not looked into."""
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        closed = [(f"{name!r} in its closure", _contents(cell)) for name, cell in cells]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return closed + [("a default argument", default) for default in defaults]
    if isinstance(value, types.MethodType):
        return [("its method's function", value.__func__), ("its object", value.__self__)]
    if isinstance(value, functools.partial):
        bound = [*value.args, *value.keywords.values()]
        return [("its function", value.func)] + [("a bound argument", part) for part in bound]
    if isinstance(value, dict | list | tuple | set):
        members = value.values() if isinstance(value, dict) else value
        return [("a member of a container", member) for member in members]
    if callable(value):
        attributes = getattr(value, "__dict__", {})
        return [(f"its attribute {name!r}", part) for name, part in attributes.items()]
    return []


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None
