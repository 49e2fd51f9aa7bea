"""The arguments of a restore; what they read for which leaf, after comparing all; its report.

The arguments are checked before a checkpoint is opened. Each leaf is one saved array, or a stack of
several. Values that go through a function are read before the comparison, since their new shapes
and dtypes are the function's.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from .._dtypes import number_kind
from .._errors import CheckpointValueError, TreeMismatchError, listed
from .._model.declaration import Declaration
from .._names.assignment import Through, shown
from .._names.selectors import Selector
from .._random.keys import check_key
from .._stores.remote import AnyPath
from .._tree.text import bytes_text, table
from ..formats._boxes import Array
from ..formats._own_entry import Entry
from ..formats._source import Source
from ..sharding import AnyMesh, Rules
from ._arguments import check_flags
from ._comparison import (
    Call,
    Comparison,
    Policy,
    signature,
    signature_text,
    stands_for_python,
)
from ._leaves import ALL_IN_VAR_LIST, Place, VarList, variables_of
from ._placement import CallerError
from ._read import IN_FLIGHT, can_be_stacked, entry_of
from ._renaming import (
    Rename,
    Renamed,
    check_rename,
    check_separator,
    kept_for_averages,
    named_by_var_list,
    rename_saved,
)
from ._target import (
    ALL_IN_TARGET,
    Target,
    asked_for,
    check_listed,
    leaf_as_saved,
    selected,
    take_apart,
    whole,
    without_value,
)

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


# The report.


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """The report of what a restore did for each leaf. Prints as a table.

    Attributes:
        path: The checkpoint that was read.
        restored: From the names of the target's leaves that were restored to the saved names; of a
            stack that was saved in slices, to a tuple of the slices' names.
        kept: The leaves that have the target's values: not selected, or missing.
        initialized: The leaves that have a declaration's initial values.
        ignored: The saved names that were not read.
        converted: Conversions of dtypes or shapes, ``"float32[2] -> bfloat16[2]"``, and the
            functions that values went through, ``"through transpose"``, for the leaves that have
            some.
        bytes_read: The bytes of arrays and of the index that were read.
        verified: Whether checksums were compared; False also where the checkpoint has none.
        seconds: How long it took.
    """

    path: AnyPath
    restored: Mapping[str, str | tuple[str, ...]]
    kept: tuple[str, ...]
    initialized: tuple[str, ...]
    ignored: tuple[str, ...]
    converted: Mapping[str, str]
    bytes_read: int = 0
    verified: bool = False
    seconds: float = 0.0

    def __repr__(self) -> str:
        checked = "verified" if self.verified else "not verified"
        head = (
            f"Restored {len(self.restored):,} of {self._targets:,} from {self.path}: "
            f"{bytes_text(self.bytes_read)}, {checked}, in {self.seconds:.3g} s"
        )
        rows = [
            *((name, "restored", self._how(name)) for name in self.restored),
            *((name, "kept", "") for name in self.kept),
            *((name, "initialized", "") for name in self.initialized),
            *((name, "ignored", "in the checkpoint only") for name in self.ignored),
        ]
        return f"{head}\n{table(('name', 'what', 'how'), rows)}"

    @property
    def unused(self) -> tuple[str, ...]:
        """The same as `ignored`."""
        return self.ignored

    @property
    def changed(self) -> Mapping[str, str]:
        """The same as `converted`."""
        return self.converted

    @property
    def _targets(self) -> int:
        return len(self.restored) + len(self.kept) + len(self.initialized)

    def _how(self, name: str) -> str:
        saved = self.restored[name]
        first, more = (saved, 0) if isinstance(saved, str) else (saved[0], len(saved) - 1)
        source = f"from {first!r}" if first != name else ""
        slices = f" and {more} more slice{'s' * (more > 1)}" if more else ""
        parts = [source + slices, self.converted.get(name, "")]
        return ", ".join(part for part in parts if part)


# The plan.


# The names that are to be read ahead of some saved values, by saved names.
Needed: TypeAlias = Mapping[str, Sequence[str]]


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


class Plan:
    """The plan of a restore: the source of each leaf, and the saved names without a leaf.

    It is made in three steps: `needed_first` says which values are read ahead of it, `take` takes
    them, and `compare` finds the rest.

    Args:
        source: The checkpoint.
        names: The names of its variables.
        wanted: The target; None for all that is saved.
        request: The arguments.

    Attributes:
        source: The checkpoint.
        target: The target, once it is known.
        saved: From the leaves to be read to their saved names, by place: of a stack that is saved
            in slices those of the slices, of another leaf one.
        made: The values of such leaves that have been read ahead, by leaf and place.
        report: What is done for each leaf.
    """

    target: Target
    saved: Mapping[str, Mapping[Place, str]]
    made: dict[str, dict[Place, Array]]
    report: Report

    def __init__(self, source: Source, names: Renamed, wanted: Wanted | None, request: Request):
        if wanted is None:
            check_listed(source, names, request.var_list)
        self.source = source
        self._names = named_by_var_list(names, request.var_list)
        self._wanted = wanted
        self._request = request
        # By the target's names; the values that were read ahead, and what is saved.
        self._ahead: dict[str, Array] = {}
        self._entries: dict[str, Entry] = {}
        if wanted is not None:
            self._aim_at(wanted)

    def _aim_at(self, wanted: Wanted) -> None:
        """Find what is read for each leaf: the names of its pieces in the target, by place."""
        self.target, self._chosen, self._policy = wanted
        saved, about = self._names.saved, self._names.about
        if about is not None:
            self._chosen = self._chosen.intersection(about)
        self._pieces: dict[str, Mapping[Place, str]] = {}
        for name in self.target.leaves:
            if name in self._chosen:
                slices = self.target.slices.get(name, {})
                is_whole = name in saved or saved.keys().isdisjoint(slices.values())
                self._pieces[name] = {(): name} if is_whole else slices

    def needed_first(self) -> list[Needed]:
        """The values that are read ahead: before the comparison, and before placement.

        That is those that go through functions, and the slices of stacks that are not alike; in
        parts of at most as many bytes as may be under way.
        """
        saved, through = self._names.saved, self._names.through
        needed: dict[str, list[str]] = {}
        for name in through if self._wanted is None else [*self._pieces_first()]:
            needed.setdefault(saved[name], []).append(name)
        parts: list[dict[str, Sequence[str]]] = []
        nbytes = 0
        for old, names in needed.items():
            size = self.source.entries[old].nbytes
            if not parts or nbytes + size > self._request.in_flight:
                parts.append({})
                nbytes = 0
            parts[-1][old] = names
            nbytes += size
        return [*parts]

    def _pieces_first(self) -> Iterator[str]:
        saved, through = self._names.saved, self._names.through
        for places in self._pieces.values():
            if () in places and places[()] not in through:
                continue
            found = {at: self.source.entries[saved[n]] for at, n in places.items() if n in saved}
            if not through.keys().isdisjoint(places.values()) or not (
                () in places or can_be_stacked(found)
            ):
                yield from (name for name in places.values() if name in saved)

    def take(self, needed: Needed, values: dict[str, Any]) -> None:
        """Take values that have been read ahead, and put them through their functions.

        Raises:
            CallerError: If a function fails.
        """
        for saved, names in needed.items():
            value = values.pop(saved)
            for name in names:
                # One function is not to see what another did to it.
                own = value.copy() if len(names) > 1 and hasattr(value, "copy") else value
                self._ahead[name] = _value_through(saved, self._names.through.get(name), own)

    def compare(self) -> None:
        """Compare the target with the checkpoint, and find what is read for which leaf.

        Raises:
            TreeMismatchError: If something differs that counts.
            CheckpointValueError: If a leaf would be left without a value.
        """
        source, names, request = self.source, self._names, self._request
        self._entries = {
            name: entry_of(self._ahead[name])
            if name in self._ahead and name in names.through
            else source.entries[old]
            for name, old in names.saved.items()
        }
        if self._wanted is None:
            target = whole(source, names, self._entries, request.select, request.var_list)
            self._aim_at(Wanted(target, frozenset(target.leaves), request.policy))
        comparison = self._comparison()
        different = comparison.text()
        if different:
            raise TreeMismatchError(
                f"The target and the checkpoint {source.path} differ; nothing was read. {different}"
            )
        # What is missing has no saved name, nor has a slice of it.
        self.saved = {
            name: {place: names.saved[part] for place, part in places.items()}
            for name, places in self._pieces.items()
            if not names.saved.keys().isdisjoint(places.values())
        }
        kept, initialized = self._left()
        used = {old for places in self.saved.values() for old in places.values()}
        self.report = Report(
            path=source.path,
            restored={name: _in_order(places) for name, places in self.saved.items()},
            kept=tuple(kept),
            initialized=tuple(initialized),
            ignored=tuple(name for name in (*source.entries, *source.strings) if name not in used),
            converted=self._conversions(comparison.unequal),
        )
        self.made = {
            name: {place: self._ahead.pop(part) for place, part in places.items()}
            for name, places in self._pieces.items()
            if not self._ahead.keys().isdisjoint(places.values())
        }

    def _comparison(self) -> Comparison:
        """What is compared: the leaves, and of stacks in slices the slices."""
        wanted: dict[str, Any] = {}
        slices: dict[str, str] = {}
        for name, places in self._pieces.items():
            leaf = self.target.leaves[name]
            for place, part in places.items():
                if place:
                    wanted[part] = jax.ShapeDtypeStruct(leaf.shape[len(place) :], leaf.dtype)
                    slices[part] = name
                else:
                    wanted[part] = leaf
        return Comparison(
            wanted,
            self._entries,
            self._policy,
            self._unexpected(),
            self._names,
            self.source.entries,
            slices,
            self._request.naming.call,
        )

    def _unexpected(self) -> list[str]:
        """The saved names for which there is no leaf, though they were requested."""
        leaves, places, names = self.target.leaves, self.target.places, self._names
        others = {
            name: entry
            for name, entry in self._entries.items()
            if name not in leaves and (name not in places or places[name][0] in names.saved)
        }
        chosen = asked_for(others, self._request.select)
        chosen &= asked_for(others, variables_of(self._request.var_list))
        aside = self.source.fillers.union(names.aside)
        return [name for name in others if name in chosen and names.saved[name] not in aside]

    def _left(self) -> tuple[list[str], list[str]]:
        """Which of the leaves that aren't read keep their values, and which are initialized."""
        is_init, has_key = self._policy.missing == "init", self._request.key is not None
        kept: list[str] = []
        initialized: list[str] = []
        for name, leaf in self.target.leaves.items():
            if name not in self.saved:
                is_fresh = is_init and name in self._chosen
                is_fresh = is_fresh or (has_key and without_value(leaf))
                (initialized if is_fresh else kept).append(name)
        absent = [name for name in kept if without_value(self.target.leaves[name])]
        if absent:
            raise _without_value_error(absent, self.target)
        return kept, initialized

    def _conversions(self, unequal: Collection[str]) -> dict[str, str]:
        """What is converted: the shape, the dtype or the function of each leaf, as text."""
        through = self._names.through
        found = {}
        for name, saved in self.saved.items():
            place, old = next(iter(saved.items()))
            part = self._pieces[name][place]
            texts = []
            if part in through:
                function = through[part].function
                texts.append(f"through {getattr(function, '__name__', repr(function))}")
            if part in unequal:
                leaf, entry = self.target.leaves[name], self.source.entries[old]
                if not stands_for_python(leaf, entry):
                    shape, dtype = signature(leaf)
                    before = (*shape[: len(place)], *entry.shape)
                    texts.append(
                        f"{signature_text(before, entry.dtype)} -> {signature_text(shape, dtype)}"
                    )
            if texts:
                found[name] = ", ".join(texts)
        return found

    @property
    def nbytes(self) -> int:
        """How many bytes of arrays are still to be read."""
        return sum(
            self.source.entries[old].nbytes
            for name, places in self.saved.items()
            if name not in self.made
            for old in places.values()
        )


