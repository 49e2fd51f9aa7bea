"""The arguments of a restore, and what they read for which leaf, after comparing all of them.

The arguments are checked before a checkpoint is opened. Each leaf is one saved array, or a stack of
several. Values that go through a function are read before the comparison, since their new shapes
and dtypes are the function's.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from .._dtypes import number_kind
from .._errors import CheckpointValueError, TreeMismatchError, listed
from .._model.declaration import Declaration
from .._names.assignment import Through, shown
from .._names.selectors import Selector
from .._random.keys import check_key
from ..formats._boxes import Array
from ..formats._own_entry import Entry
from ..formats._python_values import is_python, python_value
from ..formats._source import Source
from ..sharding import AnyMesh, Rules
from ._arguments import check_flags
from ._comparison import (
    Call,
    Policy,
    Spelling,
    account,
    signature,
    signature_text,
    stands_for_python,
)
from ._encoding import key_dtype
from ._leaves import ALL_IN_VAR_LIST, Place, VarList, variables_of
from ._placement import CallerError
from ._read import IN_FLIGHT, Progress, can_be_stacked, entry_of, prepare, read
from ._renaming import (
    Rename,
    Renamed,
    check_rename,
    check_separator,
    kept_for_averages,
    named_by_var_list,
    rename_saved,
)
from ._target import ALL_IN_TARGET, Target, asked_for, selected, take_apart, without_value

# The arguments.


class Naming(Protocol):
    """A way to name saved variables for a plan: ``rename``, or the assignment map of TensorFlow's.

    Attributes:
        call: The call that restores, for messages.
    """

    @property
    def call(self) -> Call: ...

    def check(self) -> None:
        """Refuse arguments that can't be, before any checkpoint is opened.

        Raises:
            CheckpointValueError: If there are such.
        """

    def names(self, source: Source, target: Target | None) -> tuple[Source, Renamed]:
        """The names of a checkpoint's variables.

        Returns:
            The checkpoint, or the part of it that is restored from; and the names in it.
        """


@dataclasses.dataclass(frozen=True)
class Renaming:
    """The `Naming` for a plan of `Saver.restore`: by its arguments ``rename`` and ``names``."""

    rename: Rename | None = None
    separator: str = "/"

    @property
    def call(self) -> Call:
        """As `Naming.call`."""
        return Call(is_given=self.rename is not None)

    def check(self) -> None:
        """As `Naming.check`."""
        check_rename(self.rename)
        check_separator(self.separator)

    def names(self, source: Source, target: Target | None) -> tuple[Source, Renamed]:
        """As `Naming.names`."""
        renamed = rename_saved(source.entries, self.rename, self.separator)
        return source, renamed._replace(aside=kept_for_averages(source.entries, self.rename))


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments from which a restore is planned; see `Saver.restore` and `Saver`."""

    target: Any
    select: Selector | None = None
    naming: Naming = Renaming()
    stacks: Iterable[str] = ()
    policy: Policy = dataclasses.field(default_factory=Policy)
    reshape: bool | Selector = False
    key: jax.Array | None = None
    mesh: AnyMesh | None = None
    rules: Rules = ()
    var_list: VarList | None = None
    verify: bool = True
    in_flight: int = IN_FLIGHT


def check_request(request: Request) -> None:
    """Refuse arguments from which no restore can be planned, before a checkpoint is opened."""
    policy = request.policy
    request.naming.check()
    check_flags(convert=policy.convert)
    for argument, value, known in (
        ("missing", policy.missing, ("error", "keep", "init")),
        ("unexpected", policy.unexpected, ("error", "ignore")),
    ):
        if value not in known:
            raise CheckpointValueError(
                f"`{argument}` is one of {', '.join(map(repr, known))}, got {value!r}."
            )
    if request.target is None:
        _check_without_target(request)
        return
    if isinstance(request.target, Declaration):
        if request.key is not None:
            check_key(request.key)
        if policy.missing == "init" and request.key is None:
            raise CheckpointValueError(
                "missing='init' needs a key for the initial values: write key=jax.random.key(0)."
            )
    elif policy.missing == "init" or request.key is not None:
        raise CheckpointValueError(
            "Only a declaration has initial values: restore into one, with missing='init' and "
            "key=jax.random.key(0), or into a target that has values, as declared.init(key) gives "
            "them, with missing='keep'."
        )


