"""Members of JSON objects: each has the expected type, or there is a ValueError.

An index and a state file may come from an untrusted source, so their members are read by these
functions only. ``bool`` is not a number here, though it is Python's; numbers are finite, and whole
numbers are below 2^63, which NumPy's and the system's are too.
"""

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_END = 1 << 63
_MOST_AXES = 64
# Any time within 285 million years, which float64 knows to the second.
_MOST_SECONDS = 1 << 53
# No file system has longer names than 255 bytes.
_MOST_STEPS = 10**255
_SAVE_ID = re.compile("[0-9a-f]{1,64}")
_NOT_FINITE = ("nan", "inf", "-inf")


def member(members: Mapping[str, Any], name: str, read: Callable[[Any], T]) -> T:
    """The member of a JSON object by its name, read by one of the functions below."""
    if name not in members:
        raise ValueError(f"it has no {name!r}")
    try:
        return read(members[name])
    except ValueError as error:
        raise ValueError(f"its {name!r}: {error}") from None


def step(value: object) -> int:
    """A member that is a step: a whole number that can name a directory."""
    return whole_number(value, _MOST_STEPS)


def whole_number(value: object, below: int = _END) -> int:
    """A member that is a whole number of at least 0 and below a bound."""
    if type(value) is not int or not 0 <= value < below:
        raise _is_not(value, "a whole number in range")
    return value


def whole_numbers(value: object) -> tuple[int, ...]:
    """A member that is a list of whole numbers, one for each axis of an array."""
    if type(value) is not list or len(value) > _MOST_AXES:
        raise _is_not(value, f"a list of at most {_MOST_AXES} numbers")
    if not are_whole_numbers(value):
        raise _is_not(value, "a list of whole numbers")
    return tuple(value)


def are_whole_numbers(values: list[Any]) -> bool:
    """Whether all items of a list in JSON are whole numbers."""
    return not values or ({*map(type, values)} == {int} and 0 <= min(values) <= max(values) < _END)


def seconds(value: Any) -> float:
    """A member that is a time in seconds since 1970."""
    if type(value) not in (int, float) or not -_MOST_SECONDS <= value <= _MOST_SECONDS:
        raise _is_not(value, "a time in seconds")
    return float(value)


def text(value: object) -> str:
    """A member that is a string."""
    if type(value) is not str:
        raise _is_not(value, "a string")
    return value


def save_id(value: object) -> str:
    """A member that is the id of a save: hexadecimal digits."""
    if type(value) is not str or not _SAVE_ID.fullmatch(value):
        raise _is_not(value, "the id of a save")
    return value


def flag(value: object) -> bool:
    """A member that is true or false."""
    if type(value) is not bool:
        raise _is_not(value, "true or false")
    return value


def mapping(value: object) -> dict[str, Any]:
    """A member that is a JSON object."""
    if type(value) is not dict:
        raise _is_not(value, "an object")
    return value


def sequence(value: object, length: int | None = None) -> list[Any]:
    """A member that is a list, of a length if one is given."""
    if type(value) is not list or length not in (None, len(value)):
        raise _is_not(value, "a list" if length is None else f"a list of {length}")
    return value


def numbers_to_json(numbers: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers by name as members of JSON; those that JSON does not have, as strings."""
    return {name: n if math.isfinite(n) else str(n) for name, n in numbers.items()}


def numbers_from_json(value: object) -> dict[str, float]:
    """A member that is an object of numbers, from `numbers_to_json`."""
    return {name: _finite_number(number) for name, number in mapping(value).items()}


def short(value: object) -> str:
    """A member of JSON as an error shows it: its ``repr`` may be long, or fail if it is deep."""
    return reprlib.repr(value)


def _finite_number(value: Any) -> float:
    """A member that is a number, or the name of one that JSON does not have."""
    if value in _NOT_FINITE:
        return float(value)
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise _is_not(value, "a number")


def _is_not(value: object, what: str) -> ValueError:
    """Compose the error: a member of JSON is not what is expected."""
    return ValueError(f"{short(value)} is not {what}")
