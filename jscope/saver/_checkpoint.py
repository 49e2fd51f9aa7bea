"""A checkpoint as a mapping from names to variables that are read when they are requested."""

import contextlib
import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Self, SupportsInt

import numpy as np
from numpy.typing import DTypeLike

from .._errors import CheckpointError, MissingVariableError, near
from .._stores.remote import AnyPath
from .._tree.text import bytes_text, table
from .._tree.vartree import VarTree, from_flat
from ..formats._boxes import Box, whole
from ..formats._checksums import crc32c
from ..formats._file_entry import Entry as FileEntry
from ..formats._own_entry import INDEX, Entry
from ..formats._own_index import Entries
from ..formats._own_source import OwnSource
from ..formats._python_values import PER_PROCESS, is_python, python_value
from ..formats._source import Source
from ._comparison import signature_text
from ._encoding import key_dtype
from ._progress import watching
from ._read import read_box
from ._target import check_legal


class Checkpoint(Mapping[str, "SavedVariable"]):
    """What is saved in a checkpoint, by name; nothing of it is read before it is requested.

    >>> with saver.open() as checkpoint:                              # doctest: +SKIP
    ...     print(checkpoint)                                         # names, shapes, dtypes
    ...     rows = checkpoint["embedding"][1000:1010]
    ...     model = checkpoint.metadata["model"]

    ``js.VarTree(checkpoint)`` reads all of it, on the host; `Saver.restore` without a target reads
    all of it to where JAX computes, and gives the containers that were saved.

    It holds one file open, which is closed on leaving ``with``, or with the object.

    Attributes:
        path: The checkpoint's directory or file.
        step: Its step, if jscope wrote it.
        metadata: What the user saved beside the variables; None if there is nothing.
        metrics: The metrics given to `Saver.save`, by name.
        strings: The arrays of strings in another library's file, by name, each with ``shape`` and
            ``read()``. They are not among the variables, since JAX has no such arrays.
    """

    def __init__(self, source: Source, *, verify: bool = True):
        self.path: AnyPath = source.path
        index = source.index if isinstance(source, OwnSource) else None
        self.step: int | None = None if index is None else index.step
        self.metrics: Mapping[str, float] = {} if index is None else index.metrics
        self.metadata: Any = source.metadata
        self.strings: Mapping[str, FileEntry] = source.strings
        self._source = source
        self._verify = verify
        weakref.finalize(self, source.close)

    def __getitem__(self, name: str) -> "SavedVariable":
        entries = self._source.entries
        if name in self.strings:
            raise MissingVariableError(
                f"{name!r} in the checkpoint {self.path} is an array of strings, or of a dtype "
                f"that JAX lacks. checkpoint.strings[{name!r}].read() gives strings, as NumPy's."
            )
        if name not in entries:
            raise MissingVariableError(
                f"No variable {name!r} in the checkpoint {self.path} ({near(name, entries)})."
            )
        return SavedVariable(name, self._entry(name), self._source, self._verify)

    def __contains__(self, name: object) -> bool:
        return name in self._source.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.entries)

    def __len__(self) -> int:
        return len(self._source.entries)

    @property
    def nbytes(self) -> int:
        """The number of bytes of all values together."""
        return sum(variable.nbytes for variable in self.values())

    def shapes(self) -> dict[str, list[int]]:
        """The shapes by name; ``[]`` of values that are not arrays."""
        entries = self._source.entries
        if not isinstance(entries, Entries):
            return {name: list(entry.shape) for name, entry in entries.items()}
        try:
            return entries.shapes()
        except ValueError as error:
            raise CheckpointError(f"{self.path} can't be read: {error}") from error

    def __vartree__(self) -> VarTree:
        """All values, read: what `VarTree` makes of a checkpoint."""
        check_legal(self.path, {name: name for name in self})
        return from_flat({name: variable.read() for name, variable in self.items()})

    def close(self) -> None:
        """Close the file that is open. Reading opens it anew."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        rows = [
            (name, str(entry.shape), entry.dtype, bytes_text(entry.nbytes))
            for name, entry in ((name, self._entry(name)) for name in self)
        ]
        head = f"Checkpoint {self.path} of {len(self):,} variables, {bytes_text(self.nbytes)}"
        body = table(("name", "shape", "dtype", "bytes"), rows, right=("bytes",))
        return f"{head}\n{body}" if rows else head

    def _entry(self, name: str) -> Entry:
        try:
            return self._source.entries[name]
        except ValueError as error:
            raise CheckpointError(f"{self.path} can't be read: {error}") from error


class SavedVariable:
    """One variable of an opened checkpoint, as an array that is read when it is requested.

    `read` gives it, ``variable[10:20]`` a part; ``np.asarray`` and ``jnp.asarray`` read it, too.

    Attributes:
        name: Its saved name.
        shape: Its shape; ``()`` of a value that is not an array.
        kind: The name of a dtype of NumPy, of PRNG keys ``"key<fry>"``, of a value that is not an
            array ``"python int"`` and so on.
        nbytes: The number of bytes of the value; 0 for a value that is not an array.
    """

    def __init__(self, name: str, entry: Entry, source: Source, verify: bool):
        self.name = name
        self.shape = entry.shape
        self.kind = entry.dtype
        self.nbytes = entry.nbytes
        self._entry = entry
        self._source = source
        self._verify = verify

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's; of PRNG keys JAX's, and of another value that of NumPy's array of it."""
        if self.kind == PER_PROCESS:
            return np.dtype(object)
        if is_python(self.kind):
            return np.asarray(self.read()).dtype
        if self._entry.key_impl is not None:
            try:
                return key_dtype(self._entry)
            except ValueError as error:
                raise self._cannot_be_read(error) from error
        return np.dtype(self.kind)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self.name!r} has no axes, and so no length.")
        return self.shape[0]

    def read(self) -> Any:
        """The value: of NumPy, PRNG keys of JAX, a number or string of Python, or None.

        Raises:
            CheckpointError: If it can't be read, or its checksum differs.
        """
        return self._read(whole(self._entry.stored_shape))

    def __getitem__(self, index: object) -> Any:
        """A part of an array, as NumPy's indexing gives it.

        Only the saved chunks are read that the part lies in, if it is cut by numbers and slices;
        what was not sharded is one chunk. Other indices read the whole.

        Raises:
            IndexError: If it is outside the array, or this is not an array.
            CheckpointError: As `read`.
        """
        if is_python(self.kind):
            raise IndexError(
                f"{self.name!r} is not an array but a {self.kind}; {self._reading()} gives it."
            )
        box, inside = _indexed_box(index, self.shape)
        rest = whole(self._entry.stored_shape[len(self.shape) :])
        return self._read((*box, *rest))[inside]

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> np.ndarray[Any, Any]:
        """All of it, for NumPy and JAX; the array is always a new one.

        Raises:
            ValueError: If ``copy`` is False.
            TypeError: If it holds PRNG keys.
            CheckpointError: As `read`.
        """
        if copy is False:
            raise ValueError(f"{self.name!r} is on disk; an array of it is always a copy.")
        if self._entry.key_impl is not None:
            raise TypeError(
                f"{self.name!r} holds PRNG keys, of which NumPy has no arrays; {self._reading()} "
                "gives them."
            )
        return np.asarray(self.read(), dtype)

    def __repr__(self) -> str:
        return f"SavedVariable({self.name!r}, {signature_text(self.shape, self.kind)})"

    def _reading(self) -> str:
        """The line that reads it."""
        return f"saver.open({str(self._source.path)!r})[{self.name!r}].read()"

    def _read(self, box: Box) -> Any:
        try:
            return read_box(self._source, self.name, box, verify=self._verify)
        except (OSError, ValueError) as error:
            if self._has_changed():
                raise CheckpointError(
                    f"{self._source.path} was replaced or removed since it was opened, so "
                    f"{self.name!r} can't be read. Open it again."
                ) from error
            raise self._cannot_be_read(error) from error

    def _has_changed(self) -> bool:
        try:
            return self._source.has_changed()
        except (OSError, CheckpointError):
            return False

    def _cannot_be_read(self, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self.name!r} can't be read from {self._source.path}: {error}")


