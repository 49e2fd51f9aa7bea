"""``checkpoint``: the state file of a directory, with facts that its checkpoints don't have.

It is one JSON object, in the format of `_sealed_json`, replaced as a whole after each save::

    {"format": "jscope-state", "version": 1, "kept_until": 1764040000.0,
     "checkpoints": [
       {"step": 12, "save_id": "9f6c...", "saved_at": 1764043600.0, "metrics": {"loss": 0.5},
        "kept": false}]}

* ``checkpoints`` are in the order in which they were saved, the newest last.
* ``kept`` ones are never evicted: `_retention` kept them for good.
* ``kept_until`` is the moment up to which ``keep_checkpoint_every_n_hours`` was applied.

**The directory decides which checkpoints exist**, not this file: one that is not in the file is
found and counted, one that is gone is not. If the file is gone, no checkpoint is kept for good; if
it is damaged, all are, since any of them may have been.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._errors import CheckpointError, CheckpointWarning
from .._stores.files import read_file
from .._stores.remote import AnyPath
from . import _json_members
from ._json_members import member
from ._own_index import listed_save_id, read_header
from ._sealed_json import sealed, unsealed

FILE_NAME = "checkpoint"
_FORMAT, _VERSION = "jscope-state", 1


@dataclasses.dataclass(frozen=True)
class Record:
    """A checkpoint in the state file of a Saver."""

    step: int
    save_id: str
    saved_at: float
    metrics: Mapping[str, float]
    kept: bool = False


@dataclasses.dataclass(frozen=True)
class State:
    """The contents of a Saver's state file: its records, in the order in which they were saved."""

    records: tuple[Record, ...] = ()
    kept_until: float | None = None


def read_state(
    directory: AnyPath, steps: Mapping[int, AnyPath], newest: Record | None = None
) -> State:
    """The state file of a Saver's directory, with exactly the checkpoints that are there.

    Args:
        directory: The directory.
        steps: The checkpoints that are there, from step to path.
        newest: One that has just been saved.

    Raises:
        CheckpointError: If the file is TensorFlow's.
    """
    known, damage = _read_file(directory)
    if damage:
        warnings.warn(
            f"The state file in {directory} is damaged, so it is unknown which checkpoints "
            f"were to be kept for good: now all are. {damage}",
            CheckpointWarning,
            stacklevel=2,
        )
    found = {record.step: record for record in known.records}
    records = []
    for step, path in steps.items():
        if newest is not None and step == newest.step:
            continue
        if step not in found or found[step].save_id != listed_save_id(path):
            # Saved by a process that crashed before it could record it.
            record = _record_of_index(step, path)
        else:
            record = found[step]
        records.append(dataclasses.replace(record, kept=True) if damage else record)
    positions = {record.save_id: i for i, record in enumerate(known.records)}

    def position(record: Record) -> float:
        # A checkpoint that is not in the file may be newer, or evicted by a process that crashed
        # before removing it. Its own time decides; a damaged one has time zero.
        before = sum(other.saved_at <= record.saved_at for other in known.records)
        return positions.get(record.save_id, before - 0.5)

    records.sort(key=lambda record: (position(record), record.saved_at))
    if newest is not None:
        records.append(newest)
    return State(tuple(records), known.kept_until)


def remembered(directory: AnyPath) -> frozenset[int]:
    """The steps that a Saver's state file lists, whether they are there or not."""
    return frozenset(record.step for record in _read_file(directory)[0].records)


def remembered_saves(directory: AnyPath) -> frozenset[str]:
    """The ids of the saves that a Saver's state file lists."""
    return frozenset(record.save_id for record in _read_file(directory)[0].records)


def write_state(path: Path, state: State) -> None:
    """Write a Saver's state file, which is then to be flushed and to replace the old one."""
    path.write_bytes(state_bytes(state))


def state_bytes(state: State) -> bytes:
    """The contents of a Saver's state file, as JSON with a checksum."""
    members = {
        "format": _FORMAT,
        "version": _VERSION,
        "kept_until": state.kept_until,
        "checkpoints": [
            {**dataclasses.asdict(record), "metrics": _json_members.numbers_to_json(record.metrics)}
            for record in state.records
        ],
    }
    return sealed(members)


def _read_file(directory: AnyPath) -> tuple[State, str]:
    """The contents of a Saver's state file, or how it is damaged."""
    try:
        data = read_file(directory / FILE_NAME)
    except FileNotFoundError:
        return State(), ""
    except ValueError as error:
        return State(), str(error)
    if data.startswith(b"model_checkpoint_path:"):
        raise CheckpointError(
            f"{directory / FILE_NAME} is TensorFlow's list of its checkpoints. Give the Saver a "
            "directory of its own."
        )
    try:
        return _state_of(unsealed(data, FILE_NAME, format=_FORMAT, version=_VERSION)), ""
    except ValueError as error:
        return State(), str(error)


def _state_of(members: Mapping[str, Any]) -> State:
    """The contents of a Saver's state file, from its members."""
    records = tuple(map(_record_of, member(members, "checkpoints", _json_members.sequence)))
    if len({record.step for record in records}) < len(records):
        raise ValueError("it has a step twice")
    until = None
    if members.get("kept_until") is not None:
        until = member(members, "kept_until", _json_members.seconds)
    return State(records, until)


def _record_of(value: object) -> Record:
    """A record of a Saver's state file, from its members."""
    members = _json_members.mapping(value)
    return Record(
        step=member(members, "step", _json_members.step),
        # The only facts of a checkpoint that was damaged when the file was written.
        save_id=member(
            members, "save_id", lambda id: id if id == "" else _json_members.save_id(id)
        ),
        saved_at=member(members, "saved_at", _json_members.seconds),
        metrics=member(members, "metrics", _json_members.numbers_from_json),
        kept=member(members, "kept", _json_members.flag),
    )


def _record_of_index(step: int, path: AnyPath) -> Record:
    """The state file's record of a checkpoint that it lacks, from the checkpoint's index."""
    try:
        index = read_header(path, step)
    except (OSError, ValueError):
        return Record(step, "", 0.0, {})
    return Record(step, index.save_id, index.saved_at, index.metrics)
