"""Timing: contenders in turn, so that what disturbs one disturbs all.

A machine's speed drifts, by other processes and by its own temperature. Timed one after the
other, contenders would be compared across that drift. So each **round** times every contender
once, each round starting with another one, and a ratio is the median of the ratios *within*
rounds. The garbage collector rests while a clock runs, and runs between rounds.

Imports: standard library only.
"""

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Samples: TypeAlias = dict[str, list[float]]


def in_turn(
    contenders: Mapping[str, Callable[[int], object]],
    rounds: int,
    sample_seconds: float = 0.0,
    after: Callable[[], object] | None = None,
) -> Samples:
    """Time contenders in turn.

    Args:
        contenders: By name, what to time; it is given the number of repetitions and must
            wait for their results.
        rounds: Samples of each.
        sample_seconds: How long a sample should take, from which the number of repetitions
            follows, for each contender by itself; 0 is one repetition.
        after: What to do after each sample, off the clock.

    Returns:
        Seconds per repetition, one number per round.
    """
    clean = after or (lambda: None)
    repetitions = {}
    for name, run in contenders.items():
        repetitions[name] = _repetitions(run, sample_seconds)
        clean()
    samples: Samples = {name: [] for name in contenders}
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        # Not merely rotated: who always follows the same contender inherits its cold caches.
        shuffle(order)
        for name in order:
            samples[name].append(_timed(contenders[name], repetitions[name]))
            clean()
        gc.collect()
    return samples


def stages_in_turn(
    contenders: Mapping[str, Callable[[], Iterable[str]]], rounds: int
) -> dict[str, Samples]:
    """Time contenders in turn, stage by stage.

    Args:
        contenders: By name, a generator that yields the name of each stage when it is done.
        rounds: Samples of each; in the first of them caches fill.

    Returns:
        Of each stage, seconds by contender, one number per round.
    """
    samples: dict[str, Samples] = {}
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            for stage, seconds in _timed_stages(contenders[name]()):
                samples.setdefault(stage, {n: [] for n in contenders})[name].append(seconds)
        gc.collect()
    return samples


def repeated(call: Callable[[], object]) -> Callable[[int], object]:
    """A contender from a call that returns when it is done."""

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            call()

    return run


def one_by_one(call: Callable[[], object], repetitions: int) -> list[float]:
    """Seconds of each of several calls in a row."""
    return [_timed(repeated(call), 1) for _ in range(repetitions)]


def ratios(samples: Sequence[float], against: Sequence[float]) -> list[float]:
    """Sample by sample, how many times as long as another contender of the same rounds."""
    return [own / other for own, other in zip(samples, against, strict=True)]


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; of one sample, itself three times."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return lower, median, upper


def interval(samples: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """What holds the true median with 90 % probability, by bootstrap.

    It is the middle 90 % of the medians of samples drawn with replacement.
    """
    draw = random.Random(0).choices
    medians = sorted(statistics.median(draw(samples, k=len(samples))) for _ in range(draws))
    return medians[draws // 20], medians[-draws // 20]


def _repetitions(run: Callable[[int], object], sample_seconds: float) -> int:
    run(1)  # caches fill
    if not sample_seconds:
        return 1
    return max(1, round(sample_seconds / min(_timed(run, 1) for _ in range(3))))


def _timed(run: Callable[[int], object], repetitions: int) -> float:
    with _resting_collector():
        begin = time.perf_counter()
        run(repetitions)
        return (time.perf_counter() - begin) / repetitions


def _timed_stages(stages: Iterable[str]) -> list[tuple[str, float]]:
    found = []
    with _resting_collector():
        begin = time.perf_counter()
        for stage in stages:
            found.append((stage, time.perf_counter() - begin))
            begin = time.perf_counter()
    return found


@contextlib.contextmanager
def _resting_collector() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
