"""From the path of a checkpoint to its files, in all the ways in which TensorFlow spells it.

A path may be

===========================================  =======================================
``model-1``                                  the prefix of a V2 checkpoint, a V1 file, or the
                                             first part of the names of V1 shards
``model-1.index``, ``.meta``, ``.data-...``  that prefix
``model-1-00000-of-00002``                   all shards of that V1 checkpoint
``model-?????-of-00002``, any other glob     what it matches, if that is one checkpoint
a directory                                  the latest one that its file ``checkpoint`` names;
                                             without such a file, a SavedModel's variables, or
                                             the one checkpoint that is there
===========================================  =======================================

`_stores.paths` defines which paths are URLs. Where two checkpoints could be meant, it is an error
that lists them.
"""

import glob
import os
import re
from typing import NamedTuple

from .._errors import CheckpointNotFoundError, listed, near
from .._stores.paths import glob_paths, is_directory, is_file, is_url, names_in, readable
from ._mapped_files import last_bytes
from ._state_file import read_state
from ._table import MAGIC

_DATA = re.compile(r"\.data-\d{5,}-of-\d{5,}$")
_SHARD = re.compile(r"-(?:\d{5}|\?{5})-of-(\d{5})$")


class Located(NamedTuple):
    """Where a TensorFlow checkpoint is: its format, its prefix, and its files.

    Attributes:
        version: 1 or 2.
        prefix: What its files' names have in common.
        files: The index of a V2 checkpoint, or the files of a V1 checkpoint.
    """

    version: int
    prefix: str
    files: tuple[str, ...]


def locate(path: str | os.PathLike[str]) -> Located:
    """Locate the TensorFlow checkpoint that a path means.

    Raises:
        CheckpointNotFoundError: If there is none, or more than one.
        CheckpointValueError: If it is a URL of another machine or store.
    """
    path = readable(path)
    if "\0" in path:
        raise CheckpointNotFoundError(f"No file can be called {path!r}.")
    if is_directory(path):
        return _in_directory(path)
    found = _at_prefix(path) or _of_file(path) or _by_glob(path)
    if found:
        return found
    there = _v2_prefixes(os.path.dirname(path) or ".")
    raise CheckpointNotFoundError(
        f"No checkpoint at {path!r}: neither {path}.index nor {path} is a file "
        f"({near(path, there) if there else 'and there is no checkpoint beside it'})."
    )


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a path means one TensorFlow checkpoint that is there, whole or damaged.

    Raises:
        CheckpointError: If it is one of which some files are missing.
    """
    path = readable(path)
    if "\0" in path or is_directory(path):
        return False
    found = _at_prefix(path) or _of_file(path) or _by_glob(path)
    return found is not None and (found.version == 2 or _is_table(found.files[0]))


def prefixes(directory: str | os.PathLike[str]) -> tuple[str, ...]:
    """Locate the checkpoints of a directory: of V2 all, of V1 those that its state file names."""
    state = read_state(directory)
    named = () if state is None else state.all_model_checkpoint_paths
    older = [path for path in named if (found := _at_prefix(path)) and found.version == 1]
    return (*sorted(_v2_prefixes(readable(directory))), *older)


def latest_checkpoint(
    checkpoint_dir: str | os.PathLike[str], latest_filename: str | None = None
) -> str | None:
    """Locate the latest TensorFlow checkpoint of a directory, by its state file.

    Args:
        checkpoint_dir: The directory.
        latest_filename: What its state file is called; None is ``"checkpoint"``.

    Returns:
        Its prefix (of V1 shards, the pattern), or None if there is no such file, or the
        checkpoint that it names isn't there any more.

    Raises:
        CheckpointError: If the state file can't be read.

    Source:
        ``tf.train.latest_checkpoint``. One difference: TF takes a state file that it can't read
        for none at all.
    """
    state = read_state(checkpoint_dir, latest_filename or "checkpoint")
    if state is None:
        return None
    path = state.model_checkpoint_path
    return path if _named_in_state(readable(checkpoint_dir), path) else None


def data_files(prefix: str) -> list[str]:
    """Locate the data files of a V2 checkpoint by its prefix, whichever number of them there is."""
    files = glob.glob(glob.escape(prefix) + ".data-*")
    return [file for file in files if _DATA.fullmatch(file, len(prefix))]


def _at_prefix(path: str) -> Located | None:
    """Locate the TensorFlow checkpoint of exactly this prefix, file or shards."""
    if is_file(path + ".index"):
        return Located(2, path, (path + ".index",))
    shard = _SHARD.search(path)
    if shard and not _DATA.search(path):
        return _v1_shards(path[: shard.start()], shard[1])
    if is_file(path) and not _file_suffix(path):
        return Located(1, path, (path,))
    first = glob_paths(glob.escape(path) + "-00000-of-?????")
    if len(first) == 1 and (shard := _SHARD.search(first[0])):
        return _v1_shards(path, shard[1])
    return None


def _named_in_state(directory: str, path: str) -> Located | None:
    """Locate the checkpoint that a state file names; one in a store names none of this machine."""
    return None if is_url(directory) and not is_url(path) else _at_prefix(path)


def _v1_shards(prefix: str, count: str) -> Located | None:
    """Locate all shards of a V1 checkpoint by their prefix; None if there is none."""
    files = [f"{prefix}-{shard:05d}-of-{count}" for shard in range(int(count))]
    missing = [file for file in files if not is_file(file)]
    if len(missing) == len(files):
        return None
    if missing:
        raise CheckpointNotFoundError(
            f"{len(missing)} of the {len(files)} files of {prefix!r} are missing: "
            f"{listed(missing, most=3)}. Copy them beside the others."
        )
    return Located(1, f"{prefix}-?????-of-{count}", tuple(files))


def _file_suffix(path: str) -> str:
    """What follows the prefix in the path of one of a checkpoint's files, such as ``.index``."""
    data = _DATA.search(path)
    return data[0] if data else next((s for s in (".index", ".meta") if path.endswith(s)), "")


