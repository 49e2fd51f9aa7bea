"""The common part of all calls of a Saver: they take turns, and wait for the save in flight.

One asynchronous save is in flight at a time. Every call first waits for it, and raises its failure
if it was not retrieved, once, without doing anything else.
"""

import contextlib
import os
import threading
from typing import Self

from .._errors import CheckpointError
from .._stores.paths import located
from .._stores.remote import AnyPath
from ..formats._own_directory import committed_steps
from ._disk import failing_as
from ._pending import PendingSave


class Turns:
    """The directory of a Saver, its lock, and its save in flight."""

    def __init__(self, directory: str | os.PathLike[str]):
        self._directory = located(directory)
        self._lock = threading.RLock()
        self._pending: PendingSave | None = None
        self._is_closed = False

    @property
    def directory(self) -> AnyPath:
        """The directory of the checkpoints, as an absolute path or what a store calls it."""
        return self._directory

    def wait(self) -> None:
        """Wait until no save is in flight.

        Raises:
            CheckpointError: If it failed.
        """
        with self._lock:
            self._get_ready()

    def close(self) -> None:
        """Wait for the save in flight. All calls after it but ``close`` itself are errors.

        Leaving ``with`` closes; there, a failed save does not hide an error of the body, but
        is added to its notes.

        Raises:
            CheckpointError: If the save failed.
        """
        with self._lock:
            self._is_closed = True
            self._settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            # The body's error comes first; this one must not hide it.
            error.add_note(f"Moreover, an asynchronous save failed. {failure}")

    def __repr__(self) -> str:
        return f"Saver({str(self._directory)!r})"

    def _get_ready(self) -> None:
        """The start of every call."""
        if self._is_closed:
            raise CheckpointError(f"{self!r} is closed. Make another one.")
        self._settle()

    def _settle(self) -> None:
        """Wait for the save in flight, and raise its failure if it was not retrieved."""
        pending = self._pending
        if pending is not None:
            error = pending.unseen_error()
            self._pending = None
            if error is not None:
                error.add_note(
                    "This is the failure of an earlier save_async, raised by the first call after "
                    "it, which did nothing else."
                )
                raise error

    def _steps(self) -> tuple[int, ...]:
        with self._listing():
            return committed_steps(self._directory)

    def _listing(self) -> contextlib.AbstractContextManager[None]:
        return failing_as(f"The checkpoints in {self._directory} can't be listed")
