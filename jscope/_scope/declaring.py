"""The context of a declaring scope: it records what is requested, and answers with abstract values.

Its static part is (run, path, stack, defaults). JAX's hash of a structure ignores static parts,
so a few bits of their hash are encoded as empty children, ``None`` or ``()``; otherwise every
path would share one bucket of JAX's caches. Defaults are compared by identity, since they may be
arrays. Scopes find the run's `Recorder` through a `Run`, which refers to it weakly, so that a
scope, or a JAX cache that keeps a scope's structure, keeps no model alive; a scope that outlives
its run raises an error.

The only leaf of a declaring scope is an array of zeros, in a stack: `jax.lax.scan` and `jax.vmap`
slice it. It has no variables as leaves; code that needs them uses trees, or `Scope.specs`. A slice
of a stack lacks the leading dimensions that are the lengths of its stacks.

Inside `jax.shard_map` shapes are those of one shard. The transform's specs of a declaring
scope's variables can't be known; `Scope.specs` records it. Where it was not recorded, variables are
taken to be replicated, as with ``P()``; if they are not, applying the model finds other shapes than
were declared.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import AbstractMesh, PartitionSpec
from jax.typing import DTypeLike

from .._errors import (
    ConstraintError,
    GetterError,
    MissingVariableError,
    RegularizerError,
    ScopeError,
    ShapeMismatchError,
    missing_in_scope,
)
from .._names.names import below, check_root, inside, join, outward
from .._tree.vartree import VarTree
from .._variables import initial_value as _initial
from .._variables.closures import check_untraced
from .._variables.collections import check_collections
from .._variables.request import Reuse, Shape, VariableRequest, check_found, normalize
from .._variables.spec import Stack, VariableSpec
from ..initializers import InitializedValue
from ..sharding import check_spec
from .arguments import Arguments
from .call_sites import Site, site_text
from .context import WITH_A_TREE, Leaves, stack_marker, unsliced_error, unsliced_stacks
from .defaults import Defaults
from .getters import Creator, CustomGetter, composed, path_for
from .ledgers import RequestedRecords
from .usage import Usage
from .with_blocks import WithBlock, WithBlocks


class RecordedSpecs(NamedTuple):
    """How a declaring scope is sharded where it is passed to a transform; see `Recorder`.

    ``function`` takes the names of variables relative to ``scope``, and their shapes behind
    ``lengths``, those of the stacks that are not sliced there.
    """

    scope: str
    lengths: tuple[int, ...]
    function: Callable[[str, Any], Any]


@dataclass(slots=True)
class Entry:
    """The recorder's entry of one variable: its spec, where it was created, how often requested."""

    spec: VariableSpec
    site: Site
    uses: int = 0


class Recorder:
    """The recorder of a declaring run: the variables that it has created so far, in order.

    They are static facts, never tracers. It lives as long as the call of `js.declare` that made
    it. `_model.declare` has one with values.
    """

    has_values = False

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._specs: dict[str, RecordedSpecs] = {}
        # Reentrant: a user's creator, which runs while it is held, may request another variable.
        self._lock = threading.RLock()

    def create(self, name: str, site: Site, spec: Callable[[], VariableSpec]) -> "Entry":
        """A variable's entry: a new one, or the one that another thread has just added."""
        with self._lock:
            if name not in self.entries:
                self.entries[name] = Entry(spec(), site)
            return self.entries[name]

    def value(self, name: str, seen: jax.ShapeDtypeStruct) -> Array:
        """A variable as the model sees it: an abstract value."""
        # In a trace, as every declaration is, this computes nothing: it is one equation. It is
        # jnp.zeros at a third of the cost, which is most of what declaring adds to tracing.
        if jnp.issubdtype(seen.dtype, jax.dtypes.extended):
            return jnp.zeros(seen.shape, seen.dtype)
        return lax.broadcast(np.zeros((), seen.dtype), seen.shape)

    def accepted(self, name: str, initializer: object) -> object:
        """The initializer of a new variable, if it can wait until the trace is over."""
        if callable(initializer):  # a traced initial value has its own error
            check_untraced(name, initializer)
        return initializer

    def draw(self, scope: str, stream: str, name: str | None) -> Array:
        """An abstract random key, of any stream."""
        return jax.random.key(0)

    def record_specs(self, specs: "RecordedSpecs") -> None:
        """Record how the variables below a scope are sharded where it is passed to a transform."""
        self._specs[specs.scope] = specs

    def specs_of(self, name: str) -> "RecordedSpecs | None":
        """The recorded specs of the innermost scope around a variable that has any."""
        scope = name
        while scope:
            scope = scope.rpartition("/")[0]
            if scope in self._specs:
                return self._specs[scope]
        return None

    def created(self, name: str) -> VariableSpec | None:
        """The variable's spec, if it has been created; doesn't count as a request."""
        entry = self.entries.get(name)
        return None if entry is None else entry.spec

    def specs(self) -> dict[str, VariableSpec]:
        """What was declared, in order of creation."""
        return {name: entry.spec for name, entry in self.entries.items()}

    def times(self) -> dict[str, int]:
        """How often each variable was requested."""
        return {name: entry.uses for name, entry in self.entries.items()}


