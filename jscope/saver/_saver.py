"""Saver: steps of a tree in a directory, each saved whole or not at all.

On disk::

    directory/
      checkpoint       the state file: see `formats._own_state`
      12/              a checkpoint: see `formats._own_index`
      .tmp-3f9a.../    a staging directory, of a save under way or a crashed one: see `_staging`

`_staging` describes how a checkpoint becomes complete, and what is removed after it.

**Async.** `Saver.save_async` returns once the arrays are snapshot; a thread does the rest. One is
in flight per directory, and its failure is raised once, by the next call. A program that ends waits
for its saves, and prints the failures that were not retrieved.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import jax
import numpy as np

from .._errors import CheckpointError, CheckpointValueError, failing_as
from .._names.selectors import Selector
from .._names.tf1 import no_attribute_of
from .._stores.paths import located
from .._stores.remote import AnyPath, RemotePath
from ..formats import _own_packed
from ..formats._containers import describe
from ..formats._open import all_steps, latest_step
from ..formats._own_state import read_state
from ..formats._own_steps import checkpoints, committed_steps
from ..sharding import AnyMesh, Rules
from ._arguments import (
    check_flags,
    check_metadata,
    checked_step,
    checked_step_or_path,
    open_checkpoint,
)
from ._async_save import PendingSave, wait_for_directory
from ._checkpoint import Checkpoint, verify
from ._comparison import Policy
from ._encoding import Layout
from ._in_store import place_of
from ._leaves import as_pytree, check_var_list, chosen_leaves, flatten
from ._plan import Renaming, Report, Request
from ._preemption import Termination, terminating
from ._read import IN_FLIGHT
from ._renaming import Rename
from ._restore import restore
from ._retention import Retention
from ._staging import sweep
from ._write import LEASE, Save, begin

# With compression, only small arrays are packed, which are not compressed.
_PACKS_BESIDE_COMPRESSED = 1 << 16


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
    them save at once is the first one's, and the other's save fails. The processes of a
    `jax.distributed` program save one checkpoint together: they all call the same methods.

    Args:
        directory: Where the checkpoints are, one sub-directory per step. It is created by
            the first save; ``~`` is expanded, and a relative path is taken from the working
            directory at this moment. Stale files of processes that crashed while saving are
            removed.
        var_list: Which variables are saved and restored: selectors, or a dict from saved names
            to the variables' names. All, if None.
        reshape: Whether a saved array may have another shape than the target's, of as many
            elements. With True, one that looks transposed is an error; a selector names the
            variables of the target that are reshaped, these too.
        sharded: Whether each device's part of a large array is written on its own, in parallel. If
            not, the arrays are gathered, one at a time, and written to one file.
        max_to_keep: How many checkpoints stay, the last ones saved; all, if None or 0. Those
            that other Savers saved in the directory count too. The one that was saved last and
            the one of the highest step are never removed.
        keep_checkpoint_every_n_hours: Of the checkpoints that ``max_to_keep`` would remove, those
            that are kept for good: the first that was saved more than so many hours after the
            first Saver of the directory was made, the next one after twice as many, and so on.
            After a pause several in a row are kept, for the hours that had none.
        best: Which metric counts, and how: ``"min:loss"`` or ``"max:accuracy"``. The
            ``max_to_keep`` best checkpoints stay then, and beside them the one that was saved
            last. Each save needs ``metrics`` with that one; NaN is the worst, and of two equals the
            newer is better.
        restore_sequentially: Whether arrays are restored one at a time, to save memory.
        verify: Whether what is restored is compared with its checksums.
        compression: None or ``"zstd"``, for arrays of more than 64 KiB. Saving and restoring then
            take several times as long, for 8 % of a file of random float32.
        clock: A function that gives the time, in seconds since 1970.
        lease: In a store, after how many seconds a process that is saving and gives no sign of
            life is taken for a crashed one, whose save is stopped and removed.

    Raises:
        CheckpointValueError: If an argument is invalid.

    Source:
        ``tf.train.Saver``, TensorFlow 1.15, ``python/training/saver.py``. Differences: TF
        makes its Saver from variables and passes a path to each call, here it is the other
        way round; TF overwrites a step that exists; TF's ``restore`` assigns to a session,
        here a new tree is returned; TF ignores what only the checkpoint has; TF flushes
        nothing to disk; TF's Saver forgets at a restart which checkpoints there are and which
        hours have passed, and its default for ``keep_checkpoint_every_n_hours`` is 10,000, more
        than a year, here None.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        var_list: Mapping[str, str] | Collection[Selector] | None = None,
        reshape: bool | Selector = False,
        sharded: bool = True,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float | None = None,
        *,
        best: str | None = None,
        restore_sequentially: bool = False,
        verify: bool = True,
        compression: str | None = None,
        clock: Callable[[], float] = time.time,
        lease: float = LEASE,
    ):
        is_selector = isinstance(reshape, str | re.Pattern | Collection) or callable(reshape)
        _check_positional(directory, reshape=is_selector or reshape, sharded=sharded)
        check_flags(restore_sequentially=restore_sequentially, verify=verify)
        self._retention = Retention.of(max_to_keep, keep_checkpoint_every_n_hours, best)
        self._directory = located(directory)
        _check_compression(compression, sharded, self._directory)
        if isinstance(lease, bool) or not isinstance(lease, int | float) or not lease > 0:
            raise CheckpointValueError(f"lease is a number of seconds above 0, got {lease!r}.")
        self._lease = float(lease)
        self._var_list = check_var_list(var_list)
        self._reshape = reshape if is_selector else bool(reshape)
        self._sharded = sharded
        self._compresses = compression is not None
        self._restore_sequentially = restore_sequentially
        self._verify = verify
        self._clock = clock
        self._made_at = clock()
        self._report: Report | None = None
        self._lock = threading.RLock()
        self._pending: PendingSave | None = None
        self._is_closed = False
        if isinstance(self._directory, Path):
            with failing_as(f"Stale files in {self._directory} can't be removed"):
                sweep(self._directory)

    @property
    def directory(self) -> AnyPath:
        """The directory of the checkpoints, as an absolute path or what a store calls it."""
        return self._directory

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
            portable: Whether stock Orbax is to read the checkpoint, as nested dicts:
                ``CheckpointManager(directory)`` finds the step, whose item is ``default``. It takes
                longer, and values that Orbax does not hold are an error; so are other steps in
                the directory that were saved without it.

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

    def restore(
        self,
        target: object = None,
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
        names: str = "/",
        stacks: Collection[str] = (),
    ) -> Any:
        r"""Read a checkpoint, or a part of one, into a new pytree like ``target``.

        All names, shapes and dtypes are compared before the first array is read, and all
        differences are reported at once. Only requested values are read, and each device reads its
        own part. `report` has the details.

        Args:
            target: A `VarTree`, a declaration, or any pytree, of values or of
                `jax.ShapeDtypeStruct`. It gives the expected names, shapes and dtypes, and
                the placement of each array: with the sharding of the target's, and if that has
                none on the default device, not committed to it. Saved on 8 devices, restored
                on 1, is fine. NumPy's arrays stay NumPy's, numbers of Python such, and weakly
                typed arrays weakly typed. Without one everything comes back as it was saved; see
                below.
            step: Which checkpoint: a step; the newest intact one if None; or the path of any
                checkpoint, also of Orbax, Flax, safetensors, NumPy or TensorFlow.
            select: Which variables of the target to restore. The others keep the target's
                values. Variables that it does not pick are neither missing nor unexpected.
            rename: From saved names, or scopes of them, to the target's; or a function. It
                is applied first, and changes names only: what it does not mention keeps its own.
                A saved name that it does not mention is replaced by one that it moves there. See
                below.
            missing: What to do about selected variables that are not saved: ``"error"``,
                ``"keep"`` the target's values, or ``"init"``: a declaration's initial values.
            unexpected: What to do about saved names that the target does not have, and
                ``select`` would pick: ``"error"`` or ``"ignore"``.
            key: Of a declaration's initial values; with it, what would be left without a value
                has its initial one.
            mesh: What a declaration's variables are laid out over; by default the mesh of
                `jax.set_mesh`, if there is one.
            rules: As for `Declaration.abstract`.
            convert: Whether to cast to the target's dtypes, from bool to integer, floating-point
                and complex ones or within one of these. Floating-point numbers are rounded;
                any other value that the dtype doesn't have, and a number that is too large
                for it, is an error.
            names: What separates the components of saved names. With ``"."``, for PyTorch's,
                ``model.layers.0.weight`` is ``model/layers/0/weight`` for ``select``, ``rename``
                (which may have either) and the target.
            stacks: The scopes of a pytree that are stacks; a declaration knows its own. A variable
                in a stack that is not saved as a whole is read from its slices, ``layers/0/w``,
                ``layers/1/w``, ..., the names that `jscope.unstack` gives, after ``rename``.

        The entries of ``rename`` go from saved names to the target's:

        ======================================  ==================================================
        ``"bert": "encoder"``                   a variable or a scope, with all that is below it
        ``"bert/": "encoder/"``                 all below a scope; ``""`` or ``"/"`` is the root
        ``"layer_*/": "layers/*/"``             scopes or names with ``*``, which stands for a part
                                                of one component, the same on both sides
        ``re.compile(r"(.*)/w"): r"\1/kernel"`` whole names by a regular expression
        ``"embed/w": ("embed/w", "head/w")``    into several variables, which share what is saved
        ``"w": js.Through("w", np.transpose)``  through a function of the saved value
        ======================================  ==================================================

        One entry decides about a saved name: its own, else the first regular expression that
        matches it, else the longest left side. Values that go through a function are read before
        the comparison, since their shapes and dtypes are the function's.

        Returns:
            The target's structure: a declaration's is a `VarTree`. Restored values are new;
            the target is unchanged. Without a target it is what was saved: a `VarTree`, or dicts,
            lists and tuples, with classes of other kinds as dicts of their fields. Arrays are
            JAX's, on the default device. With ``select``, ``rename`` or ``var_list``, and of files
            of TensorFlow, safetensors and NumPy, it is a `VarTree`.

        Raises:
            TreeMismatchError: If the checkpoint differs from the target, or a dtype can't hold
                a value.
            SelectorError: If ``select`` picks nothing in the target, or an entry of ``rename``
                is about nothing that is saved.
            NameCollisionError: If ``rename`` or ``names`` gives two variables one name.
            CheckpointValueError: If a variable would be left without a value, or the target
                is invalid.
            CheckpointNotFoundError: If there is no such step, or none at all.
            CheckpointError: If the checkpoint is damaged, or an earlier `save_async` failed.
            Exception: What a function of ``rename`` raises, with a note that names the variable.

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
                naming=Renaming(rename, names),
                stacks=stacks,
                policy=Policy(missing, unexpected, convert),
                reshape=self._reshape,
                key=key,
                mesh=mesh,
                rules=rules,
                var_list=self._var_list,
                verify=self._verify,
                in_flight=1 if self._restore_sequentially else IN_FLIGHT,
            )
            tree, self._report = restore(self._directory, checked_step_or_path(step), request)
            return tree

    def open(self, step: int | str | os.PathLike[str] | None = None) -> Checkpoint:
        """Open a checkpoint as a mapping from saved names to variables, which are read on access.

        Names outside jscope's alphabet, of other libraries, are read here as they are.

        Args:
            step: As for `restore`.

        Raises:
            CheckpointNotFoundError: If there is no such step, or none at all.
            CheckpointError: If its index is damaged, or an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            source = open_checkpoint(self._directory, checked_step_or_path(step))
            return Checkpoint(source, verify=self._verify)

    @property
    def report(self) -> Report | None:
        """The report of the last `restore`; None before the first."""
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
            with self._listing():
                return latest_step(self._directory)

    def best_step(self) -> int | None:
        """The step that is best by the metric of ``best``; None if no checkpoint has it.

        Raises:
            CheckpointValueError: If the Saver was made without ``best``.
            CheckpointError: If the directory can't be listed, or an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            if self._retention.metric is None:
                raise CheckpointValueError(
                    "This Saver has no `best`. Write Saver(directory, best='min:loss') "
                    "and saver.save(tree, step, metrics={'loss': ...})."
                )
            with self._listing():
                state = read_state(self._directory, checkpoints(self._directory))
            return self._retention.best(state)

    def all_steps(self) -> tuple[int, ...]:
        """The steps that have complete checkpoints, in ascending order.

        Raises:
            CheckpointError: If the directory can't be listed, or an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            with self._listing():
                return all_steps(self._directory)

    def verify(self, step: int | None = None) -> int:
        """Read all of a checkpoint, without a device, and compare every checksum.

        Args:
            step: Which one; the newest that can be loaded, if None.

        Returns:
            How many bytes of arrays were read.

        Raises:
            CheckpointNotFoundError: If there is no such step, or none at all.
            CheckpointError: If anything differs from what was saved, with every damaged file and
                value; or if an earlier `save_async` failed.
        """
        with self._lock:
            self._get_ready()
            source = open_checkpoint(self._directory, None if step is None else checked_step(step))
            return verify(source)

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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            # The body's error comes first; this one must not hide it.
            error.add_note(f"Moreover, an asynchronous save failed. {failure}")

    if not TYPE_CHECKING:  # else any misspelled name would have a type

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute_of(self, name)

    def __repr__(self) -> str:
        return f"Saver({str(self._directory)!r})"

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
            if portable and isinstance(self._directory, RemotePath):
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
                layout=Layout(packs_up_to if self._sharded else None, portable, self._compresses),
                retention=self._retention,
                kept_since=self._made_at,
                clock=self._clock,
                is_lasting=is_lasting,
                place=place_of(self._directory),
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
            with self._listing():
                steps = committed_steps(self._directory)
            if checked_step(step) not in steps:
                self.save(tree, step, **options)
            if failure is not None:
                raise failure

    def _get_ready(self) -> None:
        """The start of every call."""
        if self._is_closed:
            raise CheckpointError(f"{self!r} is closed. Make another one.")
        self._settle()

    def _settle(self) -> None:
        """Wait for the save in flight, and raise its failure if it was not retrieved."""
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

    def _listing(self) -> contextlib.AbstractContextManager[None]:
        return failing_as(f"The checkpoints in {self._directory} can't be listed")


def _check_positional(directory: object, **flags: object) -> None:
    """Refuse positional arguments of `Saver` that aren't flags: a 5 may be for another of TF's."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise CheckpointValueError(
                f"Saver({str(directory)!r}): {name} is True or False, got {value!r}. After the "
                "directory come var_list, reshape, sharded, max_to_keep and "
                "keep_checkpoint_every_n_hours, as in TF1; or write them by name, such as "
                "max_to_keep=5."
            )


def _check_compression(compression: str | None, sharded: bool, directory: AnyPath) -> None:
    """Refuse what can't be `Saver`'s argument ``compression``."""
    if compression not in (None, "zstd"):
        raise CheckpointValueError(f"compression is None or 'zstd', got {compression!r}.")
    if compression and not sharded:
        raise CheckpointValueError(
            "compression is of arrays that are written sharded; the one file of sharded=False "
            "is never compressed. Leave one of the two out."
        )
    if compression and isinstance(directory, RemotePath):
        raise CheckpointValueError(
            f"compression is for local directories: in {directory} arrays are objects of "
            "their raw bytes. Leave it out."
        )
