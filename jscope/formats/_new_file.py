"""A new file that appears whole or not at all, and never in place of another.

The bytes go to a temporary file beside it, which is flushed to disk, linked to the requested
name, and unlinked. A link, unlike a rename, fails where that name is taken, also by a concurrent
process.
"""

import contextlib
import os
import uuid
from pathlib import Path
from typing import Self

from .._errors import CheckpointError, CheckpointExistsError


class NewFile:
    """A file under way: write to `descriptor`, then `commit` or `discard`.

    Raises:
        CheckpointExistsError: If the file exists, now or by the time of `commit`.
        CheckpointError: If it can't be created.
    """

    def __init__(self, path: Path):
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")
        if os.path.lexists(path):
            raise _exists(path)
        try:
            self.descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise CheckpointError(f"{path} can't be written: {error.strerror}.") from error
        self._is_open = True

    def commit(self) -> None:
        """Flush to disk, and let the file appear."""
        os.fsync(self.descriptor)
        try:
            os.link(self._temporary, self._path)
        except FileExistsError:
            raise _exists(self._path) from None
        self.discard()
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove the temporary file; what is committed stays."""
        if self._is_open:
            self._is_open = False
            os.close(self.descriptor)
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()


def _exists(path: Path) -> CheckpointExistsError:
    return CheckpointExistsError(
        f"{path} exists, and a checkpoint is never overwritten. Write to another name, or remove "
        "it first."
    )
