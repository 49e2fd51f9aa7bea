"""The context of a bound scope: it looks variables up in the values it was given.

The static part of a bound scope, `Fixed`, is interned and compared by identity. It holds the
relative names and the facts that can change a result or a decision, and nothing else. ``layer_0``
and ``layer_47`` of equal blocks have the same one, so JAX traces them once. They differ if a custom
getter can read their names (`_scope.getters`), or if records are selected by name. Interning is
weak and locked; JAX's caches hold static parts until `jax.clear_caches`.

The path and the names of the whole tree are stored outside equality, for error messages; no
decision may use them. Defaults that can't change a look-up are creation-only: they are dropped at
a transform's boundary.

The leaves of a bound scope are its variables' values in the order of their names and, with
random streams or in a stack, its name hash (`_scope.context`) and the streams' keys.
"""

import json
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._errors import (
    MissingStreamError,
    MissingVariableError,
    ScopeError,
    ShapeMismatchError,
    listed,
    missing_in_scope,
)
from .._names.names import below, check, inside, join
from .._random.keys import ROOT_LANES, check_key, draw_lanes, fold_integer, fold_words, slices
from .._random.keys import below as lanes_below
from .._tree.values import jax_value
from .._tree.vartree import Structure, VarTree, intern_structure, structure_of, values_of
from .._variables.initializer_argument import is_value
from .._variables.request import AUTO_REUSE, Reuse, VariableRequest, shape_and_dtype
from .._variables.spec import VariableSpec
from .arguments import NO_ARGUMENTS, Arguments
from .call_sites import Site
from .context import WITH_A_TREE, Leaves, stack_marker, unsliced_error, unsliced_stacks
from .defaults import Defaults
from .getters import Creator, CustomGetter, identities, path_for
from .ledgers import RequestedRecords
from .transforms import in_callback
from .usage import Usage


@dataclass(eq=False, repr=False, slots=True, weakref_slot=True)
class Fixed:
    """The static part of a bound scope; made by `fixed_of` alone."""

    structure: Structure
    reuse: Reuse
    dtype: np.dtype[Any] | None
    getters: tuple[CustomGetter, ...]
    streams: tuple[str, ...]
    has_marker: bool
    getter_path: str | None
    records: RequestedRecords | None
    arguments: Arguments
    _children: dict[str, tuple["Fixed", slice]] = field(default_factory=dict, init=False)
    _others: dict[tuple[Reuse, np.dtype[Any] | None], "Fixed"] = field(
        default_factory=dict, init=False
    )

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
            if structure.names:  # else every name that a caller tries would be kept here
                self._children[name] = found
        return found

    def changed(self, changes: Mapping[str, Any], path: str | None) -> "Fixed":
        """With what changes of reuse, dtype and getters; getters are added.

        Args:
            changes: As `_defaults.read` gives them, or arguments of functions.
            path: `Scope.name`, by which added getters know the scope.
        """
        if "arguments" in changes:
            return self.other(arguments=changes["arguments"])
        reuse, dtype = changes.get("reuse", self.reuse), changes.get("dtype", self.dtype)
        if "getters" in changes:  # which may be new objects in each call, and would all be kept
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
        return fixed_of(**{**facts, **changed})


_FACTS = tuple(fact.name for fact in fields(Fixed) if fact.init)

_fixed: "weakref.WeakValueDictionary[tuple[Any, ...], Fixed]" = weakref.WeakValueDictionary()
# Reentrant, since the garbage collector may run any object's __del__ while it is held.
_fixed_lock = threading.RLock()


def fixed_of(
    structure: Structure,
    reuse: Reuse,
    dtype: np.dtype[Any] | None,
    getters: tuple[CustomGetter, ...],
    streams: tuple[str, ...],
    has_marker: bool,
    getter_path: str | None = None,
    records: RequestedRecords | None = None,
    arguments: Arguments = NO_ARGUMENTS,
) -> Fixed:
    """The one `Fixed` with these facts, which equal bound scopes share.

    Args:
        structure: The relative names.
        reuse: As of `variable_scope`.
        dtype: The dtype that was named for look-ups that name none, or None.
        getters: Custom getters, outermost first.
        streams: The names of the random streams.
        has_marker: Whether a name hash, or its stand-in, is among the leaves (`_scope.context`).
        getter_path: The path by which getters know the scope, if one of them reads names.
        records: The records that are requested, where the scope has crossed a boundary.
        arguments: The default arguments of functions.
    """
    # The identities of getters can't be another's while the entry lives: it holds the getters.
    of_getters = (getter_path, *identities(getters)) if getters else ()
    key = (structure, reuse, dtype, of_getters, streams, has_marker, records, arguments)
    with _fixed_lock:
        fixed = _fixed.get(key)
        if fixed is None:
            fixed = Fixed(
                structure,
                reuse,
                dtype,
                getters,
                streams,
                has_marker,
                getter_path,
                records,
                arguments,
            )
            _fixed[key] = fixed
        return fixed


