"""Results: rows, targets, tables for people and JSON for machines.

Imports: `_timing`, jscope's tables, standard library.
"""

import dataclasses
import operator
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import jax
from _timing import Samples, interval, quartiles, ratios

from jscope._tree.text import table


@dataclass(frozen=True)
class Row:
    """One contender at one size.

    Attributes:
        benchmark: What was timed.
        size: Of what size, with its unit.
        contender: Who.
        seconds: Seconds per repetition, one number per round.
        ratios: Against whom, how many times as long, one number per round.
    """

    benchmark: str
    size: str
    contender: str
    seconds: Sequence[float]
    ratios: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A number that jscope shall reach.

    Attributes:
        benchmark: As in `Row`.
        size: As in `Row`.
        claim: What the value is.
        sense: ``"<="``, ``"<"`` or ``"=="``.
        limit: What the value is compared with.
        value: What was measured, or None if this run did not measure it.
        interval: Where the true value lies with 90 % probability, if that is known.
    """

    benchmark: str
    size: str
    claim: str
    sense: str
    limit: float
    value: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the value keeps the limit, or the lower end of its interval; None without one."""
        value = self.value if self.interval is None else self.interval[0]
        return None if value is None else _SENSES[self.sense](value, self.limit)


_SENSES: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Part:
    """What one part of the benchmarks found.

    Attributes:
        title: The part's heading.
        rows: Measurements.
        targets: Judged, or not measured in this run.
        notes: What else a reader should know, a line each.
    """

    title: str
    rows: Sequence[Row]
    targets: Sequence[Target]
    notes: Sequence[str] = ()


def rows_of(benchmark: str, size: str, samples: Samples, *against: str) -> list[Row]:
    """The rows of contenders timed in turn, with ratios against some of them."""
    return [
        Row(
            benchmark,
            size,
            name,
            seconds,
            {other: ratios(seconds, samples[other]) for other in against if other in samples},
        )
        for name, seconds in samples.items()
    ]


def ratio_target(
    rows: Sequence[Row],
    benchmark: str,
    size: str,
    contender: str,
    against: str,
    sense: str,
    limit: float,
) -> Target:
    """The target that a contender takes at most so many times as long as another one."""
    target = Target(benchmark, size, f"{contender} / {against}", sense, limit)
    measured = _ratios(rows, benchmark, size, contender, against)
    return target if measured is None else dataclasses.replace(target, value=quartiles(measured)[1])


def interval_target(
    rows: Sequence[Row],
    benchmark: str,
    size: str,
    contender: str,
    against: str,
    sense: str,
    limit: float,
) -> Target:
    """As `ratio_target`; missed only if the whole interval misses it."""
    target = ratio_target(rows, benchmark, size, contender, against, sense, limit)
    measured = _ratios(rows, benchmark, size, contender, against)
    return target if measured is None else dataclasses.replace(target, interval=interval(measured))


def _ratios(
    rows: Sequence[Row], benchmark: str, size: str, contender: str, against: str
) -> Sequence[float] | None:
    for row in rows:
        if (row.benchmark, row.size, row.contender) == (benchmark, size, contender):
            return row.ratios.get(against)
    return None


# For people.


def seconds_text(seconds: float) -> str:
    """A duration with three digits: ``12.3 us``, ``456 ms``, ``7.89 s``."""
    for scale, unit in ((1e-6, "us"), (1e-3, "ms")):
        if seconds < 1000 * scale:
            return f"{seconds / scale:#.3g} {unit}".replace(". ", " ")
    return f"{seconds:#.3g} s".replace(". ", " ")


def part_text(part: Part) -> str:
    """A part as tables: what was measured, and what became of its targets."""
    blocks = [f"== {part.title}"]
    against = list(dict.fromkeys(other for row in part.rows for other in row.ratios))
    header = ("benchmark", "size", "contender", "median", "quartiles", *(f"x {a}" for a in against))
    if part.rows:
        body = [_cells(row, against) for row in part.rows]
        blocks.append(table(header, body, right=header[3:], most=1000))
    blocks.extend(part.notes)
    if part.targets:
        blocks.append(targets_text(part.targets))
    return "\n\n".join(blocks)


def targets_text(targets: Sequence[Target]) -> str:
    """Targets as a table."""
    verdicts = {True: "met", False: "MISSED", None: "not measured in this run"}
    rows = [
        (
            t.benchmark,
            t.size,
            f"{t.claim} {t.sense} {t.limit:g}",
            _value_text(t),
            verdicts[t.met],
        )
        for t in targets
    ]
    header = ("target for", "size", "limit", "value", "verdict")
    return table(header, rows, right=("value",), most=1000)


def _value_text(target: Target) -> str:
    if target.value is None:
        return ""
    if target.interval is None:
        return f"{target.value:.3g}"
    return "{:.3g} ({:.3g} to {:.3g})".format(target.value, *target.interval)


def _cells(row: Row, against: Sequence[str]) -> list[str]:
    lower, median, upper = map(seconds_text, quartiles(row.seconds))
    shown = [f"{quartiles(row.ratios[a])[1]:.2f}" if a in row.ratios else "" for a in against]
    return [row.benchmark, row.size, row.contender, median, f"{lower} .. {upper}", *shown]


# For machines.


def as_json(parts: Mapping[str, Part], mode: str) -> dict[str, Any]:
    """All parts, with where and with what they ran; durations in seconds."""
    return {
        "environment": environment(),
        "mode": mode,
        "parts": {
            name: {
                "title": part.title,
                "rows": [_row_json(row) for row in part.rows],
                "targets": [{**dataclasses.asdict(t), "met": t.met} for t in part.targets],
                "notes": list(part.notes),
            }
            for name, part in parts.items()
        },
    }


def environment() -> dict[str, Any]:
    """Versions and the machine, as far as they change timings."""
    packages = ("jscope-jax", "jax", "jaxlib", "numpy", "flax", "dm-haiku", "equinox")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def environment_text(found: Mapping[str, Any]) -> str:
    """The environment as a line or two."""
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "benchmark": row.benchmark,
        "size": row.size,
        "contender": row.contender,
        "rounds": len(row.seconds),
        **_spread(row.seconds),
        "ratios": {other: _spread(values) for other, values in row.ratios.items()},
        "samples": list(row.seconds),
    }


def _spread(samples: Sequence[float]) -> dict[str, float]:
    return dict(zip(("lower", "median", "upper"), quartiles(samples), strict=True))
