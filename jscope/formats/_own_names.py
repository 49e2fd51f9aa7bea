"""The names of a step's directory in a store, where a checkpoint is complete with its index.

A store has no directories to rename. So there each save has names of its own::

    12/claim.3                    a claim: who saves step 12, as its third index
    12/9f6c.../packed.bin         the data of the save 9f6c...
    12/jscope.3.9f6c....json      its index, written last; or a void one

The checkpoint is the highest index that is not void, by its number and then its save's id. A void
index says that its save can't commit any more: see `saver._claims`. A directory with
``jscope.json`` has been copied from a disk; that index has the number 0, and its data are those of
`_own_index`. All other names are of the user's.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .._stores.files import first_bytes, read_file
from .._stores.remote import AnyPath, RemotePath
from ._sealed_json import sealed, unsealed

FILE_NAME = "jscope.json"
# Of an index: a void one is shorter.
FIRST = 256

_CLAIM = re.compile(r"claim\.([1-9][0-9]{0,17})")
_INDEX = re.compile(r"jscope\.([1-9][0-9]{0,17})\.([0-9a-f]{32})\.json")
_DATA = re.compile(r"(?:([0-9a-f]{32})/|[0-9]{1,20}/|packed\.bin$).*", re.DOTALL)
_STEP = re.compile(r"(0|[1-9][0-9]*)/(.+)", re.DOTALL)
_VOID = "jscope-void"


class IndexName(NamedTuple):
    """The name of an index; a later one is greater.

    Attributes:
        number: From 1 on; 0 of ``jscope.json``.
        save_id: Of the save; empty of ``jscope.json``.
    """

    number: int
    save_id: str

    @property
    def file(self) -> str:
        """The name in the step's directory."""
        return f"jscope.{self.number}.{self.save_id}.json" if self.number else FILE_NAME


class StepNames(NamedTuple):
    """The names in a step's directory.

    Attributes:
        claims: The numbers of the claims, in ascending order.
        indices: All of them, void ones too, in ascending order.
        data: The names of the data, by the save's id.
    """

    claims: tuple[int, ...]
    indices: tuple[IndexName, ...]
    data: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, names: Iterable[str]) -> "StepNames":
        """Sort the names of a directory, at any depth."""
        claims, indices, data = [], [], dict[str, list[str]]()
        for name in sorted(names):
            if match := _CLAIM.fullmatch(name):
                claims.append(int(match[1]))
            elif match := _INDEX.fullmatch(name):
                indices.append(IndexName(int(match[1]), match[2]))
            elif name == FILE_NAME:
                indices.append(IndexName(0, ""))
            elif match := _DATA.fullmatch(name):
                data.setdefault(match[1] or "", []).append(name)
        found = {save_id: tuple(own) for save_id, own in data.items()}
        return cls(tuple(sorted(claims)), tuple(sorted(indices)), found)

    def valid(self, read: Callable[[str], bytes | None]) -> list[IndexName]:
        """The indices that are not void, in ascending order.

        Args:
            read: Gives the bytes of a name, or None if it is gone.
        """
        found = []
        for index in self.indices:
            data = read(index.file)
            if data is not None and not is_void(data):
                found.append(index)
        return found


def by_step(names: Iterable[str]) -> dict[int, StepNames]:
    """Sort the names in a Saver's directory of a store by step."""
    found: dict[int, list[str]] = {}
    for name in names:
        if match := _STEP.fullmatch(name):
            found.setdefault(int(match[1]), []).append(match[2])
    return {step: StepNames.of(found[step]) for step in sorted(found)}


def claim_name(number: int) -> str:
    """The name of a claim in the step's directory."""
    return f"claim.{number}"


def void(save_id: str) -> bytes:
    """What a void index has below its name, which says that its save can't commit any more."""
    return sealed({"format": _VOID, "version": 1, "save_id": save_id})


def is_void(data: bytes) -> bool:
    """Whether this is what a void index has below its name."""
    try:
        unsealed(data, "", format=_VOID, version=1)
    except ValueError:
        return False
    return True


def newest_index(directory: AnyPath) -> IndexName | None:
    """The name of the index that a reader of a step's directory takes, or None if there is none.

    A directory of a file system may have been copied from a store.

    Raises:
        StoreError: If the store can't be read.
    """
    for index in _newest_first(directory):
        if _is_valid(directory, index):
            return index
    return None


def read_newest(directory: AnyPath) -> tuple[IndexName, bytes]:
    """The newest name of an index that is not void, and its contents: what a reader takes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is a link, or not a regular file.
        OSError: If it can't be read.
    """
    for index in _newest_first(directory):
        if not isinstance(directory, RemotePath):
            if _is_valid(directory, index):
                return index, read_file(directory / index.file)
        elif _valid.get(str(directory / index.file), True):
            try:
                data = read_file(directory / index.file)
            except FileNotFoundError:
                continue  # it was removed meanwhile
            if remember(directory, index, not index.number or not is_void(data)):
                return index, data
    raise FileNotFoundError(errno.ENOENT, "No such index", str(directory / FILE_NAME))


def _newest_first(directory: AnyPath) -> Sequence[IndexName]:
    """The names of indices in a store's directory, newest first, void ones too; on a disk one."""
    if isinstance(directory, RemotePath):
        names = directory.names()
    elif os.path.lexists(directory / FILE_NAME):
        return [IndexName(0, "")]
    else:
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
    return StepNames.of(names).indices[::-1]


def remember(directory: AnyPath, index: IndexName, is_valid: bool) -> bool:
    """Remember of an index's name in a store if it is valid, which never changes; give it back."""
    if isinstance(directory, RemotePath) and index.number:
        if len(_valid) > _MOST_KNOWN:
            _valid.clear()
        _valid[str(directory / index.file)] = is_valid
    return is_valid


def is_known(directory: AnyPath, index: IndexName) -> bool:
    """Whether a name in a store is known, without a request, to be that of a valid index."""
    return _valid.get(str(directory / index.file), False)


def _is_valid(directory: AnyPath, index: IndexName) -> bool:
    """Whether a name is that of an index that is there and not void; its contents never change."""
    if not index.number:
        return True
    file = directory / index.file
    is_known = _valid.get(str(file))
    if is_known is not None:
        return is_known
    try:
        found = not is_void(first_bytes(file, FIRST))
    except FileNotFoundError:
        return False
    except ValueError:
        return True  # a link, which is an error for who reads it
    return remember(directory, index, found)


_valid: dict[str, bool] = {}
_MOST_KNOWN = 10_000