_LOOKUP = frozenset(
    {"reuse", "dtype", "getters", "arguments"}
)  # those of `Defaults` that are not creation-only

ANY_STREAM = "*"  # the name of the stream of a key that is for all streams; not a legal name


@dataclass(eq=False, repr=False, slots=True)
class Bound:
    """The context of a bound scope; see the top of this file."""

    fixed: Fixed
    path: str
    root: Structure
    creation_only: Defaults | None = None

    has_values = True
    creates = is_unused = False
    second_use = (
        "To apply a model again, or in another thread, give it a new scope: "
        "model(js.Scope(tree), ...)."
    )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self.fixed is other.fixed

    def __hash__(self) -> int:
        return hash(self.fixed)

    @property
    def reuse(self) -> Reuse:
        return self.fixed.reuse

    @property
    def creators(self) -> tuple[Creator, ...]:
        return () if self.creation_only is None else self.creation_only.creators

    @property
    def getters(self) -> tuple[CustomGetter, ...]:
        return self.fixed.getters

    @property
    def getter_path(self) -> str:
        return self.fixed.getter_path or ""

    @property
    def arguments(self) -> Arguments:
        return self.fixed.arguments

    @property
    def records(self) -> RequestedRecords | None:
        return self.fixed.records

    @property
    def defaults(self) -> Defaults:
        if self.creation_only is not None:
            return self.creation_only
        fixed = self.fixed
        return Defaults(
            reuse=fixed.reuse,
            dtype=fixed.dtype,
            getters=fixed.getters,
            arguments=fixed.arguments,
        )

    # Other contexts.

    def is_foreign(self, other: object) -> str | None:
        return None if isinstance(other, Bound) else "declares, while this one has values"

    def child(self, name: str, leaves: Leaves) -> tuple["Bound", Leaves]:
        fixed, where = self.fixed.child(name)
        creation_only = None if self.creation_only is None else self.creation_only.inherited
        context = Bound(fixed, below(self.path, name), self.root, creation_only)
        if not fixed.has_marker:
            return context, leaves[where]
        extra = leaves[len(self.fixed.structure.names) :]
        if fixed.streams:
            first, second, *keys = extra
            extra = (*lanes_below((first, second), name), *keys)
        return context, leaves[where] + extra

    def stacked(self, name: str, length: int, leaves: Leaves) -> tuple["Bound", Leaves]:
        context, leaves = self.child(name, leaves)
        names = context.fixed.structure.names
        # JAX's, since users may index the leaves of a stack with traced integers.
        values, extra = tuple(map(jax_value, leaves[: len(names)])), leaves[len(names) :]
        axis = unsliced_stacks(extra[0]) if extra else 0
        _check_lengths(context.path, names, values, axis, length)
        context.fixed = context.fixed.other(has_marker=True)
        if not context.fixed.streams:
            return context, (*values, stack_marker(extra[0] if extra else None, length))
        first, second, *keys = extra
        lanes = map(jax_value, slices((first, second), length))
        return context, (*values, *lanes, *(_repeated_key(key, axis, length) for key in keys))

    def folded(self, i: int | Array, leaves: Leaves) -> tuple["Bound", Leaves]:
        if not self.fixed.streams:
            return self, leaves
        at = len(self.fixed.structure.names)
        first, second, *keys = leaves[at:]
        return self, (*leaves[:at], *fold_integer((first, second), i), *keys)

    def with_defaults(self, changes: Mapping[str, Any], name: str) -> "Bound":
        if not changes:
            return self
        fixed, creation_only = self.fixed.changed(changes, name), self.creation_only
        if creation_only is not None or not _LOOKUP.issuperset(changes):
            creation_only = self.defaults.changed(changes)
            # An initial value has its own dtype; the scope's doesn't apply.
            has_own = is_value(creation_only.initializer, None)
            fixed = fixed.changed({"dtype": None if has_own else creation_only.dtype}, None)
        return Bound(fixed, self.path, self.root, creation_only)

    opened = with_defaults

    def requesting(self, records: RequestedRecords) -> "Bound":
        return Bound(self.fixed.other(records=records), self.path, self.root, self.creation_only)

    def with_values(self, tree: VarTree, leaves: Leaves) -> tuple["Bound", Leaves]:
        structure = structure_of(tree)
        whole = tuple(below(self.path, name) for name in structure.names)
        root = intern_structure(whole) if self.path else structure
        context = Bound(self.fixed.other(structure=structure), self.path, root, self.creation_only)
        return context, (*values_of(tree), *leaves[len(self.fixed.structure.names) :])

    def with_arguments(self, arguments: Arguments) -> "Bound":
        if arguments == self.fixed.arguments:
            return self
        return self.with_defaults({"arguments": arguments}, "")

    def without_constraint(self) -> "Bound":
        creation_only = None if self.creation_only is None else self.creation_only.inherited
        return Bound(self.fixed, self.path, self.root, creation_only)

    def to_bytes(self) -> bytes:
        """What makes two scopes equal, by which JAX compares arguments with those of the export.

        JSON, and beside it the path, for messages. `from_bytes` reads it: the function was traced,
        so that needs JAX alone and no model.
        """
        fixed = self.fixed
        if fixed.getters or fixed.records or fixed.arguments != NO_ARGUMENTS:
            what = "custom getters" if fixed.getters else "requested records"
            if fixed.arguments != NO_ARGUMENTS:
                what = "default arguments of layers"
            raise ScopeError(
                f"The scope {self.path!r} was passed to an exported function with {what}, which "
                "are functions, and jax.export writes none. Make the scope inside: "
                f"{WITH_A_TREE}."
            )
        facts = {
            "names": fixed.structure.names,
            "reuse": repr(fixed.reuse),
            "dtype": None if fixed.dtype is None else fixed.dtype.name,
            "streams": fixed.streams,
            "has_marker": fixed.has_marker,
            "path": self.path,
        }
        return json.dumps(facts).encode()

    # Variables.

    def fill(self, request: VariableRequest) -> tuple[VariableRequest, np.dtype[Any] | None]:
        return request, self.fixed.dtype  # the others can't change a look-up

    def find(self, name: str, whole: str, leaves: Leaves) -> object:
        fixed = self.fixed
        if fixed.has_marker:
            self.check_sliced(leaves, f"Variable {name!r}")
        position = fixed.structure.position(name)
        return None if position is None else leaves[position]

    def create(self, whole: str, request: VariableRequest, reuse: Reuse, site: Site) -> NoReturn:
        if self.has(request.name):
            shape_and_dtype(whole, None)  # the tree holds None, which has neither
        raise self._missing(request.name)

    def value(self, found: Array) -> Array:
        return found

    def origin(self, found: object) -> str:
        return _other_settings()

    def read(self, name: str, leaves: Leaves, *, counted: bool = True) -> Array:
        position = self.fixed.structure.position(name)
        if position is None:
            raise self._missing(name)
        value: Array = leaves[position]
        return value

    def _missing(self, name: str) -> MissingVariableError:
        error = missing_in_scope(self.path, name, self.fixed.structure.names, self.root.names)
        hint = ": js.init this model, or restore a checkpoint that has the name."
        if in_callback():
            hint = (
                ", and no declaration runs what jax.pure_callback calls. Write "
                f"scope.get_variable({name!r}, shape) before the callback too; then js.init "
                "makes it."
            )
        return MissingVariableError(f"{error} A bound scope never creates variables{hint}")

    def has(self, name: str) -> bool:
        return self.fixed.structure.position(name) is not None

    def variables(self) -> tuple[str, ...]:
        return self.fixed.structure.names

    def trainable_variables(self, usage: Usage) -> tuple[str, ...]:
        names = self.fixed.structure.names
        unknown = [name for name in names if not usage.knows_of(below(self.path, name))]
        if unknown:
            raise ScopeError(
                f"Which variables of the scope {self.path!r} are trainable, its values don't say. "
                "A bound scope knows this of variables requested through its root, outside "
                f"transforms and without creators; here not of {listed(unknown)}. Take them from "
                f"the declaration: declared.trainable_variables({self.path!r})."
            )
        return tuple(inside(self.path, usage.trained()))

    def created(self) -> Mapping[str, VariableSpec]:
        return {}

    def check_sliced(self, leaves: Leaves, what: str) -> None:
        if self.fixed.has_marker and unsliced_stacks(leaves[len(self.fixed.structure.names)]):
            raise unsliced_error(self.path, what)

    # Random keys.

    def draw(self, stream: str, name: str | None, leaves: Leaves) -> Array:
        streams = self.fixed.streams
        if streams != (ANY_STREAM,) and stream not in streams:
            have = f"it has {listed(streams)}" if streams else "it has none"
            raise MissingStreamError(
                f"The scope {self.path!r} has no random stream {stream!r} ({have}). Write "
                f"js.Scope(tree, rngs={{{stream!r}: key}}), or rngs=key for all streams."
            )
        first, second, *keys = leaves[len(self.fixed.structure.names) :]
        root = keys[0 if streams == (ANY_STREAM,) else streams.index(stream)]
        return fold_words(root, draw_lanes((first, second), stream, name))

    # Blocks of ``with``: nothing is created in them.

    def enter(self, site: Site | None, names: frozenset[str]) -> None:
        pass

    def leave(self, names: frozenset[str], *, failed: bool) -> str | None:
        return None

    def is_from(self, other: object) -> bool:
        return False

    # For the pytree registration, and for printing.

    def static(self) -> "Bound":
        """What crosses a transform's boundary."""
        return self if self.creation_only is None else Bound(self.fixed, self.path, self.root)

    def names(self) -> tuple[str, ...]:
        """The names of the leaves that are variables, which come first."""
        return self.fixed.structure.names

    def with_leaves(
        self, function: Callable[[str, Any], object], rest: object, leaves: Leaves
    ) -> Leaves:
        names = self.fixed.structure.names
        mapped = tuple(map(function, names, leaves))
        return mapped + (rest,) * (len(leaves) - len(names))

    def leaf_keys(self, leaves: Leaves) -> Iterable[object]:
        extra = len(leaves) - len(self.fixed.structure.names)
        more = ("(name hash 0)", "(name hash 1)", *self.fixed.streams)[:extra]
        names = (*self.fixed.structure.names, *more)
        return map(jax.tree_util.DictKey, names)

    def summary(self) -> str:
        streams = f", streams {listed(self.fixed.streams)}" if self.fixed.streams else ""
        return f"{len(self.fixed.structure.names)} variables{streams}"


