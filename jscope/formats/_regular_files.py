"""The contents of a checkpoint's directory, and the only way in which its files are opened.

A checkpoint may come from an untrusted source, so its index is compared with the directory before
anything is opened or allocated. Names of an index are looked up in the `Contents`; none is ever a
path. So nothing outside the directory is opened.

Only regular files count. Symbolic links are not followed: a link can name any file
of the machine. The directory itself may be a link, such as to a step on another disk.
"""

import contextlib
import dataclasses
import functools
import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True)
class Contents:
    """The files in a directory, at any depth.

    Attributes:
        directory: The directory.
        sizes: The sizes of the regular files in bytes, by their names in the directory, whose
            parts are joined by ``/``.
        others: The names of what is neither a regular file nor a directory: links, pipes, devices.
    """

    directory: Path
    sizes: Mapping[str, int]
    others: frozenset[str]

    def size(self, name: str) -> int:
        """The size of a file.

        Raises:
            ValueError: If there is no regular file of this name.
        """
        size = self.sizes.get(name)
        if size is None:
            raise ValueError(self._why_not(name))
        return size

    def below(self, name: str) -> int:
        """The bytes of all files in the directory of this name; of all, if it is empty.

        Raises:
            ValueError: If there is something else in it than files and directories.
        """
        other = next((o for o in self.others if not name or f"{o}/".startswith(f"{name}/")), None)
        if other is not None:
            raise ValueError(self._why_not(other))
        return self._totals[name]

    @functools.cached_property
    def _totals(self) -> Counter[str]:
        totals: Counter[str] = Counter()
        for name, size in self.sizes.items():
            totals[""] += size
            totals[name.partition("/")[0]] += size
        return totals

    def _why_not(self, name: str) -> str:
        ways = [name, *map(str, PurePosixPath(name).parents)] if self.others else []
        other = next((way for way in ways if way in self.others), None)
        return f"{name} is gone" if other is None else not_regular(other)


def contents(directory: Path) -> Contents:
    """List the regular files in the directory of a checkpoint, with their sizes.

    Raises:
        OSError: If it can't be listed. Files that are removed meanwhile are left out.
    """
    sizes: dict[str, int] = {}
    others = set()
    todo = [""]
    while todo:
        parent = todo.pop()
        try:
            with os.scandir(directory / parent) as found:
                for entry in found:
                    name = parent + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{name}/")
                    elif entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            sizes[name] = entry.stat(follow_symlinks=False).st_size
                    else:
                        others.add(name)
        except FileNotFoundError:
            if not parent:
                raise
    return Contents(directory, sizes, frozenset(others))


def open_file(path: Path) -> int:
    """Open a regular file for reading; return its descriptor.

    Raises:
        ValueError: If it is not one: a pipe, which might never end, or a link.
        OSError: If it can't be opened.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        if path.is_symlink():
            raise ValueError(not_regular(path.name)) from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError(not_regular(path.name))


def read_file(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file, or the first ones.

    Raises:
        ValueError: As `open_file`.
        OSError: If it can't be read.
    """
    with os.fdopen(open_file(path), "rb") as file:
        return file.read(-1 if most is None else most)


def not_regular(name: str) -> str:
    """Compose the error for a file that is not read."""
    return (
        f"{name} is not a regular file, and links in a checkpoint are not followed: copy the "
        "checkpoint with its files, as cp -rL does"
    )
