"""VarTree: the immutable container of variables, from names to values.

A tree is flat: it maps whole names (``"encoder/w"``) to values, sorted by name. Scopes are
not objects in it, only common prefixes, so a name may be at once a variable and a scope
(``w`` and ``w/Adam``), as in many TF1 checkpoints.

Facts that other files rely on:

* **One pytree node.** JAX flattens a tree to the tuple of its values, which is kept as it
  is: flattening costs what flattening a tuple costs, for any number of variables.
* **Key paths are names**: leaf ``w`` of scope ``a`` has the path ``DictKey("a/w")``, so
  `jax.tree_util` and JAX's own errors name variables.
* **Structures are interned.** All trees with the same names share one `Structure`, found
  in a weak dictionary under a lock, so that comparing two structures is comparing two
  addresses. JAX's caches hold structures until `jax.clear_caches`; nothing else does.
* **Unflattening checks nothing.** JAX passes sentinels, ``None`` and specs; any value is
  stored as it is.
* **A scope is a slice.** The variables below ``a/`` stand together, in the same order as
  without the prefix, so cutting a scope out is slicing the tuple of values.
"""

import bisect
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Protocol, TypeVar

import jax
import jax.export

from .._errors import (
    NameCollisionError,
    NestingError,
    listed,
    missing_scope,
    missing_variable,
)
from .._names.names import check, join
from .text import bytes_text, table
from .values import elements, same_bits, shown_value, value_bytes

T = TypeVar("T")


class Structure:
    """The names of a tree: interned, compared by identity, shared by all trees that have them."""

    __slots__ = ("__weakref__", "_slices", "names", "position")

    names: tuple[str, ...]
    # Where in the tuple of values a variable stands, or None if there is none. A dictionary's own
    # method, since it is on the way of every look-up.
    position: Callable[[str], int | None]

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.position = dict(zip(names, range(len(names)), strict=True)).get
        self._slices: dict[str, tuple[Structure, slice]] = {}

    def below(self, scope: str) -> tuple["Structure", slice]:
        """The structure of the variables below ``scope``, named from there, and where they are."""
        found = self._slices.get(scope)
        if found is None:
            where = self.places_below(scope)
            cut = len(scope) + 1
            below = intern_structure(tuple(name[cut:] for name in self.names[where]))
            found = (below, where)
            if below.names:  # else every name that a caller tries would be kept here
                self._slices[scope] = found
        return found

    def places_below(self, scope: str) -> slice:
        """Where in the tuple of values the variables below ``scope`` stand."""
        # "0" is the character after "/".
        first = bisect.bisect_left(self.names, scope + "/")
        return slice(first, bisect.bisect_left(self.names, scope + "0", lo=first))

    def __reduce__(self) -> tuple[Any, ...]:
        return intern_structure, (self.names,)

    def __repr__(self) -> str:
        return f"Structure({listed(self.names, most=40)})"


_structures: "weakref.WeakValueDictionary[tuple[str, ...], Structure]" = (
    weakref.WeakValueDictionary()
)
# Reentrant, since the garbage collector may run any object's __del__ while it is held.
_structures_lock = threading.RLock()


def intern_structure(names: tuple[str, ...]) -> Structure:
    """The one `Structure` of these sorted, distinct, legal names."""
    with _structures_lock:
        found = _structures.get(names)
        return _structures.setdefault(names, Structure(names)) if found is None else found


class HasTree(Protocol):
    """What a `VarTree` can be made of beside mappings: a scope, a saved checkpoint."""

    def __vartree__(self) -> "VarTree":
        """Its variables, by name."""


