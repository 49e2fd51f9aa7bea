"""Saving in a store: the index comes last, and creating it is the one moment of truth.

It needs one operation that a store does for one caller only: *create this name unless it exists*.
The names are those of `formats._own_names`.

**Saving.** 1. List the step; its number is one above the highest index or claim. Create the claim
of that number; if it exists, another save of the step is under way. 2. Write the data, below the
save's own id. Before, meanwhile or after that, list again: a save that was completed before the
claim was there is seen now. 3. Create the index of that number and id: now the step is saved. If a
void one is there, the claim was taken for that of a crashed process: remove the data, and raise. 4.
Remove what was replaced, the indices first, by their exact names; then the claim.

**Evicting.** Remove the indices, the lowest first, then their data.

**Cleaning**, by whoever saves next. For each claim of a process that has crashed, or that was
not renewed for the time of a lease: create a void index of its number and id, so that it can never
commit; if there is a void one now, remove its data; then remove the claim. Last, list the data
*first*, then claims and indices, and remove older indices, and data to which nothing refers.

Each operation is atomic, and nothing else is needed: a process may stop or pause between any two,
for any time, and a claim may be taken for a crashed process's while its owner lives. Void indices
stay; they are a few bytes. ``tests/checkpoint/test_saver_protocol.py`` runs these functions in all
interleavings.

Two designs that look simpler lose checkpoints. If an index were called by its number alone, a
paused writer could commit data that were removed after an eviction. If a cleaner looked for the
index in place of creating a void one, it could remove data that are committed a moment later.
"""

import contextlib
import functools
import os
import socket
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .._errors import CheckpointError, CheckpointExistsError
from .._stores.store import Store
from ..formats._json_members import member, seconds, text, whole_number
from ..formats._json_members import save_id as save_id_of
from ..formats._own_names import IndexName, StepNames, by_step, claim_name, is_void, void
from ..formats._sealed_json import sealed, unsealed

_FORMAT = "jscope-claim"


class Claim:
    """The right to save a step as one of its indices, from `take` on, unless `look_again` objects.

    Attributes:
        save_id: The save's id.
        number: The number of the index.
        data: What the names of the save's data begin with.
    """

    def __init__(self, store: Store, step: int, save_id: str, number: int):
        self._store = store
        self._step = step
        self.save_id = save_id
        self.number = number
        self.data = f"{step}/{save_id}/"
        self._replaced: list[IndexName] = []
        self._may_have_committed = False

    @classmethod
    def take(
        cls,
        store: Store,
        step: int,
        save_id: str,
        *,
        overwrite: bool,
        where: str,
        now: float,
        found: StepNames | None = None,
    ) -> "Claim":
        """Claim a step; `look_again` is to be called before `commit`.

        Args:
            store: The directory of the steps.
            step: The step.
            save_id: An id that no other save has.
            overwrite: Whether a checkpoint of the step may be replaced.
            where: The step's path, for errors.
            now: The time.
            found: The names of the step, if they were listed before.

        Raises:
            CheckpointExistsError: If the step is saved or being saved, and is not to be replaced.
        """
        if found is None:
            found = _listed(store, step)
        if not overwrite and _valid_of(store, step, found):
            raise already_saved(step, where)
        number = max([0, *found.claims, *(index.number for index in found.indices)]) + 1
        claim = cls(store, step, save_id, number)
        _claimed.add(save_id)
        try:
            if not store.create(claim._name, _claim_text(save_id, now)):
                raise _under_way(store, step, number, where)
        except BaseException:
            _claimed.discard(save_id)
            raise
        return claim

    def look_again(self, *, overwrite: bool, where: str) -> None:
        """See who was faster; the data may be written meanwhile.

        Args:
            overwrite: As for `take`.
            where: As for `take`.

        Raises:
            CheckpointExistsError: If the step is saved or being saved, and is not to be replaced.
        """
        # A claim is removed after its index is there: whoever was faster is seen now.
        found = _listed(self._store, self._step)
        self._replaced = _valid_of(self._store, self._step, found)
        rivals = [number for number in found.claims if number != self.number]
        is_late = any(index.number >= self.number for index in self._replaced)
        if is_late or (self._replaced and not overwrite):
            raise already_saved(self._step, where)
        if not overwrite and rivals:
            raise _under_way(self._store, self._step, rivals[0], where)

    @property
    def _name(self) -> str:
        return f"{self._step}/{claim_name(self.number)}"

    def renew(self, now: float) -> None:
        """Show that the save is under way."""
        self._store.write(self._name, _claim_text(self.save_id, now))

    def commit(self, index: bytes) -> None:
        """Create the index: the step is saved.

        Raises:
            CheckpointError: If the claim was taken for a crashed process's; nothing is saved then.
        """
        name = IndexName(self.number, self.save_id)
        self._may_have_committed = True
        if not self._store.create(f"{self._step}/{name.file}", index):
            raise CheckpointError(
                f"Another process took this save for one that has crashed, and stopped it: its "
                f"claim {self._name} was not renewed for the time of a lease. Save once more; if "
                "this process was paused, or its clock is wrong, that is why. A longer lease is "
                "Saver(..., lease=seconds)."
            )

    def has_committed(self) -> bool:
        """Whether the step is saved, after `commit` failed; if not, it never will be."""
        return not _stop(self._store, self._step, self.number, self.save_id)

    def remove_replaced(self) -> None:
        """Remove the checkpoints that this one replaces, after `commit`."""
        lower = [index for index in self._replaced if index.number < self.number]
        if lower:
            _remove(self._store, self._step, lower, _listed(self._store, self._step))

    def leave(self, *, has_committed: bool) -> None:
        """Remove the claim; if nothing was committed, the data too.

        Raises:
            Exception: If the store fails. The next save cleans up.
        """
        _claimed.discard(self.save_id)
        if not has_committed and self._may_have_committed:
            _stop(self._store, self._step, self.number, self.save_id)
        elif not has_committed:
            _remove_data(self._store, self._step, self.save_id)
        self._store.remove([self._name])


