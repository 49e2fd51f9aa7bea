"""Where checkpoints are: a directory's file ``checkpoint``, and the files that a path means.

The file ``checkpoint`` lists a directory's checkpoints. It is a ``CheckpointState`` in protobuf's
text format, a field a line::

    model_checkpoint_path: "model-200"
    all_model_checkpoint_paths: "model-100"
    all_model_checkpoint_paths: "model-200"
    all_model_checkpoint_timestamps: 1700000000.25
    last_preserved_timestamp: 1699990000.5

The first is the latest; the others are from old to new, the last of them the latest again.
``tf.train.Saver`` writes no times. A path that isn't absolute starts at the directory. Strings
are in double or single quotes, with C's escapes (bytes in octal or hexadecimal), and pieces side
by side are one; ``#`` begins a comment.

The path of a checkpoint may be

===========================================  =======================================
``model-1``                                  the prefix of a V2 checkpoint, a V1 file, or the
                                             first part of the names of V1 shards
``model-1.index``, ``.meta``, ``.data-...``  that prefix
``model-1-00000-of-00002``                   all shards of that V1 checkpoint
``model-?????-of-00002``, any other glob     what it matches, if that is one checkpoint
a directory                                  the latest one that its file ``checkpoint`` names;
                                             without such a file, a SavedModel's variables, or
                                             the one checkpoint that is there
===========================================  =======================================

`_paths` defines which paths are URLs. Where two checkpoints could be meant, it is an error
that lists them.
"""

import glob
import os
import re
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

from .._errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointValueError,
    listed,
    near,
)
from .._paths import local
from ._files import appear, map_file, writing
from ._table import MAGIC

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
_DATA = re.compile(r"\.data-\d{5,}-of-\d{5,}$")
_SHARD = re.compile(r"-(?:\d{5}|\?{5})-of-(\d{5})$")


# The file `checkpoint`.


@dataclass(frozen=True)
class CheckpointState:
    """The contents of the file ``checkpoint`` of a directory.

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
    """Read the text of a state file.

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
        _unquoted(found.get("model_checkpoint_path", ['""'])[-1], name),
        tuple(_unquoted(path, name) for path in found.get("all_model_checkpoint_paths", ())),
        tuple(_time(stamp, name) for stamp in found.get("all_model_checkpoint_timestamps", ())),
        _time(times[-1], name) if times else None,
    )


def text_of(state: CheckpointState) -> str:
    """The text of a state file, as TensorFlow writes it."""
    lines = [f"model_checkpoint_path: {_quoted(state.model_checkpoint_path)}"]
    for path in state.all_model_checkpoint_paths:
        lines.append(f"all_model_checkpoint_paths: {_quoted(path)}")
    for stamp in state.all_model_checkpoint_timestamps:
        lines.append(f"all_model_checkpoint_timestamps: {stamp!r}")
    if state.last_preserved_timestamp is not None:
        lines.append(f"last_preserved_timestamp: {state.last_preserved_timestamp!r}")
    return "\n".join(lines) + "\n"


def read_state(
    directory: str | os.PathLike[str], name: str = "checkpoint"
) -> CheckpointState | None:
    """The contents of a directory's state file, with paths that begin with the directory.

    Returns:
        The state, or None if there is no such file.

    Raises:
        CheckpointError: If it can't be read, or names no checkpoint.

    Source:
        ``tf.train.get_checkpoint_state``, which takes a file that it can't read for none.
    """
    directory = local(directory)
    state = _stored(os.path.join(directory, name))
    if state is None:
        return None
    return replace(
        state,
        model_checkpoint_path=os.path.join(directory, state.model_checkpoint_path),
        all_model_checkpoint_paths=tuple(
            os.path.join(directory, path) for path in state.all_model_checkpoint_paths
        ),
    )


def write_state(
    directory: str | os.PathLike[str], state: CheckpointState, name: str = "checkpoint"
) -> None:
    """Write the state file of a directory, at once, such that `read_state` gives it back.

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
    _write(file, _seen_from(directory, _with_latest(state)))


def _with_latest(state: CheckpointState) -> CheckpointState:
    """With the latest checkpoint as the last of all."""
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
    """With relative paths from the directory instead of the working directory, as TF has it."""
    if os.path.isabs(directory):
        return state

    def seen(path: str) -> str:
        return path if os.path.isabs(path) else os.path.relpath(path, directory)

    return replace(
        state,
        model_checkpoint_path=seen(state.model_checkpoint_path),
        all_model_checkpoint_paths=tuple(map(seen, state.all_model_checkpoint_paths)),
    )


def _write(file: str, state: CheckpointState) -> None:
    with writing(file):
        appear(file, text_of(state).encode())


def check_state(prefix: str) -> None:
    """Raise now if `append_state` would find a state file that it can't read."""
    _stored(os.path.join(os.path.dirname(prefix), "checkpoint"))