def bound_root(tree: VarTree, rngs: object) -> tuple[Bound, Leaves]:
    """The bound context, and the leaves, of a root scope over a tree.

    Raises:
        KeyArgumentError: If ``rngs`` is neither None, a PRNG key, nor a mapping to such.
        VariableNameError: If a stream's name is not legal.
    """
    structure = structure_of(tree)
    if rngs is None:
        fixed = fixed_of(structure, False, None, (), (), False)
        return Bound(fixed, "", structure), values_of(tree)
    named = rngs if isinstance(rngs, Mapping) else {ANY_STREAM: rngs}
    streams = tuple(sorted(named))
    if streams != (ANY_STREAM,) or rngs is named:
        for stream in streams:
            check(stream)
    keys = [check_key(named[stream]) for stream in streams]
    extra = (*ROOT_LANES, *keys) if keys else ()
    fixed = fixed_of(structure, False, None, (), streams, bool(keys))
    return Bound(fixed, "", structure), (*values_of(tree), *extra)


_REUSES: dict[str, Reuse] = {repr(reuse): reuse for reuse in (False, True, AUTO_REUSE)}


def from_bytes(data: bytes | bytearray) -> Bound:
    """The bound context that `Bound.to_bytes` wrote."""
    facts = json.loads(bytes(data))
    names, path = tuple(facts["names"]), facts["path"]
    dtype = None if facts["dtype"] is None else jnp.dtype(facts["dtype"])
    streams = tuple(facts["streams"])
    fixed = fixed_of(
        intern_structure(names), _REUSES[facts["reuse"]], dtype, (), streams, facts["has_marker"]
    )
    return Bound(fixed, path, intern_structure(tuple(below(path, name) for name in names)))


