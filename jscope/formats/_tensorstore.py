"""Arrays as Orbax lays them out on disk, read by TensorStore without Orbax.

Orbax calls an array by its keys joined with ``.`` and stores it with TensorStore: as a Zarr
array, version 2 or 3, below that name, in a directory of its own or, by default, in an OCDBT
database that all arrays share. Read so, a checkpoint of 4 arrays of 64 MB takes half the time
of Orbax's own load; an absent array is an error; only requested elements are read, directly into
their memory; and the processes of a program need no barrier for it.

Files may come from an untrusted source: see `Tensors.check`.
"""

import functools
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .._stores.errors import is_of_store, store_error
from .._stores.files import Contents
from .._stores.remote import AnyPath, RemotePath
from .._stores.settings import context, spec_of
from ._own_entry import Entry
from ._plain_paths import FOR_READING, Plain

if TYPE_CHECKING:
    from tensorstore import Context, Future, TensorStore

T = TypeVar("T")

# The codecs that Orbax uses with Zarr; the last one compresses, by less than so many times.
_CODECS = {"sharding_indexed", "bytes", "crc32c", "zstd"}
MOST_COMPRESSED = 1 << 15
_LONGEST_METADATA = 1 << 14
# For the database's own directories, which every array is found by; not for arrays.
_DIRECTORY_CACHE = 64 << 20


