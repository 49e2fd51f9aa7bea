"""Tensors in several safetensors files and an index of them, as Hugging Face's libraries have it.

A directory has one file, or shards and their index::

    model.safetensors
    model-00001-of-00003.safetensors, ..., model.safetensors.index.json

The index is an object with ``weight_map``, from the name of each tensor to its file, and
``metadata``, with ``total_size``, the bytes of all tensors.

`split` fills one shard after the other, in the order of the tensors. A tensor that is larger than
a shard may be has one of its own. Sizes such as ``"5GB"`` are powers of ten.

The files appear when all of them are on disk, the index last. Where old files are replaced, no
state in between is a mixture:

* one file replaces one of the same name by a rename, and an old index and its shards go then;
* shards of new names appear, the new index replaces the old one, and the old files go then;
* shards of the old names can't appear beside the old ones: the old index goes first, then the
  old shards, and until the new index is there the directory has no checkpoint.

Source: huggingface_hub 2.4, ``serialization/_base.py`` and ``_torch.py``. One difference: there,
old files are removed before new ones are written.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from .._errors import CheckpointError, CheckpointExistsError, CheckpointNotFoundError, listed
from .._stores.disk import flush
from .._stores.new_file import NewFile
from . import safetensors
from ._file_entry import Array, Signature
from ._open import open as open_checkpoint

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# transformers refuses files that don't say so, although all frameworks' are alike.
_METADATA = {"format": "pt"}
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(|[KMGT]B)\s*", re.IGNORECASE)
_FILE = re.compile(r"model(?:-\d{5,}-of-\d{5,})?\.safetensors|model\.safetensors\.index\.json")


def size_of(text: str) -> int | None:
    """The most bytes of a shard, from a text such as ``"5GB"``; None if it isn't a size."""
    match = _SIZE.fullmatch(text)
    return int(float(match[1]) * _UNITS[match[2].upper()]) if match else None