class Run:
    """A declaration in progress, as scopes know it: a weak reference to its recorder.

    Attributes:
        blocks: The blocks of ``with`` that are open.
    """

    __slots__ = ("__weakref__", "_recorder", "blocks")

    def __init__(self, recorder: Recorder):
        self._recorder = weakref.ref(recorder)
        self.blocks = WithBlocks()

    def recorder(self, path: str) -> Recorder:
        """The recorder, or an error that the run is over; ``path`` is the requesting scope's."""
        recorder = self._recorder()
        if recorder is None:
            raise ScopeError(
                f"The scope {path!r} belongs to a declaration that has ended. A model must use the "
                "scope it is given, not one kept from an earlier run; to apply a model, write "
                "model(js.Scope(variables), ...)."
            )
        return recorder


# A variable as one scope sees it.


def seen_in_slice(name: str, spec: VariableSpec, stack: Stack) -> jax.ShapeDtypeStruct:
    """While declaring, the shape and dtype that a scope in a stack's slice sees of a variable.

    Raises:
        ShapeMismatchError: If the variable doesn't begin with the stacks' lengths.
    """
    lengths = tuple(length for _, length in stack)
    if spec.shape[: len(lengths)] != lengths:
        raise ShapeMismatchError(
            f"Variable {name} has shape {spec.shape}, but is requested in a slice of "
            + " in ".join(f"the stack {scope!r} of {length}" for scope, length in stack[::-1])
            + ". Every variable of a stack has its length as the first dimension."
        )
    return jax.ShapeDtypeStruct(spec.shape[len(lengths) :], spec.dtype)


def seen_in_shard(
    name: str, whole: jax.ShapeDtypeStruct, recorder: Recorder
) -> jax.ShapeDtypeStruct:
    """While declaring, the shape and dtype that a scope sees: in `jax.shard_map` of one shard."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.manual_axes:
        return whole
    shards = _shard_counts(name, whole, recorder, mesh)
    uneven = [i for i, (size, n) in enumerate(zip(whole.shape, shards, strict=True)) if size % n]
    if uneven:
        i = uneven[0]
        raise ShapeMismatchError(
            f"Variable {name!r} of shape {whole.shape} can't be cut into {shards[i]} shards along "
            f"axis {i}: {whole.shape[i]} / {shards[i]} is not an integer."
        )
    shape = tuple(size // n for size, n in zip(whole.shape, shards, strict=True))
    return jax.ShapeDtypeStruct(shape, whole.dtype)


def shape_of_all_shards(
    name: str, one: jax.ShapeDtypeStruct, sharding: PartitionSpec | None, recorder: Recorder
) -> tuple[int, ...]:
    """While declaring, the shape of a variable created in `jax.shard_map`: of all shards.

    Raises:
        ShapeMismatchError: If the variable's sharding was given, but not that of its scope.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.manual_axes:
        return tuple(one.shape)
    if recorder.specs_of(name) is None and any(_manual_axes(part, mesh) for part in sharding or ()):
        raise ShapeMismatchError(
            f"Variable {name!r} with sharding={sharding} is created inside jax.shard_map over "
            f"{mesh.manual_axes}, where {one.shape} may be the shape of one shard or of all. Pass "
            "the scope with in_specs=(scope.specs(lambda name, value: spec, PartitionSpec()), ...),"
            " which gives the sharding to both runs of the model; or create the variable outside."
        )
    shards = _shard_counts(name, one, recorder, mesh)
    return tuple(size * n for size, n in zip(one.shape, shards, strict=True))


