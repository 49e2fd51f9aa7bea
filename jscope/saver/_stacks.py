"""Stacks: a variable of the target that is saved slice by slice.

What `Scope.stacked` declares is one variable with a leading axis in the target; a model whose
layers are in a loop, and other libraries, save one for each slice: ``layers/w`` has the slices
``layers/0/w``, ``layers/1/w``, ..., which are the names that `jscope.unstack` gives.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from .._errors import CheckpointValueError, listed
from .._model.declaration import Declaration

Place: TypeAlias = tuple[int, ...]  # of a slice in its stack; () is the whole


def slices_of(
    leaves: Mapping[str, Any], stacks: Iterable[str], declared: Declaration | None
) -> dict[str, dict[Place, str]]:
    """The names of the slices of each leaf that is in a stack.

    Args:
        leaves: The target's leaves by name.
        stacks: The scopes of the stacks.
        declared: The declaration that the leaves are of, which knows its own stacks; or None.

    Raises:
        CheckpointValueError: If ``stacks`` are not scopes, or a leaf has fewer axes than stacks
            around it.
    """
    if isinstance(stacks, str):  # a string is iterable, by letters
        raise CheckpointValueError(f"`stacks` are several names: write stacks=[{stacks!r}].")
    stacks = tuple(stacks)
    wrong = [scope for scope in stacks if not isinstance(scope, str)]
    if wrong:
        raise CheckpointValueError(
            f"`stacks` are names of scopes, got {listed(map(repr, wrong))}. Write "
            "stacks=['encoder/layers']."
        )
    found: dict[str, dict[Place, str]] = {}
    for name, leaf in leaves.items():
        if declared is None:
            around = sorted((scope for scope in stacks if name.startswith(scope + "/")), key=len)
        else:
            around = [scope for scope, _ in declared[name].stack]
        if not around:
            continue
        shape = tuple(getattr(leaf, "shape", ()))
        if len(around) > len(shape):
            raise CheckpointValueError(
                f"{name!r} of shape {shape} can't be in the stacks {listed(around)}, "
                "each of which is an axis of it. Take one out of stacks=."
            )
        lengths = shape[: len(around)]
        found[name] = {place: part for part, place in slice_names(name, around, lengths)}
    return found


def slice_names(
    name: str, stacks: Sequence[str], lengths: Sequence[int]
) -> Iterator[tuple[str, Place]]:
    """The names of a stacked variable's slices, as `jscope.unstack` gives them, and their places.

    >>> list(slice_names("layers/w", ["layers"], [2]))
    [('layers/0/w', (0,)), ('layers/1/w', (1,))]

    Args:
        name: The variable's name.
        stacks: The scopes of the stacks that it is in, the outermost first; each begins with
            the one before.
        lengths: Their lengths, which are the variable's first axes.
    """
    for place in itertools.product(*map(range, lengths)):
        whole = name
        # From the inside, so that the outer scopes are still where they were.
        for scope, index in zip(reversed(stacks), reversed(place), strict=True):
            whole = f"{scope}/{index}{whole[len(scope) :]}"
        yield whole, place