def split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Split tensors into shards: the names of the tensors of each.

    >>> split({"a": 6, "b": 6, "c": 2, "d": 6, "e": 2, "f": 2}, limit=10)
    [['a'], ['b', 'c'], ['d', 'e', 'f']]

    Args:
        sizes: The bytes of each tensor.
        limit: The most bytes in a shard, except one tensor that has more.
    """
    shards: list[list[str]] = []
    shard: list[str] = []
    size = 0
    for name, more in sizes.items():
        if more > limit:
            shards.append([name])
            continue
        if size + more > limit:
            shards.append(shard)
            shard, size = [], 0
        shard.append(name)
        size += more
    return [*shards, shard] if shard or not shards else shards


class ShardWriter:
    """Writes tensors in any order to sharded safetensors files; leaving ``with`` lets them appear.

    Few files are open at a time if the order is that of ``signatures``.

    Args:
        directory: Where; it is made.
        signatures: The name, shape and dtype of each tensor that will be written.
        limit: The most bytes of tensors in a file, except one tensor that has more.
        metadata: Strings for the headers, and for the index if there is one.
        overwrite: Whether to replace the files of an earlier export.

    Raises:
        CheckpointValueError: If a tensor can't be stored; all such are listed.
        CheckpointExistsError: If there are such files already.
        CheckpointError: If something can't be written.
    """

    def __init__(
        self,
        directory: Path,
        signatures: Mapping[str, Signature],
        limit: int,
        metadata: Mapping[str, str] | None = None,
        *,
        overwrite: bool = False,
    ):
        safetensors.check_signatures(signatures)
        self._directory = directory
        self._signatures = signatures
        self._metadata = dict(metadata or {})
        self._overwrite = overwrite
        self._sizes = {name: safetensors.nbytes(of) for name, of in signatures.items()}
        shards = split(self._sizes, limit)
        self._shards = dict(zip(_shard_names(len(shards)), shards, strict=True))
        self._file_of = {name: file for file, names in self._shards.items() for name in names}
        self._open: dict[str, safetensors.Writer] = {}
        self._finished: dict[str, NewFile] = {}
        self._is_made = False

    def write(self, name: str, array: Array) -> None:
        """Write one of the tensors."""
        file = self._file_of[name]
        with _failing_writes(self._directory):
            writer = self._open.get(file) or self._start(file)
            writer.write(name, array)
            if writer.is_complete:
                self._finished[file] = writer.finish()
                del self._open[file]

    def __enter__(self) -> Self:
        self._refuse_what_is_there()
        self._is_made = not self._directory.exists()
        with _failing_writes(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        try:
            if kind is None:
                with _failing_writes(self._directory):
                    self._finish()
                    self._appear()
        finally:
            self._discard()

    def _start(self, file: str) -> safetensors.Writer:
        self._open[file] = safetensors.Writer(
            self._directory / file,
            {name: self._signatures[name] for name in self._shards[file]},
            _METADATA | self._metadata,
            overwrite=self._overwrite,
        )
        return self._open[file]

    def _finish(self) -> None:
        """Flush all files to disk, the index too."""
        for file, names in self._shards.items():
            if not names:  # the one file of no tensors at all
                self._finished[file] = self._start(file).finish()
        assert self._finished.keys() == self._shards.keys()
        if len(self._shards) > 1:
            total = {"total_size": sum(self._sizes.values())}
            index = {"metadata": self._metadata | total, "weight_map": self._file_of}
            self._finished[INDEX] = NewFile(self._directory / INDEX, overwrite=self._overwrite)
            text = json.dumps(index, indent=2, sort_keys=True) + "\n"
            os.write(self._finished[INDEX].descriptor, text.encode())
            self._finished[INDEX].finish()

    def _appear(self) -> None:
        self._refuse_what_is_there()
        old = set(_export_files(self._directory))
        if len(self._shards) > 1 and old & self._shards.keys():
            self._remove(old & {INDEX})
            self._remove(old & self._shards.keys())
            old -= {INDEX, *self._shards}
        appeared: set[str] = set()
        try:
            for file in sorted(self._finished, key=lambda name: name == INDEX):
                if file == INDEX:
                    flush(self._directory)
                appeared.add(file)
                self._finished[file].appear()
        except BaseException:
            self._remove(appeared - old)  # without their index they are not a checkpoint
            raise
        flush(self._directory)
        self._remove(old & {INDEX} - self._finished.keys())
        self._remove(old - self._finished.keys())

    def _remove(self, files: Iterable[str]) -> None:
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._directory / file)
        flush(self._directory)

    def _discard(self) -> None:
        for writer in self._open.values():
            with contextlib.suppress(OSError):
                writer.discard()
        for file in self._finished.values():
            with contextlib.suppress(OSError):
                file.discard()
        if self._is_made:
            with contextlib.suppress(OSError):  # it has files
                self._directory.rmdir()

    def _refuse_what_is_there(self) -> None:
        there = _export_files(self._directory)
        if there and not self._overwrite:
            raise CheckpointExistsError(
                f"{self._directory} has {listed(there, most=3)}, and a checkpoint is not "
                "overwritten without a request.",
                "Write to another directory, or remove these files first; overwrite=True "
                "replaces them.",
            )
        other = None if there else _other_checkpoint(self._directory)
        if other is not None:
            raise CheckpointExistsError(
                f"{self._directory} has another checkpoint, {other}, and what reads this directory "
                "could find either.",
                "Write to another directory, or to one in it.",
            )


@contextlib.contextmanager
def _failing_writes(directory: Path) -> Iterator[None]:
    """Raise a `CheckpointError` where the system refuses to write sharded safetensors."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{directory} can't be written: {error.strerror}.") from error


def _shard_names(count: int) -> list[str]:
    """The names of the files of so many shards."""
    if count == 1:
        return [ONE_FILE]
    return [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def _export_files(directory: Path) -> list[str]:
    """The safetensors files in a directory of an earlier export, the index of the shards first."""
    if not directory.is_dir():
        return []
    found = [name for name in os.listdir(directory) if _FILE.fullmatch(name)]
    return sorted(found, key=lambda name: (name != INDEX, name))


def _other_checkpoint(directory: Path) -> str | None:
    """The format of a checkpoint where shards are to go, if it isn't safetensors."""
    if not directory.is_dir():
        return None
    try:
        with contextlib.closing(open_checkpoint(directory)) as source:
            return None if source.format == "safetensors file" else source.format
    except CheckpointNotFoundError:
        return None
    except CheckpointError:
        return "which is damaged"
