"""Statistics of an array of any dtype, in bounded memory.

All is computed in float64, `_CHUNK` elements at a time; of complex numbers, their magnitudes.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Statistics:
    r"""The statistics of an array.

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


def statistics(array: Array, bins: int) -> Statistics:
    """Compute the statistics, and a histogram of at most so many bins."""
    with np.errstate(over="ignore", invalid="ignore"):  # squares of 1e200
        return _statistics(array, bins)


def _statistics(array: Array, bins: int) -> Statistics:
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
        _histogram(array, minimum, maximum, bins) if finite else (),
    )


def _histogram(array: Array, minimum: float, maximum: float, bins: int) -> tuple[int, ...]:
    low, high = minimum, maximum
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
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        wide = part.astype(np.complex128 if part.dtype.kind == "c" else np.float64)
        yield np.abs(wide) if wide.dtype.kind == "c" else wide
