"""Orbax without jscope, killed while it overwrites a checkpoint: what a Saver must not do.

Imports: `client`, `injector`, `server`, `tally`, `trees`, JAX, NumPy and Orbax.
"""

import shutil
import signal
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1

from . import injector
from .client import Server
from .server import Line
from .tally import Tally
from .trees import target, tree, version_of


def overwrite(line: Line, directory: str, at: int) -> None:
    """Save in place of what is there, and die at an operation; send their number if it has not."""
    injector.arm(Path(directory), injector.KILL if at else injector.WATCH, at)
    v1.save(Path(directory, "1"), arrays(2), overwrite=True)
    line.send(injector.disarm()[0])


def arrays(version: int) -> dict[str, np.ndarray]:
    """A tree whose numbers are arrays, too."""
    return {name: np.asarray(value) for name, value in tree(version).items()}


def load(line: Line, directory: str) -> None:
    """Load what is there; send which version it is, or why it can't be loaded."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)
        for name, x in target().items()
    }
    try:
        line.send(version_of(v1.load(Path(directory, "1"), wanted), [1, 2]))
    except Exception as error:
        line.send(str(error).partition("\n")[0])


def killed(server: Server, scratch: Path, most: int) -> Tally:
    """Kill it at some operations, spread evenly, and load what is left."""
    tally = Tally("Orbax overwrites", "kill")
    v1.save(scratch / "template" / "1", arrays(1))
    case = scratch / "case"
    shutil.copytree(scratch / "template", case)
    count = server.start("plain_orbax:overwrite", directory=str(case), at=0).last()
    for i in range(min(most, count)):
        shutil.rmtree(case)
        shutil.copytree(scratch / "template", case)
        at = 1 + i * count // min(most, count)
        if (
            server.start("plain_orbax:overwrite", directory=str(case), at=at).wait()
            != -signal.SIGKILL
        ):
            continue  # This time it had fewer.
        tally.points += 1
        found = server.start("plain_orbax:load", directory=str(case)).last()
        if found in (1, 2):
            tally.outcomes["old" if found == 1 else "new"] += 1
        else:
            tally.problems.append(("lost", at, str(found)))
    return tally
