"""A new file that appears whole or not at all, and in place of another on request only.

The bytes go to a temporary file beside it, which is flushed to disk, linked to the requested
name, and unlinked. A link, unlike a rename, fails where that name is taken, also by a concurrent
process. Where a file system has no links, such as many of those that FUSE mounts, a rename of
Linux's does the same; where it lacks that too, nothing is written.
"""

import contextlib
import os
import uuid
from pathlib import Path
from typing import Self

from .._errors import CheckpointError, CheckpointExistsError
from .disk import LACKING, flush, rename_to_free


class NewFile:
    """A new file under way: write to its `descriptor`, then `commit` or `discard`.

    Args:
        path: Its name in the end.
        overwrite: Whether it replaces a file of this name, by a rename.

    Raises:
        CheckpointExistsError: If the file exists, now or by the time of `commit`.
        CheckpointError: If it can't be created.
    """

    def __init__(self, path: Path, *, overwrite: bool = False):
        self.path = path
        self._overwrite = overwrite
        self._temporary = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")
        if not overwrite and os.path.lexists(path):
            raise _new_file_exists(path)
        try:
            self.descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise CheckpointError(f"{path} can't be written: {error.strerror}.") from error
        self._is_open = True

    def finish(self) -> None:
        """Flush to disk, and close; the file is complete, and doesn't appear yet."""
        if self._is_open:
            os.fsync(self.descriptor)
            self._close()

    def appear(self) -> None:
        """Take the requested name, after `finish`."""
        try:
            (os.replace if self._overwrite else rename_to_free)(self._temporary, self.path)
        except FileExistsError:
            raise _new_file_exists(self.path) from None
        except OSError as error:
            if self._overwrite or error.errno not in LACKING:
                raise
            raise CheckpointError(
                f"{self.path} can't be written: its file system has no way to create a file that "
                f"never replaces another's ({error.strerror}). Write it to a local disk and copy "
                "it from there; a bucket is written to by its URL."
            ) from error
        self.discard()

    def commit(self) -> None:
        """Flush to disk, and let the file appear."""
        self.finish()
        self.appear()
        flush(self.path.parent)

    def discard(self) -> None:
        """Remove the temporary file; what has appeared stays."""
        self._close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.discard()


def _new_file_exists(path: Path) -> CheckpointExistsError:
    """Compose the error: a new file would overwrite one that exists."""
    return CheckpointExistsError(
        f"{path} exists, and is not overwritten without a request.",
        "Write to another name, or remove it first.",
    )