def _repeated_key(key: Array, axis: int, length: int) -> Array:
    """A stream's key in a bound stack: repeated for each slice, along a new axis."""
    shape = np.shape(key)
    return jnp.broadcast_to(jnp.expand_dims(key, axis), (*shape[:axis], length, *shape[axis:]))


def _check_lengths(
    scope: str, names: tuple[str, ...], values: Leaves, axis: int, length: int
) -> None:
    """Raise unless the variables of a bound stack have as many slices as was requested."""
    shapes = {name: tuple(np.shape(value)) for name, value in zip(names, values, strict=True)}
    uneven = {name: s for name, s in shapes.items() if len(s) <= axis or s[axis] != length}
    if uneven:
        found = ", ".join(f"{join(scope, name)!r} {shape}" for name, shape in uneven.items())
        unrolled = any(name.startswith("0/") for name in uneven)
        hint = (
            f"These are layers of their own: write js.stack(tree, {scope!r})"
            if unrolled
            else "Write the length with which the tree was made"
        )
        raise ShapeMismatchError(
            f"The scope {scope!r} was requested as a stack of {length}, but {len(uneven)} of its "
            f"{len(names)} variables don't have {length} slices along axis {axis}: {found}. {hint}."
        )


def _other_settings() -> str:
    """Why a bound variable may have another shape or dtype than requested, for the error."""
    inside = ""
    if jax.sharding.get_abstract_mesh().manual_axes:
        inside = (
            " Inside jax.shard_map shapes are those of one shard: where the scope is sharded, pass "
            "it with in_specs=(scope.specs(function, P()), ...), at declaration too."
        )
    return (
        "The tree holds one and the code requests the other; the tree may come from a model with "
        f"other settings. js.declare(model)(...).check(tree) lists all differences.{inside}"
    )
