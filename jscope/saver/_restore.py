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
from typing import Any, NamedTuple, TypeVar

from .._errors import CheckpointError, JscopeError, TreeMismatchError, listed
from .._model.declaration import Declaration
from .._stores.remote import AnyPath, RemotePath
from .._tree.text import bytes_text, table
from ..formats._own_source import OwnSource
from ..formats._own_steps import cannot_be_read
from ..formats._per_process import PerProcess
from ..formats._source import Source
from ..sharding import AnyMesh, mesh_for_init
from . import _processes
from ._arguments import StepOrPath, open_checkpoint
from ._comparison import signature, signature_text
from ._exchange import ElsewhereError
from ._placement import CallerError, sharding_of
from ._plan import (
    Needed,
    Plan,
    Request,
    Values,
    Wanted,
    check_request,
    needed_first,
    plan_of,
    saved_names,
    wanted_of,
)
from ._processes import are_several, check_same_plans, together
from ._progress import watching
from ._read import Prepared, Progress, entry_of, prepare, read
from ._renaming import Renamed
from ._target import Target, whole

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
    bytes_read: int
    verified: bool
    seconds: float

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


# Restoring.


T = TypeVar("T")

# What a process says that has to begin anew.
_CHANGED = "changed"


class _ChangedError(Exception):
    """The checkpoint has been replaced or removed while it was restored."""


# How often a checkpoint that changes while it is read is read again.
_ATTEMPTS = 20


def restore(directory: AnyPath, step: StepOrPath, request: Request) -> tuple[Any, Report]:
    """Restore a target; the arguments are those of `Saver.restore`.

    Returns:
        The tree, and the report.
    """
    begin = time.monotonic()
    mesh = mesh_for_init(request.mesh) if isinstance(request.target, Declaration) else request.mesh
    wanted = _wanted(request, mesh)
    step = _agreed_step(directory, step)
    found = _read(directory, step, wanted, request)
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
        verified=request.verify and bool(found.source.checksum),
        seconds=time.monotonic() - begin,
    )
    return tree, report


def _wanted(request: Request, mesh: AnyMesh | None) -> Wanted | None:
    """The target of a restore, if all processes have a valid one; None without one."""
    found: list[Wanted | None] = []

    def work() -> str:
        check_request(request)
        found.append(None if request.target is None else wanted_of(request, mesh))
        return ""

    together(work)
    return found[0]


class _Found(NamedTuple):
    """A checkpoint that is being restored, before the target is compared with it.

    Attributes:
        source: The checkpoint.
        renamed: The names of its variables.
        first: The values that are read before the comparison, in parts.
    """

    source: Source
    renamed: Renamed
    first: Sequence[Needed]


class _Opened(NamedTuple):
    """A checkpoint that is being restored, before arrays are read.

    Attributes:
        source: The checkpoint.
        target: The target.
        plan: The source of each leaf.
        prepared: The leaves that are to be read.
        progress: How many bytes have been read.
        nbytes: How many there are.
    """

    source: Source
    target: Target
    plan: Plan
    prepared: Prepared
    progress: Progress
    nbytes: int

    def what_of_leaves(self) -> dict[str, str]:
        """What is done about each leaf, as text."""
        kept, initialized = frozenset(self.plan.kept), frozenset(self.plan.initialized)
        return {
            name: "kept"
            if name in kept
            else "initialized"
            if name in initialized
            else self._how_read(name, leaf)
            for name, leaf in self.target.leaves.items()
        }

    def _how_read(self, name: str, leaf: object) -> str:
        sharding = sharding_of(leaf)
        is_own = sharding is None or sharding.is_fully_addressable
        where = "in each process" if is_own else f"with {sharding}"
        saved = saved_names(self.plan.saved[name])
        return f"{signature_text(*signature(leaf))} from {saved!r}, {where}"


