"""The target of a restore: the names of its leaves, and which saved name becomes which of them.

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

**var_list.** TF1's two forms: a list, here of selectors, whose variables are saved by their own
names; or a dict from saved names to variables' names.

**rename.** A saved name that ``rename`` has, by itself, by a scope above it or by a pattern, is
*mentioned*, and one entry decides what becomes of it; here from the first to the last that is
asked:

* the name itself;
* the first regular expression that it matches as a whole;
* the longest scope above it, or name or scope with ``*`` that it matches. A ``*`` stands for any
  characters within one component, the same on both sides.

A slash at the end marks a scope; a name without one is the variable's, and what is below it.

Where a new name is one that is not mentioned, the latter is dropped: a checkpoint with ``w``
and ``w/ExponentialMovingAverage`` restores the average into ``w`` by
``rename={"w/ExponentialMovingAverage": "w"}``, as TF1's dict of names did. The two variables
that ``zero_debias`` keeps below the name of such an average may be left then, like the ``w``.

A name, or all below a scope, may go to several names at once, written as a tuple: weights that two
variables of the target share are saved once, and
``rename={"embedding/w": ("embedding/w", "head/w")}`` restores both. A `Through` instead of a name
has a function that the values go through.

**Without a target** a checkpoint's own names, dtypes and shapes are expected, and the result is
what was saved: a `VarTree`, or the containers of the pytree. Where only a part is requested, or
names are changed, and where a checkpoint has no containers, such as files of TensorFlow,
safetensors and NumPy, it is a `VarTree`.
"""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from .._errors import (
    CheckpointValueError,
    MissingVariableError,
    NameCollisionError,
    SelectorError,
    VariableNameError,
    listed,
    near,
)
from .._model.declaration import Declaration
from .._names.assignment import (
    Rule,
    Through,
    is_right_side,
    pattern_rule,
    template_rule,
    wrong_entries,
)
from .._names.names import DEBIASING, check
from .._names.selectors import Selector, matching, mentioned, not_there, with_near_names
from .._stores.remote import AnyPath
from .._tree.vartree import VarTree, from_flat, leaf_name
from ..formats._own_entry import Entry, dtype_name
from ..formats._per_process import PerProcess
from ..formats._python_values import PER_PROCESS, PythonValue, is_python, python_dtype, python_value
from ..formats._source import Source
from ..sharding import AnyMesh, Rules
from ._encoding import key_dtype, left_out

# Leaves.


def as_pytree(tree: object) -> object:
    """A pytree as it is; a mapping that JAX doesn't know as a `VarTree`."""
    if isinstance(tree, Mapping) and jax.tree_util.all_leaves([tree]):
        return VarTree(tree)
    return tree


def flatten(tree: object, what: str) -> tuple[list[tuple[str, Any]], Any]:
    """The leaves of a pytree by name, and the structure that `jax.tree.unflatten` takes.

    Args:
        tree: Any pytree; another mapping is taken as a `VarTree`.
        what: What to call it in errors: ``"The tree"``, ``"The target"``.

    Raises:
        CheckpointValueError: If two leaves have one name, or one can't be a name.
    """
    tree = as_pytree(tree)
    try:
        named, structure = _named(tree)
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


def _named(tree: object) -> tuple[list[tuple[str, Any]], Any]:
    if isinstance(tree, VarTree):
        leaves, structure = jax.tree.flatten(tree, is_leaf=lambda x: x is None)
        values = list(tree.values())
        # Without values that are pytrees the names are the variables'.
        if list(map(id, leaves)) == list(map(id, values)):
            return list(zip(tree, leaves, strict=True)), structure
    found, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    return [(leaf_name(path), leaf) for path, leaf in found], structure


