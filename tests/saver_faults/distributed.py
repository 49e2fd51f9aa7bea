"""Processes of one program, by `jax.distributed`: they train and save together.

Imports: `client`, `injector`, `server`, `tally`, `training`, `trees`, jscope, JAX and NumPy.
"""

import os
import shutil
import signal
import socket
import time
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope.saver import Saver

from . import injector
from .client import Server
from .server import Line
from .tally import Tally
from .training import digest
from .trees import packing_up_to

DEVICES = 4
PATIENCE = 100  # seconds until a member that is silent is taken for dead
WIDTH = 240


def member(
    line: Line,
    address: str,
    number: int,
    count: int,
    directory: str,
    begin: int | None,
    save_at: list[int],
    until: int,
    patience: int,
    kill_at: int = 0,
    is_async: bool = False,
) -> None:
    """Train with the other members, four devices in all; send the digest of all values at the end.

    Args:
        address: Of the coordinator, where ``host:port`` is free.
        number: Which member this is, of ``count``.
        directory: Where the checkpoints are.
        begin: The step to begin with, restored; the initial values if None.
        save_at: The steps to save.
        until: The last step.
        patience: See `join`.
        kill_at: The operation on files at which this process dies in a save, if not 0.
        is_async: Whether the saves are asynchronous.
    """
    join(address, number, count, patience)
    mesh = Mesh(np.array(jax.devices()), ("x",))
    assert mesh.size == DEVICES
    result: dict[str, Any] = {}
    try:
        with packing_up_to(1 << 16), Saver(directory) as saver:
            if begin is None:
                state = jax.jit(first_state, out_shardings=shardings(mesh))()
            else:
                state = saver.restore(abstract(mesh), begin)
                assert jax.tree.map(lambda x: x.sharding, state) == shardings(mesh)
            step = int(state["step"])
            while True:
                if step in save_at:
                    mode = injector.KILL if kill_at else injector.WATCH
                    injector.arm(Path(directory).parent, mode, kill_at)
                    if is_async:
                        saver.save_async(state, step).result()
                    else:
                        saver.save(state, step)
                    result["operations"] = injector.disarm()[0]
                if step == until:
                    break
                state = update(state)
                step += 1
        result["digest"] = digest(gathered(state))
        if count > 1:
            jax.distributed.shutdown()
    except js.JscopeError as error:
        result["raised"] = f"{type(error).__name__}: {error}"
    except Exception:
        result["escaped"] = traceback.format_exc()
    line.send(result)


def until_preempted(line: Line, address: str, number: int, count: int, directory: str) -> None:
    """Train with the other members until one of them gets SIGTERM; send each step."""
    join(address, number, count)
    mesh = Mesh(np.array(jax.devices()), ("x",))
    state = jax.jit(first_state, out_shardings=shardings(mesh))()
    try:
        with (
            packing_up_to(1 << 16),
            Saver(directory) as saver,
            saver.saving_on_termination() as leave_if_asked,
        ):
            while True:
                state = update(state)
                step = int(state["step"])
                line.send(step)
                leave_if_asked(state, step)
                # It takes some seconds until JAX's service has informed every process.
                time.sleep(0.1)
    finally:
        # JAX does so at the end of a program, but a forked process ends at once. Without it the
        # others are aborted when the service, which is the first one's, is gone.
        jax.distributed.shutdown()


def feeding(
    line: Line,
    address: str,
    number: int,
    count: int,
    directory: str,
    begin: int | None,
    until: int,
) -> None:
    """Draw batches from a part of Grain's data, each member from its own; send what was drawn.

    Args:
        address: As for `member`.
        number: As for `member`.
        count: As for `member`.
        directory: Where the checkpoints are.
        begin: The step to begin with, restored; the first batch if None.
        until: The step that is saved at the end.
    """
    import grain

    join(address, number, count)
    part = slice(number, None, count)
    data = iter(grain.MapDataset.range(4000)[part].shuffle(seed=5).batch(4).to_iter_dataset())
    state = {"data": js.PerProcess(data), "step": begin or 0}
    try:
        with Saver(directory) as saver:
            if begin is not None:
                restored = saver.restore(state, begin)
                assert restored["data"].value is data
            batches = [next(data).tolist() for _ in range(begin or 0, until)]
            saver.save(state | {"step": until}, until, overwrite=True)
        if count > 1:
            jax.distributed.shutdown()
        line.send(batches)
    except js.JscopeError as error:
        line.send(f"{type(error).__name__}: {error}")


