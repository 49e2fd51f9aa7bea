"""Scope: a cursor into a tree of variables, given to a model as its first argument.

A scope is **bound** to values, or **declaring**. Bound, it looks variables up and never
creates any. Declaring, it records what is asked for and answers with abstract values. A
model cannot tell the two apart, and needn't.

A scope is a JAX pytree, so the user's own `jax.jit`, `jax.vmap`, `jax.checkpoint`,
`jax.lax.scan`, ... take it as an argument. What makes that right:

1. **The static part is the place**, `Bound` or `Declaring`; each file says what is in it.
   Nothing in a static part may hold an array, which would go stale.
2. **The leaves are the variables' values**, then words and random keys if there are any.
3. **The lineage is no part of the pytree.** What was asked for, drawn, assigned and recorded
   is known along ``/`` and forgotten at a transform's boundary (`_lineage`); but that records
   are requested is known behind it.
4. **Unflattening stores what it is given and looks at nothing**: JAX passes sentinels.
   Flattening computes nothing.

Imports: everything above it in the map of `docs/design.md`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Self

import jax
from jax import Array

from ._asking import Asking
from ._assigning import Assigning
from ._bound import Bound, bound_root
from ._declaring import Declaring, declaring_root
from ._drawing import Drawing
from ._entering import Entering
from ._errors import NameCollisionError, ScopeError, listed
from ._lineage import Ledger, Lineage, RecordsLedger
from ._recorder import Recorder
from ._tree import VarTree, as_tree, from_flat


class Scope(Entering, Asking, Drawing, Assigning):
    """A path into a tree of variables; see `js.declare` for how a model is declared.

    >>> tree = VarTree({"dense/w": jnp.ones((2, 3)), "dense/b": jnp.zeros(3)})
    >>> scope = Scope(tree) / "dense"
    >>> scope.get_variable("w", (2, 3)).shape
    (2, 3)

    Args:
        tree: A tree of variables, or another mapping of names to values.
        more: Further trees, such as the state beside the parameters; all names must differ.
        rngs: The root keys of random streams: a mapping such as ``{"dropout": key}``, or one
            key for whatever stream is asked for.

    Raises:
        NameCollisionError: If two trees share a name; all such are listed.
        TypeError: If one is not a mapping.
        KeyArgumentError: If ``rngs`` holds something else than PRNG keys.
    """

    __slots__ = ()

    def __init__(
        self,
        tree: Mapping[str, Any],
        /,
        *more: Mapping[str, Any],
        rngs: Array | Mapping[str, Array] | None = None,
    ):
        self._place, self._leaves = bound_root(_merge((tree, *more)), rngs)
        self._lineage = Lineage()
        self._opened = None

    def with_values(self, tree: Mapping[str, Any], /) -> Self:
        """This scope over other values: to differentiate by its variables, cast or replace them.

        ``js.VarTree(scope)`` gives the present ones. Together they take the gradient by the
        variables of a part of a model, which keeps its random streams:

        >>> def adapted(scope, x):
        ...     inner = scope / "inner"
        ...     loss = lambda tree: (block(inner.with_values(tree), x) ** 2).mean()
        ...     tree = js.VarTree(inner)
        ...     gradients = jax.grad(loss)(tree)
        ...     tree = jax.tree.map(lambda w, g: w - 0.1 * g, tree, gradients)
        ...     return block(inner.with_values(tree), x)

        Args:
            tree: Values by names relative to this scope. While declaring they are ignored: what
                the scope is used for is declared as ever.

        Returns:
            A scope at the same place, with the same defaults and random keys, in which nothing
            was requested or drawn so far. What is assigned or recorded in it has its own
            `js.with_updates` and `js.with_records`: those around don't see it.

        Raises:
            TypeError: If ``tree`` is not a mapping.
        """
        place, leaves = self._requesting().with_values(as_tree(tree), self._leaves)
        return self._at(place, leaves, self._begun().anew())

    def __vartree__(self) -> VarTree:
        """The variables' values below this scope: ``js.VarTree(scope)``."""
        place, leaves = self._place, self._leaves
        values = ((name, place.read(name, leaves, counted=False)) for name in place.variables())
        return from_flat({name: self._written(name, value) for name, value in values})

    def _requesting(self) -> Bound | Declaring:
        """The place, which knows where it leaves its lineage that records are requested."""
        ledger = None if self._lineage is None else self._lineage.open_records()
        if ledger is None:
            return self._place
        return self._place.requesting(ledger.requested(self._path))

    def specs(self, function: Callable[[str, Any], Any], rest: Any) -> Self:
        """Specs in the shape of this scope: an ``in_specs`` of `jax.shard_map`, an ``in_axes``.

        A bound scope has its variables as leaves, a declaring one has not; this fits both. It
        also tells a declaration how variables that are created inside `jax.shard_map`, where
        shapes are those of one shard, are sharded.

        Args:
            function: ``f(name, value)`` gives the spec of a variable; the name is relative to
                this scope, the value an array or, declaring, a `jax.ShapeDtypeStruct`.
            rest: The spec of all other leaves, which are random keys and the like.

        >>> scope = js.Scope({"w": jnp.ones((8, 3))})
        >>> sharded, whole = jax.sharding.PartitionSpec("model"), jax.sharding.PartitionSpec()
        >>> specs = scope.specs(lambda name, value: sharded, whole)
        """
        place = self._requesting()
        return self._at(place, place.with_leaves(function, rest, self._leaves), None)

    def __copy__(self) -> Self:
        return self._at(self._place, self._leaves, self._begun(), self._openings())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        del memo  # what a scope refers to is immutable, or shared among scopes on purpose
        return self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"The scope {self._path!r} can't be pickled: it belongs to a run of its model. Pickle "
            "the tree, and write js.Scope(tree) where it is loaded."
        )

    def __repr__(self) -> str:
        return f"Scope({self.name!r}, {self._place.summary()})"

    def __iter__(self) -> NoReturn:
        raise TypeError("A scope can't be iterated; iterate over the tree it was made of.")


