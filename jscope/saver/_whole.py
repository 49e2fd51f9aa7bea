"""A restore without a target: a checkpoint's own names, dtypes and shapes are expected.

The result is what was saved: a `VarTree`, or the containers of the pytree. Where only a part is
requested, or names are changed, and where a checkpoint has no containers, such as files of
TensorFlow, safetensors and NumPy, it is a `VarTree`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._errors import MissingVariableError, VariableNameError, listed, near
from .._names.names import check
from .._names.selectors import Selector, matching
from .._stores.remote import AnyPath
from .._tree.vartree import VarTree, from_flat
from ..formats._entry import Entry
from ..formats._per_process import PerProcess
from ..formats._python_values import PER_PROCESS, PythonValue, is_python, python_value
from ..formats._source import Source
from ._renaming import Renamed
from ._target import ALL_IN_TARGET, Target
from ._values import key_dtype
from ._varlist import ALL_IN_VAR_LIST, VarList

# Illegal names that an error shows.
_SHOWN = 10


def whole(
    source: Source,
    renamed: Renamed,
    entries: Mapping[str, Entry],
    select: Selector | None,
    var_list: VarList | None,
) -> Target:
    """The target of a restore without one.

    Args:
        source: The checkpoint.
        renamed: The names of its variables.
        entries: What is saved, or made of it by functions, by these names.
        select: As for `Saver.restore`, of the new names.
        var_list: As for `Saver`.

    Raises:
        SelectorError: If a selector picks nothing.
        MissingVariableError: If ``var_list`` has a name that is not saved.
        VariableNameError: If the result would be a `VarTree` and names are illegal; all are listed.
        ValueError: If the checkpoint's description of its containers is damaged.
    """
    is_all = select is None and var_list is None and not renamed.through
    is_all = is_all and all(name == old for name, old in renamed.saved.items())
    containers = source.containers if is_all else None
    if containers is not None:
        containers.filled([None] * len(containers.names))  # before anything is read
        leaves = {name: _leaf(source.entries[name]) for name in containers.names}
        return Target(leaves, containers.filled, leaves, {name: name for name in leaves})
    names = {name: name for name in renamed.saved}
    if isinstance(var_list, Mapping):
        names, var_list = _by_var_list(source, renamed.saved, var_list), None
    leaves = {name: _leaf(entries[new]) for name, new in names.items()}
    for selector, hint in ((select, ALL_IN_TARGET), (var_list, ALL_IN_VAR_LIST)):
        if selector is not None:
            chosen = matching(leaves, selector, hint=hint)
            leaves = {name: leaf for name, leaf in leaves.items() if name in chosen}
    check_legal(source.path, {name: renamed.saved[names[name]] for name in leaves})

    def tree(values: Sequence[Any]) -> VarTree:
        return from_flat(dict(zip(leaves, values, strict=True)))

    return Target(leaves, tree, leaves, {name: name for name in leaves})


def _by_var_list(
    source: Source, renamed: Mapping[str, str], var_list: Mapping[str, str]
) -> dict[str, str]:
    missing = [saved for saved in var_list if saved not in renamed]
    if missing:
        raise MissingVariableError(
            f"var_list has {listed(missing)}, which the checkpoint {source.path} does not have "
            f"({near(missing[0], renamed)})."
        )
    return {name: saved for saved, name in var_list.items()}


def check_legal(path: AnyPath, names: Mapping[str, str]) -> None:
    """Refuse names that a `VarTree` can't have.

    Args:
        path: The checkpoint's.
        names: From the names of the result to the saved ones.

    Raises:
        VariableNameError: If there are such; all are listed.
    """
    illegal = {name: text for name in names if (text := _what_is_wrong(name))}
    if illegal:
        shown = "\n  ".join(list(illegal.values())[:_SHOWN])
        location = str(path)
        raise VariableNameError(
            f"{len(illegal)} of {len(names)} names in {path} aren't legal in a VarTree:\n  {shown}",
            f"\nWrite saver.restore(step={location!r}, rename=function), with a function from each "
            "saved name to a legal one, or read them one by one: "
            f"saver.open({location!r})[{names[next(iter(illegal))]!r}].read().",
        )


def _what_is_wrong(name: str) -> str:
    try:
        check(name)
    except VariableNameError as error:
        return str(error)
    return ""


def _leaf(entry: Entry) -> jax.ShapeDtypeStruct | PythonValue | PerProcess:
    """A leaf that expects a value exactly as it is saved."""
    if entry.dtype == PER_PROCESS:
        return PerProcess(None)
    if is_python(entry.dtype):
        return python_value(entry.dtype, entry.value)
    if entry.key_impl is None:
        return jax.ShapeDtypeStruct(entry.shape, np.dtype(entry.dtype))
    return jax.ShapeDtypeStruct(entry.shape, key_dtype(entry))
