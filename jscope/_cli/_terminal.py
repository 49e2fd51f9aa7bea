"""Tables, text and progress for a terminal, or plain for a file or another program.

On a terminal, names are folded at ``/`` to fit its width, and Rich sets the colors. Elsewhere, and
if it is very long, a table is plain text, one line a row. Without a terminal Rich isn't loaded.
JSON is the same everywhere.
"""

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from .._tree.text import table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WORTH_A_BAR = 64 << 20  # bytes; less is done before a bar is drawn
_NARROWEST = 20  # columns for a name
_MOST_WITH_RICH = 2000  # rows; it takes a quarter of a millisecond for each


class Column(NamedTuple):
    """A column of a table that a command prints.

    Attributes:
        title: What stands above it.
        right: Whether it is aligned to the right.
        is_name: Whether it holds names of variables, which may be folded.
    """

    title: str
    right: bool = False
    is_name: bool = False


class Row(NamedTuple):
    """A row of a table that a command prints: its cells, and Rich's style for it on a terminal."""

    cells: tuple[str, ...]
    style: str = ""


def is_terminal() -> bool:
    """Whether standard output is a terminal; ``FORCE_COLOR`` sets it too, as in Rich."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


@functools.cache
def console() -> "Console":
    """Rich's console; only on a terminal."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False, soft_wrap=True)


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line of texts on the terminal, each alone or with Rich's style for it."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    if is_terminal():
        from rich.text import Text

        console().print(Text.assemble(*pairs))
    else:
        print("".join(text for text, _ in pairs))


def print_table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print rows under a header, as a table for a terminal or plain."""
    if is_terminal() and len(rows) <= _MOST_WITH_RICH:
        _print_with_rich(columns, rows)
        return
    titles = [column.title for column in columns]
    right = [column.title for column in columns if column.right]
    print(table(titles, [row.cells for row in rows], right=right, most=max(1, len(rows))))


def print_json(facts: Mapping[str, Any]) -> None:
    """Print facts as JSON, a line for each, or for each member of a list of objects.

    Numbers that JSON lacks are strings: ``"nan"``, ``"inf"``.
    """
    lines = []
    for key, fact in facts.items():
        value = _jsonable(fact)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inside = ",\n    ".join(map(json.dumps, value))
            lines.append(f"{json.dumps(key)}: [\n    {inside}\n  ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    print("{\n  " + ",\n  ".join(lines) + "\n}")


def _jsonable(value: object) -> object:
    """A fact that is printed as JSON, in JSON's types."""
    if isinstance(value, dict):
        return {key: _jsonable(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, complex):
        return [_jsonable(value.real), _jsonable(value.imag)]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value


def _print_with_rich(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table on a terminal by Rich."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        shown.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    others = [
        max(len(row.cells[i]) for row in [*rows, Row(tuple(c.title for c in columns))]) + 2
        for i, column in enumerate(columns)
        if not column.is_name
    ]
    width = max(_NARROWEST, console().width - sum(others))
    for row in rows:
        shown.add_row(
            *(
                _folded_name(cell, width) if column.is_name else cell
                for column, cell in zip(columns, row.cells, strict=True)
            ),
            style=row.style or None,
        )
    console().print(shown)


def _folded_name(name: str, width: int) -> "Text":
    """A printed name whose scope is dim, folded at ``/``; what goes on is indented."""
    from rich.text import Text

    scope, slash, last = name.rpartition("/")
    whole = Text.assemble((scope + slash, "dim"), last)
    cuts: list[int] = []
    start = 0
    while len(name) - start > width - (2 if cuts else 0):
        room = start + width - (2 if cuts else 0)
        cut = name.rfind("/", start + 1, room) + 1
        start = cut if cut > start else room
        cuts.append(start)
    return Text("\n  ").join(whole.divide(cuts))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, if it is a terminal; the body reports bytes done."""
    if not sys.stderr.isatty() or total < _WORTH_A_BAR:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
