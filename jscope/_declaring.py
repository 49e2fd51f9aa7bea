"""The place of a declaring scope: it records what is asked for, and answers with abstract values.

Its static part is (run, path, stack, defaults). JAX's hash of a structure ignores static parts,
so a few bits of their hash are spelled as empty children, ``None`` or ``()``; otherwise every
path would fall in one bucket of JAX's caches. The run holds no model (`_recorder`). Defaults
are compared by identity, since they may be arrays.

The only leaf of a declaring scope is its words, in a stack: what `jax.lax.scan` and `jax.vmap`
slice. It has no variables as leaves; code that looks at them uses trees, or `Scope.specs`.

Imports: `_creating`, `_defaults`, `_errors`, `_getters`, `_lineage`, `_names`, `_place`,
`_recorder`, `_seen`, `_sites`, `_tree`, JAX.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
from jax import Array

from ._creating import create
from ._defaults import Defaults
from ._errors import MissingVariableError
from ._getters import CustomGetter, path_for
from ._lineage import Lineage, RequestedRecords
from ._names import below, check_root, inside, join
from ._place import Request, not_sliced, not_there, unsliced, zero_words
from ._recorder import Recorder, Reuse, Run, Stack, ToldSpecs, VariableSpec
from ._seen import seen_in_shard, slice_of
from ._sites import Site
from ._tree import VarTree

Leaves = tuple[Any, ...]


_HASH_BITS = 12
_HALF = _HASH_BITS // 2
_MASK = (1 << _HALF) - 1
_HALVES = [tuple(None if n >> i & 1 else () for i in range(_HALF)) for n in range(1 << _HALF)]


class Declaring:
    """The place of a declaring scope; see the top of this file."""

    loose = None  # nothing stays behind at a transform's boundary

    __slots__ = ("bits", "defaults", "path", "records", "run", "stack")

    def __init__(
        self,
        run: Run,
        path: str,
        stack: Stack,
        defaults: Defaults,
        records: RequestedRecords | None = None,
    ):
        self.run = run
        self.path = path
        self.stack = stack
        self.defaults = defaults
        self.records = records
        code = hash((run, path))
        self.bits = _HALVES[code & _MASK] + _HALVES[code >> _HALF & _MASK]

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
    def getters(self) -> tuple[CustomGetter, ...]:
        return self.defaults.getters

    @property
    def has_values(self) -> bool:
        """Whether variables have values already."""
        return self.run.recorder(self.path).has_values

    @property
    def getter_path(self) -> str:
        scope = self.defaults.getters_from
        return self.path[len(scope) + 1 :] if scope else self.path

    def _words(self, leaves: Leaves) -> Any:
        return leaves[_HASH_BITS] if self.stack else None

    # Other places.

    def child(self, name: str, leaves: Leaves) -> tuple["Declaring", Leaves]:
        place = self._below(name, self.stack)
        return place, place.bits + leaves[_HASH_BITS:]

    def stacked(self, name: str, length: int, leaves: Leaves) -> tuple["Declaring", Leaves]:
        place = self._below(name, (*self.stack, (below(self.path, name), length)))
        return place, (*place.bits, zero_words(self._words(leaves), length))

    def _below(self, name: str, stack: Stack) -> "Declaring":
        records = None if self.records is None else self.records.child(name)
        path = below(self.path, name)
        return Declaring(self.run, path, stack, self.defaults.inherited, records)

    def folded(self, i: Any, leaves: Leaves) -> tuple["Declaring", Leaves]:
        del i  # no key depends on it
        return self, leaves

    def with_defaults(self, changes: Mapping[str, Any], name: str) -> "Declaring":
        if not changes:
            return self
        defaults = self.defaults.changed(changes)
        if "getters" in changes:
            boundary = self.path[: len(self.path) - len(name)].rstrip("/")
            known = path_for(changes["getters"], boundary, self.defaults.getters_from)
            defaults = replace(defaults, getters_from=known)
        return self._at(defaults, self.records)

    def requesting(self, records: RequestedRecords) -> "Declaring":
        return self._at(self.defaults, records)

    def with_values(self, tree: VarTree, leaves: Leaves) -> tuple["Declaring", Leaves]:
        del tree  # there are no values
        return self, leaves

    def without_constraint(self) -> "Declaring":
        return self._at(self.defaults.inherited, self.records)

    def _at(self, defaults: Defaults, records: RequestedRecords | None) -> "Declaring":
        return Declaring(self.run, self.path, self.stack, defaults, records)

    def is_foreign(self, other: object) -> str | None:
        if not isinstance(other, Declaring):
            return "has values, while this one declares"
        return None if other.run is self.run else "belongs to another declaration"

    # Variables.

    def get(self, request: Request, leaves: Leaves, lineage: Lineage, site: Site) -> Array:
        recorder = self.run.recorder(self.path)
        whole = check_root(below(self.path, request.name))
        self.check_sliced(leaves, f"Variable {whole!r}")
        defaults = self.defaults
        filled = request.filled(defaults)
        earlier = lineage.asked_again(whole, site)
        try:
            found = recorder.get(
                whole,
                lambda: create(whole, filled, defaults.creators, self.stack, recorder),
                asked_shape=request.shape_said(whole),
                asked_dtype=filled.dtype_said(whole, None),
                seen=lambda spec: self._seen(whole, spec, self.stack),
                reuse=defaults.reuse if request.reuse is None else request.reuse,
                site=site,
                earlier=earlier,
            )
            return recorder.value(whole, found, self._seen(whole, found, self.stack))
        except Exception:
            if earlier is None:  # so that a corrected request isn't a second use
                lineage.forget(whole)
            raise

    def _seen(self, whole: str, spec: VariableSpec, stack: Stack) -> jax.ShapeDtypeStruct:
        """What a slice of these stacks, and inside `jax.shard_map` a shard, sees of a variable."""
        return seen_in_shard(whole, slice_of(whole, spec, stack), self.run.recorder(self.path))

    def read(self, name: str, leaves: Leaves, *, counted: bool = True) -> Array:
        recorder = self.run.recorder(self.path)
        whole = join(self.path, name)
        spec = recorder.find(whole) if counted else recorder.created(whole)
        if spec is None:
            created = tuple(recorder.specs())
            error = not_there(self.path, name, self.variables(), created)
            raise MissingVariableError(
                f"{error} scope[name] reads what exists; to create a variable, write "
                "scope.get_variable(name, shape)."
            )
        sliced = len(self.stack) - (unsliced(self._words(leaves)) if self.stack else 0)
        return recorder.value(whole, spec, self._seen(whole, spec, self.stack[:sliced]))

    def has(self, name: str) -> bool:
        return self.run.recorder(self.path).created(join(self.path, name)) is not None

    def variables(self) -> tuple[str, ...]:
        created = self.run.recorder(self.path).specs()
        return tuple(inside(self.path, created))

    def trainable_variables(self, lineage: Lineage) -> tuple[str, ...]:
        del lineage  # which knows less
        created = self.run.recorder(self.path).specs()
        return tuple(inside(self.path, (n for n, spec in created.items() if spec.trainable)))

    def check_sliced(self, leaves: Leaves, what: str) -> None:
        if self.stack and unsliced(self._words(leaves)):
            raise not_sliced(self.path, what)

    # Random keys.

    def draw(self, stream: str, name: str | None, leaves: Leaves) -> Array:
        del leaves
        return self.run.recorder(self.path).draw(self.path, stream, name)

    # For the pytree registration, and for printing.

    def static(self) -> "Declaring":
        """What crosses a transform's boundary."""
        return self

    def names(self) -> tuple[str, ...]:
        """The names of the leaves that are variables."""
        return ()

    def with_leaves(self, function: Any, rest: Any, leaves: Leaves) -> Leaves:
        lengths = tuple(self._words(leaves).shape[:-1]) if self.stack else ()
        self.run.recorder(self.path).tell_specs(ToldSpecs(self.path, lengths, function))
        return self.bits + (rest,) * (len(leaves) - _HASH_BITS)

    def leaf_keys(self, leaves: Leaves) -> Iterable[Any]:
        return map(jax.tree_util.FlattenedIndexKey, range(len(leaves)))

    def summary(self) -> str:
        return "declaring"


def declaring_root(recorder: Recorder) -> tuple[Declaring, Leaves]:
    """The place and the leaves of the root scope of a declaration."""
    place = Declaring(Run(recorder), "", (), Defaults())
    return place, place.bits
