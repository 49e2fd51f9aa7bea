"""A checkpoint that jscope wrote, opened for reading."""

import bisect
import contextlib
import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .._stores.files import Contents, File, RemoteFile, open_file
from .._stores.remote import AnyPath, RemotePath
from . import _own_packed
from ._boxes import Array, Box, contiguous, slices
from ._file_entry import Entry as FileEntry
from ._orbax import ITEM, METADATA
from ._own_entry import ORBAX, PACKED, RAW, Chunk, Entry, raw_name
from ._own_index import FILE_NAME, Index, check_files, contents_of, read_index, read_save_id
from ._source import Extent, nothing_left
from ._tensorstore import Tensors

if TYPE_CHECKING:
    from ._containers import Containers

# The bytes of small arrays that one request of a store is for.
_AT_A_REQUEST = 8 << 20
# Files or objects of one array read at a time.
_AT_ONCE = 8
# From this size on it is checked that an object has the bytes, before memory is allocated.
_TRUSTED = 1 << 28


class OwnSource:
    """A checkpoint that jscope wrote, opened for reading, as a `Source`.

    Attributes:
        index: Its index.
    """

    fillers: frozenset[str] = frozenset()
    strings: Mapping[str, FileEntry] = MappingProxyType({})
    checksum = "CRC-32C"

    def __init__(self, path: AnyPath, index: Index):
        self.path = path
        self.index = index
        self.entries = index.entries
        self.metadata = index.metadata
        self.format = f"step {index.step} of jscope's Saver"
        self.index_bytes = index.nbytes
        self._is_portable = index.portable
        self._is_remote = isinstance(path, RemotePath)
        self._data: AnyPath = index.data(path)
        # Before 0.2 a portable checkpoint was Orbax's item itself.
        has_item = index.portable and f"{ITEM}/{METADATA}" in index.files
        tensors = self._data / ITEM if has_item else self._data
        self._tensors = Tensors(tensors, is_ocdbt=index.portable)
        self._packed: File | None = None
        self._packed_size = 0
        self._pool: ThreadPoolExecutor | None = None
        # Of each file, which arrays have which of its bytes.
        self._claims: dict[str, list[tuple[int, int, str]]] = {}

    def stored(self, name: str) -> Entry:
        """As `Source.stored`."""
        entry = self.entries[name]
        if entry.location == PACKED:
            self._packed_file()
            size, begin, end = self._packed_size, entry.offset, entry.offset + entry.stored_nbytes
            if end > size:
                raise ValueError(
                    f"{_own_packed.FILE_NAME} ends at byte {size}, and {name!r} has "
                    f"{entry.stored_nbytes} bytes from byte {begin} on"
                )
            self._claim(name, _own_packed.FILE_NAME, begin, end)
        elif entry.location == ORBAX:
            self._tensors.check(self._orbax_name(entry), entry, self._contents)
            self._claim(name, str(entry.key), 0, 1)
        elif entry.location == RAW:
            self._check_raw(name, entry)
            self._claim(name, str(entry.key), 0, 1)
        return entry

    def extent(self, name: str) -> Extent | None:
        """As `Source.extent`."""
        entry = self.entries[name]
        if entry.location != PACKED:
            return None
        extent = Extent(_own_packed.FILE_NAME, entry.offset, self._packed_file().read_into)
        return extent._replace(most=_AT_A_REQUEST) if self._is_remote else extent

    def _check_raw(self, name: str, entry: Entry) -> None:
        """Refuse an array that has no files, or files of other sizes."""
        itemsize = np.dtype(entry.stored_dtype).itemsize
        for chunk in entry.chunks:
            file = raw_name(str(entry.key), chunk.start)
            size, nbytes = self._contents.size(file), math.prod(chunk.shape) * itemsize
            has_size = size == nbytes
            if self._is_remote:  # where none are listed, and each takes a request
                has_size = nbytes <= _TRUSTED or open_file(self._data / file).has_size(nbytes)
            if not has_size:
                raise ValueError(f"{file} does not have the {nbytes} bytes of a chunk of {name!r}")

    def _claim(self, name: str, file: str, begin: int, end: int) -> None:
        """Refuse two arrays of the same bytes: all of them could be larger than all files."""
        claims = self._claims.setdefault(file, [])
        if not claims or claims[-1][1] <= begin:
            claims.append((begin, end, name))
            return
        at = bisect.bisect(claims, (begin,))
        for other_begin, other_end, other in claims[max(0, at - 1) : at + 1]:
            if other == name:
                return
            if begin < other_end and other_begin < end:
                raise ValueError(f"{name!r} and {other!r} have the same bytes in the index")
        claims.insert(at, (begin, end, name))

    def reads_parts(self, name: str) -> bool:
        """As `Source.reads_parts`; Orbax's arrays have chunks on disk."""
        return self.entries[name].location == PACKED

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """As `Source.start`."""
        entry = self.entries[name]
        if entry.location == RAW:
            return self._start_raw(entry, box, into)
        if entry.location != PACKED:
            return self._tensors.start(self._orbax_name(entry), slices(box), into)
        first = contiguous(box, entry.stored_shape)
        if first is not None and into.flags.c_contiguous:
            _own_packed.read(self._packed_file(), entry.offset + first * into.itemsize, into)
        else:
            array = np.empty(entry.stored_shape, entry.stored_dtype)
            _own_packed.read(self._packed_file(), entry.offset, array)
            into[...] = array[slices(box)]
        return nothing_left

    def _start_raw(self, entry: Entry, box: Box, into: Array) -> Callable[[], None]:
        begins = (
            functools.partial(self._begin_raw, entry, chunk, slices(inside, chunk.box), view)
            for chunk, inside, view in _meeting(entry.chunks, box, into)
        )
        start = (lambda begin: begin()) if self._is_remote else self._in_pool
        waits = deque(map(start, itertools.islice(begins, _AT_ONCE)))

        def wait() -> None:
            while waits:
                waits.popleft()()
                waits.extend(map(start, itertools.islice(begins, 1)))

        return wait

    def _in_pool(self, begin: Callable[[], Callable[[], None]]) -> Callable[[], None]:
        """Begin to read a file in a thread, to its end."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_AT_ONCE, "jscope-read")
        return self._pool.submit(lambda: begin()()).result

    def _begin_raw(
        self, entry: Entry, chunk: Chunk, inside: tuple[slice, ...], into: Array
    ) -> Callable[[], None]:
        """Begin to read a part of a chunk's file: the rows of its first axis that have the part."""
        rows = slice(0, 1) if not inside else inside[0]
        row = math.prod(chunk.shape[1:]) * np.dtype(entry.stored_dtype).itemsize
        is_whole = into.shape[1:] == chunk.shape[1:] and into.flags.c_contiguous
        shape = (rows.stop - rows.start, *chunk.shape[1:])
        part = into if is_whole else np.empty(shape, entry.stored_dtype)
        file = open_file(self._data / raw_name(str(entry.key), chunk.start))
        with contextlib.closing(file):
            wait = file.begin_fill([(rows.start * row, part.reshape(-1).view(np.uint8).data)])

        def finish() -> None:
            wait()
            if not is_whole:
                into[...] = part.reshape(shape)[(slice(None), *inside[1:])]

        return finish

    def check_arrays(self) -> None:
        """Check that all arrays are at the index's locations, of its shapes and dtypes.

        Raises:
            ValueError, OSError: If one is absent or differs.
        """
        entries = self.entries.values()
        # All at once.
        names = [self._orbax_name(entry) for entry in entries if entry.location == ORBAX]
        if names:
            self._tensors.open(names)
        for name in self.entries:
            self.stored(name)

    def file_of(self, name: str) -> str:
        """The file of an array's bytes, for messages."""
        entry = self.entries[name]
        if entry.location == PACKED:
            return _own_packed.FILE_NAME
        if entry.location == RAW:
            key, chunks = str(entry.key), entry.chunks
            return raw_name(key, chunks[0].start) if len(chunks) == 1 else f"{key}/"
        return "the arrays of Orbax" if self._is_portable else str(entry.key)

    @functools.cached_property
    def containers(self) -> "Containers | None":
        """As `Source.containers`."""
        from ._containers import Containers

        if self.index.containers is None:
            return None
        return Containers(self.index.containers, tuple(self.entries))

    def has_changed(self) -> bool:
        """As `Source.has_changed`."""
        return read_save_id(self.path) != self.index.save_id

    def check(self) -> None:
        """As `Source.check`: all sizes, and small files' checksums."""
        check_files(self.path, self.index)

    def close(self) -> None:
        """As `Source.close`.

        The garbage collector calls it in any thread, so it waits for none: one that is about to
        start holds a lock, which a thread needs to be joined (Python 3.11).
        """
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None
        if self._packed is not None:
            self._packed.close()
            self._packed = None

    def _packed_file(self) -> File:
        if self._packed is None:
            path = self._data / _own_packed.FILE_NAME
            # Of an object as the index has it: reading beyond its end fails.
            size, _ = self.index.files.get(_own_packed.FILE_NAME, (0, None))
            self._packed = (
                RemoteFile(path, size) if isinstance(path, RemotePath) else open_file(path)
            )
            self._packed_size = self._packed.size
        return self._packed

    def _orbax_name(self, entry: Entry) -> str:
        key = str(entry.key)
        return key.replace("/", ".") if self._is_portable else key

    @functools.cached_property
    def _contents(self) -> Contents:
        return contents_of(self._data, self.index)


def _meeting(chunks: Sequence[Chunk], box: Box, into: Array) -> Iterator[tuple[Chunk, Box, Array]]:
    """The chunks that an `OwnSource` reads for a box, what both have, and the view of that."""
    for chunk in chunks:
        inside = tuple(
            (max(start, begin), min(stop, begin + length))
            for (start, stop), begin, length in zip(box, chunk.start, chunk.shape, strict=True)
        )
        if all(start < stop for start, stop in inside):
            # With the dots, of an array without axes too it is a view.
            index: Any = (*slices(inside, box), ...)
            yield chunk, inside, into[index]


def check_readable(path: Path, index: Index) -> None:
    """Open a checkpoint of jscope's as a reader does, and compare it with an index; read no array.

    Raises:
        ValueError, OSError: If something is absent or differs.
    """
    found = read_index(path, index.step)
    if found.save_id != index.save_id:
        raise ValueError(f"{FILE_NAME} is of another save")
    # Its checksum is right, so its members are the given ones.
    check_files(path, index)
    OwnSource(path, index).check_arrays()
