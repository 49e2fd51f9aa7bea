"""One saved value in the index; the specification is in `_own_index`.

`Entry.from_json` refuses contradictions: an entry that it returns has a dtype of the
format, a stored array that follows from the value's shape and dtype, and chunks that cover it.
`_source` checks that the bytes are there as well, before it allocates anything.
"""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._dtypes import COMPLEX, FLOATS, INTEGERS
from ._json_members import mapping, sequence, short, text, whole_number, whole_numbers
from ._python_values import PYTHON_DTYPES, is_python

PACKED, ORBAX, RAW, INDEX = "packed", "orbax", "raw", "index"

# These are stored as uint8, one element to a byte, the same bits; the others as they are.
AS_BYTES = frozenset(
    ["float6_e2m3fn", "float6_e3m2fn", "float8_e4m3", "int1", "uint1", "uint2", "uint4"]
)
# With the bytes of an element in memory.
AS_THEY_ARE: Mapping[str, int] = {
    name: np.dtype(name).itemsize
    for name in (frozenset(["bool"]) | INTEGERS | FLOATS | COMPLEX) - AS_BYTES
}
KNOWN = AS_THEY_ARE.keys() | AS_BYTES
# JAX's own keys: their dtype, and how many uint32 one has. A program may add others.
_KEYS = {
    "threefry2x32": ("key<fry>", 2),
    "rbg": ("key<rbg>", 4),
    "unsafe_rbg": ("key<urbg>", 4),
}
_KEY_DTYPE = re.compile(r"key<[^<>]{1,64}>")
# NumPy counts the bytes of an array in an int64, axes of size 0 as if they were 1.
_MOST_BYTES = 1 << 63
_CRC_END = 1 << 32
# The members that an entry may have, by location.
_ALWAYS = frozenset(
    ["shape", "dtype", "place", "stored_shape", "stored_dtype", "key_impl", "value"]
)
_MEMBERS: Mapping[str, frozenset[str]] = {
    PACKED: _ALWAYS | {"offset", "crc32c", "chunks"},
    ORBAX: _ALWAYS | {"key", "crc32c", "chunks"},
    RAW: _ALWAYS | {"key", "crc32c", "chunks"},
    INDEX: _ALWAYS,
}


@functools.cache
def dtype_name(dtype: Any) -> str:
    """How an entry of jscope's own index, or a message, names a dtype, also that of PRNG keys.

    Raises:
        TypeError: If it is a dtype of neither NumPy nor JAX.
    """
    name = str(dtype)
    return name if _KEY_DTYPE.fullmatch(name) else str(np.dtype(dtype).name)


