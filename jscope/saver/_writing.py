"""One save, from a tree to a checkpoint: checks, writing and commit, in their order.

`begin` does the part before the caller goes on: it refuses values that can't be saved, and takes
the snapshot. The function that it returns does the rest, in any thread.

In a program of several processes each does both. Every process writes its part of the sharded
arrays and records their chunks in a file ``part-<process>.json`` of the staging directory; the
first one writes the packed arrays, waits for all parts, makes the index of them and commits. A
process that failed writes no part, and one that crashed reaches no barrier: then there is no
checkpoint, and the others raise.
"""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .._errors import CheckpointError
from ..formats import _own_packed
from ..formats._entry import Entry
from ..formats._json_members import numbers_to_json
from ..formats._own_index import Index, read_save_id
from ..formats._own_state import remembered
from ..formats._per_process import joined
from ..formats._plain_paths import FOR_WRITING, Plain
from ..formats._python_values import PER_PROCESS
from . import _orbax, _processes
from ._committing import check_free, commit, sweep
from ._disk import failing_as, flush_all, make_directory, size_of
from ._orbax import Array
from ._processes import Agreement
from ._progress import watching
from ._retention import Retention
from ._snapshot import Part, Snapshot, merge
from ._staging import Staging, staging_path
from ._values import Layout, store


@dataclasses.dataclass(frozen=True)
class Save:
    """The arguments of a save.

    Attributes:
        directory: Where the checkpoints are.
        step: The step.
        leaves: The values by name.
        containers: The pytree that they are of, described; None if they are not all of one.
        metadata: The user's.
        metrics: By name.
        overwrite: Whether an old checkpoint of the step may be replaced.
        layout: Where the arrays go.
        compresses: Whether Orbax compresses.
        retention: The rule for the checkpoints beside it.
        kept_since: When the hours of the retention begin, if they have not yet.
        clock: Gives the time.
        is_lasting: Whether the caller goes on before all is written.
    """

    directory: Path
    step: int
    leaves: Collection[tuple[str, Any]]
    containers: Any
    metadata: Any
    metrics: dict[str, float]
    overwrite: bool
    layout: Layout
    compresses: bool
    retention: Retention
    kept_since: float
    clock: Callable[[], float]
    is_lasting: bool

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
            "compression": "zstd" if self.compresses else None,
            **self.retention.arguments,
        }

    @property
    def path(self) -> Path:
        """The path of the new checkpoint."""
        return self.directory / str(self.step)

    @property
    def failing(self) -> contextlib.AbstractContextManager[None]:
        """The start of every failure's message."""
        return failing_as(f"Step {self.step} was not saved to {self.directory}")


