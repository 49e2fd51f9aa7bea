r"""The index of a checkpoint: what it holds, readable without reading any array.

A checkpoint of step 12 is the directory ``12``. In it are

* ``jscope.json``, the index, written last;
* ``packed.bin``, the bytes of the small arrays: see `_own_packed`. Absent if there are none;
* of each larger array a directory, ``0``, ``1`` and so on, with a file for each of its chunks.

The index is one JSON object, in the format of `_sealed_json`::

    {"format": "jscope", "version": 2, "step": 12, "save_id": "9f6c...", "saved_at": 1764040000.0,
     "portable": false, "metadata": null, "metrics": {}, "containers": null,
     "files": {"packed.bin": [96, null], "0/4.0": [16777216, null], ...},
     "values": {
       "enc/w": {"shape": [2, 3], "dtype": "float32", "place": "packed", "offset": 0,
                 "crc32c": 2774112397},
       "mask": {"shape": [5], "dtype": "uint4", "place": "packed", "stored_dtype": "uint8",
                "offset": 64, "crc32c": 1094795585},
       "none": {"shape": [3, 0], "dtype": "float32", "place": "index"},
       "rng": {"shape": [], "dtype": "key<fry>", "place": "packed", "stored_shape": [2],
               "stored_dtype": "uint32", "offset": 128, "crc32c": 1, "key_impl": "threefry2x32"},
       "table": {"shape": [8, 1048576], "dtype": "float32", "place": "raw",
                 "key": "0", "chunks": [[[0, 0], [4, 1048576], 2], [[4, 0], [4, 1048576], 3]]},
       "epoch": {"shape": [], "dtype": "python int", "place": "index", "value": "0x1f"}},
     "crc32c": "89abcdef"}

* ``save_id`` is of this save and no other; ``saved_at`` is in seconds since 1970.
* A value with ``"place": "raw"`` has for each chunk a file ``0/0.512`` of its bytes, in C order and
  little-endian, whose name begins with the ``key`` and ends with where the chunk starts.
* One with ``"place": "orbax"`` is in files of Orbax's, as a flat dict ``{key: array}``: compressed
  ones, and all larger ones in checkpoints of jscope 0.1.
* ``portable`` is true if Orbax has written all arrays, and not as a flat dict but as nested ones;
  the keys are the names then, and split at ``/``. They are in ``default/``, as the only item of a
  step of Orbax's `CheckpointManager`; in the directory itself, if its name is not in ``files``.
* ``metadata`` is the user's; ``metrics`` are numbers by name, with ``"nan"``, ``"inf"`` and
  ``"-inf"`` as strings.
* ``containers`` describe the saved pytree, in the format of `_containers`, of the values in their
  order; null if only a part of it was saved, or by other names.
* ``files`` are all other files of the checkpoint, in a store but raw arrays, each with its size
  and, up to `SMALL_FILE` bytes, its CRC-32 (zlib's: some of Orbax's files end with their own
  CRC-32C, and all such have one and the same); the larger ones hold arrays, which have their own.
* The members of a value are those of `_own_entry.Entry`; ``stored_shape`` and ``stored_dtype`` are
  left out where they are ``shape`` and ``dtype``. A value in the ``index`` has no bytes elsewhere:
  an array without elements, or a value that is not an array.
* A value of which each process has its own is one, of the dtype ``python PerProcess``, with the
  values of all processes as text: see `_per_process`.
* A chunk is ``[start, shape, crc32c]``, a box of the stored array. An array's chunks cover it, each
  element once; of an array of one chunk there is only the ``crc32c``. The checksum of data is in
  the index, so that a data file of another checkpoint is detected too.

In a store the names are those of `_own_names`.

A reader refuses a ``version`` that it does not know. An index and its checksum may come from an
untrusted source; its members are checked here and in `_own_entry`, once, and compared with the
directory by `check_files` and `_source`, before anything is allocated or opened.
"""

import dataclasses
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .._stores.errors import StoreError
from .._stores.files import Contents, contents, first_bytes, not_regular, read_file
from .._stores.remote import AnyPath, RemotePath, fresh
from . import _json_members
from ._json_members import member, short
from ._own_entry import ORBAX, RAW, Entry
from ._own_names import FILE_NAME as FILE_NAME
from ._own_names import FIRST, newest_index, read_newest
from ._sealed_json import sealed, unsealed

PathT = TypeVar("PathT", Path, RemotePath, AnyPath)

