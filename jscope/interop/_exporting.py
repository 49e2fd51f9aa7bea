"""From a tree to a checkpoint's names and values: assignment rules, inverted."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._errors import CheckpointValueError, listed
from .._tree.differences import signature
from ..tf_checkpoint import _dtypes
from ._assignment import AssignmentMap, Function, Rule, read_rules
from ._placing import Array
from ._target import Place, Target, has_value


class Named(NamedTuple):
    """A value that is to be written: where it is in the tree, and what it goes through."""

    variable: str
    place: Place
    function: Function | None


def names_for(target: Target, assignment_map: AssignmentMap) -> dict[str, Named]:
    """What is written under which name, in the order of names, as ``tf.train.Saver`` has it.

    Raises:
        CheckpointValueError: If something can't be written, or has no name, or two have one;
            all such are listed.
    """
    rules = read_rules(assignment_map, (), target.places)
    problems = []
    result: dict[str, Named] = {}
    for variable, leaf in target.leaves.items():
        if not has_value(leaf):
            problems.append(f"{variable!r} has no value")
        elif _is_strange(leaf):
            problems.append(f"{variable!r} is {signature(leaf)}, a dtype that TensorFlow lacks")
        else:
            parts = target.slices.get(variable, {(): variable})
            for place, name in parts.items():
                rule = next((rule for rule in rules if rule.source_of(name) is not None), None)
                source = None if rule is None else rule.source_of(name)
                if rule is None or source is None:
                    problems.append(_nameless(name, rules))
                elif source in result:
                    other = result[source].variable
                    problems.append(f"{name!r} and {other!r} would both be {source!r}")
                elif rule.through is not None and rule.through.inverse is None:
                    problems.append(
                        f"{name!r} goes through a function whose inverse isn't given: "
                        "tensorflow.Through(name, function, inverse)"
                    )
                else:
                    function = None if rule.through is None else rule.through.inverse
                    result[source] = Named(variable, place, function)
    if problems:
        raise CheckpointValueError(
            f"The tree can't be exported; nothing was written. {len(problems)} "
            f"problem{'s' * (len(problems) > 1)}:\n  "
            + "\n  ".join(problems[:50])
            + "\nThe map is restore's, from the checkpoint's names to the tree's; export a part by "
            "js.select(tree, ...)."
        )
    return dict(sorted(result.items()))


def values(target: Target, named: dict[str, Named]) -> Iterator[tuple[str, Array]]:
    """Names and values, one in memory at a time."""
    for name, (variable, place, function) in named.items():
        array = np.asarray(target.leaves[variable])[place]
        yield name, np.asarray(array if function is None else function(array))


def _is_strange(leaf: Any) -> bool:
    try:
        return np.dtype(leaf.dtype) not in _dtypes.NUMBERS
    except TypeError:  # the dtype of PRNG keys
        return True


def _nameless(name: str, rules: Sequence[Rule]) -> str:
    if any(rule.covers.fullmatch(name) for rule in rules):
        return f"{name!r} is matched by a regular expression only, which can't be inverted"
    rights = listed([rule.right for rule in rules], most=5)
    return f"{name!r} is not matched by the map, whose right sides are {rights}"
