"""The file ``checkpoint`` of a directory, in which TensorFlow lists its checkpoints.

It is a ``CheckpointState`` in protobuf's text format, a field a line::

    model_checkpoint_path: "model-200"
    all_model_checkpoint_paths: "model-100"
    all_model_checkpoint_paths: "model-200"
    all_model_checkpoint_timestamps: 1700000000.25
    last_preserved_timestamp: 1699990000.5

The first is the latest; the others are from old to new, the last of them the latest again.
``tf.train.Saver`` writes no times. A path that isn't absolute starts at the directory. Strings
are in double or single quotes, with C's escapes (bytes in octal or hexadecimal), and pieces side
by side are one; ``#`` begins a comment.
"""

import contextlib
import os
import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

from .._errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointValueError,
    listed,
)
from .._stores.disk import flush
from .._stores.errors import failing_writes
from .._stores.paths import is_url, local, readable
from ._mapped_files import map_file

_FIELD = re.compile(
    r"(?P<key>[A-Za-z_]\w*) *: *"
    r"(?P<value>(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[-+.\w]+)"
    r"(?:\s*(?:\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'))*)[ ,;]*"
)
_QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'")
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))")
_LETTERS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
_SHOWN = {control: f"\\{control:03o}" for control in (*range(32), 127)}
_SHOWN |= {ord(c): f"\\{e}" for c, e in zip("\n\r\t\"'\\", "nrt\"'\\", strict=True)}


@dataclass(frozen=True)
class CheckpointState:
    """The contents of TensorFlow's state file of a directory, ``checkpoint``.

    Attributes:
        model_checkpoint_path: The latest checkpoint.
        all_model_checkpoint_paths: All that are kept, from old to new.
        all_model_checkpoint_timestamps: When each was saved, or ``()``.
        last_preserved_timestamp: When the last one was saved that is kept for good, or None.
    """

    model_checkpoint_path: str
    all_model_checkpoint_paths: tuple[str, ...] = ()
    all_model_checkpoint_timestamps: tuple[float, ...] = ()
    last_preserved_timestamp: float | None = None


def parse(text: str, name: str) -> CheckpointState:
    """Read the text of TensorFlow's state file.

    Raises:
        CheckpointError: If it isn't one.
    """
    found: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        at = 0
        line = line.strip()
        while at < len(line) and line[at] != "#":
            field = _FIELD.match(line, at)
            if not field:
                raise CheckpointError(
                    f"{name}, line {number}: expected a field of a CheckpointState such as "
                    f'model_checkpoint_path: "model-1", found {line[at : at + 60]!r}. Write the '
                    "file again, or name a checkpoint instead of its directory."
                )
            found.setdefault(field["key"], []).append(field["value"])
            at = field.end()
    times = found.get("last_preserved_timestamp", [])
    return CheckpointState(
        _unquoted_path(found.get("model_checkpoint_path", ['""'])[-1], name),
        tuple(_unquoted_path(path, name) for path in found.get("all_model_checkpoint_paths", ())),
        tuple(_time_of(stamp, name) for stamp in found.get("all_model_checkpoint_timestamps", ())),
        _time_of(times[-1], name) if times else None,
    )


def text_of(state: CheckpointState) -> str:
    """The text of a state file, as TensorFlow writes it."""
    lines = [f"model_checkpoint_path: {_quoted_path(state.model_checkpoint_path)}"]
    for path in state.all_model_checkpoint_paths:
        lines.append(f"all_model_checkpoint_paths: {_quoted_path(path)}")
    for stamp in state.all_model_checkpoint_timestamps:
        lines.append(f"all_model_checkpoint_timestamps: {stamp!r}")
    if state.last_preserved_timestamp is not None:
        lines.append(f"last_preserved_timestamp: {state.last_preserved_timestamp!r}")
    return "\n".join(lines) + "\n"


def read_state(
    directory: str | os.PathLike[str], name: str = "checkpoint"
) -> CheckpointState | None:
    """The contents of TensorFlow's state file of a directory, with paths that begin there.

    Returns:
        The state, or None if there is no such file.

    Raises:
        CheckpointError: If it can't be read, or names no checkpoint.

    Source:
        ``tf.train.get_checkpoint_state``, which takes a file that it can't read for none.
    """
    directory = readable(directory)
    state = _read_unchanged(os.path.join(directory, name))
    if state is None:
        return None
    return replace(
        state,
        model_checkpoint_path=_joined_path(directory, state.model_checkpoint_path),
        all_model_checkpoint_paths=tuple(
            _joined_path(directory, path) for path in state.all_model_checkpoint_paths
        ),
    )


def _joined_path(directory: str, path: str) -> str:
    """A path of TensorFlow's state file, joined to its directory unless it is absolute or a URL."""
    return path if is_url(path) else os.path.join(directory, path)


