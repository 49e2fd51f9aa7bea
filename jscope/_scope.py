"""Scope: a cursor into a tree of variables, given to a model as its first argument.

A scope is **bound** to values, or **declaring**. Bound, it looks variables up and never
creates any. Declaring, it records what is asked for and answers with abstract values. A
model cannot tell the two apart, and needn't.

A scope is a JAX pytree, so the user's own `jax.jit`, `jax.vmap`, `jax.checkpoint`,
`jax.lax.scan`, ... take it as an argument. Six rules make that right:

1. **Bound, the static part is one interned object, compared by identity**: the relative
   names and what can change a look-up (dtype default, reuse). ``layer_0`` and ``layer_47``
   of equal blocks have the same static part, so JAX traces them once. What can't change a
   look-up (initializer, regularizer) isn't kept. The path rides along outside equality, for
   error messages only; no decision may use it.
2. Nothing in a static part may hold an array.
3. **Declaring, the static part is (run, path, defaults)**. JAX's hash of a structure ignores
   static parts, so a few bits of their hash are spelled as empty children, ``None`` or
   ``()``; otherwise every path would fall in one bucket of JAX's caches. The run holds no
   model (`_recorder`).
4. A declaring scope has no variables as children; code that looks at them uses trees.
5. **Unflattening stores what it is given and looks at nothing**: JAX passes sentinels.
6. Interning is weak and locked. JAX's caches hold static parts until `jax.clear_caches`.

Imports: everything above it in the map of `docs/design.md`.
"""

import threading
import weakref
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from . import _initial
from ._errors import (
    JscopeError,
    MissingVariableError,
    NameCollisionError,
    RegularizerError,
    ScopeError,
    listed,
)
from ._names import check, check_root, join, outward
from ._recorder import (
    AUTO_REUSE,
    Asked,
    Recorder,
    Reuse,
    Run,
    VariableSpec,
    call_site,
    exists_already,
)
from ._tree import (
    Structure,
    VarTree,
    as_tree,
    missing_variable,
    structure_of,
    values_of,
)
from .initializers import InitializedValue, Initializer
from .regularizers import Regularizer


