"""The saving half of a Saver: from the caller's arguments to those of `_writing`."""

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from .._errors import CheckpointError, CheckpointValueError
from .._stores.remote import AnyPath, RemotePath
from ..formats import _own_packed
from ..formats._containers import describe
from ._committing import sweep
from ._disk import failing_as
from ._in_store import InStore
from ._metadata import check_metadata
from ._on_disk import OnDisk
from ._pending import PendingSave, wait_for_directory
from ._retention import Retention
from ._steps import check_flags, checked_step
from ._target import VarList, as_pytree, check_var_list, chosen_leaves, flatten
from ._termination import Termination, terminating
from ._turns import Turns
from ._values import Layout
from ._writing import Save, begin

# With compression, only small arrays are packed, which are not compressed.
_PACKS_BESIDE_COMPRESSED = 1 << 16


class Saving(Turns):
    """Saves trees; the arguments are those of `Saver`."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        var_list: VarList | None,
        retention: Retention,
        *,
        sharded: bool,
        compresses: bool,
        clock: Callable[[], float],
        lease: float,
    ):
        super().__init__(directory)
        self._is_remote = isinstance(self._directory, RemotePath)
        if self._is_remote and compresses:
            raise CheckpointValueError(
                f"compression is for local directories: in {self._directory} arrays are objects of "
                "their raw bytes. Leave it out."
            )
        if isinstance(lease, bool) or not isinstance(lease, int | float) or not lease > 0:
            raise CheckpointValueError(f"lease is a number of seconds above 0, got {lease!r}.")
        self._lease = float(lease)
        self._var_list = check_var_list(var_list)
        self._retention = retention
        self._sharded = sharded
        self._compresses = compresses
        self._clock = clock
        self._made_at = clock()
        if isinstance(self._directory, Path):
            with failing_as(f"Stale files in {self._directory} can't be removed"):
                sweep(self._directory)

    def save(
        self,
        tree: object,
        step: int,
        *,
        metrics: Mapping[str, float] | None = None,
        metadata: object = None,
        overwrite: bool = False,
        portable: bool = False,
    ) -> AnyPath:
        """Save a tree; return when the checkpoint is complete and on disk.

        Args:
            tree: A `VarTree`, or any other pytree: a training state with Optax's state and a
                counter, nested dicts, NamedTuples, dataclasses. Its leaves are arrays of JAX or
                NumPy, PRNG keys, or Python's None, numbers, strings and bytes; nothing is cast.
                Values that each process has its own of are leaves of the class `PerProcess`.
                A leaf's saved name is the path to it, as in ``"opt/0/mu/enc/w"``.
            step: A whole number, in any order.
            metrics: Numbers by name, for ``best``.
            metadata: Facts to store beside the values, as JSON: the model's configuration.
                Numbers of NumPy and JAX come back as Python's.
            overwrite: Whether a checkpoint of this step may be replaced. The old one is there
                until the new one is complete and on disk.
            portable: Whether stock Orbax is to read the checkpoint, as nested dicts. It takes
                longer, and values that Orbax does not hold are an error.

        Returns:
            The directory of the checkpoint.

        Raises:
            CheckpointExistsError: If the step is saved already; nothing is written.
            CheckpointValueError: If a value can't be stored (all such are listed), or the
                step is not a whole number of at least 0; nothing is written.
            CheckpointError: If writing fails, or an earlier `save_async` did.
        """
        with self._lock:
            options = metrics, metadata, overwrite, portable
            return self._begin(tree, step, *options, is_lasting=False)()

    def save_async(
        self,
        tree: object,
        step: int,
        *,
        metrics: Mapping[str, float] | None = None,
        metadata: object = None,
        overwrite: bool = False,
        portable: bool = False,
    ) -> PendingSave:
        """Start to save a tree; return when its arrays may be donated, deleted or changed.

        One save is in flight at a time: this and every other call of the Saver first wait
        for an earlier one, and raise its failure, if it failed, without doing anything else. A
        save waits for one of another Saver in the same directory too. So does the end of the
        program.

        Args:
            tree: As for `save`.
            step: As for `save`.
            metrics: As for `save`.
            metadata: As for `save`.
            overwrite: As for `save`.
            portable: As for `save`.

        Returns:
            The save, to wait for; it need not be kept.

        Raises:
            CheckpointExistsError: As `save`, at once.
            CheckpointValueError: As `save`, at once.
            CheckpointError: If writing can't begin, or an earlier `save_async` failed.
        """
        with self._lock:
            options = metrics, metadata, overwrite, portable
            finish = self._begin(tree, step, *options, is_lasting=True)
            self._pending = PendingSave(self._directory / str(checked_step(step)), finish)
            return self._pending

    def saving_on_termination(
        self, signals: Collection[signal.Signals] = (signal.SIGTERM,)
    ) -> contextlib.AbstractContextManager[Termination]:
        """Save and end the program when the system asks it to end, as it does before a preemption.

        >>> with saver.saving_on_termination() as leave_if_asked:      # doctest: +SKIP
        ...     for step in range(first, last):
        ...         state = train_step(state, batches[step])
        ...         leave_if_asked(state, step)

        The result takes the arguments of `save`. It does nothing until a signal has come; then it
        saves, unless the step is saved already, and raises ``SystemExit``, with 128 and the
        signal's number. A second signal has its earlier handler. In a `jax.distributed` program
        JAX's own service handles SIGTERM, in any process, and all end after the same step.

        Args:
            signals: The signals.

        Raises:
            CheckpointError: In a thread that is not the main one.
        """
        return terminating(self._save_at_last, tuple(signals))

    def _begin(
        self,
        tree: object,
        step: int,
        metrics: Mapping[str, float] | None,
        metadata: object,
        overwrite: bool,
        portable: bool,
        *,
        is_lasting: bool,
    ) -> Callable[[], AnyPath]:
        """Check everything, snapshot the arrays, and return what finishes the save."""
        check_flags(overwrite=overwrite, portable=portable)
        self._get_ready()
        wait_for_directory(self._directory)

        def requested() -> Save:
            if portable and self._is_remote:
                raise CheckpointValueError(
                    f"portable=True writes local directories only, and not {self._directory}: "
                    "Orbax renames what it has written. Leave it out, or write "
                    f"Saver('runs/portable').save(tree, {step}, portable=True) and copy that."
                )
            pytree = as_pytree(tree)
            leaves, _ = flatten(pytree, "The tree")
            packs_up_to = _PACKS_BESIDE_COMPRESSED if self._compresses else _own_packed.LIMIT
            return Save(
                directory=self._directory,
                step=checked_step(step),
                leaves=chosen_leaves(dict(leaves), self._var_list),
                containers=describe(pytree) if self._var_list is None else None,
                metadata=check_metadata(metadata),
                metrics=self._retention.check(metrics),
                overwrite=overwrite,
                layout=Layout(packs_up_to if self._sharded else None, portable, self._is_remote),
                compresses=self._compresses,
                retention=self._retention,
                kept_since=self._made_at,
                clock=self._clock,
                is_lasting=is_lasting,
                place=InStore if self._is_remote else OnDisk,
                lease=self._lease,
            )

        return begin(requested)

    def _save_at_last(self, tree: object, step: int, **options: Any) -> None:
        """Save unless that is done, also if an earlier save failed."""
        with self._lock:
            failure = None
            try:
                self._get_ready()
            except CheckpointError as error:
                failure = error
            if checked_step(step) not in self._steps():
                self.save(tree, step, **options)
            if failure is not None:
                raise failure
