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
   is known along ``/`` and forgotten at a transform's boundary (`_lineage`).
4. **Unflattening stores what it is given and looks at nothing**: JAX passes sentinels.
   Flattening computes nothing.

Imports: everything above it in the map of `docs/design.md`.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from . import _initial
from ._assigning import Assigning
from ._bound import Bound, bound_root
from ._declaring import Declaring, declaring_root
from ._errors import (
    NameCollisionError,
    RandomStreamError,
    ScopeError,
    ShapeMismatchError,
    listed,
)
from ._lineage import Ledger, Lineage
from ._names import check, join
from ._place import Request
from ._recorder import AUTO_REUSE, Constraint, Recorder, Reuse
from ._sites import call_site, site_text, transform_around
from ._tree import VarTree, as_tree, from_flat
from .initializers import Initializer
from .regularizers import Regularizer
from .sharding import Partitioner


class Scope(Assigning):
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

    __slots__ = ("_leaves", "_lineage", "_place")

    _place: Bound | Declaring
    _leaves: tuple[Any, ...]
    _lineage: Lineage | None

    def __init__(
        self,
        tree: Mapping[str, Any],
        /,
        *more: Mapping[str, Any],
        rngs: Array | Mapping[str, Array] | None = None,
    ):
        self._place, self._leaves = bound_root(_merge((tree, *more)), rngs)
        self._lineage = Lineage()

    # Where this is.

    @property
    def name(self) -> str:
        """The path from the root, or from the last transform's boundary; ``""`` at the root."""
        return self._place.path

    @property
    def reuse(self) -> Reuse:
        """False, True or `AUTO_REUSE`."""
        return self._place.reuse

    def __truediv__(self, name: str) -> "Scope":
        """The scope ``name`` below this one; ``scope / "a/b"`` is ``scope / "a" / "b"``."""
        if not isinstance(name, str):
            raise TypeError(f"scope / name takes a string, got {name!r} of {type(name).__name__}.")
        place, leaves = self._place.child(check(name), self._leaves)
        return _make(place, leaves, self._begun())

    def variable_scope(
        self,
        name: str,
        *,
        reuse: Reuse | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        partitioner: Partitioner | None = None,
        dtype: DTypeLike | None = None,
    ) -> "Scope":
        """The scope ``name`` below this one, with defaults for what is in it.

        Every argument that is None is inherited. The result is its own context manager,
        ``with scope.variable_scope("a") as s:``; leaving it does nothing.

        Args:
            name: Relative to this scope.
            reuse: True: variables must exist; `AUTO_REUSE`: get or create. Inherited, it
                can't be undone: False means the same as None.
            initializer: Default for `get_variable`.
            regularizer: Default for `get_variable`; `js.no_regularizer` stops inheritance.
            partitioner: ``f(name, shape, dtype) -> PartitionSpec``, asked for each variable
                that is created without ``sharding``; see `js.sharding`.
            dtype: Default for `get_variable`.

        Source: ``tf.variable_scope``. Differences: a scope is a value and nothing is
            entered; names can't be empty; a partitioner gives how a variable is sharded over
            a mesh, and the variable stays one array.
        """
        # By identity: 1 and numpy.True_ equal True, but are not it where reuse is looked at.
        if not any(reuse is known for known in (None, False, True, AUTO_REUSE)):
            raise ValueError(
                "The reuse parameter must be True or False or None or js.AUTO_REUSE, got "
                f"{reuse!r}."
            )
        if not (partitioner is None or callable(partitioner)):
            raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}.")
        defaults: dict[str, Any] = {
            "reuse": reuse or None,
            "initializer": initializer,
            "regularizer": regularizer,
            "partitioner": partitioner,
            "dtype": None,
        }
        below = self / name
        if dtype is not None:
            defaults["dtype"] = _initial.normalize_dtype(f"{below.name}/**", dtype)
        changed = {key: value for key, value in defaults.items() if value is not None}
        below._place = below._place.with_defaults(changed)
        return below

    def shared(self, name: str) -> "Scope":
        """The scope ``name`` below this one, in which asking twice means sharing.

        Short for ``variable_scope(name, reuse=AUTO_REUSE)``.
        """
        return self.variable_scope(name, reuse=AUTO_REUSE)

    def stacked(self, name: str, length: int) -> "Scope":
        """The scope ``name`` as a stack: ``length`` equal layers, sliced by `scan` or `vmap`.

        Its variables have a leading axis of this length. A transform over it gives its body
        one slice, a scope like any other:

        >>> def tower(scope, x):
        ...     layers = scope.stacked("layers", 12)
        ...     return jax.lax.scan(lambda x, layer: (block(layer, x), None), x, layers)[0]

        Slice ``i`` of ``layers/w`` has the initial value and the random draws that ``layers/i/w``
        has in a loop over ``scope / f"layers/{i}"``, to the last bit; `js.stack` and `js.unstack`
        convert one tree into the other. Stacks nest to any depth.

        Args:
            name: Relative to this scope.
            length: The number of slices, at least 1.

        Raises:
            ShapeMismatchError: If the tree's variables below ``name`` don't have this many
                slices; all such are listed.
        """
        try:
            length = operator.index(length)
        except TypeError:
            raise TypeError(
                f"The length of the stack {name!r} must be an int when the model is traced, got "
                f"{length!r}."
            ) from None
        if length < 1:
            raise ShapeMismatchError(f"The stack {name!r} needs at least one slice, got {length}.")
        place, leaves = self._place.stacked(check(name), length, self._leaves)
        return _make(place, leaves, self._begun())

    def __enter__(self) -> "Scope":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    # Variables.

    def get_variable(
        self,
        name: str,
        shape: int | Iterable[int] | None = None,
        dtype: DTypeLike | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
        trainable: bool = True,
        *,
        constraint: Constraint | None = None,
        sharding: PartitionSpec | None = None,
    ) -> Array:
        """The value of a variable; while declaring, the variable is created.

        Args:
            name: Relative to this scope; ``a/b`` is ``b`` in the scope ``a``.
            shape: The variable's shape; left out if ``initializer`` is a value. While
                applying a model, None accepts any shape.
            dtype: The variable's dtype. Default: the scope's, or float32. While applying a
                model, a dtype that nobody named isn't checked.
            initializer: ``f(key, shape, dtype) -> array``, or the initial value itself.
                Default: the scope's, or Glorot uniform for floats and zeros for integers
                and bools.
            regularizer: ``f(value) -> scalar`` for `Declaration.regularization_loss`.
                Default: the scope's.
            trainable: Whether an optimizer should update it.
            constraint: ``f(value) -> value`` for `Declaration.apply_constraints`.
            sharding: How `Declaration.init` shards it over a mesh. Default: what the scope's
                partitioner says.

        Returns:
            The value; an abstract one while declaring.

        Raises:
            MissingVariableError: If it doesn't exist: in a bound scope, or with ``reuse=True``.
            VariableExistsError: If it was asked for already, and sharing was not said.
            ShapeMismatchError: If it has another shape.
            DtypeMismatchError: If it has another dtype than was named.
            InitializerError: If the initial value doesn't fit.
            RegularizerError: If the regularizer isn't callable.
            ScopeError: If this scope is a stack that is not sliced.

        Source: ``tf.get_variable``. Differences: a shared variable's dtype is checked only if
            one is named; a constant initial value of another shape is an error when sharing.
        """
        request = Request(
            check(name), shape, dtype, initializer, regularizer, trainable, constraint, sharding
        )
        value: Array = self._place.get(request, self._leaves, self._begun(), call_site())
        return self._written(name, value)

    def __getitem__(self, name: str) -> Array:
        """The value of a variable that exists; never creates, and may be repeated."""
        self._place.check_sliced(self._leaves, f"Variable {name!r}")
        return self._written(check(name), self._place.read(name, self._leaves))

    def _written(self, name: str, value: Array) -> Array:
        """What was assigned to a variable, else its value."""
        updates = None if self._lineage is None else self._lineage.updates
        if updates is None or not updates.entries:
            return value
        written: Array = updates.entries.get(join(self.name, name), value)
        return written

    def has(self, name: str) -> bool:
        """Whether the variable exists: in the tree, or, declaring, among those created so far."""
        return self._place.has(check(name))

    # Random keys.

    def rng(self, stream: str, name: str | None = None) -> Array:
        """A random key: the stream's root key, folded with this scope's path.

        The key is ``fold_in(fold_in(root, w0), w1)``, where ``(w0, w1)`` are the words of the
        name ``<scope>/rng:<stream>``, or ``<scope>/rng:<stream>/<name>`` (`docs/design.md`,
        "Keys"). So it is the same under any transform, in a stack or an unrolled loop.

        >>> scope = Scope({}, rngs={"dropout": jax.random.key(0)}) / "layer"
        >>> keep = jax.random.bernoulli(scope.rng("dropout"), 0.9, (3,))

        Args:
            stream: Which stream, such as ``"dropout"``.
            name: Tells several draws from one stream in one scope apart. In loops over time,
                draw from `fold` instead.

        Returns:
            A key of the root key's kind; while declaring, an abstract one, whatever the stream.

        Raises:
            MissingStreamError: If the scope has no such stream.
            RandomStreamError: If this was drawn already in this scope and trace.
            ScopeError: If this scope is a stack that is not sliced.
        """
        check(stream)
        if name is not None:
            check(name)
        what = f"A key of the stream {stream!r}"
        self._place.check_sliced(self._leaves, what)
        key: Array = self._place.draw(stream, name, self._leaves)
        site = call_site()
        earlier = self._begun().drawn_again((self.name, stream, name), site)
        if earlier is not None:
            other = "another name=" if name else f"scope.rng({stream!r}, name='second')"
            raise RandomStreamError(
                f"{what} was drawn already in the scope {self.name!r}"
                f"{f' as {name!r}' if name else ''}, and would be the same key. Write {other} for "
                "another draw, or scope.fold(step) in a loop."
                f"\nFirst drawn at:\n{site_text(earlier)}\nDrawn again at:\n{site_text(site)}"
            )
        return key

    def fold(self, i: int | Array) -> "Scope":
        """This scope, with an integer folded into its random keys, such as a time step.

        Variables are the same. Traced integers fold too:

        >>> def step(x, t):
        ...     now = scope.fold(t)
        ...     return x * jax.random.bernoulli(now.rng("dropout"), 0.9, x.shape), None
        >>> scope = Scope({}, rngs=jax.random.key(0))
        >>> x, _ = jax.lax.scan(step, jnp.ones(3), jnp.arange(5))

        Raises:
            TypeError: If ``i`` is not an integer scalar.
        """
        if isinstance(i, jax.core.Tracer):
            integer: Any = i if jnp.issubdtype(i.dtype, jnp.integer) and i.ndim == 0 else None
        else:
            try:
                integer = None if isinstance(i, bool) else operator.index(i)
            except TypeError:
                integer = None
        if integer is None:
            raise TypeError(f"scope.fold takes an integer scalar, such as a time step, got {i!r}.")
        concrete = (self.name, integer) if isinstance(integer, int) else None
        place, leaves = self._place.folded(integer, self._leaves)
        return _make(place, leaves, self._begun().folded(concrete))

    # What is returned beside the model's result.

    def _change(self, name: str, operation: Callable[..., VarTree], *arguments: Any) -> Array:
        whole = join(self.name, check(name))
        ledger = self._begun().updates
        if ledger is None or not ledger.takes():
            raise _cannot_assign(whole, ledger, at_boundary=self._begun().at_boundary)
        before = self._written(name, self._place.read(name, self._leaves, counted=False))
        changed = operation(from_flat({whole: before}), whole, *arguments)
        value: Array = changed[whole]
        ledger.entries[whole] = value
        return value

    def record(self, name: str, value: Any) -> None:
        """Offer a value, such as an activation, to `js.with_records`; else nothing happens.

        Args:
            name: Relative to this scope.
            value: An array, or a pytree of arrays.

        Raises:
            NameCollisionError: If the name was recorded already, within `js.with_records`.
        """
        whole = join(self.name, check(name))
        ledger = self._begun().records
        if ledger is None or not ledger.is_open:
            return
        if not ledger.takes():
            ledger.out_of_reach[whole] = jax.eval_shape(lambda: value)
            return
        if whole in ledger.entries:
            raise NameCollisionError(
                f"{whole!r} was recorded already. A loop needs a name for each: "
                f"scope.record(f'{name}_{{i}}', value)."
            )
        ledger.entries[whole] = value

    def specs(self, function: Callable[[str, Any], Any], rest: Any) -> "Scope":
        """Specs in the shape of this scope: an ``in_specs`` of `jax.shard_map`, an ``in_axes``.

        A bound scope has its variables as leaves, a declaring one has not; this fits both. It
        also tells a declaration how variables that are created inside `jax.shard_map`, where
        shapes are those of one shard, are sharded.

        Args:
            function: ``f(name, value)`` gives the spec of a variable; the name is relative to
                this scope, the value an array or, declaring, a `jax.ShapeDtypeStruct`.
            rest: The spec of all other leaves, which are random keys and the like.

        >>> scope = Scope({"w": jnp.ones((8, 3))})
        >>> specs = scope.specs(lambda name, value: PartitionSpec("model"), PartitionSpec())
        """
        return _make(self._place, self._place.with_leaves(function, rest, self._leaves), None)

    def __repr__(self) -> str:
        return f"Scope({self._place.summary()})"

    def __iter__(self) -> NoReturn:
        raise TypeError("A scope can't be iterated; iterate over the tree it was made of.")

    def _begun(self) -> Lineage:
        if self._lineage is None:
            self._lineage = Lineage(at_boundary=True)
        return self._lineage


