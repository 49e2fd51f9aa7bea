"""Finding checkpoints: which steps a directory has, and opening one of them.

A step is committed if it is listed; it is *sound* if its index and the sizes of its files are
what was saved. Others may save, replace and remove steps meanwhile, so what was found may be gone
a moment later: `changed` tells that from damage.

Imports: `_errors`, `_foreign`, `_index`, `_source`; standard library.
"""

import os
import warnings
from pathlib import Path

from .._errors import CheckpointError, CheckpointNotFoundError, listed
from ._foreign import foreign_steps, open_foreign
from ._index import FILE_NAME, Index, check_files, read_index
from ._source import OwnSource, Source

# How often a directory is listed anew when the steps in it are gone. A writer that removes them
# faster than an index is read would have to save thousands of times a second.
_ATTEMPTS = 100


def committed_steps(directory: Path) -> tuple[int, ...]:
    """The steps that are committed, in ascending order."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(int(n) for n in names if _is_step(n) and _has_index(directory / n)))


def newest_step(directory: Path) -> int | None:
    """The newest sound step, or None if no step is committed.

    Warns of every newer one, which is damaged.

    Raises:
        CheckpointError: If steps are committed, and none is sound.
        OSError: If the directory can't be listed.
    """
    found = _newest(directory)
    return None if found is None else found[0]


def open_checkpoint(directory: Path, step: int | str | os.PathLike[str] | None) -> Source:
    """Open a checkpoint for reading.

    Args:
        directory: That of a Saver; or what another library wrote, a file or a directory.
        step: A step of it; the newest sound one if None; or the path of a checkpoint, or of a
            directory of them.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it is damaged.
    """
    if step is not None and not isinstance(step, int):
        path = Path(os.path.abspath(os.path.expanduser(step)))
        own = _open_own(path, int(path.name)) if _is_step(path.name) else None
        return own or open_checkpoint(path, None)
    if step is not None:
        return _open_step(directory, step)
    found = _newest(directory)
    if found is not None:
        return OwnSource(directory / str(found[0]), found[1])
    foreign = open_foreign(directory)
    if foreign is not None:
        return foreign
    steps = foreign_steps(directory)
    for path in reversed(steps.values()):
        foreign = open_foreign(path)
        assert foreign is not None
        return foreign
    raise CheckpointNotFoundError(
        f"There is no checkpoint in {directory}. Save one with saver.save(tree, step), or give the "
        "directory or file that has one, of jscope, Orbax, Flax, safetensors, NumPy or TensorFlow."
    )


def sound_step_before(directory: Path, step: int) -> int | None:
    """The newest sound step before another."""
    for earlier in reversed(committed_steps(directory)):
        if earlier < step and _is_sound(directory / str(earlier), earlier):
            return earlier
    return None


def cannot_be_read(path: Path, directory: Path, step: int, error: Exception) -> CheckpointError:
    """Compose the error: which step is damaged, how, and which one is not."""
    before = sound_step_before(directory, step)
    offer = (
        "There is no sound step before it."
        if before is None
        else f"Step {before} seems sound: saver.restore(target, step={before})."
    )
    return CheckpointError(f"Step {step} can't be read from {path}: {_text(error)}. {offer}")


def _text(error: Exception) -> str:
    # TensorStore's messages go on for pages; all of it is in the cause.
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first[:500]}"


def has_changed(source: Source) -> bool:
    """Whether a checkpoint has been replaced or removed since it was opened."""
    if not isinstance(source, OwnSource):
        return False
    try:
        return read_index(source.path, source.index.step).save_id != source.index.save_id
    except (OSError, ValueError):
        return not _has_index(source.path)


def _newest(directory: Path) -> tuple[int, Index] | None:
    for _ in range(_ATTEMPTS):
        steps = committed_steps(directory)
        damaged: list[str] = []
        for step in reversed(steps):
            path = directory / str(step)
            try:
                index = read_index(path, step)
                check_files(path, index)
            except (OSError, ValueError) as error:
                if not _has_index(path):
                    break  # removed meanwhile: list anew
                damaged.append(f"Step {step} can't be read from {path}: {_text(error)}")
                continue
            for text in damaged:
                warnings.warn(f"{text}. Step {step} is the newest sound one.", stacklevel=2)
            return step, index
        else:
            if not damaged:
                return None
            raise CheckpointError(". ".join([*damaged, "There is no sound step"]) + ".")
    raise CheckpointError(
        f"The steps in {directory} are removed faster than they can be read. Keep more of them: "
        "Saver(directory, max_to_keep=...)."
    )


def _is_sound(path: Path, step: int) -> bool:
    try:
        check_files(path, read_index(path, step))
    except (OSError, ValueError):
        return False
    return True


def _open_step(directory: Path, step: int) -> Source:
    path = directory / str(step)
    own = _open_own(path, step)
    if own is not None:
        return own
    steps = foreign_steps(directory)
    foreign = open_foreign(steps[step]) if step in steps else None
    if foreign is not None:
        return foreign
    known = committed_steps(directory) or tuple(steps)
    those = f"steps {listed(known, most=20)}" if known else "no checkpoint at all"
    raise CheckpointNotFoundError(
        f"There is no step {step} in {directory}; it has {those}. Leave the step out for the "
        "latest one."
    )


def _open_own(path: Path, step: int) -> OwnSource | None:
    try:
        return OwnSource(path, read_index(path, step))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise cannot_be_read(path, path.parent, step, error) from error


def _is_step(name: str) -> bool:
    # int() would take "012" and "١٢" too, which are not what save writes.
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")


def _has_index(path: Path) -> bool:
    return (path / FILE_NAME).is_file()
