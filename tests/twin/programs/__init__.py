"""The programs, by topic. Each is run by both libraries, which must do the same."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from ..library import Library

Program = Callable[[Library], Any]

TOPICS = (
    "names",
    "reuse",
    "objects",
    "default_names",
    "defaults",
    "arguments",
    "getters",
    "creators",
    "templates",
    "collections",
)

PROGRAMS: dict[str, Program] = {}


def twin(program: Program) -> Program:
    """Have a program run by both libraries."""
    _add(program.__name__, program)
    return program


def each(cases: Iterable[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have one program for each case, which is its second argument."""

    def register(program: Callable[..., Any]) -> Callable[..., Any]:
        for case in cases:
            _add(f"{program.__name__}[{case}]", lambda t, case=case: program(t, case))
        return program

    return register


def _add(name: str, program: Program) -> None:
    assert name not in PROGRAMS, name
    PROGRAMS[name] = program


def load() -> dict[str, Program]:
    """All of them, from the files beside this one."""
    for topic in TOPICS:
        importlib.import_module(f".{topic}", __name__)
    return PROGRAMS