def append_state(prefix: str) -> None:
    """Name a checkpoint as the latest of its directory.

    Its path is written relative to the directory, which may be moved then. If the others have
    times, it gets the present one.
    """
    directory, path = os.path.split(prefix)
    state = _stored(os.path.join(directory, "checkpoint")) or CheckpointState("")
    paths, times = state.all_model_checkpoint_paths, state.all_model_checkpoint_timestamps
    timed = len(times) == len(paths) > 0
    same = (path, os.path.abspath(prefix))
    kept = [place for place, other in enumerate(paths) if other not in same]
    _write(
        os.path.join(directory, "checkpoint"),
        CheckpointState(
            path,
            (*(paths[place] for place in kept), path),
            (*(times[place] for place in kept), time.time()) if timed else (),
            state.last_preserved_timestamp,
        ),
    )


def _stored(file: str) -> CheckpointState | None:
    """The contents of a state file, unchanged."""
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


def _quoted(path: str) -> str:
    shown = path.translate(_SHOWN)
    # Bytes of a file's name that are not UTF-8 were decoded to lone surrogates.
    return '"' + re.sub("[\udc80-\udcff]", lambda lone: f"\\{ord(lone[0]) & 0xFF:03o}", shown) + '"'


def _unquoted(value: str, name: str) -> str:
    pieces = [double or single for double, single in _QUOTED.findall(value)]
    if value[0] not in "\"'":
        raise CheckpointError(f"{name}: expected a path in quotes, found {value!r}.")
    raw = _ESCAPE.sub(_unescaped, "".join(pieces).encode())
    if b"\0" in raw:
        raise CheckpointError(f"{name}: expected a path, found one with a NUL: {value!r}.")
    return os.fsdecode(raw)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = escape.groups()
    if letter:
        return bytes([_LETTERS.get(letter[0], letter[0])])
    return bytes([int(octal, 8) & 0xFF if octal else int(hexadecimal, 16)])


