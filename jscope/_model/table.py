"""How a `Declaration` prints: a table of its variables, with totals."""

from collections.abc import Callable, Mapping

import numpy as np

from .._tree.text import bytes_text, table
from .._tree.vartree import value_bytes
from .._variables.collections import GraphKeys
from .._variables.spec import VariableSpec


def declaration_text(specs: Mapping[str, VariableSpec], times: Mapping[str, int]) -> str:
    """The table, and above it the totals.

    Args:
        specs: What is declared.
        times: How often each variable was asked for.
    """
    if not specs:
        return "Declaration of no variables"
    sizes = {name: int(np.prod(s.shape, dtype=object)) for name, s in specs.items()}
    sizes_bytes = {name: value_bytes(spec) for name, spec in specs.items()}
    columns: dict[str, Callable[[str, VariableSpec], str]] = {
        "name": lambda name, spec: name,
        "shape": lambda name, spec: str(spec.shape),
        "dtype": lambda name, spec: str(spec.dtype),
        "trainable": lambda name, spec: "yes" if spec.trainable else "no",
        "parameters": lambda name, spec: f"{sizes[name]:,}",
        "bytes": lambda name, spec: bytes_text(sizes_bytes[name]),
        "asked": lambda name, spec: str(times[name]),
    }
    if any(spec.stack for spec in specs.values()):
        columns["stack"] = lambda name, spec: _stack_text(spec)
    if any(spec.sharding is not None for spec in specs.values()):
        columns["sharding"] = lambda name, spec: "" if spec.sharding is None else str(spec.sharding)
    if any(spec.collections != (GraphKeys.GLOBAL_VARIABLES,) for spec in specs.values()):
        columns["collections"] = lambda name, spec: ", ".join(spec.collections)
    rows = [[cell(*item) for cell in columns.values()] for item in specs.items()]
    trained = sum(sizes[name] for name, spec in specs.items() if spec.trainable)
    total = (
        f"{len(specs):,} variables, {sum(sizes.values()):,} parameters ({trained:,} trainable), "
        f"{bytes_text(sum(sizes_bytes.values()))}"
    )
    body = table(tuple(columns), rows, right=("parameters", "bytes", "asked"))
    return f"Declaration of {total}\n{body}"


def _stack_text(spec: VariableSpec) -> str:
    """``layers[48], layers/heads[8]``."""
    return ", ".join(f"{scope}[{length}]" for scope, length in spec.stack)
