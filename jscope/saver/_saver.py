"""Saver: steps of a tree in a directory, each saved whole or not at all.

On disk::

    directory/
      checkpoint       the state file: see `formats._own_state`
      12/              a checkpoint: see `formats._own_index`
      .tmp-3f9a.../    a staging directory, of a save under way or a crashed one: see `_staging`

`_committing` describes how a checkpoint becomes complete, and what is removed after it.

**Async.** `Saver.save_async` returns once the arrays are snapshot; a thread does the rest. One is
in flight per directory, and its failure is raised once, by the next call. A program that ends waits
for its saves, and prints the failures that were not retrieved.
"""

import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from .._errors import CheckpointValueError
from .._names.selectors import Selector
from ..formats._open import all_steps, latest_step
from ..formats._own_directory import checkpoints
from ..formats._own_state import read_state
from ..sharding import AnyMesh, Rules
from ._account import Policy
from ._opening import Checkpoint
from ._planning import Request
from ._reading import IN_FLIGHT
from ._restoring import Report, restore
from ._retention import Retention
from ._saving import Saving
from ._steps import check_flags, checked_step, checked_step_or_path, open_checkpoint
from ._target import Rename
from ._verifying import verify
from ._writing import LEASE


class Saver(Saving):
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
        for name, value in (("reshape", is_selector or reshape), ("sharded", sharded)):
            # They are positional, as in TF: a 5 may be meant for another argument.
            if not isinstance(value, bool | np.bool_):
                raise CheckpointValueError(
                    f"Saver({str(directory)!r}): {name} is True or False, got {value!r}. After the "
                    "directory come var_list, reshape, sharded, max_to_keep and "
                    "keep_checkpoint_every_n_hours, as in TF1; or write them by name, such as "
                    "max_to_keep=5."
                )
        check_flags(restore_sequentially=restore_sequentially, verify=verify)
        if compression not in (None, "zstd"):
            raise CheckpointValueError(f"compression is None or 'zstd', got {compression!r}.")
        if compression and not sharded:
            raise CheckpointValueError(
                "compression is of arrays that are written sharded; the one file of sharded=False "
                "is never compressed. Leave one of the two out."
            )
        retention = Retention.of(max_to_keep, keep_checkpoint_every_n_hours, best)
        super().__init__(
            directory,
            var_list,
            retention,
            sharded=sharded,
            compresses=compression is not None,
            clock=clock,
            lease=lease,
        )
        self._reshape = reshape if is_selector else bool(reshape)
        self._restore_sequentially = restore_sequentially
        self._verify = verify
        self._report: Report | None = None

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
                rename=rename,
                names=names,
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
