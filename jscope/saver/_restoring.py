"""Restoring: from a checkpoint and a target to a new tree, whole or not at all.

In order: saved names are renamed; selectors pick leaves of the target, each of which is one saved
array or a stack of several; names, shapes and dtypes are compared, and every difference is
reported; only then arrays are read. Those that go through a function are read before the
comparison, since their new shapes and dtypes are the function's. If the checkpoint is replaced or
removed meanwhile, it is searched for again.
"""

import contextlib
import dataclasses
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .._errors import CheckpointError, CheckpointValueError, JscopeError, TreeMismatchError, listed
from .._model.declaration import Declaration
from .._names.assignment import Through, shown
from .._names.selectors import Selector
from .._random.keys import check_key
from ..formats._boxes import Array
from ..formats._boxes import whole as whole_box
from ..formats._directory import cannot_be_read
from ..formats._entry import Entry
from ..formats._own import OwnSource
from ..formats._source import Source
from ..sharding import AnyMesh, Rules, mesh_for_init
from ._account import Policy, Spelling, account, signature, signature_text, stands_for_python
from ._pieces import can_be_stacked, entry_of
from ._placing import CallerError
from ._processes import are_several, together
from ._progress import watching
from ._reading import IN_FLIGHT, Progress, read, read_box
from ._renaming import (
    Rename,
    Renamed,
    check_rename,
    check_separator,
    kept_for_averages,
    rename_saved,
)
from ._report import Report
from ._stacks import Place
from ._steps import StepOrPath, check_flags, open_checkpoint
from ._target import ALL_IN_TARGET, Target, asked_for, selected, take_apart, without_value
from ._varlist import ALL_IN_VAR_LIST, VarList
from ._whole import whole

# How often a checkpoint that changes while it is read is read again.
_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class Request:
    """The arguments of a restore; see `Saver.restore` and `Saver`."""

    target: Any
    select: Selector | None = None
    rename: Rename | None = None
    names: str = "/"
    stacks: Collection[str] = ()
    policy: Policy = dataclasses.field(default_factory=Policy)
    reshape: bool | Selector = False
    key: jax.Array | None = None
    mesh: AnyMesh | None = None
    rules: Rules = ()
    var_list: VarList | None = None
    verify: bool = True
    in_flight: int = IN_FLIGHT


def restore(directory: Path, step: StepOrPath, request: Request) -> tuple[Any, Report]:
    """Restore a target; the arguments are those of `Saver.restore`.

    Returns:
        The tree, and the report.
    """
    _check_request(request)
    mesh = request.mesh
    if isinstance(request.target, Declaration):
        mesh = mesh_for_init(mesh)
    wanted = None if request.target is None else _wanted(request, mesh)
    begin = time.monotonic()
    step = _agreed(directory, step)
    done: list[_Read] = []

    def work() -> str:
        done.append(_read(directory, step, wanted, request))
        return ""

    together(work)
    (found,) = done
    plan, target = found.plan, found.target
    kept = {name: target.leaves[name] for name in plan.kept}
    fresh = _initial_values(target, found, mesh, request) if plan.initialized else {}
    everything = {**kept, **found.values, **fresh}
    tree = target.rebuild([everything[name] for name in target.leaves])
    report = Report(
        path=found.source.path,
        restored={name: _saved_names(pieces) for name, pieces in plan.saved.items()},
        kept=tuple(plan.kept),
        initialized=tuple(plan.initialized),
        ignored=plan.ignored,
        converted=plan.converted,
        bytes_read=found.nbytes + found.source.index_bytes,
        verified=request.verify and isinstance(found.source, OwnSource),
        seconds=time.monotonic() - begin,
    )
    return tree, report


class _Wanted(NamedTuple):
    """The target of a restore.

    Attributes:
        target: The target.
        chosen: Which of its leaves are restored.
        policy: Which differences are allowed.
    """

    target: Target
    chosen: frozenset[str]
    policy: Policy