class Chunk(NamedTuple):
    """A box of an entry's stored array, with the checksum of its bytes in C order.

    Attributes:
        start: Where it begins, one number for each axis of the stored array.
        shape: How long it is, along each axis.
        crc32c: The CRC-32C of its elements as the stored dtype has them, little-endian; None of
            another library's array, which is read as a whole without one.
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    crc32c: int | None

    @property
    def box(self) -> tuple[tuple[int, int], ...]:
        """The start and stop along each axis."""
        return tuple([(at, at + n) for at, n in zip(self.start, self.shape, strict=True)])


class Entry(NamedTuple):
    """One saved value as jscope's own index has it: its shape, its dtype, and where its bytes are.

    Attributes:
        shape: The shape of the value.
        dtype: The name of its dtype, such as ``"bfloat16"``, of keys ``"key<fry>"``, of a
            value that is not an array ``"python int"``.
        stored_shape: The shape of the array whose bytes are on disk.
        stored_dtype: The name of that array's dtype.
        location: Where its bytes are: ``packed.bin``, Orbax's arrays, a file for each chunk
            (`raw_name`), or the index only.
        offset: Where they begin in ``packed.bin``.
        key: The name of the stored array, Orbax's or of the chunks' files.
        chunks: Boxes that cover the stored array, each element once; one, if it was not sharded.
        key_impl: For PRNG keys the name of their implementation, such as ``"threefry2x32"``.
        value: A value that is not an array, as text.
    """

    shape: tuple[int, ...]
    dtype: str
    stored_shape: tuple[int, ...]
    stored_dtype: str
    location: str
    offset: int = 0
    key: str | None = None
    chunks: tuple[Chunk, ...] = ()
    key_impl: str | None = None
    value: str | None = None

    @property
    def is_as_it_is(self) -> bool:
        """Whether the stored array is the value."""
        return self.dtype == self.stored_dtype

    @property
    def nbytes(self) -> int:
        """The bytes of the value as NumPy holds it; of keys, those of their data."""
        is_other = is_python(self.dtype)
        return 0 if is_other else self.stored_size * np.dtype(self.stored_dtype).itemsize

    @property
    def stored_size(self) -> int:
        """The number of elements of the stored array."""
        return math.prod(self.stored_shape)

    @property
    def is_covered(self) -> bool:
        """Whether the chunks have as many elements as the stored array, if it is on disk."""
        if len(self.chunks) == 1 and self.chunks[0].shape == self.stored_shape:
            return True
        covered = sum([math.prod(chunk.shape) for chunk in self.chunks])
        return covered == (0 if self.location == INDEX else self.stored_size)

    def to_json(self) -> dict[str, Any]:
        """The members in the index: those that are not their default."""
        members: dict[str, Any] = {"shape": self.shape, "dtype": self.dtype, "place": self.location}
        if self.stored_shape != self.shape:
            members["stored_shape"] = self.stored_shape
        if self.stored_dtype != self.dtype:
            members["stored_dtype"] = self.stored_dtype
        if self.location == PACKED:
            members["offset"] = self.offset
        if self.location in (ORBAX, RAW):
            members["key"] = self.key
        if len(self.chunks) == 1:
            members["crc32c"] = self.chunks[0].crc32c
        elif self.chunks:
            members["chunks"] = self.chunks
        if self.key_impl is not None:
            members["key_impl"] = self.key_impl
        if self.value is not None:
            members["value"] = self.value
        return members

    @property
    def stored_nbytes(self) -> int:
        """The bytes of the stored array; 0 for a value in the index only."""
        return 0 if self.location == INDEX else self.stored_size * AS_THEY_ARE[self.stored_dtype]

    @classmethod
    def from_json(cls, value: object) -> "Entry":
        """The inverse of `to_json`.

        Raises:
            ValueError: If these are not the members of an entry, or they contradict each other.
        """
        members = mapping(value)
        location = members.get("place")
        if location not in (PACKED, ORBAX, RAW, INDEX):
            raise ValueError(f"{short(location)} is not a location")
        if not members.keys() <= _MEMBERS[location]:
            others = [name for name in members if name not in _MEMBERS[location]]
            raise ValueError(f"{short(others)} are not members of such an entry")
        shape = whole_numbers(members.get("shape"))
        dtype = text(members.get("dtype"))
        stored_shape = shape
        if "stored_shape" in members:
            stored_shape = whole_numbers(members["stored_shape"])
        entry = cls(
            shape,
            dtype,
            stored_shape,
            text(members["stored_dtype"]) if "stored_dtype" in members else dtype,
            location,
            whole_number(members.get("offset")) if location == PACKED else 0,
            text(members.get("key")) if location in (ORBAX, RAW) else None,
            () if location == INDEX else _chunks_of_members(members, stored_shape),
            text(members["key_impl"]) if "key_impl" in members else None,
            text(members["value"]) if "value" in members else None,
        )
        entry._check()
        return entry

    def _check(self) -> None:
        """Check that the members agree with each other."""
        if self.dtype in PYTHON_DTYPES:
            fits = (self.shape, self.stored_shape, self.location) == ((), (), INDEX)
            fits = fits and self.stored_dtype == self.dtype and self.key_impl is None
        else:
            fits = self.value is None and self._is_stored_well()
            # Orbax refuses an array without elements, so it has no bytes.
            fits = fits and (self.stored_size > 0) == (self.location != INDEX)
        if not fits:
            stored = f"{short(self.stored_dtype)} {self.stored_shape}"
            raise ValueError(f"{short(self.dtype)} {self.shape} is not stored as {stored}")

    def _is_stored_well(self) -> bool:
        """Whether the stored array is that of `_values` for such a value."""
        itemsize = AS_THEY_ARE.get(self.stored_dtype)
        if itemsize is None:
            return False
        if math.prod(filter(None, self.stored_shape)) * itemsize >= _MOST_BYTES:
            return False
        if self.key_impl is None and self.dtype == self.stored_dtype:
            return self.shape == self.stored_shape
        rank = len(self.shape)
        if self.key_impl is not None:
            dtype, size = _KEYS.get(self.key_impl, (None, None))
            of_one = self.stored_shape[rank:]
            return (
                self.stored_dtype == "uint32"
                and self.stored_shape[:rank] == self.shape
                and (of_one == (size,) if size else bool(of_one))
                and (self.dtype == dtype if dtype else bool(_KEY_DTYPE.fullmatch(self.dtype)))
            )
        as_bytes = self.dtype in AS_BYTES and self.stored_dtype == "uint8"
        return as_bytes and self.stored_shape == self.shape


def whole_chunk(shape: tuple[int, ...], crc32c: int) -> Chunk:
    """The one chunk of a stored array that was not sharded."""
    return Chunk(_zeros(len(shape)), shape, crc32c)


@functools.cache
def _zeros(count: int) -> tuple[int, ...]:
    """Where the one chunk of an entry in jscope's own index begins: at zero along each axis."""
    return (0,) * count


def raw_name(key: str, start: Sequence[int]) -> str:
    """Where one chunk of an entry is, of the array ``key``: in the file ``"0/0.512"``."""
    return f"{key}/{'.'.join(map(str, start or (0,)))}"


def _chunks_of_members(members: dict[str, Any], stored_shape: tuple[int, ...]) -> tuple[Chunk, ...]:
    """The chunks of one entry, which cover its stored array, from the entry's members in JSON."""
    if "crc32c" in members:
        if "chunks" in members:
            raise ValueError("it has a checksum beside those of its chunks")
        crc = whole_number(members["crc32c"], _CRC_END)
        return (whole_chunk(stored_shape, crc),)
    chunks = []
    for chunk in sequence(members.get("chunks")):
        start, shape, crc = sequence(chunk, 3)
        box = whole_numbers(start), whole_numbers(shape)
        if not len(box[0]) == len(box[1]) == len(stored_shape):
            raise ValueError(f"{short(chunk)} is not a box of {len(stored_shape)} axes")
        chunks.append(Chunk(*box, whole_number(crc, _CRC_END)))
    if not _is_tiling(chunks, stored_shape):
        raise ValueError(f"its chunks don't cover {stored_shape} once each")
    return tuple(chunks)


def _is_tiling(chunks: Sequence[Chunk], shape: tuple[int, ...]) -> bool:
    """Whether an entry's chunks in jscope's own index are a grid over its shape, as JAX's are."""
    if len(chunks) == 1:
        return not any(chunks[0].start) and chunks[0].shape == shape
    cells = 1
    for axis, length in enumerate(shape):
        end = 0
        sides = sorted({(chunk.start[axis], chunk.shape[axis]) for chunk in chunks})
        for start, side in sides:
            if start != end or not side:
                return False
            end += side
        if end != length:
            return False
        cells *= len(sides)
    return cells == len(chunks) == len({chunk.start for chunk in chunks})
