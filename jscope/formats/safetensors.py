r"""safetensors files: one header, then the bytes of all tensors.

The format, all integers little-endian::

    file   := n:u64 | header, n bytes | data, to the end of the file
    header := a JSON object in UTF-8 that begins with "{", padded with spaces at the end:
              name: {"dtype": code, "shape": [sizes], "data_offsets": [begin, end]}
              "__metadata__": {string: string}                                   optional

Offsets count from the beginning of the data; end - begin is the size by shape and dtype. The
tensors cover the data without holes or overlaps, in any order, as C-ordered elements. There is
no checksum. The codes of dtypes are in `_CODES`; ``F4`` and the ``F6``, which pack elements
across bytes, have none in NumPy and are refused.

`open_file` reads the header alone and checks every number in it against the file's size before
anything is allocated. `Writer` sorts tensors by falling size of element, then by name, as the
library does, so that all are aligned.

Source: https://github.com/huggingface/safetensors, README "Format" and
``safetensors/src/tensor.rs`` (0.8). Their library's NumPy side reads no bfloat16 and writes a whole
dictionary at once, hence this file.
"""

import contextlib
import dataclasses
import json
import math
import mmap
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import ml_dtypes
import numpy as np

from .._errors import CheckpointError, CheckpointValueError, listed
from .._stores.errors import StoreError
from .._stores.files import EndOfFileError, File, LocalFile, first_bytes, read_file
from .._stores.files import open_file as file_of
from .._stores.new_file import NewFile
from .._stores.remote import AnyPath, children
from ._boxes import Box, contiguous, slices, whole
from ._file_entry import Array, Signature
from ._json_members import mapping, member
from ._source import Extent

_CODES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
_CODE_OF = {dtype: code for code, dtype in _CODES.items()}
_LONGEST_HEADER = 100_000_000  # the library's own limit
_METADATA = "__metadata__"


_SHARD = re.compile(r"(.*)-([0-9]{5,9})-of-([0-9]{5,9})\.safetensors", re.DOTALL)
_INDEX = ".safetensors.index.json"
_LONGEST_INDEX = 1 << 28
# Of an object, runs of bytes that are shorter, or have less between them, are not read by a request
# each, but together with what is between them, so much at a time.
_SHORT_RUN = 1 << 14
_BAND = 32 << 20


class _File:
    """A safetensors file, opened anew by each call; an object of a store is kept."""

    def __init__(self, path: AnyPath):
        self.path = path
        self.name = str(path)
        self._kept = None if isinstance(path, Path) else file_of(path)

    def __call__(self) -> contextlib.AbstractContextManager[File]:
        if self._kept is not None:
            return contextlib.nullcontext(self._kept)
        return contextlib.closing(file_of(self.path, follow=True))

    def read_into(self, start: int, memory: memoryview) -> None:
        """As `File.read_into`, of several tensors."""
        with _reading_tensors(self.path, "a tensor"), self() as file:
            file.read_into(start, memory)


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of an opened safetensors file, as an `Entry`.

    Attributes:
        file: The file.
        name: The tensor's name.
        shape: Its shape.
        dtype: Its dtype.
        offset: Where its bytes begin.
    """

    file: _File
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def extent(self) -> Extent:
        """Where its bytes are."""
        return Extent(self.file.name, self.offset, self.file.read_into)

    def read(self) -> Array:
        """Read it as a new array."""
        array = np.empty(self.shape, self.dtype)
        self.read_box(whole(self.shape), array)
        return array

    def read_box(self, box: Box, into: Array) -> None:
        """Read a box, and no other bytes if it is contiguous.

        Else by a map of the file; of an object each run of bytes, or all between the first and the
        last if the runs are short.
        """
        first = contiguous(box, self.shape)
        arguments = self.shape, self.dtype, self.offset, box, into
        with _reading_tensors(self.file.path, f"tensor {self.name!r}"), self.file() as file:
            if first is not None:
                _fill_box(file, self.offset + first * self.dtype.itemsize, into)
            elif isinstance(file, LocalFile):
                _read_mapped(file, *arguments)
            else:
                _read_runs(file, *arguments)


@contextlib.contextmanager
def _reading_tensors(path: AnyPath, what: str) -> Iterator[None]:
    """Raise what goes wrong while tensors are read as a `CheckpointError`."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}.") from error
    except ValueError as error:  # it was whole when it was opened
        where = f", at {error.end}" if isinstance(error, EndOfFileError) else f": {error}"
        raise _damaged(path, f"it ends within {what}{where}") from error


class Tensors(dict[str, Tensor]):
    """The tensors of a safetensors file, or of several, by name.

    Attributes:
        metadata: The strings in the header, or what an index has beside the names.
    """

    metadata: Mapping[str, Any] = MappingProxyType({})


