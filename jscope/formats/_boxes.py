"""Boxes of arrays: which parts of a stored array are read, and where they go.

An array is needed in *regions*, one per shard of the target, and was saved in *chunks*, one per
shard of what was saved, each with a checksum. A checksum needs all of its chunk, and so does
any reader from disk; so whole chunks are read, straight into the region that holds one, or into
other memory, and from there into each region that meets it.
"""

import contextlib
import functools
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ._own_entry import Chunk

Array: TypeAlias = np.ndarray[Any, Any]
# The start and stop along each axis; slices can't be hashed before Python 3.12.
Box: TypeAlias = tuple[tuple[int, int], ...]

# The alignment of memory that XLA uses without a copy.
_ALIGNMENT = 64
# From this size on memory is the system's pages, which are returned at once. The allocator would
# keep some of the temporary memory, between results; but it reuses pages, and new ones cost three
# times as much as the reading.
_OWN_PAGES = 8 << 20
# On Windows no memory is shared with child processes.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
_FILLED = (
    {"flags": _PRIVATE["flags"] | mmap.MAP_POPULATE} if hasattr(mmap, "MAP_POPULATE") else _PRIVATE
)


class Unit(NamedTuple):
    """A box to read at once, the memory that it goes to, and the boxes to copy from there.

    Attributes:
        box: What to read of the stored array.
        into: Where to.
        crc32c: The checksum of its bytes, if there is one.
        copies: What to do afterwards: from views of ``into`` to views of regions.
    """

    box: Box
    into: Array
    crc32c: int | None
    copies: Sequence[tuple[Array, Array]] = ()


@functools.lru_cache(1 << 12)
def whole(shape: tuple[int, ...]) -> Box:
    """The box of all of an array."""
    return tuple((0, length) for length in shape)


def of_slices(index: Sequence[slice], shape: Sequence[int]) -> Box:
    """The box that slices without steps cut out of an array."""
    return tuple(side.indices(n)[:2] for side, n in zip(index, shape, strict=True))


def slices(box: Box, origin: Box | None = None) -> tuple[slice, ...]:
    """A box as an index, into the array or into what has been cut out of it by ``origin``."""
    starts = (0,) * len(box) if origin is None else tuple(start for start, _ in origin)
    return tuple(slice(a - at, b - at) for (a, b), at in zip(box, starts, strict=True))


def lengths(box: Box) -> tuple[int, ...]:
    """The shape of a box."""
    return tuple(stop - start for start, stop in box)


def aligned(
    shape: Sequence[int], dtype: DTypeLike, *, huge: bool = True, at_once: bool = False
) -> Array:
    """New memory to read a box of an array into, aligned so that XLA can use it without a copy.

    Args:
        shape: The box's.
        dtype: The array's.
        huge: Whether a large box has huge pages, where the system has them.
        at_once: Whether its pages are all made here: in less time than one by one, but by one
            thread.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size >= _OWN_PAGES:
        pages: Array = np.frombuffer(_pages(size, huge, at_once), dtype).reshape(shape)
        return pages
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % _ALIGNMENT
    return np.ndarray(shape, dtype, memory, start)


def _pages(size: int, huge: bool, at_once: bool) -> mmap.mmap:
    """The memory of a large box, as the system's pages; huge ones on request, if it has them."""
    pages = mmap.mmap(-1, size, **(_FILLED if at_once else _PRIVATE))
    if huge and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def units(regions: Mapping[Box, Array], chunks: Sequence[Chunk]) -> Iterator[Unit]:
    """Which boxes of a stored array to read, each as a `Unit`, so that regions of it are filled.

    Args:
        regions: Boxes of the stored array, and memory for each.
        chunks: What the array consists of; nothing, if no checksum is to be compared.
    """
    for chunk in chunks or map(chunk_of, regions):
        found = unit(regions, chunk)
        if found is not None:
            yield found


def unit(regions: Mapping[Box, Array], chunk: Chunk) -> Unit | None:
    """Which box of a chunk goes to which of the regions, as a `Unit` to read; None if none does."""
    box = chunk.box
    if box in regions and len(regions) == 1:
        return Unit(box, regions[box], chunk.crc32c)
    common = {region: meeting(box, region) for region in regions}
    meets = {region: part for region, part in common.items() if part is not None}
    if list(meets.values()) == [box]:
        (region,) = meets
        return Unit(box, view(regions[region], slices(box, region)), chunk.crc32c)
    if not meets:
        return None
    aside = aligned(chunk.shape, next(iter(regions.values())).dtype)
    copies = [
        (view(aside, slices(part, box)), view(regions[region], slices(part, region)))
        for region, part in meets.items()
    ]
    return Unit(box, aside, chunk.crc32c, copies)


def chunk_of(box: Box) -> Chunk:
    """Turn a box into a chunk without a checksum, to be read as other chunks are."""
    return Chunk(tuple([start for start, _ in box]), lengths(box), None)


def contiguous(box: Box, shape: Sequence[int]) -> int | None:
    """The index of a box's first element among all of an array's, if they follow each other."""
    axis = next((i for i, (a, b) in enumerate(box) if b - a != 1), len(box))
    if any(side != (0, n) for side, n in zip(box[axis + 1 :], shape[axis + 1 :], strict=True)):
        return None
    first = 0
    for (start, _), length in zip(box, shape, strict=True):
        first = first * length + start
    return first


def view(array: Array, index: tuple[slice, ...]) -> Array:
    """A view of an array at the slices of a box."""
    # Without the ellipsis, of an array without axes this is a copy of its element.
    within: Any = (..., *index)
    view: Array = array[within]
    return view


def meeting(a: Box, b: Box) -> Box | None:
    """The intersection of two boxes, or None. Boxes of no axes share everything."""
    common = tuple((max(x[0], y[0]), min(x[1], y[1])) for x, y in zip(a, b, strict=True))
    return common if all(start < stop for start, stop in common) else None
