"""What a path is: the one place that decides it, for the Saver, its functions and the commands.

A path is a checkpoint, or a directory of checkpoints, which are called by their steps:

| kind | a checkpoint is |
|---|---|
| jscope | a directory with ``jscope.json`` |
| Orbax, Flax, MaxText | a directory with ``_METADATA``, or with such directories, its items |
| safetensors | a file, a ``*.safetensors.index.json``, or a directory with such |
| NumPy | a zip archive of ``.npy`` files |
| TensorFlow | ``PREFIX`` with ``PREFIX.index``; a file or shards of V1; one of the files |
| Flax before Orbax | a file that is one map in MessagePack |

Steps are called by a number, or by a prefix and a number: ``1000``, ``checkpoint_1000``,
``model.ckpt-1000``. Of a directory the newest step is meant, of whichever kind. If it has steps of
several prefixes, the path of a prefix says which: ``runs/best_``. Orbax's items are not steps:
their directory has a ``_CHECKPOINT_METADATA``, or names that are not numbered alike.
"""

import functools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from .. import tf_checkpoint
from .._errors import CheckpointError, CheckpointNotFoundError, listed, near
from .._stores.files import first_bytes
from .._stores.paths import located
from .._stores.remote import AnyPath, RemotePath, children, fresh
from ..tf_checkpoint._location import exists as exists_in_tensorflow
from ..tf_checkpoint._location import prefixes
from . import _own_steps, npz, safetensors
from ._flax import is_flax, open_flax
from ._orbax import METADATA, OrbaxSource, items
from ._source import FileSource, Source
from ._unknown_files import what_it_seems

_TENSORFLOW = re.compile(r"\.(?:index|meta|data-\d{5,}-of-\d{5,})$", re.ASCII)
_STEP = re.compile(r"(?P<prefix>.*?)(?P<step>[0-9]+(?:\.[0-9]+)?)", re.ASCII)
# Of directories, whose names may have other meanings: a number, or a word, "_" and a number.
_ORBAX_STEP = re.compile(r"(?P<prefix>(?:\w*_)?)(?P<step>[0-9]+)", re.ASCII)
_TF_STEP = re.compile(r".*-(?P<step>[0-9]+)", re.ASCII)
_TF_STATE = re.compile(rb"\s*(?:#.*\n\s*)*(?:all_)?model_checkpoint_path")

# From the prefix of their names to steps and paths.
_Steps = dict[str, dict[float, AnyPath]]


class _Found(NamedTuple):
    """A checkpoint that a path means, found but not opened.

    Attributes:
        path: Where it is.
        step: Its step, by its name; -1 if it has none.
        open: Opens it; whether to compare checksums is its argument.
    """

    path: AnyPath
    step: float
    open: Callable[[bool], Source]


_Opener: TypeAlias = Callable[[AnyPath, bool], Source]


