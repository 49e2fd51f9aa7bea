"""What the commands share: their error, their arguments, and what these mean."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from .._names.selectors import Selector, matching
from .._stores.paths import readable
from ..formats._file_entry import Entry

T = TypeVar("T")
Decorator = Callable[[T], T]

as_json: Decorator[Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class CommandError(Exception):
    """An error of a command in one line, and what to write instead; `_app` prints it."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint


def examples(*lines: str) -> str:
    """The end of a command's help; click leaves lines behind a backspace as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def checkpoint(name: str = "ckpt") -> Decorator[Any]:
    """The argument of a command that is the path or URL of a checkpoint."""
    return click.argument(
        name, metavar=name.upper(), callback=lambda context, parameter, path: readable(path)
    )


def selector(text: str) -> Selector:
    """A command's argument as a selector: a glob, or ``re:`` and a regular expression."""
    if not text.startswith("re:"):
        return text
    try:
        return re.compile(text[3:])
    except re.error as error:
        raise CommandError(f"{text!r} is not a regular expression: {error}") from None


def chosen(variables: Mapping[str, Entry], selectors: Iterable[str]) -> dict[str, Entry]:
    """The variables that a command's arguments choose: by its selectors, or all if it has none."""
    given = [selector(text) for text in selectors]
    if not given:
        return dict(variables)
    names = matching(variables, given)
    return {name: variable for name, variable in variables.items() if name in names}
