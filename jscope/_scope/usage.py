"""The usage tracker: state that related scopes share outside the pytree.

A usage tracker begins at a root scope, or where JAX unflattens a scope, and is shared along ``/``.
It is not part of the pytree: what crosses a transform's boundary begins a new one. It holds

* the names requested and the random keys drawn, with the trace and the call site of each:
  requesting one name, or drawing one stream, twice in one tracker and one trace is a second
  use. JAX may run a body again in another trace, or not at all, so uses in different traces
  are never compared;
* which of these names were first requested as not trainable, or with unknown trainability;
* the `Ledger` of `js.with_updates` and that of `js.with_records`, if the scope was made by
  these. A ledger takes values only in the trace in which it was opened: a value of an inner
  trace would leak. Where records are requested, that alone crosses a transform's boundary
  (`RequestedRecords`), so that a record made behind it is an error and isn't lost;
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
import itertools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from jax.extend.core import get_opaque_trace_state

from .._names.names import below
from .._names.selectors import Selector, matching
from .call_sites import Site

K = TypeVar("K", bound=Hashable)


def trace_state() -> object:
    """The present trace, to be compared with ``==``."""
    return get_opaque_trace_state(convention="jscope")


clock = itertools.count(1).__next__  # the times of this process, each once


class Base:
    """A root scope, or a scope at a boundary, to which the names of operations are relative.

    Attributes:
        began: When, by `clock`.
        blocks: What is entered by ``with``, by the scope's path from here (`_scope.name_stack`).
    """

    began: int
    blocks: dict[str, list[Any]] | None = None


@dataclass(frozen=True, slots=True)
class RequestedRecords:
    """Which records `js.with_records` collects, as the scopes in it know it.

    Part of a scope's identity where it crosses a transform's boundary.

    Attributes:
        selector: Picks records by their names relative to the scope of `js.with_records`; None
            picks all.
        scope: The path of a scope from there; ``""`` if the selector is None, which reads none.
    """

    selector: Selector | None = field(compare=False)
    scope: str = ""
    _identity: Hashable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        same = self.selector if isinstance(self.selector, str) else id(self.selector)
        object.__setattr__(self, "_identity", None if self.selector is None else same)

    def child(self, name: str) -> Self:
        """That of the scope ``name`` below."""
        if self.selector is None:
            return self
        return replace(self, scope=below(self.scope, name))

    def picks(self, name: str, value: object) -> bool:
        """Whether a record of the scope is collected."""
        if self.selector is None:
            return True
        record = {below(self.scope, name): value}
        return bool(matching(record, self.selector, allow_empty=True))


class Ledger:
    """Values by whole name, taken in one trace.

    A scope that outlives the call reads what was assigned in it from here.
    """

    __slots__ = ("entries", "is_open", "out_of_reach", "trace")

    def __init__(self) -> None:
        self.trace = trace_state()
        self.entries: dict[str, Any] = {}
        # Records made in other traces: names to shapes and dtypes.
        self.out_of_reach: dict[str, Any] = {}
        self.is_open = True

    def takes(self) -> bool:
        """Whether a value of the present trace may be entered."""
        return self.is_open and trace_state() == self.trace

    def close(self) -> None:
        """Accept no more values; those it holds stay."""
        self.is_open = False


class RecordsLedger(Ledger):
    """The ledger of one `js.with_records`.

    Attributes:
        scope: The whole path of its scope.
        selector: Its selector.
        outer: The ledger that a scope which outlives this call records to.
    """

    __slots__ = ("outer", "scope", "selector")

    def __init__(self, scope: str, selector: Selector | None, outer: "RecordsLedger | None"):
        super().__init__()
        self.scope = scope
        self.selector = selector
        self.outer = outer

    def requested(self, path: str) -> RequestedRecords:
        """What the scope of this whole path knows where it crosses a transform's boundary."""
        if self.selector is None:
            return RequestedRecords(None)
        relative = path[len(self.scope) + 1 :] if self.scope else path
        return RequestedRecords(self.selector, relative)


class Usage:
    """See the top of this file."""

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
        traces = (*self.enclosing, trace_state())
        earlier = [_again(self._uses, name, site, trace) for trace in traces]
        return next((found for found in earlier if found is not None), None)

    def roll_back(self, name: str) -> None:
        """Take back the first request for a name in this trace, since it failed."""
        uses = self._uses[name]
        del uses[-1 - len(self.enclosing) :]
        if not uses:
            self._untrained.pop(name, None)

    def draw(self, draw: Hashable, site: Site) -> Site | None:
        """Count a random key that is drawn; the site of an earlier draw in the same trace."""
        return _again(self._drawn, draw, site, trace_state())

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


def _again(uses: _Uses[K], what: K, site: Site, trace: object) -> Site | None:
    those = uses.setdefault(what, [])
    for state, first in those:
        if state == trace:
            return first
    those.append((trace, site))
    del those[:-_MOST_TRACES]
    return None
