"""The static part of a bound scope: interned objects, compared by identity.

It holds the relative names and what can change a result or a decision, and no more. ``layer_0``
and ``layer_47`` of equal blocks have the same one, so JAX traces them once. They have not if a
custom getter can read their names (`_getters`), or if records are selected by name. Interning is
weak and locked; JAX's caches hold static parts until `jax.clear_caches`.

Imports: `_getters`, `_lineage`, `_names`, `_recorder`, `_tree`.
"""

import threading
import weakref
from collections.abc import Mapping
from typing import Any

from ._getters import CustomGetter, identities, path_for
from ._lineage import RequestedRecords
from ._names import below
from ._recorder import Reuse
from ._tree import Structure


class Fixed:
    """The static part of a bound scope; made by `intern` alone."""

    __slots__ = (
        "__weakref__",
        "_children",
        "_others",
        "dtype",
        "getter_path",
        "getters",
        "has_words",
        "records",
        "reuse",
        "streams",
        "structure",
    )

    def __init__(
        self,
        structure: Structure,
        reuse: Reuse,
        dtype: Any,
        getters: tuple[CustomGetter, ...],
        streams: tuple[str, ...],
        has_words: bool,
        getter_path: str | None,
        records: RequestedRecords | None,
    ):
        self.structure = structure
        self.getters = getters
        self.reuse = reuse
        self.dtype = dtype
        self.streams = streams
        self.has_words = has_words
        self.getter_path = getter_path
        self.records = records
        self._children: dict[str, tuple[Fixed, slice]] = {}
        self._others: dict[tuple[Reuse, Any], Fixed] = {}

    def child(self, name: str) -> tuple["Fixed", slice]:
        """That of the scope ``name`` below, and where its variables are among this one's."""
        found = self._children.get(name)
        if found is None:
            structure, where = self.structure.below(name)
            path, records = self.getter_path, self.records
            child = self.other(
                structure=structure,
                getter_path=None if path is None else below(path, name),
                records=None if records is None else records.child(name),
            )
            found = (child, where)
            if structure.names:  # else anyone's guesses would pile up here
                self._children[name] = found
        return found

    def changed(self, changes: Mapping[str, Any], path: str | None) -> "Fixed":
        """With what changes of reuse, dtype and getters; getters are added.

        Args:
            changes: As `_defaults.read` gives them.
            path: `Scope.name`, by which added getters know the scope.
        """
        reuse, dtype = changes.get("reuse", self.reuse), changes.get("dtype", self.dtype)
        if "getters" in changes:  # which may be new ones in each call, and would pile up
            getters = self.getters + changes["getters"]
            path = path_for(changes["getters"], path, self.getter_path)
            return self.other(reuse=reuse, dtype=dtype, getters=getters, getter_path=path)
        found = self._others.get((reuse, dtype))
        if found is None:
            found = self._others[reuse, dtype] = self.other(reuse=reuse, dtype=dtype)
        return found

    def other(self, **changed: Any) -> "Fixed":
        """The same with other facts."""
        facts = {key: getattr(self, key) for key in _FACTS}
        return intern(**{**facts, **changed})


_FACTS = (
    "structure",
    "reuse",
    "dtype",
    "getters",
    "streams",
    "has_words",
    "getter_path",
    "records",
)

_fixed: "weakref.WeakValueDictionary[tuple[Any, ...], Fixed]" = weakref.WeakValueDictionary()
# Reentrant, since the garbage collector may run anyone's __del__ while it is held.
_fixed_lock = threading.RLock()


def intern(
    structure: Structure,
    reuse: Reuse,
    dtype: Any,
    getters: tuple[CustomGetter, ...],
    streams: tuple[str, ...],
    has_words: bool,
    getter_path: str | None = None,
    records: RequestedRecords | None = None,
) -> Fixed:
    """The one of these facts.

    Args:
        structure: The relative names.
        reuse: As of `variable_scope`.
        dtype: The dtype that was named for look-ups that name none, or None.
        getters: Custom getters, outermost first.
        streams: The names of the random streams.
        has_words: Whether words are among the leaves (`_place`).
        getter_path: The path by which getters know the scope, if one of them reads names.
        records: The records that are requested, where the scope has crossed a boundary.
    """
    # The identities of getters can't be another's while the entry lives: it holds the getters.
    of_getters = (getter_path, *identities(getters)) if getters else ()
    key = (structure, reuse, dtype, of_getters, streams, has_words, records)
    with _fixed_lock:
        fixed = _fixed.get(key)
        if fixed is None:
            fixed = Fixed(
                structure, reuse, dtype, getters, streams, has_words, getter_path, records
            )
            _fixed[key] = fixed
        return fixed