def _wanted(request: Request, mesh: AnyMesh | None) -> _Wanted:
    target = take_apart(request.target, mesh, request.rules, request.stacks)
    chosen = selected(target, request.select, ALL_IN_TARGET)
    chosen &= selected(target, _names(request.var_list), ALL_IN_VAR_LIST)
    reshape = request.reshape
    if not isinstance(reshape, bool):
        reshape = selected(target, reshape, "Write Saver(..., reshape=False) to reshape nothing.")
    return _Wanted(target, chosen, dataclasses.replace(request.policy, reshape=reshape))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The source of each leaf of the target, and the saved names without a leaf.

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


class _Read(NamedTuple):
    """The values that have been read.

    Attributes:
        source: The checkpoint, closed.
        target: The target.
        plan: The source of each leaf.
        values: The values of those that were read.
        nbytes: How many bytes of arrays.
    """

    source: Source
    target: Target
    plan: _Plan
    values: Mapping[str, Any]
    nbytes: int


def _agreed(directory: Path, step: StepOrPath) -> StepOrPath:
    """In a program of several processes the newest checkpoint is the one that the first finds."""
    if step is not None or not are_several():
        return step

    def newest() -> str:
        source = open_checkpoint(directory, None)
        source.close()
        return str(source.path)

    return together(newest)[0]


def _read(directory: Path, step: StepOrPath, wanted: _Wanted | None, request: Request) -> _Read:
    attempts = 0
    while True:
        attempts += 1
        with contextlib.closing(open_checkpoint(directory, step)) as source:
            # Not below, since an error of the caller's function is not damage.
            renamed = rename_saved(source.entries, request.rename, request.names)
            try:
                return _read_from(source, wanted, renamed, request)
            except (JscopeError, MemoryError):
                raise
            except CallerError as refused:
                raise refused.error from refused.error.__cause__
            except Exception as error:
                if attempts == _ATTEMPTS or not source.has_changed():
                    raise _cannot_be_read(source, directory, error) from error


def _read_from(source: Source, wanted: _Wanted | None, renamed: Renamed, request: Request) -> _Read:
    progress = Progress()
    values = _Values(source, request.verify, progress)
    if wanted is None:
        entries = {
            name: entry_of(values.get(old, renamed.through[name]))
            if name in renamed.through
            else source.entries[old]
            for name, old in renamed.saved.items()
        }
        target = whole(source, renamed, entries, request.select, request.var_list)
        wanted = _Wanted(target, frozenset(target.leaves), request.policy)
    target = wanted.target
    plan, made = _plan(source, wanted, renamed, request, values)
    values.forget()
    leaves = {name: target.leaves[name] for name in plan.saved}
    total = progress.nbytes + sum(
        source.entries[saved].nbytes
        for name, places in plan.saved.items()
        if name not in made
        for saved in places.values()
    )
    with watching(f"restoring {source.path.name}", total, progress.get):
        found = read(
            source,
            leaves,
            plan.saved,
            made,
            verify=request.verify,
            in_flight=request.in_flight,
            progress=progress,
        )
    return _Read(source, target, plan, found, progress.nbytes)


class _Values:
    """Saved values on the host, and what functions make of them; each is read once.

    Args:
        source: The checkpoint.
        verify: Whether to compare checksums.
        progress: Where to count what has been read.
    """

    def __init__(self, source: Source, verify: bool, progress: Progress):
        self._source = source
        self._verify = verify
        self._progress = progress
        self._known: dict[tuple[str, int], Array] = {}

    def get(self, saved: str, through: Through | None) -> Array:
        """A value, through its function.

        Raises:
            CallerError: If the function fails.
            ValueError, OSError: If it can't be read, or a checksum differs.
        """
        key = (saved, id(through))
        if key not in self._known:
            entry = self._source.entries[saved]
            box = whole_box(entry.stored_shape)
            value = read_box(self._source, saved, box, verify=self._verify)
            self._progress.nbytes += entry.nbytes
            self._known[key] = self._through(saved, through, value)
        return self._known[key]

    def forget(self) -> None:
        """Leave the values to those who have them."""
        self._known.clear()

    def _through(self, saved: str, through: Through | None, value: Any) -> Array:
        if through is None:
            return np.asarray(value)
        try:
            return np.asarray(through.function(value))
        except Exception as error:
            error.add_note(f"This is the function of {shown(through)}, given {saved!r}.")
            raise CallerError(error) from error