def is_file(path: AnyPath) -> bool:
    """Whether a file has the name of a safetensors file or its index, or begins with its header."""
    if path.name.endswith((".safetensors", _INDEX)):
        return True
    first = first_bytes(path, 9, follow=True)
    return first[8:] == b"{" and int.from_bytes(first[:8], "little") <= _LONGEST_HEADER


def is_directory(path: AnyPath) -> bool:
    """Whether a directory has a safetensors file or index."""
    return any(file.name.endswith((".safetensors", _INDEX)) for file in path.iterdir())


def open_any(path: AnyPath) -> Tensors:
    """Open safetensors for reading: a file, an index, or a directory, whose index is obeyed.

    Raises:
        CheckpointError: If one is damaged, a file of the index is missing, or it is unknown which
            file has a tensor.
    """
    if path.is_file():
        return _open_index(path) if path.name.endswith(_INDEX) else open_file(path)
    indices = children(path, f"*{_INDEX}")
    if len(indices) > 1:
        raise CheckpointError(
            f"{path} has several indices: {listed(index.name for index in indices)}. Give the path "
            "of one."
        )
    if indices:
        return _open_index(indices[0])
    files = children(path, "*.safetensors")
    _check_shards(path, [file.name for file in files])
    return _tensors_together(path, [open_file(file) for file in files])


def _check_shards(path: AnyPath, names: Sequence[str]) -> None:
    """Refuse to read some of the safetensors files without an index, as a failed export leaves."""
    found: dict[tuple[str, int], set[int]] = {}
    for name in names:
        match = _SHARD.fullmatch(name)
        if match:
            found.setdefault((match[1], int(match[3])), set()).add(int(match[2]))
    for (model, count), numbers in found.items():
        if len(numbers) < count:
            raise CheckpointError(
                f"{path} has {len(numbers)} of the {count} shards {model}-*-of-{count:05d}."
                "safetensors, and no index that names their tensors. Fetch the others and the "
                "index, or give the path of a file that is there."
            )


def _tensors_together(path: AnyPath, files: Sequence[Tensors]) -> Tensors:
    """The tensors of several opened safetensors files as those of one, each name once."""
    found = Tensors()
    for tensors in files:
        duplicates = [name for name in tensors if name in found]
        if duplicates:
            raise CheckpointError(
                f"Several files in {path} have {listed(duplicates)}. Restore from one of the files."
            )
        found |= tensors
    if len(files) == 1:
        found.metadata = files[0].metadata
    return found


def _open_index(path: AnyPath) -> Tensors:
    """Open each safetensors file that an index names; other files and other tensors are ignored.

    Source: https://huggingface.co/docs/transformers, "Sharded checkpoints": an object with
    ``weight_map``, from each name to its file, and ``metadata``.
    """
    try:
        files, metadata = _read_index(path)
    except StoreError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        problem = f"is not an index of safetensors, or damaged: {error}."
        raise CheckpointError(f"{path} {problem}") from error
    shards = sorted(set(files.values()))
    missing = [file for file in shards if not (path.parent / file).is_file()]
    if missing:
        lost = sum(file in missing for file in files.values())
        raise CheckpointError(
            f"{path.parent} lacks {len(missing)} of the {len(shards)} files that {path.name} "
            f"names: {listed(missing)}, with {lost} of {len(files)} tensors. Fetch them, or give "
            "the path of a file that is there."
        )
    opened = {file: open_file(path.parent / file) for file in shards}
    absent = [f"{name!r} ({file})" for name, file in files.items() if name not in opened[file]]
    if absent:
        raise CheckpointError(
            f"{path.name} names {len(absent)} tensors that their files don't have: "
            f"{listed(absent)}. Fetch the index and its files again."
        )
    found = Tensors({name: opened[file][name] for name, file in files.items()})
    found.metadata = metadata
    return found


def _read_index(path: AnyPath) -> tuple[dict[str, str], dict[str, Any]]:
    """Read which safetensors file has each tensor, and the metadata, from an untrusted index."""
    size = path.stat().st_size if isinstance(path, Path) else 0  # that of an object isn't known
    if size > _LONGEST_INDEX:
        raise ValueError(f"it has {size} bytes, and an index has at most {_LONGEST_INDEX}")
    text = read_file(path, follow=True)
    members = mapping(json.loads(text, object_pairs_hook=_without_duplicates))
    files = member(members, "weight_map", mapping)
    for name, shard in files.items():
        # Only beside the index.
        if type(shard) is not str or shard in ("", ".", "..") or set("/\\\0") & set(shard):
            raise ValueError(f"of {name!r} it says {str(shard)[:100]!r}, not a file beside it")
    return files, mapping(members.get("metadata") or {})


