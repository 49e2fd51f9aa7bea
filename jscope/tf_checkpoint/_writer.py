"""Writing bundles, byte for byte as TensorFlow does; `_v2_bundle` describes the format.

A checkpoint appears at once or not at all: data files first, then the index, each under a
temporary name, forced to disk, and renamed. Without the index there is no checkpoint. A stale
file of a crashed writer is called ``*.tempstate*``, and may be deleted.

Where the system supports it, it begins to write a data file's bytes while more are added, so that
the wait at the end is shorter: a bundle of 1 GB is on disk after 0.5 s here instead of 0.8.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import CheckpointExistsError, CheckpointValueError
from .._stores.disk import flush
from .._stores.errors import failing_writes
from .._stores.paths import local, located
from .._stores.remote import RemotePath
from .._stores.upload import new_files
from . import _dtypes
from ._bytes import BYTES, VARINT, field
from ._crc32c import extend_crc32c, masked_crc32c
from ._location import data_files
from ._partitions import Box, Extent, is_whole, part_key, part_shape, part_slices
from ._state_file import append_state, check_state
from ._table import table_bytes
from ._v2_bundle import VERSION, BundleRow, string_bytes

# Summed while it is in the processor's cache, and then written.
_PIECE = 1 << 20
_UNFORCED = 1 << 23


@dataclass(frozen=True)
class Part:
    """A part of a partitioned variable that a `Writer` writes.

    Attributes:
        value: The values of this part.
        shape: The shape of the whole.
        index: Which part it is, a slice per axis, as in ``whole[index]``; ``np.s_[0:2, :]``.

    Source:
        A ``tf.Variable`` with ``save_slice_info``. Of ``SaveV2``'s slice specs, ``:`` is TF's
        ``-`` and ``a:b`` its ``a,length``.
    """

    value: Any
    shape: Sequence[int]
    index: tuple[slice, ...] | slice

    def box(self, name: str) -> Box:
        """The index as it is stored."""
        index = self.index if isinstance(self.index, tuple) else (self.index,)
        box: list[Extent] = []
        for item, size in zip(index, self.shape, strict=False):
            if item == slice(None):
                box.append(None)
                continue
            start, stop, step = item.indices(size)
            if step != 1 or not 0 <= start < stop <= size or item.stop not in (None, stop):
                break
            box.append((start, stop - start))
        if not len(box) == len(index) == len(self.shape):
            raise CheckpointValueError(
                f"A part of {name!r} can't be {self.index!r} of shape {tuple(self.shape)}: write "
                "one slice per axis, without step, not empty and inside, such as np.s_[0:2, :]."
            )
        expected = part_shape(tuple(box), self.shape)
        if np.shape(self.value) != expected:
            raise CheckpointValueError(
                f"The part {self.index!r} of {name!r} has shape {np.shape(self.value)}, not "
                f"{expected}."
            )
        return tuple(box)


class _Shard:
    """A data file, or the index, that a `Writer` is writing.

    Args:
        path: Its name in the end.
        mark: What is behind that name until then.

    Raises:
        OSError: From any method.
    """

    def __init__(self, path: str, mark: str) -> None:
        self.path = path
        self.size = 0
        self._temporary = path + mark
        self._file = open(self._temporary, "xb", buffering=_PIECE)  # noqa: SIM115, see `close`
        self._forced = 0

    def append(self, array: NDArray[Any]) -> tuple[int, int]:
        """Write an array; its size in the file, and its masked checksum."""
        if array.dtype.hasobject:
            data, checksum = string_bytes(array.ravel())
            self.write(np.frombuffer(data, np.uint8))
            return len(data), checksum
        raw, crc = array.reshape(-1).view(np.uint8), 0
        for begin in range(0, raw.size, _PIECE):
            piece = raw[begin : begin + _PIECE]
            crc = extend_crc32c(crc, piece.data)
            self.write(piece)
        return raw.size, masked_crc32c(crc)

    def finish(self) -> None:
        """Wait until everything is on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def appear(self) -> None:
        """Take the name that is meant."""
        os.replace(self._temporary, self.path)

    def close(self) -> None:
        """Close the file; if it hasn't appeared, nothing is left of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._temporary)

    def write(self, piece: NDArray[np.uint8]) -> None:
        """Write bytes."""
        self._file.write(piece.data)
        self.size += piece.size
        length = self.size - self._forced
        if length >= _UNFORCED and hasattr(os, "posix_fadvise"):
            # Linux begins to write pages that are marked as not needed, and doesn't wait for it.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file.fileno(), self._forced, length, os.POSIX_FADV_DONTNEED)
            self._forced = self.size


class Writer:
    """Write a TensorFlow V2 checkpoint, one tensor at a time.

    >>> from jscope import tf_checkpoint
    >>> with tf_checkpoint.Writer("runs/model.ckpt-1000", shards=2) as writer:
    ...     writer.add("w", np.zeros((4, 2)))
    ...     for shard, rows in enumerate((np.s_[0:2, :], np.s_[2:4, :])):
    ...         writer.add("p", tf_checkpoint.Part(np.ones((2, 2)), (4, 2), rows), shard=shard)

    Only the tensor at hand and the index are in memory. When the block ends, the checkpoint
    appears; if it ends with an exception, nothing is left of it.

    With ``overwrite=True`` the files of a checkpoint of this prefix stay as they are until the new
    ones are on disk under temporary names. Then its index is removed, the new files appear, the
    index last, and data files that only the old one had are removed. A reader finds the old one,
    none, or the new one, and never a mixture.

    Args:
        prefix: Where, such as ``"runs/model.ckpt-1000"``; folders are made.
        shards: Into how many data files.
        write_state: Whether to name this checkpoint as the latest in the file ``checkpoint`` of
            its folder, after those that the file names already.
        overwrite: Whether to replace a checkpoint of this prefix.

    Raises:
        CheckpointExistsError: If there is a checkpoint and ``overwrite`` is false, or the prefix
            is a directory or a file, which readers would take for the checkpoint.
        CheckpointValueError: If the prefix can't be one, or there are no shards.
        CheckpointError: If the files can't be written.

    Source:
        ``tf.raw_ops.SaveV2`` and ``MergeV2Checkpoints``: the files are equal byte for byte, if
        names come in the same order (``tf.train.Saver`` sorts them). Differences: TF overwrites,
        and doesn't wait for the disk.
    """

    def __init__(
        self,
        prefix: str | os.PathLike[str],
        *,
        shards: int = 1,
        write_state: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.prefix = local(prefix)
        if os.path.basename(self.prefix) in ("", "checkpoint"):
            raise CheckpointValueError(
                f"{self.prefix!r} can't be what the names of a checkpoint's files begin with: "
                "write a name other than 'checkpoint', such as 'runs/model.ckpt-1000'."
            )
        if shards < 1:
            raise CheckpointValueError(f"A checkpoint can't have {shards} shards: write 1 or more.")
        self._write_state = write_state
        self._overwrite = overwrite
        self._paths = [f"{self.prefix}.data-{s:05d}-of-{shards:05d}" for s in range(shards)]
        self._mark = f".tempstate{secrets.token_hex(8)}"
        self._shards: list[_Shard] = []
        self._rows: dict[bytes, BundleRow] = {}
        self._parts: dict[str, list[tuple[int, Box]]] = {}  # each after its shard

    def __enter__(self) -> "Writer":
        self._refuse_what_is_there()
        if self._write_state:
            check_state(self.prefix)
        try:
            with failing_writes(self.prefix):
                os.makedirs(os.path.dirname(self.prefix) or ".", exist_ok=True)
                for path in self._paths:
                    self._shards.append(_Shard(path, self._mark))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        try:
            if kind is None:
                with failing_writes(self.prefix):
                    self._finish()
        finally:
            self._close()

    def add(self, name: str, value: object, *, shard: int = 0) -> None:
        """Write a tensor, or a part of one.

        Args:
            name: Its name. Parts of one variable have the same.
            value: What has a dtype and a shape (an array of NumPy or JAX, an `Entry`), a ``str``
                or ``bytes``, or a `Part`. A ``str`` is stored as UTF-8.
            shard: Into which data file.

        Raises:
            CheckpointValueError: If the name is taken, TensorFlow has no such dtype, or a part
                doesn't fit the others.
        """
        if not self._shards:
            raise CheckpointValueError(
                "A Writer writes inside its block: `with tf_checkpoint.Writer(path) as writer:`."
            )
        if not 0 <= shard < len(self._shards):
            raise CheckpointValueError(f"There is no shard {shard}, only {len(self._shards)}.")
        key = _checked_key(name)
        if isinstance(value, Part):
            box, shape = value.box(name), tuple(value.shape)
            array, dtype = _array_to_write(name, value.value)
            if not is_whole(box, shape):
                self._add_box(name, dtype, shape, shard, box)
                key = part_key(name, box)
        else:
            array, dtype = _array_to_write(name, value)
        if key in self._rows:
            raise CheckpointValueError(f"{name!r} is written twice: give each variable its name.")
        offset = self._shards[shard].size
        with failing_writes(self._paths[shard]):
            size, checksum = self._shards[shard].append(array)
        self._rows[key] = BundleRow(dtype, array.shape, shard, offset, size, checksum)

    def _add_box(self, name: str, dtype: int, shape: tuple[int, ...], shard: int, box: Box) -> None:
        """Record a part in the entry of its whole."""
        whole = self._rows.setdefault(name.encode(), BundleRow(dtype, shape, shard))
        parts = self._parts.setdefault(name, [])
        if (whole.dtype, whole.shape) != (dtype, shape) or (whole.size and not parts):
            raise CheckpointValueError(
                f"A part of {name!r} is of {_dtypes.name_of(dtype)} {shape}, but it was written as "
                f"{_dtypes.name_of(whole.dtype)} {whole.shape} before: all parts are of one whole."
            )
        parts.append((shard, box))

    def _finish(self) -> None:
        """Everything to disk, then the names of the data, of the index, and of the checkpoint."""
        self._check_parts()
        self._shards.append(self._index())  # from here on, files that appear in order
        for file in self._shards:
            file.finish()
        self._refuse_what_is_there()
        if self._overwrite:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.prefix + ".index")
            flush(Path(self.prefix).parent)
        for file in self._shards:
            file.appear()
        flush(Path(self.prefix).parent)
        if self._write_state:
            append_state(self.prefix)
        for path in data_files(self.prefix) if self._overwrite else ():
            if path not in self._paths:
                os.unlink(path)

    def _index(self) -> _Shard:
        header = field(1, VARINT, len(self._shards)) + field(3, BYTES, field(1, VARINT, VERSION))
        rows = [(b"", header), *((key, bytes(row)) for key, row in sorted(self._rows.items()))]
        index = _Shard(self.prefix + ".index", self._mark)
        index.write(np.frombuffer(table_bytes(rows), np.uint8))
        return index

    def _check_parts(self) -> None:
        """Every partitioned variable is there, and no part of it twice."""
        for name, parts in self._parts.items():
            key = name.encode()
            # TensorFlow merges shards in order, and keeps the order of parts within each.
            parts.sort(key=lambda item: item[0])
            shape, boxes = self._rows[key].shape, tuple(box for _, box in parts)
            self._rows[key] = self._rows[key]._replace(shard=parts[0][0], boxes=boxes)
            filled = np.zeros(shape, np.uint8)
            for box in boxes:
                filled[part_slices(box, shape)] += 1
            if (filled != 1).any():
                raise CheckpointValueError(
                    f"The parts of {name!r} don't cover {shape} once each, but "
                    f"{(filled == 0).sum()} elements never and {(filled > 1).sum()} more often."
                )

    def _close(self) -> None:
        for shard in self._shards:
            shard.close()
        self._shards.clear()

    def _refuse_what_is_there(self) -> None:
        if not self._overwrite and os.path.exists(self.prefix + ".index"):
            raise CheckpointExistsError(
                f"There is a checkpoint at {self.prefix!r}.",
                "Write to another name, such as one with the step behind it, or delete its files "
                "first; overwrite=True replaces them.",
            )
        if os.path.exists(self.prefix):
            kind = "directory" if os.path.isdir(self.prefix) else "file"
            raise CheckpointExistsError(
                f"{self.prefix!r} is a {kind}, and what reads this path finds the {kind}, not the "
                f"files {os.path.basename(self.prefix)}.index and .data-* beside it.",
                "Write to another name, such as 'runs/model.ckpt-1000'.",
            )


def write(
    prefix: str | os.PathLike[str],
    tensors: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    write_state: bool = True,
    overwrite: bool = False,
) -> str:
    """Write a V2 checkpoint that TensorFlow reads.

    >>> from jscope import tf_checkpoint
    >>> tf_checkpoint.write("runs/model.ckpt-2000", {"w": np.zeros(3), "step": np.int64(2000)})
    'runs/model.ckpt-2000'

    Args:
        prefix: Where; see `Writer`.
        tensors: Names and values, written in this order; see `Writer.add`. An iterable of pairs
            may name a variable several times, once for each `Part`.
        write_state: See `Writer`.
        overwrite: See `Writer`.

    Returns:
        The prefix.

    Raises:
        CheckpointError: As `Writer` and `Writer.add`.
    """
    place = located(prefix)
    if isinstance(place, RemotePath):
        with new_files(place, overwrite=overwrite) as path:
            write(path, tensors, write_state=write_state, overwrite=overwrite)
        return str(place)
    with Writer(prefix, write_state=write_state, overwrite=overwrite) as writer:
        for name, value in tensors.items() if isinstance(tensors, Mapping) else tensors:
            writer.add(name, value)
    return writer.prefix


def _checked_key(name: str) -> bytes:
    """The key under which a `Writer` stores a variable; a name that can't be one is refused."""
    try:
        key = name.encode()
    except UnicodeEncodeError:
        key = b""
    if not key or key.startswith(b"\0"):
        raise CheckpointValueError(f"{name!r} can't be the name of a variable.")
    return key