def _indexed_box(index: Any, shape: tuple[int, ...]) -> tuple[Box, Any]:
    """The box to read of an opened checkpoint's variable for an index, and the index into it."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(part is ... or isinstance(part, slice) or _is_number(part) for part in parts):
        return whole(shape), index
    # NumPy's own errors, before anything is read: of an array of one element, broadcast.
    _ = np.broadcast_to(np.empty((), bool), shape)[index]
    named = [i for i, part in enumerate(parts) if part is ...] or [len(parts)]
    before, after = parts[: named[0]], parts[named[0] + 1 :]
    free = (slice(None),) * (len(shape) - len(before) - len(after))
    axes = [
        _indexed_along(part, n) for part, n in zip((*before, *free, *after), shape, strict=True)
    ]
    return tuple(box for box, _ in axes), tuple(inside for _, inside in axes)


def _is_number(part: object) -> bool:
    """Whether an item of the index of a saved variable is an integer."""
    return isinstance(part, int | np.integer) and not isinstance(part, bool)


def _indexed_along(part: slice | SupportsInt, length: int) -> tuple[tuple[int, int], Any]:
    """The part of a saved variable's axis that an index picks, and the index into that."""
    if not isinstance(part, slice):
        at = range(length)[int(part)]
        return (at, at + 1), 0
    picked = range(length)[part]
    if not picked:
        return (0, 0), slice(0, 0)
    first, last = sorted((picked[0], picked[-1]))
    # An end of None, as one of -1 would count from the end.
    return (first, last + 1), slice(picked[0] - first, None, picked.step)


