"""Cold init of the toy GPT: the first initial values of a process.

Each measurement is a process of its own, without a compilation cache. Its clock starts when
everything is imported and an input exists, and stops when every variable is ready; tracing
and compiling are most of it. jscope's ``js.init(gpt)(key, tokens)`` is called as it is; the
others' init is jitted, as their users do (op by op, it would compile each small program).

Imports: `_children`, `_report`, `_settings`, `_timing`, `contenders`, JAX.
"""

import dataclasses
import json
import sys
import time
from statistics import median

import jax
from _children import child
from _report import Part, Row, Target, ratio_target, rows_of
from _settings import Settings
from _timing import Samples, ratios
from contenders import FRAMEWORKS, OURS, PEERS, example
from gpt import scopes
from gpt.mathematics import Config


def measure(settings: Settings) -> Part:
    """Everyone at one size, and jscope at two."""
    size = f"{settings.init_blocks} blocks"
    samples: Samples = {name: [] for name in FRAMEWORKS}
    for _ in range(settings.init_rounds):
        for name, seconds in samples.items():
            seconds.append(child(__file__, name, settings.init_blocks))
    rows = rows_of("cold init", size, samples, *PEERS)

    small, large = settings.growth_blocks
    growth: dict[int, list[float]] = {small: [], large: []}
    for _ in range(settings.growth_rounds):
        for blocks, seconds in growth.items():
            seconds.append(child(__file__, OURS, blocks))
    rows += [Row("cold init", f"{n} blocks", OURS, seconds) for n, seconds in growth.items()]
    targets = [ratio_target(rows, "cold init", "48 blocks", OURS, p, "<=", 0.1) for p in PEERS]
    slope = Target("cold init", "96 blocks", f"{OURS} at 96 blocks / at 12 blocks", "<=", 1.6)
    if (small, large) == (12, 96):
        slope = dataclasses.replace(slope, value=median(ratios(growth[large], growth[small])))
    return Part("Cold init of the toy GPT", rows, [*targets, slope])


def _child(name: str, blocks: int) -> float:
    framework, config = FRAMEWORKS[name], Config(blocks)
    key, tokens = jax.block_until_ready(example(config))
    begin = time.perf_counter()
    if framework is scopes:
        variables = scopes.init(config, key, tokens)
    else:
        variables = jax.jit(lambda *args: framework.init(config, *args))(key, tokens)
    jax.block_until_ready(variables)
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], int(sys.argv[2]))))
