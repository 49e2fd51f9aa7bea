"""Saving and restoring: how long it takes, how long it blocks, and how much is read.

* ``save``: until all is on disk, after which a power cut loses nothing. jscope's checksums are
  computed within.
* ``restore``: into jax.Arrays on the default device, from the page cache. jscope verifies its
  checksums; of the others TensorFlow and np.savez do.
* ``begin``: what an asynchronous save takes before it returns.
* ``list``: the names and shapes of very many variables.
* ``read one``: one variable of a large checkpoint; the bytes read beyond its own are a note
  and a target. All large arrays of that checkpoint are one and the same in memory.
* ``restore over devices``: the bytes read as a multiple of those saved, in a process of eight.

What is written is removed again, off the clock. See `savers` for how each does it. The disk is
that of temporary files; ``TMPDIR`` chooses another one.

Imports: `_children`, `_report`, `_settings`, `_sharded`, `_timing`, `savers`, JAX and NumPy.
"""

import functools
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import _sharded
import jax
import numpy as np
from _children import child
from _report import Part, Row, Target, ratio_target, rows_of
from _settings import Settings
from _timing import in_turn
from savers import OURS, PLAIN, RAW, SAFETENSORS, V0, V1, Contender, Tree, bytes_read, contenders

MEGABYTE = 1 << 20

Read: TypeAlias = Mapping[str, Mapping[str, float]]
"""By format and number of devices, the bytes read as a multiple of those saved."""

Beyond: TypeAlias = dict[tuple[str, str], int]
"""By contender and size, how many bytes are read beyond those of the variable and of an index."""


def measure(settings: Settings) -> Part:
    """Everything, in a temporary directory."""
    known = contenders()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="saving-") as folder:
        scratch = Scratch(Path(folder).resolve())
        for count, size in settings.saved_arrays:
            rows += _sizes(scratch, known, count, size, settings.saving_rounds)
        rows += _listing(scratch, known, settings.listed_variables, settings.saving_rounds)
        more, beyond = _one_of_many(
            scratch, known, settings.large_checkpoint, settings.saving_rounds
        )
    read: Read = child(_sharded.__file__, settings.sharded_checkpoint)
    targets = [*_targets(rows + more, beyond), *_targets_of_bytes(read, settings)]
    return Part("Saving and restoring", rows + more, targets, _notes(beyond, read))


