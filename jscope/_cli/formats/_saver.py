"""Checkpoints in directories: of `jscope.Saver`, and of Orbax and others."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._errors import CheckpointError, CheckpointNotFoundError
from ..._paths import absolute
from .._command import CommandError
from ._protocol import Array, Checkpoint, Variable

if TYPE_CHECKING:
    from ...saver._opening import SavedVariable


def is_tensorflow(path: str) -> bool:
    """Whether a directory is TensorFlow's, by the names in it and nothing else."""
    names = os.listdir(path)
    state = Path(path, "checkpoint")
    if state.is_file():
        # A Saver of jscope calls its own state so too, which is JSON.
        with state.open("rb") as file:
            return not file.read(64).lstrip().startswith(b"{")
    return any(name.endswith(".index") or name == "saved_model.pb" for name in names)


def open_saved(path: str) -> Checkpoint | None:
    """A checkpoint that `jscope.Saver.open` opens; the newest one of a directory of them.

    Returns:
        The checkpoint, or None if there is none.
    """
    from ...formats._finding import open_checkpoint
    from ...formats._index import check_files
    from ...formats._orbax import OrbaxSource
    from ...formats._source import OwnSource
    from ...saver._opening import Checkpoint as Opened

    try:
        source = open_checkpoint(absolute(path), absolute(path))
    except CheckpointNotFoundError:
        return None
    variables = {name: _variable(saved) for name, saved in Opened(source).items()}
    if not isinstance(source, OwnSource):
        format = "Orbax checkpoint" if isinstance(source, OrbaxSource) else "checkpoint"
        return Checkpoint(str(source.path), format, variables, "")
    index = source.index

    def check() -> None:
        try:
            check_files(source.path, index)
        except (ValueError, OSError) as error:
            raise CheckpointError(f"{source.path} is damaged: {error}") from error

    format = f"step {index.step} of jscope's Saver"
    return Checkpoint(str(source.path), format, variables, "CRC-32C", check)


def _variable(saved: "SavedVariable") -> Variable:
    if saved.kind.startswith("python "):
        value = _as_array(saved.read())
        return Variable(value.shape, value.dtype, value.nbytes, lambda: value, saved.kind)
    read = functools.partial(_read, saved)
    if saved.kind.startswith("key<"):
        data = np.empty(0, np.uint32)
        size = saved.nbytes // data.itemsize
        shape = (*saved.shape, size // max(1, int(np.prod(saved.shape))))
        return Variable(shape, data.dtype, saved.nbytes, read, saved.kind)
    return Variable(saved.shape, saved.dtype, saved.nbytes, read, saved.kind)


def _read(saved: "SavedVariable") -> Array:
    return _as_array(saved.read())


def _as_array(value: object) -> Array:
    """An array of NumPy; keys as their data, text as bytes."""
    import jax

    if isinstance(value, jax.Array):
        return np.asarray(jax.random.key_data(value))
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")  # as the names of files may have them
    return (
        np.array(value, object) if value is None or isinstance(value, bytes) else np.asarray(value)
    )


@contextmanager
def create_saved(path: str, variables: Mapping[str, Variable]) -> Iterator["_Writer"]:
    """A new step of a directory of `jscope.Saver`: ``DIRECTORY/STEP``."""
    from ...saver._streaming import check_values, streaming

    place = absolute(path)
    if not is_step(place.name):
        raise CommandError(f"{path!r} doesn't end with a step", "DIRECTORY/STEP, as runs/bert/1000")
    check_values([(name, np.empty(0, v.dtype)) for name, v in variables.items()])
    with streaming(place.parent, int(place.name)) as write:
        yield _Writer(write)


def is_step(name: str) -> bool:
    """Whether a directory of this name can be a step."""
    return name.isascii() and name.isdigit() and str(int(name)) == name


class _Writer:
    def __init__(self, write: Callable[[str, Any], None]):
        self._write = write

    def write(self, name: str, array: Array) -> None:
        self._write(name, array)
