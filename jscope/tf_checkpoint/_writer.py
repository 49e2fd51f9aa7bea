"""Writing bundles, byte for byte as TensorFlow does; `_bundle` describes the format.

A checkpoint appears at once or not at all: data files first, then the index, each under a
temporary name, forced to disk, and renamed. Without the index there is no checkpoint. A stale
file of a crashed writer is called ``*.tempstate*``, and may be deleted.
"""

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._errors import CheckpointExistsError, CheckpointValueError
from .._paths import local
from . import _dtypes
from ._boxes import Box, bounds, box_bytes, is_whole, part_key, shape_bytes
from ._build import table
from ._bundle import VERSION
from ._files import appear, writing
from ._shard import Shard
from ._span import BYTES, FIXED32, VARINT, present
from ._span import field as proto
from ._state import append_state, check_state
from ._values import Part, as_array


@dataclass
class _Row:
    """An entry of the index that is being written."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int = 0
    size: int = 0
    checksum: int = 0
    boxes: list[tuple[int, Box]] = field(default_factory=list)  # each after its shard

    def __bytes__(self) -> bytes:
        numbers = ((3, self.shard), (4, self.offset), (5, self.size))
        return b"".join(
            [
                proto(1, VARINT, self.dtype),
                proto(2, BYTES, shape_bytes(self.shape)),
                *(present(number, value) for number, value in numbers),
                proto(6, FIXED32, self.checksum) if self.checksum else b"",
                *(proto(7, BYTES, box_bytes(box)) for _, box in self.boxes),
            ]
        )


class Writer:
    """Write a V2 checkpoint, one tensor at a time.

    >>> from jscope import tf_checkpoint
    >>> with tf_checkpoint.Writer("runs/model.ckpt-1000", shards=2) as writer:
    ...     writer.add("w", np.zeros((4, 2)))
    ...     for shard, rows in enumerate((np.s_[0:2, :], np.s_[2:4, :])):
    ...         writer.add("p", tf_checkpoint.Part(np.ones((2, 2)), (4, 2), rows), shard=shard)

    Only the tensor at hand and the index are in memory. When the block ends, the checkpoint
    appears; if it ends with an exception, nothing is left of it.

    Args:
        prefix: Where, such as ``"runs/model.ckpt-1000"``; folders are made.
        shards: Into how many data files.
        write_state: Whether to name this checkpoint as the latest in the file ``checkpoint`` of
            its folder, after those that the file names already.

    Raises:
        CheckpointExistsError: If there is a checkpoint; none is ever overwritten.
        CheckpointValueError: If the prefix can't be one, or there are no shards.
        CheckpointError: If the files can't be written.

    Source:
        ``tf.raw_ops.SaveV2`` and ``MergeV2Checkpoints``: the files are equal byte for byte, if
        names come in the same order (``tf.train.Saver`` sorts them). Differences: TF overwrites,
        and doesn't wait for the disk.
    """

    def __init__(
        self, prefix: str | os.PathLike[str], *, shards: int = 1, write_state: bool = True
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
        self._paths = [f"{self.prefix}.data-{s:05d}-of-{shards:05d}" for s in range(shards)]
        self._shards: list[Shard] = []
        self._rows: dict[bytes, _Row] = {}

    def __enter__(self) -> "Writer":
        self._refuse_to_overwrite()
        if self._write_state:
            check_state(self.prefix)
        mark = f".tempstate{secrets.token_hex(8)}"
        try:
            with writing(self.prefix):
                os.makedirs(os.path.dirname(self.prefix) or ".", exist_ok=True)
                for path in self._paths:
                    self._shards.append(Shard(path, mark))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        try:
            if kind is None:
                with writing(self.prefix):
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
        key = _key(name)
        if isinstance(value, Part):
            box, shape = value.box(name), tuple(value.shape)
            array, dtype = as_array(name, value.value)
            if not is_whole(box, shape):
                self._add_box(name, dtype, shape, shard, box)
                key = part_key(name, box)
        else:
            array, dtype = as_array(name, value)
        if key in self._rows:
            raise CheckpointValueError(f"{name!r} is written twice: give each variable its name.")
        offset = self._shards[shard].size
        with writing(self._paths[shard]):
            size, checksum = self._shards[shard].append(array)
        self._rows[key] = _Row(dtype, array.shape, shard, offset, size, checksum)

    def _add_box(self, name: str, dtype: int, shape: tuple[int, ...], shard: int, box: Box) -> None:
        """Record a part in the entry of its whole."""
        whole = self._rows.setdefault(name.encode(), _Row(dtype, shape, shard))
        if (whole.dtype, whole.shape) != (dtype, shape) or (whole.size and not whole.boxes):
            raise CheckpointValueError(
                f"A part of {name!r} is of {_dtypes.name_of(dtype)} {shape}, but it was written as "
                f"{_dtypes.name_of(whole.dtype)} {whole.shape} before: all parts are of one whole."
            )
        whole.boxes.append((shard, box))

    def _finish(self) -> None:
        """Everything to disk, data before the index, and the names last."""
        self._check_parts()
        for shard in self._shards:
            shard.finish()
        self._refuse_to_overwrite()
        for shard in self._shards:
            shard.appear()
        header = proto(1, VARINT, len(self._shards)) + proto(3, BYTES, proto(1, VARINT, VERSION))
        rows = [(b"", header), *((key, bytes(row)) for key, row in sorted(self._rows.items()))]
        appear(self.prefix + ".index", table(rows))
        if self._write_state:
            append_state(self.prefix)

    def _check_parts(self) -> None:
        """Every partitioned variable is there, and no part of it twice."""
        for key, row in self._rows.items():
            if not row.boxes:
                continue
            # TensorFlow merges shards in order, and keeps the order of parts within each.
            row.boxes.sort(key=lambda item: item[0])
            row.shard = row.boxes[0][0]
            filled = np.zeros(row.shape, np.uint8)
            for _, box in row.boxes:
                filled[bounds(box, row.shape)] += 1
            if (filled != 1).any():
                raise CheckpointValueError(
                    f"The parts of {key.decode()!r} don't cover {row.shape} once each, but "
                    f"{(filled == 0).sum()} elements never and {(filled > 1).sum()} more often."
                )

    def _close(self) -> None:
        for shard in self._shards:
            shard.close()
        self._shards.clear()

    def _refuse_to_overwrite(self) -> None:
        if os.path.exists(self.prefix + ".index"):
            raise CheckpointExistsError(
                f"There is a checkpoint at {self.prefix!r}. Write to another name, such as one "
                "with the step behind it, or delete its files first."
            )


def write(
    prefix: str | os.PathLike[str],
    tensors: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    write_state: bool = True,
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

    Returns:
        The prefix.

    Raises:
        CheckpointError: As `Writer` and `Writer.add`.
    """
    with Writer(prefix, write_state=write_state) as writer:
        for name, value in tensors.items() if isinstance(tensors, Mapping) else tensors:
            writer.add(name, value)
    return writer.prefix


def _key(name: str) -> bytes:
    """A name as it is stored."""
    try:
        key = name.encode()
    except UnicodeEncodeError:
        key = b""
    if not key or key.startswith(b"\0"):
        raise CheckpointValueError(f"{name!r} can't be the name of a variable.")
    return key
