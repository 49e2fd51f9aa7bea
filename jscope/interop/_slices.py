"""Slices of stacks: where ``layers/3/w`` is in ``layers/w``."""

import itertools
from collections.abc import Iterable, Iterator, Sequence


def slice_names(
    name: str, stacks: Sequence[str], lengths: Sequence[int]
) -> Iterator[tuple[str, tuple[int, ...]]]:
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


def stacks_around(name: str, stacks: Iterable[str]) -> list[str]:
    """Those of the scopes that a variable is below, the outermost first."""
    return sorted((scope for scope in stacks if name.startswith(scope + "/")), key=len)
