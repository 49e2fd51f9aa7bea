"""A checkpoint as a lazy mapping, and the functions that TensorFlow has for reading one.

**Object-based checkpoints**: ``tf.train.Checkpoint`` and Keras name what they save by the path of
attributes that leads to it, and keep the graph of objects in a string under `GRAPH`::

    TrackableObjectGraph { 1 nodes*: TrackableObject }
    TrackableObject      { 2 attributes*: SerializedTensor, ... }
    SerializedTensor     { 1 name; 2 full_name; 3 checkpoint_key }      strings

A variable's *full name* is the one it had in TensorFlow 1. The edges between nodes may form
circles; they are not needed, and not followed.
"""

import os
from collections.abc import Container, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from .._errors import CheckpointError, MissingVariableError, near
from ._bytes import BYTES, Span, message, pieces
from ._entry import Entry
from ._location import locate
from ._mapped_files import map_file
from ._v1_slices import Slices
from ._v2_bundle import Bundle

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class Checkpoint(Mapping[str, Entry]):
    """An opened TensorFlow checkpoint: an immutable mapping from each name to its `Entry`.

    Of an object-based checkpoint the names are the keys that TensorFlow lists, such as
    ``"model/dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"``; an entry is found under its variable's
    full name as well, such as ``"dense/kernel"``.

    The files stay mapped until the last array, entry and mapping over them is gone.

    Attributes:
        prefix: What the names of its files have in common; of V1 shards, a pattern.
        version: The format, 1 or 2.
    """

    def __init__(self, prefix: str, version: int, entries: dict[str, Entry]) -> None:
        self.prefix = prefix
        self.version = version
        self._entries = entries
        self._full_names: Mapping[str, str] | None = None

    def __getitem__(self, name: str) -> Entry:
        found = self._entries.get(name) or self._entries.get(self.full_names.get(name, ""))
        if found is None:
            raise MissingVariableError(
                f"No variable {name!r} in the checkpoint {self.prefix} "
                f"({near(name, [*self._entries, *self.full_names])})."
            )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self.full_names

    def __repr__(self) -> str:
        return f"<checkpoint {self.prefix!r}, V{self.version}: {len(self)} variables>"

    @property
    def full_names(self) -> Mapping[str, str]:
        """Of an object-based checkpoint, the key of each full variable name; else empty.

        A name that several variables share is left out.

        Raises:
            CheckpointError: If the object graph is damaged.
        """
        if self._full_names is None:
            graph = self._entries.get(GRAPH)
            names = full_names(graph, self._entries) if graph else {}
            self._full_names = MappingProxyType(names)
        return self._full_names

    def verify(self) -> dict[str, CheckpointError]:
        """Read everything and compare checksums, also after ``open(verify=False)``.

        Returns:
            What is wrong, by variable; empty if nothing is.
        """
        damaged = {}
        for name, entry in self._entries.items():
            try:
                entry._read(verify=True)
            except CheckpointError as error:
                damaged[name] = error
        return damaged


def open(path: str | os.PathLike[str], *, verify: bool = True) -> Checkpoint:
    """Open a TensorFlow checkpoint for reading.

    The index is read and checked; values are read on access.

    >>> from jscope import tf_checkpoint
    >>> prefix = tf_checkpoint.write("runs/model.ckpt-3000", {"dense/kernel": np.ones((2, 3))})
    >>> checkpoint = tf_checkpoint.open("runs")
    >>> checkpoint["dense/kernel"]
    <'dense/kernel': double (2, 3), 48 bytes>
    >>> checkpoint["dense/kernel"][1]
    array([1., 1., 1.])

    Args:
        path: A prefix such as ``"model.ckpt-1000"``, one of the checkpoint's files, a directory
            with a ``checkpoint`` file, a SavedModel, a V1 file or pattern; see `_location`.
        verify: Whether to compare checksums: the index's now, a tensor's each time it is read.

    Raises:
        CheckpointNotFoundError: If there is no checkpoint there, or more than one.
        CheckpointError: If a file is damaged; it names the file, the offset, and what was
            expected there.

    Source:
        ``tf.train.load_checkpoint``, which finds neither ``.index`` nor SavedModels, and gives
        copies.
    """
    found = locate(path)
    files = [map_file(file) for file in found.files]
    if found.version == 2:
        entries = Bundle(found.prefix, files[0], verify).entries(verify)
    else:
        entries = Slices(found.prefix, files, verify).entries(verify)
    return Checkpoint(found.prefix, found.version, entries)


def list_variables(ckpt_dir_or_file: str | os.PathLike[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of all variables of a TensorFlow checkpoint, sorted by name.

    Source:
        ``tf.train.list_variables``; the shapes are tuples, not lists.
    """
    return sorted((name, entry.shape) for name, entry in open(ckpt_dir_or_file).items())


def load_variable(ckpt_dir_or_file: str | os.PathLike[str], name: str) -> NDArray[Any]:
    """Load one variable of a TensorFlow checkpoint; ``":0"`` behind its name is ignored.

    Source:
        ``tf.train.load_variable``.
    """
    checkpoint = open(ckpt_dir_or_file)
    bare = name.removesuffix(":0")
    return checkpoint[name if name in checkpoint else bare].read()


def full_names(graph: Entry, keys: Container[str]) -> dict[str, str]:
    """The key of each variable's full name in the object graph of a TensorFlow checkpoint."""
    where = graph.where[0]
    span = Span(graph.read().item(), f"{where.file}, inside the string {GRAPH!r}")
    found: dict[str, str | None] = {}
    for node in pieces(span, 1):
        for attribute in pieces(node, 2):
            name = key = ""
            for number, _, begin, end in message(attribute, {2: (BYTES,), 3: (BYTES,)}):
                if number == 2:
                    name = attribute.cut(begin, end).text()
                else:
                    key = attribute.cut(begin, end).text()
            if name and key in keys:
                found[name] = key if found.get(name, key) == key else None
    return {name: key for name, key in found.items() if key is not None}
