"""Equal blocks under `jax.jit`: how long tracing and lowering of the toy GPT take.

All scopes ``block_0`` ... ``block_47`` have one structure, so ``jax.jit(block)`` is traced once
for all of them, as over plain dicts; the program has one function that is called 48 times.
Timed are tracing and lowering for jscope and for plain JAX with jitted blocks, and tracing alone
for linen and NNX, whose modules are traced block by block. Each repetition jits new functions,
so that JAX does not answer from its cache.

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

RNGS = f"{OURS}, rngs"


def measure(settings: Settings) -> Part:
    """The two with jitted blocks, and the peers, at the largest size."""
    config = Config(settings.trace_blocks[-1])
    key, _ = example(config)
    ours, theirs = (abstract(FRAMEWORKS[name], config)[1] for name in (OURS, PLAIN))
    calls: dict[str, Callable[[int], object]] = {
        OURS: lowering(scopes, js.Scope, ours, config),
        RNGS: lowering(scopes, lambda tree: js.Scope(tree, rngs=key), ours, config),
        PLAIN: lowering(plain, lambda tree: tree, theirs, config),
    }
    for name in ("linen", "NNX"):
        calls[name] = repeated(tracing(*abstract(FRAMEWORKS[name], config), config))
    samples = in_turn(calls, settings.trace_rounds)
    size = f"{config.blocks} blocks"
    rows = rows_of("trace jitted blocks", size, samples, PLAIN, "linen", "NNX")
    targets = [
        ratio_target(rows, "trace jitted blocks", "48 blocks", OURS, against, "<=", limit)
        for against, limit in ((PLAIN, 1.2), ("linen", 0.1), ("NNX", 0.1))
    ]
    return Part("Tracing and lowering the toy GPT with jitted blocks", rows, targets)


def lowering(
    framework: Any, scope: Callable[[Any], Any], variables: Any, config: Config
) -> Callable[[int], object]:
    """A call that traces and lowers the model anew, with a newly jitted block."""
    _, tokens = example(config)

    def lower() -> None:
        block = jax.jit(functools.partial(framework.block), static_argnums=2)
        model = jax.jit(lambda v, tokens: framework.gpt(scope(v), tokens, config, block))
        model.trace(variables, tokens).lower()

    return repeated(lower)
