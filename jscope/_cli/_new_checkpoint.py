"""Making a new checkpoint in a format by its name."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from .. import tf_checkpoint
from .._stores.paths import absolute, located
from .._stores.remote import RemotePath
from .._stores.upload import new_files
from ..formats import npz, safetensors
from ..formats._file_entry import Array, Entry
from ..formats._sharded_safetensors import ShardWriter
from ._command import CommandError

NAMES = ("tensorflow", "safetensors", "npz", "jscope")
_BY_ENDING = {".npz": "npz", ".safetensors": "safetensors", ".ckpt": "tensorflow"}


def format_of(path: str) -> str | None:
    """The format that the name of a new checkpoint suggests, or None."""
    last = os.path.basename(path)
    if last.isdecimal():
        return "jscope"
    # model.ckpt-1000 is how TensorFlow calls step 1000.
    ending = os.path.splitext(last)[1].partition("-")[0]
    return _BY_ENDING.get(ending)


class Writer(Protocol):
    """What the command ``convert`` writes a new checkpoint by, variable by variable."""

    def write(self, name: str, array: Array) -> None: ...


def create(
    format: str, path: str, variables: Mapping[str, Entry], shard_size: int | None
) -> AbstractContextManager[Writer]:
    """Create a new checkpoint for the command ``convert``; leaving ``with`` lets it appear.

    Args:
        format: One of `NAMES`.
        path: Where.
        variables: What will be written.
        shard_size: The most bytes in each file of safetensors; None for one file.

    Raises:
        CheckpointValueError: If the format can't hold some; all such are listed.
        CheckpointExistsError: If the path exists.
    """
    place = located(path)
    if isinstance(place, RemotePath) and format != "jscope":
        return _uploaded(format, place, variables, shard_size)
    if format == "npz":
        return npz.Writer(Path(path), variables)
    if shard_size is not None:
        return ShardWriter(absolute(path), dict(sorted(variables.items())), shard_size)
    if format == "safetensors":
        return safetensors.Writer(Path(path), variables)
    return _new_step(path, variables) if format == "jscope" else _new_tensorflow(path)


@contextmanager
def _uploaded(
    format: str, target: RemotePath, variables: Mapping[str, Entry], shard_size: int | None
) -> Iterator[Writer]:
    """A new checkpoint in a store: written to files of this machine first."""
    with new_files(target) as path, create(format, str(path), variables, shard_size) as writer:
        yield writer


@contextmanager
def _new_step(path: str, variables: Mapping[str, Entry]) -> Iterator[Writer]:
    """A new checkpoint that is a step of a directory of `jscope.Saver`: ``DIRECTORY/STEP``."""
    from ..saver._stream import check_values, streaming

    place = located(path)
    if not _is_step(place.name):
        raise CommandError(f"{path!r} doesn't end with a step", "DIRECTORY/STEP, as runs/bert/1000")
    check_values([(name, np.empty(0, v.dtype)) for name, v in variables.items()])
    with streaming(place.parent, int(place.name)) as write:
        yield _FunctionWriter(write)


def _is_step(name: str) -> bool:
    """Whether the name of a new checkpoint is a step of a Saver."""
    return name.isascii() and name.isdigit() and str(int(name)) == name


@contextmanager
def _new_tensorflow(path: str) -> Iterator[Writer]:
    """A new checkpoint of TensorFlow's; the ``checkpoint`` file of its folder is left alone."""
    with tf_checkpoint.Writer(path, write_state=False) as writer:
        yield _FunctionWriter(writer.add)


class _FunctionWriter:
    """A function of a name and an array by which a new checkpoint is written."""

    def __init__(self, write: Callable[[str, Array], object]):
        self._write = write

    def write(self, name: str, array: Array) -> None:
        self._write(name, array)
