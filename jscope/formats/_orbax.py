"""Checkpoints that plain Orbax wrote: trees of arrays, in every layout it has.

A directory is one tree if it has ``_METADATA``; else each directory in it that has is an *item*,
as ``items``, ``state`` or ``default`` of a step are. The names of a single item are those of its
leaves, keys joined by ``/``; if there are several items, each name begins with its item's.

``_METADATA`` lists the leaves and says whether arrays are Zarr's of version 2 or 3. They are in
an OCDBT database if there is ``manifest.ocdbt``, else in a directory each. Shapes and dtypes are
in the arrays' own metadata. ``array_metadatas`` has the implementation of PRNG keys, and
``_strings.json`` the strings.

Tried with what Orbax 0.12.0 and 0.12.8 write, v0 and v1, and by a test for each.
"""

import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import CheckpointError, listed
from .._stores.files import contents
from .._stores.remote import AnyPath, RemotePath, children
from ._boxes import Array, Box, slices
from ._file_entry import Entry as FileEntry
from ._json_members import mapping, member, sequence, short, text
from ._own_entry import INDEX, KNOWN, ORBAX, Entry, dtype_name
from ._python_values import python_dtype, python_text
from ._tensorstore import MOST_COMPRESSED, Tensors

if TYPE_CHECKING:
    from tensorstore import TensorStore

    from ._containers import Description

T = TypeVar("T")

METADATA = "_METADATA"
# The item of a step that has one only, as Orbax's `CheckpointManager` calls it.
ITEM = "default"


def items(path: AnyPath) -> dict[str, AnyPath]:
    """The trees of arrays in a directory of Orbax, by item; of a single tree the item is ``""``."""
    if (path / METADATA).is_file():
        return {"": path}
    if not path.is_dir():
        return {}
    found = {p.name: p for p in children(path) if (p / METADATA).is_file()}
    return {"": next(iter(found.values()))} if len(found) == 1 else found


class OrbaxSource:
    """A checkpoint that plain Orbax wrote, opened for reading, as a `Source`."""

    strings: Mapping[str, FileEntry] = MappingProxyType({})

    format = "Orbax checkpoint"
    checksum = ""

    def __init__(self, path: AnyPath, trees: Mapping[str, AnyPath]):
        from ._containers import of_paths

        self.path = path
        self.entries: dict[str, Entry] = {}
        self.index_bytes = 0
        self._trees: dict[str, _Tree] = {}
        paths: dict[str, tuple[str | int, ...]] = {}
        empty: dict[str, Description] = {}
        for item, directory in trees.items():
            tree = _Tree(directory)
            self.index_bytes += tree.index_bytes
            for name, entry in tree.entries.items():
                whole = f"{item}/{name}" if item and name else item or name
                self.entries[whole] = entry
                self._trees[whole] = tree
            for name, keys in tree.paths.items():
                whole = f"{item}/{name}" if item and name else item or name
                paths[whole] = (item, *keys) if item else keys
                if name in tree.empty:
                    empty[whole] = tree.empty[name]
        self.containers = of_paths(paths, empty)
        self.metadata = self._custom_metadata()
        # Orbax writes None for containers without leaves, such as Optax's EmptyState.
        self.fillers = frozenset(n for n, e in self.entries.items() if e.dtype == "python None")

    def stored(self, name: str) -> Entry:
        """As `Source.stored`.

        Older versions of Orbax don't write chunks of zeros, so an array may have more bytes than
        its files; but not 32,768 times as many as the whole tree.
        """
        entry, tree = self.entries[name], self._trees[name]
        if entry.location == ORBAX:
            # TensorStore allocates a chunk whole, and ends the process if it can't.
            chunk = tree.tensors.chunk_nbytes(str(entry.key))
            tree.check(f"{name!r}", entry.nbytes, chunk)
        return entry

    def extent(self, name: str) -> None:
        """As `Source.extent`; TensorStore reads the files."""

    def reads_parts(self, name: str) -> bool:
        """As `Source.reads_parts`; the arrays have chunks on disk."""
        return False

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """As `Source.start`."""
        tensors = self._trees[name].tensors
        return tensors.start(str(self.entries[name].key), slices(box), into)

    def has_changed(self) -> bool:
        """As `Source.has_changed`; Orbax's checkpoints have no ids."""
        return False

    def check(self) -> None:
        """As `Source.check`; Orbax's trees have nothing beside."""

    def close(self) -> None:
        """As `Source.close`."""

    def _custom_metadata(self) -> object:
        for directory in (self.path, self.path.parent):
            file = directory / "_CHECKPOINT_METADATA"
            if file.is_file():
                members = _read_json(file)
                return members.get("custom_metadata") if isinstance(members, dict) else None
        return None