def open_file(path: AnyPath) -> Tensors:
    """The tensors of a safetensors file, by name; only the header is read.

    Raises:
        CheckpointError: If the file can't be read or is damaged.
    """
    opened = _File(path)
    try:
        with opened() as file:
            length, text = _read_header(file)
    except StoreError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    start = 8 + length
    ends: list[tuple[int, int, str]] = []
    entries = Tensors()
    header = _header_members(path, text)
    for name in list(header):
        members = header.pop(name)
        if name == _METADATA:
            entries.metadata = _header_metadata(path, members)
            continue
        shape, dtype, begin, end = _checked_tensor(path, name, members)
        ends.append((begin, end, name))
        entries[name] = Tensor(opened, name, shape, dtype, start + begin)
    covered = 0
    for begin, end, name in sorted(ends):
        if begin != covered:
            raise _damaged(path, f"tensor {name!r} begins at {begin} of the data, not at {covered}")
        covered = end
    with opened() as file:
        if not file.has_size(start + covered):
            found = file.size - start
            raise _damaged(path, f"its tensors end at {covered} of the data, not at {found}")
    return entries


def _read_header(file: File) -> tuple[int, bytes]:
    """The length of a safetensors header, and the header.

    Raises:
        ValueError: If the file is too small for it.
    """
    is_whole = isinstance(file, LocalFile)
    length = 0
    try:
        length = int.from_bytes(file.read(0, 8), "little")
        if length <= _LONGEST_HEADER and not (is_whole and 8 + length > file.size):
            return length, file.read(8, 8 + length)
    except StoreError:
        raise
    except ValueError:
        pass
    raise ValueError(
        f"of {file.size} bytes, it can't hold a header of {length} bytes from offset 8"
    )


def _header_metadata(path: AnyPath, members: object) -> dict[str, str]:
    """The metadata in a safetensors header."""
    if not isinstance(members, dict) or not all(isinstance(v, str) for v in members.values()):
        raise _damaged(path, f"its {_METADATA!r} are not strings by name")
    return members


def _header_members(path: AnyPath, text: bytes) -> dict[str, Any]:
    """The members of a safetensors header, from its text."""
    if not text.startswith(b"{"):
        raise _damaged(path, f"its header begins with {text[:1]!r}, not with '{{'")
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON: {error}") from error
    return dict(header)  # it begins with a brace


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object in a safetensors header or index, no name twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has {name!r} twice")
    return members


def _checked_tensor(
    path: AnyPath, name: str, members: Any
) -> tuple[tuple[int, ...], np.dtype[Any], int, int]:
    """Shape, dtype, begin and end of a tensor in a header, each within its limits."""
    try:
        code, shape, (begin, end) = members["dtype"], members["shape"], members["data_offsets"]
        known = isinstance(code, str) and all(map(_is_size, [*shape, begin, end]))
        # NumPy's own limits, also where another size is 0.
        known = known and len(shape) <= 64 and math.prod(filter(None, shape)) < 1 << 60
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise _damaged(path, f"of tensor {name!r} its header says {str(members)[:100]}")
    if code not in _CODES:
        raise CheckpointError(
            f"{path}: tensor {name!r} has dtype {code!r}, which NumPy and ml_dtypes don't have. "
            f"Those that can be read are {', '.join(_CODES)}."
        )
    size = math.prod(shape) * _CODES[code].itemsize
    if end - begin != size:
        raise _damaged(
            path,
            f"tensor {name!r}, {code}{shape}, takes {size} bytes, not those from {begin} to {end}",
        )
    return tuple(shape), _CODES[code], begin, end


def _is_size(value: object) -> bool:
    """Whether a member of a safetensors header is a size or an offset."""
    return type(value) is int and 0 <= value < 1 << 63


def _fill_box(file: File, start: int, into: Array) -> None:
    """Read a box of a tensor whose bytes follow each other."""
    target = into if into.flags.c_contiguous else np.empty(into.shape, into.dtype)
    file.read_into(start, target.reshape(-1).view(np.uint8).data)
    if target is not into:
        into[...] = target


def _read_mapped(
    file: LocalFile,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    box: Box,
    into: Array,
) -> None:
    """Read a box of a tensor by a map of the file."""
    size = math.prod(shape) * dtype.itemsize
    if file.size < offset + size:
        raise EndOfFileError(file.path, file.size)
    with mmap.mmap(file.descriptor, 0, access=mmap.ACCESS_READ) as memory:
        array = np.frombuffer(memory, np.uint8, size, offset).view(dtype).reshape(shape)
        into[...] = array[slices(box)]
        del array  # or the map can't be closed


