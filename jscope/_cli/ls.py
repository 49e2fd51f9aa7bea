"""``jscope ls``: the variables of a checkpoint."""

from collections.abc import Mapping

import click

from .. import formats
from .._tree.text import bytes_text, counted
from ..formats._file_entry import Entry
from ..formats._source import Source
from . import _command
from ._terminal import Column, Row, is_terminal, print_json, print_table, say
from ._variables import variables_of

_BAR = 12  # columns


@click.command(
    "ls",
    epilog=_command.examples(
        "jscope ls model.ckpt-1000",
        "jscope ls runs/digits 'encoder/**/w'",
        "jscope ls model.safetensors --depth 1",
    ),
)
@_command.checkpoint()
@click.argument("selectors", metavar="[SELECTOR]...", nargs=-1)
@click.option("--depth", type=click.IntRange(0), help="Totals of the scopes down to this depth.")
@_command.as_json
def command(ckpt: str, selectors: tuple[str, ...], depth: int | None, as_json: bool) -> None:
    """List the variables of a checkpoint: name, shape, dtype, bytes."""
    source = formats.open(ckpt)
    variables = _command.chosen(variables_of(source), selectors)
    if as_json:
        print_json(_facts(source, variables, depth))
        return
    if depth is None:
        columns = [Column("name", is_name=True), Column("shape"), Column("dtype"), _BYTES]
        rows = [
            Row((name, str(tuple(v.shape)), v.kind, bytes_text(v.nbytes)))
            for name, v in variables.items()
        ]
    else:
        columns, rows = _scopes_table(variables, depth)
    print_table(columns, rows)
    say("")
    say((_total_text(variables), "bold"), f"   {source.format}")


_BYTES = Column("bytes", right=True)


def _scopes_table(variables: Mapping[str, Entry], depth: int) -> tuple[list[Column], list[Row]]:
    """The table that ``ls --depth`` prints: a row for each scope."""
    totals = by_scope(variables, depth)
    whole = sum(nbytes for _, _, nbytes in totals.values()) or 1
    columns = [
        Column("scope", is_name=True),
        Column("variables", right=True),
        Column("elements", right=True),
        _BYTES,
        Column("share", right=True),
    ]
    rows = []
    for scope, (count, size, nbytes) in totals.items():
        share = nbytes / whole
        cells = [scope or "/", f"{count:,}", f"{size:,}", bytes_text(nbytes), f"{share:.1%}"]
        if is_terminal():
            cells.append("█" * round(share * _BAR))
        rows.append(Row(tuple(cells)))
    if is_terminal():
        columns.append(Column(""))
    return columns, rows


def by_scope(variables: Mapping[str, Entry], depth: int) -> dict[str, tuple[int, int, int]]:
    """What ``ls --depth`` lists: the variables, elements and bytes below each scope.

    A variable counts for the scope that has the first ``depth`` components of its name, or
    for its own scope if that is less deep.
    """
    totals: dict[str, tuple[int, int, int]] = {}
    for name, variable in variables.items():
        scope = "/".join(name.split("/")[:-1][:depth])
        count, size, nbytes = totals.get(scope, (0, 0, 0))
        totals[scope] = (count + 1, size + variable.size, nbytes + variable.nbytes)
    return totals


def _total_text(variables: Mapping[str, Entry]) -> str:
    """The last line that ``ls`` prints: variables, elements and bytes in all."""
    size = sum(v.size for v in variables.values())
    nbytes = sum(v.nbytes for v in variables.values())
    count = counted(len(variables), "variable")
    return f"{count}, {counted(size, 'element')}, {bytes_text(nbytes)}"


def _facts(source: Source, variables: Mapping[str, Entry], depth: int | None) -> dict[str, object]:
    """What ``ls --json`` prints."""
    facts: dict[str, object] = {"path": str(source.path), "format": source.format}
    if depth is None:
        facts["variables"] = [
            {"name": name, "shape": v.shape, "dtype": v.kind, "bytes": v.nbytes}
            for name, v in variables.items()
        ]
    else:
        facts["scopes"] = [
            {"scope": scope, "variables": count, "elements": size, "bytes": nbytes}
            for scope, (count, size, nbytes) in by_scope(variables, depth).items()
        ]
    facts["total"] = {
        "variables": len(variables),
        "elements": sum(v.size for v in variables.values()),
        "bytes": sum(v.nbytes for v in variables.values()),
    }
    return facts
