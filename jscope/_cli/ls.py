"""``jscope ls``: the variables of a checkpoint."""

from collections.abc import Mapping

import click

from .._tree.text import bytes_text
from . import _command
from ._checkpoint import Checkpoint, Variable, open_checkpoint
from ._terminal import Column, Row, counted, is_terminal, print_json, print_table, say

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
    opened = open_checkpoint(ckpt)
    variables = _command.chosen(opened.variables, selectors)
    if as_json:
        print_json(_facts(opened, variables, depth))
        return
    if depth is None:
        columns = [Column("name", is_name=True), Column("shape"), Column("dtype"), _BYTES]
        rows = [
            Row((name, str(tuple(v.shape)), v.kind, bytes_text(v.nbytes)))
            for name, v in variables.items()
        ]
    else:
        columns, rows = _scopes(variables, depth)
    print_table(columns, rows)
    say("")
    say((_total(variables), "bold"), f"   {opened.format}")


_BYTES = Column("bytes", right=True)


def _scopes(variables: Mapping[str, Variable], depth: int) -> tuple[list[Column], list[Row]]:
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


def by_scope(variables: Mapping[str, Variable], depth: int) -> dict[str, tuple[int, int, int]]:
    """The number of variables, elements and bytes below each scope of at most this depth.

    A variable counts for the scope that has the first ``depth`` components of its name, or
    for its own scope if that is less deep.
    """
    totals: dict[str, tuple[int, int, int]] = {}
    for name, variable in variables.items():
        scope = "/".join(name.split("/")[:-1][:depth])
        count, size, nbytes = totals.get(scope, (0, 0, 0))
        totals[scope] = (count + 1, size + variable.size, nbytes + variable.nbytes)
    return totals


def _total(variables: Mapping[str, Variable]) -> str:
    size = sum(v.size for v in variables.values())
    nbytes = sum(v.nbytes for v in variables.values())
    count = counted(len(variables), "variable")
    return f"{count}, {counted(size, 'element')}, {bytes_text(nbytes)}"


def _facts(
    opened: Checkpoint, variables: Mapping[str, Variable], depth: int | None
) -> dict[str, object]:
    facts: dict[str, object] = {"path": opened.path, "format": opened.format}
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
