"""Reading what several processes need: once, a part by each, exchanged over the devices.

The processes that need the same bytes are a *group*. They go through the same parts in the same
order, in batches: each reads its share of a batch into memory for all of it, zeros elsewhere, and
the sum over the group's devices is what all of them have then. So the bytes that are read stay
those of the checkpoint, and each process compares checksums as if it had read all itself.

A process that fails goes on taking part, and says so, or the others would wait for it: in each
batch there is a word for each process. Who sees that one is set reads nothing more.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..formats._boxes import Array, Box, lengths, meeting
from ..formats._own_entry import Chunk
from . import _processes

Group: TypeAlias = tuple[int, ...]

# The bytes that are exchanged at once, and those of what one process reads of them at once.
_BATCH = 16 << 20
_SLAB = 2 << 20
_ALIGNMENT = 64


class ElsewhereError(Exception):
    """Another process of an exchange has failed, which has the cause."""


class Slab(NamedTuple):
    """A box that one process reads, and all of a group get in an exchange.

    Attributes:
        box: The box of the stored array.
        dtype: The stored dtype.
        reader: The process.
        read: Begins to read it into memory; gives how to wait for it.
        take: Takes its values, which are overwritten afterwards.
    """

    box: Box
    dtype: np.dtype[Any]
    reader: int
    read: Callable[[Array], Callable[[], None]]
    take: Callable[[Array], None]

    @property
    def nbytes(self) -> int:
        """Its bytes, with the gap to the next one."""
        size = math.prod(lengths(self.box)) * self.dtype.itemsize
        return size + -size % _ALIGNMENT


def group_of(chunk: Chunk, needed: Mapping[Box, Group]) -> Group:
    """The group of processes that exchange a chunk, as they need it, in order.

    Args:
        chunk: The chunk.
        needed: The boxes that are needed, and by whom.
    """
    if chunk.box in needed:
        return needed[chunk.box]
    found = [group for box, group in needed.items() if meeting(chunk.box, box) is not None]
    return tuple(sorted(set().union(*found)))


def slabs(box: Box, itemsize: int) -> Iterator[Box]:
    """Cut a box into slabs, in C order, each of which one process reads for an exchange."""
    sizes = lengths(box)
    if math.prod(sizes) * itemsize <= _SLAB:
        yield box
        return
    axis = next(i for i, size in enumerate(sizes) if size > 1)
    row = math.prod(sizes[axis + 1 :]) * itemsize
    step = max(1, _SLAB // row)
    begin, end = box[axis]
    for at in range(begin, end, step):
        part = (*box[:axis], (at, min(at + step, end)), *box[axis + 1 :])
        yield from slabs(part, itemsize)


class Readers:
    """Which process reads what for an exchange: the one that has read the fewest bytes."""

    def __init__(self, group: Group):
        self._loads = dict.fromkeys(group, 0)

    def next(self, nbytes: int) -> int:
        """The process that reads the next part."""
        reader = min(self._loads, key=self._loads.__getitem__)
        self._loads[reader] += nbytes
        return reader


class Exchanges:
    """The exchanges of a restore, in which this process takes part.

    Attributes:
        failure: Why this process can't go on, or `ElsewhereError`.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def run(self, group: Group, parts: Iterable[Slab]) -> None:
        """Exchange parts among a group; all of it call it with the same."""
        batch: list[Slab] = []
        size = 0
        for slab in parts:
            if batch and size + slab.nbytes > _BATCH:
                if not self._exchange(group, batch):
                    return
                batch, size = [], 0
            batch.append(slab)
            size += slab.nbytes
        if batch:
            self._exchange(group, batch)

    def _exchange(self, group: Group, batch: Sequence[Slab]) -> bool:
        """Exchange a batch; whether all have read their parts of it."""
        me = _processes.index()
        flags = len(group) * 4
        offsets = np.cumsum([flags + -flags % _ALIGNMENT, *(slab.nbytes for slab in batch)])
        # Of few different sizes, as a program is compiled for each.
        mine = np.zeros(_rounded_size(int(offsets[-1])) // 4, np.uint32)
        try:
            if self.failure is None:
                waits = [
                    slab.read(_slab_memory(mine, offset, slab))
                    for slab, offset in zip(batch, offsets, strict=False)
                    if slab.reader == me
                ]
                for wait in waits:
                    wait()
        except Exception as error:
            self.failure = error
        mine[group.index(me)] = self.failure is not None
        summed = sum_over(group, mine)
        if summed[: len(group)].any():
            self.failure = self.failure or ElsewhereError()
            return False
        try:
            for slab, offset in zip(batch, offsets, strict=False):
                slab.take(_slab_memory(summed, offset, slab))
        except Exception as error:
            self.failure = error
        return True


def _slab_memory(memory: Array, offset: int, slab: Slab) -> Array:
    """The memory of a slab in what is exchanged."""
    return np.ndarray(lengths(slab.box), slab.dtype, memory.data, int(offset))


def _rounded_size(size: int) -> int:
    """The size of an exchange, rounded up, as a program is compiled for each."""
    return max(1 << 16, 1 << (size - 1).bit_length())


def sum_over(group: Group, values: np.ndarray[Any, np.dtype[np.uint32]]) -> Array:
    """The sum of arrays of all processes of a group: the exchange of what each has read."""
    mesh, summed = _sum_program(group)
    me = group.index(_processes.index())
    mine = jax.device_put(values[None], mesh.devices[me])
    sharding = NamedSharding(mesh, PartitionSpec("process"))
    shape = (len(group), *values.shape)
    rows = jax.make_array_from_single_device_arrays(shape, sharding, [mine])
    return np.asarray(summed(rows).addressable_data(0))


@functools.lru_cache(64)
def _sum_program(group: Group) -> tuple[Mesh, Callable[[jax.Array], jax.Array]]:
    """The compiled sum over the processes of a group."""
    first: dict[int, Any] = {}
    for device in jax.devices():
        first.setdefault(device.process_index, device)
    mesh = Mesh(np.array([first[process] for process in group]), ("process",))
    summed = functools.partial(jnp.sum, axis=0, dtype=np.uint32)
    return mesh, jax.jit(summed, out_shardings=NamedSharding(mesh, PartitionSpec()))
