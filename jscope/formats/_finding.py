"""Finding checkpoints: the newest one that can be loaded, and opening one.

A step is *intact* if its index is, and its other files have the sizes, and small ones the
checksums, of the index. Other processes may save, replace and remove steps meanwhile, so a found
step may be gone later; `has_changed` distinguishes that from damage.
"""

import os
import warnings
from pathlib import Path

from .. import tf_checkpoint
from .._errors import CheckpointError, CheckpointNotFoundError, CheckpointWarning, listed
from .._paths import absolute
from ._foreign import foreign_steps, has_tensorflows, is_foreign, open_foreign
from ._index import FILE_NAME, Index, check_files, read_index, read_save_id
from ._listing import checkpoints, committed_steps, has_index, path_of
from ._source import OwnSource, Source
from ._state import remembered

# How often a directory is listed again because the listed steps are gone. A writer would have to
# remove them faster than an index is read, each time.
_ATTEMPTS = 100


def newest_step(directory: Path) -> int | None:
    """The newest intact step, or None if nothing is saved.

    Warns of each newer one, which is damaged.

    Raises:
        CheckpointError: If steps are saved, and none of them is intact.
        OSError: If the directory can't be listed.
    """
    found = _newest(directory)
    return None if found is None else found.index.step


def newest_path(directory: Path) -> Path | None:
    """The path of the newest checkpoint, of jscope or else another library; None if there is none.

    Raises:
        CheckpointError: As `newest_step`.
    """
    try:
        found = _newest(directory)
    except NotADirectoryError:
        return None
    if found is not None:
        return found.path
    steps = foreign_steps(directory)
    if steps:
        return steps[max(steps)]
    prefix = tf_checkpoint.latest_checkpoint(directory) if has_tensorflows(directory) else None
    return None if prefix is None else Path(prefix)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a checkpoint, not a directory of them; intact or not."""
    own = has_index(path)
    return own or (is_foreign(path) and not has_tensorflows(path))


def open_checkpoint(directory: Path, step: int | str | os.PathLike[str] | None) -> Source:
    """Open a checkpoint for reading.

    Args:
        directory: That of a Saver; or another library's file or directory.
        step: A step of it; the newest intact one if None; or the path of a checkpoint, or of a
            directory of them.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it is damaged.
    """
    if isinstance(step, int):
        return _open_step(directory, step)
    if step is not None:
        return open_checkpoint(absolute(step), None)
    own = _open_own(directory, directory.parent, None)
    if own is not None:
        return own
    try:
        return _newest(directory) or _newest_foreign(directory)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        if isinstance(error, NotADirectoryError):
            return _newest_foreign(directory)
        raise CheckpointError(f"{directory} can't be read: {_text(error)}") from error


def has_changed(source: Source) -> bool:
    """Whether a checkpoint has been replaced or removed since it was opened."""
    if not isinstance(source, OwnSource):
        return False
    return read_save_id(source.path) != source.index.save_id


def cannot_be_read(path: Path, directory: Path, step: int, error: Exception) -> CheckpointError:
    """Compose the error: which step is damaged, how, and which one is intact."""
    before = _intact_step_before(directory, step)
    facts = f"Step {step} can't be read from {path}: {_text(error)}."
    if before is None:
        return CheckpointError(f"{facts} There is no intact step before it.")
    return CheckpointError(
        f"{facts} Step {before} seems intact, in {directory / str(before)}.",
        f"Write saver.restore(target, step={before}).",
    )


def _newest(directory: Path) -> OwnSource | None:
    for _ in range(_ATTEMPTS):
        # In this order, or a step that is committed between the two would be in the state file and
        # not found.
        known = _remembered(directory)
        found = checkpoints(directory)
        damaged: dict[int, Exception] = {
            step: ValueError(f"{FILE_NAME} is gone")
            for step in known - found.keys()
            if (directory / str(step)).is_dir()
        }
        intact = _newest_intact(found, damaged)
        if intact is not None:
            step = intact.index.step
            for other in sorted(step_ for step_ in damaged if step_ > step):
                text = _text(damaged[other])
                warnings.warn(
                    f"Step {other} can't be read from {directory / str(other)}: {text}. Step "
                    f"{step} is the newest intact one.",
                    CheckpointWarning,
                    stacklevel=2,
                )
            return intact
        if damaged:
            texts = [
                f"Step {step} can't be read from {directory / str(step)}: {_text(error)}"
                for step, error in sorted(damaged.items(), reverse=True)
            ]
            first = damaged[max(damaged)]
            raise CheckpointError(". ".join([*texts, "There is no intact step."])) from first
        if not found and not known:
            return None
    if not found:
        return None
    raise CheckpointError(
        f"The steps in {directory} are removed faster than they can be read.",
        "Keep more of them: Saver(directory, max_to_keep=...).",
    )


def _newest_intact(found: dict[int, Path], damaged: dict[int, Exception]) -> OwnSource | None:
    """The newest intact one; those above it that are there are added to ``damaged``."""
    for step, path in reversed(found.items()):
        try:
            return OwnSource(path, _intact_index(path, step))
        except (OSError, ValueError) as error:
            # Otherwise it was removed meanwhile.
            if has_index(path):
                damaged[step] = error
    return None


def _intact_index(path: Path, step: int) -> Index:
    for _ in range(_ATTEMPTS):
        index = read_index(path, step)
        try:
            check_files(path, index)
        except (OSError, ValueError):
            # Or another save has replaced it since its index was read.
            if read_save_id(path) == index.save_id:
                raise
        else:
            return index
    raise ValueError("it is replaced faster than it can be read")


def _remembered(directory: Path) -> frozenset[int]:
    try:
        return remembered(directory)
    except OSError:
        return frozenset()


def _intact_step_before(directory: Path, step: int) -> int | None:
    for earlier, path in reversed(checkpoints(directory).items()):
        try:
            if earlier < step:
                return _intact_index(path, earlier).step
        except (OSError, ValueError):
            continue
    return None


def _open_step(directory: Path, step: int) -> Source:
    path = path_of(directory, step) if directory.is_dir() else None
    own = None if path is None else _open_own(path, directory, step)
    if own is not None:
        return own
    steps = foreign_steps(directory)
    if step in steps:
        foreign = _open_foreign(steps[step])
        if foreign is not None:
            return foreign
    known = (committed_steps(directory) if directory.is_dir() else ()) or tuple(steps)
    those = f"steps {listed(known, most=20)}" if known else "no checkpoint at all"
    raise CheckpointNotFoundError(
        f"There is no step {step} in {directory}; it has {those}. Leave the step out for the "
        "latest one."
    )


def _open_own(path: Path, directory: Path, step: int | None) -> OwnSource | None:
    try:
        return OwnSource(path, read_index(path, step))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        if step is None:
            raise CheckpointError(f"{path} can't be read: {_text(error)}") from error
        raise cannot_be_read(path, directory, step, error) from error


def _newest_foreign(directory: Path) -> Source:
    foreign = _open_foreign(directory)
    steps = {} if foreign is not None else foreign_steps(directory)
    if steps:
        foreign = _open_foreign(steps[max(steps)])
    if foreign is not None:
        return foreign
    raise CheckpointNotFoundError(
        f"There is no checkpoint in {directory}. Give the directory or file that has one, of "
        "jscope, Orbax, Flax, safetensors, NumPy or TensorFlow.",
        "Or save one: saver.save(tree, step).",
    )


def _open_foreign(path: Path) -> Source | None:
    try:
        return open_foreign(path)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {path} can't be read: {_text(error)}") from error


def _text(error: Exception) -> str:
    # TensorStore's messages have hundreds of lines; the whole text is in the cause.
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first[:500]}"
