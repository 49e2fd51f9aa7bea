r"""The index of a checkpoint: what it holds, readable without reading any array.

A checkpoint of step 12 is the directory ``12``. In it are

* ``jscope.json``, the index, written last;
* ``packed.bin``, the bytes of the small arrays: see `_packing`. Absent if there are none;
* what Orbax wrote, a flat dict ``{key: array}`` of the larger ones, where the keys are ``"0"``,
  ``"1"`` and so on, in Orbax's own files. Absent if there are none.

The index is one JSON object, as `_sealed` says::

    {"format": "jscope", "version": 2, "step": 12, "save_id": "9f6c...", "saved_at": 1764040000.0,
     "portable": false, "metadata": null, "metrics": {}, "containers": null,
     "files": {"packed.bin": [96, null], "0/zarr.json": [406, 3735928559]},
     "values": {
       "enc/w": {"shape": [2, 3], "dtype": "float32", "place": "packed", "offset": 0,
                 "crc32c": 2774112397},
       "mask": {"shape": [5], "dtype": "uint4", "place": "packed", "stored_dtype": "uint8",
                "offset": 64, "crc32c": 1094795585},
       "none": {"shape": [3, 0], "dtype": "float32", "place": "index"},
       "rng": {"shape": [], "dtype": "key<fry>", "place": "packed", "stored_shape": [2],
               "stored_dtype": "uint32", "offset": 128, "crc32c": 1, "key_impl": "threefry2x32"},
       "table": {"shape": [8, 1048576], "dtype": "float32", "place": "orbax",
                 "key": "0", "chunks": [[[0, 0], [4, 1048576], 2], [[4, 0], [4, 1048576], 3]]},
       "epoch": {"shape": [], "dtype": "python int", "place": "index", "value": "0x1f"}},
     "crc32c": "89abcdef"}

* ``save_id`` is of this save and no other; ``saved_at`` is in seconds since 1970.
* ``portable`` is true if nothing is packed, and Orbax's arrays are not a flat dict but nested ones;
  the keys are the names then, and split at ``/``.
* ``metadata`` is the user's; ``metrics`` are numbers by name, with ``"nan"``, ``"inf"`` and
  ``"-inf"`` as strings.
* ``containers`` describe the pytree that was saved, as `_containers` says, of the values in their
  order; null if only a part of it was saved, or by other names.
* ``files`` are all other files of the checkpoint, each with its size and, up to `SMALL_FILE`
  bytes, its CRC-32 (zlib's: some of Orbax's files end with their own CRC-32C, and all such have
  one and the same); the larger ones hold arrays, which have their own.
* The members of a value are those of `_entries.Entry`; ``stored_shape`` and ``stored_dtype`` are
  left out where they are ``shape`` and ``dtype``. A value in the ``index`` has no bytes elsewhere:
  an array without elements, or what is no array.
* A chunk is ``[start, shape, crc32c]``, a box of the stored array. An array's chunks cover it, each
  element once; of an array of one chunk there is only the ``crc32c``. The checksum of data lies in
  the index, so that a data file of another checkpoint is found too.

A reader refuses a ``version`` that it does not know.

Imports: `_entries`, `_sealed`; standard library.
"""

import dataclasses
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ._entries import Entry
from ._sealed import sealed, unsealed

FILE_NAME = "jscope.json"
SMALL_FILE = 1 << 16
_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Index:
    """What stands in the index; see the first lines of this file.

    `write_index` finds the ``files`` itself.
    """

    step: int
    save_id: str
    saved_at: float
    entries: Mapping[str, Entry]
    portable: bool = False
    metadata: Any = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    containers: Any = None


def write_index(directory: Path, index: Index) -> None:
    """Write the index of a checkpoint into its directory, where all other files are complete."""
    members = {
        "format": "jscope",
        "version": _VERSION,
        "step": index.step,
        "save_id": index.save_id,
        "saved_at": index.saved_at,
        "portable": index.portable,
        "metadata": index.metadata,
        "metrics": numbers_to_json(index.metrics),
        "containers": index.containers,
        "files": _files(directory),
        "values": {name: entry.to_json() for name, entry in index.entries.items()},
    }
    (directory / FILE_NAME).write_bytes(sealed(members))