def _check_without_target(request: Request) -> None:
    """Refuse arguments that would do nothing in the plan of a restore without a target."""
    policy = request.policy
    useless = {
        f"missing={policy.missing!r}": policy.missing != "error",
        "unexpected='ignore'": policy.unexpected != "error" and not request.naming.call.is_given,
        "convert=True": policy.convert,
        "key=key": request.key is not None,
        "mesh=mesh": request.mesh is not None,
        "rules=rules": bool(request.rules),
    }
    given = [argument for argument, is_given in useless.items() if is_given]
    if given:
        names = ", ".join(argument.partition("=")[0] + "=" for argument in given)
        raise CheckpointValueError(
            f"Without a target all is restored as it was saved, and {names} would do nothing. "
            "Leave that out, or give a target: "
            f"saver.restore(declared, {', '.join(given)})."
        )


# The plan.


# The functions that each of some saved values is to go through; None is no function.
Needed: TypeAlias = Mapping[str, Collection[Through | None]]


class Wanted(NamedTuple):
    """What is planned for: the target of a restore, its leaves that are restored, the policy.

    Attributes:
        target: The target.
        chosen: Which of its leaves are restored.
        policy: Which differences are allowed.
    """

    target: Target
    chosen: frozenset[str]
    policy: Policy


def wanted_of(request: Request, mesh: AnyMesh | None) -> Wanted:
    """What is to be planned, by the arguments of a restore: for which target, leaves and policy."""
    target = take_apart(request.target, mesh, request.rules, request.stacks)
    chosen = selected(target, request.select, ALL_IN_TARGET)
    chosen &= selected(target, variables_of(request.var_list), ALL_IN_VAR_LIST)
    reshape = request.reshape
    if not isinstance(reshape, bool):
        reshape = selected(target, reshape, "Write Saver(..., reshape=False) to reshape nothing.")
    return Wanted(target, chosen, dataclasses.replace(request.policy, reshape=reshape))


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a restore: the source of each leaf, and the saved names without a leaf.

    Attributes:
        saved: From the leaves to be read to their saved names, by place: of a stack that is saved
            in slices those of the slices, of another leaf one.
        kept: The leaves that keep the target's values.
        initialized: The leaves that get a declaration's initial values.
        ignored: The saved names that are not read.
        converted: What is changed about values, by leaf.
    """

    saved: Mapping[str, Mapping[Place, str]]
    kept: Collection[str]
    initialized: Collection[str]
    ignored: tuple[str, ...]
    converted: Mapping[str, str]


class Values:
    """The values that planning a restore reads ahead, such as those through functions; each once.

    Args:
        source: The checkpoint.
        request: The arguments.
        progress: Where to count what has been read.
    """

    def __init__(self, source: Source, request: Request, progress: Progress):
        self._source = source
        self._request = request
        self._progress = progress
        self._known: dict[tuple[str, int], Array] = {}

    def read(self, needed: Needed) -> None:
        """Read some values, a part by each process, and put them through their functions.

        Raises:
            CallerError: If a function fails.
            ValueError, OSError: If one can't be read, or a checksum differs.
            ElsewhereError: If another process failed.
        """
        entries = {saved: self._source.entries[saved] for saved in needed}
        arrays = {saved: entry for saved, entry in entries.items() if not is_python(entry.dtype)}
        found: dict[str, Any] = {
            saved: python_value(entry.dtype, entry.value)
            for saved, entry in entries.items()
            if saved not in arrays
        }
        leaves = {saved: _host_leaf(entry) for saved, entry in arrays.items()}
        found |= read(
            prepare(self._source, leaves, {saved: {(): saved} for saved in leaves}, {}),
            verify=self._request.verify,
            in_flight=self._request.in_flight,
            progress=self._progress,
            together=True,
        )
        for saved, functions in needed.items():
            value = found.pop(saved)
            for through in functions:
                # One function is not to see what another did to it.
                own = value.copy() if len(functions) > 1 and hasattr(value, "copy") else value
                self._known[saved, id(through)] = _value_through(saved, through, own)

    def get(self, saved: str, through: Through | None) -> Array:
        """A value that has been read, through its function."""
        return self._known[saved, id(through)]


def _host_leaf(entry: Entry) -> Any:
    """A leaf for a value that planning reads ahead to the host; it takes no memory."""
    if entry.key_impl is not None:
        return jax.ShapeDtypeStruct(entry.shape, key_dtype(entry))
    return np.broadcast_to(np.zeros((), entry.dtype), entry.shape)


def _value_through(saved: str, through: Through | None, value: Any) -> Array:
    """A value that planning reads ahead, as the function of a `Through` makes it."""
    if through is None:
        return np.asarray(value)
    try:
        made = through.function(value)
        array = np.asarray(made)
    except Exception as error:
        error.add_note(f"This is the function of {shown(through)}, given {saved!r}.")
        raise CallerError(error) from error
    if number_kind(array.dtype) < 0:
        raise CallerError(
            CheckpointValueError(
                f"The function of {shown(through)}, given {saved!r}, returned "
                f"{'None' if made is None else f'a {type(made).__name__} of dtype {array.dtype}'}. "
                "It gets a NumPy array, and returns one of numbers."
            )
        )
    return array


def needed_first(
    source: Source, into: Wanted | None, renamed: Renamed, request: Request
) -> Iterator[Needed]:
    """The values that planning reads ahead: before the comparison, and before placement.

    That is those that go through functions, and the slices of stacks that are not alike; in parts
    of at most as many bytes as may be under way.
    """
    if into is None:
        needed: dict[str, dict[int, Through | None]] = {}
        for name, through in renamed.through.items():
            needed.setdefault(renamed.saved[name], {})[id(through)] = through
    else:
        needed = _needed_through(source, into, renamed, request)
    part: dict[str, tuple[Through | None, ...]] = {}
    nbytes = 0
    for saved, functions in needed.items():
        nbytes += source.entries[saved].nbytes
        if part and nbytes > request.in_flight:
            yield part
            part, nbytes = {}, source.entries[saved].nbytes
        part[saved] = tuple(functions.values())
    if part:
        yield part


def _needed_through(
    source: Source, into: Wanted, renamed: Renamed, request: Request
) -> dict[str, dict[int, Through | None]]:
    """The values that planning reads ahead as they go through functions."""
    names = named_by_var_list(renamed, request.var_list)
    found: dict[str, dict[int, Through | None]] = {}
    for places in _pieces(into.target, _chosen(into, names), names.saved).values():
        if () in places and places[()] not in names.through:
            continue
        saved = {part: names.saved[part] for part in places.values() if part in names.saved}
        entries = {p: source.entries[saved[part]] for p, part in places.items() if part in saved}
        is_array = () in places or can_be_stacked(entries)
        if is_array and names.through.keys().isdisjoint(saved):
            continue
        for part, old in saved.items():
            through = names.through.get(part)
            found.setdefault(old, {})[id(through)] = through
    return found


def plan_of(
    source: Source, into: Wanted, renamed: Renamed, request: Request, values: Values
) -> tuple[Plan, dict[str, dict[Place, Array]]]:
    """Plan a restore: what is read for which leaf, after comparing all of them.

    Args:
        source: The checkpoint.
        into: The target.
        renamed: The names of the checkpoint's variables.
        request: The arguments.
        values: What goes through functions, and slices of stacks that are not alike.

    Returns:
        The plan; and the values that are in memory already, by leaf and place.

    Raises:
        TreeMismatchError: If something differs that counts.
        CheckpointValueError: If a leaf would be left without a value.
    """
    target, policy = into.target, into.policy
    names = named_by_var_list(renamed, request.var_list)
    chosen = _chosen(into, names)
    pieces = _pieces(target, chosen, names.saved)
    parts = [part for places in pieces.values() for part in places.values()]
    made = {
        part: values.get(names.saved[part], names.through[part])
        for part in parts
        if part in names.through
    }
    entries = {
        name: entry_of(made[name]) if name in made else source.entries[old]
        for name, old in names.saved.items()
    }
    extra = _unexpected(source, target, names, entries, request)
    spelling = _spelling(source, request, names, pieces)
    compared = _compared(target, chosen, pieces)
    taken = {name: old for name, old in names.taken.items() if name in parts}
    lost = _lost_lines(source, taken, names) if policy.unexpected == "error" else []
    different = account(compared, entries, extra, policy, spelling, names.problems, lost)
    if different:
        raise TreeMismatchError(
            f"The target and the checkpoint {source.path} differ; nothing was read. {different}"
        )
    kept, initialized = _left(target, chosen, pieces, request)
    saved = {
        name: places
        if all(names.saved[part] == part for part in places.values())
        else {place: names.saved[part] for place, part in places.items()}
        for name, places in pieces.items()
    }
    used = {old for places in saved.values() for old in places.values()}
    found = Plan(
        saved=saved,
        kept=kept,
        initialized=initialized,
        ignored=tuple(name for name in (*source.entries, *source.strings) if name not in used),
        converted=_conversions(target, pieces, entries, names, source),
    )
    in_memory = {
        name: {
            place: values.get(names.saved[part], names.through.get(part))
            for place, part in places.items()
        }
        for name, places in pieces.items()
        if not made.keys().isdisjoint(places.values())
        or not (() in places or can_be_stacked({p: entries[n] for p, n in places.items()}))
    }
    return found, in_memory


def _unexpected(
    source: Source,
    target: Target,
    names: Renamed,
    entries: Mapping[str, Entry],
    request: Request,
) -> list[str]:
    """The saved names for which the plan of a restore has no leaf, though they were requested."""
    places = target.places
    others = {
        name: entry
        for name, entry in entries.items()
        if name not in target.leaves and (name not in places or places[name][0] in names.saved)
    }
    chosen = asked_for(others, request.select)
    chosen &= asked_for(others, variables_of(request.var_list))
    aside = source.fillers.union(names.aside)
    return [name for name in others if name in chosen and names.saved[name] not in aside]


def _lost_lines(source: Source, taken: Mapping[str, str], names: Renamed) -> list[str]:
    """The plan's lines on saved variables whose own names it reads from others."""
    lines = []
    for name, old in taken.items():
        entry = source.entries[old]
        lines.append(
            f"unexpected: {old!r} {signature_text(entry.shape, entry.dtype)} is in the checkpoint "
            f"too, and {names.saved[name]!r} takes its name"
        )
    return lines