SMALL_FILE = 1 << 16
_VERSION = 2
_SAVE_ID = re.compile(rb'"save_id": "([0-9a-f]+)"')
_ORBAX_KEY = re.compile("[0-9]{1,20}")


@dataclasses.dataclass(frozen=True)
class Index:
    """The members of a checkpoint's index; see the first lines of this file.

    `files_to_list` finds the ``files``; `read_index` adds how many bytes were read, and the
    name of the directory of the data in the checkpoint's, if they have one.
    """

    step: int
    save_id: str
    saved_at: float
    entries: Mapping[str, Entry]
    portable: bool = False
    metadata: Any = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    files: Mapping[str, tuple[int, int | None]] = dataclasses.field(default_factory=dict)
    containers: Any = None
    nbytes: int = 0
    below: str = ""

    def data(self, path: PathT) -> PathT:
        """The directory of the data, from the checkpoint's."""
        return path / self.below if self.below else path


def write_index(directory: Path, index: Index) -> None:
    """Write the index of a checkpoint into its directory."""
    (directory / FILE_NAME).write_bytes(index_bytes(index))


def index_bytes(index: Index) -> bytes:
    """The contents of an index."""
    members = {
        "format": "jscope",
        "version": _VERSION,
        "step": index.step,
        "save_id": index.save_id,
        "saved_at": index.saved_at,
        "portable": index.portable,
        "metadata": index.metadata,
        "metrics": _json_members.numbers_to_json(index.metrics),
        "containers": index.containers,
        "files": index.files,
        "values": {name: entry.to_json() for name, entry in index.entries.items()},
    }
    return sealed(members)


def read_index(directory: AnyPath, step: int | None) -> Index:
    """Read the index of a checkpoint.

    Args:
        directory: The checkpoint.
        step: Which step it must be; None if its directory may have any name.

    Raises:
        ValueError: If it is damaged, of another step, or of a version unknown here.
        OSError: If it can't be read.
    """
    return _read_checked(directory, step, with_entries=True)


def read_header(directory: AnyPath, step: int) -> Index:
    """Read the index of a checkpoint without its entries.

    Raises:
        ValueError: As `read_index`.
        OSError: As `read_index`.
    """
    return _read_checked(directory, step, with_entries=False)


def _read_checked(directory: AnyPath, step: int | None, *, with_entries: bool) -> Index:
    """Read the index of a checkpoint, with its entries or without."""
    found, data = read_newest(directory)
    name, below = found.file, found.save_id
    if below and (directory / below).is_symlink():
        raise ValueError(not_regular(below))
    members = unsealed(data, name, format="jscope", version=_VERSION)
    try:
        index = _index_of(members, with_entries=with_entries)
        if _save_id_in(data) != index.save_id or (below and below != index.save_id):
            raise ValueError("it has two ids of a save")
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from None
    if step is not None and index.step != step:
        raise ValueError(f"{name} is the index of step {index.step}")
    return dataclasses.replace(index, nbytes=len(data), below=below)


def _index_of(members: Mapping[str, Any], *, with_entries: bool) -> Index:
    """The index that JSON's members are."""
    portable = member(members, "portable", _json_members.flag)
    values = member(members, "values", _members_by_name)
    return Index(
        member(members, "step", _json_members.step),
        member(members, "save_id", _json_members.save_id),
        member(members, "saved_at", _json_members.seconds),
        Entries(values if with_entries else {}, portable),
        portable,
        members.get("metadata"),
        member(members, "metrics", _json_members.numbers_from_json),
        member(members, "files", _files_of_members),
        members.get("containers"),
    )


def _members_by_name(value: object) -> dict[str, Any]:
    """The members of an index's entries, by the names of the values."""
    values = _json_members.mapping(value)
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise ValueError("there is a name that is not UTF-8") from None
    return values


def _files_of_members(value: object) -> dict[str, tuple[int, int | None]]:
    """The sizes and checksums of files in the members of an index."""
    return {name: _file_of_member(member) for name, member in _json_members.mapping(value).items()}


def _file_of_member(value: object) -> tuple[int, int | None]:
    """The size and checksum of a file in the members of an index."""
    size, crc = _json_members.sequence(value, 2)
    if _json_members.whole_number(size) <= SMALL_FILE:
        return size, _json_members.whole_number(crc, 1 << 32)
    if crc is not None:
        raise ValueError(f"a file of {size} bytes has a checksum, and is read at once for it")
    return size, None


