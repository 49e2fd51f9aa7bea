"""Reading small arrays that lie side by side in a file by one read, into memory that they share.

So a checkpoint of thousands of small arrays costs some dozen reads and allocations; from a bucket
each read is a request. The arrays of a run are views of its memory, which is freed with the last of
them.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from ..formats._boxes import Array, aligned
from ..formats._entry import Entry
from ..formats._source import Extent, Source

# The bytes of an array that is read together with others, and of all that are.
_SMALL = 64 << 10
_MOST = 256 << 10
# The bytes between two arrays that are read for nothing.
_GAP = 4 << 10


@dataclasses.dataclass(slots=True)
class _Run:
    """Bytes of a file that are read at once.

    Attributes:
        first: Where they begin.
        end: The offset after the last one.
        left: How many arrays have not been taken.
        memory: The bytes, once they are read.
    """

    first: Extent
    end: int
    left: int = 0
    memory: Array | None = None


class Runs:
    """Arrays of a checkpoint that are read together with their neighbours.

    Args:
        source: The checkpoint.
        names: The arrays that are requested as a whole.

    Raises:
        ValueError, OSError: If the bytes of one are not there.
    """

    def __init__(self, source: Source, names: Iterable[str | None]):
        found = []
        for name in dict.fromkeys(filter(None, names)):
            size = source.entries[name].stored_nbytes
            if 0 < size <= _SMALL:
                extent = source.extent(name)
                if extent is not None:
                    found.append((extent, size, name))
        found.sort(key=lambda one: (one[0].file, one[0].offset))
        self._runs: dict[str, _Run] = {}
        self._begins: dict[str, int] = {}
        run = _Run(Extent("", 0, _nothing), 0)
        for extent, size, name in found:
            begin, end = extent.offset, extent.offset + size
            is_near = extent.file == run.first.file and run.end <= begin <= run.end + _GAP
            if not (is_near and end - run.first.offset <= _MOST):
                run = _Run(extent, end)
            run.end = end
            run.left += 1
            self._runs[name] = run
            self._begins[name] = begin

    def take(self, name: str | None, entry: Entry) -> Array | None:
        """An array, as it is stored; None if it is not read in a run, or has been taken.

        Raises:
            ValueError, OSError: If it can't be read.
        """
        if name is None or name not in self._runs:
            return None
        run = self._runs.pop(name)
        first = run.first.offset
        if run.memory is None:
            run.memory = aligned((run.end - first,), np.uint8)
            run.first.read(first, run.memory.data)
        begin = self._begins[name] - first
        array: Array = np.ndarray(entry.stored_shape, entry.stored_dtype, run.memory, begin)
        run.left -= 1
        if not run.left:
            run.memory = None
        return array


def _nothing(offset: int, memory: memoryview) -> None:
    """Of the run before the first one."""
