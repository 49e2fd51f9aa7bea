"""Every short name of a nasty alphabet: it comes back as itself, or is refused before anything
is written.

Imports: `tally`, `trees`, jscope and NumPy.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

import jscope as js
from jscope.saver import Saver

from .tally import Tally
from .trees import packing_up_to

# What separates, what ends, what names a directory, what escapes; letters that differ by case or
# by normalization only; what no file system likes.
ALPHABET = ["a", "A", "/", ".", "c", "0", "%", "\\", "~", " ", "\n", "\0", "é", "\u0301", "\ud800"]
LAYOUTS = ("packed", "large", "portable")
FEWER = {
    "packed": ["a", "/", ".", "0", "%", "\\", " ", "\0"],
    "large": ["a", "/", ".", "\0"],
    "portable": ["a", "/", ".", "0", "%"],
}


def names(alphabet: Sequence[str], longest: int = 3) -> Iterator[str]:
    """All strings of up to so many characters, the empty one too."""
    for length in range(longest + 1):
        yield from map("".join, itertools.product(alphabet, repeat=length))


def prove(directory: Path, layout: str, alphabet: Sequence[str]) -> Tally:
    """Save arrays of all these names, together as far as possible.

    The tally's outcomes are ``exact`` and ``refused``; its points are the names.

    Args:
        layout: One of `LAYOUTS`; ``large`` is in files of their own.
        alphabet: Of what the names are made.
    """
    tally = Tally("names", layout)
    values = {name: np.array([i, -i], np.int32) for i, name in enumerate(names(alphabet))}
    options = {"portable": True} if layout == "portable" else {}
    with packing_up_to(0 if layout == "large" else 1 << 20), Saver(directory) as saver:
        _save(saver, values, itertools.count(), tally, options)
    tally.points = len(values)
    if sum(tally.outcomes.values()) + tally.count("wrong") != len(values):
        tally.problems.append(("other", 0, f"only {tally.outcomes} of {len(values)}"))
    return tally


def _save(
    saver: Saver,
    values: Mapping[str, np.ndarray],
    steps: Iterator[int],
    tally: Tally,
    options: Mapping[str, object],
) -> None:
    """All together, or if they are refused, each half by itself."""
    step, before = next(steps), saver.all_steps()
    # In a tuple, since names in a tree of variables are TensorFlow's and have no such characters.
    state = (values,)
    try:
        saver.save(state, step, **options)
    except js.JscopeError:
        if saver.all_steps() != before:
            tally.problems.append(("silent", step, f"refused, and written: {list(values)}"))
        if len(values) == 1:
            tally.outcomes["refused"] += 1
            return
        items, half = list(values.items()), len(values) // 2
        for part in (items[:half], items[half:]):
            _save(saver, dict(part), steps, tally, options)
        return
    (restored,) = saver.restore(state, step)
    for name, value in values.items():
        if np.array_equal(restored[name], value):
            tally.outcomes["exact"] += 1
        else:
            tally.problems.append(("wrong", step, f"{name!r} came back as {restored[name]}"))
