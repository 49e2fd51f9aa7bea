"""Ledgers: where a scope stores what is assigned or recorded in it during one call.

`js.with_updates` and `js.with_records` each open one for the call of a model, and return what is
in it. A ledger takes values only in the trace in which it was opened: a value of an inner trace
would leak. Where records are requested, that alone crosses a transform's boundary
(`RequestedRecords`), so that a record made behind it is an error and isn't lost.
"""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from .._errors import ScopeError, listed
from .._names.names import below
from .._names.selectors import Selector, matching
from .transforms import trace_state


class Ledger:
    """What is assigned or recorded during one call: values by whole name, taken in one trace.

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


@dataclass(frozen=True, slots=True)
class RequestedRecords:
    """Which records the ledger of `js.with_records` collects, as the scopes in that call know it.

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


class RecordsLedger(Ledger):
    """The ledger of one call of `js.with_records`, which collects the records that it selects.

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


def out_of_reach(names: Collection[str]) -> ScopeError:
    """Compose the error for records that can't reach the ledger of the `js.with_records` around."""
    return ScopeError(
        f"The records {listed(names)} were made inside a transform, from which values come out "
        "only as results. Write the function that is transformed with y, records = "
        "js.with_records(block)(scope, x) and return both; or select others. (A scope made by "
        "scope.with_values(tree) needs the same.)"
    )