def declaring_scope(recorder: Recorder) -> Scope:
    """The root scope of a declaration, which takes assignments and forgets them."""
    place, leaves = declaring_root(recorder)
    return with_ledgers(_make(place, leaves, Lineage()), Ledger(), None)


def with_ledgers(scope: Scope, updates: Ledger | None, records: RecordsLedger | None) -> Scope:
    """The same scope, whose updates or records go to other ledgers; None leaves them."""
    lineage = scope._begun().with_ledgers(updates, records)
    return scope._at(scope._place, _flatten(scope)[0], lineage, scope._openings())


def _make(place: Bound | Declaring, leaves: tuple[Any, ...], lineage: Lineage | None) -> Scope:
    scope = Scope.__new__(Scope)
    scope._place = place
    scope._leaves = leaves
    scope._lineage = lineage
    scope._opened = None
    return scope


def _merge(trees: tuple[Mapping[str, Any], ...]) -> VarTree:
    for tree in trees:
        if isinstance(tree, Scope):
            raise ScopeError(
                "js.Scope takes trees of variables; this is a scope already. Use it as it is."
            )
    first, *rest = map(as_tree, trees)
    for tree in rest:
        both = [name for name in tree if name in first]
        if both:
            raise NameCollisionError(
                f"js.Scope(tree, ...) merges trees with different names, but {listed(both)} "
                "are in two of them. To let one win, write js.Scope(a | b)."
            )
        first = first | tree
    return first


# The pytree registration.


def _flatten(scope: Scope) -> tuple[tuple[Any, ...], Bound | Declaring]:
    place = scope._requesting()
    return scope._current_leaves(), place if place.loose is None else place.static()


def _flatten_with_keys(
    scope: Scope,
) -> tuple[tuple[tuple[Any, Any], ...], Bound | Declaring]:
    leaves, place = _flatten(scope)
    return tuple(zip(place.leaf_keys(leaves), leaves, strict=True)), place


def _unflatten(place: Bound | Declaring, leaves: Iterable[Any]) -> Scope:
    return _make(place, leaves, None)  # type: ignore[arg-type]  # JAX passes a tuple


jax.tree_util.register_pytree_with_keys(Scope, _flatten_with_keys, _unflatten, _flatten)
