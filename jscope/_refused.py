"""Arguments of TF1 that mean nothing here: each is refused, with what takes its place.

Imports: `_errors`.
"""

from typing import Any

from ._errors import ScopeError

_INSTEAD = {
    "aggregation": (
        "gradients are averaged where the step says so, by jax.lax.pmean or by jit over a mesh"
    ),
    "auxiliary_name_scope": (
        "a scope names variables only; operations get names from `with jax.named_scope(name):`"
    ),
    "caching_device": (
        "XLA places reads itself; where a variable lives, sharding= or rules= of "
        "declared.init(key, mesh=mesh) say"
    ),
    "synchronization": (
        "there are no replicas that differ: sharding= says how a variable is laid out, and what "
        "is not trained says trainable=False"
    ),
    "use_resource": (
        "all variables are values, which read as resource variables do: what was assigned before"
    ),
    "values": "they pick a graph, and there is none",
}


def refused(where: str, **arguments: Any) -> ScopeError:
    """Compose the error for TF1's arguments, of which at least one is not None."""
    name, value = next(item for item in arguments.items() if item[1] is not None)
    return ScopeError(
        f"{where} was passed {name}={value!r}, which has no meaning in JAX: {_INSTEAD[name]}. "
        f"If it is passed by position, write None there. Leave {name}= out."
    )
