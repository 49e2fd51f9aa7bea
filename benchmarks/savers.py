"""Who saves and restores: jscope, its peers, and the least that anyone must do.

Each is a pair of functions on a path that does not exist yet and a dict of jax.Arrays. A save
ends when all is on disk: after those who don't see to that themselves, all files and directories
are flushed. A restore gives jax.Arrays on the default device, like those saved.

Imports: jscope, the peers, JAX and NumPy.
"""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as orbax
from orbax.checkpoint import v1

import jscope as js

Tree: TypeAlias = Mapping[str, jax.Array]

RAW, OURS = "raw write", "jscope"
V0, V1, PLAIN = "Orbax v0", "Orbax v1", "Orbax v1, uncompressed"
TENSORFLOW, SAFETENSORS, NPZ = "TensorFlow", "safetensors", "np.savez"


@dataclass(frozen=True)
class Contender:
    """One of them.

    Attributes:
        save: Save a tree to a path.
        restore: Read what was saved there, like a tree of `jax.ShapeDtypeStruct`.
        begin: Start to save, and return how to wait, for those who can.
        names: Read the names and shapes of what was saved there.
        one: Read one variable of what was saved there.
    """

    save: Callable[[Path, Tree], object]
    restore: Callable[[Path, Mapping[str, Any]], Mapping[str, jax.Array]]
    begin: Callable[[Path, Tree], Callable[[], object]] | None = None
    names: Callable[[Path], object] | None = None
    one: Callable[[Path, str, Any], jax.Array] | None = None


def contenders() -> dict[str, Contender]:
    """All that can be imported here, by name."""
    # Orbax tells of each save in the log.
    logging.getLogger("absl").setLevel(logging.ERROR)
    found = {
        RAW: Contender(_save_raw, _restore_raw),
        NPZ: Contender(_save_npz, _restore_npz),
        V0: Contender(_save_v0, _restore_v0, _begin_v0),
        V1: Contender(_save_v1, _restore_v1, _begin_v1, _names_v1, _one_v1),
        PLAIN: Contender(_save_plain, _restore_v1),
        OURS: Contender(
            _save_ours, _restore_ours, _begin_ours, lambda path: js.list_variables(path), _one_ours
        ),
    }
    if importlib.util.find_spec("safetensors"):
        found[SAFETENSORS] = Contender(
            _save_safetensors, _restore_safetensors, None, _names_safetensors
        )
    if importlib.util.find_spec("tensorflow"):
        found[TENSORFLOW] = Contender(
            _save_tensorflow, _restore_tensorflow, None, _names_tensorflow
        )
    return found