def begin(requested: Callable[[], Save]) -> Callable[[], Path]:
    """Check everything, take the snapshot, begin to write; return what finishes the save.

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
    """A save under way."""

    _save: Save
    _entries: dict[str, Entry]
    _arrays: dict[str, Array]

    def __init__(self, requested: Callable[[], Save]):
        self._requested = requested
        self._staging: Staging | None = None
        self._plain: Plain | None = None
        self._agreement: Agreement | None = None
        self._nbytes = 0

    def begin(self) -> None:
        # The first process makes the staging directory, and sends its name to the others.
        prepared = [json.loads(text) for text in _processes.together(self._prepare)]
        if self._agreement is not None:
            self._agreement.check([digests for _, digests, _ in prepared])
        self._join([own for _, _, own in prepared])
        save, self._save_id = self._save, prepared[0][0]
        self._path = staging_path(save.directory, self._save_id)
        try:
            with save.failing:
                self._write = self._snapshot()
        except BaseException as error:
            if not _processes.are_several():
                raise
            # The others wait for this process's part, or its failure.
            self._write = functools.partial(_raise, error)

    def _snapshot(self) -> Callable[[], Part]:
        save = self._save
        snapshot = Snapshot(self._entries, self._arrays, is_lasting=save.is_lasting)
        del self._arrays
        self._nbytes = snapshot.nbytes
        path = self._path
        if snapshot.needs_orbax or save.layout.portable:
            # Orbax requires the same path in all processes.
            self._plain = Plain(path, FOR_WRITING, self._save_id)
            path = self._plain.path
        return snapshot.begin(
            path / "orbax", portable=save.layout.portable, compresses=save.compresses
        )

    def _prepare(self) -> str:
        save = self._save = self._requested()
        self._entries, self._arrays = store(save.leaves, save.layout)
        if _processes.are_several():
            self._agreement = Agreement(save.arguments, self._entries)
        digests = {} if self._agreement is None else self._agreement.digests()
        if _processes.is_first():
            self._make_staging(save)
        save_id = "" if self._staging is None else self._staging.save_id
        own = {
            name: entry.value for name, entry in self._entries.items() if entry.dtype == PER_PROCESS
        }
        return json.dumps([save_id, digests, own])

    def _join(self, own: Sequence[Mapping[str, str]]) -> None:
        """Make one value of those that each process has its own of; their names agree."""
        for name in own[0]:
            text = joined([of[name] for of in own])
            self._entries[name] = dataclasses.replace(self._entries[name], value=text)

    def _make_staging(self, save: Save) -> None:
        check_free(save.path, save.step, save.overwrite)
        with save.failing:
            make_directory(save.directory)
            remembered(save.directory)
            sweep(save.directory)
            self._staging = Staging(save.directory)

    def finish(self) -> Path:
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
        if self._plain is not None:
            self._plain.close()
            self._plain = None
        if self._staging is not None:
            self._staging.leave()
            self._staging = None

    def _written(self) -> Part:
        is_watched = not self._save.is_lasting and _processes.is_first()
        title = f"saving step {self._save.step}"
        with watching(title, self._nbytes if is_watched else 0, lambda: size_of(self._path)):
            return self._write()

    def _finish_together(self) -> None:
        failure = None
        try:
            part = self._written()
            flush_all(self._path)
            _part_file(self._path, _processes.index()).write_text(json.dumps(part))
        except BaseException as error:
            # Raised after the barrier, at which the others wait.
            failure = error
        _processes.barrier(f"jscope-{self._save_id}-written")
        try:
            if failure is not None:
                raise failure
            if _processes.is_first():
                self._commit(_parts(self._path, _processes.count()))
        finally:
            self.leave()
            _processes.barrier(f"jscope-{self._save_id}-committed")
        if read_save_id(self._save.path) != self._save_id:
            raise CheckpointError("The first process did not commit it; see its own error.")

    def _commit(self, parts: Sequence[Part]) -> None:
        save, path = self._save, self._path
        portable = save.layout.portable
        entries = merge(self._entries, parts, portable=portable)
        written = path / str(save.step)
        if (path / "orbax").exists():
            _orbax.take_out(path / "orbax", written)
        else:
            written.mkdir()
        if (path / _own_packed.FILE_NAME).exists():
            os.rename(path / _own_packed.FILE_NAME, written / _own_packed.FILE_NAME)
        saved_at = save.clock()
        index = Index(
            save.step,
            self._save_id,
            saved_at,
            entries,
            portable,
            save.metadata,
            save.metrics,
            containers=save.containers,
        )
        assert self._staging is not None  # this is the first process
        commit(
            written,
            index,
            self._staging,
            save.directory,
            overwrite=save.overwrite,
            retention=save.retention,
            now=save.kept_since,
        )


def _raise(error: BaseException) -> NoReturn:
    raise error


def _part_file(path: Path, process: int) -> Path:
    return path / f"part-{process}.json"


def _parts(path: Path, count: int) -> list[Part]:
    files = [_part_file(path, process) for process in range(count)]
    failed = [process for process, file in enumerate(files) if not file.exists()]
    if failed:
        raise CheckpointError(f"Process {failed[0]} could not write its part; see its own error.")
    return [json.loads(file.read_bytes()) for file in files]