def read_index(directory: Path, step: int | None) -> Index:
    """The index of a checkpoint.

    Args:
        directory: The checkpoint.
        step: Which step it must be; None if its directory may have any name.

    Raises:
        ValueError: If it is damaged, of another step, or of a version unknown here.
        OSError: If it can't be read.
    """
    return _read(directory, step, with_entries=True)


def read_header(directory: Path, step: int) -> Index:
    """The index of a checkpoint without its entries.

    Raises:
        ValueError: As `read_index`.
        OSError: As `read_index`.
    """
    return _read(directory, step, with_entries=False)


def _read(directory: Path, step: int | None, *, with_entries: bool) -> Index:
    members = _members(directory)
    try:
        if step is not None and members["step"] != step:
            raise ValueError(f"{FILE_NAME} is the index of step {members['step']!r}")
        values = members["values"] if with_entries else {}
        return Index(
            members["step"],
            members["save_id"],
            members["saved_at"],
            Entries(values),
            members["portable"],
            members["metadata"],
            numbers_from_json(members["metrics"]),
            members["files"],
            members.get("containers"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{FILE_NAME} is damaged: {type(error).__name__} {error}") from None


class Entries(Mapping[str, Entry]):
    """The entries of an index, each made when it is asked for: 10,000 of them take 0.1 s.

    Args:
        values: From names to the members of entries.
    """

    def __init__(self, values: Mapping[str, Any]):
        self._values = dict(values.items())
        self._entries: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _entry(name, self._values[name])
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
            return {name: list(members["shape"]) for name, members in self._values.items()}
        except (KeyError, TypeError) as error:
            raise ValueError(f"{FILE_NAME} is damaged: {error!r}") from error


def read_save_id(directory: Path) -> str | None:
    """The ``save_id`` of a checkpoint, from its index's first bytes; None if it is not there.

    Enough to see that a checkpoint is another one, not that it is undamaged.
    """
    try:
        with open(directory / FILE_NAME, "rb") as file:
            found = re.search(rb'"save_id": "([0-9a-f]+)"', file.read(256))
    except OSError:
        return None
    return found[1].decode() if found else None


def check_files(directory: Path, index: Index) -> None:
    """Compare the other files of a checkpoint with its index: all sizes, small ones' checksums.

    Raises:
        ValueError: If one differs or is gone.
        OSError: If one can't be read.
    """
    for name, (size, crc) in index.files.items():
        file = directory / name
        try:
            found = file.stat().st_size
        except FileNotFoundError:
            raise ValueError(f"{name} is gone") from None
        if found != size:
            raise ValueError(f"{name} has {found} bytes instead of {size}")
        if crc is not None and zlib.crc32(file.read_bytes()) != crc:
            raise ValueError(f"{name} is damaged: its checksum differs")


def numbers_to_json(numbers: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers by name; those that JSON does not have, as strings."""
    return {name: n if math.isfinite(n) else str(n) for name, n in numbers.items()}


def numbers_from_json(members: Mapping[str, Any]) -> dict[str, float]:
    """The inverse of `numbers_to_json`."""
    return {name: float(value) for name, value in members.items()}


def _members(directory: Path) -> dict[str, Any]:
    data = (directory / FILE_NAME).read_bytes()
    return unsealed(data, FILE_NAME, format="jscope", version=_VERSION)


def _files(directory: Path) -> dict[str, Any]:
    found = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            file = Path(parent, name)
            size = file.stat().st_size
            crc = zlib.crc32(file.read_bytes()) if size <= SMALL_FILE else None
            found[file.relative_to(directory).as_posix()] = [size, crc]
    return dict(sorted(found.items()))


def _entry(name: str, members: Any) -> Entry:
    try:
        return Entry.from_json(members)
    except Exception as error:
        raise ValueError(f"{FILE_NAME} is damaged at {name!r}: {members!r}") from error
