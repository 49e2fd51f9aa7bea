"""What the index says of one saved value; the specification is in `_index`.

Imports: standard library only.
"""

import dataclasses
import math
from typing import Any, NamedTuple

PACKED, ORBAX, INDEX = "packed", "orbax", "index"


class Chunk(NamedTuple):
    """A box of a stored array, with the checksum of its bytes in C order.

    Attributes:
        start: Where it begins, one number for each axis of the stored array.
        shape: How long it is, along each axis.
        crc32c: The CRC-32C of its elements as the stored dtype has them, little-endian.
    """

    start: tuple[int, ...]
    shape: tuple[int, ...]
    crc32c: int


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One saved value.

    Attributes:
        shape: The shape of the value.
        dtype: The name of its dtype, such as ``"bfloat16"``, of keys ``"key<fry>"``, of what is
            no array ``"python int"``.
        stored_shape: The shape of the array whose bytes are on disk.
        stored_dtype: The name of that array's dtype.
        place: Where its bytes are: in ``packed.bin``, among Orbax's arrays, or nowhere but here.
        offset: Where they begin in ``packed.bin``.
        key: What Orbax calls the stored array.
        chunks: Boxes that cover the stored array, each element once; one, if it was not sharded.
        key_impl: For PRNG keys the name of their implementation, such as ``"threefry2x32"``.
        value: What is no array, as text.
    """

    shape: tuple[int, ...]
    dtype: str
    stored_shape: tuple[int, ...]
    stored_dtype: str
    place: str
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
    def stored_size(self) -> int:
        """The number of elements of the stored array."""
        return math.prod(self.stored_shape)

    @property
    def is_covered(self) -> bool:
        """Whether the chunks have as many elements as the stored array, if it is on disk."""
        covered = sum([math.prod(chunk.shape) for chunk in self.chunks])
        return covered == (0 if self.place == INDEX else self.stored_size)

    def to_json(self) -> dict[str, Any]:
        """The members that stand in the index: those that are not their default."""
        members: dict[str, Any] = {"shape": self.shape, "dtype": self.dtype, "place": self.place}
        if self.stored_shape != self.shape:
            members["stored_shape"] = self.stored_shape
        if self.stored_dtype != self.dtype:
            members["stored_dtype"] = self.stored_dtype
        if self.place == PACKED:
            members["offset"] = self.offset
        if self.place == ORBAX:
            members["key"] = self.key
        if [(0,) * len(self.stored_shape)] == [chunk.start for chunk in self.chunks]:
            members["crc32c"] = self.chunks[0].crc32c
        elif self.chunks:
            members["chunks"] = self.chunks
        if self.key_impl is not None:
            members["key_impl"] = self.key_impl
        if self.value is not None:
            members["value"] = self.value
        return members

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> "Entry":
        """The inverse of `to_json`.

        Raises:
            Exception: Any, if the members are not those of an entry.
        """
        members = dict(members)
        shape, dtype, place = (members.pop(name) for name in ("shape", "dtype", "place"))
        stored_shape = _sizes(members.pop("stored_shape", shape))
        entry = cls(
            shape=_sizes(shape),
            dtype=_text(dtype),
            stored_shape=stored_shape,
            stored_dtype=_text(members.pop("stored_dtype", dtype)),
            place=place,
            offset=_size(members.pop("offset", 0)),
            key=_text(members.pop("key", None), optional=place != ORBAX),
            chunks=_chunks(members, stored_shape),
            key_impl=_text(members.pop("key_impl", None), optional=True),
            value=_text(members.pop("value", None), optional=True),
        )
        if members or place not in (PACKED, ORBAX, INDEX) or not entry.is_covered:
            raise ValueError
        return entry


def _chunks(members: dict[str, Any], stored_shape: tuple[int, ...]) -> tuple[Chunk, ...]:
    if "crc32c" in members:
        return (Chunk((0,) * len(stored_shape), stored_shape, _size(members.pop("crc32c"))),)
    chunks = members.pop("chunks", ())
    return tuple([Chunk(_sizes(start), _sizes(size), _size(crc)) for start, size, crc in chunks])


def _sizes(value: Any) -> tuple[int, ...]:
    if type(value) is not list:
        raise TypeError
    return tuple([_size(n) for n in value])


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _text(value: Any, optional: bool = False) -> Any:
    if type(value) is not str and not (optional and value is None):
        raise TypeError
    return value
