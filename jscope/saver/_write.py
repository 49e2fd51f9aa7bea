"""One save, from a tree to a checkpoint: checks, writing and commit, in their order.

`begin` does the part before the caller goes on: it refuses values that can't be saved, and takes
the snapshot. The function that it returns does the rest, in any thread.

In a program of several processes each does both. Every process writes its part of the sharded
arrays and records their chunks in a file ``part-<process>.json``; the first one writes the packed
arrays, waits for all parts, makes the index of them and commits. A process that failed writes no
part, and one that crashed reaches no barrier: then there is no checkpoint, and the others raise.

Where it is written and how it becomes complete is a `Place`'s: `_on_disk` or `_in_store`.
"""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from .._errors import CheckpointError, failing_as
from .._stores.remote import AnyPath
from ..formats._json_members import numbers_to_json
from ..formats._own_entry import Entry
from ..formats._own_index import Index
from ..formats._per_process import joined
from ..formats._python_values import PER_PROCESS
from . import _processes
from ._encoding import Layout, store
from ._orbax import Array
from ._progress import watching
from ._retention import Retention
from ._snapshot import Files, Part, Snapshot, merge

# A day, in seconds.
LEASE = 86_400.0


@dataclasses.dataclass(frozen=True)
class Save:
    """The arguments of a save that is to be written.

    Attributes:
        directory: Where the checkpoints are.
        step: The step.
        place: Makes where it is written.
        layout: Where the arrays go.
        leaves: The values by name.
        containers: The pytree that they are of, described; None if they are not all of one.
        metadata: The user's.
        metrics: By name.
        overwrite: Whether an old checkpoint of the step may be replaced.
        retention: The rule for the checkpoints beside it.
        kept_since: When the hours of the retention begin, if they have not yet.
        clock: Gives the time.
        is_lasting: Whether the caller goes on before all is written.
        lease: How many seconds the claim of a process counts that seems to have crashed.
    """

    directory: AnyPath
    step: int
    place: "Callable[[Save], Place]"
    layout: Layout = dataclasses.field(default_factory=Layout)
    leaves: Collection[tuple[str, Any]] = ()
    containers: Any = None
    metadata: Any = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    overwrite: bool = False
    retention: Retention = dataclasses.field(default_factory=Retention)
    kept_since: float = dataclasses.field(default_factory=time.time)
    clock: Callable[[], float] = time.time
    is_lasting: bool = False
    lease: float = LEASE

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that must be equal in all processes, beside the values, as JSON."""
        return {
            "the directory": str(self.directory),
            "step": self.step,
            "metadata": self.metadata,
            "metrics": numbers_to_json(self.metrics),
            "overwrite": self.overwrite,
            "portable": self.layout.portable,
            "sharded": self.layout.packs_up_to is not None,
            "compression": "zstd" if self.layout.compresses else None,
            **self.retention.arguments,
        }

    @property
    def path(self) -> AnyPath:
        """The path of the new checkpoint."""
        return self.directory / str(self.step)

    @property
    def failing(self) -> contextlib.AbstractContextManager[None]:
        """The start of every failure's message."""
        return failing_as(f"Step {self.step} was not saved to {self.directory}")


class Place(Files, Protocol):
    """Where a save is written, on a disk or in a store, and how it becomes a checkpoint.

    Attributes:
        save_id: The id of the save; empty in all but the first process before `join`.
    """

    save_id: str

    def make(self) -> None:
        """Make it, in the first process.

        Raises:
            CheckpointExistsError: If the step exists, and is not to be replaced.
        """

    def join(self, save_id: str) -> None:
        """Learn the id that the first process made, in all of them."""

    def begin(self, snapshot: Snapshot) -> Callable[[], Part]:
        """Start to write this process's part; return how to finish."""

    def written(self) -> int:
        """How many bytes are written."""

    def send(self, part: Part) -> None:
        """Make this process's part durable, and give its facts to the first process."""

    def parts(self) -> list[Part]:
        """The facts of all processes.

        Raises:
            CheckpointError: If one has sent none.
        """

    def commit(self, index: Index) -> None:
        """Make it the checkpoint, remove what it replaces, and evict others."""

    def has_committed(self) -> bool:
        """Whether it is the checkpoint of its step."""

    def leave(self) -> None:
        """Remove what is left; called in each process, once or more often."""


