"""Equal blocks under `jax.jit`: how long tracing and lowering of the toy GPT take.

All scopes ``block_0`` ... ``block_47`` have one structure, so ``jax.jit(block)`` is traced once
for all of them, as over plain dicts; the program has one function that is called 48 times.
Timed are tracing and lowering for jscope and for plain JAX with jitted blocks; for linen and NNX,
whose modules are traced block by block, tracing alone, and with lowering too; and for jscope
tracing alone. Each repetition jits new functions, so that JAX does not answer from its cache.

Imports: `_report`, `_settings`, `_timing`, `contenders`, `tracing`, JAX.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from _report import Part, ratio_target, rows_of
from _settings import Settings
from _timing import in_turn, repeated
from contenders import FRAMEWORKS, OURS, PLAIN, abstract, example
from gpt import plain, scopes
from gpt.mathematics import Config
from tracing import tracing

import jscope as js

RNGS, TRACED = f"{OURS}, rngs", f"{OURS}, traced only"


def measure(settings: Settings) -> Part:
    """Those with jitted blocks, and the peers, at the largest size."""
    config = Config(settings.trace_blocks[-1])
    key, _ = example(config)
    ours, theirs = (abstract(FRAMEWORKS[name], config)[1] for name in (OURS, PLAIN))
    traced = jitted_blocks(scopes, js.Scope, ours, config)
    calls = {
        OURS: lowered(traced),
        RNGS: lowered(jitted_blocks(scopes, lambda tree: js.Scope(tree, rngs=key), ours, config)),
        PLAIN: lowered(jitted_blocks(plain, lambda tree: tree, theirs, config)),
        TRACED: traced,
    }
    for name in ("linen", "NNX"):
        calls[name] = tracing(*abstract(FRAMEWORKS[name], config), config)
        calls[f"{name}, lowered"] = lowered(calls[name])
    contenders = {name: repeated(call) for name, call in calls.items()}
    samples = in_turn(contenders, settings.trace_rounds)
    size = f"{config.blocks} blocks"
    rows = rows_of("trace jitted blocks", size, samples, PLAIN, "linen", "NNX")
    targets = [
        ratio_target(rows, "trace jitted blocks", "48 blocks", OURS, against, "<=", limit)
        for against, limit in ((PLAIN, 1.2), ("linen", 0.1), ("NNX", 0.1))
    ]
    note = (
        "linen and NNX are traced, and lowered where it says so. What plain JAX takes, no library "
        "can go below."
    )
    return Part("Tracing and lowering the toy GPT with jitted blocks", rows, targets, [note])


def jitted_blocks(
    framework: Any, scope: Callable[[Any], Any], variables: Any, config: Config
) -> Callable[[], Any]:
    """A call that traces the model anew, with a newly jitted block."""
    _, tokens = example(config)

    def trace() -> Any:
        block = jax.jit(functools.partial(framework.block), static_argnums=2)
        model = jax.jit(lambda v, tokens: framework.gpt(scope(v), tokens, config, block))
        return model.trace(variables, tokens)

    return trace


def lowered(trace: Callable[[], Any]) -> Callable[[], object]:
    """The call, and lowering what it traced."""
    return lambda: trace().lower()
