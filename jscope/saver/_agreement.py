"""What the processes of a program must give alike to a save, compared before any of it is written.

Each process tells the others a digest of each argument. If two differ, all of them tell the
argument itself, and all raise one and the same error. What differs in the bytes of values is found
when they have been written: see `_snapshot.merge`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import CheckpointValueError, listed
from . import _processes
from ._entries import Entry

# How much of an argument is shown.
_SHOWN = 200


class Agreement:
    """The arguments of one process.

    Args:
        arguments: What JSON holds, by the argument's name.
        entries: The values to be saved.
    """

    def __init__(self, arguments: Mapping[str, Any], entries: Mapping[str, Entry]):
        self._texts = {name: json.dumps(value, sort_keys=True) for name, value in arguments.items()}
        self._signatures = {name: signature(entry) for name, entry in entries.items()}

    def digests(self) -> dict[str, str]:
        """One for each argument, and one for the names, shapes and dtypes of the values."""
        texts = self._texts | {"": json.dumps(self._signatures, sort_keys=True)}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}

    def check(self, told: Sequence[Mapping[str, str]]) -> None:
        """Compare what all processes told, this one's among it.

        Raises:
            CheckpointValueError: If two differ; the same in all processes.
        """
        differing = [name for name in told[0] if len({digests[name] for digests in told}) > 1]
        if not differing:
            return
        mine = json.dumps([self._signatures if "" in differing else {}, self._texts])
        all_of_them = [json.loads(text) for text in _processes.together(lambda: mine)]
        problems = [
            _different(name, [texts[name] for _, texts in all_of_them])
            for name in differing
            if name
        ]
        if "" in differing:
            raise different_values(_differing([found for found, _ in all_of_them]), problems)
        raise CheckpointValueError(
            f"The processes gave different arguments, and nothing was written: "
            f"{'; '.join(problems)}. All processes call with the same arguments. Make them of "
            "what all have, such as the program's configuration; what differs by process goes "
            "into the tree, as a sharded jax.Array."
        )


def signature(entry: Entry) -> str:
    """What an entry tells of its value beside the bytes: dtype, shape, and what is no array."""
    return f"{entry.dtype}{list(entry.shape)} {entry.value or ''}"


def different_values(names: Sequence[str], more: Sequence[str] = ()) -> CheckpointValueError:
    """Compose the error: which values differ between the processes, and what else."""
    also = f" Also, {'; '.join(more)}." if more else ""
    return CheckpointValueError(
        f"The processes were given different values: {listed(names)}. What is no sharded "
        f"jax.Array must be the same in all of them.{also}"
    )


def _differing(found: Sequence[Mapping[str, str]]) -> list[str]:
    names = sorted({name for signatures in found for name in signatures})
    return [name for name in names if len({signatures.get(name) for signatures in found}) > 1]


def _different(name: str, texts: Sequence[str]) -> str:
    other = next(process for process, text in enumerate(texts) if text != texts[0])
    return (
        f"{name} is {texts[0][:_SHOWN]} in process 0, and {texts[other][:_SHOWN]} in process "
        f"{other}"
    )