def check_names(names: Iterable[str], what: str) -> None:
    """Refuse what can't be a saved name.

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
    """The names of the slices of each leaf that is in a stack.

    Args:
        leaves: The target's leaves by name.
        stacks: The scopes of the stacks.
        declared: The declaration that the leaves are of, which knows its own stacks; or None.

    Raises:
        CheckpointValueError: If ``stacks`` are not scopes, or a leaf has fewer axes than stacks
            around it.
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
    """The names of a stacked variable's slices, as `jscope.unstack` gives them, and their places.

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


VarList: TypeAlias = Mapping[str, str] | Collection[Selector]

ALL_IN_VAR_LIST = "Leave var_list= out of Saver for all variables."


def check_var_list(var_list: object) -> VarList | None:
    """The list or dict, as it was given.

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
    """The leaves that are saved, by saved name.

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


# rename.


NewNames: TypeAlias = str | Through | tuple[str | Through, ...]
Rename: TypeAlias = Mapping[str | re.Pattern[str], NewNames] | Callable[[str], NewNames]

# A new name, and the function that its values go through.
_New: TypeAlias = tuple[str, Through | None]


class Renamed(NamedTuple):
    """The names of a checkpoint's variables after renaming.

    Attributes:
        saved: From the new names to the saved ones.
        through: The functions that values go through, by new name.
    """

    saved: Mapping[str, str]
    through: Mapping[str, Through]


def check_rename(rename: object) -> None:
    """Refuse what can't be a renaming, before any checkpoint is opened.

    Raises:
        CheckpointValueError: If it is neither a function nor a mapping of names; all entries that
            can't be are listed.
    """
    if rename is None or callable(rename):
        return
    if not isinstance(rename, Mapping):
        raise CheckpointValueError(
            f"`rename` is a mapping from saved names to the target's, or a function; got "
            f"{rename!r}. Write rename={{'saved/scope': 'scope'}}."
        )
    wrong = wrong_entries(rename)
    if wrong:
        raise CheckpointValueError(
            f"`rename` goes from names to names, and has {', '.join(wrong[:10])}. Write "
            "rename={'saved': 'name'}; for several variables that share a saved one "
            "rename={'saved': ('name', 'another')}, a tuple; for the root ''; for a function of "
            "the values rename={'saved': js.Through('name', np.transpose)}. To leave a saved "
            "variable out write unexpected='ignore'."
        )


def check_separator(names: object) -> None:
    """Refuse what can't separate components.

    Raises:
        CheckpointValueError: If it is not a string, or an empty one.
    """
    if not (isinstance(names, str) and names):
        raise CheckpointValueError(
            f"`names` is what separates the components of saved names, got {names!r}. Write "
            "names='.' for names as PyTorch's, model.layers.0.weight."
        )


def rename_saved(saved: Iterable[str], rename: Rename | None, separator: str = "/") -> Renamed:
    """The saved variables by their new names.

    Args:
        saved: The saved names.
        rename: From old to new: names of variables, or of scopes, which move all that is
            below them; the longest old name wins, and ``""`` is the root. Or a function from
            each saved name to the new one. A new name may be a `Through`, or a tuple of several.
        separator: What separates the components of saved names. If it is not ``/``, that is put
            in its place first, in names and in the old ones of ``rename``.

    Raises:
        SelectorError: If an old name is neither a saved name nor a scope of one.
        NameCollisionError: If two mentioned names would become one; all such are listed.
        VariableNameError: If a function gives no name, or a variable would have an empty one.
        Exception: What a function raises.
    """
    spelled = _spelled(saved, separator)
    if not rename:
        return Renamed(spelled, {})
    if callable(rename):
        new_of = _by_function(spelled, rename)
    else:
        new_of = _by_mapping(spelled, _with_slashes(rename, separator))
    nameless = [old for old, news in new_of.items() if any(not name for name, _ in news)]
    if nameless:
        raise VariableNameError(
            f"`rename` would give an empty name to {listed(nameless)}. '' is the root, for what is "
            "below a scope; a variable needs a name of its own."
        )
    sources: dict[str, list[str]] = {}
    through: dict[str, Through] = {}
    for old, news in new_of.items():
        for name, function in dict.fromkeys(news):
            sources.setdefault(name, []).append(old)
            if function is not None:
                through[name] = function
    duplicates = [f"{listed(old)} -> {new!r}" for new, old in sources.items() if len(old) > 1]
    if duplicates:
        raise NameCollisionError(
            f"`rename` gives several saved variables one name, and nothing was read: "
            f"{'; '.join(duplicates[:10])}. Give each a name of its own. If they are one value "
            "that was exported under several names, keep one of its entries and write "
            "unexpected='ignore'."
        )
    unmentioned = {
        name: old for name, old in spelled.items() if name not in new_of and name not in sources
    }
    return Renamed(unmentioned | {new: spelled[old] for new, (old,) in sources.items()}, through)


def kept_for_averages(saved: Collection[str], rename: Rename | None) -> frozenset[str]:
    """The variables of ``zero_debias`` below averages that are mentioned by their own names.

    >>> saved = ["w", "w/mean", "w/mean/biased", "w/mean/local_step", "w/Adam"]
    >>> sorted(kept_for_averages(saved, {"w/mean": "w"}))
    ['w/mean/biased', 'w/mean/local_step']
    """
    if rename is None or callable(rename):
        return frozenset()
    below = ([f"{name}/{what}" for what in DEBIASING] for name in rename if name in saved)
    return frozenset(
        name for names in below if all(name in saved for name in names) for name in names
    )


def _spelled(saved: Iterable[str], separator: str) -> dict[str, str]:
    """The saved names by their spelling with slashes."""
    if separator == "/":
        return {name: name for name in saved}
    found: dict[str, list[str]] = {}
    for name in saved:
        found.setdefault(name.replace(separator, "/"), []).append(name)
    same = [f"{listed(names)} -> {new!r}" for new, names in found.items() if len(names) > 1]
    if same:
        raise NameCollisionError(
            f"The separator {separator!r} spells several saved names alike: "
            f"{'; '.join(same[:10])}. Leave it out, and give each a name of its own by rename=, a "
            "function."
        )
    return {new: name for new, (name,) in found.items()}


def _with_slashes(
    rename: Mapping[str | re.Pattern[str], NewNames], separator: str
) -> Mapping[str | re.Pattern[str], NewNames]:
    if separator == "/":
        return rename
    return {
        old.replace(separator, "/") if isinstance(old, str) else old: new
        for old, new in rename.items()
    }


def _news(new: NewNames) -> tuple[_New, ...]:
    return tuple(
        (name.name, name) if isinstance(name, Through) else (name, None)
        for name in (new if isinstance(new, tuple) else (new,))
    )


def _by_function(saved: Iterable[str], rename: Callable[[str], Any]) -> dict[str, tuple[_New, ...]]:
    given = {name: rename(name) for name in saved}
    for old, new in given.items():
        if not is_right_side(new):
            raise VariableNameError(
                f"`rename` gave {new!r} for {old!r}, which is not a name. Return the new name, a "
                "tuple of several, or the name itself if it is to stay."
            )
    return {old: _news(new) for old, new in given.items() if new != old}


def _by_mapping(
    saved: Collection[str], rename: Mapping[str | re.Pattern[str], NewNames]
) -> dict[str, tuple[_New, ...]]:
    names = _Names(saved, rename)
    absent = names.absent(saved)
    if absent:
        known = {**dict.fromkeys(saved), **dict.fromkeys(_scopes(saved))}
        raise SelectorError(
            f"Nothing to rename in the checkpoint: {with_near_names(absent, known)}. `rename` goes "
            "from saved names, or scopes of them, to the target's."
            + _hint_on_stars(absent, saved, rename)
        )
    return {name: new for name in saved if (new := names.of(name)) is not None}


class _Names:
    """The entries of a mapping, by kind.

    Args:
        saved: The saved names.
        rename: The mapping.

    Attributes:
        own: The entries without a slash at the end: of variables, and of scopes.
        slashed: The entries with one, of scopes only.
        scopes: The entries of scopes.
        patterns: The rules of each entry with ``*``, the longest first.
        expressions: The rules of each regular expression, in order.
    """

    def __init__(
        self, saved: Collection[str], rename: Mapping[str | re.Pattern[str], NewNames]
    ) -> None:
        self.own: dict[str, tuple[_New, ...]] = {}
        self.slashed: dict[str, tuple[_New, ...]] = {}
        self.patterns: list[tuple[str, list[Rule]]] = []
        self.expressions: list[tuple[str, list[Rule]]] = []
        for old, new in rename.items():
            news = _news(new)
            if isinstance(old, re.Pattern):
                rules = [template_rule(old, name, 0, function) for name, function in news]
                self.expressions.append((old.pattern, rules))
            elif old in saved or not ("*" in old or _is_scope(old, news)):
                self.own[old] = news
            elif "*" in old:
                rules = [pattern_rule(old, name, 1, function) for name, function in news]
                self.patterns.append((old, rules))
            else:
                self.slashed[old.strip("/")] = _stripped(news)
        self.scopes = self.own | self.slashed
        self.patterns.sort(key=lambda pattern: _length(pattern[0]), reverse=True)

    def of(self, name: str) -> tuple[_New, ...] | None:
        """What a saved name becomes; None if no entry mentions it."""
        if name in self.own:
            return self.own[name]
        for _, rules in self.expressions:
            if rules[0].matches.fullmatch(name):
                return _matched(rules, name)
        scope = mentioned(self.scopes, name.rpartition("/")[0])
        for old, rules in self.patterns:
            if scope is not None and len(scope) > _length(old):
                break
            if rules[0].matches.fullmatch(name):
                return _matched(rules, name)
        if scope is None:
            return None
        below = name[len(scope) :].removeprefix("/")
        return tuple(
            ("/".join(part for part in (new, below) if part), function)
            for new, function in self.scopes[scope]
        )

    def absent(self, saved: Collection[str]) -> list[str]:
        """The old names that are about nothing."""
        found = not_there(saved, self.own)
        found += not_there({name.rpartition("/")[0] for name in saved}, self.slashed)
        for old, rules in (*self.patterns, *self.expressions):
            if not any(map(rules[0].matches.fullmatch, saved)):
                found.append(old)
        return found


def _is_scope(old: str, news: Iterable[_New]) -> bool:
    return old.endswith("/") or any(name.endswith("/") for name, _ in news)


def _stripped(news: Iterable[_New]) -> tuple[_New, ...]:
    return tuple((name.strip("/"), function) for name, function in news)


def _length(old: str) -> int:
    """How much of a name a pattern says."""
    return len(old.rstrip("/")) - old.count("*")


def _matched(rules: Iterable[Rule], name: str) -> tuple[_New, ...]:
    found = []
    for rule in rules:
        try:
            found += [(new, rule.through) for _, new in rule.pairs([name])]
        except (re.error, IndexError) as error:
            raise CheckpointValueError(
                f"`rename` has {rule.left!r}: {rule.right!r}, which is not a template of the "
                f"regular expression: {error}. Groups are written \\1 or \\g<name>."
            ) from None
    return tuple(found)


def _hint_on_stars(
    absent: Collection[str], saved: Collection[str], rename: Mapping[Any, NewNames]
) -> str:
    """What to write if an entry with stars has the name of scopes, without the slash."""
    for old in absent:
        new = rename.get(old)
        if "*" in old and not old.endswith("/") and isinstance(new, str):
            scope = pattern_rule(old + "/", new.rstrip("/") + "/", 1, None)
            if any(map(scope.matches.fullmatch, saved)):
                entry = {scope.left: scope.right}
                return f" Scopes with * have a slash at the end: write rename={entry}."
    return ""


def _scopes(names: Iterable[str]) -> set[str]:
    """All scopes above names."""
    return {name[:at] for name in names for at, character in enumerate(name) if character == "/"}


# The target.


ALL_IN_TARGET = "Leave select= out to restore all variables."


@dataclasses.dataclass(frozen=True)
class Target:
    """A pytree, taken apart.

    Attributes:
        leaves: Its leaves by name, in order; of a declaration, `jax.ShapeDtypeStruct`.
        rebuild: From leaves in this order to the pytree.
        selectable: The values that selectors see, by name: variables, or leaves if there are none.
        owner: From the name of a leaf to that of its selectable value.
        declared: The declaration, if the target is one.
        slices: From the leaves that are in stacks to the names of their slices, by place.
    """

    leaves: Mapping[str, Any]
    rebuild: Callable[[Sequence[Any]], Any]
    selectable: Mapping[str, Any]
    owner: Mapping[str, str]
    declared: Declaration | None = None
    slices: Mapping[str, Mapping[Place, str]] = dataclasses.field(default_factory=dict)


def take_apart(
    target: object, mesh: AnyMesh | None, rules: Rules, stacks: Iterable[str] = ()
) -> Target:
    """The leaves of a target, with names.

    Args:
        target: A pytree or a declaration.
        mesh: What a declaration's variables are laid out over.
        rules: As for `Declaration.abstract`.
        stacks: The scopes that are stacks; a declaration knows its own.

    Raises:
        CheckpointValueError: If leaves have the same name, or can't be restored; all are listed;
            or if ``stacks`` can't be.
        ShardingError: If ``rules`` don't fit.
    """
    declared = target if isinstance(target, Declaration) else None
    if declared is None and (mesh is not None or rules):
        raise CheckpointValueError(
            "`mesh` and `rules` lay a declaration's variables out, and the target is not a "
            "declaration. Give its leaves shardings instead, as in "
            "jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)."
        )
    pytree = target if declared is None else declared.abstract(mesh, rules=rules)
    named, structure = flatten(pytree, "The target")
    _check(named)
    leaves = dict(named)
    slices = slices_of(leaves, stacks, declared)
    if not isinstance(pytree, VarTree):
        owner = {name: name for name in leaves}
        return Target(leaves, structure.unflatten, leaves, owner, slices=slices)
    # A value that is a pytree has several leaves.
    owners = list(pytree)
    if owners != list(leaves):
        owners = [name for name, value in pytree.items() for _ in _leaves(value)]
    owner = dict(zip(leaves, owners, strict=True))
    # A predicate sees a declaration's specs, so that it can pick trainable variables.
    selectable = pytree if declared is None else declared
    return Target(leaves, structure.unflatten, selectable, owner, declared, slices)


def selected(target: Target, selector: Selector | None, hint: str) -> frozenset[str]:
    """The leaves that a selector picks; all of them if it is None.

    Args:
        target: The target.
        selector: The selector.
        hint: What to write if it picks nothing and that is meant.

    Raises:
        SelectorError: If it matches nothing.
    """
    if selector is None:
        return frozenset(target.leaves)
    chosen = matching(target.selectable, selector, hint=hint)
    return frozenset(name for name, owner in target.owner.items() if owner in chosen)


def asked_for(saved: Mapping[str, Any], selector: Selector | None) -> frozenset[str]:
    """Which of the names that only the checkpoint has a selector picks by name.

    A predicate applies to the target's variables only, and so does a mapping.
    """
    if selector is None:
        return frozenset(saved)
    if isinstance(selector, str | re.Pattern):
        return matching(saved, selector, allow_empty=True)
    if isinstance(selector, Collection) and not isinstance(selector, Mapping):
        return frozenset().union(*(asked_for(saved, part) for part in selector))
    return frozenset()


def _check(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse leaves that can't be restored."""
    tracers = [name for name, leaf in named if isinstance(leaf, jax.core.Tracer)]
    if tracers:
        raise CheckpointValueError(
            f"The target holds tracers: {listed(tracers)}. A restore reads files; call it outside "
            "of jit, grad and vmap and pass its result in."
        )
    strange = [f"{n!r} is a {type(leaf).__name__}" for n, leaf in named if not _is_known(leaf)]
    if strange:
        raise CheckpointValueError(
            f"The target holds what can't be restored: {'; '.join(strange[:10])}. A leaf is an "
            "array, a jax.ShapeDtypeStruct, a number or string of Python, or None. Give classes "
            "of your own to jax.tree_util.register_dataclass, with static fields for the rest.",
            left_out([leaf for _, leaf in named if not _is_known(leaf)], "target"),
        )
    placeless = [name for name, leaf in named if _is_placeless(leaf)]
    if placeless:
        raise CheckpointValueError(
            f"The target's shardings name no devices: {listed(placeless)} are over an AbstractMesh."
            " Give their jax.ShapeDtypeStruct a sharding over a jax.sharding.Mesh, or none."
        )
    check_shardings(named)


