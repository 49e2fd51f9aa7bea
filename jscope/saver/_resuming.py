"""Values that each process has its own of: which one this process gets, and objects that take it.

All values are chosen before the state of any object is set, and both together in all processes, so
that an error of one is an error of all.
"""

from collections.abc import Mapping
from typing import Any

from .._errors import TreeMismatchError, listed
from .._stores.remote import AnyPath
from ..formats._per_process import PerProcess
from . import _processes


def resumed(
    leaves: Mapping[str, Any], values: Mapping[str, Any], path: AnyPath
) -> dict[str, PerProcess]:
    """The results of a restore for the leaves that are a `PerProcess`; sets their objects' states.

    Args:
        leaves: The target's leaves, by name.
        values: What was read for some; for a `PerProcess` the values of all processes.
        path: The checkpoint's.

    Raises:
        TreeMismatchError: If another number of processes saved them, and that is an error.
        Exception: What a function of the caller raises, or an object that is given its state.
    """
    found = {
        name: leaf
        for name, leaf in leaves.items()
        if isinstance(leaf, PerProcess) and name in values
    }
    if not found:
        return {}
    chosen: dict[str, Any] = {}
    result: dict[str, PerProcess] = {}

    def choose() -> str:
        _check_counts(found, values, path)
        chosen.update({name: _own(name, leaf, values[name]) for name, leaf in found.items()})
        return ""

    def give() -> str:
        result.update({name: leaf.with_state(chosen[name]) for name, leaf in found.items()})
        return ""

    _processes.together(choose)
    _processes.together(give)
    return result


def _check_counts(
    leaves: Mapping[str, PerProcess], values: Mapping[str, tuple[Any, ...]], path: AnyPath
) -> None:
    others = {
        name: len(values[name])
        for name, leaf in leaves.items()
        if leaf.on_other_count == "error" and len(values[name]) != _processes.count()
    }
    if others:
        first, saved = next(iter(others.items()))
        raise TreeMismatchError(
            f"{_number(saved)} saved {listed(others)}, each its own value, in {path}, and this "
            f"program has {_number(_processes.count())}: which of the values a process gets is "
            f"unknown. Run it with {_number(saved)}, or leave these out by select=.",
            "Or choose: a target that has js.PerProcess(value, on_other_count=lambda values, "
            "process, count: ...) gets what the function returns, and "
            f"saver.open({str(path)!r})[{first!r}].read() is all of them.",
        )


def _number(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def _own(name: str, leaf: PerProcess, values: tuple[Any, ...]) -> Any:
    """The value for this process."""
    if leaf.on_other_count == "error" or len(values) == _processes.count():
        return values[_processes.index()]
    try:
        return leaf.on_other_count(values, _processes.index(), _processes.count())
    except Exception as error:
        error.add_note(f"This is `on_other_count` of {name!r}, given {len(values)} values.")
        raise
