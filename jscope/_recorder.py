"""What a model asks for while it is declared: static facts, never tracers.

A `Recorder` lives as long as the `jscope.declare` call that made it. Scopes find it through
a `Run`, which refers to it weakly, so that a scope, or a JAX cache that keeps a scope's
structure, keeps no model alive; a scope that outlives its run finds nothing, and says so.

The sharing rule is kept by `Asked`, one per scope lineage: a lineage begins at a root scope
or where JAX unflattens a scope, and is shared along ``/``. Asking for one name twice in one
lineage and one trace is a second use. JAX may run a body again in another trace, or not at
all, so uses in different traces are never compared. Trace states are opaque, are compared
with ``==`` and hold weak references only.

Imports: `_errors`, `initializers`, `regularizers`, JAX and NumPy.
"""

import enum
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Literal, TypeAlias

import numpy as np
from jax.extend.core import get_opaque_trace_state
from jax.sharding import PartitionSpec

from . import _initial
from ._errors import MissingVariableError, ScopeError, VariableExistsError
from .initializers import Initializer
from .regularizers import Regularizer


class ReuseMode(enum.Enum):
    """The third value of ``reuse``, beside False and True."""

    AUTO_REUSE = "get or create"

    def __repr__(self) -> str:
        return "AUTO_REUSE"


AUTO_REUSE = ReuseMode.AUTO_REUSE
Reuse: TypeAlias = bool | Literal[ReuseMode.AUTO_REUSE]
Constraint: TypeAlias = Callable[[Any], Any]
Stack: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class VariableSpec:
    """All that is declared of a variable.

    Attributes:
        shape: Its shape.
        dtype: Its dtype.
        initializer: ``f(key, shape, dtype) -> array``, its initial value.
        trainable: Whether an optimizer should update it.
        regularizer: ``f(value) -> scalar`` or None.
        constraint: ``f(value) -> value`` or None, for `Declaration.apply_constraints`.
        sharding: How one slice is sharded over a mesh; None where nobody said.
        stack: ``(scope, length)`` of each stack around it, outermost first. The shape begins
            with these lengths; initializer, regularizer, constraint and sharding are those of
            one slice.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initializer: Initializer
    trainable: bool = True
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    sharding: PartitionSpec | None = None
    stack: Stack = ()

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The shape of one slice: without the stacks' lengths."""
        return self.shape[len(self.stack) :]


# Where a variable was asked for: up to five of the user's frames, innermost first, as code and
# instruction. Each look-up notes one, so finding the line waits until an error needs it.
Site: TypeAlias = tuple[tuple[CodeType, int], ...]


@functools.lru_cache(maxsize=4096)
def _is_users(module: str) -> bool:
    return module.partition(".")[0] not in ("jscope", "jax")