def _left(
    target: Target,
    chosen: Collection[str],
    pieces: Collection[str],
    request: Request,
) -> tuple[list[str], list[str]]:
    """The plan for the leaves that aren't read: which keep their values, which are initialized.

    Raises:
        CheckpointValueError: If one would be left without a value.
    """
    left = [name for name in target.leaves if name not in pieces]
    initialized = [
        name
        for name in left
        if (request.policy.missing == "init" and name in chosen)
        or (request.key is not None and without_value(target.leaves[name]))
    ]
    fresh = set(initialized)
    kept = [name for name in left if name not in fresh]
    _check_kept([name for name in kept if without_value(target.leaves[name])], target)
    return kept, initialized


def _chosen(into: Wanted, names: Renamed) -> frozenset[str]:
    """The leaves that are to be restored by the plan."""
    return into.chosen if names.about is None else into.chosen.intersection(names.about)


def _pieces(
    target: Target, chosen: Collection[str], saved: Mapping[str, str]
) -> dict[str, Mapping[Place, str]]:
    """The saved names that the plan reads for each leaf, by place, where something is saved."""
    found: dict[str, Mapping[Place, str]] = {}
    for name in target.leaves:
        if name in chosen and name in saved:
            found[name] = {(): name}
        elif name in chosen and any(part in saved for part in target.slices.get(name, {}).values()):
            found[name] = target.slices[name]
    return found


