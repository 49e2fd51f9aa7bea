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


def train(line: Line, directory: str | None, until: int, save_every: int = 1) -> None:
    """Train to a step, from the last checkpoint on, saving on the way, and send each step.

    If it is to end, by SIGTERM, it saves once more. The last message has a digest of the end.
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
            with saver.saving_on_termination() as leave_if_asked:
                line.send({"from": int(state["step"])})
                while (step := int(state["step"])) < until:
                    state = update(state)
                    if (step + 1) % save_every == 0:
                        saver.save_async(state, step + 1)
                    line.send({"step": step + 1})
                    leave_if_asked(state, step + 1)
    line.send({"step": int(state["step"]), "digest": digest(state)})


def soak(server: Server, directory: Path, times: int, number: int = signal.SIGKILL) -> Tally:
    """Train, end the process at a random moment by a signal, and again.

    Each process goes on from the last checkpoint: after SIGTERM that is the step at which the one
    before it ended. The last one is left to its end, and then has the values of a training that
    nothing interrupts.
    """
    is_sigterm = number == signal.SIGTERM
    tally = Tally("training", f"{signal.Signals(number).name} at random moments, and resumed")
    expected = 128 + number if is_sigterm else -number
    draw, begins, end = random.Random(0), [], 0
    where, save_every = str(directory), 5 if is_sigterm else 1
    for _ in range(times):
        process = server.start(
            "training:train", directory=where, until=10**9, save_every=save_every
        )
        message = process.receive()
        if message is not None:
            begins.append(message["from"])
            for _ in range(draw.randrange(4)):
                process.receive()
            time.sleep(draw.uniform(0, 0.04))
            process.kill(number)
        last = process.last()
        tally.points += 1
        if process.status != expected:
            text = f"a training ended with status {process.status}"
            tally.problems.append(("other", tally.points, text))
            return tally
        if is_sigterm and begins[-1] < end:
            text = f"went on from {begins[-1]} after an end at {end}"
            tally.problems.append(("lost", tally.points, text))
        end = last["step"] if last else begins[-1]
    tally.outcomes["resumed steps"] = len(set(begins) - {0})
    if begins != sorted(begins) or begins[-1] == 0:
        tally.problems.append(("lost", times, f"training did not go on: {begins}"))
    until = max(begins[-1], end) + 10
    resumed = server.start("training:train", directory=where, until=until)
    whole = server.start("training:train", directory=None, until=until)
    ends = resumed.last(), whole.last()
    if ends[0] != ends[1]:
        tally.problems.append(("wrong", times, f"the end is {ends[0]} instead of {ends[1]}"))
    return tally


def digest(state: dict[str, Any]) -> str:
    """A digest of all bits of a training's state."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(dict(state, key=jax.random.key_data(state["key"]))):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()
