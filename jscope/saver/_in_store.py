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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BytesIO

from .._errors import CheckpointWarning
from .._stores.background import begin
from .._stores.errors import StoreError
from .._stores.remote import AnyPath, RemotePath, fresh
from .._stores.store import BucketStore, Data
from ..formats._own_index import SMALL_FILE, Index, index_bytes, read_save_id
from ..formats._own_names import IndexName, StepNames, by_step, is_known, remember
from ..formats._own_packed import FILE_NAME as PACKED_FILE
from ..formats._own_packed import Packer
from ..formats._own_state import FILE_NAME as STATE_FILE
from ..formats._own_state import Record, State, read_state, remembered_saves, state_bytes
from ..formats._own_steps import checkpoints
from . import _processes
from ._claims import Claim, clean, evict
from ._on_disk import OnDisk, no_part
from ._snapshot import Part, Snapshot
from ._staging import in_the_way
from ._write import Place, Save

# A claim is renewed so many times in a lease.
_RENEWALS = 4
_LONGEST_RENEWAL = 60.0
# The directories whose state file this process has seen to be jscope's.
_has_our_state: set[str] = set()


class InStore:
    """The `Place` of a save in a store: names of its own."""

    def __init__(self, save: Save):
        self.save_id = ""
        assert isinstance(save.directory, RemotePath)
        self._save = save
        self._store = BucketStore(save.directory)
        self._claim: Claim | None = None
        self._is_over = threading.Event()
        # How to wait for what is under way: the claim, and the look at who was faster; the data.
        self._claimed: Callable[[], object] = _nothing
        self._looked: Callable[[], object] = _nothing
        self._data: list[Callable[[], object]] = []
        self._is_committed = False
        self._written = 0
        self._files: dict[str, tuple[int, int | None]] = {}

    def make(self) -> None:
        """As `Place.make`."""
        self.save_id = uuid.uuid4().hex
        # The values are packed meanwhile.
        self._claimed = begin(self._take)
        self._looked = begin(self._look_again)
        if self._save.is_lasting or _processes.are_several():
            # The caller, or the other processes, are told at once that the step exists.
            self._looked()

    def _take(self) -> None:
        save, now = self._save, time.time()
        with save.failing:
            names = self._store.names()
            steps = by_step(names)
            found = steps.get(save.step, StepNames((), (), {}))
            if save.step in steps and not any(found):
                raise in_the_way(save.path, save.step)
            known = self._known(steps, STATE_FILE in names)
            clean(self._store, names, lease=save.lease, now=now, known=known)
            self._claim = Claim.take(
                self._store,
                save.step,
                self.save_id,
                overwrite=save.overwrite,
                where=str(save.path),
                now=now,
                found=found,
            )
            self._renewing = threading.Thread(target=self._renew, args=(self._claim,), daemon=True)
            self._renewing.start()

    def _known(self, steps: Mapping[int, StepNames], has_state: bool) -> set[str]:
        """The ids of saves that are known not to be void, by the state file if need be."""
        directory = self._save.directory
        indices = [(directory / str(step), i) for step in steps for i in steps[step].indices]
        known = {index.save_id for path, index in indices if is_known(path, index)}
        # Before the first save it is read also to see that it is jscope's.
        if has_state and (len(known) < len(indices) or str(directory) not in _has_our_state):
            known |= remembered_saves(directory)
            _has_our_state.add(str(directory))
        return known

    def _look_again(self) -> None:
        self._claimed()
        save = self._save
        if self._claim is not None:
            with save.failing:
                self._claim.look_again(overwrite=save.overwrite, where=str(save.path))

    def _renew(self, claim: Claim) -> None:
        while not self._is_over.wait(self._save.lease / _RENEWALS):
            with contextlib.suppress(StoreError):
                claim.renew(time.time())

    def join(self, save_id: str) -> None:
        """As `Place.join`."""
        self.save_id = save_id

    def begin(self, snapshot: Snapshot) -> Callable[[], Part]:
        """As `Place.begin`."""
        return functools.partial(snapshot.write, self)

    def packer(self) -> Packer:
        """As `Files.packer`."""
        self._packed = BytesIO()
        return Packer(self._packed)

    def put_packed(self, packer: Packer) -> None:
        """As `Files.put_packed`."""
        data = self._packed.getvalue()  # without a copy
        if data:
            crc = zlib.crc32(data) if len(data) <= SMALL_FILE else None
            self._files[PACKED_FILE] = len(data), crc
            self.put([(PACKED_FILE, data)])

    def put(self, files: Iterable[tuple[str, Data]]) -> None:
        """As `Files.put`."""
        self._data.append(self._store.begin_all(self._counted(files)))

    def settle(self) -> None:
        """As `Files.settle`."""
        while self._data:
            self._data.pop()()

    def _counted(self, files: Iterable[tuple[str, Data]]) -> Iterator[tuple[str, Data]]:
        for name, data in files:
            self._claimed()  # before it data are stale
            if self._written:
                self._looked()  # no more are written if they would be in vain
            yield self._name(name), data
            self._written += len(data)

    def _name(self, name: str) -> str:
        return f"{self._save.step}/{self.save_id}/{name}"

    def written(self) -> int:
        """As `Place.written`."""
        return self._written

    def send(self, part: Part) -> None:
        """As `Place.send`."""
        self.settle()
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
        save = self._save
        data = index_bytes(dataclasses.replace(index, files=self._files))
        self.settle()
        self._looked()
        claim = self._claim
        assert claim is not None  # this is the first process
        state = begin(functools.partial(self._state, index))
        try:
            claim.commit(data)
        except StoreError:
            # The answer may be lost, and the index there.
            if not claim.has_committed():
                raise
        self._is_committed = True
        remember(save.path, IndexName(claim.number, claim.save_id), is_valid=True)
        try:
            self._follow(claim, *state())
        except StoreError as error:
            # The next save removes it.
            warnings.warn(
                f"Step {save.step} is saved to {save.directory}, and what it replaces could not be "
                f"removed: {error}",
                CheckpointWarning,
                stacklevel=2,
            )

    def _state(self, index: Index) -> tuple[State, Sequence[Record]]:
        """The new state of the directory, and which steps are evicted."""
        save = self._save
        newest = Record(index.step, index.save_id, index.saved_at, index.metrics)
        state = read_state(save.directory, checkpoints(save.directory), newest)
        return save.retention.apply(state, save.kept_since)

    def _follow(self, claim: Claim, state: State, going: Sequence[Record]) -> None:
        """Record the step, and remove what goes with it: nothing waits for the other but must."""
        written = begin(functools.partial(self._store.write, STATE_FILE, state_bytes(state)))
        try:
            claim.remove_replaced()
            if not going:
                self._release()
        finally:
            written()
        _has_our_state.add(str(self._save.directory))
        for record in going:
            evict(self._store, record.step)

    def has_committed(self) -> bool:
        """As `Place.has_committed`."""
        return read_save_id(fresh(self._save.path)) == self.save_id

    def leave(self) -> None:
        """As `Place.leave`."""
        for wait in (self._looked, *self._data):
            with contextlib.suppress(Exception):
                wait()
        self._release()

    def _release(self) -> None:
        claim, self._claim = self._claim, None
        self._is_over.set()
        if claim is not None:
            self._renewing.join(_LONGEST_RENEWAL)
            with contextlib.suppress(StoreError):
                claim.leave(has_committed=self._is_committed)


def place_of(directory: AnyPath) -> Callable[[Save], Place]:
    """What makes the `Place` of a save: `InStore` if its directory is in a store, else `OnDisk`."""
    return InStore if isinstance(directory, RemotePath) else OnDisk


def _nothing() -> None:
    """What there is to wait for when no save in a store has begun."""
