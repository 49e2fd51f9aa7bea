r"""The index of a checkpoint: what it holds, readable without reading any array.

A checkpoint of step 12 is the directory ``12``. In it are

* ``jscope.json``, the index, written last;
* ``packed.bin``, the bytes of the small arrays: see `_packing`. Absent if there are none;
* what Orbax wrote, a flat dict ``{key: array}`` of the larger ones, where the keys are ``"0"``,
  ``"1"`` and so on, in Orbax's own files. Absent if there are none.

The index is one JSON object in UTF-8, on one line::

    {"format": "jscope", "version": 2, "step": 12, "save_id": "9f6c...", "saved_at": 1764040000.0,
     "portable": false, "metadata": null, "metrics": {},
     "files": {"packed.bin": [96, null], "0/zarr.json": [406, 3735928559]},
     "values": {
       "enc/w": {"shape": [2, 3], "dtype": "float32", "place": "packed", "offset": 0,
                 "chunks": [[[0, 0], [2, 3], 2774112397]]},
       "mask": {"shape": [5], "dtype": "uint4", "place": "packed", "stored_dtype": "uint8",
                "offset": 64, "chunks": [[[0], [5], 1094795585]]},
       "none": {"shape": [3, 0], "dtype": "float32", "place": "index"},
       "rng": {"shape": [], "dtype": "key<fry>", "place": "packed", "stored_shape": [2],
               "stored_dtype": "uint32", "offset": 128, "chunks": [[[0], [2], 1]],
               "key_impl": "threefry2x32"},
       "table": {"shape": [8, 1048576], "dtype": "float32", "place": "orbax",
                 "key": "0", "chunks": [[[0, 0], [4, 1048576], 2], [[4, 0], [4, 1048576], 3]]},
       "epoch": {"shape": [], "dtype": "python int", "place": "index", "value": "0x1f"}},
     "crc32c": "89abcdef"}

* The last member is the CRC-32C of all bytes of the file before it, as eight hexadecimal digits.
* ``save_id`` is of this save and no other; ``saved_at`` is in seconds since 1970.
* ``portable`` is true if nothing is packed, and Orbax's arrays are not a flat dict but nested ones;
  the keys are the names then, and split at ``/``.
* ``metadata`` is the user's; ``metrics`` are numbers by name, with ``"nan"``, ``"inf"`` and
  ``"-inf"`` as strings.
* ``files`` are all other files of the checkpoint, each with its size and, up to `SMALL_FILE`
  bytes, its CRC-32C; the larger ones hold arrays, which have their own.
* The members of a value are those of `_entries.Entry`; ``stored_shape`` and ``stored_dtype`` are
  left out where they are ``shape`` and ``dtype``. A value in the ``index`` has no bytes elsewhere:
  an array without elements, or what is no array.
* A chunk is ``[start, shape, crc32c]``, a box of the stored array. An array's chunks cover it, each
  element once. The checksum of data lies in the index, so that a data file of another checkpoint
  is found too.

A reader refuses a ``version`` that it does not know.

Imports: `_checksums`, `_entries`; standard library.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._checksums import crc32c
from ._entries import Entry

FILE_NAME = "jscope.json"
SMALL_FILE = 1 << 16
_VERSION = 2
_END = b', "crc32c": "%08x"}\n'


@dataclasses.dataclass(frozen=True)
class Index:
    """What stands in the index; see the first lines of this file."""

    step: int
    save_id: str
    saved_at: float
    entries: Mapping[str, Entry]
    portable: bool = False
    metadata: Any = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


def write_index(directory: Path, index: Index) -> None:
    """Write the index of a checkpoint into its directory, where all other files are complete."""
    metrics = {
        name: value if abs(value) < float("inf") else str(value)
        for name, value in index.metrics.items()
    }
    members = {
        "format": "jscope",
        "version": _VERSION,
        "step": index.step,
        "save_id": index.save_id,
        "saved_at": index.saved_at,
        "portable": index.portable,
        "metadata": index.metadata,
        "metrics": metrics,
        "files": _files(directory),
        "values": {name: entry.to_json() for name, entry in index.entries.items()},
    }
    (directory / FILE_NAME).write_bytes(sealed(members))


def sealed(members: Mapping[str, Any]) -> bytes:
    """The bytes of an index of these members, with their checksum as the last one."""
    text = json.dumps(members).encode()[:-1]
    return text + _END % _crc(text)


def read_index(directory: Path, step: int) -> Index:
    """The index of a checkpoint.

    Raises:
        ValueError: If it is damaged, of another step, or of a version unknown here.
        OSError: If it can't be read.
    """
    members = _members((directory / FILE_NAME).read_bytes())
    try:
        if members["step"] != step:
            raise ValueError(f"{FILE_NAME} is the index of step {members['step']!r}")
        return Index(
            step,
            members["save_id"],
            members["saved_at"],
            {name: _entry(name, value) for name, value in members["values"].items()},
            members["portable"],
            members["metadata"],
            {name: float(value) for name, value in members["metrics"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{FILE_NAME} is damaged: {type(error).__name__} {error}") from None


def check_files(directory: Path) -> None:
    """Compare the other files of a checkpoint with its index: all sizes, small ones' checksums.

    Raises:
        ValueError: If one differs or is gone.
        OSError: If one can't be read.
    """
    for name, (size, crc) in _members((directory / FILE_NAME).read_bytes())["files"].items():
        file = directory / name
        try:
            found = file.stat().st_size
        except FileNotFoundError:
            raise ValueError(f"{name} is gone") from None
        if found != size:
            raise ValueError(f"{name} has {found} bytes instead of {size}")
        if crc is not None and _crc(file.read_bytes()) != crc:
            raise ValueError(f"{name} is damaged: its checksum differs")


def _members(data: bytes) -> dict[str, Any]:
    length = len(_END % 0)
    text, end = data[:-length], data[-length:]
    try:
        index = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{FILE_NAME} is damaged: {error}") from None
    if not isinstance(index, dict) or index.get("format") != "jscope":
        raise ValueError(f"{FILE_NAME} is not the index of a checkpoint")
    if index.get("version") != _VERSION:
        version = index.get("version")
        raise ValueError(f"{FILE_NAME} has version {version!r}; this jscope reads {_VERSION}")
    if end != _END % _crc(text):
        raise ValueError(f"{FILE_NAME} is damaged: its checksum differs")
    return index


def _files(directory: Path) -> dict[str, Any]:
    found = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            file = Path(parent, name)
            size = file.stat().st_size
            crc = _crc(file.read_bytes()) if size <= SMALL_FILE else None
            found[file.relative_to(directory).as_posix()] = [size, crc]
    return dict(sorted(found.items()))


def _crc(data: bytes) -> int:
    return crc32c(np.frombuffer(data, np.uint8))


def _entry(name: str, members: Any) -> Entry:
    try:
        return Entry.from_json(members)
    except Exception as error:
        raise ValueError(f"{FILE_NAME} is damaged at {name!r}: {members!r}") from error