class _Read(NamedTuple):
    """The values that a restore has read, and the plan by which it did.

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


def _agreed_step(directory: AnyPath, step: StepOrPath) -> StepOrPath:
    """The step that all processes restore: without one the newest that the first process finds."""
    if step is not None or not are_several():
        return step

    def newest() -> str:
        source = open_checkpoint(directory, None)
        source.close()
        return str(source.path)

    return together(newest)[0]


class _Attempt:
    """An attempt to restore a checkpoint, which may be replaced or removed meanwhile.

    Args:
        directory: Where the steps are.
        is_last: Whether it is not to be read again, if it changes.
    """

    def __init__(self, directory: AnyPath, is_last: bool):
        self._directory = directory
        self._is_last = is_last
        self._source: Source | None = None

    def together(self, work: Callable[[], T]) -> T:
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

    def open(self, step: StepOrPath, wanted: Wanted | None, request: Request) -> _Found:
        """Open it, and find what has to be read first."""
        self._source = open_checkpoint(self._directory, step, verify=request.verify)
        try:
            target = None if wanted is None else wanted.target
            source, renamed = request.naming.names(self._source, target)
        except JscopeError:
            raise
        except Exception as error:  # of the caller's function
            raise CallerError(error) from error.__cause__
        return _Found(source, renamed, [*needed_first(source, wanted, renamed, request)])

    def close(self) -> None:
        """Close it."""
        if self._source is not None:
            self._source.close()


def _read(directory: AnyPath, step: StepOrPath, wanted: Wanted | None, request: Request) -> _Read:
    """Attempt to restore, until the checkpoint isn't replaced or removed meanwhile."""
    for number in range(1, _ATTEMPTS + 1):
        attempt = _Attempt(directory, is_last=number == _ATTEMPTS)
        with contextlib.closing(attempt), contextlib.suppress(_ChangedError):
            return _attempted(attempt, step, wanted, request)
    raise AssertionError("the last attempt gives a result, or an error")


def _attempted(
    attempt: _Attempt, step: StepOrPath, wanted: Wanted | None, request: Request
) -> _Read:
    """What one attempt to restore gives."""
    found = attempt.together(functools.partial(attempt.open, step, wanted, request))
    facts = _facts(found.source, request)
    if are_several():
        first = dict.fromkeys([name for part in found.first for name in part], "read for functions")
        check_same_plans(facts, first)
    progress = Progress()
    values = Values(found.source, request, progress)
    for part in found.first:
        attempt.together(functools.partial(values.read, part))
    opened = attempt.together(
        functools.partial(_compared, found, wanted, request, values, progress)
    )
    if are_several():
        check_same_plans(facts, opened.what_of_leaves())
    restored = attempt.together(functools.partial(_restored_values, opened, request))
    return _Read(opened.source, opened.target, opened.plan, restored, progress.nbytes)


def _facts(source: Source, request: Request) -> dict[str, str]:
    """What of a restore must be the same in all processes, beside the leaves."""
    checkpoint = f"{source.format} of {len(source.entries)} variables"
    if isinstance(source, OwnSource):
        checkpoint += f", of save {source.index.save_id}"
    return {
        "the checkpoint": checkpoint,
        "convert": str(request.policy.convert),
        "verify": str(request.verify),
    }


def _compared(
    found: _Found, wanted: Wanted | None, request: Request, values: Values, progress: Progress
) -> _Opened:
    """Compare the target of a restore with a checkpoint that is open."""
    source, renamed, _ = found
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
    nbytes = progress.nbytes + sum(
        source.entries[saved].nbytes
        for name, places in plan.saved.items()
        if name not in made
        for saved in places.values()
    )
    leaves = {name: target.leaves[name] for name in plan.saved}
    prepared = prepare(source, leaves, plan.saved, made)
    return _Opened(source, target, plan, prepared, progress, nbytes)


# Of a store so many times as much is read at once: eight objects of 64 MB, which a server sends
# about as fast as one.
_AT_ONCE_IN_A_STORE = 4


def _restored_values(opened: _Opened, request: Request) -> dict[str, Any]:
    """Read the values of a restore, and draw its progress."""
    is_remote = isinstance(opened.source.path, RemotePath)
    with watching(f"restoring {opened.source.path.name}", opened.nbytes, opened.progress.get):
        return read(
            opened.prepared,
            verify=request.verify,
            in_flight=request.in_flight * (_AT_ONCE_IN_A_STORE if is_remote else 1),
            progress=opened.progress,
            together=True,
        )


def _initial_values(
    target: Target, found: _Read, mesh: AnyMesh | None, request: Request
) -> Mapping[str, Any]:
    """The initial values that a restore gives to the leaves that it has not read."""
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
    chosen: dict[str, Any] = {}
    result: dict[str, PerProcess] = {}

    def choose() -> str:
        _check_counts(found, values, path)
        chosen.update({name: _own_value(name, leaf, values[name]) for name, leaf in found.items()})
        return ""

    def give() -> str:
        result.update({name: leaf.with_state(chosen[name]) for name, leaf in found.items()})
        return ""

    _processes.together(choose)
    _processes.together(give)
    return result


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
