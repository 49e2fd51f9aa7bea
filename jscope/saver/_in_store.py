"""Where a save is written in an object store: below its own id, by the protocol of `_claims`.

Small arrays are one object, ``packed.bin``; each shard of a larger array is one of its raw bytes,
which the process writes that has it. The index is created last.
"""

import contextlib
import dataclasses
import functools
import json
import threading
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._errors import CheckpointExistsError, CheckpointWarning
from .._stores.errors import StoreError
from .._stores.remote import fresh
from .._stores.store import store_of
from ..formats import _own_packed
from ..formats._own_index import SMALL_FILE, Index, index_bytes, read_save_id
from ..formats._own_names import by_step
from ..formats._own_state import FILE_NAME as STATE_FILE
from ..formats._own_state import Record, read_state, remembered_saves, state_bytes
from ..formats._own_steps import checkpoints
from . import _processes
from ._claims import Claim, clean, evict
from ._on_disk import no_part
from ._snapshot import Part, Snapshot
from ._write import Save

# A claim is renewed so many times in a lease.
_RENEWALS = 4
_LONGEST_RENEWAL = 60.0


class InStore:
    """A save's own names in a store, as a `Place`."""

    def __init__(self, save: Save):
        self.save_id = ""
        self._save = save
        self._store = store_of(save.directory)
        self._claim: Claim | None = None
        self._is_over = threading.Event()
        self._is_committed = False
        self._written = 0
        self._files: dict[str, tuple[int, int | None]] = {}

    def make(self) -> None:
        """As `Place.make`."""
        save, now = self._save, time.time()
        with save.failing:
            known = remembered_saves(save.directory)
            names = self._store.names()
            self._check_names(names)
            clean(self._store, names, lease=save.lease, now=now, known=known)
            self._claim = Claim.take(
                self._store,
                save.step,
                uuid.uuid4().hex,
                overwrite=save.overwrite,
                where=str(save.path),
                now=now,
            )
            self.save_id = self._claim.save_id
            self._renewing = threading.Thread(target=self._renew, args=(self._claim,), daemon=True)
            self._renewing.start()

    def _check_names(self, names: list[str]) -> None:
        found = by_step(names).get(self._save.step)
        if found is not None and not any(found):
            raise CheckpointExistsError(
                f"{self._save.path} is in the way of step {self._save.step}, and is not a "
                "checkpoint of jscope. Remove it, or give Saver another directory."
            )

    def _renew(self, claim: Claim) -> None:
        while not self._is_over.wait(self._save.lease / _RENEWALS):
            with contextlib.suppress(StoreError):
                claim.renew(time.time())

    def join(self, save_id: str) -> None:
        """As `Place.join`."""
        self.save_id = save_id

    def begin(self, snapshot: Snapshot) -> Callable[[], Part]:
        """As `Place.begin`."""
        return functools.partial(self._write, snapshot)

    def _write(self, snapshot: Snapshot) -> Part:
        part: dict[str, Any] = {}
        self.put(snapshot.objects(part))
        return part

    def put(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Write objects of the data, by their names; some at a time."""
        self._store.write_all(self._recorded(objects))

    def _recorded(self, objects: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        for name, data in objects:
            if name == _own_packed.FILE_NAME:
                crc = zlib.crc32(data) if len(data) <= SMALL_FILE else None
                self._files[name] = len(data), crc
            yield self._name(name), data
            self._written += len(data)

    def _name(self, name: str) -> str:
        return f"{self._save.step}/{self.save_id}/{name}"

    def written(self) -> int:
        """As `Place.written`."""
        return self._written

    def send(self, part: Part) -> None:
        """As `Place.send`."""
        name = self._part_name(_processes.index())
        self._store.write(name, json.dumps(part).encode())

    def parts(self) -> list[Part]:
        """As `Place.parts`."""
        names = [self._part_name(process) for process in range(_processes.count())]
        texts = [self._store.read(name) for name in names]
        for process, text in enumerate(texts):
            if text is None:
                raise no_part(process)
        self._store.remove(names)
        return [json.loads(text or b"") for text in texts]

    def _part_name(self, process: int) -> str:
        return self._name(f"part-{process}.json")

    def commit(self, index: Index) -> None:
        """As `Place.commit`."""
        claim, save = self._claim, self._save
        assert claim is not None  # this is the first process
        index = dataclasses.replace(index, files=self._files)
        try:
            claim.commit(index_bytes(index))
        except StoreError:
            # The answer may be lost, and the index there.
            if not claim.has_committed():
                raise
        self._is_committed = True
        try:
            state, going = self._state(index)
            self._store.write(STATE_FILE, state_bytes(state))
            claim.remove_replaced()
            for record in going:
                evict(self._store, record.step)
        except StoreError as error:
            # The next save removes it.
            warnings.warn(
                f"Step {save.step} is saved to {save.directory}, and what it replaces could not be "
                f"removed: {error}",
                CheckpointWarning,
                stacklevel=2,
            )

    def _state(self, index: Index) -> Any:
        save = self._save
        newest = Record(index.step, index.save_id, index.saved_at, index.metrics)
        state = read_state(save.directory, checkpoints(save.directory), newest)
        return save.retention.apply(state, save.kept_since)

    def has_committed(self) -> bool:
        """As `Place.has_committed`."""
        return read_save_id(fresh(self._save.path)) == self.save_id

    def leave(self) -> None:
        """As `Place.leave`."""
        claim, self._claim = self._claim, None
        self._is_over.set()
        if claim is not None:
            self._renewing.join(_LONGEST_RENEWAL)
            with contextlib.suppress(StoreError):
                claim.leave(has_committed=self._is_committed)
