"""A disk that forgets: what may be left of a directory after a power cut.

The model knows of each file what has been written, and how much of that was synced; and of the
directories, which names were added, removed or renamed, in order, and which of these changes
were synced. It promises what POSIX and the usual file systems do, and no more:

* a file's data is on disk once the file is synced;
* a change of directories is on disk once a directory that it touches is synced, and with it
  earlier changes of the same names. A rename happens as a whole.

All else may or may not have happened when the power goes, each by itself; `Disk.after_cut` gives
such states.

Imports: `injector`; standard library.
"""

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from .injector import Operation

Table: TypeAlias = dict[int, dict[str, int]]
"""What is in which directory: by the directory's number and a name, a number."""
Change: TypeAlias = dict[tuple[int, str], int | None]
"""The number that is at a place from now on, or None for nothing."""
State: TypeAlias = dict[str, bytes | None]
"""The content of each file by its path, None for a directory."""

ROOT = 0
CUTS = ("forgetful", "names", "zeros", "mixture")


@dataclasses.dataclass
class File:
    """A file: what is on disk for sure, and the writes and truncations that came after."""

    synced: bytes = b""
    later: list[tuple[str, int, bytes]] = dataclasses.field(default_factory=list)

    def content(self, later: Iterable[tuple[str, int, bytes]] | None = None) -> bytes:
        """What it holds after some of the later writes, by default all."""
        data = bytearray(self.synced)
        for kind, number, written in self.later if later is None else later:
            data = data.ljust(number, b"\0")
            if kind == "truncate":
                del data[number:]
            else:
                data[number : number + len(written)] = written
        return bytes(data)


