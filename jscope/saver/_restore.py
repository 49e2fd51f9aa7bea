"""Restoring: from a checkpoint and a target to a new tree, whole or not at all.

In order: saved names are renamed; selectors pick leaves of the target, each of which is one saved
array or a stack of several; names, shapes and dtypes are compared, and every difference is
reported; only then arrays are read. Those that go through a function are read before the
comparison, since their new shapes and dtypes are the function's. If the checkpoint is replaced or
removed meanwhile, it is searched for again.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .._errors import CheckpointError, JscopeError, TreeMismatchError, listed
from .._model.declaration import Declaration
from .._stores.remote import AnyPath, RemotePath
from ..formats._own_source import OwnSource
from ..formats._own_steps import cannot_be_read
from ..formats._per_process import PerProcess
from ..formats._source import Source
from ..sharding import AnyMesh, mesh_for_init
from . import _processes
from ._arguments import StepOrPath, open_checkpoint
from ._comparison import signature, signature_text
from ._exchange import ElsewhereError
from ._leaves import Place
from ._placement import CallerError, sharding_of
from ._plan import Needed, Plan, Report, Request, Wanted, check_request, host_leaf, wanted_of
from ._processes import are_several, check_same_plans, together
from ._progress import watching
from ._read import Prepared, Progress, prepare, read

T = TypeVar("T")

# What a process says that has to begin anew.
_CHANGED = "changed"
# How often a checkpoint that changes while it is read is read again.
_ATTEMPTS = 20
# Of a store so many times as much is read at once: eight objects of 64 MB, which a server sends
# about as fast as one.
_AT_ONCE_IN_A_STORE = 4


class _ChangedError(Exception):
    """The checkpoint has been replaced or removed while it was restored."""


def restore(directory: AnyPath, step: StepOrPath, request: Request) -> tuple[Any, Report]:
    """Restore a target; the arguments are those of `Saver.restore`.

    Returns:
        The tree, and the report.
    """
    begin = time.monotonic()
    mesh = mesh_for_init(request.mesh) if isinstance(request.target, Declaration) else request.mesh

    def valid() -> Wanted | None:
        check_request(request)
        return None if request.target is None else wanted_of(request, mesh)

    wanted = _in_each(valid)
    plan, values, nbytes = _read(directory, _agreed_step(directory, step), wanted, request)
    source, target = plan.source, plan.target
    kept = {name: target.leaves[name] for name in plan.report.kept}
    fresh = _initial_values(plan, values, mesh, request) if plan.report.initialized else {}
    own = resumed(target.leaves, values, source.path)
    everything = {**kept, **values, **fresh, **own}
    tree = target.rebuild([everything[name] for name in target.leaves])
    report = dataclasses.replace(
        plan.report,
        bytes_read=nbytes + source.index_bytes,
        verified=request.verify and bool(source.checksum),
        seconds=time.monotonic() - begin,
    )
    return tree, report


def _in_each(work: Callable[[], T]) -> T:
    """What a part of the work of a restore gives in this process; all of them do it, or none."""
    results: list[T] = []

    def worked() -> str:
        results.append(work())
        return ""

    together(worked)
    return results[0]


def _agreed_step(directory: AnyPath, step: StepOrPath) -> StepOrPath:
    """The step that all processes restore: without one the newest that the first process finds."""
    if step is not None or not are_several():
        return step

    def newest() -> str:
        source = open_checkpoint(directory, None)
        source.close()
        return str(source.path)

    return together(newest)[0]


def _read(
    directory: AnyPath, step: StepOrPath, wanted: Wanted | None, request: Request
) -> tuple[Plan, dict[str, Any], int]:
    """Attempt to restore, until the checkpoint isn't replaced or removed meanwhile.

    Returns:
        The plan, the values of the leaves that were read, and how many bytes of arrays they are.
    """
    for number in range(1, _ATTEMPTS + 1):
        attempt = _Attempt(directory, request, is_last=number == _ATTEMPTS)
        with contextlib.closing(attempt), contextlib.suppress(_ChangedError):
            return attempt.run(step, wanted)
    raise AssertionError("the last attempt gives a result, or an error")


class _Attempt:
    """An attempt to restore a checkpoint, which may be replaced or removed meanwhile.

    Args:
        directory: Where the steps are.
        request: The arguments.
        is_last: Whether it is not to be read again, if it changes.
    """

    def __init__(self, directory: AnyPath, request: Request, is_last: bool):
        self._directory = directory
        self._request = request
        self._is_last = is_last
        self._source: Source | None = None
        self._progress = Progress()

    def run(self, step: StepOrPath, wanted: Wanted | None) -> tuple[Plan, dict[str, Any], int]:
        """The plan, the values that were read, and how many bytes that took."""
        plan, first = self._together(lambda: self._opened(step, wanted))
        if are_several():
            names = [name for part in first for name in part]
            check_same_plans(self._facts(plan), dict.fromkeys(names, "read for functions"))
        for part in first:
            self._together(functools.partial(self._read_ahead, plan, part))
        prepared = self._together(lambda: self._prepared(plan))
        if are_several():
            check_same_plans(self._facts(plan), _what_of_leaves(plan))
        values = self._together(lambda: self._values(plan, prepared))
        return plan, values, self._progress.nbytes

    def close(self) -> None:
        """Close it."""
        if self._source is not None:
            self._source.close()

    def _together(self, work: Callable[[], T]) -> T:
        """What a part of the work gives; all processes do it together.

        Raises:
            _ChangedError: If one of them has to begin anew.
        """
        results: list[T] = []

        def attempted() -> str:
            try:
                results.append(work())
            except ElsewhereError:
                pass  # and that process raises what went wrong
            except CallerError as refused:
                raise refused.error from refused.error.__cause__
            except (JscopeError, MemoryError):
                raise
            except Exception as error:
                if self._source is None:
                    raise
                if self._is_last or not self._source.has_changed():
                    raise _cannot_be_read(self._source, self._directory, error) from error
                return _CHANGED
            return ""

        if _CHANGED in together(attempted):
            raise _ChangedError
        return results[0]

    def _opened(self, step: StepOrPath, wanted: Wanted | None) -> tuple[Plan, Sequence[Needed]]:
        """Open the checkpoint, and find what has to be read before the target is compared."""
        request = self._request
        self._source = open_checkpoint(self._directory, step, verify=request.verify)
        try:
            target = None if wanted is None else wanted.target
            source, names = request.naming.names(self._source, target)
        except JscopeError:
            raise
        except Exception as error:  # of the caller's function
            raise CallerError(error) from error.__cause__
        plan = Plan(source, names, wanted, request)
        return plan, plan.needed_first()

    def _read_ahead(self, plan: Plan, needed: Needed) -> None:
        """Read values before the target is compared."""
        leaves = {name: host_leaf(plan.source.entries[name]) for name in needed}
        saved: dict[str, dict[Place, str]] = {name: {(): name} for name in needed}
        plan.take(needed, self._read(prepare(plan.source, leaves, saved, {})))

    def _prepared(self, plan: Plan) -> Prepared:
        """Compare the target with the checkpoint, and prepare to read."""
        plan.compare()
        leaves = {name: plan.target.leaves[name] for name in plan.saved}
        return prepare(plan.source, leaves, plan.saved, plan.made)

    def _values(self, plan: Plan, prepared: Prepared) -> dict[str, Any]:
        """Read the values, and draw the progress."""
        nbytes = self._progress.nbytes + plan.nbytes
        with watching(f"restoring {plan.source.path.name}", nbytes, self._progress.get):
            times = _AT_ONCE_IN_A_STORE if isinstance(plan.source.path, RemotePath) else 1
            return self._read(prepared, times)

    def _read(self, prepared: Prepared, times: int = 1) -> dict[str, Any]:
        return read(
            prepared,
            verify=self._request.verify,
            in_flight=self._request.in_flight * times,
            progress=self._progress,
            together=True,
        )

    def _facts(self, plan: Plan) -> dict[str, str]:
        """What must be the same in all processes, beside the leaves."""
        source = plan.source
        checkpoint = f"{source.format} of {len(source.entries)} variables"
        if isinstance(source, OwnSource):
            checkpoint += f", of save {source.index.save_id}"
        return {
            "the checkpoint": checkpoint,
            "convert": str(self._request.policy.convert),
            "verify": str(self._request.verify),
        }


def _what_of_leaves(plan: Plan) -> dict[str, str]:
    """What a restore does about each leaf, as text."""
    report = plan.report
    found = dict.fromkeys(report.kept, "kept") | dict.fromkeys(report.initialized, "initialized")
    for name, saved in report.restored.items():
        leaf = plan.target.leaves[name]
        sharding = sharding_of(leaf)
        is_own = sharding is None or sharding.is_fully_addressable
        where = "in each process" if is_own else f"with {sharding}"
        found[name] = f"{signature_text(*signature(leaf))} from {saved!r}, {where}"
    return {name: found[name] for name in plan.target.leaves}


def _initial_values(
    plan: Plan, values: Mapping[str, Any], mesh: AnyMesh | None, request: Request
) -> Mapping[str, Any]:
    """The initial values that a restore gives to the leaves that it has not read."""
    declared, key = plan.target.declared, request.key
    # Only a declaration has initial values, and then there is a key.
    assert declared is not None
    assert key is not None
    only = dict.fromkeys(plan.report.initialized)
    return declared.init(
        key, given=values, only=only, donate_given=True, mesh=mesh, rules=request.rules
    )


def _cannot_be_read(source: Source, directory: AnyPath, error: Exception) -> CheckpointError:
    """Compose the error: the checkpoint that is restored can't be read."""
    if isinstance(source, OwnSource):
        return cannot_be_read(source.path, directory, source.index.step, error)
    return CheckpointError(f"The checkpoint {source.path} can't be read: {error}")


