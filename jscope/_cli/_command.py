"""What the commands share: their error, their arguments, and what these mean."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from .._errors import SelectorError, with_near_names
from .._names.assignment import absent_old_names, renamed
from .._names.selectors import Selector, matching
from .._stores.paths import readable
from ..formats._file_entry import Entry

T = TypeVar("T")
Decorator = Callable[[T], T]

as_json: Decorator[Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class CommandError(Exception):
    """An error in one line, and what to write instead; `_app` prints it."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint


def examples(*lines: str) -> str:
    """The end of a command's help; click leaves lines behind a backspace as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def checkpoint(name: str = "ckpt") -> Decorator[Any]:
    """A path to a checkpoint; a URL of a store that is not known is refused."""
    return click.argument(
        name, metavar=name.upper(), callback=lambda context, parameter, path: readable(path)
    )


def selector(text: str) -> Selector:
    """A selector as it is written in a shell: a glob, or ``re:`` and a regular expression."""
    if not text.startswith("re:"):
        return text
    try:
        return re.compile(text[3:])
    except re.error as error:
        raise CommandError(f"{text!r} is not a regular expression: {error}") from None


def chosen(variables: Mapping[str, Entry], selectors: Iterable[str]) -> dict[str, Entry]:
    """The variables that any of the selectors picks; all, if there is no selector."""
    given = [selector(text) for text in selectors]
    if not given:
        return dict(variables)
    names = matching(variables, given)
    return {name: variable for name, variable in variables.items() if name in names}


def renames(pairs: Iterable[str]) -> dict[str, str]:
    """``OLD=NEW``, as often as it is written."""
    names = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals:
            raise CommandError(f"--rename {pair!r} has no '='", "--rename OLD=NEW, names or scopes")
        names[old] = new
    return names


def with_new_names(variables: Mapping[str, Entry], names: Mapping[str, str]) -> dict[str, Entry]:
    """A checkpoint's variables under the names that ``--rename`` gives them.

    Raises:
        CommandError: If an old name is not there, or two variables would get one name.
    """
    absent = absent_old_names(variables, names)
    if absent:
        raise SelectorError(f"Nothing to rename: {with_near_names(absent, variables)}.")
    result: dict[str, Entry] = {}
    for old, variable in variables.items():
        new = renamed(names, old)
        if new in result:
            raise CommandError(
                f"two variables would be called {new!r}", "rename one of them otherwise"
            )
        result[new] = variable
    return result
