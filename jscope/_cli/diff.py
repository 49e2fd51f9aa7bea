"""``jscope diff``: the differences between two checkpoints, of any formats."""

import math
from typing import NamedTuple

import click
import numpy as np

from .. import formats
from ..formats._file_entry import Array, Entry
from . import _command
from ._new_names import renames, with_new_names
from ._terminal import Column, Row, print_json, print_table, progress, say
from ._variables import natural, variables_of

_CHUNK = 1 << 20  # elements that are compared at a time


class Difference(NamedTuple):
    """One variable that differs between two checkpoints.

    Attributes:
        name: Its name.
        kind: ``missing`` (in B), ``extra`` (in B), ``shape``, ``dtype`` or ``values``.
        a: What it is in A, or ``""``.
        b: What it is in B, or ``""``.
        relative: The largest relative difference, or None where values can't be compared.
    """

    name: str
    kind: str
    a: str
    b: str
    relative: float | None


_STYLES = {"missing": "red", "extra": "green", "shape": "yellow", "dtype": "yellow", "values": ""}


@click.command(
    "diff",
    epilog=_command.examples(
        "jscope diff old.ckpt new.safetensors --rename bert=encoder",
    ),
)
@_command.checkpoint("a")
@_command.checkpoint("b")
@click.option(
    "--rename", metavar="OLD=NEW", multiple=True, help="Call a variable or scope of A so."
)
@click.option("--select", metavar="SELECTOR", multiple=True, help="Compare these only.")
@click.option(
    "--rtol",
    type=click.FloatRange(0),
    default=0.0,
    help="Relative differences up to this are ignored.",
)
@_command.as_json
def command(
    a: str, b: str, rename: tuple[str, ...], select: tuple[str, ...], rtol: float, as_json: bool
) -> int:
    """Compare two checkpoints. Exit status 1 if they differ.

    Of two values x and y the relative difference is |x - y| / max(|x|, |y|); two NaN are equal.
    """
    left, right = formats.open(a), formats.open(b)
    ours = with_new_names(variables_of(left), renames(rename))
    theirs = variables_of(right)
    if select:
        names = _command.chosen({**theirs, **ours}, select)
        ours = {name: v for name, v in ours.items() if name in names}
        theirs = {name: v for name, v in theirs.items() if name in names}
    found: list[Difference] = []
    equal = 0
    with progress("comparing", sum(v.nbytes for v in ours.values())) as advance:
        for name in sorted({*ours, *theirs}, key=natural):
            difference = _compare(name, ours.get(name), theirs.get(name), rtol)
            found += [difference] if difference else []
            equal += not difference
            advance(ours[name].nbytes if name in ours else 0)
    if as_json:
        print_json(
            {
                "a": str(left.path),
                "b": str(right.path),
                "equal": equal,
                "differences": [d._asdict() for d in found],
            }
        )
    else:
        _print_differences(found, equal)
    return int(bool(found))


def _compare(name: str, a: Entry | None, b: Entry | None, rtol: float) -> Difference | None:
    """The difference between two checkpoints in one variable, if there is one."""
    was, now = _signature(a), _signature(b)
    if a is None or b is None:
        return Difference(name, "extra" if a is None else "missing", was, now, None)
    if a.shape != b.shape:
        return Difference(name, "shape", was, now, None)
    relative = largest_relative_difference(a.read(), b.read())
    if a.kind != b.kind:
        return Difference(name, "dtype", was, now, relative)
    return Difference(name, "values", was, now, relative) if not relative <= rtol else None


def _signature(variable: Entry | None) -> str:
    """The dtype and shape of a variable in one of two checkpoints, or empty."""
    if variable is None:
        return ""
    return f"{variable.kind}[{','.join(map(str, variable.shape))}]"


def largest_relative_difference(a: Array, b: Array) -> float:
    r"""The largest $|x - y| / \max(|x|, |y|)$ of two checkpoints' arrays, of one shape, in float64.

    Equal values have 0, and so have two NaN; a NaN or an infinity beside another value, and text
    that differs, has infinity. No two values of one dtype that differ have 0.
    """
    if a.dtype.kind in "OSU" or b.dtype.kind in "OSU":
        return 0.0 if np.array_equal(a, b) else math.inf
    largest = 0.0
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, flat_a.size, _CHUNK):
        x, y = flat_a[start : start + _CHUNK], flat_b[start : start + _CHUNK]
        # float64 doesn't distinguish all integers of 64 bits, so they are compared as they are.
        differ = x != y if x.dtype == y.dtype else _wide(x) != _wide(y)
        x, y = _wide(x[differ]), _wide(y[differ])
        with np.errstate(invalid="ignore"):
            most = np.maximum(np.abs(x), np.abs(y))
            relative = np.abs(x / most - y / most)  # x - y might overflow
        relative[np.isnan(relative)] = np.inf
        relative = np.maximum(relative, 2.0**-64)[~(np.isnan(x) & np.isnan(y))]
        largest = max(largest, float(relative.max(initial=0.0)))
    return largest


def _wide(values: Array) -> Array:
    """Values of two checkpoints that are compared, in float64 or complex128."""
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def _what(difference: Difference) -> str:
    """How the types of a variable differ between two checkpoints: ``float32[3] -> [4]``."""
    a, b = difference.a, difference.b
    if a == b or not (a and b):
        return a or b
    if difference.kind == "dtype":
        return f"{a.partition('[')[0]} -> {b}"
    (dtype, _, _), (other, _, shape) = a.partition("["), b.partition("[")
    return f"{a} -> [{shape}" if dtype == other else f"{a} -> {b}"


def _print_differences(found: list[Difference], equal: int) -> None:
    """Print the differences between two checkpoints as a table."""
    if found:
        columns = (
            Column("name", is_name=True),
            Column("difference"),
            Column("type"),
            Column("rel. diff.", right=True),
        )
        rows = [
            Row(
                (d.name, d.kind, _what(d), "" if d.relative is None else f"{d.relative:.3g}"),
                _STYLES[d.kind],
            )
            for d in found
        ]
        print_table(columns, rows)
        say("")
    kinds = [f"{sum(d.kind == kind for d in found):,} {kind}" for kind in _STYLES]
    counts = ", ".join(text for text in kinds if not text.startswith("0 "))
    what = f"{equal:,} equal" + (f", {len(found):,} different: {counts}" if found else "")
    say((what, "bold red" if found else "bold green"))