def _plan(
    source: Source, into: _Wanted, renamed: Renamed, request: Request, values: _Values
) -> tuple[_Plan, dict[str, dict[Place, Array]]]:
    target, chosen, policy = into
    names = _by_var_list(renamed, request.var_list)
    saved = names.saved
    pieces = _pieces(target, chosen, saved)
    made = {
        part: values.get(saved[part], names.through[part])
        for places in pieces.values()
        for part in places.values()
        if part in names.through
    }
    entries = {
        name: entry_of(made[name]) if name in made else source.entries[old]
        for name, old in saved.items()
    }
    slices = {part: name for name, places in target.slices.items() for part in places.values()}
    others = {
        name: entry
        for name, entry in entries.items()
        if name not in target.leaves and (name not in slices or slices[name] in saved)
    }
    unexpected = asked_for(others, request.select) & asked_for(others, _names(request.var_list))
    aside = source.fillers | kept_for_averages(source.entries, request.rename)
    extra = [n for n in others if n in unexpected and saved[n] not in aside]
    different = account(
        _compared(target, chosen, pieces),
        entries,
        extra,
        policy,
        _spelling(request, saved, pieces),
    )
    if different:
        raise TreeMismatchError(
            f"The target and the checkpoint {source.path} differ; nothing was read. {different}"
        )
    left = [name for name in target.leaves if name not in pieces]
    missing = {name for name in left if name in chosen}
    initialized = [
        name
        for name in left
        if (request.policy.missing == "init" and name in missing)
        or (request.key is not None and without_value(target.leaves[name]))
    ]
    kept = [name for name in left if name not in set(initialized)]
    _check_kept([name for name in kept if without_value(target.leaves[name])], target)
    read_from = {
        name: {place: saved[part] for place, part in places.items()}
        for name, places in pieces.items()
    }
    used = {old for places in read_from.values() for old in places.values()}
    plan = _Plan(
        saved=read_from,
        kept=kept,
        initialized=initialized,
        ignored=tuple(name for name in source.entries if name not in used),
        converted=_conversions(target, pieces, entries, names, source),
    )
    in_memory = {
        name: {place: values.get(saved[n], names.through.get(n)) for place, n in places.items()}
        for name, places in pieces.items()
        if any(n in made for n in places.values())
        or not (() in places or can_be_stacked({p: entries[n] for p, n in places.items()}))
    }
    return plan, in_memory


def _pieces(
    target: Target, chosen: Collection[str], saved: Mapping[str, str]
) -> dict[str, Mapping[Place, str]]:
    """The names of what is saved of each leaf, by place, where something is."""
    found: dict[str, Mapping[Place, str]] = {}
    for name in target.leaves:
        if name in chosen and name in saved:
            found[name] = {(): name}
        elif name in chosen and any(part in saved for part in target.slices.get(name, {}).values()):
            found[name] = target.slices[name]
    return found


def _spelling(
    request: Request, saved: Mapping[str, str], pieces: Mapping[str, Mapping[Place, str]]
) -> Spelling:
    """How names are spelled elsewhere, for messages."""
    var_list = request.var_list
    saved_as = (
        {name: old for old, name in var_list.items()} if isinstance(var_list, Mapping) else {}
    )
    in_slices = {name: places for name, places in pieces.items() if () not in places}
    slices = {part: name for name, places in in_slices.items() for part in places.values()}
    return Spelling(saved, saved_as, request.names, request.rename is not None, slices)


