"""How much memory a save or a restore needs at its peak, in a process of its own.

Imports: `server`, jscope, JAX and NumPy.
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jscope.saver import Saver

from .server import Line

DEVICES = 4


def measure(
    line: Line, directory: str, what: str, count: int, size: int, options: dict[str, Any]
) -> None:
    """Save or restore arrays over four devices, and send by how many bytes memory grew.

    Args:
        what: ``"save"``, ``"save_async"`` or ``"restore"``. The last restores what one of the
            others saved, into the same shardings.
        count: How many arrays.
        size: Of how many bytes each.
        options: Of the Saver.
    """
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
    mesh = Mesh(np.array(jax.devices()), ("x",))
    columns = NamedSharding(mesh, PartitionSpec(None, "x"))
    shape = (size // 4096, 1024)
    with Saver(directory, **options) as saver:
        # Once with little, so that nothing is counted that is needed once in a process.
        small = {"w": jax.device_put(np.ones((8, 1024), np.float32), columns)}
        saver.save(small, 0, overwrite=True)
        saver.restore(small, 0)
        target = {
            f"w{i}": jax.ShapeDtypeStruct(shape, np.float32, sharding=columns) for i in range(count)
        }
        if what == "restore":
            before = begin()
            values = saver.restore(target, 1)
            peak = peak_memory() - before
            assert all((np.asarray(values[f"w{i}"])[-1] == i).all() for i in range(count))
        else:
            tree = {
                name: jax.device_put(np.full(shape, i, np.float32), columns)
                for i, name in enumerate(target)
            }
            jax.block_until_ready(tree)
            before = begin()
            if what == "save":
                saver.save(tree, 1)
            else:
                saver.save_async(tree, 1).result()
            peak = peak_memory() - before
    line.send(peak)


def begin() -> int:
    """Forget the peak so far; the memory in use."""
    # 5 resets the peak, see proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """The largest resident set since, in bytes."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return 1024 * int(line.split()[1])
