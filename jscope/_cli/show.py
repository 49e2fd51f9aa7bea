"""``jscope show``: one variable's statistics, histogram and values."""

import itertools
import re
import shutil
from typing import Any

import click
import numpy as np

from .._errors import near
from .._tree.text import bytes_text
from . import _options
from ._error import CommandError
from ._statistics import Statistics, statistics
from ._terminal import print_json, say
from .formats._opening import open_checkpoint
from .formats._protocol import Array, Checkpoint, Variable

_BINS = 64
_SHORT = 16  # elements that are shown rather than counted
_HEIGHT = 6  # lines of a histogram
_BLOCKS = " ▁▂▃▄▅▆▇█"


@click.command(
    "show",
    epilog=_options.examples(
        "jscope show model.ckpt-1000 encoder/w",
        "jscope show model.npz head/b --values",
    ),
)
@_options.checkpoint()
@click.argument("name")
@click.option("--values", is_flag=True, help="Print the values too; the middle of many is cut.")
@_options.as_json
def command(ckpt: str, name: str, values: bool, as_json: bool) -> None:
    """Show one variable: statistics, a histogram, how many NaN and Inf, its values.

    NAME may end with ":0", as TensorFlow calls a variable's tensor.
    """
    opened = open_checkpoint(ckpt)
    name, variable = _found(name, opened, ckpt)
    array = variable.read()
    has_numbers = array.dtype.kind not in "OSU"
    found = statistics(array, _BINS) if has_numbers else None
    if as_json:
        facts = {
            "name": name,
            "shape": variable.shape,
            "dtype": variable.kind,
            "bytes": variable.nbytes,
        }
        facts |= {"statistics": vars(found)} if found else {}
        facts |= {"values": array.tolist()} if values else {}
        print_json(facts)
        return
    checked = f", {opened.checksum} verified" if opened.checksum else ""
    say((name, "bold"))
    plural = "s" * (variable.size != 1)
    say(
        f"{variable.kind} {tuple(variable.shape)}, {variable.size:,} element{plural}, "
        f"{bytes_text(variable.nbytes)}{checked}"
    )
    is_short = array.size <= _SHORT
    if found and array.size > 1:
        _say_statistics(found, array, with_graph=not is_short)
    if values or (array.size and (is_short or not has_numbers)):
        say("")
        say(_values_text(array))


def _found(name: str, opened: Checkpoint, ckpt: str) -> tuple[str, Variable]:
    """The variable of this name, or of the tensor that TensorFlow calls so: ``w:0``."""
    for known in (name, name.removesuffix(":0")):
        if known in opened.variables:
            return known, opened.variables[known]
    why = near(name, tuple(opened.variables))
    if re.search(r":[1-9]\d*$", name):
        why += "; a variable's tensor is ':0' in TensorFlow, and has no other number"
    raise CommandError(f"no variable {name!r} in {opened.path} ({why})", f"jscope ls {ckpt}")


def _say_statistics(found: Statistics, array: Array, *, with_graph: bool) -> None:
    def number(value: float) -> str:
        return str(value) if isinstance(value, int) else f"{value:.6g}"

    ends = (number(found.minimum), number(found.maximum)) if found.finite else ("none", "none")
    of = "|x| " if array.dtype.kind == "c" else ""
    left = [
        (f"{of}min", ends[0]),
        (f"{of}max", ends[1]),
        (f"{of}mean", f"{found.mean:.6g}" if found.finite else "none"),
        (f"{of}std", f"{found.std:.6g}" if found.finite else "none"),
        ("norm", f"{found.norm:.6g}" if found.finite else "none"),
    ]
    odd = [
        ("zeros", found.zeros),
        ("NaN", found.nan),
        ("+Inf", found.positive_infinity),
        ("-Inf", found.negative_infinity),
    ]
    say("")
    for (title, text), (kind, count) in itertools.zip_longest(left, odd, fillvalue=("", 0)):
        style = "bold red" if count and kind != "zeros" else ""
        say(f"{title:8} {text:>14}", (f"      {kind:5} {count:>12,}" if kind else "", style))
    if found.histogram and with_graph:
        say("")
        lines = _graph(found.histogram)
        for line in lines:
            say((line, "cyan"))
        room = len(lines[0]) - len(ends[0])
        say(f"{ends[0]}{ends[1]:>{max(room, len(ends[1]) + 2)}}")


def _graph(counts: tuple[int, ...]) -> list[str]:
    """Bars as high as the counts, of eighths of a line; the least there is can be seen."""
    most = max(counts)
    wide = max(1, _BINS // len(counts))
    eighths = [-(-count * 8 * _HEIGHT // most) for count in counts]
    return [
        "".join(wide * _BLOCKS[min(8, max(0, height - 8 * line))] for height in eighths)
        for line in reversed(range(_HEIGHT))
    ]


def _values_text(array: Array) -> str:
    width = shutil.get_terminal_size().columns
    if array.dtype.kind == "O":
        array = np.vectorize(_readable, otypes=[object])(array)
    return np.array2string(array, max_line_width=width, threshold=200)


def _readable(value: object) -> Any:
    """A string, cut if it is long; bytes that are not UTF-8 as they are."""
    return value[:80] + b"..." if isinstance(value, bytes) and len(value) > 80 else value