class VarTree(Mapping[str, Any]):
    """An immutable mapping from variable names to values, and one JAX pytree.

    Values are arrays, `jax.ShapeDtypeStruct`, NumPy arrays,
    typed PRNG keys, masks and labels, or pytrees, as long as no two leaves get one name.

    >>> tree = VarTree({"encoder": {"w": np.ones((2, 3)), "b": np.zeros(3)}, "step": np.int32(7)})
    >>> list(tree)
    ['encoder/b', 'encoder/w', 'step']
    >>> tree["encoder/w"].shape
    (2, 3)

    Args:
        variables: A flat or nested mapping; nested keys are joined with ``/``. A scope
            without variables leaves no trace. Or a `js.Scope`: the values below it, by names
            relative to it, with what was assigned so far; while declaring, the abstract values of
            those declared so far. Or what `Saver.open` gives: all its values, read.

    Raises:
        VariableNameError: If a name is not legal.
        NameCollisionError: If two leaves would get one name.

    **Equality.** ``a == b`` is True if both are trees with the same names whose values are
    equal to the last bit: same dtype, shape and bytes, so that NaN equals itself and 0.0
    differs from -0.0. Values that are not arrays must be of the same type and equal. Devices and
    shardings are not compared, nor whether NumPy or JAX holds the values. A tree is not
    hashable, and traced values can't be compared.

    **Exported functions.** `jax.export` writes trees by name. To read such a function in
    another process, use this class there once (``js.VarTree``) before
    ``jax.export.deserialize``: jscope's names load on first use, and only then JAX knows it.
    Pickles need nothing.
    """

    __slots__ = ("_structure", "_values")

    _structure: Structure
    _values: tuple[Any, ...]

    def __init__(self, variables: "Mapping[str, Any] | HasTree | None" = None, /):
        if isinstance(variables, VarTree):
            _set_structure(self, variables._structure)
            _set_values(self, variables._values)
            return
        if variables is not None and hasattr(variables, "__vartree__"):
            tree = variables.__vartree__()
        elif variables is None or isinstance(variables, Mapping):
            flat: dict[str, Any] = {}
            _flatten_into(flat, "", variables or {})
            tree = from_flat(flat)
        else:
            raise TypeError(f"VarTree needs a mapping, got {type(variables).__name__}.")
        _set_structure(self, tree._structure)
        _set_values(self, tree._values)

    # Reading.

    def __getitem__(self, name: str) -> Any:
        position = self._structure.position(name) if isinstance(name, str) else None
        if position is None:
            raise missing_variable(name, self)
        return self._values[position]

    def get(self, name: str, default: object = None) -> Any:
        """The value of a variable, or ``default`` if there is none."""
        # Mapping's own would compose an error with near names, and discard it.
        position = self._structure.position(name)
        return default if position is None else self._values[position]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._structure.position(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._structure.names)

    def __len__(self) -> int:
        return len(self._values)

    def subtree(self, scope: str, /) -> "VarTree":
        """The variables below ``scope``, named from there; ``""`` is the root, all of them.

        Raises:
            MissingVariableError: If there are none.
        """
        if scope == "":
            return self
        structure, where = self._structure.below(check(scope))
        if not structure.names:
            raise missing_scope(scope, self)
        return from_values(structure, self._values[where])

    def to_nested(self) -> dict[str, Any]:
        """The same variables as dicts in dicts, one level per component.

        Raises:
            NestingError: If a name is at once a variable and a scope; all such are listed.
        """
        names = self._structure.names
        both = [name for name in names if names[self._structure.places_below(name)]]
        if both:
            first = both[0]
            below = names[self._structure.places_below(first)][0]
            other = first + "_" + below[len(first) + 1 :].replace("/", "_")
            raise NestingError(
                f"This tree can't be nested: {listed(both)} would be a value and a dict at once "
                f"({first!r} and {below!r} are both variables). Keep it flat with dict(tree), or "
                f"rename what is below, as in js.rename(tree, {{{below!r}: {other!r}}})."
            )
        nested: dict[str, Any] = {}
        for name, value in self.items():
            *scopes, last = name.split("/")
            level = nested
            for scope in scopes:
                level = level.setdefault(scope, {})
            level[last] = value
        return nested

    @property
    def size(self) -> int:
        """The number of elements of all arrays of known shape together."""
        return sum(map(elements, jax.tree.leaves(self)))

    @property
    def nbytes(self) -> int:
        """The number of bytes of all arrays of known shape together, as one unsharded copy."""
        return sum(value_bytes(leaf) for leaf in jax.tree.leaves(self))

    # Making new trees.

    def __or__(self, other: Mapping[str, Any]) -> "VarTree":
        """Both trees' variables; where both have a name, the right one's value."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return from_flat({**self, **VarTree(other)})

    def __ror__(self, other: Mapping[str, Any]) -> "VarTree":
        if not isinstance(other, Mapping):
            return NotImplemented
        return from_flat({**VarTree(other), **self})

    # Comparing, copying, printing.

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VarTree):
            return NotImplemented
        flattened: list[Any] = [jax.tree_util.tree_flatten(tree) for tree in (self, other)]
        (ours, our_structure), (theirs, their_structure) = flattened
        return bool(our_structure == their_structure) and all(map(same_bits, ours, theirs))

    __hash__ = None  # type: ignore[assignment]  # equality compares values, which may be large

    def __reduce__(self) -> tuple[Any, ...]:
        return from_values, (self._structure, self._values)

    def __repr__(self) -> str:
        counts = f"{len(self):,} variables, {self.size:,} elements, {bytes_text(self.nbytes)}"
        if not self:
            return "VarTree of no variables"
        rows = [(name, *shown_value(value)) for name, value in self.items()]
        body = table(("name", "shape", "dtype", "bytes"), rows, right=("bytes",))
        return f"VarTree of {counts}\n{body}"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"A VarTree can't be changed; {name!r} was to be set. {_HOW_TO_CHANGE}"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A VarTree can't be changed. {_HOW_TO_CHANGE}")

    def __setitem__(self, name: str, value: object) -> NoReturn:
        raise TypeError(f"A VarTree can't be changed; {name!r} was to be set. {_HOW_TO_CHANGE}")

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(f"A VarTree can't be changed. Write tree = js.drop(tree, {name!r}).")

    # A tree passed where a scope belongs.

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("get_variable", "variable_scope", "shared", "has"):
            raise AttributeError(
                f"A VarTree has no {name!r}: this is a tree where a scope belongs. Write "
                "js.Scope(tree), as in model(js.Scope(tree), x)."
            )
        raise AttributeError(f"'VarTree' object has no attribute {name!r}")

    def __truediv__(self, name: object) -> NoReturn:
        raise TypeError(
            f"A VarTree has no '/': for a scope write js.Scope(tree) / {name!r}, for a part of the "
            f"tree tree.subtree({name!r})."
        )


_HOW_TO_CHANGE = "Write tree = tree | {'name': value}, or js.assign(tree, 'name', value)."

# The slots' own setters, since __setattr__ refuses; unflattening is on the path of every call.
_set_structure = VarTree.__dict__["_structure"].__set__
_set_values = VarTree.__dict__["_values"].__set__


def from_values(structure: Structure, values: Iterable[Any]) -> VarTree:
    """A tree from its names and a tuple of values, unchecked; also how JAX unflattens one."""
    tree = VarTree.__new__(VarTree)
    _set_structure(tree, structure)
    _set_values(tree, tuple(values))  # the same object, if it is a tuple
    return tree


def from_flat(flat: Mapping[str, Any]) -> VarTree:
    """A tree from legal names to values, which are stored as they are, mappings included.

    Raises:
        NameCollisionError: If two leaves would get one name.
    """
    names = tuple(sorted(flat))
    values = tuple(flat[name] for name in names)
    tree = from_values(intern_structure(names), values)
    if not jax.tree_util.all_leaves(values):
        _check_leaf_names(tree)
    return tree


def structure_of(tree: VarTree) -> Structure:
    """The interned structure of a tree."""
    return tree._structure


def values_of(tree: VarTree) -> tuple[Any, ...]:
    """The values of a tree, in the order of their names."""
    return tree._values


def as_tree(variables: Mapping[str, Any]) -> VarTree:
    """A tree of any mapping, or the tree itself.

    Raises:
        TypeError: If it is not a mapping.
    """
    if isinstance(variables, VarTree):
        return variables
    if not isinstance(variables, Mapping):
        raise TypeError(f"A VarTree or another mapping is needed, got {type(variables).__name__}.")
    return VarTree(variables)


def map_named(tree: Mapping[str, Any], function: Callable[[str, Any], Any]) -> VarTree:
    """A `VarTree` of the same names, with ``function(name, value)`` for each variable.

    >>> map_named(VarTree({"a/w": 2.0}), lambda name, value: f"{name} is {value}")["a/w"]
    'a/w is 2.0'
    """
    tree = as_tree(tree)
    return from_values(structure_of(tree), tuple(function(*item) for item in tree.items()))


def leaf_name(path: tuple[Any, ...]) -> str:
    """The name of a `VarTree`'s leaf by JAX's key path: the variable's, and the path below it."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _flatten_into(flat: dict[str, Any], scope: str, variables: Mapping[str, Any]) -> None:
    """Enter nested mappings into a flat dictionary, by the whole names of a tree."""
    for name, value in variables.items():
        whole = join(scope, check(name))
        if isinstance(value, Mapping):
            _flatten_into(flat, whole, value)
        elif whole in flat:
            raise NameCollisionError(f"Two variables would get the name {whole!r}.")
        else:
            flat[whole] = value