class Scratch:
    """Fresh paths, and their removal.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path):
        self._paths = (folder / f"checkpoint-{i}" for i in itertools.count())
        self._made: list[Path] = []

    def fresh(self) -> Path:
        """A path where nothing is."""
        self._made.append(next(self._paths))
        return self._made[-1]

    def clear(self) -> None:
        """Remove all that was made."""
        for path in self._made:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self._made.clear()


def arrays(count: int, size: int) -> Tree:
    """So many arrays of so many bytes of noise, which nothing compresses."""
    draw = np.random.default_rng(0)
    return {
        f"layer_{i:04}/w": jax.device_put(draw.standard_normal(size // 4, np.float32))
        for i in range(count)
    }


def like(tree: Tree) -> dict[str, Any]:
    """What to restore a tree into: with its shardings, without which Orbax fails."""
    return {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in tree.items()
    }


def size_text(count: int, size: int) -> str:
    """How a row names its size."""
    megabytes, unit = size / MEGABYTE, "MB"
    shown = f"{megabytes:g} {unit}" if megabytes >= 1 else f"{size / 1024:g} KB"
    return f"{count:,} x {shown}"


def _sizes(
    scratch: Scratch, known: Mapping[str, Contender], count: int, size: int, rounds: int
) -> Iterator[Row]:
    tree, text = arrays(count, size), size_text(count, size)
    target = like(tree)

    saves = {
        name: lambda _, save=contender.save: save(scratch.fresh(), tree)
        for name, contender in known.items()
    }
    yield from rows_of(
        "save", text, in_turn(saves, rounds, after=scratch.clear), RAW, V0, V1, SAFETENSORS
    )

    paths = {name: scratch.fresh() for name in known}
    for name, contender in known.items():
        contender.save(paths[name], tree)
    restores = {
        name: lambda _, name=name, restore=contender.restore: jax.block_until_ready(
            restore(paths[name], target)
        )
        for name, contender in known.items()
    }
    yield from rows_of("restore", text, in_turn(restores, rounds), RAW, V0, V1, PLAIN, SAFETENSORS)
    scratch.clear()

    waits: list[Callable[[], object]] = []

    def begin(_: int, contender: Contender) -> None:
        assert contender.begin is not None
        waits.append(contender.begin(scratch.fresh(), tree))

    def finish() -> None:
        while waits:
            waits.pop()()
        scratch.clear()

    begins = {
        name: functools.partial(begin, contender=contender)
        for name, contender in known.items()
        if contender.begin
    }
    yield from rows_of("begin", text, in_turn(begins, rounds, after=finish), V0, V1)


def _listing(
    scratch: Scratch, known: Mapping[str, Contender], count: int, rounds: int
) -> Iterator[Row]:
    tree = dict.fromkeys((f"layer_{i:05}/w" for i in range(count)), jax.device_put(np.ones(2)))
    calls = {}
    for name, contender in known.items():
        if contender.names:
            path = scratch.fresh()
            contender.save(path, tree)
            calls[name] = lambda _, path=path, names=contender.names: names(path)
    yield from rows_of("list", f"{count:,} variables", in_turn(calls, rounds), V1)
    scratch.clear()


def _one_of_many(
    scratch: Scratch, known: Mapping[str, Contender], size: int, rounds: int
) -> tuple[list[Row], Beyond]:
    draw = np.random.default_rng(0)
    # jscope packs arrays of up to 4 MB, so there is a larger one too.
    requested = {
        f"megabytes_{n}": jax.device_put(draw.standard_normal(n * MEGABYTE // 4, np.float32))
        for n in (1, 8)
    }
    large = jax.device_put(np.zeros(size // 32 // 4, np.float32))
    tree = requested | {f"large_{i}": large for i in range(16)}
    tree |= {f"small_{i}": requested["megabytes_1"] for i in range(size // 2 // MEGABYTE)}
    calls: dict[str, dict[str, Callable[[int], object]]] = {}
    beyond: Beyond = {}
    for name, contender in known.items():
        if contender.one is None:
            continue
        path = scratch.fresh()
        contender.save(path, tree)
        index = sum(file.stat().st_size for file in path.glob("*/jscope.json"))
        for variable, target in like(requested).items():
            one = functools.partial(contender.one, path, variable, target)
            one()
            with bytes_read() as count:
                jax.block_until_ready(one())
            nbytes = requested[variable].nbytes
            text = f"{nbytes // MEGABYTE} MB of {size / (1 << 30):.2g} GB"
            beyond[name, text] = count() - nbytes - index
            calls.setdefault(text, {})[name] = lambda _, one=one: jax.block_until_ready(one())
    rows = [
        row
        for text, contenders in calls.items()
        for row in rows_of("read one", text, in_turn(contenders, rounds), V1)
    ]
    scratch.clear()
    return rows, beyond


def _targets_of_bytes(read: Read, settings: Settings) -> Iterator[Target]:
    size = size_text(1, settings.sharded_checkpoint).removeprefix("1 x ")
    for name, ratios in read.items():
        for count, value in ratios.items():
            claim = f"{name}, bytes read / saved, {count} devices"
            yield Target("restore over devices", size, claim, "<=", 1.05, value)


def _notes(beyond: Beyond, read: Read) -> list[str]:
    over = "; ".join(
        f"{name} " + ", ".join(f"{value:.4f} over {count}" for count, value in ratios.items())
        for name, ratios in read.items()
    )
    counts = ", ".join(f"{name} {size}: {count:,}" for (name, size), count in beyond.items())
    return [
        f"Bytes read of one variable, beyond its own and beyond jscope's index. {counts}.",
        f"Bytes read of what is saved, by devices that need a part of the rows each: {over}.",
        "At the end of a save all is on disk: files and directories of those who do not flush "
        "them are flushed, on the clock.",
    ]


def _targets(rows: list[Row], beyond: Beyond) -> list[Target]:
    def seconds(benchmark: str, size: str, limit: float) -> Target:
        place = (benchmark, size, OURS)
        found = [r.seconds for r in rows if (r.benchmark, r.size, r.contender) == place]
        value = median(found[0]) if found else None
        return Target(benchmark, size, f"{OURS}, seconds", "<=", limit, value)

    def bytes_beyond(size: str) -> Target:
        claim = f"{OURS}, bytes beyond"
        return Target("read one", size, claim, "<=", 65536, beyond.get((OURS, size)))

    large, middle, medium, small = "4 x 64 MB", "4 x 8 MB", "100 x 1 MB", "2,000 x 4 KB"
    return [
        ratio_target(rows, "save", large, OURS, RAW, "<=", 1.25),
        ratio_target(rows, "save", middle, OURS, RAW, "<=", 1.5),
        ratio_target(rows, "save", medium, OURS, RAW, "<=", 2.5),
        ratio_target(rows, "save", small, OURS, SAFETENSORS, "<=", 2),
        seconds("begin", large, 0.05),
        seconds("begin", medium, 0.05),
        seconds("save", small, 0.3),
        seconds("restore", small, 0.3),
        ratio_target(rows, "restore", large, OURS, V1, "<=", 1.3),
        ratio_target(rows, "restore", large, OURS, PLAIN, "<=", 1.3),
        ratio_target(rows, "restore", medium, OURS, SAFETENSORS, "<=", 1.3),
        ratio_target(rows, "restore", small, OURS, SAFETENSORS, "<=", 1.5),
        seconds("list", "10,000 variables", 0.05),
        bytes_beyond("1 MB of 4 GB"),
        bytes_beyond("8 MB of 4 GB"),
    ]
