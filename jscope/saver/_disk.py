"""Files and directories: made durable, renamed into place, removed after a failure.

Imports: `_errors`, `_index`; standard library.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .._errors import CheckpointError, CheckpointExistsError
from ._index import FILE_NAME


def make_directory(directory: Path) -> None:
    """Make a directory and its parents, each flushed to its own parent."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _flush(directory.parent)


def flush_all(root: Path) -> None:
    """Flush a directory and all that is in it to disk."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            _flush(Path(directory, name))
        _flush(Path(directory))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit(written: Path, path: Path, step: int) -> None:
    """Make what was written in a temporary directory the checkpoint of a step.

    Raises:
        CheckpointExistsError: If the step has been saved meanwhile.
    """
    try:
        os.rename(written, path)
    except OSError as error:
        # Whoever else saves here was faster. A directory with something in it is not replaced.
        if os.path.lexists(path):
            raise step_exists(path, step) from error
        raise
    _flush(path.parent)
    # Empty by now; it must not fail a save that succeeded.
    shutil.rmtree(written.parent, ignore_errors=True)


def step_exists(path: Path, step: int) -> CheckpointExistsError:
    """Compose the error: what is in the way of a step."""
    if (path / FILE_NAME).is_file():
        return CheckpointExistsError(
            f"Step {step} is saved already, in {path}. A checkpoint is never overwritten: save "
            "another step, or delete that directory."
        )
    return CheckpointExistsError(
        f"{path} is in the way of step {step}, and is not a checkpoint of jscope. Remove it, or "
        "give Saver another directory."
    )


@contextlib.contextmanager
def removing(temporary: Path) -> Iterator[None]:
    """Remove the directory if the body fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Raise any failure of the body as a `CheckpointError` that begins with ``what``."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        # TensorStore's messages go on for pages; all of it is in the cause.
        first = str(error).partition("\n")[0]
        raise CheckpointError(f"{what}: {type(error).__name__}: {first[:500]}") from error
