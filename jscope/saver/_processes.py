"""The processes of a `jax.distributed` program, which save one checkpoint together.

They all call the same methods in the same order. An error of one is sent to all, so
that none waits for another that has failed; and if one crashes, the coordination service of JAX
reports it to the others, whose barriers then fail. A program of one process needs none of this.
"""

import json
from collections.abc import Callable

import jax
import numpy as np

from .. import _errors
from .._errors import CheckpointError
from . import _orbax


def are_several() -> bool:
    """Whether there is more than one."""
    return count() > 1


def count() -> int:
    """How many there are."""
    return int(jax.process_count())


def index() -> int:
    """Which one this is, from 0 on."""
    return int(jax.process_index())


def is_first() -> bool:
    """Whether this is the one that commits and evicts."""
    return index() == 0


def together(work: Callable[[], str]) -> list[str]:
    """Do something in each process; return what all of them returned, in their order.

    Raises:
        Exception: What ``work`` raised here; or else, if it failed elsewhere, an error of the same
            class if it is one of jscope's, else a `CheckpointError`, with the process and cause.
    """
    if not are_several():
        return [work()]
    failure, text = None, ""
    try:
        text = work()
    except Exception as error:
        failure = error
    kind = type(failure).__name__
    answers = [json.loads(answer) for answer in _gather(json.dumps([text, kind, str(failure)]))]
    if failure is not None:
        raise failure
    for process, (_, kind, problem) in enumerate(answers):
        if kind != type(None).__name__:
            mirrored = getattr(_errors, kind, CheckpointError)
            raise mirrored(f"Process {process} failed, so this one stopped. {kind}: {problem}")
    return [answer for answer, _, _ in answers]


def must_end(step: int) -> bool:
    """Whether this is the step after which all processes end, as one was signalled to.

    Each process calls it at every step.
    """
    from jax.experimental import multihost_utils

    return bool(multihost_utils.reached_preemption_sync_point(step))


def barrier(key: str) -> None:
    """Wait for all processes.

    Args:
        key: A name for this moment, the same in all of them and never used before.

    Raises:
        Exception: If one of them does not come.
    """
    if are_several():
        _orbax.barrier(key)


def _gather(text: str) -> list[str]:
    from jax.experimental import multihost_utils

    data = text.encode()
    lengths = multihost_utils.process_allgather(np.array([len(data)]))
    padded = np.zeros(int(np.max(lengths)), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    sizes = np.asarray(lengths).reshape(-1)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]
