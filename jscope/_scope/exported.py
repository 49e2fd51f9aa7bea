"""The static part of a scope as bytes: how `jax.export` writes functions that take scopes.

Such a function was traced, so reading it needs JAX alone and no model. The bytes
hold what makes two scopes equal, by which JAX compares arguments with those of the export: JSON
of the names, the streams, reuse and dtype; and the path, for messages.
"""

import json

import jax.numpy as jnp

from .._errors import ScopeError
from .._names.names import below
from .._tree.vartree import intern_structure
from .._variables.spec import AUTO_REUSE, Reuse
from .bound import Bound, intern
from .declaring import Declaring

_REUSES: dict[str, Reuse] = {"False": False, "True": True, "AUTO_REUSE": AUTO_REUSE}


def to_bytes(context: Bound | Declaring) -> bytes:
    """The context of a bound scope.

    Raises:
        ScopeError: If it holds functions, or is declaring.
    """
    if not isinstance(context, Bound):
        raise ScopeError(
            f"The scope {context.path!r} declares: it belongs to a run of its model, which can't "
            f"be exported. Export what takes values: {_WITH_A_TREE}."
        )
    fixed = context.fixed
    if fixed.getters or fixed.records:
        what = "custom getters" if fixed.getters else "requested records"
        raise ScopeError(
            f"The scope {context.path!r} was passed to an exported function with {what}, which are "
            f"functions, and jax.export writes none. Make the scope inside: {_WITH_A_TREE}."
        )
    facts = {
        "names": fixed.structure.names,
        "reuse": repr(fixed.reuse),
        "dtype": None if fixed.dtype is None else fixed.dtype.name,
        "streams": fixed.streams,
        "has_words": fixed.has_words,
        "path": context.path,
    }
    return json.dumps(facts).encode()


_WITH_A_TREE = "jax.export.export(jax.jit(lambda tree, x: model(js.Scope(tree), x)))(tree, x)"


def from_bytes(data: bytes | bytearray) -> Bound:
    """The context that `to_bytes` wrote."""
    facts = json.loads(bytes(data))
    names, path = tuple(facts["names"]), facts["path"]
    dtype = None if facts["dtype"] is None else jnp.dtype(facts["dtype"])
    fixed = intern(
        intern_structure(names),
        _REUSES[facts["reuse"]],
        dtype,
        (),
        tuple(facts["streams"]),
        facts["has_words"],
    )
    return Bound(fixed, path, intern_structure(tuple(below(path, name) for name in names)))
