"""What it costs to declare the toy GPT, once and for the hundredth time.

``declare`` is ``js.declare(gpt)(tokens)``: all names, shapes and initializers, nothing
computed. The others' nearest thing is `jax.eval_shape` of their init, of a new function each
time, so that JAX does not answer from its cache; plain JAX's doesn't run the model.

``repeated declare`` runs in a process of its own, once with the block as it is and once under
one ``jax.jit(block)``: JAX's caches keep an entry for each of its calls in each run, and must
not grow slow by that. A row's samples are successive calls, not rounds.

Imports: `_children`, `_report`, `_settings`, `_timing`, `contenders`, jscope, JAX.
"""

import functools
import json
import sys
import types
from collections.abc import Callable
from statistics import median

import jax
from _children import child
from _report import Part, Row, Target, rows_of
from _settings import Settings
from _timing import in_turn, one_by_one, repeated
from contenders import FRAMEWORKS, PEERS, PLAIN, example
from gpt import scopes
from gpt.mathematics import Config

import jscope as js

BLOCKS = {
    "block": scopes.block,
    "jax.jit(block)": jax.jit(scopes.block, static_argnums=2),
}


def measure(settings: Settings) -> Part:
    """Once and again."""
    rows = []
    for blocks in settings.trace_blocks:
        calls = {
            name: repeated(declaring(framework, Config(blocks)))
            for name, framework in FRAMEWORKS.items()
        }
        samples = in_turn(calls, settings.trace_rounds)
        rows += rows_of("declare", f"{blocks} blocks", samples, PLAIN, *PEERS)
    targets = []
    for block in BLOCKS:
        more, target = _growth(settings, block)
        rows += more
        targets.append(target)
    return Part("Declaring the toy GPT", rows, targets)


def declaring(framework: types.ModuleType, config: Config) -> Callable[[], object]:
    """A call that finds the names and shapes of all variables."""
    key, tokens = example(config)
    if framework is scopes:
        return lambda: js.declare(scopes.gpt)(tokens, config)
    return lambda: jax.eval_shape(lambda *args: framework.init(config, *args), key, tokens)


def _growth(settings: Settings, block: str) -> tuple[list[Row], Target]:
    count, size = settings.repeated_declares, f"{settings.repeated_blocks} blocks"
    seconds = child(__file__, block, settings.repeated_blocks, count)
    early, late = seconds[1:12], seconds[-11:]
    rows = [
        Row(f"repeated declare, {block}", size, "2 to 12", early),
        Row(f"repeated declare, {block}", size, f"{count - 10} to {count}", late),
    ]
    claim = "90th to 100th / 2nd to 12th"
    value = median(late) / median(early) if count == 100 else None
    return rows, Target(f"repeated declare, {block}", size, claim, "<=", 1.3, value)


def _child(block: str, blocks: int, count: int) -> list[float]:
    config = Config(blocks)
    _, tokens = example(config)
    call = functools.partial(js.declare(scopes.gpt), tokens, config, BLOCKS[block])
    return one_by_one(call, count)


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