def open(path: str | os.PathLike[str], step: int | None = None, *, verify: bool = True) -> Source:
    """Open a checkpoint of any kind for reading; no array is read.

    Args:
        path: A checkpoint, or a directory of checkpoints.
        step: A step of the directory; the newest that can be loaded if None.
        verify: Whether TensorFlow's files are compared with their checksums when they are read.

    Raises:
        CheckpointNotFoundError: If there is none.
        CheckpointError: If it is damaged, of an unknown kind, or one of several.
        CheckpointValueError: If it is a URL of a store that is not known.
    """
    place = fresh(located(path))
    found = _find(place) if step is None else _find_step(place, step)
    if found is None:
        raise _nothing_to_open(place)
    return found.open(verify)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a path can be opened as one checkpoint, intact or not, not as a directory of them."""
    place = located(path)
    return _own_steps.has_index(place) or (
        _single(place) is not None and not _is_of_tensorflow(place, _names(place))
    )


def newest_path(directory: AnyPath) -> AnyPath | None:
    """The path of the newest checkpoint of any kind in a directory, or None if there is none.

    Raises:
        CheckpointError: If there are some, and none can be loaded.
    """
    directory = fresh(directory)
    found = _newest(directory, _own_steps.listing(directory)) if directory.is_dir() else None
    return None if found is None else found.path


def latest_step(directory: AnyPath) -> int | None:
    """The newest step in a directory of checkpoints of any kind that can be opened, or None.

    Raises:
        CheckpointError: As `newest_path`.
        OSError: If the directory can't be listed.
    """
    directory = fresh(directory)
    found = _newest(directory, _own_steps.listing(directory))
    return None if found is None or found.step < 0 else int(found.step)


def all_steps(directory: AnyPath) -> tuple[int, ...]:
    """The steps in a directory of checkpoints of any kind, in ascending order.

    Raises:
        OSError: If the directory can't be listed.
    """
    directory = fresh(directory)
    there = _own_steps.listing(directory)
    others = {step for steps in _others(directory, there).values() for step in steps}
    whole = {int(step) for step in others if step == int(step)}
    return tuple(
        sorted({*_own_steps.valid(there), *whole, *_of_tensorflow(directory, there.names)})
    )


def other_checkpoint(directory: AnyPath, there: _own_steps.Listing, step: int) -> AnyPath | None:
    """Find another library's checkpoint, of any kind, that opens as a step but isn't called by it.

    A checkpoint of jscope's in ``<directory>/<step>`` would be found in its place.
    """
    names = [name for name in there.names if name != str(step)]
    if not any(_is_named_by(name, step) for name in names):
        return None
    others = _others(directory, there._replace(names=names))
    found = [steps[step] for steps in others.values() if step in steps]
    found += _of_tensorflow(directory, names).get(step, [])
    return next(iter(found), None)


def _is_named_by(name: str, step: int) -> bool:
    """Whether a file's name may be that of a step to be opened."""
    match = _STEP.fullmatch(name.removesuffix(".index"))
    return match is not None and match["step"].lstrip("0") == str(step).lstrip("0")


# Finding.


def _find(path: AnyPath) -> _Found | None:
    """Find the checkpoint that a path means, to be opened."""
    if not path.is_dir():
        return _single(path) or _of_prefix(path)
    try:
        there = _own_steps.listing(path)
    except OSError as error:
        raise _cannot_be_read(path, error) from error
    own = _own_steps.open_own(path, path.parent, None) if there.is_checkpoint else None
    if own is not None:
        return _Found(path, own.index.step, lambda verify: own)
    if (path / METADATA).is_file():
        return _single(path)
    try:
        return _newest(path, there) or _single(path)
    except CheckpointError:
        raise
    except OSError as error:
        raise _cannot_be_read(path, error) from error


def _newest(directory: AnyPath, there: _own_steps.Listing) -> _Found | None:
    """Find the newest checkpoint of any kind in a directory, to be opened."""
    own, there = _own_steps.newest_own(directory, there)
    candidates = [] if own is None else [_Found(own.path, own.index.step, lambda verify: own)]
    others = _others(directory, there)
    if len(others) > 1:
        raise _several_prefixes(directory, others)
    for steps in others.values():
        newest = _single(steps[max(steps)])
        if newest is not None:
            candidates.append(newest._replace(step=max(steps)))
    # The state file of a directory with jscope's steps is jscope's.
    is_of_tensorflow = _has_tensorflow(there.names) or (own is None and _is_state(directory))
    latest = tf_checkpoint.latest_checkpoint(directory) if is_of_tensorflow else None
    if latest is not None:
        path = located(latest)
        match = _TF_STEP.fullmatch(path.name)
        step = int(match["step"]) if match else -1
        candidates.append(_Found(path, step, functools.partial(_opened, path, _open_tensorflow)))
    return max(candidates, key=lambda found: found.step, default=None)


def _find_step(directory: AnyPath, step: int) -> _Found:
    """Find the checkpoint of a step in a directory, of whichever kind, to be opened."""
    if not directory.is_dir():
        raise _no_step(directory, step, ())
    path = _own_steps.path_of(directory, step)
    own = None if path is None else _own_steps.open_own(path, directory, step)
    if own is not None:
        return _Found(own.path, step, lambda verify: own)
    there = _own_steps.listing(directory)
    paths = [steps[step] for steps in _others(directory, there).values() if step in steps]
    paths += _of_tensorflow(directory, there.names).get(step, [])
    if len(paths) > 1:
        raise CheckpointError(
            f"{directory} has {len(paths)} checkpoints of step {step}: "
            f"{listed(path.name for path in paths)}.",
            f"Give the path: saver.restore(target, {str(paths[0])!r}).",
        )
    found = _single(paths[0]) if paths else None
    if found is None:
        raise _no_step(directory, step, all_steps(directory))
    return found


