"""The processes of a `jax.distributed` program, which save and restore together.

They all call the same methods in the same order. An error of one is sent to all, so
that none waits for another that has failed; and if one crashes, the coordination service of JAX
reports it to the others, whose barriers then fail. A program of one process needs none of this.

Arguments and values are compared before a save, and plans before a restore: if they differ, the
processes are not running the same program, and all raise the same error. Differences in the bytes
of values are found when they have been written: see `_snapshot.merge`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .. import _errors
from .._errors import CheckpointError, CheckpointValueError, listed
from ..formats._own_entry import Entry
from ..formats._python_values import PER_PROCESS
from . import _orbax

# Together.


def are_several() -> bool:
    """Whether there is more than one process."""
    return count() > 1


def count() -> int:
    """How many processes the program has."""
    return int(jax.process_count())


def index() -> int:
    """The number of this process, from 0 on."""
    return int(jax.process_index())


def is_first() -> bool:
    """Whether this is the process that commits and evicts."""
    return index() == 0


def together(work: Callable[[], str]) -> list[str]:
    """Run a function in all processes of the program, which fail together; return all results.

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
    """The texts of all processes, in their order."""
    from jax.experimental import multihost_utils

    data = text.encode()
    lengths = multihost_utils.process_allgather(np.array([len(data)]))
    padded = np.zeros(int(np.max(lengths)), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    sizes = np.asarray(lengths).reshape(-1)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


# Agreement.


# Characters of an argument in a message.
_SHOWN = 200
# Differences in a message.
_MOST = 10


def check_same_saves(arguments: Mapping[str, Any], entries: Mapping[str, Entry]) -> None:
    """Compare what all processes are about to save; each of them calls it.

    Args:
        arguments: What JSON holds, by the argument's name.
        entries: The values to be saved.

    Raises:
        CheckpointValueError: If something differs; the same in all processes.
    """
    if not are_several():
        return
    texts = {name: json.dumps(value, sort_keys=True) for name, value in arguments.items()}
    differing = _differing(texts, {name: signature(entries[name]) for name in sorted(entries)})
    if differing is None:
        return
    problems = [_difference_text(name, texts) for name, texts in differing[0].items()]
    if differing[1]:
        raise different_values(sorted(differing[1]), problems)
    raise CheckpointValueError(
        f"The processes gave different arguments, and nothing was written: "
        f"{'; '.join(problems)}. All processes must pass the same arguments. Take them "
        "from the program's configuration; values that differ by process go into the tree, "
        "as a sharded jax.Array."
    )


def check_same_plans(facts: Mapping[str, str], leaves: Mapping[str, str]) -> None:
    """Compare what all processes are about to restore; each of them calls it.

    Args:
        facts: What must be the same, by what it is called.
        leaves: What is done about each leaf of the target.

    Raises:
        CheckpointValueError: If something differs; the same in all processes.
    """
    differing = _differing(facts, {repr(name): what for name, what in leaves.items()})
    if differing is None:
        return
    problems = [_difference_text(*item) for found in differing for item in found.items()]
    more = f"; and {len(problems) - _MOST} more" if len(problems) > _MOST else ""
    raise CheckpointValueError(
        f"The processes restore different things, and nothing was read: "
        f"{'; '.join(problems[:_MOST] or ['the order of the leaves differs'])}{more}. All "
        "processes must give a target of the same structure, the same arguments and the same "
        "checkpoint, in a directory that they share."
    )


def _differing(*facts: Mapping[str, str]) -> list[dict[str, list[str]]] | None:
    """What of some facts differs between the processes: the texts of all; None if nothing does."""
    mine = json.dumps(facts)
    digest = hashlib.sha256(mine.encode()).hexdigest()
    if len(set(together(lambda: digest))) == 1:
        return None
    result = []
    for found in zip(*map(json.loads, together(lambda: mine)), strict=True):
        names = dict.fromkeys(name for texts in found for name in texts)
        texts = {name: [of.get(name, "absent") for of in found] for name in names}
        result.append({name: of_all for name, of_all in texts.items() if len(set(of_all)) > 1})
    return result


def signature(entry: Entry) -> str:
    """What the processes compare of an entry, which must be the same in all, beside the bytes.

    That is dtype, shape, and the text of a value that is not an array.
    """
    value = "" if entry.dtype == PER_PROCESS else entry.value or ""
    return f"{entry.dtype}{list(entry.shape)} {value}"


def different_values(names: Sequence[str], more: Sequence[str] = ()) -> CheckpointValueError:
    """Compose the error: the processes were given different values, and what else differs."""
    also = f" Also, {'; '.join(more)}." if more else ""
    return CheckpointValueError(
        f"The processes were given different values: {listed(names)}. A value that is not a "
        f"sharded jax.Array must be the same in all of them.{also}",
        "A value that each process has its own of, such as a data iterator, is saved as "
        "js.PerProcess(value).",
    )


def _difference_text(name: str, texts: Sequence[str]) -> str:
    """What differs between the first process and another one, as text."""
    other = next(process for process, text in enumerate(texts) if text != texts[0])
    return (
        f"{name} is {texts[0][:_SHOWN]} in process 0, and {texts[other][:_SHOWN]} in process "
        f"{other}"
    )