def _shard_counts(
    name: str, value: jax.ShapeDtypeStruct, recorder: Recorder, mesh: AbstractMesh
) -> tuple[int, ...]:
    """While declaring, the number of shards along each axis of a variable, by `Scope.specs`."""
    specs = recorder.specs_of(name)
    if specs is None:
        return (1,) * len(value.shape)
    whole = jax.ShapeDtypeStruct((*specs.lengths, *value.shape), value.dtype)
    spec = tuple(specs.function(name[len(specs.scope) + 1 :] if specs.scope else name, whole))
    of_stack, of_slice = spec[: len(specs.lengths)], spec[len(specs.lengths) :]
    if len(of_slice) > len(value.shape) or any(_manual_axes(part, mesh) for part in of_stack):
        raise ShapeMismatchError(
            f"scope.specs gives {spec} for variable {name!r} of shape {whole.shape}: it must have "
            "at most as many parts as the variable has dimensions, and can't cut a stack itself."
        )
    shards = [1] * len(value.shape)
    for i, part in enumerate(of_slice):
        for axis in _manual_axes(part, mesh):
            shards[i] *= mesh.shape[axis]
    return tuple(shards)


def _manual_axes(part: object, mesh: AbstractMesh) -> tuple[str, ...]:
    """While declaring in `jax.shard_map`: its mesh axes in one part of a spec."""
    axes = part if isinstance(part, tuple) else (part,)
    return tuple(axis for axis in axes if axis in mesh.manual_axes)


# Creating a variable.


def create_spec(
    whole: str,
    request: VariableRequest,
    creators: tuple[Creator, ...],
    stack: Stack,
    recorder: Recorder,
) -> VariableSpec:
    """The spec of a variable that a declaring scope creates, by its variable creators.

    Args:
        whole: Its whole name.
        request: What is requested, the scope's defaults included.
        creators: The scope's variable creators, outermost first.
        stack: The stacks around it.
        recorder: That of the run.
    """
    if not creators:
        return _requested_spec(whole, request, stack, recorder)

    def make(name: str, **arguments: Any) -> VariableSpec:
        if name != whole:
            raise GetterError(
                f"The creator of variable {whole!r} requested the name {name!r}. A creator can't "
                "change a name, since look-ups don't run it; a custom getter can."
            )
        return _requested_spec(whole, VariableRequest(request.name, **arguments), stack, recorder)

    created = composed(creators, make)(name=whole, **request.for_creators())
    if not isinstance(created, VariableSpec):
        raise GetterError(
            f"The creator of variable {whole!r} gave {created!r}, not a VariableSpec. A variable "
            "creator is a function f(next_creator, **arguments) that returns "
            "next_creator(**arguments)."
        )
    found = jax.ShapeDtypeStruct(created.slice_shape, created.dtype)
    shape, dtype = request.requested_shape(whole), request.requested_dtype(whole, None)
    check_found(whole, shape, dtype, found, _changed_by_creator)
    return created


def _changed_by_creator(found: object) -> str:
    """While declaring, for the error: what to write where a creator changed shape or dtype."""
    return "Its variable creator changed that; leave it out of get_variable, or of the creator."


def _requested_spec(
    whole: str, request: VariableRequest, stack: Stack, recorder: Recorder
) -> VariableSpec:
    """The spec of a variable that a declaring scope creates as requested, without creators."""
    regularizer, constraint = request.regularizer, request.constraint
    if not (regularizer is None or callable(regularizer)):
        raise RegularizerError(
            f"Variable {whole!r}: a regularizer is a function f(value) -> scalar, such as "
            f"regularizers.l2(1e-4), got {regularizer!r}."
        )
    if not (constraint is None or callable(constraint)):
        raise ConstraintError(
            f"Variable {whole!r}: The `constraint` argument must be a callable f(value) -> value, "
            f"got {constraint!r}."
        )
    shape, dtype, initializer = request.shape, request.dtype, request.initializer
    if isinstance(initializer, InitializedValue):
        shape, dtype = _from_source(whole, initializer, shape, dtype, stack, recorder)
    wanted = normalize(whole, shape, dtype, recorder.accepted(whole, initializer))
    sharding, partitioner = request.sharding, request.partitioner
    if sharding is None and partitioner is not None:
        if not callable(partitioner):
            raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}.")
        sharding = partitioner(whole, wanted.shape, wanted.dtype)
    if sharding is not None:
        sharding = check_spec(whole, sharding, wanted.shape)
    collections = VariableSpec.collections
    if request.collections is not None:
        collections = check_collections(whole, request.collections)
    one = jax.ShapeDtypeStruct(wanted.shape, wanted.dtype)
    shape = shape_of_all_shards(whole, one, sharding, recorder)
    return VariableSpec(
        (*(length for _, length in stack), *shape) if stack else shape,
        wanted.dtype,
        wanted.initializer,
        request.trainable,
        regularizer,
        constraint,
        sharding,
        collections,
        stack,
    )


