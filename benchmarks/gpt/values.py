"""One framework's values in another's variables.

Imports: JAX.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
from jax import Array


def with_values(variables: Any, values: Mapping[str, Array]) -> Any:
    """The same structure with the values of the common names; all must be used."""
    used = []

    def value(path: Any, old: Array) -> Array:
        name = common_name(jax.tree_util.keystr(path, simple=True, separator="/"))
        used.append(name)
        assert values[name].shape == old.shape, name
        return values[name]

    filled = jax.tree_util.tree_map_with_path(value, variables)
    assert sorted(used) == sorted(values), set(values).symmetric_difference(used)
    return filled


def common_name(name: str) -> str:
    """A variable's name in any framework as that of all: ``block_0/attn/q/w``."""
    name = re.sub(r"^(gpt|params)/", "", name)
    name = re.sub(r"/value$", "", name)
    name = re.sub(r"^blocks/(\d+)", r"block_\1", name)
    *scope, last = name.split("/")
    if not scope:
        return f"{last}/w"
    if last == "bias" and not scope[-1].startswith("ln"):
        last = "b"
    return "/".join(
        [
            *scope,
            {"kernel": "w", "embedding": "w", "embeddings": "w", "offset": "bias"}.get(last, last),
        ]
    )