def _time(value: str, name: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise CheckpointError(f"{name}: expected a time in seconds, found {value!r}.") from None


# From a path to files.


class Found(NamedTuple):
    """A checkpoint's location.

    Attributes:
        version: 1 or 2.
        prefix: What its files' names have in common.
        files: The index of a V2 checkpoint, or the files of a V1 checkpoint.
    """

    version: int
    prefix: str
    files: tuple[str, ...]


def locate(path: str | os.PathLike[str]) -> Found:
    """Find the checkpoint that a path means.

    Raises:
        CheckpointNotFoundError: If there is none, or more than one.
        CheckpointValueError: If it is a URL of another machine or store.
    """
    path = local(path)
    if "\0" in path:
        raise CheckpointNotFoundError(f"No file can be called {path!r}.")
    if os.path.isdir(path):
        return _in_directory(path)
    found = _exactly(path) or _stripped(path) or _matched(path)
    if found:
        return found
    there = _prefixes(os.path.dirname(path) or ".")
    raise CheckpointNotFoundError(
        f"No checkpoint at {path!r}: neither {path}.index nor {path} is a file "
        f"({near(path, there) if there else 'and there is no checkpoint beside it'})."
    )


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a path means one checkpoint that is there, whole or damaged.

    Raises:
        CheckpointError: If it is one of which some files are missing.
    """
    path = local(path)
    if "\0" in path or os.path.isdir(path):
        return False
    found = _exactly(path) or _stripped(path)
    return found is not None and (found.version == 2 or _is_table(found.files[0]))


def prefixes(directory: str | os.PathLike[str]) -> tuple[str, ...]:
    """The checkpoints of a directory: of V2 all, of V1 those in the state file that are there."""
    state = read_state(directory)
    named = () if state is None else state.all_model_checkpoint_paths
    older = [path for path in named if (found := _exactly(path)) and found.version == 1]
    return (*sorted(_prefixes(local(directory))), *older)


def latest_checkpoint(
    checkpoint_dir: str | os.PathLike[str], latest_filename: str | None = None
) -> str | None:
    """The latest checkpoint that the state file of a directory names.

    Args:
        checkpoint_dir: The directory.
        latest_filename: What its state file is called; None is ``"checkpoint"``.

    Returns:
        Its prefix (of V1 shards, the pattern), or None if there is no such file, or the
        checkpoint that it names isn't there any more.

    Raises:
        CheckpointError: If the state file can't be read.

    Source:
        ``tf.train.latest_checkpoint``. One difference: TF takes a state file that it can't read
        for none at all.
    """
    state = read_state(checkpoint_dir, latest_filename or "checkpoint")
    if state is None:
        return None
    path = state.model_checkpoint_path
    return path if _exactly(path) else None


def data_files(prefix: str) -> list[str]:
    """The data files of a V2 checkpoint, whichever number of them it has."""
    files = glob.glob(glob.escape(prefix) + ".data-*")
    return [file for file in files if _DATA.fullmatch(file, len(prefix))]


def _exactly(path: str) -> Found | None:
    """The checkpoint of exactly this prefix, file or shards."""
    if os.path.isfile(path + ".index"):
        return Found(2, path, (path + ".index",))
    shard = _SHARD.search(path)
    if shard and not _DATA.search(path):
        return _shards(path[: shard.start()], shard[1])
    if os.path.isfile(path) and not _suffix(path):
        return Found(1, path, (path,))
    first = glob.glob(glob.escape(path) + "-00000-of-?????")
    if len(first) == 1 and (shard := _SHARD.search(first[0])):
        return _shards(path, shard[1])
    return None


def _shards(prefix: str, count: str) -> Found | None:
    """All shards of a V1 checkpoint, if any is there."""
    files = [f"{prefix}-{shard:05d}-of-{count}" for shard in range(int(count))]
    missing = [file for file in files if not os.path.isfile(file)]
    if len(missing) == len(files):
        return None
    if missing:
        raise CheckpointNotFoundError(
            f"{len(missing)} of the {len(files)} files of {prefix!r} are missing: "
            f"{listed(missing, most=3)}. Copy them beside the others."
        )
    return Found(1, f"{prefix}-?????-of-{count}", tuple(files))


def _suffix(path: str) -> str:
    """The suffix of one of the files of a checkpoint."""
    data = _DATA.search(path)
    return data[0] if data else next((s for s in (".index", ".meta") if path.endswith(s)), "")


def _stripped(path: str) -> Found | None:
    """The checkpoint that one of its files belongs to."""
    suffix = _suffix(path)
    prefix = path.removesuffix(suffix)
    if not suffix:
        return None
    found = _exactly(prefix)
    if not found and os.path.isfile(path):
        raise CheckpointNotFoundError(
            f"{path} is there, but {prefix}.index is not. Copy it beside the other files; "
            "without it their contents are unknown."
        )
    return found


def _matched(path: str) -> Found | None:
    """The one checkpoint that a glob matches."""
    if not glob.has_magic(path):
        return None
    places = {}
    for file in glob.glob(path):
        found = _exactly(file) or _stripped(file)
        if found and (found.version == 2 or _is_table(found.files[0])):
            places[found.prefix] = found
    if len(places) > 1:
        raise CheckpointNotFoundError(
            f"{path!r} matches {len(places)} checkpoints: {listed(sorted(places))}. Name one."
        )
    return next(iter(places.values()), None)


def _is_table(path: str) -> bool:
    """Whether a file ends as a table does; a glob matches others as well."""
    return map_file(path).data[-len(MAGIC) :].tobytes() == MAGIC


def _in_directory(path: str) -> Found:
    state = read_state(path)
    there = _prefixes(path)
    if state:
        # Not as a glob: a directory from elsewhere might name one that takes forever.
        latest = state.model_checkpoint_path
        found = _exactly(latest)
        if found:
            return found
        beside = f"It has {listed(sorted(there))}: name one." if there else "It has none at all."
        raise CheckpointNotFoundError(
            f"The file {os.path.join(path, 'checkpoint')} names {latest!r}, which is not there; "
            f"perhaps the directory was moved. {beside}"
        )
    variables = os.path.join(path, "variables", "variables")
    found = _exactly(variables)
    if found:
        return found
    if len(there) != 1:
        what = f"{len(there)} checkpoints: {listed(sorted(there))}" if there else "no checkpoint"
        raise CheckpointNotFoundError(
            f"The directory {path!r} has no file named checkpoint, and {what}. Name one, such as "
            f"{os.path.join(path, 'model.ckpt-1000')!r}."
        )
    return Found(2, there[0], (there[0] + ".index",))


def _prefixes(directory: str) -> list[str]:
    """The V2 checkpoints of a directory."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    folder = "" if directory == "." else directory
    return [
        os.path.join(folder, name.removesuffix(".index"))
        for name in names
        if name.endswith(".index")
    ]