class Disk:
    """A directory, as programs see it and as it is on disk.

    Args:
        root: A directory, all of which is on disk.
    """

    def __init__(self, root: Path):
        self.root = PurePosixPath(root)
        self._numbers = itertools.count(ROOT)
        self._files: dict[int, File] = {}
        self._now: Table = {}
        self._read(root)
        self._synced = {number: dict(names) for number, names in self._now.items()}
        self._changes: list[Change] = []

    def apply(self, operation: Operation) -> None:
        """Do what a program did."""
        kind, number = operation.kind, operation.number
        node = self._find(operation.path)
        file = None if node is None else self._files.get(node)
        if kind == "open" and node is None:
            self._change({self._place(operation.path): self._new_file()})
        elif kind == "open":
            if number and file and file.content():
                file.later.append(("truncate", 0, b""))
        elif kind in ("write", "truncate"):
            if file:
                file.later.append((kind, number, operation.data))
            else:
                assert operation.path.endswith(" (deleted)"), operation
        elif kind == "sync":
            if file:
                file.synced, file.later = file.content(), []
            elif node is not None:
                self._sync_directory(node)
        elif kind in ("rename", "exchange", "link"):
            there = self._find(operation.other) if kind == "exchange" else None
            left = node if kind == "link" else there
            self._change({self._place(operation.path): left, self._place(operation.other): node})
        elif kind == "mkdir":
            self._change({self._place(operation.path): self._new_directory()})
        elif kind in ("unlink", "rmdir"):
            self._change({self._place(operation.path): None})
        else:
            raise NotImplementedError(f"no model of {kind} {operation.path}")

    def unsynced(self) -> list[str]:
        """What a power cut could undo. What is temporary does not matter, nor its removal."""
        paths = dict(_walk(self._now))
        numbers = {number: path for path, number in paths.items()}
        found = [
            f"data of {path}"
            for path, number in paths.items()
            if number in self._files and self._files[number].later and not _is_temporary(path)
        ]
        for (directory, name), node in itertools.chain(*(c.items() for c in self._changes)):
            path = f"{numbers[directory]}/{name}" if directory in numbers else name
            is_gone = directory != ROOT and directory not in numbers
            if not is_gone and not _is_temporary(path):
                found.append(f"{'removal' if node is None else 'name'} of {path}")
        return found

    def now(self) -> State:
        """All as programs see it."""
        return self._state(self._now, lambda file: file.content())

    def after_cut(self, kind: str, seed: int = 0) -> State:
        """A state that a power cut may leave.

        Args:
            kind: ``"forgetful"``: what was not synced never happened. ``"names"``: all changes
                of directories happened, but no unsynced write. ``"zeros"``: so too, and the
                files have the sizes that the writes gave them, filled with zeros.
                ``"mixture"``: each unsynced change and write happened or did not, or a write
                did by half, or wrote garbage.
            seed: Which mixture.
        """
        draw = random.Random(seed)
        table = {number: dict(names) for number, names in self._synced.items()}
        skipped: set[tuple[int, str]] = set()
        for change in self._changes:
            happens = kind in ("names", "zeros") or (kind == "mixture" and draw.random() < 0.5)
            if happens and not skipped & change.keys():
                _put(table, change)
            else:
                skipped |= change.keys()

        def content(file: File) -> bytes:
            if kind == "zeros":
                return file.synced.ljust(len(file.content()), b"\0")
            if kind == "mixture":
                return file.content(_mixed(file.later, draw))
            return file.synced

        return self._state(table, content)

    def _change(self, change: Change) -> None:
        _put(self._now, change)
        self._changes.append(change)

    def _sync_directory(self, directory: int) -> None:
        needed: list[Change] = []
        places: set[tuple[int, str]] = set()
        for change in reversed(self._changes):
            if places & change.keys() or any(number == directory for number, _ in change):
                needed.append(change)
                places |= change.keys()
        for change in reversed(needed):
            _put(self._synced, change)
        self._changes = [c for c in self._changes if not any(c is n for n in needed)]

    def _find(self, path: str) -> int | None:
        node: int | None = ROOT
        for part in PurePosixPath(path).relative_to(self.root).parts:
            node = None if node is None else self._now.get(node, {}).get(part)
        return node

    def _place(self, path: str) -> tuple[int, str]:
        parent, name = PurePosixPath(path).parent, PurePosixPath(path).name
        directory = self._find(str(parent))
        assert directory is not None, path
        return directory, name

    def _new_file(self, content: bytes = b"") -> int:
        number = next(self._numbers)
        self._files[number] = File(content)
        return number

    def _new_directory(self) -> int:
        number = next(self._numbers)
        self._now[number] = {}
        self._synced[number] = {}
        return number

    def _read(self, directory: Path) -> int:
        number = next(self._numbers)
        names = self._now[number] = {}
        for entry in sorted(directory.iterdir()):
            is_directory = entry.is_dir() and not entry.is_symlink()
            names[entry.name] = (
                self._read(entry) if is_directory else self._new_file(entry.read_bytes())
            )
        return number

    def _state(self, table: Table, content: Callable[[File], bytes]) -> State:
        return {
            path: content(self._files[number]) if number in self._files else None
            for path, number in _walk(table)
        }


def write(state: State, directory: Path) -> None:
    """Make a directory of a state."""
    directory.mkdir(parents=True)
    for path, content in state.items():
        if content is None:
            (directory / path).mkdir()
        else:
            (directory / path).write_bytes(content)


def read(directory: Path) -> State:
    """The state of a directory."""
    paths = sorted(directory.rglob("*"))
    return {str(p.relative_to(directory)): None if p.is_dir() else p.read_bytes() for p in paths}


def _walk(table: Table, directory: int = ROOT, prefix: str = "") -> Iterator[tuple[str, int]]:
    for name, number in sorted(table[directory].items()):
        yield prefix + name, number
        if number in table:
            yield from _walk(table, number, f"{prefix}{name}/")


def _put(table: Table, change: Change) -> None:
    for (directory, name), node in change.items():
        if node is None:
            table[directory].pop(name, None)
        else:
            table[directory][name] = node


def _mixed(
    later: list[tuple[str, int, bytes]], draw: random.Random
) -> Iterator[tuple[str, int, bytes]]:
    for kind, number, data in later:
        fate = draw.choice(("done", "lost", "half", "garbage"))
        if fate == "half":
            data = data[: len(data) // 2]
        elif fate == "garbage":
            data = draw.randbytes(len(data))
        if fate != "lost":
            yield kind, number, data


def _is_temporary(path: str) -> bool:
    return any(part.startswith((".tmp-", ".trash-")) for part in path.split("/"))
