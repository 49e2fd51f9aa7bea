"""Trees of variables in Flax's serialization: ``import jscope.interop.flax``.

With it, `flax.serialization.to_bytes` and ``from_bytes`` take training states whose parameters
and optimizer states are trees of jscope:

    import jscope.interop.flax

    state = TrainState.create(apply_fn=..., params=variables, tx=optax.adam(1e-3))
    data = flax.serialization.to_bytes(state)
    state = flax.serialization.from_bytes(state, data)

A tree's state is what that of the nested dict of its variables is, so the bytes go from programs
with Flax's parameters to programs with jscope's, and back. Where a name is a variable and a
scope, there is no nested dict; then the keys are whole names. Both are read.

It is done without this line if Flax is loaded when one of jscope's names is first used.

Source: `flax.serialization`. As with its dicts, all names must be there, and more are allowed;
shapes and dtypes are not compared: `declared.check(state.params)` does that.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from flax import serialization

from .._errors import NestingError, TreeMismatchError, listed, near
from .._names.names import below
from .._tree.vartree import VarTree, from_values, structure_of


def to_state_dict(tree: VarTree) -> dict[str, Any]:
    """A tree as nested dicts of its values in Flax's form."""
    try:
        nested = tree.to_nested()
    except NestingError:
        nested = dict(tree)
    state: dict[str, Any] = serialization.to_state_dict(nested)
    return state


def from_state_dict(tree: VarTree, state: Mapping[str, Any]) -> VarTree:
    """A tree of the same names with the values of Flax's state.

    Raises:
        TreeMismatchError: If the state lacks variables; they are listed.
    """
    found = {name: _found(state, name, value) for name, value in tree.items()}
    missing = [name for name, part in found.items() if part is _ABSENT]
    if missing:
        raise TreeMismatchError(
            f"The state has no {listed(missing)} ({near(missing[0], list(_names(state)))}), which "
            f"are among the {len(tree)} variables to restore. Give flax.serialization.from_bytes a "
            "target with the names that were saved, and rename what it returns: "
            "js.rename(tree, {old: new})."
        )
    values = (serialization.from_state_dict(tree[name], found[name], name) for name in tree)
    return from_values(structure_of(tree), values)


_ABSENT = object()


def _found(state: Mapping[str, Any], name: str, value: object) -> Any:
    """What Flax's state has for a variable: under its whole name, or nested."""
    found: Any = state
    for key in [name] if name in state else name.split("/"):
        if not isinstance(found, Mapping) or key not in found:
            return _ABSENT
        found = found[key]
    is_scope = isinstance(found, Mapping) and hasattr(value, "dtype")
    return _ABSENT if is_scope else found


def _names(state: Mapping[str, Any], scope: str = "") -> Iterator[str]:
    """The names of all values in Flax's state, nested or not."""
    for key, part in state.items():
        name = below(scope, str(key))
        if isinstance(part, Mapping):
            yield from _names(part, name)
        else:
            yield name


serialization.register_serialization_state(  # type: ignore[no-untyped-call]
    VarTree, to_state_dict, from_state_dict, override=True
)
