"""Checkpoints that plain Orbax wrote: trees of arrays, in every layout it has.

A directory is one tree if it has ``_METADATA``; else each directory in it that has is an *item*,
as ``items``, ``state`` or ``default`` of a step are. The names of a single item are those of its
leaves, keys joined by ``/``; if there are several items, each name begins with its item's.

``_METADATA`` lists the leaves and says whether arrays are Zarr's of version 2 or 3. They are in
an OCDBT database if there is ``manifest.ocdbt``, else in a directory each. Shapes and dtypes are
told by the arrays themselves. ``array_metadatas`` has the implementation of PRNG keys, and
``_strings.json`` the strings.

Tried with what Orbax 0.12.0 and 0.12.8 write, v0 and v1, and by a test for each.

Imports: `_errors` and the files beside this one; JAX.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from .._errors import CheckpointError, listed
from ._boxes import Array, Box, slices
from ._containers import Containers, of_paths
from ._entries import INDEX, ORBAX, Entry
from ._python import python_dtype, python_text
from ._tensors import Tensors
from ._values import dtype_name

_METADATA = "_METADATA"


def items(path: Path) -> dict[str, Path]:
    """The trees of arrays in a directory, by item; of a single tree the item is ``""``."""
    if (path / _METADATA).is_file():
        return {"": path}
    if not path.is_dir():
        return {}
    found = {p.name: p for p in sorted(path.iterdir()) if (p / _METADATA).is_file()}
    return {"": next(iter(found.values()))} if len(found) == 1 else found


class OrbaxSource:
    """A checkpoint of plain Orbax, as `_source.Source`."""

    def __init__(self, path: Path, trees: Mapping[str, Path]):
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.index_bytes = 0
        self._trees: dict[str, _Tree] = {}
        paths: dict[str, tuple[str | int, ...]] = {}
        empty: dict[str, Any] = {}
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
        self.containers: Containers | None = of_paths(paths, empty)
        self.metadata = self._custom_metadata()
        # Orbax writes None for whatever has no leaves, such as Optax's EmptyState.
        self.fillers = frozenset(n for n, e in self.entries.items() if e.dtype == "python None")

    def stored(self, name: str) -> Entry:
        """As `Source.stored`; the entries are those of the arrays themselves."""
        return self.entries[name]

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """As `Source.start`."""
        tensors = self._trees[name].tensors
        return tensors.start(str(self.entries[name].key), slices(box), into)

    def close(self) -> None:
        """As `Source.close`."""

    def _custom_metadata(self) -> Any:
        for directory in (self.path, self.path.parent):
            file = directory / "_CHECKPOINT_METADATA"
            if file.is_file():
                members = _json(file)
                return members.get("custom_metadata") if isinstance(members, dict) else None
        return None


class _Tree:
    """One tree of arrays."""

    def __init__(self, directory: Path):
        self.directory = directory
        members = _json(directory / _METADATA)
        try:
            leaves = [_leaf(value) for value in members["tree_metadata"].values()]
            is_zarr3 = bool(members.get("use_zarr3"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{directory / _METADATA} is damaged: {error!r}") from error
        self.index_bytes = (directory / _METADATA).stat().st_size
        is_ocdbt = (directory / "manifest.ocdbt").is_file()
        self.tensors = Tensors(directory, is_zarr3=is_zarr3, is_ocdbt=is_ocdbt)
        _check_names(directory, [tuple(map(str, path)) for path, _ in leaves])
        self.entries = self._entries([(tuple(map(str, path)), kind) for path, kind in leaves])
        self.empty = {_name(path): _EMPTY[kind] for path, kind in leaves if kind in _EMPTY}
        self.paths = {
            _name(path): path
            for path, _ in leaves
            if _name(path) in self.entries or _name(path) in self.empty
        }

    def _entries(self, leaves: list[tuple[tuple[str, ...], str]]) -> dict[str, Entry]:
        strings = _json(self.directory / "_strings.json")
        impls = _key_impls(self.directory)
        arrays = self.tensors.open([".".join(k) for k, kind in leaves if kind in _ARRAYS])
        entries: dict[str, Entry] = {}
        for keys, kind in leaves:
            key, name = ".".join(keys), "/".join(keys)
            if kind == "None":
                entries[name] = _python_entry(None)
            elif kind == "string":
                entries[name] = _python_entry(strings[key])
            elif kind == "scalar":
                entries[name] = _python_entry(arrays[key].read().result().item())
            elif kind in _ARRAYS:
                entries[name] = _array_entry(key, arrays[key], impls.get(key))
        return entries


_ARRAYS = ("jax.Array", "np.ndarray", "scalar")


_EMPTY: dict[str, Any] = {"Dict": {}, "List": []}
# Of a key that is a place in a list.
_SEQUENCE = 1


def _leaf(value: Any) -> tuple[tuple[str | int, ...], str]:
    """The path to a leaf, and what it is."""
    path = tuple(
        int(part["key"]) if part.get("key_type") == _SEQUENCE else str(part["key"])
        for part in value["key_metadata"]
    )
    return path, str(value["value_metadata"]["value_type"])


def _name(path: tuple[str | int, ...]) -> str:
    return "/".join(map(str, path))


def _check_names(directory: Path, leaves: list[tuple[str, ...]]) -> None:
    """Orbax stores leaves of one name as one array, whatever they were; nobody can tell which."""
    for separator in (".", "/"):
        sources: dict[str, list[tuple[str, ...]]] = {}
        for keys in leaves:
            sources.setdefault(separator.join(keys), []).append(keys)
        twins = [keys for same in sources.values() if len(same) > 1 for keys in same]
        if twins:
            raise CheckpointError(
                f"The checkpoint {directory} has leaves of one name: {listed(twins)}, whose keys "
                f"joined by {separator!r} are the same. Orbax stores such leaves as one array, and "
                "what the others were is lost; save them by other names."
            )


def _python_entry(value: Any) -> Entry:
    dtype = str(python_dtype(value))
    return Entry((), dtype, (), dtype, INDEX, value=python_text(value))


def _array_entry(key: str, handle: Any, impl: str | None) -> Entry:
    stored_shape, stored = tuple(handle.shape), dtype_name(handle.dtype.numpy_dtype)
    if impl is None:
        return Entry(stored_shape, stored, stored_shape, stored, ORBAX, key=key)
    shape, dtype = stored_shape[:-1], dtype_name(jax.random.key(0, impl=impl).dtype)
    return Entry(shape, dtype, stored_shape, stored, ORBAX, key=key, key_impl=impl)


def _key_impls(directory: Path) -> dict[str, str]:
    """The implementations of PRNG keys, by the arrays' stored names."""
    found = {}
    for file in sorted(directory.glob("array_metadatas/process_*")):
        for array in _json(file).get("array_metadatas", ()):
            members = array["array_metadata"]
            impl = (members.get("ext_metadata") or {}).get("random_key_impl")
            if impl:
                found[members["param_name"]] = impl
    return found


def _json(file: Path) -> Any:
    """The contents of a file, or an empty object if there is none."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error
