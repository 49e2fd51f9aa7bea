"""The names of the leaves of a pytree that is saved or restored, and of the slices of stacks.

**Leaves.** Any pytree may be a target, or saved: a `VarTree`, a declaration, or a training state
of tuples, dataclasses and dictionaries. A leaf's name is the path to it, its parts joined with
``/``: the keys of mappings, the indices in lists and tuples, the attributes of dataclasses and
NamedTuples. So a `VarTree`'s variables have their own names, ``{"params": tree}`` has
``params/enc/w``, and Optax's state below ``opt`` has names such as ``opt/0/mu/enc/w``. A nested
dict and the flat one of the same names are saved alike. No two leaves have one name, and a name is
not empty, does not end with ``/`` (which Orbax drops) and can be spelled in UTF-8. None is a leaf,
and so are numbers and strings.

**Stacks.** What `Scope.stacked` declares is one variable with a leading axis in the target; a
model whose layers are in a loop, and other libraries, save one for each slice: ``layers/w`` has
the slices ``layers/0/w``, ``layers/1/w``, ..., which are the names that `jscope.unstack` gives.

**``var_list``** says which leaves a Saver saves and restores, and by which names, in TF1's two
forms: a list, here of selectors, whose variables are saved by their own names; or a dict from saved
names to variables' names.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax

from .._errors import (
    CheckpointValueError,
    MissingVariableError,
    listed,
    near,
    with_near_names,
)
from .._model.declaration import Declaration
from .._names.selectors import Selector, matching
from .._tree.vartree import VarTree, leaf_name

VarList: TypeAlias = Mapping[str, str] | Collection[Selector]

ALL_IN_VAR_LIST = "Leave var_list= out of Saver for all variables."


def as_pytree(tree: object) -> object:
    """The pytree whose leaves are saved or restored: the given one, or a mapping as a `VarTree`."""
    if isinstance(tree, Mapping) and jax.tree_util.all_leaves([tree]):
        return VarTree(tree)
    return tree


def flatten(tree: object, what: str) -> tuple[list[tuple[str, Any]], Any]:
    """The leaves of a pytree by their saved names, and the structure to unflatten them.

    Args:
        tree: Any pytree; another mapping is taken as a `VarTree`.
        what: What to call it in errors: ``"The tree"``, ``"The target"``.

    Raises:
        CheckpointValueError: If two leaves have one name, or one can't be a name.
    """
    tree = as_pytree(tree)
    try:
        named, structure = _named_leaves(tree)
    except ValueError as error:
        # A dict whose keys can't be sorted.
        raise CheckpointValueError(f"{what} can't be flattened by JAX: {error}") from error
    counts = Counter(name for name, _ in named)
    duplicates = sorted(name for name, count in counts.items() if count > 1)
    if duplicates:
        raise CheckpointValueError(
            f"{what} has two leaves of one name: {listed(duplicates)}. A leaf's name is the path "
            "to it, joined with '/'; rename a key on one of the paths."
        )
    if "" in counts:
        raise CheckpointValueError(
            f"{what} has a leaf without a name; it is of type {type(tree).__name__}, and leaves "
            "are named by the path to them. Give it a name, as in {'x': value}."
        )
    check_names(counts, what)
    return named, structure


def _named_leaves(tree: object) -> tuple[list[tuple[str, Any]], Any]:
    """The leaves of a pytree with their names, and the structure."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(tree, VarTree):
        pairs = list(tree.items())
    elif type(tree) is dict and all(type(key) is str for key in tree):
        pairs = sorted(tree.items())
    if pairs:
        leaves, structure = jax.tree.flatten(tree, is_leaf=lambda x: x is None)
        # Without values that are pytrees the names are the variables'.
        if list(map(id, leaves)) == [id(value) for _, value in pairs]:
            return pairs, structure
    found, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    return [(leaf_name(path), leaf) for path, leaf in found], structure


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse leaves whose names can't be saved.

    Raises:
        CheckpointValueError: If there is one; all are listed.
    """
    nameless = [name for name in names if name.endswith("/") or not _is_text(name)]
    if nameless:
        raise CheckpointValueError(
            f"{what} has names that can't be saved, as they end with '/' or are not UTF-8: "
            f"{listed(nameless)}. Rename them."
        )


def _is_text(name: str) -> bool:
    """Whether the name of a leaf can be spelled in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# Stacks.


Place: TypeAlias = tuple[int, ...]  # of a slice in its stack; () is the whole


