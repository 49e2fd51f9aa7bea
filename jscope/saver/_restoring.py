"""Restoring: from a checkpoint and a target to a new tree, whole or not at all.

In order: saved names are renamed; selectors pick leaves of the target, each of which is one saved
array or a stack of several; names, shapes and dtypes are compared, and every difference is
reported; only then arrays are read. Those that go through a function are read before the
comparison, since their new shapes and dtypes are the function's. If the checkpoint is replaced or
removed meanwhile, it is searched for again.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._errors import CheckpointError, JscopeError
from .._model.declaration import Declaration
from .._stores.remote import AnyPath
from ..formats._own_directory import cannot_be_read
from ..formats._own_source import OwnSource
from ..formats._source import Source
from ..sharding import AnyMesh, mesh_for_init
from ._pieces import entry_of
from ._placing import CallerError
from ._planning import Plan, Values, Wanted, plan_of, saved_names, wanted_of
from ._processes import are_several, together
from ._progress import watching
from ._reading import Progress, read
from ._renaming import (
    Renamed,
    rename_saved,
)
from ._report import Report
from ._request import Request, check_request
from ._resuming import resumed
from ._steps import StepOrPath, open_checkpoint
from ._target import Target
from ._whole import whole

# How often a checkpoint that changes while it is read is read again.
_ATTEMPTS = 20


def restore(directory: AnyPath, step: StepOrPath, request: Request) -> tuple[Any, Report]:
    """Restore a target; the arguments are those of `Saver.restore`.

    Returns:
        The tree, and the report.
    """
    check_request(request)
    mesh = request.mesh
    if isinstance(request.target, Declaration):
        mesh = mesh_for_init(mesh)
    wanted = None if request.target is None else wanted_of(request, mesh)
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
    own = resumed(target.leaves, found.values, found.source.path)
    everything = {**kept, **found.values, **fresh, **own}
    tree = target.rebuild([everything[name] for name in target.leaves])
    report = Report(
        path=found.source.path,
        restored={name: saved_names(pieces) for name, pieces in plan.saved.items()},
        kept=tuple(plan.kept),
        initialized=tuple(plan.initialized),
        ignored=plan.ignored,
        converted=plan.converted,
        bytes_read=found.nbytes + found.source.index_bytes,
        verified=request.verify and isinstance(found.source, OwnSource),
        seconds=time.monotonic() - begin,
    )
    return tree, report


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
    plan: Plan
    values: Mapping[str, Any]
    nbytes: int


def _agreed(directory: AnyPath, step: StepOrPath) -> StepOrPath:
    """In a program of several processes the newest checkpoint is the one that the first finds."""
    if step is not None or not are_several():
        return step

    def newest() -> str:
        source = open_checkpoint(directory, None)
        source.close()
        return str(source.path)

    return together(newest)[0]


def _read(directory: AnyPath, step: StepOrPath, wanted: Wanted | None, request: Request) -> _Read:
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


def _read_from(source: Source, wanted: Wanted | None, renamed: Renamed, request: Request) -> _Read:
    progress = Progress()
    values = Values(source, request.verify, progress)
    if wanted is None:
        entries = {
            name: entry_of(values.get(old, renamed.through[name]))
            if name in renamed.through
            else source.entries[old]
            for name, old in renamed.saved.items()
        }
        target = whole(source, renamed, entries, request.select, request.var_list)
        wanted = Wanted(target, frozenset(target.leaves), request.policy)
    target = wanted.target
    plan, made = plan_of(source, wanted, renamed, request, values)
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


def _cannot_be_read(source: Source, directory: AnyPath, error: Exception) -> CheckpointError:
    if isinstance(source, OwnSource):
        return cannot_be_read(source.path, directory, source.index.step, error)
    return CheckpointError(f"The checkpoint {source.path} can't be read: {error}")
