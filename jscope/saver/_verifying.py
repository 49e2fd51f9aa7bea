"""Reading all of a checkpoint, without a device, to compare its checksums."""

from collections.abc import Iterator

import numpy as np

from .._errors import CheckpointError
from ..formats._boxes import of_slices
from ..formats._checksums import crc32c
from ..formats._entry import INDEX, Entry
from ..formats._own_index import check_files
from ..formats._own_source import OwnSource
from ..formats._python_values import is_python, python_value
from ..formats._source import Source
from ._progress import watching


def verify(source: Source) -> int:
    """Compare every checksum of a checkpoint, one chunk of one array at a time; then close it.

    Returns:
        How many bytes of arrays were read.

    Raises:
        CheckpointError: If anything differs from what was saved; the message names every damaged
            file and value.
    """
    if not isinstance(source, OwnSource):
        raise CheckpointError(f"{source.path} is not a checkpoint of jscope, and has no checksums.")
    path, index = source.path, source.index
    problems = []
    try:
        check_files(path, index)
    except (OSError, ValueError) as error:
        problems.append(str(error))
    entries = {}
    for name in index.entries:
        try:
            entries[name] = index.entries[name]
        except ValueError as error:
            problems.append(str(error))
    total = sum(entry.stored_nbytes for entry in entries.values())
    done = 0
    try:
        with watching(f"verifying step {index.step}", total, lambda: done):
            for name, entry in entries.items():
                for nbytes in _verify(source, name, entry, problems):
                    done += nbytes
    finally:
        source.close()
    if problems:
        raise CheckpointError(
            f"Step {index.step} in {path} is damaged. {len(problems)} findings:\n  "
            + "\n  ".join(problems)
        )
    return done


def _verify(source: OwnSource, name: str, entry: Entry, problems: list[str]) -> Iterator[int]:
    if is_python(entry.dtype):
        try:
            python_value(entry.dtype, entry.value)
        except ValueError as error:
            problems.append(f"{name!r}: {error}")
    if entry.location == INDEX:
        return
    where = f"{name!r} in {source.file_of(name)}"
    try:
        source.stored(name)
    except (OSError, ValueError) as error:
        problems.append(f"{where}: {error}")
        return
    for chunk in entry.chunks:
        ends = zip(chunk.start, chunk.shape, strict=True)
        box = of_slices([slice(at, at + length) for at, length in ends], entry.stored_shape)
        array = np.empty(chunk.shape, entry.stored_dtype)
        try:
            source.start(name, box, array)()
        except (OSError, ValueError) as error:
            problems.append(f"{where}: {error}")
        else:
            if crc32c(array) != chunk.crc32c:
                problems.append(
                    f"{where}: the checksum of its part at {chunk.start} of shape {chunk.shape} "
                    "differs"
                )
        yield array.nbytes