def _check_leaf_names(tree: VarTree) -> None:
    """Raise if two leaves of a `VarTree` get one name, as values that are pytrees may."""
    # Values that are pytrees themselves: "w": [x, y] has the leaves "w/0" and "w/1".
    seen: dict[str, int] = {}
    for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = leaf_name(path)
        seen[name] = seen.get(name, 0) + 1
    duplicates = [name for name, count in seen.items() if count > 1]
    if duplicates:
        raise NameCollisionError(
            f"Two leaves would get one name: {listed(duplicates)}. A value that is a pytree has "
            "leaves named by their path in it, and another variable has that name."
        )


def _flatten(tree: VarTree) -> tuple[tuple[Any, ...], Structure]:
    return tree._values, tree._structure


def _flatten_with_keys(tree: VarTree) -> tuple[tuple[tuple[Any, Any], ...], Structure]:
    keys = map(jax.tree_util.DictKey, tree._structure.names)
    return tuple(zip(keys, tree._values, strict=True)), tree._structure


jax.tree_util.register_pytree_with_keys(VarTree, _flatten_with_keys, from_values, _flatten)


def _serialize_structure(structure: Structure) -> bytes:
    return "\n".join(structure.names).encode()


def _deserialize_structure(data: bytes | bytearray) -> Structure:
    return intern_structure(tuple(map(check, bytes(data).decode().split("\n"))) if data else ())


jax.export.register_pytree_node_serialization(
    VarTree,
    serialized_name="jscope.VarTree",
    serialize_auxdata=_serialize_structure,
    deserialize_auxdata=_deserialize_structure,
)
