"""Where a save is written on a disk: a staging directory, which `_staging` puts in place."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .._errors import CheckpointError
from .._stores import background
from .._stores.disk import flush, flush_all, in_threads, make_directory, size_of, write_new
from ..formats._own_index import Index, read_save_id
from ..formats._own_packed import FILE_NAME as PACKED_FILE
from ..formats._own_packed import Packer
from ..formats._own_state import remembered
from ..formats._plain_paths import FOR_WRITING, Plain
from ..formats._source import nothing_left
from . import _orbax, _processes
from ._snapshot import Part, Snapshot
from ._staging import Staging, check_alike, check_free, commit, staging_path, sweep
from ._write import Save

# What Orbax writes, beside the directory of the checkpoint.
_ORBAX = "orbax"


class OnDisk:
    """The `Place` of a save on a disk: a staging directory."""

    def __init__(self, save: Save):
        assert isinstance(save.directory, Path)
        self.save_id = ""
        self._save = save
        self._directory = save.directory
        self._staging: Staging | None = None
        self._plain: Plain | None = None
        # How to wait for what is being flushed.
        self._flushed: Callable[[], None] = nothing_left

    def make(self) -> None:
        """As `Place.make`."""
        save = self._save
        check_free(self._directory / str(save.step), save.step, save.overwrite)
        with save.failing:
            make_directory(self._directory, lambda parent: self._flush(lambda: flush(parent)))
            remembered(self._directory)
        check_alike(self._directory, save.step, portable=save.layout.portable)
        with save.failing:
            sweep(self._directory)
            self._began = time.time()
            self._staging = Staging(self._directory)
            self.join(self._staging.save_id)
            self._data.mkdir()

    def join(self, save_id: str) -> None:
        """As `Place.join`."""
        self.save_id = save_id
        self._path = staging_path(self._directory, save_id)
        self._data = self._path / str(self._save.step)

    def begin(self, snapshot: Snapshot) -> Callable[[], Part]:
        """As `Place.begin`."""
        layout = self._save.layout
        if not (snapshot.needs_orbax or layout.portable):
            return functools.partial(snapshot.write, self)
        # Orbax requires the same path in all processes.
        self._plain = Plain(self._path, FOR_WRITING, self.save_id)
        wait = snapshot.begin_orbax(self._plain.path / _ORBAX, layout)

        def finish() -> Part:
            try:
                return snapshot.write(self)
            finally:
                wait()

        return finish

    def packer(self) -> Packer:
        """As `Files.packer`."""
        return Packer(self._data / PACKED_FILE)

    def put_packed(self, packer: Packer) -> None:
        """As `Files.put_packed`."""
        self._flush(packer.finish())

    def put(self, files: Iterable[tuple[str, memoryview]]) -> None:
        """As `Files.put`."""
        in_threads(self._write, files)

    def settle(self) -> None:
        """As `Files.settle`; the directories are flushed with the index."""
        self._flushed()

    def _flush(self, work: Callable[[], object]) -> None:
        """Begin to flush something, after what was begun before; `settle` waits for it."""
        before = self._flushed

        def in_turn() -> None:
            try:
                before()
            finally:
                work()

        self._flushed = background.begin(in_turn)

    def _write(self, file: tuple[str, memoryview]) -> None:
        path = self._data / file[0]
        path.parent.mkdir(exist_ok=True)
        write_new(path, file[1])

    def written(self) -> int:
        """As `Place.written`."""
        return size_of(self._path)

    def send(self, part: Part) -> None:
        """As `Place.send`."""
        self.settle()
        flush_all(self._path)
        self._part_file(_processes.index()).write_text(json.dumps(part))

    def parts(self) -> list[Part]:
        """As `Place.parts`."""
        files = [self._part_file(process) for process in range(_processes.count())]
        failed = [process for process, file in enumerate(files) if not file.exists()]
        if failed:
            raise no_part(failed[0])
        return [json.loads(file.read_bytes()) for file in files]

    def commit(self, index: Index) -> None:
        """As `Place.commit`."""
        save = self._save
        orbax = self._path / _ORBAX
        if save.layout.portable:
            _orbax.take_out_item(orbax, self._data, began=self._began, custom=index.metadata)
        elif orbax.exists():
            _orbax.take_out(orbax, self._data)
        assert self._staging is not None  # this is the first process
        commit(save, self._data, index, self._staging, self.settle)

    def has_committed(self) -> bool:
        """As `Place.has_committed`."""
        return read_save_id(self._save.path) == self.save_id

    def leave(self) -> None:
        """As `Place.leave`."""
        with contextlib.suppress(Exception):
            self.settle()
        if self._plain is not None:
            self._plain.close()
            self._plain = None
        if self._staging is not None:
            self._staging.leave()
            self._staging = None

    def _part_file(self, process: int) -> Path:
        return self._path / f"part-{process}.json"


def no_part(process: int) -> CheckpointError:
    """Compose the error: a process has not written its part of a save on a disk or in a store."""
    return CheckpointError(f"Process {process} could not write its part; see its own error.")