def resumed(
    leaves: Mapping[str, Any], values: Mapping[str, Any], path: AnyPath
) -> dict[str, PerProcess]:
    """Finish the restore of the leaves that are a `PerProcess`, and set their objects' states.

    Args:
        leaves: The target's leaves, by name.
        values: What was read for some; for a `PerProcess` the values of all processes.
        path: The checkpoint's.

    Raises:
        TreeMismatchError: If another number of processes saved them, and that is an error.
        Exception: What a function of the caller raises, or an object that is given its state.
    """
    found = {
        name: leaf
        for name, leaf in leaves.items()
        if isinstance(leaf, PerProcess) and name in values
    }
    if not found:
        return {}

    def choose() -> dict[str, Any]:
        _check_counts(found, values, path)
        return {name: _own_value(name, leaf, values[name]) for name, leaf in found.items()}

    chosen = _in_each(choose)
    return _in_each(lambda: {name: leaf.with_state(chosen[name]) for name, leaf in found.items()})


def _check_counts(
    leaves: Mapping[str, PerProcess], values: Mapping[str, tuple[Any, ...]], path: AnyPath
) -> None:
    """Refuse a restore in another number of processes than have saved a `PerProcess`."""
    others = {
        name: len(values[name])
        for name, leaf in leaves.items()
        if leaf.on_other_count == "error" and len(values[name]) != _processes.count()
    }
    if others:
        first, saved = next(iter(others.items()))
        raise TreeMismatchError(
            f"{_number(saved)} saved {listed(others)}, each its own value, in {path}, and this "
            f"program has {_number(_processes.count())}: which of the values a process gets is "
            f"unknown. Run it with {_number(saved)}, or leave these out by select=.",
            "Or choose: a target that has js.PerProcess(value, on_other_count=lambda values, "
            "process, count: ...) gets what the function returns, and "
            f"saver.open({str(path)!r})[{first!r}].read() is all of them.",
        )


def _number(number: int) -> str:
    """How many processes saved or restore a value, as text for an error."""
    return "1 process" if number == 1 else f"{number} processes"


def _own_value(name: str, leaf: PerProcess, values: tuple[Any, ...]) -> Any:
    """The value that a restore gives this process, of those that were saved of a `PerProcess`."""
    if leaf.on_other_count == "error" or len(values) == _processes.count():
        return values[_processes.index()]
    try:
        return leaf.on_other_count(values, _processes.index(), _processes.count())
    except Exception as error:
        error.add_note(f"This is `on_other_count` of {name!r}, given {len(values)} values.")
        raise
