r"""npz files: a zip archive of NumPy's own ``.npy`` files, one for each array.

The member of array ``enc/w`` is ``enc/w.npy``. Each has the CRC-32 of its bytes in the archive,
checked by every read. Choices that NumPy's format leaves open:

* **ml_dtypes** (bfloat16, float8, int4, ...): NumPy would write bfloat16 as ``V2``, two bytes
  without a meaning. Here it is a structured dtype of one field, named after the dtype and as wide:
  ``[('bfloat16', '<u2')]``, the same bits. Without jscope it is
  ``np.load(path)["w"]["bfloat16"].view(ml_dtypes.bfloat16)``. int4 takes a byte per element.
* **V2**, as ``np.savez`` writes bfloat16, is read as bfloat16: no other dtype of two bytes is
  written so. Other voids may be one of many dtypes: they are listed, and reading one is an error.
* **Strings** are NumPy's ``S`` and ``U``. Python objects, which are pickles, are listed, and
  neither read nor written.

Source: NumPy 2.4, ``numpy/lib/_format_impl.py``.
"""

import contextlib
import copy
import functools
import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

from .._errors import CheckpointError, CheckpointValueError
from .._stores.errors import StoreError
from .._stores.files import first_bytes
from .._stores.new_file import NewFile
from .._stores.remote import AnyPath
from .._stores.stream import opened_stream
from ._file_entry import Array, Entry, Signature

_Opened: TypeAlias = contextlib.AbstractContextManager[zipfile.ZipFile]

# By name; the names of ml_dtypes' scalar types are those of their dtypes.
_EXTENDED = {
    name: np.dtype(scalar)
    for name, scalar in vars(ml_dtypes).items()
    if isinstance(scalar, type) and issubclass(scalar, np.generic)
}

_MOST_DEFLATED = 1032  # times that deflate makes of a byte: 258 from two bits
_LONGEST_HEADER = 1 << 14  # NumPy refuses those of more than 10,000 bytes
_SHOWN = 300  # characters of another library's error
_PLAIN = "biufcSU"  # the kinds of NumPy's own dtypes: numbers and strings


def is_file(path: AnyPath) -> bool:
    """Whether a file is named as an npz file, or is an archive of nothing but arrays."""
    if path.suffix == ".npz":
        return True
    try:
        if first_bytes(path, 4, follow=True) != b"PK\3\4":
            return False
        with opened_stream(path) as file, zipfile.ZipFile(file) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except StoreError:
        raise
    except (OSError, *_DAMAGE):
        return False


def open_file(path: AnyPath) -> dict[str, Entry]:
    """The arrays of an npz file, by name; only their headers are read.

    Raises:
        CheckpointError: If the file can't be read or is damaged.
    """
    try:
        with opened_stream(path) as file, zipfile.ZipFile(file) as archive:
            size = _check_count(file, archive)
            reopened = _reopened(path, file)
            entries: dict[str, Entry] = {}
            for member in archive.infolist():
                _check_size(size, member)
                name, suffix = member.filename[:-4], member.filename[-4:]
                if name in entries:
                    raise ValueError(f"it has two members {member.filename!r}")
                if suffix == ".npy":
                    entries[name] = _member_entry(path, archive, member, reopened)
                else:  # not an array's, unless its name is damaged, which opening it would show
                    archive.open(member).close()
            return entries
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}.") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is not an npz file, or damaged: {error}.") from error


# The errors of zipfile and NumPy for damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError,
    KeyError, OverflowError, MemoryError, SyntaxError, UnicodeError,
)  # fmt: skip


def _reopened(path: AnyPath, file: IO[bytes]) -> Callable[[], _Opened]:
    """How to open an npz archive again; of an object, whose list takes requests, it is kept."""
    if isinstance(path, Path):
        return functools.partial(zipfile.ZipFile, path)
    kept = functools.cache(lambda: zipfile.ZipFile(file))
    return lambda: contextlib.nullcontext(kept())


