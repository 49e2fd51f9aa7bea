"""How long JAX takes to trace a call of the toy GPT.

Timed is ``jax.jit(apply).trace(variables, tokens)``: Python running the model, with the
framework's share of it, up to the jaxpr. Each repetition jits a new function, so that JAX
does not answer from its cache, and shapes stand for values. jscope's call is
``gpt(js.Scope(tree), tokens)``, NNX's is ``nnx.merge(definition, state)(tokens)``.
Its functions are named (`js.named`), as linen's and Haiku's modules are; once more they are not.

Imports: `_report`, `_settings`, `_timing`, `contenders`, JAX.
"""

from collections.abc import Callable
from typing import Any

import jax
from _report import Part, ratio_target, rows_of
from _settings import Settings
from _timing import in_turn, repeated
from contenders import FRAMEWORKS, OURS, PEERS, PLAIN, abstract, disagreement, example, unnamed
from gpt.mathematics import Config

UNNAMED = f"{OURS}, no names"


def measure(settings: Settings) -> Part:
    """Every framework at every size."""
    contenders = {**FRAMEWORKS, UNNAMED: unnamed()}
    note = f"Logits from the same values differ between frameworks by {disagreement():.1g} at most."
    rows = []
    for blocks in settings.trace_blocks:
        config = Config(blocks)
        calls = {
            name: repeated(tracing(*abstract(f, config), config)) for name, f in contenders.items()
        }
        samples = in_turn(calls, settings.trace_rounds)
        rows += rows_of("trace", f"{blocks} blocks", samples, PLAIN, UNNAMED, *PEERS)
    size = "48 blocks"
    targets = [
        ratio_target(rows, "trace", size, OURS, PLAIN, "<=", 1.15),
        ratio_target(rows, "trace", size, OURS, UNNAMED, "<=", 1.05),
        *(ratio_target(rows, "trace", size, OURS, peer, "<", 1) for peer in PEERS),
    ]
    return Part("Tracing a call of the toy GPT", rows, targets, [note])


def tracing(
    apply: Callable[..., jax.Array], variables: Any, config: Config
) -> Callable[[], object]:
    """A call that traces the model anew."""
    _, tokens = example(config)
    return lambda: jax.jit(lambda *args: apply(*args)).trace(variables, tokens)
