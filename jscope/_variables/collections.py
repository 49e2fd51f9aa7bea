"""Collections: keys under which variables are found, and the filter by scope.

A variable is in the collections that its `get_variable` names, in ``"variables"`` if it names
none, and in ``"trainable_variables"`` if it is trainable. What is named is declared with the
variable (`VariableSpec`); there is no global state, and values have no wrapper.

Source: ``tf.GraphKeys``, ``tf.get_collection``, TensorFlow 1.15. One difference: ``scope="a"`` is
``a`` and ``a/...``, where TF's ``re.match("a", ...)`` finds ``a_1/...`` too.
"""

import re
from collections.abc import Iterable
from typing import Final

from .._errors import CollectionError
from .._names.names import check


class GraphKeys:
    """TF1's keys of the standard collections. Any other string is a key too."""

    GLOBAL_VARIABLES: Final = "variables"
    LOCAL_VARIABLES: Final = "local_variables"
    MODEL_VARIABLES: Final = "model_variables"
    TRAINABLE_VARIABLES: Final = "trainable_variables"
    MOVING_AVERAGE_VARIABLES: Final = "moving_average_variables"
    REGULARIZATION_LOSSES: Final = "regularization_losses"
    GLOBAL_STEP: Final = "global_step"


def check_collections(name: str, collections: object) -> tuple[str, ...]:
    """The collections that are named for a new variable, each once.

    Raises:
        CollectionError: If they aren't a list, tuple or set of strings.
    """
    if not isinstance(collections, list | tuple | set | frozenset):
        raise CollectionError(
            f"Variable {name!r}: the collections argument must be a list, tuple, or set. Got "
            f"{collections!r} of type {type(collections)}. Write collections=[{collections!r}]."
        )
    wrong = [key for key in collections if not isinstance(key, str)]
    if wrong:
        raise CollectionError(
            f"Variable {name!r}: a collection is named by a string, such as "
            f"js.GraphKeys.LOCAL_VARIABLES, got {wrong[0]!r}."
        )
    in_order = sorted(collections) if isinstance(collections, set | frozenset) else collections
    return tuple(dict.fromkeys(in_order))


def in_scope(names: Iterable[str], scope: str | re.Pattern[str] | None) -> tuple[str, ...]:
    """The names of a collection that the filter by scope keeps.

    Args:
        names: Whole names.
        scope: A scope's name: the names below it, and its own. Or a compiled regular
            expression, which is matched from the beginning, as TF matches all. ``""`` and None
            keep all.
    """
    if scope is None or scope == "":
        return tuple(names)
    if isinstance(scope, re.Pattern):
        return tuple(name for name in names if scope.match(name))
    below = check(scope) + "/"
    return tuple(name for name in names if name == scope or name.startswith(below))