class Tensors:
    """The arrays below one directory that TensorStore reads.

    Args:
        directory: What has the database, or a directory per array.
        is_zarr3: Whether the arrays are of Zarr's version 3.
        is_ocdbt: Whether they are in a database.
    """

    def __init__(self, directory: AnyPath, *, is_zarr3: bool = True, is_ocdbt: bool = True):
        self._directory = directory
        self._driver = "zarr3" if is_zarr3 else "zarr"
        self._is_ocdbt = is_ocdbt
        self._handles: dict[str, TensorStore] = {}

    def open(self, names: Collection[str]) -> "dict[str, TensorStore]":
        """TensorStore's handles of arrays, by the names that Orbax gave them.

        Raises:
            ValueError: If there is no such array, or it is damaged; names the array.
        """
        outside = [name for name in names if ".." in name.split("/")]
        if outside and not self._is_ocdbt:
            raise ValueError(f"{outside[0]!r} is not the name of an array")
        for name in names:
            if not _is_utf8(name):  # JSON can hold half a character
                raise ValueError(f"{name!r} is not the name of an array: it is not UTF-8")
        new = [name for name in names if name not in self._handles]
        self._check_metadata(new)
        futures = {name: self._begin_open(name) for name in new}
        for name, future in futures.items():
            self._handles[name] = self._result(name, future.result)
        return {name: self._handles[name] for name in names}

    def check(self, name: str, entry: Entry, contents: Contents) -> None:
        """Compare an array's entry in an index with the array's own metadata and its files.

        To be called before memory is allocated for it. TensorStore opens files below the directory
        only, and reads no more of one than a chunk of the metadata has; so the metadata's chunks,
        and the bytes that they can be made of, are compared here too.

        Raises:
            ValueError: If they contradict each other, or the bytes can't be there.
        """
        files = contents.below("" if self._is_ocdbt else name)
        handle = self.open([name])[name]
        shape, dtype = entry.stored_shape, np.dtype(entry.stored_dtype)
        found = tuple(handle.shape), handle.dtype.numpy_dtype
        if found != (shape, dtype):
            raise ValueError(f"{name!r} is {found[1]}{found[0]} on disk, not {dtype}{shape}")
        chunk = handle.chunk_layout.write_chunk.shape or ()  # None if there are no axes
        codecs = _codecs(handle.codec and handle.codec.to_json())
        fits = all(part is not None and part <= n for part, n in zip(chunk, shape, strict=False))
        if not fits or not codecs <= _CODECS:
            raise ValueError(f"{name!r} has chunks of {chunk} with {sorted(codecs)} on disk")
        most = files * (MOST_COMPRESSED if "zstd" in codecs else 1)
        if entry.stored_nbytes > most:
            raise ValueError(
                f"{name!r} has {entry.stored_nbytes} bytes in the index, and its files have {files}"
            )

    def chunk_nbytes(self, name: str) -> int:
        """The bytes of a whole chunk, or of a whole shard of chunks, of an array on disk.

        Raises:
            ValueError: As `open`.
        """
        handle = self.open([name])[name]
        shape = handle.chunk_layout.write_chunk.shape or ()  # None if there are no axes
        sizes = [part or 1 for part in shape]
        return math.prod(sizes) * handle.dtype.numpy_dtype.itemsize

    def start(
        self, name: str, box: tuple[slice, ...], into: np.ndarray[Any, Any]
    ) -> Callable[[], None]:
        """Begin to read a box of an array into memory; return how to wait for it.

        Raises:
            ValueError: If the array is absent, damaged, or other than ``into``; here, or from
                what is returned.
        """
        import tensorstore

        handle = self.open([name])[name]
        try:
            inside = handle[box]
        except IndexError as error:
            # Its metadata was replaced by another file.
            raise ValueError(f"{name!r} has shape {handle.shape} on disk: {error}") from error
        if (inside.shape, inside.dtype.numpy_dtype) != (into.shape, into.dtype):
            found = f"{inside.dtype.numpy_dtype}{inside.shape}"
            raise ValueError(f"{name!r} is {found} on disk, not {into.dtype}{into.shape}")
        future = tensorstore.array(into).write(inside)
        return functools.partial(self._result, name, future.result)

    def _check_metadata(self, names: Collection[str]) -> None:
        """Refuse metadata that is longer than Orbax writes.

        JSON that is nested 100,000 deep ends the process (TensorStore 0.1.86).
        """
        import tensorstore

        file = "zarr.json" if self._driver == "zarr3" else ".zarray"
        kvstore = tensorstore.KvStore
        stores = {n: kvstore.open(self._store(n), context=self._context) for n in names}
        opened = {name: self._result(name, store.result) for name, store in stores.items()}
        reads = {name: store.read(file) for name, store in opened.items()}
        for name, future in reads.items():
            size = len(self._result(name, future.result).value)
            if size > _LONGEST_METADATA:
                raise ValueError(
                    f"{name!r} has metadata of {size} bytes, and Orbax writes some hundred"
                )

    def _begin_open(self, name: str) -> "Future[TensorStore]":
        import tensorstore

        spec = {"driver": self._driver, "kvstore": self._store(name)}
        return tensorstore.open(spec, context=self._context, read=True, open=True)

    def _store(self, name: str) -> dict[str, Any]:
        """Where TensorStore finds an array."""
        if not self._is_ocdbt:
            return self._base(f"{name}/")
        base = self._base("")
        pool = "cache_pool#directory"
        return {"driver": "ocdbt", "base": base, "path": f"{name}/", "cache_pool": pool}

    def _base(self, name: str) -> dict[str, Any]:
        """The key-value store of what is below the directory."""
        if isinstance(self._directory, RemotePath):
            bucket = self._directory.bucket
            key = f"{self._directory.key}/{name}".lstrip("/")
            return {**spec_of(bucket.scheme, bucket.name), "path": key}
        assert self._plain is not None
        return {"driver": "file", "path": f"{self._plain.path}/{name}"}

    @functools.cached_property
    def _plain(self) -> Plain | None:
        directory = self._directory
        return Plain(directory, FOR_READING) if isinstance(directory, Path) else None

    @functools.cached_property
    def _context(self) -> "Context":
        import tensorstore

        pool = {"cache_pool#directory": {"total_bytes_limit": _DIRECTORY_CACHE}}
        is_remote = isinstance(self._directory, RemotePath)
        return tensorstore.Context(pool, context() if is_remote else None)

    def _result(self, name: str, wait: Callable[[], T]) -> T:
        try:
            return wait()
        except Exception as error:
            if isinstance(self._directory, RemotePath) and is_of_store(error):
                raise store_error(str(self._directory / name), "read", error) from None
            # What follows the first bracket is the whole specification, and places in C++ files.
            text = str(error).partition(" [")[0]
            # Of a store the whole text may have what must not be shown.
            cause = error if isinstance(self._directory, Path) else None
            raise ValueError(f"{name!r} can't be read: {text}") from cause


def _is_utf8(name: str) -> bool:
    """Whether TensorStore takes a name of an array to read: whether it is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _codecs(spec: object) -> set[str]:
    """The names of all codecs in a specification of TensorStore's, at any depth."""
    if isinstance(spec, dict):
        own = {str(codec.get("name")) for codec in spec.get("codecs", ())}
        return own.union(*map(_codecs, spec.values()))
    return set().union(*map(_codecs, spec)) if isinstance(spec, list) else set()
