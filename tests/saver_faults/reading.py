"""Processes of one program that restore together, and count what each of them reads.

Imports: `client`, `distributed`, `server`, jscope, JAX and NumPy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jscope import Through
from jscope._stores.files import LocalFile
from jscope.formats._tensorstore import Tensors
from jscope.interop import tensorflow
from jscope.saver import Saver

from .client import Server
from .distributed import PATIENCE, free_address, join
from .server import Line


def tree() -> dict[str, Any]:
    """What is restored: arrays of all sizes, keys and numbers."""
    rng = np.random.default_rng(0)
    small = {f"small/{i}": rng.random((16, 16), np.float32) for i in range(100)}
    return {
        **small,
        "large": rng.random((1024, 1536), np.float32),
        "larger": rng.random((3, 1024, 512), np.float32),
        "half": rng.random((512, 128)).astype(jnp.bfloat16),
        "layers/0/w": rng.random((64, 64), np.float32),
        "layers/1/w": rng.random((64, 64), np.float32),
    }


def reader(
    line: Line,
    address: str,
    number: int,
    count: int,
    path: str,
    target: str,
    fault: str,
) -> None:
    """Restore with the other processes; send how many bytes were read, or the error.

    Args:
        address: Of the coordinator, where ``host:port`` is free.
        number: Which process this is, of ``count``.
        path: What is restored: a checkpoint of `tree`.
        target: How the target's leaves are placed: see `leaves`.
        fault: ``""``; or what is wrong in process 1: ``"disk"``, ``"function"``, ``"map"``,
            ``"select"`` or ``"shape"``.
    """
    join(address, number, count, PATIENCE)
    wanted = leaves(target)
    select = None
    if number == 1 and fault == "select":
        select = "large"
    if number == 1 and fault == "shape":
        wanted["half"] = np.zeros((128, 512), jnp.bfloat16)
    if number == 1 and fault == "disk":
        LocalFile.read_into = broken  # type: ignore[method-assign]
    saver = Saver(Path(path).parent)
    rename = maps(target, fault, number)
    try:
        with counted() as sizes:
            if target == "tensorflow":
                restored, report = tensorflow.restore(wanted, path)
            else:
                restored = saver.restore(wanted, path, select=select, rename=rename)
                report = saver.report
    except Exception as error:
        line.send({"error": f"{type(error).__name__}: {error}"})
        return
    assert report is not None
    right = turned() if target == "through" else tree()
    wrong = [name for name, value in right.items() if not are_equal(restored[name], value)]
    line.send({"wrong": wrong, "bytes": sum(sizes), "reported": report.bytes_read})


def leaves(target: str) -> dict[str, Any]:
    """The target of a restore.

    Args:
        target: ``"numpy"``, ``"uncommitted"``, ``"replicated"`` over all devices; or over one axis
            of two by two devices, and replicated over the other: ``"rows"``, ``"columns"``; or as
            `turned`: ``"through"``; or by the function of `interop`: ``"tensorflow"``.
    """
    values = turned() if target == "through" else tree()
    if target in ("numpy", "through", "tensorflow"):
        return {name: np.zeros_like(value) for name, value in values.items()}
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("x", "y"))
    axis = {"rows": "x", "columns": "y"}.get(target)
    found = {}
    for name, value in values.items():
        sharding = None
        if target != "uncommitted":
            spec = PartitionSpec(axis if value.shape[0] % 2 == 0 else None)
            sharding = NamedSharding(mesh, spec)
        found[name] = jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)
    return found


def turned() -> dict[str, Any]:
    """What is restored through functions: ``large`` twice, and some of the small ones."""
    values = tree()
    twice = {"large": values["large"].T, "again": -values["large"]}
    return values | twice | {f"small/1{i}": values[f"small/1{i}"] * 2 for i in range(10)}


def maps(target: str, fault: str, number: int) -> dict[str, Any] | None:
    """The names and functions of a restore."""
    if fault == "function":
        return {"half": Through("half", np.copy if number == 0 else lambda half: 1 // 0)}
    if fault == "map" and number == 0:
        return {"half": Through("half", np.copy)}
    if target != "through":
        return None
    both = (Through("large", np.transpose), Through("again", np.negative))
    doubled = {f"small/1{i}": Through(f"small/1{i}", lambda x: x * 2) for i in range(10)}
    return {"large": both, **doubled}


def are_equal(restored: Any, value: Any) -> bool:
    """Whether all that this process has of an array is right."""
    if isinstance(restored, np.ndarray):
        return np.array_equal(restored, value)
    return all(
        np.array_equal(shard.data, value[shard.index]) for shard in restored.addressable_shards
    )


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many bytes of arrays are read, by files and by TensorStore."""
    sizes: list[int] = []
    read_into, start = LocalFile.read_into, Tensors.start

    def read_into_counted(self: LocalFile, at: int, into: memoryview) -> None:
        sizes.append(len(into))
        read_into(self, at, into)

    def start_counted(self: Tensors, name: str, box: Any, into: Any) -> Any:
        sizes.append(into.nbytes)
        return start(self, name, box, into)

    with (
        patch.object(LocalFile, "read_into", read_into_counted),
        patch.object(Tensors, "start", start_counted),
    ):
        yield sizes


def broken(self: LocalFile, at: int, into: memoryview) -> None:
    """What reads as from a disk that fails."""
    raise OSError(5, "Input/output error")


def run(server: Server, count: int, path: Path, target: str, fault: str = "") -> list[Any]:
    """Restore by processes; what each of them sent."""
    address = free_address()
    members = [
        server.start(
            "reading:reader",
            number=number,
            count=count,
            address=address,
            path=str(path),
            target=target,
            fault=fault,
        )
        for number in range(count)
    ]
    messages = [member.receive() for member in members]
    for member in members:
        member.wait()
    return messages
