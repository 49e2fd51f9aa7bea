"""Which format a path is in.

A file is recognized by its first bytes, a directory by its contents. A path that is neither npz nor
safetensors nor a directory of a Saver's or Orbax's is given to `tf_checkpoint`, which knows the
forms of TensorFlow's paths, and raises the error if there is no checkpoint.
"""

import os

from ..._errors import CheckpointError
from ._protocol import Checkpoint


def open_checkpoint(path: str) -> Checkpoint:
    """Open a checkpoint; only the list of its variables is read.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    if os.path.isdir(path):
        from ._saver import is_tensorflow, open_saved

        found = None if is_tensorflow(path) else open_saved(path)
        if found is not None:
            return found
    elif os.path.isfile(path):
        from ._files import open_npz, open_safetensors

        with open(path, "rb") as file:
            start = file.read(9)
        if start[:4] in (b"PK\3\4", b"PK\5\6") or path.endswith(".npz"):
            return open_npz(path)
        if start[8:] == b"{" or path.endswith(".safetensors"):
            return open_safetensors(path)
    from ._tensorflow import open_tensorflow

    try:
        return open_tensorflow(path)
    except CheckpointError:
        found = _of_flax(path) if os.path.isfile(path) else None
        if found is None:
            raise
        return found


def _of_flax(path: str) -> Checkpoint | None:
    """A checkpoint that Flax wrote before it used Orbax, one file."""
    from ._saver import open_saved

    return open_saved(path)