def _single(path: AnyPath) -> _Found | None:
    """What a path means that is one checkpoint of another library."""
    opener = _opener(path)
    return None if opener is None else _Found(path, -1, functools.partial(_opened, path, opener))


def _opener(path: AnyPath) -> _Opener | None:
    """How to open a path that is a checkpoint of another library; None if it isn't one."""
    if path.is_dir():
        names = _names(path)
        trees = {} if _has_steps(path, names) else items(path)
        if trees:
            return lambda path, verify: OrbaxSource(path, trees)
        if safetensors.is_directory(path):
            return _open_safetensors
        return _open_tensorflow if _is_of_tensorflow(path, names) else None
    if path.is_file():
        if npz.is_file(path):
            return _open_npz
        if safetensors.is_file(path):
            return _open_safetensors
        if is_flax(path):
            return _open_flax
    is_named_so = path.is_file() and _TENSORFLOW.search(path.name)
    return _open_tensorflow if is_named_so or exists_in_tensorflow(path) else None


def _names(directory: AnyPath) -> list[str]:
    """The names in the directory to be opened; nothing, if it is not there."""
    return [path.name for path in children(directory)] if directory.is_dir() else []


def _others(directory: AnyPath, there: _own_steps.Listing) -> _Steps:
    """The steps of Orbax's and Flax's checkpoints that can be opened in a directory, by prefix."""
    found: _Steps = {}
    own = {path.name for path in there.steps.values()}
    for name in there.names:
        path = directory / name
        if name.startswith(_own_steps.STAGING):
            continue  # a save's, which may be gone before it is looked at
        if not _STEP.fullmatch(name) or name in own or _own_steps.has_index(path):
            continue  # before its contents are listed
        is_tree = path.is_dir() and bool(items(path))
        match = (_ORBAX_STEP if is_tree else _STEP).fullmatch(name)
        if match and (is_tree or is_flax(path)):
            step = match["step"]
            number = float(step) if "." in step else int(step)
            found.setdefault(match["prefix"], {})[number] = path
    return found if found and _has_steps(directory, there.names) else _without_trees(found)


def _has_steps(directory: AnyPath, names: Iterable[str]) -> bool:
    """Whether the trees of Orbax in a directory are steps, not the items of one checkpoint."""
    if (directory / METADATA).is_file() or (directory / "_CHECKPOINT_METADATA").is_file():
        return False
    trees = [name for name in names if (directory / name / METADATA).is_file()]
    return all(_ORBAX_STEP.fullmatch(name) for name in trees)


def _without_trees(steps: _Steps) -> _Steps:
    """Of the steps by prefix that can be opened, those that are files, not directories of Orbax."""
    files = {prefix: {n: p for n, p in own.items() if p.is_file()} for prefix, own in steps.items()}
    return {prefix: own for prefix, own in files.items() if own}


def _of_prefix(path: AnyPath) -> _Found | None:
    """Find the newest step whose name begins as the path to be opened does: ``runs/best_``."""
    if isinstance(path, RemotePath):
        if not path.beginning_with():  # of a bucket no more is listed than has to be
            return None
    elif not path.parent.is_dir():
        return None
    there = _own_steps.listing(path.parent)
    steps = _others(path.parent, there).get(path.name, {})
    return _single(steps[max(steps)]) if steps else None


def _is_of_tensorflow(path: AnyPath, names: Iterable[str]) -> bool:
    """Whether a path that is to be opened is a directory of TensorFlow's checkpoints."""
    return _has_tensorflow(names) or _is_state(path)


def _has_tensorflow(names: Iterable[str]) -> bool:
    """Whether the files in a directory to be opened are TensorFlow's, by their names."""
    return any(name.endswith(".index") or name == "saved_model.pb" for name in names)


def _is_state(path: AnyPath) -> bool:
    """Whether the state file of a directory to be opened is TensorFlow's, and not a Saver's."""
    state = path / "checkpoint"
    if not state.is_file():
        return False
    # A Saver of jscope calls its own state so too.
    return bool(_TF_STATE.match(first_bytes(state, 1024, follow=True)))


