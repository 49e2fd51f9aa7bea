"""An eager call of a jitted block on a part of a model: ``block(scope / "layer_3", x)``.

The block returns its input, so what is timed is entering the scope, flattening it, and JAX's
dispatch. Beside it the same call on the dict of the same four arrays.

Imports: `_report`, `_settings`, `_timing`, jscope, JAX.
"""

import jax
import jax.numpy as jnp
from _report import Part, ratio_target, rows_of
from _settings import Settings
from _timing import in_turn, repeated

import jscope as js

DICT, OURS, RNGS = "nested dict", "Scope", "Scope, rngs"
NAMES = ("beta", "bias", "gamma", "kernel")


def measure(settings: Settings) -> Part:
    """The same call on a dict, a scope, and a scope with random streams."""
    tree = js.VarTree({f"layer_{i}/{name}": jnp.ones((4, 4)) for i in range(48) for name in NAMES})
    nested, x = tree.to_nested(), jnp.ones(4)
    plain, scope = js.Scope(tree), js.Scope(tree, rngs={"dropout": jax.random.key(0)})
    call = jax.jit(lambda variables, x: x)
    calls = {
        DICT: repeated(lambda: call(nested["layer_3"], x).block_until_ready()),
        OURS: repeated(lambda: call(plain / "layer_3", x).block_until_ready()),
        RNGS: repeated(lambda: call(scope / "layer_3", x).block_until_ready()),
    }
    samples = in_turn(calls, settings.tree_rounds, settings.sample_seconds)
    rows = rows_of("eager call", "4 variables", samples, DICT)
    targets = [
        ratio_target(rows, "eager call", "4 variables", OURS, DICT, "<=", 2),
        ratio_target(rows, "eager call", "4 variables", RNGS, DICT, "<=", 4),
    ]
    return Part("An eager call of a jitted block on scope / name", rows, targets)