def fed(server: Server, count: int, directory: Path, **how: Any) -> list[Any]:
    """What each of some members of `feeding` sent."""
    how |= {"address": free_address(), "directory": str(directory)}
    members = [
        server.start("distributed:feeding", number=number, count=count, **how)
        for number in range(count)
    ]
    messages = [member.receive() for member in members]
    for member in members:
        member.wait()
    return messages


def join(address: str, number: int, count: int, patience: int = PATIENCE) -> None:
    """Become one of ``count`` processes that have `DEVICES` devices together.

    Args:
        patience: Seconds until one that is silent is taken for dead.
    """
    devices = DEVICES // count
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            address,
            count,
            number,
            heartbeat_timeout_seconds=patience,
            shutdown_timeout_seconds=patience,
        )


def first_state() -> dict[str, Any]:
    """What a training begins with: a large sharded array, small ones, a key and a number."""
    return {
        "w": jnp.zeros((WIDTH, WIDTH)),
        "momentum": jnp.zeros((WIDTH, WIDTH)),
        "b": jnp.zeros(WIDTH),
        "table": jnp.arange(40000, dtype=jnp.int32),
        "key": jax.random.key(0),
        "step": jnp.int32(0),
    }


def shardings(mesh: Mesh) -> dict[str, NamedSharding]:
    """The columns are split, so that no sum crosses processes and its order can't matter."""
    columns, all_of_it = PartitionSpec(None, "x"), PartitionSpec()
    specs = {"w": columns, "momentum": columns, "b": PartitionSpec("x")}
    return {name: NamedSharding(mesh, specs.get(name, all_of_it)) for name in first_state()}


def abstract(mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """What to restore into."""
    places = shardings(mesh)
    return {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places[name])
        for name, x in jax.eval_shape(first_state).items()
    }


@jax.jit
def update(state: dict[str, Any]) -> dict[str, Any]:
    """One step of gradient descent with momentum, on data drawn from the state's own key."""
    key, data = jax.random.split(state["key"])
    x = jax.random.normal(data, (16, WIDTH))
    error = x @ state["w"] + state["b"] - jnp.sin(x)
    momentum = 0.9 * state["momentum"] + x.T @ error
    return {
        "w": state["w"] - 1e-3 * momentum,
        "momentum": momentum,
        "b": state["b"] - 1e-3 * error.sum(0),
        "table": state["table"] + 1,
        "key": key,
        "step": state["step"] + 1,
    }


def gathered(state: dict[str, Any]) -> dict[str, Any]:
    """The same with every value whole, in every process."""
    values = {name: x for name, x in state.items() if name != "key"}
    values["key"] = jax.random.key_data(state["key"])
    whole = {name: multihost_utils.process_allgather(x, tiled=True) for name, x in values.items()}
    return whole | {"key": jax.random.wrap_key_data(jnp.asarray(whole["key"]))}


def run(
    server: Server, count: int, directory: Path, kill: Mapping[int, int] | None = None, **how: Any
) -> list[Any]:
    """Start members and wait; what each sent, or its exit status if it sent nothing.

    Args:
        kill: The operation at which a member dies, by the member's number.
        how: More arguments of `member`.
    """
    how = {"begin": None, "save_at": [], "patience": 10 if kill else PATIENCE, **how}
    how |= {"address": free_address(), "directory": str(directory)}
    members = [
        server.start(
            "distributed:member",
            number=number,
            count=count,
            kill_at=(kill or {}).get(number, 0),
            **how,
        )
        for number in range(count)
    ]
    messages = [member.receive() for member in members]
    statuses = [member.wait() for member in members]
    return [
        s if message is None else message for message, s in zip(messages, statuses, strict=True)
    ]


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def resume(server: Server, scratch: Path) -> Tally:
    """Save by one process or two, go on with one or two: always the same bits at the end."""
    tally = Tally("two processes", "resumed by one and by two")
    (whole,) = run(server, 1, scratch, until=6)
    for writers in (1, 2):
        directory = scratch / str(writers)
        run(server, writers, directory, save_at=[3], until=3, is_async=writers == 2)
        for readers in (1, 2):
            ends = run(server, readers, directory, begin=3, until=6)
            tally.points += 1
            if [end["digest"] for end in ends] != [whole["digest"]] * readers:
                text = f"saved by {writers}, resumed by {readers}: {ends} instead of {whole}"
                tally.problems.append(("wrong", tally.points, text))
            else:
                tally.outcomes["equal"] += 1
    return tally


