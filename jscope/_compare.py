"""Comparing what is expected with what is there: names, shapes and dtypes, all at once.

Imports: `_errors`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._errors import near


@dataclass(frozen=True)
class Differences:
    """One line for each difference, by kind."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them."""
        return self.missing + self.unexpected + self.changed

    def without_missing(self) -> tuple[str, ...]:
        """Those of the variables that are there."""
        return self.unexpected + self.changed


def differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], expected_is: str, found_is: str
) -> Differences:
    """Compare two mappings of names to anything that has a shape and a dtype.

    Args:
        expected: What there should be.
        found: What there is.
        expected_is: What to call the former's side, e.g. ``"declared"``.
        found_is: What to call the latter's, e.g. ``"in the checkpoint"``.
    """
    changed = []
    for name in expected:
        if name in found:
            changed += _changes(name, expected[name], found[name], expected_is, found_is)
    return Differences(
        missing=tuple(
            f"missing: {name!r} {signature(expected[name])} is not {found_is} ({near(name, found)})"
            for name in expected
            if name not in found
        ),
        unexpected=tuple(
            f"unexpected: {name!r} {signature(found[name])} is {found_is} but not {expected_is}"
            for name in found
            if name not in expected
        ),
        changed=tuple(changed),
    )


def _changes(name: str, expected: Any, found: Any, expected_is: str, found_is: str) -> list[str]:
    if not (hasattr(found, "shape") and hasattr(found, "dtype")):
        return [f"no array: {name!r} is {found!r} {found_is}, {signature(expected)} {expected_is}"]
    lines = []
    if tuple(expected.shape) != tuple(found.shape):
        shapes = f"{tuple(found.shape)} {found_is}, {tuple(expected.shape)} {expected_is}"
        lines.append(f"shape: {name!r} is {shapes}")
    if expected.dtype != found.dtype:
        lines.append(f"dtype: {name!r} is {found.dtype} {found_is}, {expected.dtype} {expected_is}")
    return lines


def signature(value: Any) -> str:
    """``float32[3,4]``."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return f"of type {type(value).__name__}"
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"
