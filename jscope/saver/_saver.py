"""Saver: steps of a tree in a directory, each saved whole or not at all.

On disk::

    directory/
      12/              a committed checkpoint: Orbax's files and `_index`'s jscope.json
      .tmp-3f9a.../    a save under way, or one whose process died; never listed

**Commit.** Everything is written below ``.tmp-*``, then every file and directory in it is
flushed to disk (Orbax leaves five files unflushed), then one rename makes it ``12``, then
the parent is flushed. So a directory named by a number and holding an index is complete,
whenever a process or the power died, and nothing else is listed. A step that exists is never
written to: Orbax's own overwriting deletes the old checkpoint first.

**Async.** `Saver.save_async` returns once the arrays are snapshot; a thread does the rest.
One is in flight per Saver, and its failure is raised once, by whatever is called next. A
program that ends waits for its saves, and prints the failures that nobody saw.

Imports: `_errors`, `_selection`, `_tree` and the files beside this one; JAX and NumPy.
"""

import functools
import operator
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np

from .._errors import (
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointValueError,
    TreeMismatchError,
    listed,
)
from .._selection import Selector, matching
from .._tree import VarTree, as_tree, leaf_name
from ._account import account
from ._disk import commit, failing_as, flush_all, make_directory, removing, step_exists
from ._index import FILE_NAME, Index, read_index, write_index
from ._pending import PendingSave
from ._snapshot import Snapshot
from ._target import check_kept, check_target, read
from ._values import store