def _of_tensorflow(directory: AnyPath, names: Iterable[str]) -> dict[int, list[AnyPath]]:
    """The TensorFlow checkpoints that can be opened in a directory, by the step in their names."""
    found: dict[int, list[AnyPath]] = {}
    if _is_of_tensorflow(directory, names):
        for prefix in prefixes(directory):
            match = _TF_STEP.fullmatch(os.path.basename(prefix))
            if match:
                found.setdefault(int(match["step"]), []).append(located(prefix))
    return found


# Opening.


def _opened(path: AnyPath, opener: _Opener, verify: bool) -> Source:
    """Open a path by its kind's reader; what goes wrong is a `CheckpointError`."""
    try:
        return opener(path, verify)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:
        text = _own_steps.text_of(error)
        raise CheckpointError(f"The checkpoint {path} can't be read: {text}") from error


def _open_flax(path: AnyPath, verify: bool) -> FileSource:
    """The opener of files of Flax."""
    return open_flax(path)


def _open_npz(path: AnyPath, verify: bool) -> FileSource:
    """The opener of npz files."""
    return FileSource(path, npz.open_file(path), format="npz file", checksum="CRC-32")


def _open_safetensors(path: AnyPath, verify: bool) -> FileSource:
    """The opener of safetensors: a file, an index, or a directory."""
    tensors = safetensors.open_any(path)
    return FileSource(path, tensors, format="safetensors file", metadata=tensors.metadata)


def _open_tensorflow(path: AnyPath, verify: bool) -> FileSource:
    """The opener of TensorFlow checkpoints."""
    opened = tf_checkpoint.open(path, verify=verify)
    return FileSource(
        located(opened.prefix),
        opened,
        format=f"TensorFlow checkpoint, V{opened.version}",
        checksum="CRC-32C",
    )


# Errors.


def _cannot_be_read(path: AnyPath, error: OSError) -> CheckpointError:
    """Compose the error: a directory can't be read."""
    return CheckpointError(f"{path} can't be read: {_own_steps.text_of(error)}")


def _no_step(directory: AnyPath, step: int, known: Sequence[int]) -> CheckpointNotFoundError:
    """Compose the error: what a path means has no such step, and which steps it has."""
    those = f"steps {listed(known, most=20)}" if known else "no checkpoint at all"
    return CheckpointNotFoundError(
        f"There is no step {step} in {directory}; it has {those}. Leave the step out for the "
        "latest one."
    )


def _several_prefixes(directory: AnyPath, others: _Steps) -> CheckpointError:
    """Compose the error: what a path means is unknown, as its steps have several prefixes."""
    prefixes = sorted(others)
    return CheckpointError(
        f"{directory} has steps of several prefixes: {listed(prefixes)}. Which of them "
        "is meant is unknown.",
        f"Give the path of one: saver.restore(target, {str(directory / prefixes[-1])!r}).",
    )


def _nothing_to_open(path: AnyPath) -> CheckpointError:
    """Compose the error: what a path means is not a checkpoint of any kind."""
    if path.is_file():
        return CheckpointNotFoundError(
            f"There is no checkpoint in {path}: it {what_it_seems(path)}"
        )
    known = "of jscope, Orbax, Flax, safetensors, NumPy or TensorFlow"
    if path.is_dir():
        return CheckpointNotFoundError(
            f"There is no checkpoint in {path}. Give the directory or file that has one, {known}.",
            "Or save one: saver.save(tree, step).",
        )
    beside = _beside(path)
    close = f" ({near(path.name, beside)})" if beside else ""
    return CheckpointNotFoundError(
        f"There is no checkpoint in {path}: neither it nor {path.name}.index is there{close}. Give "
        f"the directory or file that has one, {known}.",
        "Or save one: saver.save(tree, step).",
    )


def _beside(path: AnyPath) -> list[str]:
    """The names beside a path that can't be opened; not of a whole bucket."""
    if isinstance(path, RemotePath) and not path.parent.key:
        return []
    return [file.name for file in children(path.parent)] if path.parent.is_dir() else []