def _from_source(
    whole: str,
    initializer: InitializedValue,
    shape: Shape,
    dtype: DTypeLike | None,
    stack: Stack,
    recorder: Recorder,
) -> tuple[Shape, DTypeLike | None]:
    """While declaring, the shape and dtype of a variable that starts as another recorded one."""
    for name in outward(whole, initializer.name):
        source = recorder.created(name)
        if source is not None:
            shared = sum(a == b for a, b in zip(source.stack, stack, strict=False))
            seen = jax.ShapeDtypeStruct(source.shape[shared:], source.dtype)
            like = _initial.like_source(initializer, seen)
            return (
                like.shape if shape is None else shape,
                like.dtype if dtype is None else dtype,
            )
    return shape, dtype  # created later, so it must be given


# The context.


class Found(NamedTuple):
    """A recorded variable as the declaring scope that found or created it sees it."""

    name: str
    entry: Entry
    seen: jax.ShapeDtypeStruct
    recorder: Recorder

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.seen.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.seen.dtype
        return dtype


_HASH_BITS = 12
_HALF = _HASH_BITS // 2
_MASK = (1 << _HALF) - 1
_HALVES = [tuple(None if n >> i & 1 else () for i in range(_HALF)) for n in range(1 << _HALF)]


class Declaring:
    """The context of a declaring scope; see the top of this file."""

    creation_only = None  # all defaults cross a transform's boundary
    creates = True
    second_use = "A loop over layers needs a scope for each: scope / f'layer_{i}'."

    __slots__ = (
        "_path",
        "beside",
        "bits",
        "defaults",
        "is_unused",
        "left",
        "outer",
        "records",
        "run",
        "stack",
    )

    def __init__(
        self,
        run: Run,
        path: str,
        stack: Stack,
        defaults: Defaults,
        records: RequestedRecords | None = None,
        outer: "Declaring | None" = None,
        beside: WithBlock | None = None,
        left: WithBlock | None = None,
    ):
        self.run = run
        self._path = path
        self.stack = stack
        self.defaults = defaults
        self.records = records
        # See `with_blocks`: the context of the scope that this one was opened from; whether nothing
        # was done with it since; the block that it, or a scope around it, was opened beside; the
        # block after which it goes on, or such a scope does, by a name that the block has rebound.
        self.outer = outer
        self.is_unused = False
        self.beside = beside
        self.left = left
        code = hash((run, path))
        self.bits = _HALVES[code & _MASK] + _HALVES[code >> _HALF & _MASK]

    @property
    def path(self) -> str:
        """The whole path; whatever is done with a scope reads it."""
        self.is_unused = False
        return self._path

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Declaring)
            and self.run is other.run
            and self.path == other.path
            and self.stack == other.stack
            and self.defaults is other.defaults
            and self.records == other.records
        )

    def __hash__(self) -> int:
        return hash((self.run, self.path))

    @property
    def reuse(self) -> Reuse:
        return self.defaults.reuse

    @property
    def creators(self) -> tuple[Creator, ...]:
        return self.defaults.creators

    @property
    def getters(self) -> tuple[CustomGetter, ...]:
        return self.defaults.getters

    @property
    def arguments(self) -> Arguments:
        return self.defaults.arguments

    @property
    def has_values(self) -> bool:
        """Whether variables have values already."""
        return self.run.recorder(self.path).has_values

    @property
    def getter_path(self) -> str:
        scope = self.defaults.getters_from
        return self.path[len(scope) + 1 :] if scope else self.path

    def _marker(self, leaves: Leaves) -> Array:
        """The stand-in for a name hash, in a stack."""
        marker: Array = leaves[_HASH_BITS]
        return marker

    # Other contexts.

    def child(self, name: str, leaves: Leaves) -> tuple["Declaring", Leaves]:
        context = self._below(name, self.stack)
        return context, context.bits + leaves[_HASH_BITS:]

    def stacked(self, name: str, length: int, leaves: Leaves) -> tuple["Declaring", Leaves]:
        context = self._below(name, (*self.stack, (below(self.path, name), length)))
        outer = self._marker(leaves) if self.stack else None
        return context, (*context.bits, stack_marker(outer, length))

    def _below(self, name: str, stack: Stack) -> "Declaring":
        records = None if self.records is None else self.records.child(name)
        path, inherited = below(self.path, name), self.defaults.inherited
        return Declaring(self.run, path, stack, inherited, records, self, self.beside, self.left)

    def folded(self, i: object, leaves: Leaves) -> tuple["Declaring", Leaves]:
        return self, leaves  # no key depends on it

    def with_defaults(self, changes: Mapping[str, Any], name: str) -> "Declaring":
        if not changes:
            return self
        defaults = self.defaults.changed(changes)
        if "getters" in changes:
            boundary = self.path[: len(self.path) - len(name)].rstrip("/")
            known = path_for(changes["getters"], boundary, self.defaults.getters_from)
            defaults = replace(defaults, getters_from=known)
        return self._at(defaults, self.records)

    def opened(self, changes: Mapping[str, Any], name: str) -> "Declaring":
        made = self.with_defaults(changes, name)
        made.beside = self.run.blocks.beside(self.outer) or self.beside
        made.is_unused = True  # opening it has read the path
        return made

    def requesting(self, records: RequestedRecords) -> "Declaring":
        return self._at(self.defaults, records)

    def with_values(self, tree: VarTree, leaves: Leaves) -> tuple["Declaring", Leaves]:
        return self, leaves  # there are no values

    def with_arguments(self, arguments: Arguments) -> "Declaring":
        if arguments == self.defaults.arguments:
            return self
        return self.with_defaults({"arguments": arguments}, "")

    def without_constraint(self) -> "Declaring":
        there = self._at(self.defaults.inherited, self.records)
        there.outer = there.left = None  # it was not opened here
        return there

    def _at(self, defaults: Defaults, records: RequestedRecords | None) -> "Declaring":
        of_blocks = self.outer, self.beside, self.left
        return Declaring(self.run, self.path, self.stack, defaults, records, *of_blocks)

    def is_foreign(self, other: object) -> str | None:
        if not isinstance(other, Declaring):
            return "has values, while this one declares"
        return None if other.run is self.run else "belongs to another declaration"

    def to_bytes(self) -> bytes:
        raise ScopeError(
            f"The scope {self.path!r} declares: it belongs to a run of its model, which can't "
            f"be exported. Export what takes values: {WITH_A_TREE}."
        )

    # Variables.

    def fill(self, request: VariableRequest) -> tuple[VariableRequest, np.dtype[Any] | None]:
        return self.defaults.fill(request), None

    def find(self, name: str, whole: str, leaves: Leaves) -> "Found | None":
        recorder = self.run.recorder(self._path)
        check_root(whole)
        if self.stack:
            self.check_sliced(leaves, f"Variable {whole!r}")
        entry = recorder.entries.get(whole)
        return None if entry is None else self._found(whole, entry, recorder)

    def create(self, whole: str, request: VariableRequest, reuse: Reuse, site: Site) -> "Found":
        if reuse is True:
            raise MissingVariableError(
                f"Variable {whole} does not exist, or was not created with get_variable(). Did you "
                "mean to set reuse=js.AUTO_REUSE in variable_scope?"
            )
        recorder = self.run.recorder(self._path)
        creators = self.defaults.creators
        entry = recorder.create(
            whole, site, lambda: create_spec(whole, request, creators, self.stack, recorder)
        )
        blocks = self.run.blocks
        block = (blocks.beside(self) if blocks.open else None) or self.beside
        if block is not None:
            block.created.setdefault(whole, site)
        if self.left is not None:
            self.run.blocks.created_after(self.left, whole, site)
        return self._found(whole, entry, recorder)

    def _found(self, whole: str, entry: Entry, recorder: Recorder) -> "Found":
        return Found(whole, entry, self._seen(whole, entry.spec, self.stack, recorder), recorder)

    def value(self, found: "Found") -> Array:
        value = found.recorder.value(found.name, found.seen)
        found.entry.uses += 1
        return value

    def origin(self, found: "Found") -> str:
        return f"Originally defined at:\n{site_text(found.entry.site)}"

    def _seen(
        self, whole: str, spec: VariableSpec, stack: Stack, recorder: Recorder
    ) -> jax.ShapeDtypeStruct:
        """A variable as a slice of these stacks, and inside `jax.shard_map` a shard, sees it."""
        if stack:
            whole_slice = seen_in_slice(whole, spec, stack)
        else:
            whole_slice = jax.ShapeDtypeStruct(spec.shape, spec.dtype)
        return seen_in_shard(whole, whole_slice, recorder)

    def read(self, name: str, leaves: Leaves, *, counted: bool = True) -> Array:
        recorder = self.run.recorder(self.path)
        whole = join(self.path, name)
        entry = recorder.entries.get(whole)
        if entry is None:
            created = tuple(recorder.specs())
            error = missing_in_scope(self.path, name, self.variables(), created)
            raise MissingVariableError(
                f"{error} scope[name] reads what exists; to create a variable, write "
                "scope.get_variable(name, shape)."
            )
        sliced = len(self.stack) - (unsliced_stacks(self._marker(leaves)) if self.stack else 0)
        entry.uses += counted
        seen = self._seen(whole, entry.spec, self.stack[:sliced], recorder)
        return recorder.value(whole, seen)

    def has(self, name: str) -> bool:
        return self.run.recorder(self.path).created(join(self.path, name)) is not None

    def variables(self) -> tuple[str, ...]:
        return tuple(inside(self.path, self.created()))

    def trainable_variables(self, usage: Usage) -> tuple[str, ...]:
        trained = (name for name, spec in self.created().items() if spec.trainable)
        return tuple(inside(self.path, trained))

    def created(self) -> Mapping[str, VariableSpec]:
        return self.run.recorder(self.path).specs()

    def check_sliced(self, leaves: Leaves, what: str) -> None:
        if self.stack and unsliced_stacks(self._marker(leaves)):
            raise unsliced_error(self.path, what)

    # Random keys.

    def draw(self, stream: str, name: str | None, leaves: Leaves) -> Array:
        return self.run.recorder(self.path).draw(self.path, stream, name)

    # Blocks of ``with``.

    def enter(self, site: Site | None, names: frozenset[str]) -> None:
        outer = None if site is None else self.outer
        self.run.blocks.enter(self, self._path, outer, site or (), names)
        self.is_unused = site is not None  # entering it has read the path

    def is_from(self, other: object) -> bool:
        return self.outer is other

    def leave(self, names: frozenset[str], *, failed: bool) -> str | None:
        block = self.run.blocks.leave(self)
        if block is not None and names and names <= block.names:
            block.names = names
            self.left = block
        is_noticed = self.is_unused and not failed
        return self.run.blocks.warning(block) if is_noticed and block is not None else None

    # For the pytree registration, and for printing.

    def static(self) -> "Declaring":
        """What crosses a transform's boundary."""
        return self

    def names(self) -> tuple[str, ...]:
        """The names of the leaves that are variables."""
        return ()

    def with_leaves(
        self, function: Callable[[str, Any], object], rest: object, leaves: Leaves
    ) -> Leaves:
        lengths = tuple(self._marker(leaves).shape) if self.stack else ()
        self.run.recorder(self.path).record_specs(RecordedSpecs(self.path, lengths, function))
        return self.bits + (rest,) * (len(leaves) - _HASH_BITS)

    def leaf_keys(self, leaves: Leaves) -> Iterable[object]:
        return map(jax.tree_util.FlattenedIndexKey, range(len(leaves)))

    def summary(self) -> str:
        return "declaring"


def declaring_root(recorder: Recorder) -> tuple[Declaring, Leaves]:
    """The declaring context, and the leaves, of the root scope of a declaration."""
    context = Declaring(Run(recorder), "", (), Defaults())
    return context, context.bits
