"""The first initial values of a process: the toy GPT's, eager and jitted, by every framework.

Each measurement is a process of its own, without a compilation cache. Its clocks start when
everything is imported and an input exists, and stop when every variable is ready; tracing
and compiling are most of it. *Eager* calls a framework's init as it is, *jitted* its `jax.jit`.
A peer is compared by its faster way. Seconds are those of the process's CPU time, which other
processes on the machine change less than the time on the wall; that is in the notes.

Imports: `_children`, `_report`, `_settings`, `_timing`, `contenders`, JAX.
"""

import json
import sys
import time
from collections.abc import Mapping
from statistics import median

import jax
from _children import child
from _report import Part, Row, Target, rows_of
from _settings import Settings
from _timing import Samples, ratios
from contenders import FRAMEWORKS, OURS, PEERS, PLAIN, example
from gpt.mathematics import Config

WAYS = ("eager", "jitted")
SMALL = Config(blocks=3, width=24, vocabulary=97, length=16)


def measure(settings: Settings) -> Part:
    """Everyone at some sizes in both ways, and jscope at a small and at a large one."""
    rows: list[Row] = []
    targets: list[Target] = []
    notes = []
    for blocks in settings.init_blocks:
        size = f"{blocks} blocks"
        cpu, wall = _everyone(blocks, settings.init_rounds)
        for way in WAYS:
            rows += rows_of(f"first init, {way}", size, _of(cpu, way), OURS, *PEERS)
        targets += _targets(size, cpu)
        notes += [
            f"{size}, {way}, wall seconds: "
            + ", ".join(f"{name} {median(s):.2f}" for name, s in _of(wall, way).items())
            for way in WAYS
        ]

    small = [_first(OURS, SMALL, "eager")["cpu"] for _ in range(settings.growth_rounds)]
    what = "3 blocks of 24"
    rows.append(Row("first init, eager", what, OURS, small))
    limit = f"{OURS}, CPU seconds"
    targets.append(Target("first init, eager", what, limit, "<=", 1.5, median(small)))

    sizes = settings.growth_blocks
    growth: dict[int, list[float]] = {blocks: [] for blocks in sizes}
    for _ in range(settings.growth_rounds):
        for blocks, seconds in growth.items():
            seconds.append(_first(OURS, Config(blocks), "eager")["cpu"])
    rows += [Row("growth, eager", f"{n} blocks", OURS, seconds) for n, seconds in growth.items()]
    large = sizes[1]
    targets.append(
        Target("growth, eager", f"{large} blocks", limit, "<=", 1.5, median(growth[large]))
    )
    return Part("First initial values of the toy GPT, CPU seconds", rows, targets, notes)


_Seconds = dict[tuple[str, str], list[float]]  # by framework and way


def _everyone(blocks: int, rounds: int) -> tuple[_Seconds, _Seconds]:
    """CPU and wall seconds, round by round."""
    order = [(name, way) for name in FRAMEWORKS for way in WAYS]
    cpu: _Seconds = {each: [] for each in order}
    wall: _Seconds = {each: [] for each in order}
    for _ in range(rounds):
        for name, way in order:
            seconds = _first(name, Config(blocks), way)
            cpu[name, way].append(seconds["cpu"])
            wall[name, way].append(seconds["wall"])
    return cpu, wall


def _of(seconds: _Seconds, way: str) -> Samples:
    return {name: seconds[name, way] for name in FRAMEWORKS}


def _targets(size: str, cpu: _Seconds) -> list[Target]:
    """Either way of jscope's against each peer's faster one."""
    targets = []
    for way in WAYS:
        for peer in (PLAIN, *PEERS):
            faster = [min(pair) for pair in zip(*(cpu[peer, way] for way in WAYS), strict=True)]
            claim = f"{OURS} / {peer}, eager or jitted"
            value = median(ratios(cpu[OURS, way], faster))
            targets.append(Target(f"first init, {way}", size, claim, "<=", 0.5, value))
    return targets


def _first(name: str, config: Config, way: str) -> Mapping[str, float]:
    sizes = (config.blocks, config.width, config.vocabulary, config.length)
    seconds: Mapping[str, float] = child(__file__, name, way, *sizes)
    return seconds


def _child(name: str, way: str, blocks: int, width: int, vocabulary: int, length: int) -> object:
    framework = FRAMEWORKS[name]
    config = Config(blocks, width=width, vocabulary=vocabulary, length=length)
    key, tokens = jax.block_until_ready(example(config))

    def init(key: jax.Array, tokens: jax.Array) -> object:
        return framework.init(config, key, tokens)

    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready((jax.jit(init) if way == "jitted" else init)(key, tokens))
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


if __name__ == "__main__":
    print(json.dumps(_child(*sys.argv[1:3], *map(int, sys.argv[3:]))))
