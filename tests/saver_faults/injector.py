"""Building and using `injector.c`, the library that breaks file operations.

Imports: standard library only.
"""

import ctypes
import dataclasses
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_name("injector.c")

# As the enums of injector.c have them.
WATCH, KILL, TEAR, SHORT, FAIL, FAIL_ALL, SHORT_READ, FAIL_READ = range(1, 9)
OPERATIONS = (
    "",
    *("open", "write", "sync", "truncate", "rename", "exchange", "link", "symlink"),
    *("mkdir", "unlink", "rmdir", "mapped"),
)


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def build() -> Path:
    """The library, compiled once for each version of its source.

    Raises:
        subprocess.CalledProcessError: If it does not compile.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir(), f"jscope-faults-{os.getuid()}-{digest}.so")
    if not library.exists():
        # Renamed into place, since other processes may build it at this moment.
        fresh = library.with_suffix(f".{os.getpid()}")
        options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command = [compiler() or "gcc", *options, "-o", fresh, SOURCE, "-lpthread"]
        subprocess.run(command, check=True)
        fresh.rename(library)
    return library


def arm(
    root: Path, mode: int, at: int = 0, failure: int = 0, depth: int = 0, log: int = -1
) -> None:
    """Begin to count the operations of this process below ``root``, which must be preloaded.

    Args:
        root: A directory without symbolic links in its path.
        mode: `WATCH` only counts.
        at: The number of the operation that goes wrong, from 1.
        failure: The errno of those that fail.
        depth: If not 0, only paths of at most so many components below ``root`` are counted.
        log: A descriptor to which all operations are logged, or -1.
    """
    _library().faults_arm(os.fsencode(root), mode, ctypes.c_long(at), failure, depth, log)


def disarm() -> tuple[int, int]:
    """End it; how many operations were counted, and how many of them went wrong."""
    library = _library()
    return library.faults_disarm(), library.faults_failed()


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.faults_disarm.restype = library.faults_failed.restype = ctypes.c_long
    return library


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation that succeeded.

    Attributes:
        kind: One of `OPERATIONS`.
        path: Of what; absolute.
        other: Where to, of a rename or a link.
        number: The offset of a write, the size of a truncate, 1 for an open that truncates.
        data: What was written.
    """

    kind: str
    path: str
    other: str
    number: int
    data: bytes


def read_log(path: Path) -> Iterator[Operation]:
    """The operations of a log, in the order in which they happened."""
    log, at = path.read_bytes(), 0
    header = struct.Struct("=IIIIq")
    while at < len(log):
        kind, *sizes, number = header.unpack_from(log, at)
        at += header.size
        parts = []
        for size in sizes:
            parts.append(log[at : at + size])
            at += size
        path_bytes, other, data = parts
        yield Operation(OPERATIONS[kind], os.fsdecode(path_bytes), os.fsdecode(other), number, data)