def evict(store: Store, step: int) -> None:
    """Evict a step, for which no claim is needed: its indices, the lowest first, then its data."""
    found = _listed(store, step)
    _remove(store, step, _valid_of(store, step, found), found)


def clean(
    store: Store,
    names: Collection[str],
    *,
    lease: float,
    now: float,
    known: Collection[str] = (),
) -> None:
    """Stop the saves whose claims count no more, as of crashed processes, and remove their data.

    Args:
        store: The directory of the steps.
        names: All names in it, listed before.
        lease: How many seconds a claim counts after it was renewed.
        now: The time.
        known: Ids of saves whose indices are known not to be void.
    """
    steps = by_step(names)
    for step, found in steps.items():
        for number in found.claims:
            save_id = _abandoned(store.read(f"{step}/{claim_name(number)}"), lease, now)
            if save_id is not None:
                _stop(store, step, number, save_id)
                store.remove([f"{step}/{claim_name(number)}"])
    if any(_may_be_stale(store, step, found, known) for step, found in steps.items()):
        # In this order: data that were listed before their claim are never taken for stale.
        data = by_step(store.names())
        rest = by_step(store.names())
        for step, found in data.items():
            _sweep(store, step, found, rest.get(step, StepNames((), (), {})))


def _may_be_stale(store: Store, step: int, found: StepNames, known: Collection[str]) -> bool:
    """Whether claims on a step are left, or what they left: older indices, or data of no index."""
    is_known = len(found.indices) == 1 and found.indices[0].save_id in known
    valid = list(found.indices) if is_known else _valid_of(store, step, found)
    return bool(found.claims) or len(valid) > 1 or bool(found.data.keys() - _ids_of(valid))


def _sweep(store: Store, step: int, before: StepNames, found: StepNames) -> None:
    """Sweep a step by its claims: remove the older indices, and the data, that no claim is for."""
    claimed = {_claimant(store.read(f"{step}/{claim_name(n)}")) for n in found.claims}
    if None in claimed:
        return  # one that can't be read, or was removed meanwhile
    valid = _valid_of(store, step, found)
    older = [index for index in valid[:-1] if index.save_id not in claimed]
    _remove(store, step, older, before)
    kept = claimed | _ids_of(valid)
    # Data without an id are of an index of a disk's, which is removed before them.
    if not valid or not valid[0].number:
        kept.add("")
    for save_id in before.data.keys() - kept:
        store.remove(f"{step}/{name}" for name in before.data[save_id])


