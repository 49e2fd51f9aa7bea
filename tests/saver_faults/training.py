"""A training that is killed and resumed, over and over.

Imports: `client`, `server`, `tally`, `trees`, jscope, JAX and NumPy.
"""

import hashlib
import random
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscope.saver import Saver

from .client import Server
from .server import Line
from .tally import Tally
from .trees import packing_up_to


def first_state() -> dict[str, Any]:
    """What a training begins with."""
    return {
        "params": {"w": jnp.zeros((150, 120)), "b": jnp.zeros(120)},
        "momentum": {"w": jnp.zeros((150, 120)), "b": jnp.zeros(120)},
        "key": jax.random.key(0),
        "step": jnp.int32(0),
    }


@jax.jit
def update(state: dict[str, Any]) -> dict[str, Any]:
    """One step of gradient descent with momentum, on data drawn from the state's own key."""
    key, data = jax.random.split(state["key"])
    x = jax.random.normal(data, (16, 150))
    y = jnp.sin(x[:, :120])

    def loss(params: dict[str, Any]) -> jax.Array:
        return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)

    grads = jax.grad(loss)(state["params"])
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state["momentum"], grads)
    params = jax.tree.map(lambda p, m: p - 0.1 * m, state["params"], momentum)
    return {"params": params, "momentum": momentum, "key": key, "step": state["step"] + 1}


def train(line: Line, directory: str | None, until: int) -> None:
    """Train to a step, from the last checkpoint on, saving each step, and tell of it.

    The last message has a digest of the end.

    Without a directory nothing is saved, which is the training that nothing interrupts.
    """
    state = first_state()
    if directory is None:
        for _ in range(until):
            state = update(state)
    else:
        with packing_up_to(1 << 16), Saver(directory, max_to_keep=2) as saver:
            if saver.latest_step() is not None:
                state = saver.restore(state)
            line.tell({"from": int(state["step"])})
            while int(state["step"]) < until:
                state = update(state)
                saver.save_async(state, int(state["step"]))
                line.tell({"begun": int(state["step"])})
    line.tell({"step": int(state["step"]), "digest": digest(state)})


def soak(server: Server, directory: Path, kills: int) -> Tally:
    """Train, kill the process at a random moment, and again.

    Each process goes on from the last checkpoint. The last one is left to end, and then has the
    parameters of a training that nothing interrupts.
    """
    tally = Tally("training", "killed at random moments and resumed")
    draw, begins = random.Random(0), []
    for _ in range(kills):
        process = server.start("training:train", directory=str(directory), until=10**9)
        message = process.listen()
        if message is not None:
            begins.append(message["from"])
            for _ in range(draw.randrange(4)):
                process.listen()
            time.sleep(draw.uniform(0, 0.04))
            process.kill()
        if process.wait() != -signal.SIGKILL:
            text = f"a training ended with status {process.status}"
            tally.problems.append(("other", tally.points, text))
            return tally
        tally.points += 1
    tally.outcomes["resumed steps"] = len(set(begins) - {0})
    if begins != sorted(begins) or begins[-1] == 0:
        tally.problems.append(("lost", kills, f"training did not go on: {begins}"))
    until = begins[-1] + 20
    resumed = server.start("training:train", directory=str(directory), until=until)
    whole = server.start("training:train", directory=None, until=until)
    ends = resumed.last(), whole.last()
    if ends[0] != ends[1]:
        tally.problems.append(("wrong", kills, f"the end is {ends[0]} instead of {ends[1]}"))
    return tally


def digest(state: dict[str, Any]) -> str:
    """A digest of all bits of a training's state."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(dict(state, key=jax.random.key_data(state["key"]))):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()
