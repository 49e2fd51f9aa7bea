"""``jscope ls``: the variables of a checkpoint."""

from collections.abc import Iterable, Mapping

import click

from .._tree.text import bytes_text
from . import _options
from ._terminal import Column, Row, is_terminal, print_json, print_table, say
from .formats._opening import open_checkpoint
from .formats._protocol import Checkpoint, Variable

_BAR = 12  # columns


@click.command(
    "ls",
    epilog=_options.examples(
        "jscope ls model.ckpt-1000",
        "jscope ls runs/digits 'encoder/**/w'",
        "jscope ls model.safetensors --depth 1",
    ),
)
@_options.checkpoint()
@click.argument("selectors", metavar="[SELECTOR]...", nargs=-1)
@click.option("--depth", type=click.IntRange(0), help="Totals of the scopes down to this depth.")
@_options.as_json
def command(ckpt: str, selectors: tuple[str, ...], depth: int | None, as_json: bool) -> None:
    """List the variables of a checkpoint: name, shape, dtype, bytes."""
    opened = open_checkpoint(ckpt)
    variables = _options.chosen(opened.variables, selectors)
    if as_json:
        print_json(_facts(opened, variables, depth))
        return
    if depth is None:
        columns = [Column("name", is_name=True), Column("shape"), Column("dtype"), _BYTES]
        rows = [
            Row((name, shape_text(v), v.kind, bytes_text(v.nbytes)))
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


def shape_text(variable: Variable) -> str:
    """The shape, as Python has it."""
    return str(tuple(variable.shape))


def _total(variables: Mapping[str, Variable]) -> str:
    size = sum(v.size for v in variables.values())
    nbytes = sum(v.nbytes for v in variables.values())
    elements = f"{size:,} element{'s' * (size != 1)}"
    return f"{_count(variables)}, {elements}, {bytes_text(nbytes)}"


def _count(variables: Iterable[str]) -> str:
    count = len(list(variables))
    return f"{count:,} variable{'s' * (count != 1)}"


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