def write_state(
    directory: str | os.PathLike[str], state: CheckpointState, name: str = "checkpoint"
) -> None:
    """Write TensorFlow's state file of a directory, at once, as `read_state` gives it back.

    Args:
        directory: Where the checkpoints are.
        state: What to write. The latest checkpoint is appended to all if it isn't the last of
            them. If the directory is a relative path, relative paths in it begin in the working
            directory, as the directory's does, and are written as they are seen from it; else
            they begin in the directory, and are written as they are.
        name: What the file is called.

    Raises:
        CheckpointValueError: If some paths have a time and others not, or the latest checkpoint
            is ``""`` or the state file itself.
        CheckpointError: If the file can't be written.

    Source:
        ``tf.train.update_checkpoint_state``, whose file is the same, byte for byte. A difference:
        a latest checkpoint that is the state file is a ``RuntimeError`` there.
    """
    directory = local(directory)
    file = os.path.join(directory, name)
    if not state.model_checkpoint_path:
        raise CheckpointValueError(
            f"model_checkpoint_path of what is written to {file!r} is empty: name the latest "
            "checkpoint."
        )
    if file == state.model_checkpoint_path:
        raise CheckpointValueError(
            f"The latest checkpoint, {file!r}, is the state file itself, which would overwrite it. "
            "Give the state file another name: tf_checkpoint.write_state(directory, state, "
            "'another')."
        )
    _write_file(file, _seen_from(directory, _with_latest(state)))


def _with_latest(state: CheckpointState) -> CheckpointState:
    """The contents of TensorFlow's state file, with the latest checkpoint as the last of all."""
    paths, times = state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps
    if paths[-1:] != (state.model_checkpoint_path,):
        paths = (*paths, state.model_checkpoint_path)
    if times and len(times) != len(paths):
        raise CheckpointValueError(
            f"{len(times)} timestamps for {len(paths)} checkpoints, {listed(paths, most=3)}, the "
            "latest among them: give one for each, or none."
        )
    return replace(state, all_model_checkpoint_paths=paths)


def _seen_from(directory: str, state: CheckpointState) -> CheckpointState:
    """The contents of TensorFlow's state file, with paths relative to its directory."""
    if os.path.isabs(directory):
        return state

    def seen(path: str) -> str:
        return path if os.path.isabs(path) else os.path.relpath(path, directory)

    return replace(
        state,
        model_checkpoint_path=seen(state.model_checkpoint_path),
        all_model_checkpoint_paths=tuple(map(seen, state.all_model_checkpoint_paths)),
    )


def _write_file(file: str, state: CheckpointState) -> None:
    """Write TensorFlow's state file; what the system refuses is a `CheckpointError`."""
    with failing_writes(file):
        _replace_file(file, text_of(state).encode())


def _replace_file(path: str, data: bytes) -> None:
    """Write TensorFlow's state file so that readers never see it incomplete."""
    temporary = f"{path}.tempstate{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    flush(Path(path).parent)


def check_state(prefix: str) -> None:
    """Raise now if `append_state` would find a state file that it can't read."""
    _read_unchanged(os.path.join(os.path.dirname(prefix), "checkpoint"))


def append_state(prefix: str) -> None:
    """Name a checkpoint as the latest one in TensorFlow's state file of its directory.

    Its path is written relative to the directory, which may be moved then. If the others have
    times, it gets the present one.
    """
    directory, path = os.path.split(prefix)
    state = _read_unchanged(os.path.join(directory, "checkpoint")) or CheckpointState("")
    paths, times = state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps
    timed = len(times) == len(paths) > 0
    same = (path, os.path.abspath(prefix))
    kept = [place for place, other in enumerate(paths) if other not in same]
    _write_file(
        os.path.join(directory, "checkpoint"),
        CheckpointState(
            path,
            (*(paths[place] for place in kept), path),
            (*(times[place] for place in kept), time.time()) if timed else (),
            state.last_preserved_timestamp,
        ),
    )


def _read_unchanged(file: str) -> CheckpointState | None:
    """The contents of TensorFlow's state file, with the paths that it has; None without one."""
    try:
        data = map_file(file).data.tobytes()
    except CheckpointNotFoundError:
        return None
    try:
        state = parse(data.decode(), file)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}, offset {error.start}: expected UTF-8.") from None
    if not state.model_checkpoint_path:
        raise CheckpointError(
            f'{file} names no checkpoint: expected a line such as model_checkpoint_path: "model-1".'
        )
    return state


def _quoted_path(path: str) -> str:
    """A path in quotes, with the escapes of TensorFlow's state file."""
    shown = path.translate(_SHOWN)
    # Bytes of a file's name that are not UTF-8 were decoded to lone surrogates.
    return '"' + re.sub("[\udc80-\udcff]", lambda lone: f"\\{ord(lone[0]) & 0xFF:03o}", shown) + '"'


def _unquoted_path(value: str, name: str) -> str:
    """The path that a state file has in quotes, without their escapes."""
    pieces = [double or single for double, single in _QUOTED.findall(value)]
    if value[0] not in "\"'":
        raise CheckpointError(f"{name}: expected a path in quotes, found {value!r}.")
    raw = _ESCAPE.sub(_unescaped_byte, "".join(pieces).encode())
    if b"\0" in raw:
        raise CheckpointError(f"{name}: expected a path, found one with a NUL: {value!r}.")
    return os.fsdecode(raw)


def _unescaped_byte(escape: re.Match[bytes]) -> bytes:
    """The byte that an escape in a state file stands for."""
    octal, hexadecimal, letter = escape.groups()
    if letter:
        return bytes([_LETTERS.get(letter[0], letter[0])])
    return bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)])


def _time_of(value: str, name: str) -> float:
    """A time in TensorFlow's state file, in seconds."""
    try:
        return float(value)
    except ValueError:
        raise CheckpointError(f"{name}: expected a time in seconds, found {value!r}.") from None
