"""Which checkpoints a directory has, and the path of each.

A checkpoint is a directory that is named by its step and holds an index. Nothing else is one, and
there is no list of them in a file.

**One exception.** Where the file system can't exchange two directories, overwriting step 12 moves
the old one to ``replaced-12`` in the staging directory, then the new one to ``12``. Between the two
the old one counts, so that there is a step 12 at every moment.
"""

import contextlib
import os
from pathlib import Path

from ._index import FILE_NAME

# What the names of staging directories begin with; see `saver._staging`.
STAGING = ".tmp-"
_REPLACED = "replaced-"
# A writer would have to remove steps faster than a directory is listed, each time.
_ATTEMPTS = 100


def replaced(staging: Path, step: int) -> Path:
    """The path of the old checkpoint of a step, while a new one replaces it."""
    return staging / f"{_REPLACED}{step}"


def all_replaced(staging: Path) -> dict[int, Path]:
    """The old checkpoints in a staging directory, by step."""
    found: dict[int, Path] = {}
    if staging.is_symlink():
        return found
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(staging):
            step = name.removeprefix(_REPLACED)
            if step != name and _is_step(step) and has_index(staging / name):
                found[int(step)] = staging / name
    return found


def checkpoints(directory: Path) -> dict[int, Path]:
    """The checkpoints of a directory, from step to path, in ascending order.

    Raises:
        OSError: If the directory can't be listed; one that is absent has no checkpoints.
    """
    found, is_all = _listed(directory)
    for _ in range(_ATTEMPTS):
        if is_all:
            break
        found, is_all = _listed(directory)
    return dict(sorted(found.items()))


def _listed(directory: Path) -> tuple[dict[int, Path], bool]:
    """The checkpoints, and whether none was removed during the listing.

    If one was, its replacement may have come too late to be listed.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}, True
    found: dict[int, Path] = {}
    for name in names:
        if name.startswith(STAGING):
            found |= all_replaced(directory / name)
    steps = [name for name in names if _is_step(name)]
    found |= {int(name): directory / name for name in steps if has_index(directory / name)}
    is_all = all(int(name) in found or os.path.lexists(directory / name) for name in steps)
    return found, is_all


def committed_steps(directory: Path) -> tuple[int, ...]:
    """The steps that are saved in a directory, in ascending order.

    Raises:
        OSError: As `checkpoints`.
    """
    return tuple(checkpoints(directory))


def path_of(directory: Path, step: int) -> Path | None:
    """The path of a step's checkpoint at this moment, or None if there is none."""
    path = directory / str(step)
    return path if has_index(path) else checkpoints(directory).get(step)


def _is_step(name: str) -> bool:
    # int() would take "012" and "١٢" too, which save never writes.
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")


def has_index(path: Path) -> bool:
    """Whether a directory is a checkpoint, intact or not; links are not followed."""
    file = path / FILE_NAME
    return file.is_symlink() or file.is_file()