def _in_order(places: Mapping[Place, str]) -> str | tuple[str, ...]:
    """The saved name that the plan has for a leaf, or those of its slices."""
    return places[()] if () in places else tuple(places[place] for place in sorted(places))


def host_leaf(entry: Entry) -> Any:
    """A leaf for a value that is read ahead of the plan to the host; it takes no memory."""
    leaf = leaf_as_saved(entry)
    if entry.key_impl is not None or not isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _value_through(saved: str, through: Through | None, value: Any) -> Array:
    """A value that is read ahead of the plan, as the function of a `Through` makes it."""
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


def _without_value_error(absent: Collection[str], target: Target) -> CheckpointValueError:
    """Compose the error: the plan leaves variables without a value, neither read nor kept."""
    start = (
        f"{len(absent)} variables would be left without a value, since they are not restored and"
    )
    if target.declared is not None:
        return CheckpointValueError(
            f"{start} the target is a declaration: {listed(absent)}. Write key=jax.random.key(0) "
            "for their initial values, or restore into a tree that has values, as "
            "declared.init(key) gives it; to restore the selected ones alone, restore into "
            "js.select(declared.abstract(), ...)."
        )
    return CheckpointValueError(
        f"{start} are abstract or deleted in the target: {listed(absent)}. To keep values for them "
        "restore into a tree that has values; to restore the selected ones alone, restore into a "
        "target that has no others, as js.select(target, ...) gives it."
    )
