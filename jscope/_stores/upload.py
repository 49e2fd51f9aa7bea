"""New files of a store that are written to this machine's disk first, whole, and then uploaded."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .._errors import CheckpointExistsError
from .remote import RemotePath
from .store import store_of


@contextlib.contextmanager
def new_files(target: RemotePath) -> Iterator[Path]:
    """A local path to write a new checkpoint to: a file, a directory, or a prefix of files' names.

    When the body ends, all files are uploaded, each as one object, those that tell of the others
    last. A checkpoint that a store has is not replaced.

    Raises:
        CheckpointExistsError: If there is something of one of these names.
        StoreError: If the store can't be written.
    """
    there = target.fresh()
    if there.exists() or (there.parent / f"{there.name}.index").is_file():
        raise _exists(str(there))
    with tempfile.TemporaryDirectory(prefix="jscope-") as scratch:
        yield Path(scratch) / target.name
        store = store_of(target.parent)
        for path in sorted(Path(scratch).rglob("*"), key=_last):
            name = path.relative_to(scratch).as_posix()
            if path.is_file() and not store.create(name, path.read_bytes()):
                raise _exists(str(target.parent / name))


def _last(path: Path) -> tuple[bool, str]:
    return path.name.endswith((".index", ".index.json")), str(path)


def _exists(url: str) -> CheckpointExistsError:
    return CheckpointExistsError(
        f"{url} exists, and a checkpoint is never overwritten. Write to another name, or remove it "
        "first."
    )