def check_shardings(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse shardings that don't cut their leaves into equal shards, before anything is read.

    Raises:
        CheckpointValueError: If there are such; all are listed.
    """
    uncut = []
    for name, leaf in named:
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, jax.sharding.Sharding) and not isinstance(leaf, jax.Array):
            try:
                sharding.shard_shape(tuple(leaf.shape))
            except ValueError:
                spec = getattr(sharding, "spec", sharding)
                mesh = f" over {dict(sharding.mesh.shape)}" if hasattr(sharding, "mesh") else ""
                uncut.append(f"\n  {name!r} of shape {tuple(leaf.shape)} by {spec}{mesh}")
    if uncut:
        count = "1 leaf" if len(uncut) == 1 else f"{len(uncut)} leaves"
        raise CheckpointValueError(
            f"The target's shardings don't cut {count} into equal shards; nothing was read:"
            f"{''.join(uncut)}\nGive their jax.ShapeDtypeStruct another PartitionSpec, such as "
            "jax.sharding.PartitionSpec(), or another mesh."
        )


def _leaves(value: object) -> list[Any]:
    return jax.tree.leaves(value, is_leaf=lambda x: x is None)


def _is_known(leaf: object) -> bool:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return python_dtype(leaf) is not None
    try:
        dtype_name(leaf.dtype)
    except TypeError:  # another library's
        return False
    return True


def _is_placeless(leaf: object) -> bool:
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    return isinstance(mesh, jax.sharding.AbstractMesh)


def without_value(leaf: object) -> bool:
    """Whether a leaf can't be kept: it is abstract, or its buffer is gone."""
    if isinstance(leaf, jax.Array):
        return leaf.is_deleted()
    return hasattr(leaf, "shape") and not isinstance(leaf, np.ndarray | np.generic)


# Without a target.


# Illegal names that an error shows.
_SHOWN = 10


def whole(
    source: Source,
    renamed: Renamed,
    entries: Mapping[str, Entry],
    select: Selector | None,
    var_list: VarList | None,
) -> Target:
    """The target of a restore without one.

    Args:
        source: The checkpoint.
        renamed: The names of its variables.
        entries: What is saved, or made of it by functions, by these names.
        select: As for `Saver.restore`, of the new names.
        var_list: As for `Saver`.

    Raises:
        SelectorError: If a selector picks nothing.
        MissingVariableError: If ``var_list`` has a name that is not saved.
        VariableNameError: If the result would be a `VarTree` and names are illegal; all are listed.
        ValueError: If the checkpoint's description of its containers is damaged.
    """
    is_all = select is None and var_list is None and not renamed.through
    is_all = is_all and all(name == old for name, old in renamed.saved.items())
    containers = source.containers if is_all else None
    if containers is not None:
        containers.filled([None] * len(containers.names))  # before anything is read
        leaves = {name: _leaf(source.entries[name]) for name in containers.names}
        return Target(leaves, containers.filled, leaves, {name: name for name in leaves})
    names = {name: name for name in renamed.saved}
    if isinstance(var_list, Mapping):
        names, var_list = _by_var_list(source, renamed.saved, var_list), None
    leaves = {name: _leaf(entries[new]) for name, new in names.items()}
    for selector, hint in ((select, ALL_IN_TARGET), (var_list, ALL_IN_VAR_LIST)):
        if selector is not None:
            chosen = matching(leaves, selector, hint=hint)
            leaves = {name: leaf for name, leaf in leaves.items() if name in chosen}
    check_legal(source.path, {name: renamed.saved[names[name]] for name in leaves})

    def tree(values: Sequence[Any]) -> VarTree:
        return from_flat(dict(zip(leaves, values, strict=True)))

    return Target(leaves, tree, leaves, {name: name for name in leaves})


def _by_var_list(
    source: Source, renamed: Mapping[str, str], var_list: Mapping[str, str]
) -> dict[str, str]:
    missing = [saved for saved in var_list if saved not in renamed]
    if missing:
        raise MissingVariableError(
            f"var_list has {listed(missing)}, which the checkpoint {source.path} does not have "
            f"({near(missing[0], renamed)})."
        )
    return {name: saved for saved, name in var_list.items()}


def check_legal(path: AnyPath, names: Mapping[str, str]) -> None:
    """Refuse names that a `VarTree` can't have.

    Args:
        path: The checkpoint's.
        names: From the names of the result to the saved ones.

    Raises:
        VariableNameError: If there are such; all are listed.
    """
    illegal = {name: text for name in names if (text := _what_is_wrong(name))}
    if illegal:
        shown = "\n  ".join(list(illegal.values())[:_SHOWN])
        location = str(path)
        raise VariableNameError(
            f"{len(illegal)} of {len(names)} names in {path} aren't legal in a VarTree:\n  {shown}",
            f"\nWrite saver.restore(step={location!r}, rename=function), with a function from each "
            "saved name to a legal one, or read them one by one: "
            f"saver.open({location!r})[{names[next(iter(illegal))]!r}].read().",
        )


def _what_is_wrong(name: str) -> str:
    try:
        check(name)
    except VariableNameError as error:
        return str(error)
    return ""


def _leaf(entry: Entry) -> jax.ShapeDtypeStruct | PythonValue | PerProcess:
    """A leaf that expects a value exactly as it is saved."""
    if entry.dtype == PER_PROCESS:
        return PerProcess(None)
    if is_python(entry.dtype):
        return python_value(entry.dtype, entry.value)
    if entry.key_impl is None:
        return jax.ShapeDtypeStruct(entry.shape, np.dtype(entry.dtype))
    return jax.ShapeDtypeStruct(entry.shape, key_dtype(entry))