def _spelling(
    source: Source, request: Request, names: Renamed, pieces: Mapping[str, Mapping[Place, str]]
) -> Spelling:
    """How the names in a plan are spelled elsewhere, for messages."""
    var_list = request.var_list
    saved_as = (
        {name: old for old, name in var_list.items()} if isinstance(var_list, Mapping) else {}
    )
    in_slices = {name: places for name, places in pieces.items() if () not in places}
    slices = {part: name for name, places in in_slices.items() for part in places.values()}
    return Spelling(
        names.saved, saved_as, names.expected, source.entries, slices, request.naming.call
    )


def _compared(
    target: Target, chosen: Collection[str], pieces: Mapping[str, Mapping[Place, str]]
) -> dict[str, Any]:
    """The leaves that the plan of a restore has compared; of stacks in slices, the slices."""
    found: dict[str, Any] = {}
    for name, leaf in target.leaves.items():
        places = pieces.get(name, {(): name})
        if name in chosen and () in places:
            found[name] = leaf
        elif name in chosen:
            for place, part in places.items():
                found[part] = jax.ShapeDtypeStruct(leaf.shape[len(place) :], leaf.dtype)
    return found


def saved_names(pieces: Mapping[Place, str]) -> str | tuple[str, ...]:
    """The saved name that a plan has for a leaf, or those of its slices."""
    return pieces[()] if () in pieces else tuple(pieces[place] for place in sorted(pieces))