def _of_file(path: str) -> Located | None:
    """Locate the TensorFlow checkpoint to which the file at a path belongs."""
    suffix = _file_suffix(path)
    prefix = path.removesuffix(suffix)
    if not suffix:
        return None
    found = _at_prefix(prefix)
    if not found and is_file(path):
        raise CheckpointNotFoundError(
            f"{path} is there, but {prefix}.index is not. Copy it beside the other files; "
            "without it their contents are unknown."
        )
    return found


def _by_glob(path: str) -> Located | None:
    """Locate the one TensorFlow checkpoint that a path with a glob matches."""
    if not glob.has_magic(path):
        return None
    places = {}
    for file in glob_paths(path):
        found = _at_prefix(file) or _of_file(file)
        if found and (found.version == 2 or _is_table(found.files[0])):
            places[found.prefix] = found
    if len(places) > 1:
        raise CheckpointNotFoundError(
            f"{path!r} matches {len(places)} checkpoints: {listed(sorted(places))}. Name one."
        )
    return next(iter(places.values()), None)


def _is_table(path: str) -> bool:
    """Whether the file at a path ends as a table does; a glob matches others as well."""
    return last_bytes(path, len(MAGIC)) == MAGIC


def _in_directory(path: str) -> Located:
    """Locate the TensorFlow checkpoint that the path of a directory means."""
    state = read_state(path)
    there = _v2_prefixes(path)
    if state:
        # Not as a glob: a directory from elsewhere might name one that takes forever.
        latest = state.model_checkpoint_path
        found = _named_in_state(path, latest)
        if found:
            return found
        beside = f"It has {listed(sorted(there))}: name one." if there else "It has none at all."
        raise CheckpointNotFoundError(
            f"The file {os.path.join(path, 'checkpoint')} names {latest!r}, which is not there; "
            f"perhaps the directory was moved. {beside}"
        )
    variables = os.path.join(path, "variables", "variables")
    found = _at_prefix(variables)
    if found:
        return found
    if len(there) != 1:
        what = f"{len(there)} checkpoints: {listed(sorted(there))}" if there else "no checkpoint"
        raise CheckpointNotFoundError(
            f"The directory {path!r} has no file named checkpoint, and {what}. Name one, such as "
            f"{os.path.join(path, 'model.ckpt-1000')!r}."
        )
    return Located(2, there[0], (there[0] + ".index",))


def _v2_prefixes(directory: str) -> list[str]:
    """Locate the V2 checkpoints of a directory by the names of its index files."""
    folder = "" if directory == "." else directory
    return [
        os.path.join(folder, name.removesuffix(".index"))
        for name in names_in(directory)
        if name.endswith(".index")
    ]
