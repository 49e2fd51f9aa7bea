r"""The index of a checkpoint: which arrays it holds, readable without reading any.

A checkpoint of step 12 is the directory ``12``. In it are what Orbax wrote, a flat dict
``{name: array}`` that plain Orbax can load, and the file ``jscope.json``, written last::

    {
      "format": "jscope",
      "version": 1,
      "step": 12,
      "arrays": {
        "enc/w": {"shape": [3, 4], "dtype": "uint4",
                  "stored_shape": [3, 4], "stored_dtype": "uint8", "key_impl": null},
        ...
      }
    }

UTF-8 JSON; the members are those of `Entry`, all of them, no others. An array whose
``stored_shape`` has a zero is not among Orbax's; if that holds for all, Orbax wrote nothing.
A reader refuses a ``version`` that it does not know.

Imports: `_values`; standard library.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._values import Entry

FILE_NAME = "jscope.json"
_VERSION = 1


def write_index(directory: Path, step: int, entries: Mapping[str, Entry]) -> None:
    """Write the index of a checkpoint into its directory."""
    arrays = {name: dataclasses.asdict(entry) for name, entry in entries.items()}
    index = {"format": "jscope", "version": _VERSION, "step": step, "arrays": arrays}
    (directory / FILE_NAME).write_text(json.dumps(index), encoding="utf-8")


def read_index(directory: Path, step: int) -> dict[str, Entry]:
    """The entries of a checkpoint, by name.

    Raises:
        ValueError: If the index is damaged, of another step, or of a version unknown here.
        OSError: If it can't be read.
    """
    index = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
    if not isinstance(index, dict) or index.get("format") != "jscope":
        raise ValueError(f"{FILE_NAME} is not the index of a checkpoint")
    if index.get("version") != _VERSION:
        version = index.get("version")
        raise ValueError(f"{FILE_NAME} has version {version!r}; this jscope reads {_VERSION}")
    if index.get("step") != step:
        raise ValueError(f"{FILE_NAME} is the index of step {index.get('step')!r}")
    arrays = index.get("arrays")
    if not isinstance(arrays, dict):
        raise ValueError(f"{FILE_NAME} lists no arrays")
    return {name: _entry(name, members) for name, members in arrays.items()}


def _entry(name: str, members: Any) -> Entry:
    try:
        shape, stored_shape = _shape(members["shape"]), _shape(members["stored_shape"])
        entry = Entry(**{**members, "shape": shape, "stored_shape": stored_shape})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{FILE_NAME} is damaged at {name!r}: {members!r}") from error
    texts = (entry.dtype, entry.stored_dtype, entry.key_impl or "")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{FILE_NAME} is damaged at {name!r}: {members!r}")
    return entry


def _shape(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, list) or not all(type(n) is int and n >= 0 for n in sizes):
        raise TypeError(f"{sizes!r} is not a shape")
    return tuple(sizes)