def call_site(frames: int = 5) -> Site:
    """The innermost frames of the caller that belong neither to jscope nor to JAX."""
    site: list[tuple[CodeType, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(site) < frames:
        if _is_users(frame.f_globals.get("__name__", "")):
            site.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(site)


def site_text(site: Site) -> str:
    """A call site as lines, innermost first."""
    lines = [f"  {code.co_filename}:{_line(code, at)}, in {code.co_qualname}" for code, at in site]
    return "\n".join(lines) or "  (unknown)"


def _line(code: CodeType, instruction: int) -> int:
    """The line of an instruction, as ``frame.f_lineno`` finds it."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return next(lines, None) or code.co_firstlineno


class Asked:
    """The names asked for in one scope lineage, with the trace and the place of each."""

    __slots__ = ("_uses",)

    # A scope kept by a long-running program is used in trace after trace; older ones go.
    _MOST_TRACES = 8

    def __init__(self) -> None:
        self._uses: dict[str, list[tuple[object, Site]]] = {}

    def again(self, name: str, site: Site) -> Site | None:
        """Note a use; return the place of an earlier one in the same trace, if there is one."""
        trace = get_opaque_trace_state(convention="jscope")
        uses = self._uses.setdefault(name, [])
        earlier = next((first for state, first in uses if state == trace), None)
        if earlier is None:
            uses.append((trace, site))
            del uses[: -self._MOST_TRACES]
        return earlier

    def forget(self, name: str) -> None:
        """Take back the latest first use of a name, since the request failed."""
        self._uses[name].pop()


def exists_already(name: str, first: Site, second: Site, hint: str) -> VariableExistsError:
    """Compose the error for a second use of a name that was not said to be shared."""
    return VariableExistsError(
        f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
        f"reuse=js.AUTO_REUSE in variable_scope, or scope.shared(...)? {hint}\n"
        f"Originally defined at:\n{site_text(first)}\nAsked for again at:\n{site_text(second)}"
    )


@dataclass
class _Entry:
    spec: VariableSpec
    site: Site
    times: int = 0


class Recorder:
    """The variables that one run has created so far, in order."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> VariableSpec | None:
        """The variable's facts, if it has been created; counts as asking for it."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return None
            entry.times += 1
            return entry.spec

    def get(
        self,
        name: str,
        create: Callable[[], VariableSpec],
        *,
        asked_shape: int | Iterable[int] | None,
        asked_dtype: Any,
        reuse: Reuse,
        site: Site,
        earlier: Site | None,
    ) -> VariableSpec:
        """TF1's table of creating and getting, for one request.

        Args:
            name: The whole name.
            create: Reads what is asked for; called only if the variable doesn't exist, since
                sharing looks at no initializer.
            asked_shape: The shape that was said, or None.
            asked_dtype: The dtype that was said, by the call or the scope, or None.
            reuse: The scope's reuse.
            site: Where it is asked for.
            earlier: Where it was asked for before in the same lineage and trace.

        Returns:
            The facts of the variable as it was created.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None and reuse is True:
                raise does_not_exist(name)
            if entry is None:
                entry = self._entries[name] = _Entry(create(), site)
            elif earlier is not None and reuse is False:
                hint = "A loop over layers needs a scope for each: scope / f'layer_{i}'."
                raise exists_already(name, earlier, site, hint)
            else:
                _initial.check_found(
                    name,
                    asked_shape,
                    asked_dtype,
                    entry.spec,
                    f"Originally defined at:\n{site_text(entry.site)}",
                )
            entry.times += 1
            return entry.spec

    def created(self, name: str) -> VariableSpec | None:
        """The variable's facts, if it has been created; doesn't count as asking for it."""
        entry = self._entries.get(name)
        return None if entry is None else entry.spec

    def specs(self) -> dict[str, VariableSpec]:
        """What was declared, in order of creation."""
        return {name: entry.spec for name, entry in self._entries.items()}

    def times(self) -> dict[str, int]:
        """How often each variable was asked for."""
        return {name: entry.times for name, entry in self._entries.items()}


def does_not_exist(name: str) -> MissingVariableError:
    """Compose TF1's error for a name that ``reuse=True`` does not find."""
    return MissingVariableError(
        f"Variable {name} does not exist, or was not created with get_variable(). Did you mean to "
        "set reuse=js.AUTO_REUSE in variable_scope?"
    )


class Run:
    """A declaration in progress, as scopes know it: a weak reference to its recorder."""

    __slots__ = ("__weakref__", "_recorder")

    def __init__(self, recorder: Recorder):
        self._recorder = weakref.ref(recorder)

    def recorder(self, path: str) -> Recorder:
        """The recorder, or an error that the run is over; ``path`` is the asking scope's."""
        recorder = self._recorder()
        if recorder is None:
            raise ScopeError(
                f"The scope {path!r} belongs to a declaration that has ended. A model must use the "
                "scope it is given, not one kept from an earlier run; to apply a model, write "
                "model(js.Scope(variables), ...)."
            )
        return recorder
