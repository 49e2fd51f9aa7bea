"""A save under way, and the end of the program, which waits for it."""

import functools
import sys
import threading
import traceback
from collections.abc import Callable

from .._stores.remote import AnyPath


class PendingSave:
    """A save under way, as `Saver.save_async` returns it.

    Attributes:
        path: The directory that the checkpoint will have.
    """

    path: AnyPath

    def __init__(self, path: AnyPath, finish: Callable[[], AnyPath]):
        self.path = path
        self._error: BaseException | None = None
        self._is_over = threading.Event()
        _unseen.add(self)
        name = f"jscope-save-{path.name}"
        try:
            _see_all_at_exit()
            threading.Thread(target=self._run, args=(finish,), name=name).start()
        except RuntimeError:
            # No thread can start: too many of them, or the program is ending. The save
            # is finished here.
            self._run(finish)

    def result(self) -> AnyPath:
        """Wait until the checkpoint is complete and on disk; return its directory.

        Raises:
            CheckpointError: If it could not be written.
        """
        self._is_over.wait()
        _unseen.discard(self)
        if self._error is not None:
            raise self._error
        return self.path

    def wait(self) -> None:
        """Wait until the checkpoint is complete and on disk.

        Raises:
            CheckpointError: If it could not be written.
        """
        self.result()

    def unseen_error(self) -> BaseException | None:
        """Wait; return the failure unless it has been raised or returned already."""
        self._is_over.wait()
        if self not in _unseen:
            return None
        _unseen.discard(self)
        return self._error

    def __repr__(self) -> str:
        state = "failed" if self._error else "complete" if self._is_over.is_set() else "under way"
        return f"PendingSave({str(self.path)!r}, {state})"

    def _run(self, finish: Callable[[], AnyPath]) -> None:
        try:
            finish()
        except BaseException as error:
            self._error = error
        else:
            _unseen.discard(self)
        finally:
            self._is_over.set()


def wait_for_directory(directory: AnyPath) -> None:
    """Wait until no save of this process is under way in a directory, of any Saver."""
    for pending in list(_unseen):
        if pending.path.parent == directory:
            pending._is_over.wait()


# The saves whose outcome was not retrieved: those under way, and failed ones. It keeps them after
# their Saver is deleted, for the end of the program.
_unseen: set[PendingSave] = set()


@functools.cache
def _see_all_at_exit() -> None:
    """Wait for asynchronous saves when the program ends."""
    # The executors that Orbax writes with stop before `atexit` begins, by the same hook; hooks
    # run in reverse, so ours must be registered after theirs, which the import does. Without it a
    # program that ends loses its last save and exits with 0 (Orbax 0.12.8). The hook is private,
    # and unchanged from Python 3.9 to 3.13.
    import concurrent.futures.thread  # noqa: F401

    threading._register_atexit(_see_all)  # type: ignore[attr-defined]


def _see_all() -> None:
    """Wait for all asynchronous saves of this process; print errors that were not retrieved."""
    for pending in list(_unseen):
        error = pending.unseen_error()
        if error is not None:
            print(
                f"jscope: save_async to {pending.path} failed; its error was never retrieved:",
                file=sys.stderr,
            )
            traceback.print_exception(error)
