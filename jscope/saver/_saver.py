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

from .._errors import CheckpointError, CheckpointValueError
from .._matching import Selector
from .._tree import as_tree
from ..sharding import AnyMesh, Rules
from ._account import Policy
from ._disk import commit, failing_as, flush_all, make_directory, removing, step_exists
from ._finding import committed_steps, newest_step
from ._index import Index, write_index
from ._pending import PendingSave
from ._renaming import Rename
from ._report import Report
from ._restoring import Request, restore
from ._snapshot import Snapshot
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
        self._report: Report | None = None

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
        target: Any,
        step: int | str | os.PathLike[str] | None = None,
        select: Selector | None = None,
        rename: Rename | None = None,
        missing: str = "error",
        unexpected: str = "error",
        *,
        key: jax.Array | None = None,
        mesh: AnyMesh | None = None,
        rules: Rules = (),
        convert: bool = False,
    ) -> Any:
        """Read a checkpoint, or a part of one, into a new pytree like ``target``.

        All names, shapes and dtypes are compared before the first array is read, and all
        differences are told at once. Only what is wanted is read, and each device reads its own
        part. `report` tells what was done.

        Args:
            target: A `VarTree`, a declaration, or any pytree, of values or of
                `jax.ShapeDtypeStruct`. It says which names, shapes and dtypes to expect, and
                where each array is to be: with the sharding of the target's, and if that has
                none on the default device, not committed to it. Saved on 8 devices, restored
                on 1, is fine. NumPy's arrays stay NumPy's, and numbers of Python such.
            step: Which checkpoint: a step; the newest sound one if None; or the path of any
                checkpoint, also of Orbax, Flax, safetensors, NumPy or TensorFlow.
            select: Which variables of the target to restore. The others keep the target's
                values. What it does not pick is neither missing nor unexpected.
            rename: From saved names, or scopes of them, to the target's; or a function. It
                comes before everything else. A saved name that it does not speak of gives way
                to one that it moves there.
            missing: What to do about selected variables that are not saved: ``"error"``,
                ``"keep"`` the target's values, or ``"init"``: a declaration's initial values.
            unexpected: What to do about saved names that the target does not have, and
                ``select`` would pick: ``"error"`` or ``"ignore"``.
            key: Of a declaration's initial values; with it, what would be left without a value
                has its initial one.
            mesh: What a declaration's variables are laid out over; by default the mesh of
                `jax.set_mesh`, if there is one.
            rules: As for `Declaration.abstract`.
            convert: Whether to cast to the target's dtypes, towards floating and complex ones,
                or between integers. A value that the dtype can't hold is an error.

        Returns:
            The target's structure: a declaration's is a `VarTree`. Restored values are new;
            the target is unchanged.

        Raises:
            TreeMismatchError: If the checkpoint differs from what is wanted.
            SelectorError: If ``select`` picks nothing in the target, or ``rename`` speaks of a
                name that is not saved.
            NameCollisionError: If ``rename`` gives two variables one name.
            CheckpointValueError: If a variable would be left without a value, or the target
                is none.
            CheckpointNotFoundError: If there is no such step, or none at all.
            CheckpointError: If the checkpoint is damaged, or an earlier `save_async` failed.

        Source:
            ``tf.train.Saver.restore``, ``tf.train.init_from_checkpoint`` (``rename``, ``select``)
            and ``tf.contrib.framework.assign_from_checkpoint_fn`` (``missing="keep"``),
            TensorFlow 1.15. Differences: nothing is assigned until all is read; shapes are
            always compared.
        """
        with self._lock:
            self._get_ready()
            request = Request(
                target=target,
                select=select,
                rename=rename,
                policy=Policy(missing, unexpected, convert),
                key=key,
                mesh=mesh,
                rules=rules,
            )
            if step is not None and not isinstance(step, str | os.PathLike):
                step = _checked(step)
            tree, self._report = restore(self._directory, step, request)
            return tree

    @property
    def report(self) -> Report | None:
        """What the last `restore` did; None before the first."""
        return self._report

    def latest_step(self) -> int | None:
        """The newest step that can be loaded, or None if there is none.

        It warns of newer ones that are damaged.

        Raises:
            CheckpointError: If the directory can't be listed, no step in it can be loaded, or
                an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            with failing_as(f"The checkpoints in {self._directory} can't be listed"):
                return newest_step(self._directory)

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
            return committed_steps(self._directory)

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
