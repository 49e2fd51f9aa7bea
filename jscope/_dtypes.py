"""Which numbers a dtype can hold: Python's order of kinds, and arrays from one dtype to another.

A conversion goes from bool to integers to floating-point to complex numbers, or stays within one
of these kinds; never back. The values that the new dtype can hold:

* **From bool or an integer**: those that it has exactly. 257 is not a value of bfloat16, nor 0 one
  of float8_e8m0fnu.
* **From a floating-point number**: those that round to a finite value of it. They are rounded once,
  to the nearest, halves to the even one (in float8_e8m0fnu, which has powers of two only, up).
  Small numbers may become 0 where the dtype has a 0, and -0.0 becomes 0.0 where it has no other.
* **Infinities and NaN**: where the dtype has them. float8_e4m3fn and float4_e2m1fn have no
  infinities, and the latter has no NaN.
* A **complex number** is two floating-point numbers.

NumPy's and ml_dtypes' own casts are not used as they are: from float64 to a dtype of at most 16
bits ml_dtypes 0.6 rounds twice, by way of float32; some pairs of dtypes have no cast; and the
smallest numbers of float8_e8m0fnu are reached from below only.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from ._errors import TreeMismatchError

Array: TypeAlias = np.ndarray[Any, Any]

_SMALL_INTEGERS = frozenset(["int1", "int2", "int4", "uint1", "uint2", "uint4"])
INTEGERS = _SMALL_INTEGERS | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_SMALL_FLOATS = frozenset(
    [
        "bfloat16",
        "float4_e2m1fn",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    ]
)
FLOATS = _SMALL_FLOATS | {"float16", "float32", "float64"}
COMPLEX = frozenset(["complex64", "complex128"])
_KINDS = (frozenset(["bool"]), INTEGERS, FLOATS, COMPLEX)

# Elements that are converted at once: temporary arrays of this size stay in the cache.
_AT_ONCE = 1 << 16

# What JAX makes of Python's numbers with `jax_enable_x64`, and without.
_NARROW = {"int64": "int32", "float64": "float32", "complex128": "complex64"}


def is_python(value: object) -> bool:
    """Whether a value has no dtype to convert from: a number of Python's, or a list of numbers."""
    return not hasattr(value, "dtype")