class Scope:
    """A path into a tree of variables; see `js.declare` for how a model is declared.

    >>> tree = VarTree({"dense/w": jnp.ones((2, 3)), "dense/b": jnp.zeros(3)})
    >>> scope = Scope(tree) / "dense"
    >>> scope.get_variable("w", (2, 3)).shape
    (2, 3)

    Args:
        tree: A tree of variables, or another mapping of names to values.
        more: Further trees, such as the state beside the parameters; all names must differ.

    Raises:
        NameCollisionError: If two trees share a name; all such are listed.
        TypeError: If one is not a mapping.
    """

    __slots__ = ("_asked", "_place", "_values")

    _asked: Asked | None
    _place: "_Bound | _Declaring"
    _values: tuple[Any, ...]

    def __init__(self, tree: Mapping[str, Any], /, *more: Mapping[str, Any]):
        merged = _merge((tree, *more))
        structure = structure_of(merged)
        self._place = _Bound(_intern(structure, False, None), "", structure)
        self._values = values_of(merged)
        self._asked = None

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
        place, values = self._place.child(check(name), self._values)
        return _make(place, values, self._lineage())

    def variable_scope(
        self,
        name: str,
        *,
        reuse: Reuse | None = None,
        initializer: Initializer | ArrayLike | None = None,
        regularizer: Regularizer | None = None,
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
            dtype: Default for `get_variable`.

        Source: ``tf.variable_scope``. Differences: a scope is a value and nothing is
            entered; names can't be empty.
        """
        # By identity: 1 and numpy.True_ equal True, but are not it where reuse is looked at.
        if not any(reuse is known for known in (None, False, True, AUTO_REUSE)):
            raise ValueError(
                "The reuse parameter must be True or False or None or js.AUTO_REUSE, got "
                f"{reuse!r}."
            )
        defaults: dict[str, Any] = {
            "reuse": reuse or None,
            "initializer": initializer,
            "regularizer": regularizer,
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

        Returns:
            The value; an abstract one while declaring.

        Raises:
            MissingVariableError: If it doesn't exist: in a bound scope, or with ``reuse=True``.
            VariableExistsError: If it was asked for already, and sharing was not said.
            ShapeMismatchError: If it has another shape.
            DtypeMismatchError: If it has another dtype than was named.
            InitializerError: If the initial value doesn't fit.
            RegularizerError: If the regularizer isn't callable.

        Source: ``tf.get_variable``. Differences: a shared variable's dtype is checked only if
            one is named; a constant initial value of another shape is an error when sharing.
        """
        request = _Request(check(name), shape, dtype, initializer, regularizer, trainable)
        return self._place.get(request, self)

    def __getitem__(self, name: str) -> Array:
        """The value of a variable that exists; never creates, and may be repeated."""
        return self._place.read(check(name), self._values)

    def has(self, name: str) -> bool:
        """Whether the variable exists: in the tree, or, declaring, among those created so far."""
        return self._place.has(check(name))

    def __repr__(self) -> str:
        return f"Scope({self._place.summary()})"

    def __iter__(self) -> NoReturn:
        raise TypeError("A scope can't be iterated; iterate over the tree it was made of.")

    # The lineage, see `_recorder`.

    def _lineage(self) -> Asked:
        if self._asked is None:
            self._asked = Asked()
        return self._asked


@dataclass(slots=True)
class _Request:
    """The arguments of one `get_variable`."""

    name: str
    shape: int | Iterable[int] | None
    dtype: DTypeLike | None
    initializer: Initializer | ArrayLike | None
    regularizer: Regularizer | None
    trainable: bool

    def shape_said(self) -> int | Iterable[int] | None:
        """The shape that the call names, by itself or as that of an initial value; or None."""
        return _initial.known_shape(self.initializer) if self.shape is None else self.shape

    def dtype_said(self, whole: str, scope_default: Any) -> Any:
        """The dtype that the call or the scope names, if any; a value's own beats the scope's."""
        if self.dtype is not None:
            return _initial.normalize_dtype(whole, self.dtype)
        is_value = self.initializer is not None and not callable(self.initializer)
        return None if is_value else scope_default


# Bound.


class _Fixed:
    """The static part of a bound scope: interned, compared by identity."""

    __slots__ = ("__weakref__", "_children", "dtype", "reuse", "structure")

    def __init__(self, structure: Structure, reuse: Reuse, dtype: Any):
        self.structure = structure
        self.reuse = reuse
        self.dtype = dtype
        self._children: dict[str, tuple[_Fixed, slice]] = {}

    def child(self, name: str) -> tuple["_Fixed", slice]:
        found = self._children.get(name)
        if found is None:
            structure, where = self.structure.below(name)
            found = (_intern(structure, self.reuse, self.dtype), where)
            if structure.names:  # else anyone's guesses would pile up here
                self._children[name] = found
        return found


_fixed: "weakref.WeakValueDictionary[tuple[Structure, Reuse, Any], _Fixed]" = (
    weakref.WeakValueDictionary()
)
# Reentrant, since the garbage collector may run anyone's __del__ while it is held.
_fixed_lock = threading.RLock()


def _intern(structure: Structure, reuse: Reuse, dtype: Any) -> _Fixed:
    key = (structure, reuse, dtype)
    with _fixed_lock:
        fixed = _fixed.get(key)
        if fixed is None:
            fixed = _fixed[key] = _Fixed(structure, reuse, dtype)
        return fixed


class _Bound:
    """The place of a bound scope: its static part and, outside equality, where it hangs.

    The path and the names of the whole tree ride along for error messages only.
    """

    __slots__ = ("fixed", "path", "root")

    def __init__(self, fixed: _Fixed, path: str, root: Structure):
        self.fixed = fixed
        self.path = path
        self.root = root

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bound) and self.fixed is other.fixed

    def __hash__(self) -> int:
        return hash(self.fixed)

    @property
    def reuse(self) -> Reuse:
        return self.fixed.reuse

    def child(self, name: str, values: tuple[Any, ...]) -> tuple["_Bound", tuple[Any, ...]]:
        fixed, where = self.fixed.child(name)
        return _Bound(fixed, join(self.path, name), self.root), values[where]

    def with_defaults(self, changed: Mapping[str, Any]) -> "_Bound":
        fixed = self.fixed
        reuse, dtype = changed.get("reuse", fixed.reuse), changed.get("dtype", fixed.dtype)
        return _Bound(_intern(fixed.structure, reuse, dtype), self.path, self.root)

    def get(self, request: _Request, scope: Scope) -> Any:
        value = self.read(request.name, scope._values)
        whole = join(self.path, request.name)
        site = call_site()
        earlier = scope._lineage().again(whole, site)
        if earlier is not None and self.reuse is False:
            hint = "To apply a model again, give it a new scope: model(js.Scope(tree), ...)."
            raise exists_already(whole, earlier, site, hint)
        try:
            _initial.check_found(
                whole,
                request.shape_said(),
                request.dtype_said(whole, self.fixed.dtype),
                value,
                "The tree holds one and the code asks for the other; the tree may come from a "
                "model with other settings. js.declare(model)(...).check(tree) lists all "
                "differences.",
            )
        except JscopeError:
            if earlier is None:  # so that a corrected request isn't a second use
                scope._lineage().forget(whole)
            raise
        return value

    def read(self, name: str, values: tuple[Any, ...]) -> Any:
        position = self.fixed.structure.position(name)
        if position is None:
            error = _not_there(self.path, name, self.fixed.structure.names, self.root.names)
            raise MissingVariableError(
                f"{error} A bound scope never creates variables: js.init this model, or restore a "
                "checkpoint that has the name."
            )
        return values[position]

    def has(self, name: str) -> bool:
        return self.fixed.structure.position(name) is not None

    def summary(self) -> str:
        return f"{self.path!r}, {len(self.fixed.structure.names)} variables"

    def child_keys(self, values: tuple[Any, ...]) -> Iterable[Any]:
        del values  # the names are in the structure
        return map(jax.tree_util.DictKey, self.fixed.structure.names)


