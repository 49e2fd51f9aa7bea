"""What a model asks for while it is declared: static facts, never tracers.

A `Recorder` lives as long as the `jscope.declare` call that made it. Scopes find it through
a `Run`, which refers to it weakly, so that a scope, or a JAX cache that keeps a scope's
structure, keeps no model alive; a scope that outlives its run finds nothing, and says so.

Imports: `_collections`, `_errors`, `_sites`, `_traced`, `_wanted`, `initializers`,
`regularizers`, JAX and NumPy.
"""

import enum
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from . import _wanted
from ._collections import GraphKeys
from ._errors import (
    MissingVariableError,
    ScopeError,
    VariableExistsError,
)
from ._sites import Site, site_text
from ._traced import check_untraced
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
        collections: The collections that were named for it, for `Declaration.collection`.
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
    collections: tuple[str, ...] = (GraphKeys.GLOBAL_VARIABLES,)
    stack: Stack = ()

    @property
    def slice_shape(self) -> tuple[int, ...]:
        """The shape of one slice: without the stacks' lengths."""
        return self.shape[len(self.stack) :]


def exists_already(name: str, first: Site, second: Site, hint: str) -> VariableExistsError:
    """Compose the error for a second use of a name that was not said to be shared."""
    return VariableExistsError(
        f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or "
        f"reuse=js.AUTO_REUSE in variable_scope, or scope.shared(...)? {hint}\n"
        f"Originally defined at:\n{site_text(first)}\nAsked for again at:\n{site_text(second)}"
    )


class ToldSpecs(NamedTuple):
    """How a scope is sharded where it is passed to a transform.

    ``function`` takes the names of variables relative to ``scope``, and their shapes behind
    ``lengths``, those of the stacks that are not sliced there.
    """

    scope: str
    lengths: tuple[int, ...]
    function: Callable[[str, Any], Any]


@dataclass
class _Entry:
    spec: VariableSpec
    site: Site
    times: int = 0


class Recorder:
    """The variables that one run has created so far, in order."""

    has_values = False

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._told: dict[str, ToldSpecs] = {}
        # Reentrant: what creates a variable may be the user's function, which may ask for another.
        self._lock = threading.RLock()

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
        asked_shape: int | Iterable[int | None] | None,
        asked_dtype: Any,
        seen: Callable[[VariableSpec], jax.ShapeDtypeStruct],
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
            seen: What the asking scope sees of a variable: a slice, or a shard.
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
                _wanted.check_found(
                    name,
                    asked_shape,
                    asked_dtype,
                    seen(entry.spec),
                    lambda: f"Originally defined at:\n{site_text(entry.site)}",
                )
            entry.times += 1
            return entry.spec

    def value(self, name: str, spec: VariableSpec, seen: jax.ShapeDtypeStruct) -> Array:
        """A variable as the model sees it: an abstract value."""
        del name, spec  # which `_inline` needs
        # In a trace, as every declaration is, this computes nothing: it is one equation. It is
        # jnp.zeros at a third of the cost, which is most of what declaring adds to tracing.
        if jnp.issubdtype(seen.dtype, jax.dtypes.extended):
            return jnp.zeros(seen.shape, seen.dtype)
        return lax.broadcast(np.zeros((), seen.dtype), seen.shape)

    def accepted(self, name: str, initializer: Any) -> Any:
        """The initializer of a new variable, if it can wait until the trace is over."""
        if callable(initializer):  # a traced initial value has an error of its own
            check_untraced(name, initializer)
        return initializer

    def draw(self, scope: str, stream: str, name: str | None) -> Array:
        """A random key: an abstract one, whatever streams there will be."""
        del scope, stream, name  # which `_inline` needs
        return jax.random.key(0)

    def tell_specs(self, told: "ToldSpecs") -> None:
        """Note how the variables below a scope are sharded where it is passed to a transform."""
        self._told[told.scope] = told

    def specs_told(self, name: str) -> "ToldSpecs | None":
        """What was told of the innermost scope around a variable of which anything was told."""
        scope = name
        while scope:
            scope = scope.rpartition("/")[0]
            if scope in self._told:
                return self._told[scope]
        return None

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