def _check_kept(absent: Collection[str], target: Target) -> None:
    """Refuse a restore's plan that leaves a variable without a value, neither read nor kept."""
    if not absent:
        return
    if target.declared is not None:
        raise CheckpointValueError(
            f"{len(absent)} variables would be left without a value, since they are not restored "
            f"and the target is a declaration: {listed(absent)}. Write key=jax.random.key(0) for "
            "their initial values, or restore into a tree that has values, as declared.init(key) "
            "gives it; to restore the selected ones alone, restore into "
            "js.select(declared.abstract(), ...)."
        )
    raise CheckpointValueError(
        f"{len(absent)} variables would be left without a value, since they are not restored and "
        f"are abstract or deleted in the target: {listed(absent)}. To keep values for them restore "
        "into a tree that has values; to restore the selected ones alone, restore into a target "
        "that has no others, as js.select(target, ...) gives it."
    )


def _conversions(
    target: Target,
    pieces: Mapping[str, Mapping[Place, str]],
    entries: Mapping[str, Entry],
    names: Renamed,
    source: Source,
) -> dict[str, str]:
    """What the plan converts: the shape, the dtype or the function of each leaf, as text."""
    found = {}
    for name, places in pieces.items():
        part = next(iter(places.values()))
        rank = len(next(iter(places)))
        leaf = target.leaves[name]
        shape, dtype = signature(leaf)
        is_same = shape[rank:] == entries[part].shape and dtype == entries[part].dtype
        if is_same and part not in names.through:
            continue
        entry = source.entries[names.saved[part]]
        texts = []
        if part in names.through:
            function = names.through[part].function
            texts.append(f"through {getattr(function, '__name__', repr(function))}")
        if not is_same and not stands_for_python(leaf, entry):
            before = signature_text((*shape[:rank], *entry.shape), entry.dtype)
            texts.append(f"{before} -> {signature_text(shape, dtype)}")
        if texts:
            found[name] = ", ".join(texts)
    return found
