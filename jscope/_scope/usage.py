"""The usage tracker: state that related scopes share outside the pytree.

A usage tracker begins at a root scope, or where JAX unflattens a scope, and is shared along ``/``.
It is not part of the pytree: what crosses a transform's boundary begins a new one. It holds

* the names requested and the random keys drawn, with the trace and the call site of each:
  requesting one name, or drawing one stream, twice in one tracker and one trace is a second
  use. JAX may run a body again in another trace, or not at all, so uses in different traces
  are never compared;
* which of these names were first requested as not trainable, or with unknown trainability;
* the `Ledger` of `js.with_updates` and that of `js.with_records`, if the scope was made by
  these;
* the scopes of templates (`_model.template`);
* its `Base`, from which the names of operations begin (`_scope.name_stack`);
* the path of the scope where it began, to which names are relative (`Scope.name`);
* the trace in which the root scope was made. JAX may run the body of any other trace any number of
  times, so default names, which depend on the number of runs, are refused there;
* in the body of a loop of jscope's own (`tf1.layers.dynamic_rnn`), the traces around it: that body
  is a part of the model's program, so a name requested in it is requested around it too.

Trace states are opaque, are compared with ``==`` and hold weak references only.
"""

import copy
from collections.abc import Hashable, Iterator
from typing import Any, TypeVar

from .call_sites import Site
from .ledgers import Ledger, RecordsLedger
from .name_stack import Base, clock
from .transforms import trace_state

K = TypeVar("K", bound=Hashable)


class Usage:
    """The usage tracker that related scopes share; see the top of this file."""

    __slots__ = (
        "_drawn",
        "_folds",
        "_trace",
        "_untrained",
        "_uses",
        "at_boundary",
        "base",
        "boundary",
        "enclosing",
        "records",
        "templates",
        "updates",
    )

    def __init__(
        self, boundary: str = "", *, at_boundary: bool = False, began: int | None = None
    ) -> None:
        self.boundary = boundary
        self.base = Base()
        self.base.began = clock() if began is None else began
        self._uses: _Uses[str] = {}
        self._untrained: dict[str, bool] = {}
        self._drawn: _Uses[Hashable] = {}
        self._folds: dict[Hashable, Usage] = {}
        self.enclosing: tuple[object, ...] = ()
        self.templates: dict[Any, Any] = {}
        self.updates: Ledger | None = None
        self.records: RecordsLedger | None = None
        self.at_boundary = at_boundary
        self._trace = None if at_boundary else trace_state()

    def runs_once(self) -> bool:
        """Whether the present trace is that of the root scope, which JAX runs once."""
        return not self.at_boundary and trace_state() == self._trace

    def is_of_other_root(self, other: "Usage") -> bool:
        """Whether two scopes are known to descend from different root scopes."""
        return not (self.at_boundary or other.at_boundary or self._uses is other._uses)

    def knows_of(self, name: str) -> bool:
        """Whether a variable's trainability is known."""
        return (
            not self.at_boundary and bool(self._uses.get(name)) and self._untrained.get(name, True)
        )

    def trained(self) -> Iterator[str]:
        """The trainable ones of the names requested, in order."""
        return (name for name, uses in self._uses.items() if uses and name not in self._untrained)

    def request(self, name: str, site: Site, *, trained: bool | None) -> Site | None:
        """Count a request for a variable; the site of an earlier one in the same trace, or None.

        Args:
            name: The whole name.
            site: Where it is requested.
            trained: Whether the variable is trainable; None if that is unknown.
        """
        if trained is not True and not self._uses.get(name):  # when sharing, it is as created
            self._untrained[name] = trained is False
        earlier = None
        for trace in (*self.enclosing, trace_state()):
            found = _count(self._uses, name, site, trace)
            earlier = found if earlier is None else earlier
        return earlier

    def roll_back(self, name: str) -> None:
        """Take back the first request for a name in this trace, since it failed."""
        uses = self._uses[name]
        del uses[-1 - len(self.enclosing) :]
        if not uses:
            self._untrained.pop(name, None)

    def draw(self, draw: Hashable, site: Site) -> Site | None:
        """Count a random key that is drawn; the site of an earlier draw in the same trace."""
        return _count(self._drawn, draw, site, trace_state())

    def open_records(self) -> RecordsLedger | None:
        """The innermost ledger that collects records, if there is one."""
        ledger = self.records
        while ledger is not None and not ledger.is_open:
            ledger = ledger.outer
        return ledger

    def anew(self) -> "Usage":
        """A tracker for other values of the same scope, without any use so far."""
        other = Usage(self.boundary, at_boundary=self.at_boundary)
        other._trace = self._trace
        other.base = self.base
        other.enclosing = self.enclosing
        return other

    def in_loop(self) -> "Usage":
        """The same tracker, for the body of a loop that begins in the present trace."""
        other = copy.copy(self)
        other._folds = {}
        other.enclosing = (*self.enclosing, trace_state())
        return other

    def with_ledgers(self, updates: Ledger | None, records: RecordsLedger | None) -> "Usage":
        """The same tracker with other ledgers; None keeps the one there is."""
        other = copy.copy(self)
        other._folds = {}
        other.updates = updates or self.updates
        other.records = records or self.records
        return other

    def folded(self, fold: Hashable | None) -> "Usage":
        """The same tracker, with draws of its own: one for each fold, or a new one for None."""
        if fold in self._folds:
            return self._folds[fold]
        other = copy.copy(self)
        other._drawn = {}
        other._folds = {}
        if fold is not None:
            self._folds[fold] = other
        return other


_Uses = dict[K, list[tuple[object, Site]]]

# A scope kept by a long-running program is used in trace after trace; older ones are dropped.
_MOST_TRACES = 8


def _count(uses: _Uses[K], what: K, site: Site, trace: object) -> Site | None:
    """Count a use in a trace; the site of an earlier one in it, or None."""
    those = uses.setdefault(what, [])
    for state, first in those:
        if state == trace:
            return first
    those.append((trace, site))
    del those[:-_MOST_TRACES]
    return None
