"""A directory of a Saver's: which checkpoints it has, and the newest that can be loaded.

A checkpoint is a directory that is named by its step and holds an index. Nothing else is one, and
there is no list of them in a file.

**One exception.** Where the file system can't exchange two directories, overwriting step 12 moves
the old one to ``replaced-12`` in the staging directory, then the new one to ``12``. Between the two
the old one counts, so that there is a step 12 at every moment.

A step is *intact* if its index is, and its other files have the sizes, and small ones the
checksums, of the index. Other processes may save, replace and remove steps meanwhile, so a found
step may be gone later.
"""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, overload

from .._errors import CheckpointError, CheckpointWarning
from .._stores.errors import StoreError
from .._stores.remote import AnyPath, RemotePath, fresh
from ._own_index import FILE_NAME, Index, check_files, read_index, read_save_id
from ._own_names import StepNames, by_step, newest_index
from ._own_source import OwnSource
from ._own_state import remembered

# What the names of staging directories begin with; see `saver._staging`.
STAGING = ".tmp-"
_REPLACED = "replaced-"
# How often a directory is listed again because listed steps are gone. A writer would have to remove
# them faster than an index is read, each time.
_ATTEMPTS = 100


def replaced(staging: Path, step: int) -> Path:
    """The path of the old checkpoint by which a directory has a step that a new one replaces."""
    return staging / f"{_REPLACED}{step}"


def all_replaced(staging: Path) -> dict[int, Path]:
    """The steps that a directory has by old checkpoints, which new ones replace; their paths."""
    found: dict[int, Path] = {}
    if staging.is_symlink():
        return found
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(staging):
            step = name.removeprefix(_REPLACED)
            if step != name and _is_step(step) and has_index(staging / name):
                found[int(step)] = staging / name
    return found


class Listing(NamedTuple):
    """The steps of a Saver in a directory, and all names there, by listing it once.

    Attributes:
        names: The names in it, sorted.
        steps: Those that a Saver has saved, in ascending order, with their paths. In a store their
            indices may all be void.
        remembered: The steps of the state file, which was read before, or a step that is saved
            between the two would be in it and not found. Of a store that is not needed.
    """

    names: Sequence[str]
    steps: Mapping[int, AnyPath]
    remembered: frozenset[int]

    @property
    def is_checkpoint(self) -> bool:
        """Whether the directory itself has an index."""
        return bool(StepNames.of(self.names).indices)


def listing(directory: AnyPath) -> Listing:
    """List a directory, and the steps of a Saver in it.

    Raises:
        OSError: If it can't be listed; one that is absent has nothing in it.
    """
    known = _remembered_steps(directory) if isinstance(directory, Path) else frozenset[int]()
    return _listing(directory, known)


def _listing(directory: AnyPath, remembered: frozenset[int]) -> Listing:
    """List a directory, when the steps of its state file are known."""
    if isinstance(directory, RemotePath):
        names = directory.names()
        steps: dict[int, AnyPath] = {
            step: directory / str(step) for step, own in by_step(names).items() if own.indices
        }
        return Listing(list(dict.fromkeys(n.partition("/")[0] for n in names)), steps, remembered)
    names, found, is_all = _listed(directory)
    for _ in range(_ATTEMPTS):
        if is_all:
            break
        names, found, is_all = _listed(directory)
    return Listing(sorted(names), dict(sorted(found.items())), remembered)


@overload
def checkpoints(directory: Path) -> dict[int, Path]: ...
@overload
def checkpoints(directory: AnyPath) -> dict[int, AnyPath]: ...
def checkpoints(directory: AnyPath) -> Mapping[int, AnyPath]:
    """The steps in a Saver's directory with their checkpoints' paths, in ascending order.

    Raises:
        OSError: If the directory can't be listed; one that is absent has no checkpoints.
    """
    return valid(_listing(fresh(directory), frozenset()))


def valid(there: Listing) -> dict[int, AnyPath]:
    """The steps of a listing with their paths, but for those whose indices are void."""
    return {
        step: path
        for step, path in there.steps.items()
        if isinstance(path, Path) or has_index(path)
    }


def _listed(directory: Path) -> tuple[list[str], dict[int, Path], bool]:
    """The names in a directory, the steps with their paths, and whether none went meanwhile.

    If one was, its replacement may have come too late to be listed.
    """
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return [], {}, True
    found: dict[int, Path] = {}
    for name in names:
        if name.startswith(STAGING):
            found |= all_replaced(directory / name)
    steps = [name for name in names if _is_step(name)]
    found |= {int(name): directory / name for name in steps if has_index(directory / name)}
    is_all = all(int(name) in found or os.path.lexists(directory / name) for name in steps)
    return names, found, is_all


def committed_steps(directory: AnyPath) -> tuple[int, ...]:
    """The steps that are saved in a Saver's directory, in ascending order.

    Raises:
        OSError: As `checkpoints`.
    """
    return tuple(checkpoints(directory))


def path_of(directory: AnyPath, step: int) -> AnyPath | None:
    """The path of one of the steps in a Saver's directory at this moment; None if there is none."""
    path = directory / str(step)
    return path if has_index(path) else checkpoints(directory).get(step)


