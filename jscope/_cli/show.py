"""``jscope show``: one variable's statistics, histogram and values.

Statistics of an array of any dtype take bounded memory: all is computed in float64, `_CHUNK`
elements at a time; of complex numbers, their magnitudes.
"""

import dataclasses
import itertools
import re
import shutil
from collections.abc import Iterator

import click
import numpy as np

from .. import formats
from .._errors import near
from .._tree.text import bytes_text, counted
from ..formats._file_entry import Array, Entry
from ..formats._source import Source
from . import _command
from ._command import CommandError
from ._terminal import print_json, say
from ._variables import variables_of

_CHUNK = 1 << 20
_BINS = 64
_SHORT = 16  # elements that are shown rather than counted
_HEIGHT = 6  # lines of a histogram
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True)
class Statistics:
    r"""The statistics of an array that ``show`` prints.

    ``minimum``, ``maximum``, ``mean`` and ``std`` (of the whole, $\sqrt{\sum (x - \bar x)^2 / n}$)
    are of the finite values, and NaN if there are none; so is ``norm``, $\sqrt{\sum x^2}$.
    ``histogram`` counts the finite values in bins of equal width from ``minimum`` to ``maximum``,
    or, if there is room, one for each whole number; there are no bins if they would have no width.
    """

    finite: int
    zeros: int
    nan: int
    positive_infinity: int
    negative_infinity: int
    minimum: float | int
    maximum: float | int
    mean: float
    std: float
    norm: float
    histogram: tuple[int, ...]


@click.command(
    "show",
    epilog=_command.examples(
        "jscope show model.ckpt-1000 encoder/w",
        "jscope show model.npz head/b --values",
    ),
)
@_command.checkpoint()
@click.argument("name")
@click.option("--values", is_flag=True, help="Print the values too; the middle of many is cut.")
@_command.as_json
def command(ckpt: str, name: str, values: bool, as_json: bool) -> None:
    """Show one variable: statistics, a histogram, how many NaN and Inf, its values.

    NAME may end with ":0", as TensorFlow calls a variable's tensor.
    """
    source = formats.open(ckpt)
    name, variable = _found_variable(name, source, ckpt)
    array = variable.read()
    has_numbers = array.dtype.kind not in "OSU"
    found = statistics(array) if has_numbers else None
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
    checked = f", {source.checksum} verified" if source.checksum else ""
    say((name, "bold"))
    say(
        f"{variable.kind} {tuple(variable.shape)}, {counted(variable.size, 'element')}, "
        f"{bytes_text(variable.nbytes)}{checked}"
    )
    is_short = array.size <= _SHORT
    if found and array.size > 1:
        _say_statistics(found, array, with_graph=not is_short)
    if values or (array.size and (is_short or not has_numbers)):
        say("")
        say(_values_text(array))


def _found_variable(name: str, source: Source, ckpt: str) -> tuple[str, Entry]:
    """The variable to show, by its name, or its tensor's as TensorFlow calls it: ``w:0``."""
    variables = variables_of(source)
    for known in (name, name.removesuffix(":0")):
        if known in variables:
            return known, variables[known]
    why = near(name, tuple(variables))
    if re.search(r":[1-9]\d*$", name):
        why += "; a variable's tensor is ':0' in TensorFlow, and has no other number"
    raise CommandError(f"no variable {name!r} in {source.path} ({why})", f"jscope ls {ckpt}")


def _say_statistics(found: Statistics, array: Array, *, with_graph: bool) -> None:
    """Print the statistics and the histogram of an array."""

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
    """The lines of a histogram: bars as high as the counts; the least there is can be seen."""
    most = max(counts)
    wide = max(1, _BINS // len(counts))
    eighths = [-(-count * 8 * _HEIGHT // most) for count in counts]
    return [
        "".join(wide * _BLOCKS[min(8, max(0, height - 8 * line))] for height in eighths)
        for line in reversed(range(_HEIGHT))
    ]


def _values_text(array: Array) -> str:
    """The values of a variable that ``show`` prints, as text."""
    width = shutil.get_terminal_size().columns
    if array.dtype.kind == "O":
        array = np.vectorize(_readable, otypes=[object])(array)
    return np.array2string(array, max_line_width=width, threshold=200)


def _readable(value: object) -> object:
    """A value that ``show`` prints; a string is cut if it is long."""
    return value[:80] + b"..." if isinstance(value, bytes) and len(value) > 80 else value


@np.errstate(over="ignore", invalid="ignore")  # squares of 1e200
def statistics(array: Array) -> Statistics:
    """Compute the statistics of an array, and a histogram of at most `_BINS` bins."""
    finite = zeros = nan = positive = negative = 0
    mean = squares = 0.0  # squares: the sum of squared distances from the mean
    minimum, maximum, norm = np.inf, -np.inf, 0.0
    for values in _chunks(array):
        nan += int(np.isnan(values).sum())
        positive += int((values == np.inf).sum())
        negative += int((values == -np.inf).sum())
        kept = values[np.isfinite(values)]
        if not kept.size:
            continue
        zeros += int((kept == 0).sum())
        minimum, maximum = min(minimum, kept.min()), max(maximum, kept.max())
        # Chan, Golub & LeVeque 1979: means and squares of two parts make those of the whole.
        both = finite + kept.size
        distance = kept.mean() - mean
        squares += (
            float(((kept - kept.mean()) ** 2).sum()) + distance**2 * finite * kept.size / both
        )
        mean += distance * kept.size / both
        norm = float(np.hypot(norm, np.linalg.norm(kept)))
        finite = both
    if not finite:
        minimum = maximum = mean = norm = squares = np.nan
    is_whole = array.dtype.kind in "iu" and finite  # float64 doesn't distinguish all of them
    return Statistics(
        finite,
        zeros,
        nan,
        positive,
        negative,
        int(array.min()) if is_whole else float(minimum),
        int(array.max()) if is_whole else float(maximum),
        float(mean),
        float(np.sqrt(squares / max(finite, 1))),
        norm,
        _histogram(array, minimum, maximum) if finite else (),
    )


def _histogram(array: Array, minimum: float, maximum: float) -> tuple[int, ...]:
    """The counts of a histogram of an array."""
    low, high, bins = minimum, maximum, _BINS
    if array.dtype.kind in "biu" and maximum - minimum < bins:
        bins = int(maximum - minimum) + 1
        low, high = minimum - 0.5, maximum + 0.5
    if not (high - low < np.inf and low + (high - low) / bins > low):
        return ()  # from -1e308 to 1e308, or from x to x
    counts = np.zeros(bins, np.int64)
    for values in _chunks(array):
        counts += np.histogram(values[np.isfinite(values)], bins, (low, high))[0]
    return tuple(map(int, counts))


def _chunks(array: Array) -> Iterator[Array]:
    """An array in chunks of float64, for its statistics."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        wide = part.astype(np.complex128 if part.dtype.kind == "c" else np.float64)
        yield np.abs(wide) if wide.dtype.kind == "c" else wide
