"""Saving when the system ends the program: SIGTERM, as preemption sends it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .._errors import CheckpointError
from . import _processes


class Termination:
    """Whether a signal ends the program; `Saver.saving_on_termination` gives one.

    Attributes:
        signum: The signal that came, or None.
    """

    def __init__(self, save: Callable[..., object]):
        self.signum: int | None = None
        self._save = save

    def __call__(self, tree: object, step: int, **options: object) -> None:
        """Report the program's state: after ``step``, with ``tree``.

        Nothing happens until a signal has come. Then the tree is saved, unless this step is
        already, and the program ends: ``SystemExit`` with 128 and the signal's number, as if the
        signal had ended it, so that the parent process sees that it is not finished.

        In a `jax.distributed` program every process calls this at every step, and all end at the
        same one.
        """
        if _must_end(int(step)) if _processes.are_several() else self.signum is not None:
            self._save(tree, step, **options)
            raise SystemExit(128 + (self.signum or signal.SIGTERM))


def _must_end(step: int) -> bool:
    """Whether all processes end after this step, since one of them was signalled to.

    Each process calls it at every step.
    """
    from jax.experimental import multihost_utils

    return bool(multihost_utils.reached_preemption_sync_point(step))


@contextmanager
def terminating(
    save: Callable[..., object], signals: tuple[signal.Signals, ...]
) -> Iterator[Termination]:
    """Handle the signals of a preemption in the body; a second one has its earlier handler."""
    if threading.current_thread() is not threading.main_thread():
        raise CheckpointError(
            "Signals reach the main thread only: enter saver.saving_on_termination() there."
        )
    termination = Termination(save)
    # With several processes JAX's own service handles the signal, and informs all of them.
    ours = () if _processes.are_several() else signals
    earlier = {number: signal.getsignal(number) for number in ours}

    def take_note(signum: int, frame: object) -> None:
        termination.signum = signum
        signal.signal(signum, earlier[signal.Signals(signum)])

    for number in ours:
        signal.signal(number, take_note)
    try:
        yield termination
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