def deaths(server: Server, scratch: Path, most: int | None = None) -> Iterator[Tally]:
    """Kill one of two processes at its file operations, while both save step 2.

    Args:
        most: How many of the operations of each, spread evenly up to the last ones; if None, all.
    """
    digests = {run(server, 1, scratch, until=step)[0]["digest"]: step for step in (1, 2)}
    template = scratch / "template"
    run(server, 2, template / "run", save_at=[1], until=1)
    how = {"begin": 1, "save_at": [2], "until": 2}
    shutil.copytree(template, scratch / "whole")
    whole = run(server, 2, scratch / "whole" / "run", **how)
    for victim in (0, 1):
        tally = Tally("two processes", f"process {victim} killed in a save")
        count = whole[victim]["operations"]
        points = min(most or count, count)
        for at in ((i + 1) * count // points for i in range(points)):
            case = scratch / f"{victim}-{at}"
            shutil.copytree(template, case)
            results = run(server, 2, case / "run", {victim: at}, is_async=at % 2 == 0, **how)
            if results[victim] != -signal.SIGKILL:
                continue  # This time it had fewer.
            tally.points += 1
            found = _after_death(case / "run", results[1 - victim], digests)
            tally.problems += [(kind, at, text) for kind, text in found]
            is_new = 2 in js.Saver(case / "run").all_steps()
            tally.outcomes["new" if is_new else "old"] += 1
        yield tally


def preempted(server: Server, scratch: Path, whom: Collection[int] = (0, 1)) -> Tally:
    """Send SIGTERM to one of two processes, then to the other: both save the same step, and end."""
    tally = Tally("two processes", "one is sent SIGTERM")
    for victim in whom:
        directory = scratch / str(victim)
        address = free_address()
        members = [
            server.start(
                "distributed:until_preempted",
                address=address,
                number=number,
                count=2,
                directory=str(directory),
            )
            for number in range(2)
        ]
        while members[victim].receive() < 3:
            pass
        members[victim].kill(signal.SIGTERM)
        lasts = [member.last() for member in members]
        statuses = [member.status for member in members]
        tally.points += 1
        with Saver(directory) as saver:
            step = saver.latest_step()
            restored = saver.restore(jax.eval_shape(first_state))
        (whole,) = run(server, 1, scratch / "whole", until=step)
        assert isinstance(whole, dict), whole
        if statuses != [128 + signal.SIGTERM] * 2 or lasts != [step] * 2:
            text = f"ended with {statuses} at {lasts}, and the latest is {step}"
            tally.problems.append(("lost", victim, text))
        elif digest(restored) != whole["digest"]:
            tally.problems.append(("wrong", victim, f"step {step} has other values"))
        else:
            tally.outcomes["saved"] += 1
    return tally


def _after_death(
    directory: Path, survivor: Any, digests: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    with Saver(directory) as saver:
        steps = saver.all_steps()
        for step in steps:
            restored = saver.restore(jax.eval_shape(first_state), step)
            if digests.get(digest(restored)) != step:
                yield "wrong", f"step {step} has other values"
        if 1 not in steps:
            yield "lost", f"step 1 is gone; there are {steps}"
        # One that dies while it tidies up after the save does not make the other's save fail.
        if survivor == 0 or (isinstance(survivor, dict) and "operations" in survivor):
            if 2 not in steps:
                yield "silent", f"the survivor sent {survivor}, and there are {steps}"
        elif isinstance(survivor, dict) and "raised" not in survivor:
            yield "other", f"the survivor sent {survivor}"
        saver.save(first_state(), 3)
        if saver.latest_step() != 3:
            yield "stuck", "a save afterwards is not there"
    for name in set(os.listdir(directory)) - {"checkpoint", "1", "2", "3"}:
        yield "debris", name
