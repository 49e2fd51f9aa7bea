"""Where jscope differs from TensorFlow 1 on purpose, each with a check of both.

The texts are the table of `docs/from_tf1.md`; a test compares them.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import jscope_, tensorflow1
from ..outcome import Outcome


@dataclass(frozen=True)
class Deviation:
    """A row of the table, and a function that checks it."""

    what: str
    tf: str
    js: str
    why: str
    check: Callable[[], None]


TOPICS = ("names", "sharing", "values", "arguments", "getters")

DEVIATIONS: dict[str, Deviation] = {}


def deviates(what: str, *, tf: str, js: str, why: str) -> Callable[[Any], Any]:
    """Have a function be the check of a row."""

    def register(check: Callable[[], None]) -> Callable[[], None]:
        assert check.__name__ not in DEVIATIONS
        DEVIATIONS[check.__name__] = Deviation(what, tf, js, why, check)
        return check

    return register


def both(program: Any) -> tuple[Outcome, Outcome, Outcome]:
    """What TensorFlow did, what jscope did declaring, and bound."""
    return (tensorflow1.run(program), *jscope_.run(program, again=True))


def texts(outcome: Outcome) -> list[str | None]:
    """How each attempt ended, and at last the program: the first sentence of the error."""
    return [None if f is None else f.text.partition(". ")[0] for f in outcome.failures]


def load() -> dict[str, Deviation]:
    """All of them, from the files beside this one."""
    for topic in TOPICS:
        importlib.import_module(f".{topic}", __name__)
    return DEVIATIONS
