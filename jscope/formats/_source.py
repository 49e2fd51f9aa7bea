"""The source of a checkpoint's arrays, for all formats.

A source has the entries of a checkpoint, without reading any array, and fills boxes of arrays.
Other files interpret them: dtypes stored as others, keys, checksums, placement.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .._stores.remote import AnyPath
from ._boxes import Array, Box, slices
from ._file_entry import Entry as FileEntry
from ._own_entry import INDEX, ORBAX, Chunk, Entry, dtype_name
from ._python_values import python_dtype, python_text

if TYPE_CHECKING:
    from ._containers import Containers


class Extent(NamedTuple):
    """Where a source has the bytes of an array, if they are side by side in a file.

    Attributes:
        file: The file; equal for the arrays of one.
        offset: Where they begin.
        read: Fills memory with the bytes from an offset on.
        most: How many bytes it pays to read at once.
    """

    file: str
    offset: int
    read: Callable[[int, memoryview], None]
    most: int = 256 << 10


class Source(Protocol):
    """The source of a checkpoint's arrays: one that is opened for reading, of any format.

    Attributes:
        path: Its directory or file.
        format: The name of its format, for printing.
        checksum: The checksum of its bytes, such as ``CRC-32C``, or ``""`` if there is none.
        entries: What is saved, by name.
        metadata: What the user saved beside it.
        index_bytes: How many bytes were read for this.
        containers: Which pytree it was, if that is recorded.
        fillers: Names that may stand for no value at all, so that nothing is lost without them.
    """

    @property
    def path(self) -> AnyPath: ...

    @property
    def format(self) -> str: ...

    @property
    def checksum(self) -> str: ...

    @property
    def entries(self) -> Mapping[str, Entry]: ...

    @property
    def metadata(self) -> object: ...

    @property
    def containers(self) -> "Containers | None": ...

    @property
    def index_bytes(self) -> int: ...

    @property
    def fillers(self) -> frozenset[str]: ...

    @property
    def strings(self) -> Mapping[str, FileEntry]: ...

    def stored(self, name: str) -> Entry:
        """What is saved under a name, when it is known that its bytes are there.

        To be called before memory is allocated for it.

        Raises:
            ValueError, OSError: If they are not, or their metadata is invalid.
        """

    def extent(self, name: str) -> Extent | None:
        """Where the bytes of an array are, if it can be read together with its neighbours.

        To be called after `stored`.
        """

    def reads_parts(self, name: str) -> bool:
        """Whether a box of an array is read without the bytes around it."""

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """Begin to read a box of a stored array; return how to wait for it.

        Args:
            name: The array's saved name.
            box: What to read of it.
            into: An array of the box's shape and the stored dtype, or a view of one.

        Raises:
            ValueError, OSError: If it can't be read; here, or from what is returned.
        """

    def has_changed(self) -> bool:
        """Whether it has been replaced or removed since it was opened, if that can be known."""

    def check(self) -> None:
        """Check what belongs to no single variable; reads no array.

        Raises:
            ValueError, OSError: If something is absent or differs.
        """

    def close(self) -> None:
        """Close the files; waits for nothing, since the garbage collector may call it."""


class FileSource:
    """The `Source` of a checkpoint's arrays that another library has in one file, or in several.

    Args:
        path: The file or directory.
        variables: By name, with ``shape``, ``dtype`` and ``read()``, or values. Those that have
            ``read_box(box, into)`` are read in parts.
        format: The name of its format.
        containers: Which pytree they are of, if that is known.
        metadata: What is saved beside them.
        checksum: The checksum of its bytes.

    Attributes:
        variables: All of them, those of strings included.
    """

    fillers: frozenset[str] = frozenset()

    def __init__(
        self,
        path: AnyPath,
        variables: Mapping[str, Any],
        *,
        format: str,
        containers: "Containers | None" = None,
        metadata: object = None,
        checksum: str = "",
    ):
        self.path = path
        self.format = format
        self.checksum = checksum
        self.containers = containers
        self.metadata = metadata
        self.index_bytes = 0
        self.variables = variables
        self.strings = {n: v for n, v in variables.items() if _has_strings(v)}
        self.entries = {n: _entry_of(v) for n, v in variables.items() if n not in self.strings}

    def stored(self, name: str) -> Entry:
        """As `Source.stored`; each format's reader compares them when it opens the file."""
        return self.entries[name]

    def extent(self, name: str) -> Extent | None:
        """As `Source.extent`."""
        return getattr(self.variables[name], "extent", None)

    def reads_parts(self, name: str) -> bool:
        """As `Source.reads_parts`."""
        return getattr(self.variables[name], "read_box", None) is not None

    def start(self, name: str, box: Box, into: Array) -> Callable[[], None]:
        """As `Source.start`."""
        variable = self.variables[name]
        if getattr(variable, "read_box", None) is not None:
            variable.read_box(box, into)
        else:
            array = variable.read() if hasattr(variable, "read") else variable
            into[...] = array[slices(box)]
        return nothing_left

    def has_changed(self) -> bool:
        """As `Source.has_changed`; other libraries' files have no ids."""
        return False

    def check(self) -> None:
        """As `Source.check`; each format's reader compares the files when it opens them."""

    def close(self) -> None:
        """As `Source.close`."""


def _has_strings(variable: object) -> bool:
    """Whether a source leaves a variable out of its entries: one of strings, which JAX lacks."""
    return hasattr(variable, "dtype") and variable.dtype.kind in "OSU"


def _entry_of(variable: Any) -> Entry:
    """The entry of a variable of a `FileSource`."""
    if hasattr(variable, "dtype"):
        shape, dtype = tuple(variable.shape), dtype_name(variable.dtype)
        is_in_parts = getattr(variable, "read_box", None) is not None or 0 in shape
        # What is read as a whole is read once, also if several devices need parts of it.
        chunks = () if is_in_parts else (Chunk((0,) * len(shape), shape, None),)
        return Entry(shape, dtype, shape, dtype, ORBAX, chunks=chunks)
    dtype = str(python_dtype(variable))
    return Entry((), dtype, (), dtype, INDEX, value=python_text(variable))


def nothing_left() -> None:
    """What `Source.start` returns if it has read all at once."""
