"""A training step of the toy GPT scanned over a stack of blocks: its program and its dispatch.

Compared with plain JAX over nested dicts whose leaves have the same leading axis: the optimized
program of the step, instruction by instruction as in `programs`, and the time of a call that
returns all parameters. So that dispatch can be seen beside the arithmetic, that call's model is
as small as can be.

Imports: `_report`, `_settings`, `_timing`, `gpt`, `programs`, jscope, JAX.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from _report import Part, Target, ratio_target, rows_of
from _settings import Settings
from _timing import in_turn, repeated
from contenders import OURS, PLAIN, example
from gpt import plain, scopes
from gpt.mathematics import Config
from programs import compiled

import jscope as js


def measure(settings: Settings) -> Part:
    """The program at full width, the call at the smallest."""
    config = Config(settings.program_blocks)
    tree = js.declare(scopes.scanned)(example(config)[1], config).abstract()
    programs = [
        compiled(sgd(model, config), variables, example(config)[1])
        for model, variables in both(tree)
    ]
    differing = (programs[0] - programs[1]).total() + (programs[1] - programs[0]).total()
    size = f"{config.blocks} blocks"
    same = Target("optimized HLO of a step", size, "instructions that differ", "==", 0, differing)
    small = Config(settings.program_blocks, width=4, heads=1, vocabulary=2, length=1)
    calls = {}
    for name, (model, variables) in zip((OURS, PLAIN), both(initial(small)), strict=True):
        calls[name] = repeated(call(sgd(model, small), variables))
    samples = in_turn(calls, settings.tree_rounds, settings.sample_seconds)
    rows = rows_of("scanned step", size, samples, PLAIN)
    ratio = ratio_target(rows, "scanned step", "48 blocks", OURS, PLAIN, "<=", 1)
    return Part("A step of the toy GPT scanned over a stack", rows, [same, ratio])


def initial(config: Config) -> js.VarTree:
    """Values for the variables; which ones doesn't matter."""
    tokens = jnp.zeros((1, config.length), jnp.int32)
    abstract = js.declare(scopes.scanned)(tokens, config).abstract()
    return js.map_named(abstract, lambda name, v: jnp.full(v.shape, 0.01, v.dtype))


def both(tree: js.VarTree) -> list[tuple[Callable[..., jax.Array], Any]]:
    """The model over scopes and in plain JAX, each with its variables."""
    return [
        (lambda tree, *args: scopes.scanned(js.Scope(tree), *args), tree),
        (plain.scanned, tree.to_nested()),
    ]


def sgd(model: Callable[..., jax.Array], config: Config) -> Callable[..., Any]:
    """A step of gradient descent on the mean of the squared logits."""

    def step(variables: Any, tokens: jax.Array) -> Any:
        gradients = jax.grad(lambda v: jnp.square(model(v, tokens, config)).mean())(variables)
        return jax.tree.map(lambda v, g: v - 0.1 * g, variables, gradients)

    return step


def call(step: Callable[..., Any], variables: Any) -> Callable[[], object]:
    """A jitted step, from the same parameters each time."""
    jitted, tokens = jax.jit(step), jnp.zeros((1, 1), jnp.int32)
    return lambda: jax.tree_util.tree_leaves(jitted(variables, tokens))[0].block_until_ready()
