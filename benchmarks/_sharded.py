"""A process of eight devices that restores over 1, 2, 4 and 8 of them, and counts what it reads.

Each device gets a part of the rows of every matrix; parts that are not side by side in a file of
safetensors are read by a map of it, whose bytes the system doesn't count. Printed are the bytes
read as a multiple of those saved, by format and number of devices.

Imports: `savers`; jscope, JAX, NumPy and safetensors.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

COUNTS = (1, 2, 4, 8)
FORMATS = ("jscope", "safetensors")
_MATRICES = 4


def _ratios(size: int) -> dict[str, dict[int, float]]:
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec
    from safetensors.numpy import save_file
    from savers import bytes_read

    import jscope as js

    width = 1024
    matrix = np.ones((size // 4 // width // _MATRICES, width), np.float32)
    tree = {f"layer_{i}/w": matrix for i in range(_MATRICES)}

    def over(count: int) -> dict[str, Any]:
        mesh = jax.make_mesh((count,), ("x",), devices=jax.devices()[:count])
        sharding = NamedSharding(mesh, PartitionSpec("x"))
        like = jax.ShapeDtypeStruct(matrix.shape, matrix.dtype, sharding=sharding)
        return dict.fromkeys(tree, like)

    with tempfile.TemporaryDirectory(prefix="sharded-") as folder:
        saver = js.Saver(Path(folder).resolve() / "own")
        paths = {"jscope": saver.save(tree, 0), "safetensors": saver.directory / "w.safetensors"}
        save_file(tree, paths["safetensors"])
        found: dict[str, dict[int, float]] = {name: {} for name in FORMATS}
        for name, path in paths.items():
            for count in COUNTS:
                saver.restore(over(count), path)
                with bytes_read() as read:
                    jax.block_until_ready(saver.restore(over(count), path))
                found[name][count] = read() / sum(array.nbytes for array in tree.values())
    return found


if __name__ == "__main__":
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={COUNTS[-1]}"
    os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    print(json.dumps(_ratios(int(sys.argv[1]))))
