"""Small trees whose bytes show which version of them was saved.

Imports: jscope, NumPy and JAX.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jscope.formats import _own_packed
from jscope.formats._own_entry import ORBAX
from jscope.saver._encoding import Layout


@contextlib.contextmanager
def packing_up_to(size: int) -> Iterator[None]:
    """Larger arrays are files of their own, as those of real models; the limit is megabytes."""
    limit = _own_packed.LIMIT
    _own_packed.LIMIT = size
    try:
        yield
    finally:
        _own_packed.LIMIT = limit


@contextlib.contextmanager
def larger_ones_by_orbax() -> Iterator[None]:
    """Larger arrays go to Orbax, as compressed ones and those of jscope 0.1."""
    larger = Layout.larger
    Layout.larger = ORBAX  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        Layout.larger = larger  # type: ignore[method-assign]


def tree(version: int) -> dict[str, np.ndarray]:
    """A tree of small arrays, and two of more than 65,536 bytes."""
    draw = np.random.default_rng(version)
    return {
        "large/w": draw.random((130, 130), np.float32),
        "large/n": draw.integers(0, 1 << 15, (200, 200), np.int16),
        "small/w": draw.random((3, 5), np.float32),
        "small/b": draw.random(7, np.float32).astype(np.float16),
        "step": np.int32(version),
    }


def target() -> dict[str, jax.ShapeDtypeStruct]:
    """What to restore them into."""
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in tree(0).items()}


def version_of(restored: Mapping[str, Any], candidates: Iterable[int]) -> int | None:
    """The version that has exactly these bytes, or None."""
    for version in candidates:
        expected = tree(version)
        if restored.keys() == expected.keys() and all(
            (x.dtype, x.shape, x.tobytes())
            == (expected[name].dtype, expected[name].shape, expected[name].tobytes())
            for name, x in ((name, np.asarray(value)) for name, value in restored.items())
        ):
            return version
    return None