def _read_runs(
    file: File,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    box: Box,
    into: Array,
) -> None:
    """Read a box of a tensor by its runs of bytes, or with what is between them."""
    # The axes from here on are whole, so that what is picked of this one is a run of bytes.
    axis = max(i for i, pair in enumerate(box) if pair != (0, shape[i]))
    strides = [math.prod(shape[i + 1 :]) * dtype.itemsize for i in range(len(shape))]
    run = (box[axis][1] - box[axis][0]) * strides[axis]
    grid = np.indices(tuple(b - a for a, b in box[:axis])).reshape(axis, -1)
    corner = sum(a * stride for (a, _), stride in zip(box, strides, strict=True))
    starts = offset + corner + np.array(strides[:axis]) @ grid
    target = np.empty(into.shape, into.dtype)
    rows = target.reshape(-1).view(np.uint8).reshape(-1, run)
    gap = int(np.diff(starts).min(initial=_BAND)) - run
    if min(run, gap) < _SHORT_RUN:
        _read_bands(file, starts, rows)
    else:
        file.fill(zip(starts.tolist(), (row.data for row in rows), strict=True))
    into[...] = target


def _read_bands(file: File, starts: Array, rows: Array) -> None:
    """Read rows of bytes of a tensor from their starts in a file, with what is between them."""
    run = rows.shape[1]
    at = 0
    while at < len(starts):
        end = max(at + 1, int(np.searchsorted(starts, starts[at] + _BAND - run)))
        data = np.empty(int(starts[end - 1] - starts[at]) + run, np.uint8)
        file.read_into(int(starts[at]), data.data)
        for row, start in zip(rows[at:end], (starts[at:end] - starts[at]).tolist(), strict=True):
            row[:] = data[start : start + run]
        at = end


def _damaged(path: AnyPath, what: str) -> CheckpointError:
    """Compose the error: a file is not a safetensors file, or damaged."""
    return CheckpointError(f"{path} is not a safetensors file, or damaged: {what}.")


def has_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether a safetensors file can hold a dtype."""
    return dtype in _CODE_OF


def check_signatures(signatures: Mapping[str, Signature]) -> None:
    """Refuse tensors that a safetensors file can't hold.

    Raises:
        CheckpointValueError: If there are some; all are listed.
    """
    strange = [
        f"{name!r} is {of.dtype}" for name, of in signatures.items() if of.dtype not in _CODE_OF
    ]
    if strange:
        raise CheckpointValueError(
            f"safetensors has no dtype for {len(strange)} of these: {'; '.join(strange[:10])}. "
            f"It has {listed(map(str, _CODE_OF), most=99)}."
        )
    if _METADATA in signatures:
        raise CheckpointValueError(f"A safetensors file can't have a tensor {_METADATA!r}.")


class Writer:
    """Writes tensors, in any order, to a new safetensors file; leaving ``with`` lets it appear.

    Args:
        path: The new file.
        signatures: The name, shape and dtype of each tensor that will be written.
        metadata: Strings for the header.
        overwrite: Whether to replace the file if it exists.

    Raises:
        CheckpointValueError: If a tensor can't be stored; all such are listed.
        CheckpointExistsError: If the file exists.
        CheckpointError: If it can't be written.
    """

    def __init__(
        self,
        path: Path,
        signatures: Mapping[str, Signature],
        metadata: Mapping[str, str] | None = None,
        *,
        overwrite: bool = False,
    ):
        check_signatures(signatures)
        self._expected = dict(signatures)
        self._offsets: dict[str, int] = {}
        header: dict[str, object] = {} if metadata is None else {_METADATA: dict(metadata)}
        begin = 0
        for name in sorted(signatures, key=lambda n: (-signatures[n].dtype.itemsize, n)):
            shape, dtype = signatures[name].shape, signatures[name].dtype
            end = begin + nbytes(signatures[name])
            self._offsets[name] = begin
            header[name] = {
                "dtype": _CODE_OF[dtype],
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
            begin = end
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._start = 8 + len(text)
        self._file = NewFile(path, overwrite=overwrite)
        try:
            _write_at(self._file.descriptor, memoryview(len(text).to_bytes(8, "little") + text), 0)
        except BaseException:
            self._file.discard()
            raise

    def write(self, name: str, array: Array) -> None:
        """Write one of the tensors."""
        expected = self._expected.pop(name)
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype), name
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        data = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
        _write_at(self._file.descriptor, data.data, self._start + self._offsets[name])

    @property
    def is_complete(self) -> bool:
        """Whether all tensors are written."""
        return not self._expected

    def finish(self) -> NewFile:
        """The complete file, which is on disk and doesn't appear yet."""
        assert self.is_complete, f"not written: {listed(self._expected)}"
        self._file.finish()
        return self._file

    def discard(self) -> None:
        """Remove what is written."""
        self._file.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._file:
            if kind is None:
                self.finish().commit()


def nbytes(signature: Signature) -> int:
    """The bytes of a tensor in a safetensors file."""
    return math.prod(signature.shape) * signature.dtype.itemsize


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write bytes of a new safetensors file at an offset."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