def _compared(
    target: Target, chosen: Collection[str], pieces: Mapping[str, Mapping[Place, str]]
) -> dict[str, Any]:
    """The leaves that are compared with what is saved; of stacks in slices the slices."""
    found: dict[str, Any] = {}
    for name, leaf in target.leaves.items():
        places = pieces.get(name, {(): name})
        if name in chosen and () in places:
            found[name] = leaf
        elif name in chosen:
            for place, part in places.items():
                found[part] = jax.ShapeDtypeStruct(leaf.shape[len(place) :], leaf.dtype)
    return found


def _saved_names(pieces: Mapping[Place, str]) -> str | tuple[str, ...]:
    return pieces[()] if () in pieces else tuple(pieces[place] for place in sorted(pieces))


def _by_var_list(renamed: Renamed, var_list: VarList | None) -> Renamed:
    """The names of variables, where a dict has them for saved ones."""
    if not isinstance(var_list, Mapping):
        return renamed
    saved, through = renamed
    return Renamed(
        {name: saved[old] for old, name in var_list.items() if old in saved},
        {name: through[old] for old, name in var_list.items() if old in through},
    )


def _names(var_list: VarList | None) -> Selector | None:
    """A list of variables as a selector; of a dict, the names that its values are."""
    if isinstance(var_list, Mapping):
        return dict.fromkeys(var_list.values())
    return var_list


def _check_request(request: Request) -> None:
    policy = request.policy
    check_rename(request.rename)
    check_separator(request.names)
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
                "missing='init' needs a key for the initial values: "
                "saver.restore(declared, missing='init', key=jax.random.key(0))."
            )
    elif policy.missing == "init" or request.key is not None:
        raise CheckpointValueError(
            "Only a declaration has initial values: write "
            "saver.restore(declared, missing='init', key=key), or saver.restore(target, "
            "missing='keep') with a target that has values, as declared.init(key) gives them."
        )


def _check_without_target(request: Request) -> None:
    policy = request.policy
    useless = {
        f"missing={policy.missing!r}": policy.missing != "error",
        "unexpected='ignore'": policy.unexpected != "error",
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


def _check_kept(absent: Collection[str], target: Target) -> None:
    """A result must have values only, so leaves that are not restored must have one."""
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


def _initial_values(
    target: Target, found: _Read, mesh: AnyMesh | None, request: Request
) -> Mapping[str, Any]:
    # Only a declaration has initial values, and then there is a key.
    assert target.declared is not None
    assert request.key is not None
    only = dict.fromkeys(found.plan.initialized)
    given = {name: value for name, value in found.values.items() if name not in only}
    return target.declared.init(
        request.key,
        given=given,
        only=only,
        donate_given=True,
        mesh=mesh,
        rules=request.rules,
    )


def _conversions(
    target: Target,
    pieces: Mapping[str, Mapping[Place, str]],
    entries: Mapping[str, Entry],
    names: Renamed,
    source: Source,
) -> dict[str, str]:
    found = {}
    for name, places in pieces.items():
        part = next(iter(places.values()))
        rank = len(next(iter(places)))
        entry, leaf = source.entries[names.saved[part]], target.leaves[name]
        texts = []
        if part in names.through:
            function = names.through[part].function
            texts.append(f"through {getattr(function, '__name__', repr(function))}")
        shape, dtype = signature(leaf)
        is_same = (shape[rank:], dtype) == (entries[part].shape, entries[part].dtype)
        if not is_same and not stands_for_python(leaf, entry):
            before = signature_text((*shape[:rank], *entry.shape), entry.dtype)
            texts.append(f"{before} -> {signature_text(shape, dtype)}")
        if texts:
            found[name] = ", ".join(texts)
    return found


def _cannot_be_read(source: Source, directory: Path, error: Exception) -> CheckpointError:
    if isinstance(source, OwnSource):
        return cannot_be_read(source.path, directory, source.index.step, error)
    return CheckpointError(f"The checkpoint {source.path} can't be read: {error}")
