"""The one file that touches Orbax: flat dicts of arrays to and from one directory.

Orbax does what it does well, moving large and sharded arrays to and from disk in parallel;
names, steps, comparison and commit are jscope's. Of Orbax only three names of the v1 API are
used, ``save_async``, ``load`` and ``Context``, and this is what the rest of the Saver may
rely on (tried with 0.12.8; a test in ``tests/test_saver.py`` holds each):

* **A flat dict of numbers has no aliases.** Orbax calls an array by its keys joined with ``.``,
  so ``{"a.b": x, "a": {"b": y}}`` would be saved as one array, without a word. It drops a trailing
  ``/``, and without OCDBT a key must be the name of a directory too.
* **The snapshot is taken before `begin` returns.** The arrays may be donated, deleted or,
  if they are NumPy's, changed afterwards.
* **Absent names are silent.** Loading a part returns the request itself for a name that the
  checkpoint does not have, so `read` looks at what it got.
* **The kind asked for is the kind returned**: a NumPy array for a NumPy array, a committed
  `jax.Array` for a `jax.ShapeDtypeStruct` with a sharding. Without a sharding Orbax would
  fail, or take the one of the saving process.
* **Calls must take turns**, in the whole process; `_one_call_at_a_time` says why.
* **64-bit dtypes are truncated on the way to a device unless ``jax_enable_x64`` is on**, so
  they are asked for as NumPy arrays.

Orbax, and TensorStore with it, is imported by the first save or restore.

Imports: Orbax, JAX and NumPy.
"""

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray[Any, Any]


def begin(
    path: Path, arrays: Mapping[str, Array], *, nested: bool = False, compresses: bool = False
) -> Callable[[], None]:
    """Snapshot the arrays, start writing them to a new directory, and return how to wait.

    What is written is v1's checkpoint; `take_out` makes the final one of it. In a program of
    several processes each calls this, with the same path and keys.

    Args:
        path: A name in a directory that exists.
        arrays: At least one array, none without elements.
        nested: Whether the keys are split at ``/``, for stock Orbax.
        compresses: Whether to use zstd.

    Returns:
        A function that returns when all is written and raises if it could not be. It must be
        called, from whatever thread: no other save or load of this process begins before.
    """
    orbax = load_orbax()
    context = orbax.Context()
    # Compression costs 3 times the time of large arrays and saves 8 % of random float32. OCDBT, a
    # database in files, costs half as much again as files do; what it is good at, thousands of
    # small arrays, is packed. It allows any name, so that nested arrays need it.
    context.array.saving.use_compression = compresses
    context.array.saving.use_ocdbt = nested
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_call_at_a_time)
        stack.enter_context(_quiet())
        with context:
            response = orbax.save_async(path, _nested(arrays) if nested else dict(arrays))
        until_written = stack.pop_all()

    def wait() -> None:
        with until_written:
            response.result()

    return wait


def take_out(path: Path, directory: Path) -> None:
    """Make a directory of what `begin` wrote, which both of Orbax's APIs read.

    v1 writes it one level further down, beside files that nothing needs.
    """
    (part,) = (found.parent for found in path.glob("*/_METADATA"))
    os.rename(part, directory)


def barrier(key: str) -> None:
    """Wait until all processes of the program have called this with this key, by Orbax's means.

    Raises:
        Exception: If one of them does not come within five minutes, or dies.
    """
    from orbax.checkpoint import multihost  # type: ignore[import-untyped]

    multihost.get_barrier_sync_fn()(key=key, timeout_ms=300_000)


def _found(tree: Any, path: list[str]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _nested(arrays: Mapping[str, Array]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, array in arrays.items():
        *scopes, last = key.split("/")
        level = nested
        for scope in scopes:
            level = level.setdefault(scope, {})
        level[last] = array
    return nested


# The threads of a save find each other by a number that is the whole process's, and that every
# save and load counts up. So a save under way that another call overtakes can write before its
# directory is there, or wait for it forever: of 60 saves by 4 threads, 3 failed (0.12.8).
_one_call_at_a_time = threading.Lock()


def read(path: Path, wanted: Mapping[str, Any], *, nested: bool = False) -> dict[str, Array]:
    """Read some arrays of a checkpoint, and only their bytes.

    Args:
        path: The checkpoint.
        wanted: From key to what is asked for, shape and dtype as saved: a NumPy array, or a
            `jax.ShapeDtypeStruct` with a sharding. PRNG keys are asked for by their data.
        nested: Whether the keys are split at ``/``.

    Raises:
        KeyError: If the checkpoint has no such array.
        ValueError: If it has another shape or dtype.
    """
    orbax = load_orbax()
    context = orbax.Context()
    context.pytree.loading.partial_load = True
    with _one_call_at_a_time, _quiet(), context:
        found = orbax.load(path, _nested(wanted) if nested else dict(wanted))
    arrays = {}
    for name, request in wanted.items():
        array = _found(found, name.split("/") if nested else [name])
        if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        arrays[name] = array
        # An absent name gives the request itself.
        if array is request or not isinstance(array, jax.Array | np.ndarray):
            raise KeyError(f"no array {name!r} in the checkpoint")
        if (array.shape, array.dtype) != (request.shape, request.dtype):
            found = f"{array.dtype}{array.shape}"
            raise ValueError(f"{name!r} is {found}, not {request.dtype}{request.shape}")
    return arrays


@functools.cache
def load_orbax() -> Any:
    """Orbax's v1 module, imported on first use."""
    # Before anyone asks for its logger: absl makes that of a class of its own, which knows who
    # calls, only if there is none yet.
    import absl.logging  # noqa: F401

    with _quiet():
        from orbax.checkpoint import v1
    return v1


# Orbax logs progress at level INFO, and for each failed save half a dozen stack traces of an
# error that it raises anyway. Also, if the root logger has no handler, whatever it logs gives it
# one, and the program's own logging.basicConfig does nothing from then on (absl-py 2.3;
# google/orbax#1248). Loggers are the whole process's, so what is done here against both lasts
# only while a call of ours is under way, in whatever thread.


class _WithoutOrbax(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname


_without_orbax = _WithoutOrbax()
# What Python uses when there is no handler: with it nothing changes for the program.
_stand_in = logging.lastResort or logging.NullHandler()
_calls = 0
_calls_lock = threading.Lock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    _count_calls(+1)
    try:
        yield
    finally:
        _count_calls(-1)


def _count_calls(change: int) -> None:
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