def verify(source: Source) -> int:
    """For a Saver, compare every checksum of an opened checkpoint, chunk by chunk; then close it.

    Returns:
        How many bytes of arrays were read.

    Raises:
        CheckpointError: If anything differs from what was saved; the message names every damaged
            file and value.
    """
    if not isinstance(source, OwnSource):
        raise CheckpointError(f"{source.path} is not a checkpoint of jscope, and has no checksums.")
    path, index = source.path, source.index
    problems: list[str] = []
    entries = {}
    with contextlib.closing(source):
        with _noting(problems):
            source.check()
        for name in index.entries:
            with _noting(problems):
                entries[name] = index.entries[name]
        total = sum(entry.stored_nbytes for entry in entries.values())
        done = 0
        with watching(f"verifying step {index.step}", total, lambda: done):
            for name, entry in entries.items():
                for nbytes in _verify_variable(source, name, entry, problems):
                    done += nbytes
    if problems:
        raise CheckpointError(
            f"Step {index.step} in {path} is damaged. {len(problems)} findings:\n  "
            + "\n  ".join(problems)
        )
    return done


@contextlib.contextmanager
def _noting(problems: list[str], where: str = "") -> Iterator[None]:
    """Note in a list what of a checkpoint the body can't verify."""
    try:
        yield
    except (OSError, ValueError) as error:
        problems.append(f"{where}{error}")


def _verify_variable(
    source: OwnSource, name: str, entry: Entry, problems: list[str]
) -> Iterator[int]:
    """Compare an opened checkpoint's checksums of one variable; yield the bytes of each chunk."""
    if is_python(entry.dtype):
        with _noting(problems, f"{name!r}: "):
            python_value(entry.dtype, entry.value)
    if entry.location == INDEX:
        return
    where = f"{name!r} in {source.file_of(name)}: "
    with _noting(problems, where):
        source.stored(name)
        for chunk in entry.chunks:
            array = np.empty(chunk.shape, entry.stored_dtype)
            with _noting(problems, where):
                source.start(name, chunk.box, array)()
                if crc32c(array) != chunk.crc32c:
                    raise ValueError(
                        f"the checksum of its part at {chunk.start} of shape {chunk.shape} differs"
                    )
            yield array.nbytes