class _Tree:
    """One tree of arrays in a checkpoint of plain Orbax."""

    def __init__(self, directory: AnyPath):
        self.directory = directory
        data = _file_bytes(directory / METADATA) or b""
        members = _file_members(directory / METADATA, data)
        leaves = _checked_members(directory / METADATA, _leaves_of_metadata, members)
        self.index_bytes = len(data)
        is_ocdbt = (directory / "manifest.ocdbt").is_file()
        is_zarr3 = bool(mapping(members).get("use_zarr3"))
        self.tensors = Tensors(directory, is_zarr3=is_zarr3, is_ocdbt=is_ocdbt)
        _check_names(directory, [tuple(map(str, path)) for path, _ in leaves])
        self.entries = self._entries([(tuple(map(str, path)), kind) for path, kind in leaves])
        self.empty = {_joined_path(path): _EMPTY[kind] for path, kind in leaves if kind in _EMPTY}
        self.paths = {
            _joined_path(path): path
            for path, _ in leaves
            if _joined_path(path) in self.entries or _joined_path(path) in self.empty
        }

    def check(self, name: str, nbytes: int, chunk_nbytes: int) -> None:
        """Refuse an array that is larger than the files can hold, as a whole or by a chunk.

        A store lists no sizes. There a chunk has to fit into this machine's memory.

        Raises:
            ValueError: If it is.
        """
        sizes = {"": nbytes, " a chunk": chunk_nbytes}
        if isinstance(self.directory, RemotePath):
            if chunk_nbytes > _machine_memory():
                raise ValueError(f"{name} has {chunk_nbytes} bytes a chunk by its metadata")
            return
        for what, size in sizes.items():
            if size > MOST_COMPRESSED * self._nbytes:
                raise ValueError(
                    f"{name} has {size} bytes{what} by its metadata, and all files of "
                    f"{self.directory} have {self._nbytes}"
                )

    @functools.cached_property
    def _nbytes(self) -> int:
        """The bytes of all its files."""
        return sum(contents(self.directory).sizes.values())

    def _entries(self, leaves: list[tuple[tuple[str, ...], str]]) -> dict[str, Entry]:
        strings = _read_json(self.directory / "_strings.json")
        impls = _key_impls(self.directory)
        arrays = self.tensors.open([".".join(k) for k, kind in leaves if kind in _ARRAYS])
        entries: dict[str, Entry] = {}
        for keys, kind in leaves:
            key, name = ".".join(keys), "/".join(keys)
            if kind == "None":
                entries[name] = _python_entry(None)
            elif kind == "string":
                file = self.directory / "_strings.json"
                entries[name] = _python_entry(_checked_members(file, _string_of, strings, key))
            elif kind == "scalar":
                entries[name] = _python_entry(_scalar_of(key, arrays[key]))
            elif kind in _ARRAYS:
                entries[name] = _array_entry(key, arrays[key], impls.get(key))
        return entries


def _machine_memory() -> int:
    """The most bytes of a chunk in a checkpoint of plain Orbax: those of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


_ARRAYS = ("jax.Array", "np.ndarray", "scalar")


_EMPTY: dict[str, "Description"] = {"Dict": {}, "List": []}
# Of a key that is an index in a list.
_SEQUENCE = 1
_PLACE = re.compile("[0-9]{1,18}", re.ASCII)


def _leaves_of_metadata(members: object) -> list[tuple[tuple[str | int, ...], str]]:
    """The path to each leaf in Orbax's ``_METADATA``, and its kind."""
    tree = member(mapping(members), "tree_metadata", mapping)
    return [_leaf_of_metadata(mapping(value)) for value in tree.values()]


def _leaf_of_metadata(members: dict[str, Any]) -> tuple[tuple[str | int, ...], str]:
    """The path to one leaf in Orbax's ``_METADATA``, and its kind."""
    path = tuple(map(_path_part, member(members, "key_metadata", sequence)))
    return path, member(member(members, "value_metadata", mapping), "value_type", text)


