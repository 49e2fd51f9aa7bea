"""Making a new checkpoint in a format by its name.

Imports: `_opening` and `_protocol`, and a format's own file when it is asked for.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from ._protocol import Variable, Writer

NAMES = ("tensorflow", "safetensors", "npz")
_BY_ENDING = {".npz": "npz", ".safetensors": "safetensors", ".ckpt": "tensorflow"}


def format_of(path: str) -> str | None:
    """The format that the name of a new checkpoint suggests, or None."""
    return next((name for end, name in _BY_ENDING.items() if path.endswith(end)), None)


def create(
    format: str, path: str, variables: Mapping[str, Variable]
) -> AbstractContextManager[Writer]:
    """A writer that takes these variables; leaving ``with`` lets the checkpoint appear.

    Raises:
        CheckpointValueError: If the format has no place for some; all such are listed.
        CheckpointExistsError: If there is something in its place.
    """
    if format == "npz":
        from ._files import create_npz

        return create_npz(path, variables)
    if format == "safetensors":
        from ._files import create_safetensors

        return create_safetensors(path, variables)
    from ._tensorflow import create_tensorflow

    return create_tensorflow(path, variables)
