"""Paths that callers give: those of this machine's file systems, and no URLs of others.

Every public function that takes the path of a checkpoint calls `local` or `absolute` before
anything else, so that all of them treat the same strings as URLs.

===========================================  ===================================================
``runs/a``, ``/runs/a``                      a path, as it is; `absolute` expands ``~``
``gs://b/a``, any ``scheme://``              a URL: an error
``gs:/b/a``, of a scheme in `_SCHEMES`       what `pathlib.Path` makes of one: an error
``file:///runs/a``, ``file:/runs/a``         the path ``/runs/a``, as TensorFlow reads it
``file://host/a``, ``file:///a%20b``         of another machine, or with escapes: an error
===========================================  ===================================================
"""

import os
import re
from pathlib import Path

from ._errors import CheckpointValueError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//?)(?=(.*))", re.DOTALL)
# A local directory may be called "exp:"; a known store's scheme is a URL which lost a slash.
_SCHEMES = re.compile(
    "abfss?|adl|az|dbfs|file|ftp|gc?s|hdfs|hf|https?|memory|oss|r2|s3[an]?|scp|sftp|ssh|viewfs|"
    "wasbs?|webhdfs",
    re.IGNORECASE,
)
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def local(path: str | os.PathLike[str]) -> str:
    """A path of this machine, from what a caller gives.

    >>> local("file:///runs/a")
    '/runs/a'

    Raises:
        CheckpointValueError: If it is a URL of another machine or store, or not a string.
    """
    text = path if isinstance(path, str) else getattr(path, "__fspath__", lambda: None)()
    if not isinstance(text, str):
        raise CheckpointValueError(
            f"A path is a string or a pathlib.Path, got {path!r} of type {type(path).__name__}."
        )
    match = _URL.match(text)
    if match is None:
        return text
    scheme, slashes, rest = match.groups()
    if slashes == "/" and not _SCHEMES.fullmatch(scheme):
        return text
    if scheme.lower() == "file":
        return _of_file_url(text, rest if slashes == "//" else f"/{rest}")
    raise CheckpointValueError(
        f"{text!r} is not on this machine: this version of jscope reads and writes local file "
        f"systems only, mounted ones too, and not {scheme}://. Copy the checkpoint to a local "
        "directory and pass that path; to write there, write to a local directory and copy it. "
        f"A local path that looks like a URL is written {os.path.abspath(text)!r}."
    )


def absolute(path: str | os.PathLike[str]) -> Path:
    """The same, absolute: ``~`` is expanded, a relative path begins in the working directory.

    Raises:
        CheckpointValueError: As `local`.
    """
    return Path(os.path.abspath(os.path.expanduser(local(path))))


def _of_file_url(url: str, path: str) -> str:
    if path.startswith("/") and not _ESCAPE.search(path):
        return path
    problem = "has escapes, which some programs decode and others don't"
    if not path.startswith("/"):
        problem = f"names the machine {path.partition('/')[0]!r}"
    raise CheckpointValueError(
        f"{url!r} {problem}. Write the path itself, such as '/runs/a', or file:///runs/a."
    )
