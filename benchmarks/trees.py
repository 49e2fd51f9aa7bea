"""Containers of arrays: what a jitted call, flattening and unflattening cost.

The contenders hold the same arrays, eight float32 each, under the names of a transformer's
variables, 16 to a layer. Four operations are timed:

* ``tree to tree``: ``jax.jit(lambda tree: tree)``. The identity isolates the container best:
  arithmetic would add the same time for everyone, and a longer compilation. It is no empty
  call, since the results are copies; most of its time is JAX's making of arrays.
* ``tree to scalar``: ``jax.jit`` of the sum of one leaf. JAX drops unused arguments from the
  program, so what remains is flattening, and looking at the arguments.
* ``flatten``: `jax.tree_util.tree_flatten`.
* ``unflatten``: ``treedef.unflatten(leaves)``.

Calls are waited for one by one, at one leaf, since finding all leaves of the result would be
another flattening. `run.py` turns JAX's asynchronous dispatch on CPU off: handing a program
of microseconds to another thread takes longer than the program, and is everyone's noise.

Imports: `_report`, `_settings`, `_timing`, jscope, the peers, JAX.
"""

import itertools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from _report import Part, ratio_target, rows_of
from _settings import Settings
from _timing import in_turn, repeated
from flax import nnx
from flax.core import FrozenDict

import jscope as js

NESTED, TUPLE, OURS = "nested dict", "tuple", "VarTree"

# (operation, leaves, against, limit); the issue's.
LIMITS = [
    ("tree to tree", 100, NESTED, 0.95),
    ("tree to tree", 800, NESTED, 0.9),
    ("tree to tree", 5000, NESTED, 0.9),
    ("tree to scalar", 100, NESTED, 0.75),
    ("tree to scalar", 800, NESTED, 0.65),
    ("tree to scalar", 5000, NESTED, 0.65),
    *((call, 100, TUPLE, 1.15) for call in ("tree to tree", "tree to scalar")),
    *((call, n, TUPLE, 1.1) for call in ("tree to tree", "tree to scalar") for n in (800, 5000)),
]

_LAYER = (
    *(f"attn/{name}/{part}" for name in "qkvo" for part in "wb"),
    *(f"ln_{i}/{part}" for i in (1, 2) for part in ("scale", "bias")),
    *(f"mlp/{name}/{part}" for name in ("up", "down") for part in "wb"),
)


@dataclass(frozen=True)
class Contender:
    """A container of the arrays, and how to look up the first of them."""

    tree: Any
    first: Callable[[Any], jax.Array]


def measure(settings: Settings) -> Part:
    """All operations at all sizes."""
    rows = []
    for count in settings.leaves:
        everyone = contenders(count)
        for operation, prepare in OPERATIONS.items():
            calls = {name: prepare(contender) for name, contender in everyone.items()}
            samples = in_turn(calls, settings.tree_rounds, settings.sample_seconds)
            rows += rows_of(operation, f"{count} leaves", samples, NESTED, TUPLE)
            jax.clear_caches()  # a program of 5,000 results is large
    targets = [
        ratio_target(rows, operation, f"{count} leaves", OURS, against, "<=", limit)
        for operation, count, against, limit in LIMITS
    ]
    return Part("Containers of arrays", rows, targets)


def contenders(count: int) -> dict[str, Contender]:
    """The same arrays in every container."""
    flat = {name: jnp.full(8, i, jnp.float32) for i, name in enumerate(names(count))}
    ours = js.VarTree(flat)
    nested = ours.to_nested()
    frozen, state = FrozenDict(nested), nnx.State(jax.tree.map(nnx.Param, nested))
    return {
        NESTED: Contender(nested, lambda t: t["layer_0"]["attn"]["q"]["w"]),
        "flat dict": Contender(flat, lambda t: t["layer_0/attn/q/w"]),
        TUPLE: Contender(tuple(flat.values()), lambda t: t[0]),
        "FrozenDict": Contender(frozen, lambda t: t["layer_0"]["attn"]["q"]["w"]),
        "Equinox module": Contender(equinox_module(nested), lambda t: t.layer_0.attn.q.w),
        "NNX state": Contender(state, lambda t: t["layer_0"]["attn"]["q"]["w"][...]),
        OURS: Contender(ours, lambda t: t["layer_0/attn/q/w"]),
    }


def names(count: int) -> Iterator[str]:
    """The names of a transformer's variables, layer by layer."""
    layers = (f"layer_{i}/{name}" for i in itertools.count() for name in _LAYER)
    return itertools.islice(layers, count)


def equinox_module(nested: Mapping[str, Any]) -> eqx.Module:
    """A module with a field for each key, and modules for nested dicts."""
    values = {
        key: equinox_module(value) if isinstance(value, Mapping) else value
        for key, value in nested.items()
    }
    body = {"__annotations__": dict.fromkeys(values, Any), "__module__": __name__}
    return types.new_class("Node", (eqx.Module,), {}, lambda namespace: namespace.update(body))(
        **values
    )


def tree_to_tree(contender: Contender) -> Callable[[int], object]:
    """A jitted identity, which copies."""
    call = jax.jit(lambda tree: tree)
    return repeated(lambda: contender.first(call(contender.tree)).block_until_ready())


def tree_to_scalar(contender: Contender) -> Callable[[int], object]:
    """A jitted sum of one leaf."""
    call = jax.jit(lambda tree: contender.first(tree).sum())
    return repeated(lambda: call(contender.tree).block_until_ready())


def flatten(contender: Contender) -> Callable[[int], object]:
    """To leaves and structure."""
    return repeated(lambda: jax.tree_util.tree_flatten(contender.tree))


def unflatten(contender: Contender) -> Callable[[int], object]:
    """From leaves and structure."""
    leaves, structure = jax.tree_util.tree_flatten(contender.tree)
    return repeated(lambda: structure.unflatten(leaves))


OPERATIONS = {
    "tree to tree": tree_to_tree,
    "tree to scalar": tree_to_scalar,
    "flatten": flatten,
    "unflatten": unflatten,
}