def widths(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
    """The dtypes that Python's numbers may have, of which NumPy or JAX make arrays of this one.

    >>> widths(np.array([1, 2]).dtype)
    (dtype('int64'), dtype('int32'))
    """
    narrow = _NARROW.get(dtype.name)
    return (dtype,) if narrow is None else (dtype, np.dtype(narrow))


def integer_limits(dtype: DTypeLike) -> tuple[int, int]:
    """The least and the largest number of an integer dtype."""
    info: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(info.min), int(info.max)


@dataclasses.dataclass(frozen=True)
class Lost:
    """The values of an array that another dtype can't hold.

    Attributes:
        count: How many.
        example: One of them.
    """

    count: int = 0
    example: Any = None

    def and_those(self, other: "Lost") -> "Lost":
        """These and those of another part of the array."""
        return Lost(self.count + other.count, self.example if self.count else other.example)


def number_kind(dtype: DTypeLike) -> int:
    """0 for bool, 1 for whole numbers, 2 for floating-point, 3 for complex ones; else -1."""
    try:
        name = np.dtype(dtype).name
    except TypeError:  # keys
        return -1
    return next((i for i, names in enumerate(_KINDS) if name in names), -1)


def can_convert(found: DTypeLike, wanted: DTypeLike) -> bool:
    """Whether a dtype's numbers may become another's: of the same kind, or a later one."""
    return 0 <= number_kind(found) <= number_kind(wanted)


def converted(array: Array, dtype: DTypeLike) -> tuple[Array, Lost]:
    """An array in another dtype, and which of its values that can't hold.

    Args:
        array: The array; one of Python's whole numbers, with NumPy's dtype object, too.
        dtype: Another dtype; `can_convert` says that it may be tried.

    Returns:
        The array in the dtype, a new one unless it has it; undefined if values are lost.
    """
    dtype = np.dtype(dtype)
    if array.dtype == dtype:
        return array, Lost()
    result = np.empty(array.shape, dtype)
    into = result.reshape(-1)
    lost = Lost()
    with np.errstate(all="ignore"):
        for at, part in _chunks(array):
            numbers = _native(part)
            is_lost = _not_held(numbers, dtype)
            if is_lost is not None and is_lost.any():
                lost = lost.and_those(Lost(int(is_lost.sum()), part[is_lost][0]))
            elif not lost.count:
                into[at : at + len(part)] = _cast(numbers, dtype)
    return result, lost


def lost_text(name: str, found: str, size: int, dtype: DTypeLike, lost: Lost) -> str:
    """For the error: a line about a variable whose values another dtype can't hold.

    Args:
        name: The variable's name.
        found: What its dtype is called.
        size: The number of its values.
        dtype: The other dtype.
        lost: Which values that can't hold.
    """
    count = f"{lost.count:,} of its {size:,} values" if size > 1 else "its value"
    example = f", such as {lost.example}" if size > 1 else f" {lost.example}"
    return (
        f"{name!r} can't be converted from {found} to {np.dtype(dtype)}, which can't hold "
        f"{count}{example}"
    )


def cannot_convert(lines: Sequence[str]) -> TreeMismatchError:
    """Compose the error for conversions to dtypes that can't hold the values, a line for each."""
    count = "1 variable" if len(lines) == 1 else f"{len(lines)} variables"
    shown = "\n  ".join(lines)
    return TreeMismatchError(
        f"convert=True would change values of {count}; nothing was restored.\n  {shown}",
        "\nOnly floating-point numbers are rounded. Give the target dtypes that hold the values, "
        "as those that were saved do, and change the result; or leave them out by select=.",
    )


def _chunks(array: Array) -> Iterator[tuple[int, Array]]:
    """The elements of an array to convert, some at a time, each with the number of the first."""
    elements: Any = array.reshape(-1) if array.flags.c_contiguous else array.flat
    for at in range(0, array.size, _AT_ONCE):
        yield at, elements[at : at + _AT_ONCE]


def _native(part: Array) -> Array:
    """The numbers to convert to a dtype, in one that NumPy computes with; bools are 0 and 1."""
    name = part.dtype.name
    if name == "bool":
        return part.view(np.uint8)
    if name in _SMALL_INTEGERS:
        return part.astype(np.int8)
    return part.astype(np.float32) if name in _SMALL_FLOATS or name == "float16" else part


def _not_held(numbers: Array, dtype: np.dtype[Any]) -> Array | None:
    """Which of the numbers the dtype can't hold, or None: all of them can be."""
    if numbers.dtype.kind == "c":
        is_lost = _not_held(_complex_parts(numbers), dtype)
        return None if is_lost is None else is_lost[::2] | is_lost[1::2]
    if dtype.name in INTEGERS:
        return _not_within(numbers, *integer_limits(dtype))
    if numbers.dtype.kind == "f":
        return _not_rounded(numbers, _floating(dtype))
    return _not_exact(numbers, _floating(dtype))


def _cast(numbers: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers in a dtype that can hold them."""
    if numbers.dtype.kind == "c":
        parts = _cast(_complex_parts(numbers), _part_dtype(dtype))
        return np.ascontiguousarray(parts).view(dtype)
    if dtype.kind == "c":
        return _cast(numbers, _part_dtype(dtype)).astype(dtype)
    if numbers.dtype.kind == "O":
        numbers = numbers.astype(_wide(dtype))
    if numbers.dtype.kind == "f" and not _floating(dtype).has_zero:
        significand, exponent = np.frexp(numbers)
        ones = np.where(np.isnan(numbers), np.float32(np.nan), np.float32(1))
        numbers = np.ldexp(ones, exponent - (significand < 0.75))
    elif numbers.dtype == np.float64 and dtype.name in _SMALL_FLOATS:
        numbers = _to_odd(numbers)
    return numbers.astype(dtype)


def _complex_parts(numbers: Array) -> Array:
    """The complex numbers to convert to another dtype, as real and imaginary parts in turn."""
    return np.ascontiguousarray(numbers).view(_part_dtype(numbers.dtype))


def _part_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The floating-point dtype of the parts of a complex dtype, which are converted as such."""
    return np.dtype(f"f{dtype.itemsize // 2}")


def _wide(dtype: np.dtype[Any]) -> type:
    """A dtype of NumPy that Python's numbers go through, which has all values of this one."""
    if dtype.name in FLOATS:
        return np.float64
    # A number that is too large for either is not a number of the dtype.
    return object if dtype.itemsize == 8 else np.int64


def _to_odd(numbers: Array) -> Array:
    """float64 as float32, rounded to the odd one of two neighbors.

    What is rounded to fewer digits afterwards is then as if rounded once: the last digit says that
    there were more (Boldo and Melquiond, "When double rounding is odd", 2005).
    """
    nearest = numbers.astype(np.float32)
    is_even = (nearest.view(np.uint32) & 1) == 0
    toward = np.where(numbers > nearest, np.float32(np.inf), np.float32(-np.inf))
    is_inexact = is_even & (nearest != numbers) & ~np.isnan(numbers)
    return np.where(is_inexact, np.nextafter(nearest, toward), nearest)


def _not_within(numbers: Array, low: int, high: int) -> Array | None:
    """Which integers an integer dtype of these limits can't hold."""
    if numbers.dtype.kind != "O":
        own = np.iinfo(numbers.dtype)
        if low <= own.min and own.max <= high:
            return None
    is_lost: Array = np.logical_or(numbers < low, numbers > high)
    return is_lost


class _Floating(NamedTuple):
    """A floating-point dtype.

    Attributes:
        precision: How many binary digits its numbers have.
        largest: Its largest number.
        smallest: Its smallest positive number.
        has_infinity: Whether it has infinities.
        has_nan: Whether it has NaN.
        has_zero: Whether it has 0, and negative numbers.
    """

    precision: int
    largest: float
    smallest: float
    has_infinity: bool
    has_nan: bool
    has_zero: bool


@functools.cache
def _floating(dtype: np.dtype[Any]) -> _Floating:
    """What a floating-point dtype can hold; of a complex one, each of its two parts."""
    if dtype.kind == "c":
        dtype = _part_dtype(dtype)
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    with np.errstate(all="ignore"):
        specials = np.array([np.inf, np.nan, 0], np.float32).astype(dtype).astype(np.float64)
    infinity, nan, zero = specials.tolist()
    return _Floating(
        precision=info.nmant + 1,
        largest=float(info.max),
        smallest=float(info.smallest_subnormal),
        has_infinity=math.isinf(infinity),
        has_nan=math.isnan(nan),
        has_zero=zero == 0,
    )


def _not_exact(numbers: Array, floating: _Floating) -> Array | None:
    """Which of the integers to convert a floating-point dtype can't hold exactly."""
    largest = max(-int(numbers.min()), int(numbers.max()))
    if floating.has_zero and largest <= min(2**floating.precision, floating.largest):
        return None  # the common case, in a tenth of the time
    size = np.abs(numbers) if numbers.dtype.kind == "O" else _absolute_values(numbers)
    last_digit = size & -size
    # An exact one is its last set bit times a number of at most `precision` bits.
    is_long = (size >> floating.precision >= last_digit) & (size != 0)
    is_lost: Array = is_long | (size > math.floor(floating.largest))
    return is_lost if floating.has_zero else is_lost | (numbers <= 0)


def _absolute_values(integers: Array) -> Array:
    """The absolute values of integers to convert, in an unsigned dtype that can hold them all."""
    if integers.dtype.kind == "u":
        return integers.astype(np.uint64)
    wide = integers.astype(np.int64)
    return np.abs(wide, out=wide).view(np.uint64)


def _not_rounded(numbers: Array, floating: _Floating) -> Array | None:
    """Which floating-point numbers another floating-point dtype can't hold, rounded."""
    wide = np.finfo(numbers.dtype)
    size = np.abs(numbers)
    found = []
    if floating.largest < wide.max:
        found.append((size >= _overflow(floating, numbers.dtype)) & (size != np.inf))
    if not floating.has_infinity:
        found.append(size == np.inf)
    if not floating.has_nan:
        found.append(np.isnan(numbers))
    if not floating.has_zero:
        found.append(numbers < numbers.dtype.type(0.75 * floating.smallest))
    return functools.reduce(np.logical_or, found) if found else None


@functools.cache
def _overflow(floating: _Floating, dtype: np.dtype[Any]) -> np.floating[Any]:
    """The first number of a wider dtype that would be rounded to more than the largest."""
    unit = math.ldexp(1, math.frexp(floating.largest)[1] - floating.precision)
    half_way: np.floating[Any] = dtype.type(floating.largest + unit / 2)
    is_odd = floating.largest / unit % 2 == 1
    return half_way if is_odd else np.nextafter(half_way, dtype.type(np.inf))
