"""A progress bar of bytes.

It is drawn on a terminal only, from the second second on, by a thread that updates it four
times a second. Rich is imported when the bar is drawn.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

_DELAY = 1.0
_INTERVAL = 0.25


@contextlib.contextmanager
def watching(title: str, total: int, done: Callable[[], int]) -> Iterator[None]:
    """Draw the progress of a save or restore as a bar while the body runs.

    Args:
        title: The name of the operation.
        total: The bytes in all; 0 for no bar.
        done: How many are done; called from another thread.
    """
    if not total or not sys.stderr.isatty():
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_draw_bar, args=(title, total, done, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _draw_bar(title: str, total: int, done: Callable[[], int], is_over: threading.Event) -> None:
    """Draw the progress bar of a save or restore until that is over."""
    if is_over.wait(_DELAY):
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    console = Console(file=sys.stderr)
    # The program's own output is not redirected.
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task(title, total=total)
        while not is_over.wait(_INTERVAL):
            progress.update(task, completed=min(done(), total))