def _array_to_write(name: str, value: object) -> tuple[NDArray[Any], int]:
    """A value to write as a contiguous array, and the number of its dtype in TensorFlow.

    Strings become ``bytes``.
    """
    if isinstance(value, (str, bytes)):
        value = np.array(value, object)
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        raise CheckpointValueError(
            f"{name!r} is a {type(value).__name__}, which has no dtype of its own: write "
            "np.asarray(value, np.float32), say."
        )
    array = np.asarray(value, order="C")
    if array.dtype.kind in "SUO":
        return _strings_to_write(name, array), _dtypes.STRING
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    number = _dtypes.NUMBERS.get(array.dtype)
    if number is None:
        known = ", ".join(str(dtype) for dtype in _dtypes.NUMBERS)
        raise CheckpointValueError(
            f"{name!r} has dtype {array.dtype}, which TensorFlow has no number for. It has "
            f"{known}: convert it."
        )
    return array, number


def _strings_to_write(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array of strings to write, as ``bytes``; other objects are refused."""
    strings = np.empty(array.shape, object)
    for place, item in np.ndenumerate(array):
        if not isinstance(item, (str, bytes)):
            raise CheckpointValueError(
                f"{name!r} has dtype object and holds a {type(item).__name__}: TensorFlow's only "
                "objects are strings, so give bytes or str."
            )
        strings[place] = item.encode() if isinstance(item, str) else bytes(item)
    return strings