def _is_step(name: str) -> bool:
    """Whether the name of a directory is that of a step."""
    # int() would take "012" and "١٢" too, which save never writes.
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")


def has_index(path: AnyPath) -> bool:
    """Whether a step's directory is a checkpoint, intact or not; links are not followed."""
    found = newest_index(path)
    if found is None or found.number or isinstance(path, RemotePath):
        return found is not None
    file = path / FILE_NAME
    return file.is_symlink() or file.is_file()


def cannot_be_read(
    path: AnyPath, directory: AnyPath, step: int, error: Exception
) -> CheckpointError:
    """Compose the error: which step is damaged, how, and which one before it is intact."""
    before = _intact_step_before(directory, step)
    facts = f"Step {step} can't be read from {path}: {text_of(error)}."
    if before is None:
        return CheckpointError(f"{facts} There is no intact step before it.")
    return CheckpointError(
        f"{facts} Step {before} seems intact, in {directory / str(before)}.",
        f"Write saver.restore(target, step={before}).",
    )


def newest_own(directory: AnyPath, there: Listing) -> tuple[OwnSource | None, Listing]:
    """Open the newest intact step of a Saver's directory; None if no step is saved.

    Warns of each newer one, which is damaged.

    Args:
        directory: The directory.
        there: What is in it.

    Returns:
        The checkpoint; and what is in the directory, if it had to be listed again.

    Raises:
        CheckpointError: If steps are saved, and none of them is intact.
        OSError: If the directory can't be listed.
    """
    for number in range(_ATTEMPTS):
        if number:
            there = listing(fresh(directory))
            there = there._replace(steps=valid(there))
        known, found = there.remembered, there.steps
        damaged: dict[int, Exception] = {
            step: ValueError(f"{FILE_NAME} is gone")
            for step in known - found.keys()
            if (directory / str(step)).is_dir()
        }
        intact = _newest_intact(found, damaged)
        if intact is not None:
            step = intact.index.step
            for other in sorted(step_ for step_ in damaged if step_ > step):
                text = text_of(damaged[other])
                warnings.warn(
                    f"Step {other} can't be read from {directory / str(other)}: {text}. Step "
                    f"{step} is the newest intact one.",
                    CheckpointWarning,
                    stacklevel=2,
                )
            return intact, there
        if damaged:
            texts = [
                f"Step {step} can't be read from {directory / str(step)}: {text_of(error)}"
                for step, error in sorted(damaged.items(), reverse=True)
            ]
            first = damaged[max(damaged)]
            raise CheckpointError(". ".join([*texts, "There is no intact step."])) from first
        if not found and not known:
            return None, there
    if not found:
        return None, there
    raise CheckpointError(
        f"The steps in {directory} are removed faster than they can be read.",
        "Keep more of them: Saver(directory, max_to_keep=...).",
    )


def _newest_intact(found: Mapping[int, AnyPath], damaged: dict[int, Exception]) -> OwnSource | None:
    """The newest intact one of a listing's steps; damaged ones above it go to ``damaged``."""
    for step, path in sorted(found.items(), reverse=True):
        try:
            return OwnSource(path, _intact_index(path, step))
        except StoreError:
            raise
        except (OSError, ValueError) as error:
            # Otherwise it was removed meanwhile.
            if has_index(fresh(path)):
                damaged[step] = error
    return None


def _intact_index(path: AnyPath, step: int) -> Index:
    """The index of a step, read again if another save has replaced it, if the step is intact."""
    for _ in range(_ATTEMPTS):
        index = read_index(path, step)
        try:
            check_files(path, index)
        except (OSError, ValueError):
            # Or another save has replaced it since its index was read.
            path = fresh(path)
            if read_save_id(path) == index.save_id:
                raise
        else:
            return index
    raise ValueError("it is replaced faster than it can be read")


def _remembered_steps(directory: AnyPath) -> frozenset[int]:
    """The steps of a directory by its state file, for its listing; none if that can't be read."""
    try:
        return remembered(directory)
    except StoreError:
        raise
    except OSError:
        return frozenset()


def _intact_step_before(directory: AnyPath, step: int) -> int | None:
    """The newest of the intact steps in a Saver's directory before a damaged one, or None."""
    for earlier, path in reversed(checkpoints(directory).items()):
        try:
            if earlier < step:
                return _intact_index(path, earlier).step
        except (OSError, ValueError):
            continue
    return None


def open_own(path: AnyPath, directory: AnyPath, step: int | None) -> OwnSource | None:
    """Open one of the steps in a Saver's directory; None if that step has no index.

    Args:
        path: Where it is.
        directory: Where its other steps are.
        step: The step that it must be, for the error; None for any.

    Raises:
        CheckpointError: If it is damaged.
    """
    try:
        return OwnSource(path, read_index(path, step))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreError:
        raise
    except (OSError, ValueError) as error:
        if step is None:
            raise CheckpointError(f"{path} can't be read: {text_of(error)}") from error
        raise cannot_be_read(path, directory, step, error) from error


def text_of(error: Exception) -> str:
    """What is wrong with a damaged step, or another checkpoint: the first line of its error."""
    # TensorStore's messages have hundreds of lines; the whole text is in the cause.
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first[:500]}"