# Declaring.


@dataclass(frozen=True, eq=False)
class _Defaults:
    """What scopes inherit while declaring; compared by identity, since values may be arrays."""

    reuse: Reuse = False
    initializer: Initializer | ArrayLike | None = None
    regularizer: Regularizer | None = None
    dtype: Any = None


_HASH_BITS = 12


class _Declaring:
    """The place of a declaring scope: (run, path, defaults)."""

    __slots__ = ("bits", "defaults", "path", "run")

    def __init__(self, run: Run, path: str, defaults: _Defaults):
        self.run = run
        self.path = path
        self.defaults = defaults
        code = hash((run, path))
        self.bits = tuple(None if code >> i & 1 else () for i in range(_HASH_BITS))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Declaring)
            and self.run is other.run
            and self.path == other.path
            and self.defaults is other.defaults
        )

    def __hash__(self) -> int:
        return hash((self.run, self.path))

    @property
    def reuse(self) -> Reuse:
        return self.defaults.reuse

    def child(self, name: str, values: tuple[Any, ...]) -> tuple["_Declaring", tuple[Any, ...]]:
        del values  # the child has hash bits of its own
        below = _Declaring(self.run, join(self.path, name), self.defaults)
        return below, below.bits

    def with_defaults(self, changed: Mapping[str, Any]) -> "_Declaring":
        if not changed:
            return self
        return _Declaring(self.run, self.path, replace(self.defaults, **changed))

    def get(self, request: _Request, scope: Scope) -> Array:
        recorder = self.run.recorder(self.path)
        whole = check_root(join(self.path, request.name))
        asked_dtype = request.dtype_said(whole, self.defaults.dtype)
        site = call_site()
        found = recorder.get(
            whole,
            lambda: self._spec(whole, request, asked_dtype, recorder),
            asked_shape=request.shape_said(),
            asked_dtype=asked_dtype,
            reuse=self.reuse,
            site=site,
            earlier=scope._lineage().again(whole, site),
        )
        return _abstract_value(found)

    def _spec(self, whole: str, request: _Request, dtype: Any, recorder: Recorder) -> VariableSpec:
        """What is created if the variable doesn't exist yet."""
        initializer, shape = request.initializer, request.shape
        initializer = self.defaults.initializer if initializer is None else initializer
        if isinstance(initializer, InitializedValue):
            candidates = map(recorder.created, outward(whole, initializer.name))
            source = next(filter(None, candidates), None)  # None if it is created later
            if source is not None:
                like = _initial.like_source(initializer, source)
                shape = like.shape if shape is None else shape
                dtype = like.dtype if dtype is None else dtype
        wanted = _initial.normalize(whole, shape, dtype, initializer)
        regularizer = request.regularizer
        regularizer = self.defaults.regularizer if regularizer is None else regularizer
        if not (regularizer is None or callable(regularizer)):
            raise RegularizerError(
                f"Variable {whole!r}: a regularizer is a function f(value) -> scalar, such as "
                f"regularizers.l2(1e-4), got {regularizer!r}."
            )
        return VariableSpec(*wanted, request.trainable, regularizer)

    def read(self, name: str, values: tuple[Any, ...]) -> Array:
        del values  # a declaring scope has none
        whole = join(self.path, name)
        spec = self.run.recorder(self.path).find(whole)
        if spec is None:
            created = tuple(self.run.recorder(self.path).specs())
            below = tuple(n[len(whole) - len(name) :] for n in created if _is_in(n, self.path))
            error = _not_there(self.path, name, below, created)
            raise MissingVariableError(
                f"{error} scope[name] reads what exists; to create a variable, write "
                "scope.get_variable(name, shape)."
            )
        return _abstract_value(spec)

    def has(self, name: str) -> bool:
        return self.run.recorder(self.path).created(join(self.path, name)) is not None

    def summary(self) -> str:
        return f"{self.path!r}, declaring"

    def child_keys(self, values: tuple[Any, ...]) -> Iterable[Any]:
        return map(jax.tree_util.FlattenedIndexKey, range(len(values)))


