"""TensorFlow 1's functions on checkpoints, by its names.

Source: ``tf.train``, TensorFlow 1.15, ``python/training/checkpoint_management.py`` and
``python/training/checkpoint_utils.py``.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from .. import formats
from .._stores.paths import located
from .._stores.remote import AnyPath
from ..formats._open import exists, newest_path
from ..formats._own_index import read_save_id
from ._checkpoint import Checkpoint

Anywhere: TypeAlias = str | os.PathLike[str]

_POLL_SECONDS = 1.0


def latest_checkpoint(checkpoint_dir: Anywhere) -> AnyPath | None:
    """The newest checkpoint in a directory, or None, as ``tf.train.latest_checkpoint``.

    >>> js.latest_checkpoint("runs/none-yet") is None
    True

    Args:
        checkpoint_dir: The directory of a `Saver`, or of another library's steps.

    Returns:
        Its path, for `Saver.restore` and the functions below.

    Raises:
        CheckpointError: If there are checkpoints, and none can be loaded.

    Source:
        ``tf.train.latest_checkpoint``. Differences: TF reads its state file; here the directory
        is listed, and a damaged checkpoint is skipped with a warning. There is no
        ``latest_filename``.
    """
    return newest_path(located(checkpoint_dir))


def checkpoint_exists(checkpoint_prefix: Anywhere) -> bool:
    """Whether a path is a checkpoint of any kind, as ``tf.train.checkpoint_exists``.

    Source:
        ``tf.train.checkpoint_exists``, which is True of every file and directory.
    """
    return exists(checkpoint_prefix)


def list_variables(ckpt_dir_or_file: Anywhere) -> list[tuple[str, list[int]]]:
    """Names and shapes in a checkpoint of any kind, by name, as ``tf.train.list_variables``.

    Only its index is read. A value that is not an array has the shape ``[]``; for dtypes use
    `Saver.open`.

    Args:
        ckpt_dir_or_file: A checkpoint, or a directory of them: then its newest one.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it is damaged.

    Source:
        ``tf.train.list_variables``.
    """
    with _opened_newest(ckpt_dir_or_file) as checkpoint:
        strings = {name: list(entry.shape) for name, entry in checkpoint.strings.items()}
        return sorted({**checkpoint.shapes(), **strings}.items())


def load_variable(ckpt_dir_or_file: Anywhere, name: str) -> Any:
    """A variable's value in a checkpoint of any kind, as ``tf.train.load_variable``: a NumPy array.

    Nothing else is read. PRNG keys are JAX's, and values that are not arrays have their own types;
    an array of strings is NumPy's, of bytes.

    Args:
        ckpt_dir_or_file: As for `list_variables`.
        name: Its saved name; TF's ``:0`` at the end may be there.

    Raises:
        MissingVariableError: If there is no such variable; offers near names.
        CheckpointNotFoundError: If there is no checkpoint.
        CheckpointError: If it is damaged.

    Source:
        ``tf.train.load_variable``.
    """
    with _opened_newest(ckpt_dir_or_file) as checkpoint:
        if name not in checkpoint and name not in checkpoint.strings:
            name = name.removesuffix(":0")
        strings = checkpoint.strings.get(name)
        return checkpoint[name].read() if strings is None else strings.read()


def checkpoints_iterator(
    checkpoint_dir: Anywhere,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: Callable[[], bool] | None = None,
) -> Iterator[AnyPath]:
    """Wait for new checkpoints, and yield each as it comes, as ``tf.train.checkpoints_iterator``.

    >>> for path in js.checkpoints_iterator("runs/digits", timeout=3600):  # doctest: +SKIP
    ...     variables = saver.restore(declared, path)

    The newest there is comes first. Of several that were saved meanwhile only the newest is
    yielded; a step that was saved anew comes again. The trainer may remove the checkpoint while it
    is restored; to avoid that error, restore the newest: ``saver.restore(declared)``.

    Args:
        checkpoint_dir: The directory of a `Saver`; it need not exist yet.
        min_interval_secs: The least time from one yield to the next.
        timeout: How many seconds to wait for the next one; None waits forever.
        timeout_fn: Called after ``timeout``; the loop goes on unless it gives True. Without it,
            the loop ends.

    Source:
        ``tf.train.checkpoints_iterator``. Differences: it yields paths that `Saver.restore` takes,
        and a step that was overwritten is a new checkpoint.
    """
    return _each_new(located(checkpoint_dir), min_interval_secs, timeout, timeout_fn)


def _each_new(
    directory: AnyPath,
    min_interval_secs: float,
    timeout: float | None,
    timeout_fn: Callable[[], bool] | None,
) -> Iterator[AnyPath]:
    """Wait for new checkpoints, for `checkpoints_iterator`."""
    last: object = None
    begin = time.monotonic()
    while True:
        path = newest_path(directory)
        this = None if path is None else (path, read_save_id(path))
        if path is not None and this != last:
            last, begin = this, time.monotonic()
            yield path
            time.sleep(max(0.0, begin + min_interval_secs - time.monotonic()))
        elif timeout is None or time.monotonic() + _POLL_SECONDS <= begin + timeout:
            time.sleep(_POLL_SECONDS)
            continue
        elif timeout_fn is None or timeout_fn():
            return
        begin = time.monotonic()


def _opened_newest(path: Anywhere) -> Checkpoint:
    """What one of TF1's functions is given, opened: a checkpoint, or the newest in a directory."""
    return Checkpoint(formats.open(path))