def declaring_scope(recorder: Recorder) -> Scope:
    """The root scope of a declaration, which takes assignments and forgets them."""
    place, leaves = declaring_root(recorder)
    return with_ledgers(_make(place, leaves, Lineage()), Ledger(), None)


def with_ledgers(scope: Scope, updates: Ledger | None, records: Ledger | None) -> Scope:
    """The same scope, whose updates or records go to other ledgers; None leaves them."""
    lineage = scope._begun().with_ledgers(updates, records)
    return _make(scope._place, _flatten(scope)[0], lineage)


def _make(place: Bound | Declaring, leaves: tuple[Any, ...], lineage: Lineage | None) -> Scope:
    scope = Scope.__new__(Scope)
    scope._place = place
    scope._leaves = leaves
    scope._lineage = lineage
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


def _cannot_assign(name: str, ledger: Ledger | None, *, at_boundary: bool) -> ScopeError:
    if at_boundary or (ledger is not None and ledger.is_open):
        return ScopeError(
            f"Variable {name!r} was assigned inside {transform_around()}, from which a new value "
            "comes out only as a result. Write the function that is transformed with "
            "y, updates = js.with_updates(block)(scope, x), return both, and outside write "
            "scope.update(updates) in the scope that was passed. (If the whole model is in the "
            "transform: js.with_updates(model)(js.Scope(tree), x).)"
        )
    ended = "js.with_updates has ended" if ledger is not None else "nothing collects updates here"
    return ScopeError(
        f"Variable {name!r} was assigned, but {ended}, and the new value would be lost. Apply the "
        "model with out, updates = js.with_updates(model)(tree, ...); the new state is "
        "state | updates."
    )


# The pytree registration.


def _flatten(scope: Scope) -> tuple[tuple[Any, ...], Bound | Declaring]:
    lineage = scope._lineage
    if lineage is None or lineage.updates is None or not lineage.updates.entries:
        return scope._leaves, scope._place
    names = scope._place.names()
    written, path = lineage.updates.entries, scope.name
    current = (
        written.get(join(path, name), leaf)
        for name, leaf in zip(names, scope._leaves, strict=False)
    )
    return (*current, *scope._leaves[len(names) :]), scope._place


def _flatten_with_keys(
    scope: Scope,
) -> tuple[tuple[tuple[Any, Any], ...], Bound | Declaring]:
    leaves, place = _flatten(scope)
    return tuple(zip(place.leaf_keys(leaves), leaves, strict=True)), place


def _unflatten(place: Bound | Declaring, leaves: Iterable[Any]) -> Scope:
    return _make(place, leaves, None)  # type: ignore[arg-type]  # JAX passes a tuple


jax.tree_util.register_pytree_with_keys(Scope, _flatten_with_keys, _unflatten, _flatten)
