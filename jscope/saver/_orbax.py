"""The one file that uses Orbax: what it is to read, what it compresses, and its barriers.

Orbax writes arrays to one directory, from all processes of a program; names, steps and commit are
jscope's. Used of it are ``save_async`` and ``Context`` of the v1 API, and its
barriers. Reading needs TensorStore alone: see `formats._tensorstore`.

What the rest of the Saver may rely on (tried with 0.12.8; held by
``tests/checkpoint/test_saver_orbax.py``):

* **A flat dict of numbers has no aliases.** Orbax calls an array by its keys joined with ``.``,
  so ``{"a.b": x, "a": {"b": y}}`` would be saved as one array, without an error. It drops a
  trailing ``/``, and without OCDBT a key must be the name of a directory too.
* **The snapshot is taken before `begin` returns.** The arrays may be donated, deleted or,
  if they are NumPy's, changed afterwards.
* **Saves must take turns**, in the whole process; see `_one_call_at_a_time`.

Orbax, and TensorStore with it, is imported by the first such save.
"""

import contextlib
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import jax
import numpy as np

from ..formats._orbax import ITEM

Array: TypeAlias = jax.Array | np.ndarray[Any, Any]

# What `CheckpointManager` calls the item of a step that has one, and writes one by.
_HANDLER = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler"


def begin(
    path: Path, arrays: Mapping[str, Any], *, nested: bool = False, compresses: bool = False
) -> Callable[[], None]:
    """Begin to write arrays to a new directory by Orbax, from a snapshot; return how to wait.

    The result is v1's checkpoint; `take_out` makes the final one of it. In a program of
    several processes each calls this, with the same path and keys.

    Args:
        path: A name in a directory that exists.
        arrays: At least one array, none without elements; if nested, values of Python too.
        nested: Whether the keys are split at ``/``, for stock Orbax.
        compresses: Whether to use zstd.

    Returns:
        A function that returns when all is written and raises if it could not be. It must be
        called, from any thread: no other save of this process begins before.
    """
    orbax = load_orbax()
    context = orbax.Context()
    # Compression costs 3 times the time of large arrays and saves 8 % of random float32. OCDBT, a
    # database in files, takes half as much time again as files; its advantage, thousands of small
    # arrays, doesn't apply, since these are packed. It allows any name, so nested arrays need it.
    context.array.saving.use_compression = compresses
    context.array.saving.use_ocdbt = nested
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_call_at_a_time)
        stack.enter_context(_quiet())
        with context:
            response = orbax.save_async(path, _nested_arrays(arrays) if nested else dict(arrays))
        until_written = stack.pop_all()

    def wait() -> None:
        with until_written:
            response.result()

    return wait


def take_out(path: Path, directory: Path) -> None:
    """Move what Orbax wrote in `begin` into a directory, which both of its APIs read then.

    v1 writes it one level further down, beside files that are not needed.
    """
    (part,) = (found.parent for found in path.glob("*/_METADATA"))
    for name in os.listdir(part):
        os.rename(part / name, directory / name)


def take_out_item(path: Path, step: Path, *, began: float, custom: object) -> None:
    """Move what Orbax wrote into a step as its `CheckpointManager` writes one, with one item.

    Args:
        path: Of what `begin` wrote, nested.
        step: The step's directory, which is empty.
        began: When the save began, in seconds since 1970.
        custom: The user's metadata; Orbax has such as an object, or none.
    """
    (step / ITEM).mkdir()
    take_out(path, step / ITEM)
    members = {
        "item_handlers": {ITEM: _HANDLER},
        "metrics": {},
        "performance_metrics": {},
        "init_timestamp_nsecs": int(began * 1e9),
        "commit_timestamp_nsecs": time.time_ns(),
        "custom_metadata": custom if isinstance(custom, dict) else {},
    }
    (step / "_CHECKPOINT_METADATA").write_text(json.dumps(members))


def barrier(key: str) -> None:
    """Wait at Orbax's barrier until all processes of the program have come to it, with this key.

    Raises:
        Exception: If one of them does not come within five minutes, or crashes.
    """
    from orbax.checkpoint import multihost  # type: ignore[import-untyped]

    multihost.get_barrier_sync_fn()(key=key, timeout_ms=300_000)


def _nested_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by name as the nested dicts that stock Orbax restores."""
    nested: dict[str, Any] = {}
    for key, array in arrays.items():
        *scopes, last = key.split("/")
        level = nested
        for scope in scopes:
            level = level.setdefault(scope, {})
        level[last] = array
    return nested


# The threads of a save find each other by a number that is the whole process's, and that each
# save counts up. So a save under way that another overtakes can write before its directory is
# there, or wait for it forever: of 60 saves by 4 threads, 3 failed (0.12.8).
_one_call_at_a_time = threading.Lock()


@functools.cache
def load_orbax() -> ModuleType:
    """Orbax's v1 module, imported on first use."""
    # Before any code requests its logger: absl gives it a class of its own, which records the
    # caller, only if there is none yet.
    import absl.logging  # noqa: F401

    with _quiet():
        from orbax.checkpoint import v1
    orbax: ModuleType = v1
    return orbax


# Orbax logs progress at level INFO, and for each failed save half a dozen stack traces of an
# error that it raises anyway. Also, if the root logger has no handler, any message adds
# one, and the program's own logging.basicConfig does nothing from then on (absl-py 2.3;
# google/orbax#1248). Loggers are the whole process's, so the changes made here last
# only while a call of jscope's is under way, in any thread.


class _WithoutOrbax(logging.Filter):
    """A filter of log messages, which drops those of Orbax."""

    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


_without_orbax = _WithoutOrbax()
# Python's handler of last resort: with it nothing changes for the program.
_stand_in = logging.lastResort or logging.NullHandler()
_calls = 0
_calls_lock = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax from logging while the body runs."""
    _count_calls(+1)
    try:
        yield
    finally:
        _count_calls(-1)


def _count_calls(change: int) -> None:
    """Count a save's calls of Orbax under way, and filter its log messages while there are some."""
    global _calls
    # It logs by absl, and in a few places by the root logger.
    loggers = logging.root, logging.getLogger("absl")
    with _calls_lock:
        _calls += change
        # Adding what is there, or removing what is not, does nothing.
        if _calls:
            for logger in loggers:
                logger.addFilter(_without_orbax)
            if not logging.root.handlers:
                logging.root.addHandler(_stand_in)
        else:
            for logger in loggers:
                logger.removeFilter(_without_orbax)
            logging.root.removeHandler(_stand_in)
