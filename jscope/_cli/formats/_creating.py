"""Making a new checkpoint in a format by its name."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager

from ._protocol import Variable, Writer

NAMES = ("tensorflow", "safetensors", "npz", "jscope")
_BY_ENDING = {".npz": "npz", ".safetensors": "safetensors", ".ckpt": "tensorflow"}


def format_of(path: str) -> str | None:
    """The format that the name of a new checkpoint suggests, or None."""
    last = os.path.basename(path)
    if last.isdecimal():
        return "jscope"
    # model.ckpt-1000 is how TensorFlow calls step 1000.
    ending = os.path.splitext(last)[1].partition("-")[0]
    return _BY_ENDING.get(ending)


def create(
    format: str, path: str, variables: Mapping[str, Variable]
) -> AbstractContextManager[Writer]:
    """A writer that takes these variables; leaving ``with`` lets the checkpoint appear.

    Raises:
        CheckpointValueError: If the format can't hold some; all such are listed.
        CheckpointExistsError: If the path exists.
    """
    if format == "npz":
        from ._files import create_npz

        return create_npz(path, variables)
    if format == "safetensors":
        from ._files import create_safetensors

        return create_safetensors(path, variables)
    if format == "jscope":
        from ._saver import create_saved

        return create_saved(path, variables)
    from ._tensorflow import create_tensorflow

    return create_tensorflow(path, variables)
