"""Which format a path is in.

A file is told by its first bytes; a directory by what is in it. Whatever is neither npz,
safetensors nor a directory of js.Saver's or Orbax's is given to `tf_checkpoint`, which knows how
a TensorFlow checkpoint may be spelled, and what to say if there is none.

Imports: the files beside this one, each when it is needed.
"""

import os

from ._protocol import Checkpoint


def open_checkpoint(path: str) -> Checkpoint:
    """Open a checkpoint; only what lists its variables is read.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    if os.path.isfile(path):
        from ._files import open_npz, open_safetensors

        with open(path, "rb") as file:
            start = file.read(9)
        if start[:4] in (b"PK\3\4", b"PK\5\6") or path.endswith(".npz"):
            return open_npz(path)
        if start[8:] == b"{" or path.endswith(".safetensors"):
            return open_safetensors(path)
    from ._tensorflow import open_tensorflow

    return open_tensorflow(path)
