"""The user's metadata: what JSON holds, and nothing that it would change.

Imports: `_errors`; standard library.
"""

import json
from typing import Any

from .._errors import CheckpointValueError


def check_metadata(metadata: Any) -> Any:
    """A copy of the metadata, as it will be read.

    Raises:
        CheckpointValueError: If JSON does not hold it, or would change it.
    """
    try:
        copy = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointValueError(
            f"metadata is what JSON holds: {error}. Write lists, dicts with strings as keys, "
            "strings, numbers, True, False and None."
        ) from error
    changed = _difference(metadata, copy, "metadata")
    if changed:
        raise CheckpointValueError(
            f"metadata is what JSON holds, and {changed}. Write lists, and dicts with strings as "
            "keys."
        )
    return copy


def _difference(before: Any, after: Any, where: str) -> str | None:
    if isinstance(before, dict) and type(after) is dict:
        for key in before:
            if not isinstance(key, str):
                return f"{where} has the key {key!r}, which would come back as a string"
        pairs = [(before[key], after[key], f"{where}[{key!r}]") for key in before]
    elif isinstance(before, list) and type(after) is list:
        pairs = [(*pair, f"{where}[{i}]") for i, pair in enumerate(zip(before, after, strict=True))]
    elif type(before) is type(after) and before == after:
        return None
    else:
        kinds = f"of type {type(before).__name__} would come back as {type(after).__name__}"
        return f"{where} {kinds}"
    return next(filter(None, (_difference(*pair) for pair in pairs)), None)
