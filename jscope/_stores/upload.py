"""New files of a store that are written to this machine's disk first, whole, and then uploaded."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .._errors import CheckpointExistsError
from .remote import RemotePath
from .store import store_of


@contextlib.contextmanager
def new_files(target: RemotePath, *, overwrite: bool = False) -> Iterator[Path]:
    """A local path to write new files to, which are uploaded to a store when the body ends.

    When the body ends, all files are uploaded, each as one object, those that tell of the others
    last. TensorFlow's state file, which is of several checkpoints, is there for the body, and is
    replaced.

    Args:
        target: What the path is called in the store.
        overwrite: Whether objects of these names are replaced, one by one.

    Raises:
        CheckpointExistsError: If there is something of one of these names, and it may not be.
        StoreError: If the store can't be written.
    """
    there = target.fresh()
    is_taken = there.exists() or (there.parent / f"{there.name}.index").is_file()
    if is_taken and not overwrite:
        raise _upload_exists(str(there))
    store = store_of(target.parent)
    with tempfile.TemporaryDirectory(prefix="jscope-") as scratch:
        state = store.read(_STATE)
        if state is not None:
            Path(scratch, _STATE).write_bytes(state)
        yield Path(scratch) / target.name
        for path in sorted(filter(Path.is_file, Path(scratch).rglob("*")), key=_upload_order):
            name, data = path.relative_to(scratch).as_posix(), path.read_bytes()
            if name == _STATE and data == state:
                continue
            if overwrite or name == _STATE:
                store.write(name, data)
            elif not store.create(name, data):
                raise _upload_exists(str(target.parent / name))


_STATE = "checkpoint"


def _upload_order(path: Path) -> tuple[bool, bool, str]:
    """A key to sort files by, so that those that tell of others are uploaded last."""
    is_last = path.name.endswith((".index", ".index.json"))
    return path.name == _STATE, is_last, str(path)


def _upload_exists(url: str) -> CheckpointExistsError:
    """Compose the error: an upload would overwrite what exists."""
    return CheckpointExistsError(
        f"{url} exists, and is not overwritten without a request.",
        "Write to another name, or remove it first; overwrite=True replaces it.",
    )