def _path_part(value: object) -> str | int:
    """A part of the path to a leaf in Orbax's ``_METADATA``."""
    part = mapping(value)
    key = member(part, "key", lambda key: str(key) if type(key) is int else text(key))
    if part.get("key_type") != _SEQUENCE:
        return key
    if not _PLACE.fullmatch(key):
        raise ValueError(f"{short(key)} is not an index in a list")
    return int(key)


def _joined_path(path: tuple[str | int, ...]) -> str:
    """The name of a leaf of Orbax, from the path to it."""
    return "/".join(map(str, path))


def _check_names(directory: AnyPath, leaves: list[tuple[str, ...]]) -> None:
    """Refuse a checkpoint of Orbax with leaves of one name: it stores them as one array."""
    for separator in (".", "/"):
        sources: dict[str, list[tuple[str, ...]]] = {}
        for keys in leaves:
            sources.setdefault(separator.join(keys), []).append(keys)
        duplicates = [keys for same in sources.values() if len(same) > 1 for keys in same]
        if duplicates:
            raise CheckpointError(
                f"The checkpoint {directory} has leaves of one name: {listed(duplicates)}, whose "
                f"keys joined by {separator!r} are the same. Orbax stores such leaves as one "
                "array, and the others' values are lost; save them by other names."
            )


def _python_entry(value: object) -> Entry:
    """The entry of a number or string that Orbax saved."""
    dtype = str(python_dtype(value))
    return Entry((), dtype, (), dtype, INDEX, value=python_text(value))


def _string_of(members: object, key: str) -> str:
    """A string that Orbax saved, from the members of ``_strings.json``."""
    return member(mapping(members), key, text)


def _scalar_of(key: str, handle: "TensorStore") -> object:
    """A number that Orbax saved as an array without axes."""
    if handle.shape:
        shape = tuple(handle.shape)
        raise ValueError(f"{key!r} is a number by its metadata, and has shape {shape}")
    return handle.read().result().item()


def _array_entry(key: str, handle: "TensorStore", impl: str | None) -> Entry:
    """The entry of an array or of PRNG keys that Orbax saved."""
    stored_shape, stored = tuple(handle.shape), dtype_name(handle.dtype.numpy_dtype)
    if stored not in KNOWN:
        raise ValueError(f"{key!r} has dtype {stored}, which no jax.Array has")
    if impl is None:
        return Entry(stored_shape, stored, stored_shape, stored, ORBAX, key=key)
    if stored != "uint32" or not stored_shape:
        found = f"{stored}{stored_shape}"
        raise ValueError(f"{key!r} is keys of {impl!r} by its metadata, and is {found}")
    import jax

    shape, dtype = stored_shape[:-1], dtype_name(jax.random.key(0, impl=impl).dtype)
    return Entry(shape, dtype, stored_shape, stored, ORBAX, key=key, key_impl=impl)


def _key_impls(directory: AnyPath) -> dict[str, str]:
    """The implementations of PRNG keys that Orbax records, by the arrays' stored names."""
    found: dict[str, str] = {}
    for file in children(directory, "array_metadatas/process_*"):
        found |= _checked_members(file, _key_impls_of, _read_json(file))
    return found


def _key_impls_of(members: object) -> dict[str, str]:
    """The implementations of PRNG keys in the members of one file of Orbax."""
    found = {}
    for array in sequence(mapping(members).get("array_metadatas", [])):
        metadata = member(mapping(array), "array_metadata", mapping)
        impl = mapping(metadata.get("ext_metadata") or {}).get("random_key_impl")
        if impl:
            found[member(metadata, "param_name", text)] = text(impl)
    return found


def _checked_members(file: AnyPath, read: Callable[..., T], *arguments: object) -> T:
    """What a function reads from the members of a file of Orbax; damage is a `CheckpointError`."""
    try:
        return read(*arguments)
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def _read_json(file: AnyPath) -> object:
    """The members of a JSON file of Orbax, or an empty object if there is none."""
    return _file_members(file, _file_bytes(file))


def _file_bytes(file: AnyPath) -> bytes | None:
    """The bytes of a file of Orbax, or None if there is none."""
    if not file.is_file():  # nor is a pipe one, which would block
        return None
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _file_members(file: AnyPath, data: bytes | None) -> object:
    """The members of a JSON file of Orbax, from its bytes."""
    try:
        return {} if data is None else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