def flush(path: Path) -> None:
    """Flush a file, or a directory and all below it, and the directory that it is in."""
    for parent, _, files in os.walk(path):
        for name in [*files, "."]:
            _fsync(Path(parent, name))
    if path.is_file():
        _fsync(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


# jscope.


def _save_ours(path: Path, tree: Tree) -> None:
    js.Saver(path).save(tree, 0)


def _begin_ours(path: Path, tree: Tree) -> Callable[[], object]:
    return js.Saver(path).save_async(tree, 0).result


def _restore_ours(path: Path, target: Mapping[str, Any]) -> Mapping[str, jax.Array]:
    return js.Saver(path).restore(target)


def _one_ours(path: Path, name: str, like: Any) -> jax.Array:
    return js.Saver(path).restore({name: like}, unexpected="ignore")[name]


# The least that anyone must do: all bytes into one file, and back.


def _save_raw(path: Path, tree: Tree) -> None:
    with open(path.with_suffix(".new"), "wb", buffering=1 << 20) as file:
        for array in tree.values():
            file.write(np.asarray(array).data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(file.name, path)
    _fsync(path.parent)


def _restore_raw(path: Path, target: Mapping[str, Any]) -> dict[str, jax.Array]:
    restored = {}
    with open(path, "rb", buffering=0) as file:
        for name, like in target.items():
            data = np.empty(like.shape, like.dtype)
            file.readinto(data.data)
            restored[name] = jax.device_put(data)
    return restored


# NumPy and safetensors.


def _save_npz(path: Path, tree: Tree) -> None:
    with open(path, "wb") as file:
        np.savez(file, **tree)
    flush(path)


def _restore_npz(path: Path, target: Mapping[str, Any]) -> dict[str, jax.Array]:
    with np.load(path) as file:
        return {name: jax.device_put(file[name]) for name in target}


def _save_safetensors(path: Path, tree: Tree) -> None:
    from safetensors.flax import save_file

    save_file(dict(tree), path)
    flush(path)


def _restore_safetensors(path: Path, target: Mapping[str, Any]) -> Mapping[str, jax.Array]:
    from safetensors.flax import load_file

    del target
    restored: Mapping[str, jax.Array] = load_file(path)
    return restored


def _names_safetensors(path: Path) -> object:
    from safetensors import safe_open

    with safe_open(path, "flax") as file:
        names = file.keys()
        return [(name, file.get_slice(name).get_shape()) for name in names]


# Orbax's older and newer API. The asynchronous checkpointer is the one that its users have.


def _save_v0(path: Path, tree: Tree) -> None:
    _begin_v0(path, tree)()


def _begin_v0(path: Path, tree: Tree) -> Callable[[], object]:
    checkpointer = orbax.StandardCheckpointer()
    checkpointer.save(path, dict(tree))

    def wait() -> None:
        checkpointer.wait_until_finished()
        checkpointer.close()
        flush(path)

    return wait


def _restore_v0(path: Path, target: Mapping[str, Any]) -> dict[str, jax.Array]:
    with orbax.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, dict(target))


def _save_v1(path: Path, tree: Tree) -> None:
    v1.save(path, dict(tree))
    flush(path)


def _begin_v1(path: Path, tree: Tree) -> Callable[[], object]:
    return v1.save_async(path, dict(tree)).result


def _restore_v1(path: Path, target: Mapping[str, Any]) -> dict[str, jax.Array]:
    return v1.load(path, dict(target))


def _names_v1(path: Path) -> object:
    return v1.metadata(path)


def _one_v1(path: Path, name: str, like: Any) -> jax.Array:
    context = v1.Context()
    context.pytree.loading.partial_load = True
    with context:
        return v1.load(path, {name: like})[name]


def _save_plain(path: Path, tree: Tree) -> None:
    context = v1.Context()
    context.array.saving.use_compression = False
    with context:
        _save_v1(path, tree)


# TensorFlow's Saver, without a graph: these are the operations that it runs.


def _save_tensorflow(path: Path, tree: Tree) -> None:
    tf = _tensorflow()
    path.mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(path / "ckpt"),
        tensor_names=list(tree),
        shape_and_slices=[""] * len(tree),
        tensors=[np.asarray(array) for array in tree.values()],
    )
    flush(path)


def _restore_tensorflow(path: Path, target: Mapping[str, Any]) -> dict[str, jax.Array]:
    values = _tensorflow().raw_ops.RestoreV2(
        prefix=str(path / "ckpt"),
        tensor_names=list(target),
        shape_and_slices=[""] * len(target),
        dtypes=[like.dtype for like in target.values()],
    )
    return {name: jax.device_put(value.numpy()) for name, value in zip(target, values)}


def _names_tensorflow(path: Path) -> object:
    return _tensorflow().train.list_variables(str(path / "ckpt"))


def _tensorflow() -> Any:
    # Else it tells at length which instructions the processor has.
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
    import tensorflow

    return tensorflow


@contextlib.contextmanager
def bytes_read() -> Iterator[Callable[[], int]]:
    """How many bytes this process has read from files since; by read(2) and its kin."""

    def now() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    # Reading that file is reading, too.
    first, begin = now(), now()
    yield lambda: now() - begin - (begin - first)