def begin(requested: Callable[[], Save]) -> Callable[[], AnyPath]:
    """Begin to write a save: check all, take the snapshot; return what finishes it.

    Args:
        requested: Gives the save, or raises if it is invalid, which the other processes then
            report.

    Raises:
        CheckpointExistsError: If the step exists.
        CheckpointValueError: If a value can't be stored, or the processes disagree.
        CheckpointError: If writing can't begin.
    """
    saving = _Saving(requested)
    try:
        saving.begin()
    except BaseException:
        saving.leave()
        raise
    return saving.finish


class _Saving:
    """One save in this process: its checks, its writing and its commit, in their order."""

    _save: Save
    _place: Place
    _entries: dict[str, Entry]
    _arrays: dict[str, Array]

    def __init__(self, requested: Callable[[], Save]):
        self._requested = requested
        self._nbytes = 0

    def begin(self) -> None:
        # The first process makes the place, and sends the save's id to the others.
        prepared = [json.loads(text) for text in _processes.together(self._prepare)]
        _processes.check_same_saves(self._save.arguments, self._entries)
        self._join([own for _, own in prepared])
        self._save_id = prepared[0][0]
        self._place.join(self._save_id)
        try:
            with self._save.failing:
                snapshot = Snapshot(self._entries, self._arrays, is_lasting=self._save.is_lasting)
                del self._arrays
                self._nbytes = snapshot.nbytes
                self._write = self._place.begin(snapshot)
        except BaseException as error:
            if not _processes.are_several():
                raise
            # The others wait for this process's part, or its failure.
            self._write = functools.partial(_raise, error)

    def _prepare(self) -> str:
        save = self._save = self._requested()
        self._place = save.place(save)
        self._entries, self._arrays = store(save.leaves, save.layout)
        if _processes.is_first():
            self._place.make()
        own = {
            name: entry.value for name, entry in self._entries.items() if entry.dtype == PER_PROCESS
        }
        return json.dumps([self._place.save_id, own])

    def _join(self, own: Sequence[Mapping[str, str]]) -> None:
        """Make one value of those that each process has its own of; their names agree."""
        for name in own[0]:
            text = joined([of[name] for of in own])
            self._entries[name] = self._entries[name]._replace(value=text)

    def finish(self) -> AnyPath:
        save = self._save
        try:
            with save.failing:
                if _processes.are_several():
                    self._finish_together()
                else:
                    self._commit([self._written()])
        finally:
            self.leave()
        return save.path

    def leave(self) -> None:
        if hasattr(self, "_place"):
            self._place.leave()

    def _written(self) -> Part:
        is_watched = not self._save.is_lasting and _processes.is_first()
        title = f"saving step {self._save.step}"
        with watching(title, self._nbytes if is_watched else 0, self._place.written):
            return self._write()

    def _finish_together(self) -> None:
        failure = None
        try:
            self._place.send(self._written())
        except BaseException as error:
            # Raised after the barrier, at which the others wait.
            failure = error
        _processes.barrier(f"jscope-{self._save_id}-written")
        try:
            if failure is not None:
                raise failure
            if _processes.is_first():
                self._commit(self._place.parts())
        finally:
            self.leave()
            _processes.barrier(f"jscope-{self._save_id}-committed")
        if not self._place.has_committed():
            raise CheckpointError("The first process did not commit it; see its own error.")

    def _commit(self, parts: Sequence[Part]) -> None:
        save = self._save
        index = Index(
            save.step,
            self._save_id,
            save.clock(),
            merge(self._entries, parts, portable=save.layout.portable),
            save.layout.portable,
            save.metadata,
            save.metrics,
            containers=save.containers,
        )
        self._place.commit(index)


def _raise(error: BaseException) -> NoReturn:
    raise error
