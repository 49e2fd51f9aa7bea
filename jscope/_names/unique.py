"""Names made unique: how ``variable_scope(None, default_name="conv")`` finds ``conv_1``.

TF1 counts, in one table of the graph, how often each scope was opened; it forgets what is below
a scope when the scope is left, and what was opened in a scope entered by its object when that is
left. Here scopes are values that are never left, and there is no table: each Scope object records
which scopes were opened through it, and through which scope it was opened. That gives TF's names:

* A scope that is opened by name starts with the recorded names below it. What is opened in it is
  recorded in it alone; so when the name is opened again, counting begins anew.
* A scope that is entered by its object starts with all recorded names below it. What is opened in
  it is not recorded in the scopes from which it was entered.

``scope / name`` opens nothing: only `variable_scope` counts, at the call.

Source: ``_VariableScopeStore``, TensorFlow 1.15, ``python/ops/variable_scope.py``.
"""

import itertools
import threading
from collections.abc import Iterator, Set

from .names import below

_NONE: frozenset[str] = frozenset()

# Two threads that open default names through one scope must get two names.
_lock = threading.RLock()


class Openings:
    """Which scopes were opened through one Scope object: what makes default names unique."""

    __slots__ = ("_apart", "_deep", "_names", "_outer", "_path")

    def __init__(
        self,
        path: str,
        outer: "Openings | None" = None,
        names: frozenset[str] = _NONE,
        *,
        apart: bool = False,
    ):
        self._path = path
        self._outer = outer
        self._names = set(names)
        self._deep = names  # those with which another scope may start
        self._apart = apart

    @property
    def is_by_name(self) -> bool:
        """Whether the scope was opened by a name, and not entered by its object."""
        return self._outer is not None and not self._apart

    def open(self, name: str) -> "Openings":
        """Open a scope by its name, which is relative to this one."""
        whole = below(self._path, name)
        with _lock:
            if "/" in name:
                self._deep |= {whole}
            self._names.add(whole)
            taken = frozenset(_within(whole, self._deep)) if self._deep else _NONE
            if taken:
                self._names -= taken
                self._deep -= taken
        return Openings(whole, self, taken)

    def open_unique(self, name: str) -> tuple[str, "Openings"]:
        """Open ``name``, ``name_1``, ``name_2``, ...: the first that wasn't opened yet."""
        with _lock:
            tried = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(1)))
            free = next(n for n in tried if below(self._path, n) not in self._names)
            return free, self.open(free)

    def enter(self, path: str) -> "Openings":
        """Enter a scope by its object, which may be anywhere."""
        # It counts as opened for all that is not left before: for the innermost scope around it.
        around = self
        while around._outer is not None and not around._apart and not _is_in(path, around._path):
            around = around._outer
        with _lock:
            knowing = self._outward(path)
            known = frozenset(name for each in knowing for name in _within(path, each._names))
            if path:
                around._names.add(path)
                around._deep |= {path}
        return Openings(path, self, known, apart=True)

    def _outward(self, path: str) -> Iterator["Openings"]:
        """All records that may have scopes below a path."""
        each: Openings | None = self
        while each is not None:
            yield each
            knows_all = each._apart and (path == each._path or _is_in(path, each._path))
            each = None if knows_all else each._outer


def _is_in(name: str, scope: str) -> bool:
    return not scope or name.startswith(scope + "/")


def _within(scope: str, names: Set[str]) -> Iterator[str]:
    return (name for name in names if _is_in(name, scope))
