"""Comparing expected with found variables: names, shapes and dtypes, all at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import near
from .values import is_array, value_text


def differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], expected_is: str, found_is: str
) -> tuple[str, ...]:
    """One line for each difference between mappings of names to what has a shape and a dtype.

    Args:
        expected: What there should be.
        found: What there is.
        expected_is: What to call the former's side, e.g. ``"declared"``.
        found_is: What to call the latter's, e.g. ``"in the checkpoint"``.
    """
    changed: list[str] = []
    for name in expected:
        if name in found:
            changed += _changes(name, expected[name], found[name], expected_is, found_is)
    unexpected = (
        f"unexpected: {name!r} {value_text(found[name])} is {found_is} but not {expected_is}"
        for name in found
        if name not in expected
    )
    return (*_missing(expected, found, found_is), *unexpected, *changed)


# Comparing two names takes 0.4 ms: for 2,000 names that are missing from 2,000, half an hour.
_MOST_COMPARED = 5000


def _missing(expected: Mapping[str, Any], found: Mapping[str, Any], found_is: str) -> list[str]:
    """One line for each expected name that is not found, with near names."""
    lines: list[str] = []
    hints = max(1, _MOST_COMPARED // max(1, len(found)))
    for name in expected:
        if name not in found:
            hint = f" ({near(name, found)})" if len(lines) < hints else ""
            lines.append(f"missing: {name!r} {value_text(expected[name])} is not {found_is}{hint}")
    return lines


def _changes(
    name: str, expected: object, found: object, expected_is: str, found_is: str
) -> list[str]:
    """One line for each of shape and dtype in which a variable differs."""
    if not (is_array(found) and is_array(expected)):
        sides = f"{value_text(found)} {found_is}, {value_text(expected)} {expected_is}"
        return [f"no array: {name!r} is {sides}"]
    lines = []
    if tuple(expected.shape) != tuple(found.shape):
        shapes = f"{tuple(found.shape)} {found_is}, {tuple(expected.shape)} {expected_is}"
        lines.append(f"shape: {name!r} is {shapes}")
    if expected.dtype != found.dtype:
        lines.append(f"dtype: {name!r} is {found.dtype} {found_is}, {expected.dtype} {expected_is}")
    return lines


def transposing(found: Sequence[int], wanted: Sequence[int]) -> str | None:
    """What to write behind an array where two shapes differ by a transposition.

    >>> transposing((64, 32, 3, 3), (3, 3, 32, 64))  # a kernel of PyTorch, and one of JAX
    '.transpose(2, 3, 1, 0)'

    Axes of equal lengths can't be distinguished: they stay in order. Axes of length 1 don't
    count, since an array is the same in any order of them.

    Args:
        found: The shape of what is there.
        wanted: The shape that it should have.

    Returns:
        The Python; None if the lengths are not the same ones in another order.
    """
    lengths, others = [n for n in found if n != 1], [n for n in wanted if n != 1]
    if lengths == others or sorted(lengths) != sorted(others):
        return None
    axes: list[int] = []
    for length in others:
        axes.append(next(i for i, n in enumerate(lengths) if n == length and i not in axes))
    transposed = f".transpose({', '.join(map(str, axes))})"
    if len(axes) == len(found) == len(wanted):
        return transposed
    return f".squeeze(){transposed}.reshape({tuple(wanted)})"
