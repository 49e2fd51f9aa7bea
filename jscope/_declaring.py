"""The place of a declaring scope: it records what is asked for, and answers with abstract values.

Its static part is (run, path, stack, defaults). JAX's hash of a structure ignores static parts,
so a few bits of their hash are spelled as empty children, ``None`` or ``()``; otherwise every
path would fall in one bucket of JAX's caches. The run holds no model (`_recorder`). Defaults
are compared by identity, since they may be arrays.

The only leaf of a declaring scope is its words, in a stack: what `jax.lax.scan` and `jax.vmap`
slice. It has no variables as leaves; code that looks at them uses trees, or `Scope.specs`.

Imports: `_errors`, `_initial`, `_lineage`, `_names`, `_place`, `_recorder`, `_seen`,
`_sites`, `initializers`, `regularizers`, `sharding`, JAX.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax import Array
from jax.typing import ArrayLike

from . import _initial
from ._errors import ConstraintError, MissingVariableError, RegularizerError
from ._lineage import Lineage
from ._names import check_root, join, outward
from ._place import Request, not_sliced, not_there, unsliced, zero_words
from ._recorder import Recorder, Reuse, Run, Stack, ToldSpecs, VariableSpec
from ._seen import seen_in_shard, shape_of_all_shards, slice_of
from ._sites import Site
from .initializers import InitializedValue, Initializer
from .regularizers import Regularizer
from .sharding import Partitioner, check_spec

Leaves = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class _Defaults:
    """What scopes inherit while declaring."""

    reuse: Reuse = False
    initializer: Initializer | ArrayLike | None = None
    regularizer: Regularizer | None = None
    partitioner: Partitioner | None = None
    dtype: Any = None


_HASH_BITS = 12


class Declaring:
    """The place of a declaring scope; see the top of this file."""

    __slots__ = ("bits", "defaults", "path", "run", "stack")

    def __init__(self, run: Run, path: str, stack: Stack, defaults: _Defaults):
        self.run = run
        self.path = path
        self.stack = stack
        self.defaults = defaults
        code = hash((run, path))
        self.bits = tuple(None if code >> i & 1 else () for i in range(_HASH_BITS))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Declaring)
            and self.run is other.run
            and self.path == other.path
            and self.stack == other.stack
            and self.defaults is other.defaults
        )

    def __hash__(self) -> int:
        return hash((self.run, self.path))

    @property
    def reuse(self) -> Reuse:
        return self.defaults.reuse

    def _words(self, leaves: Leaves) -> Any:
        return leaves[_HASH_BITS] if self.stack else None

    # Other places.

    def child(self, name: str, leaves: Leaves) -> tuple["Declaring", Leaves]:
        below = Declaring(self.run, join(self.path, name), self.stack, self.defaults)
        return below, below.bits + leaves[_HASH_BITS:]

    def stacked(self, name: str, length: int, leaves: Leaves) -> tuple["Declaring", Leaves]:
        path = join(self.path, name)
        below = Declaring(self.run, path, (*self.stack, (path, length)), self.defaults)
        return below, (*below.bits, zero_words(self._words(leaves), length))

    def folded(self, i: Any, leaves: Leaves) -> tuple["Declaring", Leaves]:
        del i  # no key depends on it
        return self, leaves

    def with_defaults(self, changed: Mapping[str, Any]) -> "Declaring":
        if not changed:
            return self
        return Declaring(self.run, self.path, self.stack, replace(self.defaults, **changed))

    # Variables.

    def get(self, request: Request, leaves: Leaves, lineage: Lineage, site: Site) -> Array:
        recorder = self.run.recorder(self.path)
        whole = check_root(join(self.path, request.name))
        self.check_sliced(leaves, f"Variable {whole!r}")
        asked_dtype = request.dtype_said(whole, self.defaults.dtype)
        found = recorder.get(
            whole,
            lambda: self._spec(whole, request, asked_dtype, recorder),
            asked_shape=request.shape_said(),
            asked_dtype=asked_dtype,
            seen=lambda spec: self._seen(whole, spec, self.stack),
            reuse=self.reuse,
            site=site,
            earlier=lineage.asked_again(whole, site),
        )
        return recorder.value(whole, found, self._seen(whole, found, self.stack))

    def _seen(self, whole: str, spec: VariableSpec, stack: Stack) -> jax.ShapeDtypeStruct:
        """What a slice of these stacks, and inside `jax.shard_map` a shard, sees of a variable."""
        return seen_in_shard(whole, slice_of(whole, spec, stack), self.run.recorder(self.path))

    def _spec(self, whole: str, request: Request, dtype: Any, recorder: Recorder) -> VariableSpec:
        """What is created if the variable doesn't exist yet."""
        initializer, shape = request.initializer, request.shape
        initializer = self.defaults.initializer if initializer is None else initializer
        if isinstance(initializer, InitializedValue):
            shape, dtype = self._like_source(whole, initializer, shape, dtype, recorder)
        initializer = recorder.accepted(whole, initializer)
        wanted = _initial.normalize(whole, shape, dtype, initializer)
        regularizer = request.regularizer
        regularizer = self.defaults.regularizer if regularizer is None else regularizer
        if not (regularizer is None or callable(regularizer)):
            raise RegularizerError(
                f"Variable {whole!r}: a regularizer is a function f(value) -> scalar, such as "
                f"regularizers.l2(1e-4), got {regularizer!r}."
            )
        if not (request.constraint is None or callable(request.constraint)):
            raise ConstraintError(
                f"Variable {whole!r}: a constraint is a function f(value) -> value, got "
                f"{request.constraint!r}."
            )
        sharding = request.sharding
        if sharding is None and self.defaults.partitioner is not None:
            sharding = self.defaults.partitioner(whole, wanted.shape, wanted.dtype)
        sharding = check_spec(whole, sharding, wanted.shape)
        one = jax.ShapeDtypeStruct(wanted.shape, wanted.dtype)
        shape = shape_of_all_shards(whole, one, sharding, recorder)
        lengths = tuple(length for _, length in self.stack)
        return VariableSpec(
            (*lengths, *shape),
            wanted.dtype,
            wanted.initializer,
            request.trainable,
            regularizer,
            request.constraint,
            sharding,
            self.stack,
        )

    def _like_source(
        self, whole: str, initializer: InitializedValue, shape: Any, dtype: Any, recorder: Recorder
    ) -> tuple[Any, Any]:
        """The shape and dtype of a variable that starts as another one, where not said."""
        for name in outward(whole, initializer.name):
            source = recorder.created(name)
            if source is not None:
                shared = sum(a == b for a, b in zip(source.stack, self.stack, strict=False))
                seen = jax.ShapeDtypeStruct(source.shape[shared:], source.dtype)
                like = _initial.like_source(initializer, seen)
                return (
                    like.shape if shape is None else shape,
                    like.dtype if dtype is None else dtype,
                )
        return shape, dtype  # created later, so it must be said

    def read(self, name: str, leaves: Leaves, *, counted: bool = True) -> Array:
        recorder = self.run.recorder(self.path)
        whole = join(self.path, name)
        spec = recorder.find(whole) if counted else recorder.created(whole)
        if spec is None:
            created = tuple(recorder.specs())
            below = tuple(n[len(whole) - len(name) :] for n in created if _is_in(n, self.path))
            error = not_there(self.path, name, below, created)
            raise MissingVariableError(
                f"{error} scope[name] reads what exists; to create a variable, write "
                "scope.get_variable(name, shape)."
            )
        sliced = len(self.stack) - (unsliced(self._words(leaves)) if self.stack else 0)
        return recorder.value(whole, spec, self._seen(whole, spec, self.stack[:sliced]))

    def has(self, name: str) -> bool:
        return self.run.recorder(self.path).created(join(self.path, name)) is not None

    def check_sliced(self, leaves: Leaves, what: str) -> None:
        if self.stack and unsliced(self._words(leaves)):
            raise not_sliced(self.path, what)

    # Random keys.

    def draw(self, stream: str, name: str | None, leaves: Leaves) -> Array:
        del leaves
        return self.run.recorder(self.path).draw(self.path, stream, name)

    # For the pytree registration, and for printing.

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
        return f"{self.path!r}, declaring"


def declaring_root(recorder: Recorder) -> tuple[Declaring, Leaves]:
    """The place and the leaves of the root scope of a declaration."""
    place = Declaring(Run(recorder), "", (), _Defaults())
    return place, place.bits


def _is_in(name: str, scope: str) -> bool:
    return not scope or name.startswith(scope + "/")
