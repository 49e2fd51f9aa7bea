r"""Directories by names that TensorStore and Orbax read literally.

Some names that a directory may have mean something else to them (TensorStore 0.1.86, Orbax 0.12.8):

* TensorStore's file driver reads ``\`` as ``/``, also where a URL spells it ``%5C``, and refuses
  names that are not UTF-8.
* Orbax appends a pattern to the path of what the processes wrote, to merge it into one database.
  So ``*``, ``?`` and ``[`` in the path are wildcards: in ``lr=[0.1]`` it finds nothing, and saves
  a database without arrays.

Such a directory gets a symbolic link in the system's directory for temporary files, and they are
given the link.
"""

import contextlib
import os
import re
import tempfile
import uuid
import weakref
from pathlib import Path

from .._errors import CheckpointError

FOR_READING = re.compile(r"[\\\ud800-\udfff]")
FOR_WRITING = re.compile(r"[\\*?\[\ud800-\udfff]")


class Plain:
    """A directory by a plain name, for as long as this object lives.

    Args:
        directory: The directory, as an absolute path.
        strange: The characters that a plain name lacks: `FOR_READING` or `FOR_WRITING`.
        key: The name of the link, if one is needed. Processes that need the same name
            give the same key.

    Attributes:
        path: The directory itself if its name is plain, else the link.

    Raises:
        CheckpointError: If a link is needed, and can't be made.
    """

    def __init__(self, directory: Path, strange: re.Pattern[str], key: str | None = None):
        self.path = directory
        self.close = _no_link
        if strange.search(str(directory)):
            self.path = _link_to(directory, strange, key or uuid.uuid4().hex)
            self.close = weakref.finalize(self, _remove_link, self.path)


def _link_to(directory: Path, strange: re.Pattern[str], key: str) -> Path:
    """Make a link of a plain name to a directory whose own path isn't plain."""
    place = tempfile.gettempdir()
    link = Path(place, f"jscope-{key}")
    try:
        if strange.search(place):
            raise ValueError("its name has such a character too")
        with contextlib.suppress(FileExistsError):
            os.symlink(directory, link)
        if os.readlink(link) != str(directory):
            raise ValueError(f"{link} is in the way")
    except (OSError, ValueError) as error:
        found = sorted(set(strange.findall(str(directory))))
        raise CheckpointError(
            f"The path {str(directory)!r} has {', '.join(map(repr, found))}, which TensorStore or "
            f"Orbax takes for something else, and no link to it can be made in {place!r}: {error}. "
            "Set TMPDIR to a directory that can be written, or choose a path without such "
            "characters."
        ) from error
    return link


def _remove_link(link: Path) -> None:
    """Remove a link of a plain name."""
    with contextlib.suppress(OSError):
        link.unlink()


def _no_link() -> None:
    """Remove nothing: the path was plain, so no link was made."""