class Saver:
    """Saves trees of variables to a directory, step by step, and restores any part of them.

    >>> with Saver("runs/digits") as saver:                           # doctest: +SKIP
    ...     path = saver.save(params | state, step=100)
    ...     variables = saver.restore(declared)                       # the latest step
    ...     variables = saver.restore(variables, select="encoder/**")  # the rest is kept

    A checkpoint is complete or absent, also after a crash or a power cut. What is restored
    has the bits that were saved: every dtype that JAX has, sharded arrays, typed PRNG keys.

    Threads may share a Saver and take turns; Orbax's part of the work takes turns in the whole
    process. Savers, also of several processes, may share a directory; a step that two of
    them save at once is the first one's, and the other's save fails.

    Args:
        directory: Where the checkpoints are, one sub-directory per step. It is created by
            the first save; ``~`` is expanded, and a relative path is taken from the working
            directory of this moment.

    Source:
        ``tf.train.Saver``, TensorFlow 1.15, ``python/training/saver.py``. Differences: TF
        makes its Saver from variables and passes a path to each call, here it is the other
        way round; TF overwrites a step that exists; TF's ``restore`` assigns to a session,
        here a new tree is returned; TF ignores what only the checkpoint has; TF flushes
        nothing to disk. All checkpoints are kept.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self._directory = Path(os.path.abspath(os.path.expanduser(directory)))
        self._lock = threading.RLock()
        self._pending: PendingSave | None = None
        self._is_closed = False

    @property
    def directory(self) -> Path:
        """Where the checkpoints are, as an absolute path."""
        return self._directory

    def save(self, tree: Mapping[str, Any], step: int) -> Path:
        """Save a tree; return when the checkpoint is complete and on disk.

        Args:
            tree: A `VarTree`, or another mapping of names to values, nested or flat. Values
                are arrays, PRNG keys or pytrees of these; nothing is cast.
            step: A whole number that has no checkpoint yet, in any order.

        Returns:
            The directory of the checkpoint.

        Raises:
            CheckpointExistsError: If the step is saved already; nothing is written.
            CheckpointValueError: If a value can't be stored (all such are listed), or the
                step is no whole number of at least 0; nothing is written.
            CheckpointError: If writing fails, or an earlier `save_async` did.
        """
        with self._lock:
            return self._begin(tree, step)()

    def save_async(self, tree: Mapping[str, Any], step: int) -> PendingSave:
        """Start to save a tree; return when its arrays may be donated, deleted or changed.

        One save is in flight at a time: this and every other call of the Saver first wait
        for an earlier one, and raise its failure, if it failed, without doing anything else.
        The end of the program waits too.

        Args:
            tree: As for `save`.
            step: As for `save`.

        Returns:
            What to wait for; it need not be kept.

        Raises:
            CheckpointExistsError: As `save`, at once.
            CheckpointValueError: As `save`, at once.
            CheckpointError: If writing can't begin, or an earlier `save_async` failed.
        """
        with self._lock:
            finish = self._begin(tree, step)
            self._pending = PendingSave(self._path(_checked(step)), finish)
            return self._pending

    def restore(
        self,
        target: Mapping[str, Any],
        step: int | None = None,
        select: Selector | None = None,
    ) -> VarTree:
        """Read a checkpoint, or a part of one, into a new tree like ``target``.

        All names, shapes and dtypes are compared before anything is read, and all
        differences are listed at once. Only what is wanted is read.

        Args:
            target: A tree of values or of `jax.ShapeDtypeStruct`, or a declaration. It says
                which names, shapes and dtypes to expect, and where each array is to be: with
                the sharding of the target's, and if that has none on the default device,
                not committed to it. Saved on 8 devices, restored on 1, is fine.
            step: Which checkpoint; the latest if None.
            select: Which variables of the target to restore; the others keep the target's
                values, and the rest of the checkpoint is ignored. Without it, target and
                checkpoint must have the same names.

        Returns:
            A tree of the target's names, in its order. Restored values are new arrays, also
            where the target's are NumPy's; the target is unchanged.

        Raises:
            TreeMismatchError: If the checkpoint differs from what is wanted.
            SelectorError: If ``select`` matches nothing in the target.
            CheckpointValueError: If a variable that is not selected has no value to keep.
            CheckpointNotFoundError: If there is no such step, or none at all.
            CheckpointError: If the checkpoint is damaged, or an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            declared: Any = target if hasattr(target, "abstract") else None
            tree = as_tree(target if declared is None else declared.abstract())
            # A predicate sees a declaration's specs, so that it can ask for what is trainable.
            selectable = tree if declared is None else declared
            chosen = frozenset(tree) if select is None else matching(selectable, select)
            check_target(tree)
            check_kept(tree, chosen, declared is not None)
            step = self._existing_step(step)
            path = self._path(step)
            with failing_as(f"Step {step} can't be read from {path}"):
                entries = read_index(path, step).entries
            named, structure = jax.tree_util.tree_flatten_with_path(tree)
            leaves = [(leaf_name(at), leaf, at[0].key in chosen) for at, leaf in named]
            wanted = {name: leaf for name, leaf, is_chosen in leaves if is_chosen}
            different = account(wanted, entries, is_part=select is not None)
            if different:
                raise TreeMismatchError(
                    f"The target and step {step} in {self._directory} differ; nothing was read. "
                    + different
                )
            with failing_as(f"Step {step} can't be read from {path}"):
                arrays = read(path, wanted, entries)
            values = [arrays[name] if is_chosen else leaf for name, leaf, is_chosen in leaves]
            restored: VarTree = jax.tree.unflatten(structure, values)
            return restored

    def latest_step(self) -> int | None:
        """The highest step that has a complete checkpoint, or None if there is none.

        Raises:
            CheckpointError: If the directory can't be listed, or an earlier `save_async` failed.
        """
        return max(self.all_steps(), default=None)

    def all_steps(self) -> tuple[int, ...]:
        """The steps that have complete checkpoints, in ascending order.

        Raises:
            CheckpointError: If the directory can't be listed, or an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            return self._steps()

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            # The body's error is the cause, or worse news; this one must not hide it.
            error.add_note(f"Moreover, an asynchronous save failed. {failure}")

    def __repr__(self) -> str:
        return f"Saver({str(self._directory)!r})"

    def _begin(self, tree: Mapping[str, Any], step: int) -> Callable[[], Path]:
        """Check everything, snapshot the arrays, and return what finishes the save."""
        self._get_ready()
        step = _checked(step)
        path = self._path(step)
        entries, arrays = store(as_tree(tree))
        if os.path.lexists(path):
            raise step_exists(path, step)
        failing = functools.partial(failing_as, f"Step {step} was not saved to {self._directory}")
        with failing():
            make_directory(self._directory)
            temporary = self._directory / f".tmp-{uuid.uuid4().hex[:16]}"
            temporary.mkdir()
        with failing(), removing(temporary):
            written = temporary / path.name
            snapshot = Snapshot(entries, arrays)
            write = snapshot.begin(written)

        def finish() -> Path:
            with failing(), removing(temporary):
                write()
                index = Index(step, uuid.uuid4().hex, time.time(), snapshot.entries())
                write_index(written, index)
                flush_all(written)
                commit(written, path, step)
            return path

        return finish

    def _get_ready(self) -> None:
        """What every call begins with."""
        if self._is_closed:
            raise CheckpointError(f"{self!r} is closed. Make another one: it costs nothing.")
        self._settle()
        if jax.process_count() > 1:
            raise CheckpointError(
                f"A Saver works in one process, and this program has {jax.process_count()}: each "
                "would write its part of the arrays only, and none a complete checkpoint."
            )

    def _settle(self) -> None:
        """Wait for the save in flight, and raise its failure if nobody has seen it."""
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
        with failing_as(f"The checkpoints in {self._directory} can't be listed"):
            try:
                names = os.listdir(self._directory)
            except FileNotFoundError:
                return ()
            return tuple(sorted(int(name) for name in names if self._is_committed(name)))

    def _is_committed(self, name: str) -> bool:
        # int() would take "012" and "١٢" too, which are not what save writes.
        is_step = name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")
        return is_step and (self._directory / name / FILE_NAME).is_file()

    def _existing_step(self, step: int | None) -> int:
        steps = self._steps()
        if step is None:
            if not steps:
                raise CheckpointNotFoundError(
                    f"There is no checkpoint in {self._directory}. Save one with "
                    "saver.save(tree, step), or give Saver the directory that has them."
                )
            return steps[-1]
        step = _checked(step)
        if step not in steps:
            those = f"steps {listed(steps, most=20)}" if steps else "no checkpoint at all"
            raise CheckpointNotFoundError(
                f"There is no step {step} in {self._directory}; it has {those}. Leave the step out "
                "for the latest one."
            )
        return step

    def _path(self, step: int) -> Path:
        return self._directory / str(step)


def _checked(step: int) -> int:
    """The step as an int; NumPy's and JAX's integers are steps too."""
    try:
        if isinstance(step, bool) or getattr(step, "dtype", None) == np.dtype(bool):
            raise TypeError
        index = operator.index(step)
    except TypeError:
        raise CheckpointValueError(
            f"A step is a whole number, got {step!r} of type {type(step).__name__}."
        ) from None
    if index < 0:
        raise CheckpointValueError(f"A step is at least 0, got {index}.")
    return index
