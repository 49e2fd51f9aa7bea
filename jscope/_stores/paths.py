"""Paths that callers give: of this machine's file systems, of S3 and of Google Cloud Storage.

Every public function that takes the path of a checkpoint calls `located`, `local` or `absolute`
before anything else, so that all of them treat the same strings as URLs.

===========================================  ===================================================
``runs/a``, ``/runs/a``                      a path, as it is; `absolute` expands ``~``
``s3://bucket/key``, ``gs://bucket/key``     a `RemotePath`; the key as it is, without escapes
``s3:/bucket/key``                           the same: what `pathlib.Path` makes of it
``az://b/a``, any other ``scheme://``        a URL of a store that is not known: an error
``az:/b/a``, of a scheme in `_SCHEMES`       what `pathlib.Path` makes of one: an error
``file:///runs/a``, ``file:/runs/a``         the path ``/runs/a``, as TensorFlow reads it
``file://host/a``, ``file:///a%20b``         of another machine, or with escapes: an error
``""``                                       no path: an error; the working directory is ``.``
===========================================  ===================================================
"""

import fnmatch
import glob
import os
import re
from pathlib import Path

from .._errors import CheckpointValueError
from .bucket import Bucket
from .errors import StoreError
from .remote import AnyPath, RemotePath, children
from .settings import DRIVERS

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//?)(?=(.*))", re.DOTALL)
# A local directory may be called "exp:"; a known store's scheme is a URL which lost a slash.
_SCHEMES = re.compile(
    "abfss?|adl|az|dbfs|file|ftp|gc?s|hdfs|hf|https?|memory|oss|r2|s3[an]?|scp|sftp|ssh|viewfs|"
    "wasbs?|webhdfs",
    re.IGNORECASE,
)
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


def located(path: str | os.PathLike[str]) -> AnyPath:
    """A path for reading, from what a caller gives: absolute, or in a store.

    >>> located("s3://bucket/run/12").name
    '12'

    Raises:
        CheckpointValueError: If it is a URL of another machine or store, or not a path.
    """
    if isinstance(path, RemotePath):
        return path.fresh()
    remote = _remote_path(_path_text(path))
    return absolute(path) if remote is None else remote


def readable(path: str | os.PathLike[str]) -> str:
    """A path for reading as text, from what a caller gives; a local one stays relative if it is."""
    remote = path if isinstance(path, RemotePath) else _remote_path(_path_text(path))
    return local(path) if remote is None else str(remote)


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is in a store, by its spelling alone."""
    match = _URL.match(_path_text(path))
    return match is not None and match[1].lower() in DRIVERS


def local(path: str | os.PathLike[str]) -> str:
    """A path of this machine, from what a caller gives.

    >>> local("file:///runs/a")
    '/runs/a'

    Raises:
        CheckpointValueError: If it is a URL of another machine or store, or not a path.
    """
    text = _path_text(path)
    match = _URL.match(text)
    if match is None:
        return text
    scheme, slashes, rest = match.groups()
    if slashes == "/" and not _SCHEMES.fullmatch(scheme):
        return text
    if scheme.lower() == "file":
        return _of_file_url(text, rest if slashes == "//" else f"/{rest}")
    how = f"A local path that looks like a URL is written {_shown(os.path.abspath(text))!r}."
    if scheme.lower() in DRIVERS:
        raise CheckpointValueError(
            f"{text!r} can't be written by this function: to {_KNOWN} write js.Saver, exports, "
            f"tf_checkpoint.write and jscope convert. Write to a local directory and copy it. {how}"
        )
    raise CheckpointValueError(
        f"{_shown(text)!r} is not on this machine: jscope reads local file systems, mounted ones "
        f"too, {_KNOWN}, and not {scheme}://. Copy the checkpoint to one of them and pass that "
        f"path. {how}"
    )


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path of this machine, made absolute; ``~`` is expanded.

    Raises:
        CheckpointValueError: As `local`.
    """
    return Path(os.path.abspath(os.path.expanduser(local(path))))


def is_file(path: str) -> bool:
    """Whether the path or URL that a caller gives is that of a file, or of an object of a store."""
    return located(path).is_file() if is_url(path) else os.path.isfile(path)


def is_directory(path: str) -> bool:
    """Whether the path that a caller gives is a directory, or has an object of a store below it."""
    return located(path).is_dir() if is_url(path) else os.path.isdir(path)


def names_in(directory: str) -> list[str]:
    """The names below a directory whose path or URL a caller gives; none if it can't be listed."""
    try:
        if is_url(directory):
            return [path.name for path in children(located(directory))]
        return os.listdir(directory)
    except StoreError:
        raise
    except OSError:
        return []


def glob_paths(pattern: str) -> list[str]:
    """The paths that a glob matches; in a store only its last component is a pattern."""
    if not is_url(pattern):
        return glob.glob(pattern)
    directory, _, last = pattern.rpartition("/")
    start = _MAGIC.split(last)[0]
    remote = located(f"{directory}/{start}" if start else directory)
    assert isinstance(remote, RemotePath)
    names = remote.beginning_with() if start else [path.name for path in remote.iterdir()]
    return [f"{directory}/{name}" for name in names if fnmatch.fnmatchcase(name, last)]


_MAGIC = re.compile(r"[*?\[]")


_KNOWN = " and ".join(f"{scheme}://" for scheme in DRIVERS)


def _path_text(path: str | os.PathLike[str]) -> str:
    """The text of a path that a caller gives; what isn't one is refused."""
    text = path if isinstance(path, str) else getattr(path, "__fspath__", lambda: None)()
    if not isinstance(text, str):
        raise CheckpointValueError(
            f"A path is a string or a pathlib.Path, got {path!r} of type {type(path).__name__}."
        )
    if not text:
        raise CheckpointValueError(
            "A path is '', which is often a setting that was left out. Write the path of the "
            "checkpoints, or '.' for the working directory."
        )
    return text


def _remote_path(text: str) -> RemotePath | None:
    """The path in a store that a URL means; None if it is a path of this machine."""
    match = _URL.match(text)
    if match is None or match[1].lower() not in DRIVERS:
        return None
    scheme = match[1].lower()
    bucket, _, key = match[3].rstrip("/").partition("/")
    if "@" in bucket:
        raise CheckpointValueError(
            f"{_shown(text)!r} has a user or a password before the bucket. Write "
            f"'{scheme}://bucket/run/12', and set the credentials in the environment."
        )
    parts = key.split("/") if key else []
    if not bucket or {"", ".", ".."} & set(parts):
        problem = "has no bucket" if not bucket else "has an empty component, '.' or '..'"
        raise CheckpointValueError(
            f"{text!r} {problem}. Write the bucket and the key: '{scheme}://bucket/run/12'."
        )
    return RemotePath(Bucket(scheme, bucket), key)


def _shown(url: str) -> str:
    """A URL as an error shows it: without what is before an ``@``, which may be a password."""
    return re.sub("(?<=[:/]/)[^/]*@", "...@", url)


def _of_file_url(url: str, path: str) -> str:
    """The path of this machine that a ``file:`` URL means."""
    if path.startswith("/") and not _ESCAPE.search(path):
        return path
    problem = "has escapes, which some programs decode and others don't"
    if not path.startswith("/"):
        problem = f"names the machine {path.partition('/')[0]!r}"
    raise CheckpointValueError(
        f"{url!r} {problem}. Write the path itself, such as '/runs/a', or file:///runs/a."
    )