def _check_count(file: IO[bytes], archive: zipfile.ZipFile) -> int:
    """Refuse an npz archive with members that damage to the entry of the one before hides.

    Returns:
        The size of the file.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(-12 - len(archive.comment), os.SEEK_END)
    count = int.from_bytes(file.read(2), "little")
    found = len(archive.infolist())
    if count not in (found, 0xFFFF):  # the latter if there are more than it can record
        raise ValueError(f"its end records {count} members, and it lists {found}")
    return size


def _check_size(end: int, member: zipfile.ZipInfo) -> None:
    """Refuse a member of more bytes by its record than its part of the npz archive can hold."""
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _MOST_DEFLATED}.get(member.compress_type)
    if most is None:
        raise ValueError(f"member {member.filename!r} is not compressed as by NumPy")
    size = end - member.header_offset
    if not 0 <= member.file_size <= most * member.compress_size <= most * size:
        raise ValueError(
            f"member {member.filename!r} can't have {member.file_size} bytes in {size} of the file"
        )


def _member_entry(
    path: AnyPath,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    reopened: Callable[[], _Opened],
) -> Entry:
    """The entry of a member of an npz archive, from its ``.npy`` header."""
    # zipfile would compare the checksum of a small member here, and refuse all for one that is
    # damaged: the others can still be listed and read. It compares none that it doesn't know.
    unchecked = copy.copy(member)
    del unchecked.CRC
    with archive.open(unchecked) as file:
        shape, _, stored = _npy_header(io.BytesIO(file.read(_LONGEST_HEADER)), member)
    dtype = _meant_dtype(stored)
    if dtype is None:
        return _unreadable_entry(path, archive, member, shape, stored)
    nbytes = math.prod(shape) * dtype.itemsize
    read = functools.partial(_read_member, path, member, reopened)
    return Entry(shape, dtype, nbytes, read, kind="string" if dtype.kind in "SU" else "")


def _unreadable_entry(
    path: AnyPath,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    shape: tuple[int, ...],
    stored: np.dtype[Any],
) -> Entry:
    """The entry of a member of an npz archive whose dtype NumPy or jscope can't read."""
    with archive.open(member) as file:  # whose header may be damaged: then its checksum is wrong
        while file.read(1 << 20):
            pass
    why = (
        " of Python objects, which only a pickle can hold" if stored.hasobject else ", unknown here"
    )

    def read() -> Array:
        raise CheckpointError(
            f"{member.filename[:-4]!r} in {path} has the dtype {stored}{why}. Leave it out: the "
            "other variables can be read."
        )

    return Entry(shape, np.dtype(object), member.file_size, read, kind=str(stored))


def _npy_header(
    file: IO[bytes], member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether it is in Fortran's order, and the dtype stored."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"member {member.filename!r} has version {version} of NumPy's format")
    try:
        shape, is_fortran, stored = read(file)
    except Exception as error:  # the header is Python: NumPy's parser may raise any error
        text = str(error)[:_SHOWN]  # it quotes the header
        raise ValueError(f"member {member.filename!r} has no header of NumPy's: {text}") from error
    size = member.file_size - file.tell()
    is_size = stored.hasobject or math.prod(shape) * stored.itemsize == size
    if min(shape, default=0) < 0 or not is_size:
        raise ValueError(
            f"member {member.filename!r} of {member.file_size} bytes can't hold {stored}{shape}"
        )
    return shape, is_fortran, stored


def _meant_dtype(stored: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype that is meant by the one in a ``.npy`` header; None if it is unknown."""
    if stored.names is not None and len(stored.names) == 1 and stored.names[0] in _EXTENDED:
        extended: np.dtype[Any] = _EXTENDED[stored.names[0]]
        if extended.itemsize == stored.itemsize:
            return extended
    if stored == np.dtype("V2"):
        return _EXTENDED["bfloat16"]
    if stored.kind in _PLAIN:
        native: np.dtype[Any] = stored.newbyteorder("=")
        return native
    return None


def _read_member(path: AnyPath, member: zipfile.ZipInfo, reopened: Callable[[], _Opened]) -> Array:
    """Read the array of a member of an npz archive."""
    try:
        with reopened() as archive, archive.open(member) as file:
            content = file.read()  # to the end: only there zipfile compares the checksum
        start = io.BytesIO(content)
        shape, is_fortran, stored = _npy_header(start, member)
        dtype = _meant_dtype(stored)
        if dtype is None:
            raise ValueError(f"member {member.filename!r} has now the dtype {stored}")
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}.") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    array = np.frombuffer(content, stored, offset=start.tell())
    array = array.reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype, copy=False) if stored.kind in _PLAIN else array.view(dtype)


class Writer:
    """Writes arrays to a new npz file, uncompressed; leaving ``with`` lets it appear.

    Args:
        path: The new file.
        signatures: The name, shape and dtype of each array that will be written.

    Raises:
        CheckpointValueError: If an array can't be stored; all such are listed.
        CheckpointExistsError: If the file exists.
        CheckpointError: If it can't be written.
    """

    def __init__(self, path: Path, signatures: Mapping[str, Signature]):
        strange = [
            f"{name!r} is {of.dtype}" for name, of in signatures.items() if not _can_store(of.dtype)
        ]
        if strange:
            raise CheckpointValueError(
                f"npz has no dtype for {len(strange)} of these: {'; '.join(strange[:10])}. Only "
                "a pickle could hold Python objects."
            )
        self._file = NewFile(path)
        self._stream = os.fdopen(os.dup(self._file.descriptor), "w+b")
        self._archive = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_STORED)

    def write(self, name: str, array: Array) -> None:
        """Write one of the arrays."""
        if array.dtype.name in _EXTENDED:
            bits = np.dtype([(array.dtype.name, f"<u{array.dtype.itemsize}")])
            array = np.ascontiguousarray(array).view(bits)
        # Like np.savez: the size is not known beforehand, so that each may pass 4 GiB.
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            npy.write_array(member, array, version=(1, 0), allow_pickle=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._file, self._stream:
            self._archive.close()  # it would close itself later, when the stream is gone
            if kind is None:
                self._stream.flush()
                self._file.commit()


def _can_store(dtype: np.dtype[Any]) -> bool:
    """Whether a ``.npy`` file can hold a dtype."""
    return dtype.name in _EXTENDED or dtype.kind in _PLAIN
