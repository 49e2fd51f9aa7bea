"""Work that goes on beside the caller's, such as a request whose answer is needed later."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def begin(work: Callable[[], T]) -> Callable[[], T]:
    """Begin to do some work in a thread; return how to wait for its result.

    What is returned may be called more than once, and raises what the work has raised. Where no
    thread can start, as at the end of the program, the work is done at once.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        thread = threading.current_thread()
        run()

    def wait() -> T:
        if thread is not threading.current_thread():
            thread.join()
        if errors:
            raise errors[0]
        return results[0]

    return wait
