"""Checkpoints of one file: npz and safetensors."""

from collections.abc import Mapping
from pathlib import Path

from ...formats import npz, safetensors
from ...formats._file_entry import Entry
from ._protocol import Checkpoint, Variable


def open_npz(path: str) -> Checkpoint:
    """An npz file."""
    return Checkpoint(path, "npz file", _variables(npz.open_file(Path(path))), "CRC-32")


def open_safetensors(path: str) -> Checkpoint:
    """A safetensors file."""
    variables = _variables(safetensors.open_file(Path(path)))
    return Checkpoint(path, "safetensors file", variables, "")


def create_npz(path: str, variables: Mapping[str, Variable]) -> npz.Writer:
    """A new npz file."""
    return npz.Writer(Path(path), variables)


def create_safetensors(path: str, variables: Mapping[str, Variable]) -> safetensors.Writer:
    """A new safetensors file."""
    return safetensors.Writer(Path(path), variables)


def _variables(entries: Mapping[str, Entry]) -> dict[str, Variable]:
    return {
        name: Variable(entry.shape, entry.dtype, entry.nbytes, entry.read, _kind(entry))
        for name, entry in entries.items()
    }


def _kind(entry: Entry) -> str:
    return "string" if entry.dtype.kind in "SU" else ""