def slices_of(
    leaves: Mapping[str, Any], stacks: Iterable[str], declared: Declaration | None
) -> dict[str, dict[Place, str]]:
    """The names under which leaves in stacks are saved: by leaf, those of its slices.

    Args:
        leaves: The target's leaves by name.
        stacks: The scopes of the stacks.
        declared: The declaration that the leaves are of, which knows its own stacks; or None.

    Raises:
        CheckpointValueError: If ``stacks`` are not scopes of leaves, or a leaf has fewer axes
            than stacks around it.
    """
    if isinstance(stacks, str):  # a string is iterable, by letters
        raise CheckpointValueError(f"`stacks` are several names: write stacks=[{stacks!r}].")
    stacks = tuple(stacks)
    wrong = [scope for scope in stacks if not isinstance(scope, str)]
    if wrong:
        raise CheckpointValueError(
            f"`stacks` are names of scopes, got {listed(map(repr, wrong))}. Write "
            "stacks=['encoder/layers']."
        )
    absent = [scope for scope in stacks if not any(n.startswith(f"{scope}/") for n in leaves)]
    if absent:
        scopes = {n[:at] for n in leaves for at, letter in enumerate(n) if letter == "/"}
        raise CheckpointValueError(
            f"`stacks` has scopes with no variables in the target: "
            f"{with_near_names(absent, scopes)}. Leave them out, or write the scopes of its stacks."
        )
    found: dict[str, dict[Place, str]] = {}
    for name, leaf in leaves.items():
        if declared is None:
            around = sorted((scope for scope in stacks if name.startswith(scope + "/")), key=len)
        else:
            around = [scope for scope, _ in declared[name].stack]
        if not around:
            continue
        shape = tuple(getattr(leaf, "shape", ()))
        if len(around) > len(shape):
            raise CheckpointValueError(
                f"{name!r} of shape {shape} can't be in the stacks {listed(around)}, "
                "each of which is an axis of it. Take one out of stacks=."
            )
        lengths = shape[: len(around)]
        found[name] = {place: part for part, place in slice_names(name, around, lengths)}
    return found


def slice_names(
    name: str, stacks: Sequence[str], lengths: Sequence[int]
) -> Iterator[tuple[str, Place]]:
    """The saved names of a stacked leaf's slices, as `jscope.unstack` gives them, and their places.

    >>> list(slice_names("layers/w", ["layers"], [2]))
    [('layers/0/w', (0,)), ('layers/1/w', (1,))]

    Args:
        name: The variable's name.
        stacks: The scopes of the stacks that it is in, the outermost first; each begins with
            the one before.
        lengths: Their lengths, which are the variable's first axes.
    """
    for place in itertools.product(*map(range, lengths)):
        whole = name
        # From the inside, so that the outer scopes are still where they were.
        for scope, index in zip(reversed(stacks), reversed(place), strict=True):
            whole = f"{scope}/{index}{whole[len(scope) :]}"
        yield whole, place


# var_list.


def check_var_list(var_list: object) -> VarList | None:
    """The argument ``var_list``, a list or dict, as it was given.

    Raises:
        CheckpointValueError: If it is neither.
    """
    if var_list is None:
        return None
    if isinstance(var_list, Mapping):
        texts = [*var_list, *var_list.values()]
        if not all(isinstance(text, str) and text for text in texts):
            raise CheckpointValueError(
                "var_list as a dict is {saved name: variable's name}, all of them strings. For the "
                "names of a tree write var_list=list(tree)."
            )
        duplicates = [name for name, count in Counter(var_list.values()).items() if count > 1]
        if duplicates:
            raise CheckpointValueError(
                f"var_list gives two saved names to one: {listed(duplicates)}."
            )
        return dict(var_list)
    if isinstance(var_list, Collection) and not isinstance(var_list, str | bytes):
        return list(var_list)
    raise CheckpointValueError(
        f"var_list is a list of selectors, or a dict {{saved name: variable's name}}; got "
        f"{var_list!r}. Write var_list=['enc/**']."
    )


def chosen_leaves(leaves: Mapping[str, Any], var_list: VarList | None) -> list[tuple[str, Any]]:
    """The leaves that ``var_list`` has, by the names under which they are saved.

    Raises:
        SelectorError: If a selector picks nothing.
        MissingVariableError: If the dict has a name that is not there.
    """
    if var_list is None:
        return list(leaves.items())
    if isinstance(var_list, Mapping):
        missing = [name for name in var_list.values() if name not in leaves]
        if missing:
            raise MissingVariableError(
                f"var_list has {listed(missing)}, which the tree does not have "
                f"({near(missing[0], leaves)})."
            )
        check_names(var_list, "var_list")
        return [(saved, leaves[name]) for saved, name in var_list.items()]
    chosen = matching(leaves, list(var_list), hint=ALL_IN_VAR_LIST)
    return [(name, leaf) for name, leaf in leaves.items() if name in chosen]


def variables_of(var_list: VarList | None) -> Selector | None:
    """The variables of a ``var_list``, as a selector."""
    if isinstance(var_list, Mapping):
        return dict.fromkeys(var_list.values())
    return var_list