def _is_in(name: str, scope: str) -> bool:
    return not scope or name.startswith(scope + "/")


def _not_there(
    scope: str, name: str, below: Collection[str], everywhere: Collection[str]
) -> MissingVariableError:
    """Compose what is missing; what is below the scope is the better hint, if there is any."""
    if any(known.startswith(name + "/") or known.endswith("/" + name) for known in below):
        return missing_variable(name, below, scope)
    return missing_variable(join(scope, name), everywhere)


def _abstract_value(spec: VariableSpec) -> Array:
    # In a trace, as every declaration is, this computes nothing: it is one equation. It is
    # jnp.zeros at a third of the cost, which is most of what declaring adds to tracing.
    if jnp.issubdtype(spec.dtype, jax.dtypes.extended):
        return jnp.zeros(spec.shape, spec.dtype)
    return lax.broadcast(np.zeros((), spec.dtype), spec.shape)


def declaring_scope(recorder: Recorder) -> Scope:
    """The root scope of a declaration."""
    place = _Declaring(Run(recorder), "", _Defaults())
    return _make(place, place.bits, None)


def _make(place: "_Bound | _Declaring", values: tuple[Any, ...], asked: Asked | None) -> Scope:
    scope = Scope.__new__(Scope)
    scope._place = place
    scope._values = values
    scope._asked = asked
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


def _flatten(scope: Scope) -> tuple[tuple[Any, ...], "_Bound | _Declaring"]:
    return scope._values, scope._place


def _flatten_with_keys(
    scope: Scope,
) -> tuple[tuple[tuple[Any, Any], ...], "_Bound | _Declaring"]:
    keys = scope._place.child_keys(scope._values)
    return tuple(zip(keys, scope._values, strict=True)), scope._place


def _unflatten(place: "_Bound | _Declaring", values: Iterable[Any]) -> Scope:
    return _make(place, values, None)  # type: ignore[arg-type]  # JAX passes a tuple


jax.tree_util.register_pytree_with_keys(Scope, _flatten_with_keys, _unflatten, _flatten)