class Entries(Mapping[str, Entry]):
    """The entries of an index, each made when it is requested: 10,000 of them take 0.1 s.

    Args:
        values: From names to the members of entries.
        portable: Whether Orbax calls the arrays by their names.
    """

    def __init__(self, values: Mapping[str, Any], portable: bool = False):
        # Members, and once they have been read entries.
        self._values: dict[str, Any] = dict(values)
        self._portable = portable

    def __getitem__(self, name: str) -> Entry:
        entry = self._values[name]
        if type(entry) is not Entry:
            entry = self._values[name] = self._made(name, entry)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def shapes(self) -> dict[str, list[int]]:
        """The shapes by name, without making the entries.

        Raises:
            ValueError: If an entry has none.
        """
        try:
            shapes = [
                list(members.shape if type(members) is Entry else members["shape"])
                for members in self._values.values()
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{FILE_NAME} is damaged: {error!r}") from error
        # All at once: one by one they take as long as parsing the file.
        if _json_members.are_whole_numbers(list(itertools.chain.from_iterable(shapes))):
            return dict(zip(self._values, shapes, strict=True))
        return {name: list(self[name].shape) for name in self}

    def _made(self, name: str, members: object) -> Entry:
        try:
            if not name or name.endswith("/"):
                raise ValueError("a name is not empty, and does not end with '/'")
            entry = Entry.from_json(members)
            is_key = entry.location not in (ORBAX, RAW) or self._is_key(name, str(entry.key))
            if not is_key:
                raise ValueError(f"{short(entry.key)} is not the key of an array")
        except ValueError as error:
            raise ValueError(
                f"{FILE_NAME} is damaged at {name!r}: {_shown_members(members)}: {error}"
            ) from error
        return entry

    def _is_key(self, name: str, key: str) -> bool:
        return key == name if self._portable else bool(_ORBAX_KEY.fullmatch(key))


def read_save_id(directory: AnyPath) -> str | None:
    """The ``save_id`` of a checkpoint, from its index's first bytes; None if it is not there.

    Enough to see that a checkpoint is another one, not that it is undamaged.

    Raises:
        StoreError: If its store can't be read.
    """
    return listed_save_id(fresh(directory))


def listed_save_id(directory: AnyPath) -> str | None:
    """The ``save_id`` of a checkpoint, from its index in a store, as it was listed.

    Raises:
        StoreError: As `read_save_id`.
    """
    try:
        found = newest_index(directory)
        if found is not None and found.number:
            return found.save_id
        return _save_id_in(first_bytes(directory / FILE_NAME, FIRST))
    except StoreError:
        raise
    except (OSError, ValueError):
        return None


def check_files(directory: AnyPath, index: Index) -> None:
    """Compare an index with the files that it lists: names, sizes, and small ones' checksums.

    An object of a store is whole, and each takes a request: there it is their names alone.

    Raises:
        ValueError: If one differs or is gone.
        OSError: If one can't be read.
    """
    directory = index.data(directory)
    found = contents_of(directory, index)
    if isinstance(directory, RemotePath):
        for name in index.files:
            found.size(name)
        return
    for name, (size, crc) in index.files.items():
        if found.size(name) != size:
            raise ValueError(f"{name} has {found.size(name)} bytes instead of {size}")
        if crc is not None and zlib.crc32(read_file(directory / name)) != crc:
            raise ValueError(f"{name} is damaged: its checksum differs")


def contents_of(directory: AnyPath, index: Index) -> Contents:
    """The files of a checkpoint; in a store, which lists no sizes, with those in the index.

    Raises:
        OSError: If they can't be listed.
    """
    return contents(directory, {name: size for name, (size, _) in index.files.items()})


def _save_id_in(data: bytes) -> str | None:
    """The id of the save in the first bytes of an index."""
    found = _SAVE_ID.search(data, 0, FIRST)
    return found[1].decode() if found else None


def files_to_list(directory: Path) -> dict[str, tuple[int, int | None]]:
    """The sizes of a checkpoint's files, all complete, and small ones' checksums, for the index."""
    sizes = sorted(contents(directory).sizes.items())
    return {
        name: (size, zlib.crc32(read_file(directory / name)) if size <= SMALL_FILE else None)
        for name, size in sizes
    }


def _shown_members(members: object) -> str:
    """The members of an index's entry for an error, or as many as a line holds."""
    try:
        return repr(members)[:300]
    except RecursionError:
        return short(members)