def _stop(store: Store, step: int, number: int, save_id: str) -> bool:
    """Make sure that the save of a claim can't commit any more, and remove its data.

    Returns:
        Whether that is so; if not, it has committed.
    """
    file = f"{step}/{IndexName(number, save_id).file}"
    contents = void(save_id)
    if store.create(file, contents) or is_void(store.head(file) or contents):
        _remove_data(store, step, save_id)
        return True
    return False


def _remove_data(store: Store, step: int, save_id: str) -> None:
    """Remove the data that a save wrote under a claim, as the claim counts no more."""
    found = _listed(store, step)
    store.remove(f"{step}/{name}" for name in found.data.get(save_id, ()))


def _remove(store: Store, step: int, indices: Collection[IndexName], found: StepNames) -> None:
    """Remove what claims have led to: the given indices, and after each its data."""
    for index in indices:
        store.remove([f"{step}/{index.file}"])
        store.remove(f"{step}/{name}" for name in found.data.get(index.save_id, ()))


def _listed(store: Store, step: int) -> StepNames:
    """The claims on a step, with its indices and data, as its store lists them."""
    return StepNames.of(name.partition("/")[2] for name in store.names(str(step)))


def _valid_of(store: Store, step: int, found: StepNames) -> list[IndexName]:
    """The indices that claims have committed for a step: those that no cleaner has made void."""
    return found.valid(lambda file: store.head(f"{step}/{file}"))


def _ids_of(indices: Collection[IndexName]) -> set[str]:
    """The ids of the saves whose claims became these indices."""
    return {index.save_id for index in indices}


# The ids of the saves of this process that have claims.
_claimed: set[str] = set()


def _claim_text(save_id: str, now: float) -> bytes:
    """The contents of a claim: its save, its process, and when it was renewed."""
    members = {"save_id": save_id, "renewed_at": now, "host": _host(), "process": os.getpid()}
    return sealed({"format": _FORMAT, "version": 1, **members})


def _claim(data: bytes | None) -> dict[str, Any]:
    """The members of a claim; none if it is gone or can't be read."""
    try:
        members = unsealed(data or b"", "", format=_FORMAT, version=1)
        return {
            "save_id": member(members, "save_id", save_id_of),
            "renewed_at": member(members, "renewed_at", seconds),
            "host": member(members, "host", text),
            "process": member(members, "process", whole_number),
        }
    except ValueError:
        return {}


def _claimant(data: bytes | None) -> str | None:
    """The id of the save whose claim this is; None if it can't be read."""
    return _claim(data).get("save_id")


def _abandoned(data: bytes | None, lease: float, now: float) -> str | None:
    """The id of the save whose claim counts no more, else None."""
    claim = _claim(data)
    if not claim or claim["save_id"] in _claimed:
        return None
    if claim["host"] == _host() and not _is_alive(claim["process"]):
        return str(claim["save_id"])
    return str(claim["save_id"]) if now - claim["renewed_at"] > lease else None


def _is_alive(process: int) -> bool:
    """Whether the process of a claim is there: this one's claims are in `_claimed`."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@functools.cache
def _host() -> str:
    """The host of a claim, on which ids of processes are unique: machine, boot, container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def already_saved(step: int, where: str) -> CheckpointExistsError:
    """Compose the error: the step that is to be claimed is saved, and is not to be replaced."""
    return CheckpointExistsError(
        f"Step {step} is saved already, in {where}.",
        f"To replace it write saver.save(tree, {step}, overwrite=True): the old one stays until "
        "the new one is complete.",
    )


def _under_way(store: Store, step: int, number: int, where: str) -> CheckpointExistsError:
    """Compose the error: another save of the step is under way, by its claim."""
    claim = _claim(store.read(f"{step}/{claim_name(number)}"))
    by = ""
    if claim:
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(claim["renewed_at"]))
        by = f", by process {claim['process']} of {claim['host'].split()[0]}, last seen {at}"
    return CheckpointExistsError(
        f"Step {step} is being saved to {where}{by}. If that process has crashed, its claim ends "
        "with its lease, Saver(..., lease=seconds).",
        f"To save nevertheless write saver.save(tree, {step}, overwrite=True): the save that "
        "completes last is the checkpoint.",
    )
