"""``var_list``: which variables a Saver saves and restores, and by which names.

TF1's two forms: a list, here of selectors, whose variables are saved by their own names; or a dict
from saved names to variables' names.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from .._errors import CheckpointValueError, MissingVariableError, listed, near
from .._names.selectors import Selector, matching
from ._leaves import check_names
from ._renaming import Renamed

VarList: TypeAlias = Mapping[str, str] | Collection[Selector]

ALL_IN_VAR_LIST = "Leave var_list= out of Saver for all variables."


def check_var_list(var_list: object) -> VarList | None:
    """The argument ``var_list``, a list or dict, as it was given.

    Raises:
        CheckpointValueError: If it is neither.
    """
    if var_list is None:
        return None
    if isinstance(var_list, Mapping):
        texts = [*var_list, *var_list.values()]
        if not all(isinstance(text, str) and text for text in texts):
            raise CheckpointValueError(
                "var_list as a dict is {saved name: variable's name}, all of them strings. For the "
                "names of a tree write var_list=list(tree)."
            )
        duplicates = [name for name, count in Counter(var_list.values()).items() if count > 1]
        if duplicates:
            raise CheckpointValueError(
                f"var_list gives two saved names to one: {listed(duplicates)}."
            )
        return dict(var_list)
    if isinstance(var_list, Collection) and not isinstance(var_list, str | bytes):
        return list(var_list)
    raise CheckpointValueError(
        f"var_list is a list of selectors, or a dict {{saved name: variable's name}}; got "
        f"{var_list!r}. Write var_list=['enc/**']."
    )


def chosen_leaves(leaves: Mapping[str, Any], var_list: VarList | None) -> list[tuple[str, Any]]:
    """The leaves that ``var_list`` has, by the names under which they are saved.

    Raises:
        SelectorError: If a selector picks nothing.
        MissingVariableError: If the dict has a name that is not there.
    """
    if var_list is None:
        return list(leaves.items())
    if isinstance(var_list, Mapping):
        missing = [name for name in var_list.values() if name not in leaves]
        if missing:
            raise MissingVariableError(
                f"var_list has {listed(missing)}, which the tree does not have "
                f"({near(missing[0], leaves)})."
            )
        check_names(var_list, "var_list")
        return [(saved, leaves[name]) for saved, name in var_list.items()]
    chosen = matching(leaves, list(var_list), hint=ALL_IN_VAR_LIST)
    return [(name, leaf) for name, leaf in leaves.items() if name in chosen]


def variables_of(var_list: VarList | None) -> Selector | None:
    """The variables of a ``var_list``, as a selector."""
    if isinstance(var_list, Mapping):
        return dict.fromkeys(var_list.values())
    return var_list


def named_by_var_list(renamed: Renamed, var_list: VarList | None) -> Renamed:
    """The names of saved variables, where a ``var_list`` that is a dict gives them."""
    if not isinstance(var_list, Mapping):
        return renamed
    saved, through = renamed.saved, renamed.through
    return renamed._replace(
        saved={name: saved[old] for old, name in var_list.items() if old in saved},
        through={name: through[old] for old, name in var_list.items() if old in through},
    )
