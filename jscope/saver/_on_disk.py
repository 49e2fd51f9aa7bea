"""Where a save is written on a disk: a staging directory, which `_staging` puts in place."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from .._errors import CheckpointError
from ..formats import _own_packed
from ..formats._own_index import Index, read_save_id
from ..formats._own_state import remembered
from ..formats._plain_paths import FOR_WRITING, Plain
from . import _orbax, _processes
from ._disk import flush_all, make_directory, size_of
from ._snapshot import Part, Snapshot
from ._staging import Staging, check_alike, check_free, commit, staging_path, sweep
from ._write import Save


class OnDisk:
    """The `Place` of a save on a disk: a staging directory."""

    def __init__(self, save: Save):
        assert isinstance(save.directory, Path)
        self.save_id = ""
        self._save = save
        self._directory = save.directory
        self._staging: Staging | None = None
        self._plain: Plain | None = None

    def make(self) -> None:
        """As `Place.make`."""
        save = self._save
        check_free(self._directory / str(save.step), save.step, save.overwrite)
        check_alike(self._directory, save.step, portable=save.layout.portable)
        with save.failing:
            make_directory(self._directory)
            remembered(self._directory)
            sweep(self._directory)
            self._began = time.time()
            self._staging = Staging(self._directory)
            self.save_id = self._staging.save_id

    def join(self, save_id: str) -> None:
        """As `Place.join`."""
        self.save_id = save_id
        self._path = staging_path(self._directory, save_id)

    def begin(self, snapshot: Snapshot) -> Callable[[], Part]:
        """As `Place.begin`."""
        layout, path = self._save.layout, self._path
        if snapshot.needs_orbax or layout.portable:
            # Orbax requires the same path in all processes.
            self._plain = Plain(path, FOR_WRITING, self.save_id)
            path = self._plain.path
        return snapshot.begin(
            path / "orbax", portable=layout.portable, compresses=self._save.compresses
        )

    def written(self) -> int:
        """As `Place.written`."""
        return size_of(self._path)

    def send(self, part: Part) -> None:
        """As `Place.send`."""
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
        save, path = self._save, self._path
        written = path / str(save.step)
        if save.layout.portable:
            _orbax.take_out_item(path / "orbax", written, began=self._began, custom=index.metadata)
        elif (path / "orbax").exists():
            _orbax.take_out(path / "orbax", written)
        else:
            written.mkdir()
        if (path / _own_packed.FILE_NAME).exists():
            os.rename(path / _own_packed.FILE_NAME, written / _own_packed.FILE_NAME)
        assert self._staging is not None  # this is the first process
        commit(
            written,
            index,
            self._staging,
            self._directory,
            overwrite=save.overwrite,
            retention=save.retention,
            now=save.kept_since,
        )

    def has_committed(self) -> bool:
        """As `Place.has_committed`."""
        return read_save_id(self._save.path) == self.save_id

    def leave(self) -> None:
        """As `Place.leave`."""
        if self._plain is not None:
            self._plain.close()
            self._plain = None
        if self._staging is not None:
            self._staging.leave()
            self._staging = None

    def _part_file(self, process: int) -> Path:
        return self._path / f"part-{process}.json"


def no_part(process: int) -> CheckpointError:
    """Compose the error: a process could not write its part of a save."""
    return CheckpointError(f"Process {process} could not write its part; see its own error.")
