"""Restoring: from a checkpoint and a target to a new tree, whole or not at all.

In order: saved names are renamed; selectors pick leaves of the target; names, shapes and dtypes
are compared, and every difference is reported; only then arrays are read. If the checkpoint is
replaced or removed meanwhile, it is searched for again.
"""

import contextlib
import dataclasses
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from .._errors import CheckpointError, CheckpointValueError, JscopeError, TreeMismatchError, listed
from .._keys import check_key
from .._model.declaration import Declaration
from .._names.selectors import Selector
from ..formats._directory import cannot_be_read
from ..formats._own import OwnSource
from ..formats._source import Source
from ..sharding import AnyMesh, Rules, mesh_for_init
from ._account import Policy, account, signature, signature_text, stands_for_python
from ._placing import NotPlacedError
from ._processes import are_several, together
from ._progress import watching
from ._reading import IN_FLIGHT, Progress, read
from ._renaming import Rename, check_rename, kept_for_averages, rename_saved
from ._report import Report
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
        restored=plan.saved,
        kept=tuple(plan.kept),
        initialized=tuple(plan.initialized),
        ignored=plan.ignored,
        converted=_conversions(found.source, target, plan),
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
    target = take_apart(request.target, mesh, request.rules)
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
        saved: From the leaves to be read to their saved names.
        kept: The leaves that keep the target's values.
        initialized: The leaves that get a declaration's initial values.
        ignored: The saved names that are not read.
    """

    saved: Mapping[str, str]
    kept: Collection[str]
    initialized: Collection[str]
    ignored: tuple[str, ...]


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
            renamed = rename_saved(source.entries, request.rename)
            try:
                return _read_from(source, wanted, renamed, request)
            except (JscopeError, MemoryError):
                raise
            except NotPlacedError as refused:
                raise refused.error from None
            except Exception as error:
                if attempts == _ATTEMPTS or not source.has_changed():
                    raise _cannot_be_read(source, directory, error) from error


def _read_from(
    source: Source, wanted: _Wanted | None, renamed: Mapping[str, str], request: Request
) -> _Read:
    if wanted is None:
        target = whole(source, renamed, request.select, request.var_list)
        wanted = _Wanted(target, frozenset(target.leaves), request.policy)
    target = wanted.target
    plan = _plan(source, wanted, renamed, request)
    leaves = {name: target.leaves[name] for name in plan.saved}
    total = sum(source.entries[saved].nbytes for saved in plan.saved.values())
    progress = Progress()
    with watching(f"restoring {source.path.name}", total, progress.get):
        values = read(
            source,
            leaves,
            plan.saved,
            verify=request.verify,
            in_flight=request.in_flight,
            progress=progress,
        )
    return _Read(source, target, plan, values, progress.nbytes)


def _plan(source: Source, into: _Wanted, renamed: Mapping[str, str], request: Request) -> _Plan:
    target, chosen, policy = into
    saved, saved_as = renamed, {}
    if isinstance(request.var_list, Mapping):
        saved_as = {name: old for old, name in request.var_list.items()}
        saved = {name: renamed[old] for name, old in saved_as.items() if old in renamed}
    entries = {name: source.entries[old] for name, old in saved.items()}
    wanted = {name: leaf for name, leaf in target.leaves.items() if name in chosen}
    others = {name: entry for name, entry in entries.items() if name not in target.leaves}
    unexpected = asked_for(others, request.select) & asked_for(others, _names(request.var_list))
    aside = source.fillers | kept_for_averages(source.entries, request.rename)
    extra = [n for n in others if n in unexpected and saved[n] not in aside]

    def opened(name: str) -> str:
        return f"saver.open({str(source.path)!r})[{saved[name]!r}]"

    different = account(wanted, entries, extra, policy, saved_as, opened)
    if different:
        raise TreeMismatchError(
            f"The target and the checkpoint {source.path} differ; nothing was read. {different}"
        )
    read_from = {name: saved[name] for name in wanted if name in entries}
    left = [name for name in target.leaves if name not in read_from]
    missing = {name for name in left if name in chosen}
    initialized = [
        name
        for name in left
        if (request.policy.missing == "init" and name in missing)
        or (request.key is not None and without_value(target.leaves[name]))
    ]
    kept = [name for name in left if name not in set(initialized)]
    _check_kept([name for name in kept if without_value(target.leaves[name])], target)
    used = set(read_from.values())
    ignored = tuple(name for name in source.entries if name not in used)
    return _Plan(read_from, kept, initialized, ignored)


def _names(var_list: VarList | None) -> Selector | None:
    """A list of variables as a selector; of a dict, the names that its values are."""
    if isinstance(var_list, Mapping):
        return dict.fromkeys(var_list.values())
    return var_list


def _check_request(request: Request) -> None:
    policy = request.policy
    check_rename(request.rename)
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


def _conversions(source: Source, target: Target, plan: _Plan) -> dict[str, str]:
    found = {}
    for name, old in plan.saved.items():
        entry, leaf = source.entries[old], target.leaves[name]
        now = signature(leaf)
        if now != (entry.shape, entry.dtype) and not stands_for_python(leaf, entry):
            before = signature_text(entry.shape, entry.dtype)
            found[name] = f"{before} -> {signature_text(*now)}"
    return found


def _cannot_be_read(source: Source, directory: Path, error: Exception) -> CheckpointError:
    if isinstance(source, OwnSource):
        return cannot_be_read(source.path, directory, source.index.step, error)
    return CheckpointError(f"The checkpoint {source.path} can't be read: {error}")
