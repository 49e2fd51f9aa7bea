"""This checkout against another one, in pairs: ``python benchmarks/compare.py ../older``.

Both time what jscope does in the benchmarks, each in a process of its own that imports its
checkout's jscope and its checkout's `benchmarks/`. A round times one contender once in either
process, in random order, so that what slows the machine down slows both; a ratio is new time over
old within a round. The table has the median ratio and the interval that holds the true median with
90 % probability, by bootstrap over rounds.
"""

import argparse
import functools
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

Calls: TypeAlias = dict[str, Callable[[], object]]

HERE = Path(__file__).resolve().parent
BLOCKS = 48


def main() -> int:
    """Measure and print; 1 if a median is surely above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("older", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--only", action="append", help="contenders by the start of their name")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--limit", type=float, default=1.03)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.only)
    if arguments.older is None:
        parser.error("name the checkout to compare with")
    from _timing import interval  # a worker's is its checkout's

    only = arguments.only
    new, old = Worker(HERE.parent, only), Worker(arguments.older.resolve(), only)
    names = [name for name in new.ask() if _is_chosen(name, only)]
    print(f"{'contender':40} {'new':>10} {'old':>10} {'ratio':>7}  90 % interval")
    above = 0
    for name in names:
        times = in_pairs(name, new, old, arguments.rounds)
        ratios = [mine / theirs for mine, theirs in times]
        low, high = interval(ratios)
        above += low > arguments.limit
        mine, theirs = (statistics.median(column) * 1e6 for column in zip(*times, strict=True))
        ratio = statistics.median(ratios)
        mark = "  above the limit" if low > arguments.limit else ""
        print(
            f"{name:40} {mine:8.1f}us {theirs:8.1f}us {ratio:7.3f}  {low:.3f} to {high:.3f}{mark}"
        )
    return int(above > 0)


def _is_chosen(name: str, only: list[str] | None) -> bool:
    return only is None or name.startswith(tuple(only))


def in_pairs(name: str, new: "Worker", old: "Worker", rounds: int) -> list[tuple[float, float]]:
    """Seconds of one repetition in either checkout, round by round."""
    repetitions = max(1, round(0.02 / max(new.ask(name, 1), 1e-7)))
    old.ask(name, 1)
    shuffle = random.Random(0).shuffle
    times = []
    for _ in range(rounds):
        order = [new, old]
        shuffle(order)
        seconds = {worker: worker.ask(name, repetitions) for worker in order}
        times.append((seconds[new], seconds[old]))
    return times


class Worker:
    """A process that times contenders with one checkout's jscope."""

    def __init__(self, checkout: Path, only: list[str] | None):
        # -P: not this file's folder, but the checkout's own benchmarks.
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--worker"]
        command += [word for name in only or () for word in ("--only", name)]
        paths = [str(checkout), str(checkout / "benchmarks")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        loaded = json.loads(self._process.stdout.readline())
        if not Path(loaded).is_relative_to(checkout):
            raise RuntimeError(f"{loaded} is not of {checkout}")

    def ask(self, *question: Any) -> Any:
        """The names of the contenders; or, of a name and repetitions, seconds for each."""
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def work(only: list[str] | None) -> int:
    """Answer the questions of another process."""
    import _timing
    import jax

    import jscope as js

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    print(json.dumps(js.__file__), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        calls = contenders(folder, only)
        for line in sys.stdin:
            question = json.loads(line)
            if question:
                name, repetitions = question
                run = functools.partial(_timing.repeated(calls[name]), repetitions)
                answer: object = _timing.one_by_one(run, 1)[0] / repetitions
            else:
                answer = list(calls)
            print(json.dumps(answer), flush=True)
    return 0


def contenders(folder: str, only: list[str] | None) -> Calls:
    """What jscope does in these parts, or in those of them in which something is chosen."""
    parts = {
        "trees": _trees,
        "calls": _calls,
        "tracing": _tracing,
        "blocks": _blocks,
        "declaring": _declaring,
        "stacks": _stacks,
        "saving": functools.partial(_saving, folder),
    }
    return {
        f"{part}: {name}": call
        for part, build in parts.items()
        if only is None or any(part.startswith(o.partition(":")[0]) for o in only)
        for name, call in build().items()
    }


def _tree() -> Any:
    import jax.numpy as jnp

    import jscope as js

    return js.VarTree({f"layer_{i}/{n}": jnp.ones((4, 4)) for i in range(200) for n in "abcd"})


def _trees() -> Calls:
    import jax

    tree = _tree()
    leaves, structure = jax.tree.flatten(tree)
    return {
        "tree to tree": functools.partial(jax.jit(lambda tree: tree), tree),
        "flatten": lambda: jax.tree_util.tree_flatten(tree),
        "unflatten": lambda: structure.unflatten(leaves),
    }


def _calls() -> Calls:
    import jax
    import jax.numpy as jnp

    import jscope as js

    tree = _tree()
    plain, streams = js.Scope(tree), js.Scope(tree, rngs=jax.random.key(0))
    identity, x = jax.jit(lambda variables, x: x), jnp.ones(4)
    return {
        "Scope": lambda: identity(plain / "layer_3", x).block_until_ready(),
        "Scope, rngs": lambda: identity(streams / "layer_3", x).block_until_ready(),
        "look up": lambda: js.Scope(tree).get_variable("layer_3/a", (4, 4)),
    }


def _tracing() -> Calls:
    from contenders import abstract
    from gpt import scopes
    from gpt.mathematics import Config
    from tracing import tracing

    config = Config(BLOCKS)
    return {"48 blocks": tracing(*abstract(scopes, config), config)}


def _blocks() -> Calls:
    import blocks
    from contenders import abstract, example
    from gpt import scopes
    from gpt.mathematics import Config

    import jscope as js

    config = Config(BLOCKS)
    variables, key = abstract(scopes, config)[1], example(config)[0]
    jitted = functools.partial(blocks.jitted_blocks, scopes)
    traced = jitted(js.Scope, variables, config)
    keyed = jitted(lambda tree: js.Scope(tree, rngs=key), variables, config)
    return {
        "lowered": blocks.lowered(traced),
        "lowered, rngs": blocks.lowered(keyed),
        "traced only": traced,
    }


def _declaring() -> Calls:
    from declaring import declaring
    from gpt import scopes
    from gpt.mathematics import Config

    return {"48 blocks": declaring(scopes, Config(BLOCKS))}


def _stacks() -> Calls:
    from gpt import scopes
    from gpt.mathematics import Config
    from stacks import call, initial, sgd

    import jscope as js

    small = Config(BLOCKS, width=4, heads=1, vocabulary=2, length=1)
    step = sgd(lambda tree, *args: scopes.scanned(js.Scope(tree), *args), small)
    return {"a step": call(step, initial(small))}


def _saving(folder: str) -> Calls:
    import numpy as np

    import jscope as js

    arrays = js.VarTree({f"a/{i}": np.full(1024, i, np.float32) for i in range(2000)})
    saver, steps = js.Saver(folder, max_to_keep=1), itertools.count()
    saver.save(arrays, next(steps))
    return {
        "2,000 x 4 KB": lambda: saver.save(arrays, next(steps)),
        "restore 2,000 x 4 KB": lambda: saver.restore(arrays),
    }


if __name__ == "__main__":
    sys.exit(main())
