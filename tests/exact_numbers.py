"""Numbers of every dtype that JAX has, as exact ones of Python, by the definitions of the dtypes.

A number is an `int` or a `fractions.Fraction`, or one of the texts ``"nan"``, ``"inf"`` and
``"-inf"``; of a complex dtype a pair of them. Nothing here casts: bits are taken apart.
"""

import random
from fractions import Fraction
from typing import NamedTuple

import ml_dtypes  # noqa: F401  makes the names known to NumPy
import numpy as np


class Format(NamedTuple):
    """A binary floating-point format, and its family.

    ``ieee`` has infinities and NaNs, ``fn`` one NaN for each sign and no infinity, ``fnuz`` one NaN
    in place of -0, ``fnu`` one NaN, no sign and no zero, ``finite`` none of all.
    """

    exponent: int
    mantissa: int
    bias: int
    specials: str = "ieee"


FLOATS = {
    "float64": Format(11, 52, 1023),
    "float32": Format(8, 23, 127),
    "float16": Format(5, 10, 15),
    "bfloat16": Format(8, 7, 127),
    "float8_e5m2": Format(5, 2, 15),
    "float8_e4m3": Format(4, 3, 7),
    "float8_e3m4": Format(3, 4, 3),
    "float8_e4m3fn": Format(4, 3, 7, "fn"),
    "float8_e4m3b11fnuz": Format(4, 3, 11, "fnuz"),
    "float8_e4m3fnuz": Format(4, 3, 8, "fnuz"),
    "float8_e5m2fnuz": Format(5, 2, 16, "fnuz"),
    "float8_e8m0fnu": Format(8, 0, 127, "fnu"),
    "float4_e2m1fn": Format(2, 1, 1, "finite"),
    "float6_e2m3fn": Format(2, 3, 1, "finite"),
    "float6_e3m2fn": Format(3, 2, 3, "finite"),
}
INTEGERS = {f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (1, 2, 4, 8, 16)}
INTEGERS |= {f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (32, 64)}
INTEGERS |= {f"uint{bits}": (0, 2**bits - 1) for bits in (1, 2, 4, 8, 16, 32, 64)}
COMPLEX = {"complex64": "float32", "complex128": "float64"}
ALL = ["bool", *INTEGERS, *FLOATS, *COMPLEX]
KIND = (
    {"bool": 0} | dict.fromkeys(INTEGERS, 1) | dict.fromkeys(FLOATS, 2) | dict.fromkeys(COMPLEX, 3)
)


def exact(array):
    """The numbers of a flat array."""
    name = array.dtype.name
    if name in FLOATS:
        bits = array.view(f"u{array.dtype.itemsize}")
        return [_decoded(int(pattern), FLOATS[name]) for pattern in bits]
    if name in COMPLEX:
        parts = exact(array.view(COMPLEX[name]))
        return list(zip(parts[::2], parts[1::2], strict=True))
    return [int(number) for number in array]


def rounded(number, dtype):
    """What a number of an earlier or the same kind is in a dtype; None if that can't hold it."""
    if dtype in COMPLEX:
        pair = number if isinstance(number, tuple) else (number, 0)
        parts = tuple(rounded(part, COMPLEX[dtype]) for part in pair)
        return None if None in parts else parts
    if dtype in FLOATS:
        return _rounded_float(number, FLOATS[dtype])
    low, high = INTEGERS.get(dtype, (0, 1))
    return number if low <= number <= high else None


def edges(dtype):
    """An array of numbers of a dtype at which something may go wrong."""
    if dtype == "bool":
        return np.array([False, True])
    if dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        near = [*_LIMITS, *(2**n for n in range(66)), 257, 2**24 + 1, 3 * 2**40, 5 * 2**61]
        numbers = {sign * n + d for n in near for d in (-1, 0, 1) for sign in (-1, 1)}
        chosen = [n for n in sorted(numbers | {low, high}) if low <= n <= high]
        return np.array(chosen, "uint64" if high > 2**63 else "int64").astype(dtype)
    if dtype in COMPLEX:
        parts = edges(COMPLEX[dtype])
        return np.concatenate([parts, parts[::-1]]).view(dtype)
    size = np.dtype(dtype).itemsize
    if size == 1:
        bits = 1 + FLOATS[dtype].exponent + FLOATS[dtype].mantissa
        return np.arange(2 ** min(bits, 8)).astype(np.uint8).view(dtype)
    shuffled = random.Random(dtype)
    patterns = [shuffled.getrandbits(8 * size) for _ in range(200)]
    patterns += [sign << 8 * size - 1 | n for n in range(4) for sign in (0, 1)]  # zeros, subnormals
    random_ones = np.array(patterns, np.uint64).astype(f"u{size}").view(dtype)
    with np.errstate(all="ignore"):
        chosen = np.array(_CHOSEN).astype(dtype)
    return np.concatenate([random_ones, chosen])


def _decoded(bits, of):
    sign = -1 if bits >> of.exponent + of.mantissa else 1
    exponent = bits >> of.mantissa & 2**of.exponent - 1
    mantissa = bits & 2**of.mantissa - 1
    ones = exponent == 2**of.exponent - 1
    if of.specials == "ieee" and ones:
        return "nan" if mantissa else ("inf" if sign > 0 else "-inf")
    if of.specials == "fn" and ones and mantissa == 2**of.mantissa - 1:
        return "nan"
    if of.specials == "fnuz" and sign < 0 and not exponent and not mantissa:
        return "nan"
    if of.specials == "fnu":
        return "nan" if ones else Fraction(2) ** (exponent - of.bias)
    leading = 1 if exponent else 0
    significand = leading * 2**of.mantissa + mantissa
    return sign * significand * Fraction(2) ** (max(exponent, 1) - of.bias - of.mantissa)


def largest(of):
    """The largest finite number of a format."""
    exponent, mantissa = 2**of.exponent - 1, 2**of.mantissa - 1
    if of.specials in ("ieee", "fnu"):
        exponent -= 1
    if of.specials == "fn":
        mantissa -= 1
    return _decoded(exponent << of.mantissa | mantissa, of)


def _rounded_float(number, of):
    if number == "nan":
        return None if of.specials == "finite" else "nan"
    if isinstance(number, str):
        return number if of.specials == "ieee" else None
    result = _nearest(Fraction(number), of)
    if isinstance(number, int) and result != number:
        return None
    return result if result is not None and abs(result) <= largest(of) else None


def _nearest(number, of):
    """The nearest number of as many digits, of two the even one; there is no largest one here."""
    if of.specials == "fnu":
        if number <= 0:
            return None
        power = Fraction(2) ** _log2(number)
        power *= 1 if number < power * Fraction(3, 2) else 2
        return power if power >= Fraction(2) ** -of.bias else None
    unit = Fraction(2) ** ((max(_log2(abs(number)), 1 - of.bias) if number else 0) - of.mantissa)
    return round(number / unit) * unit


def _log2(number):
    """The exponent of the largest power of two that is not above a number."""
    guess = number.numerator.bit_length() - number.denominator.bit_length()
    return guess if Fraction(2) ** guess <= number else guess - 1


_LIMITS = sorted({limit for limits in INTEGERS.values() for limit in limits} - {0})


def _floats_near(of):
    """Numbers, as floats, around the largest and smallest of a format and half-way between."""
    unit = Fraction(2) ** (_log2(largest(of)) - of.mantissa)
    smallest = Fraction(2) ** (-of.bias + (1 - of.mantissa if of.specials != "fnu" else 0))
    places = [
        largest(of),
        largest(of) + unit / 2,
        largest(of) + unit,
        1 + Fraction(1, 2 ** (of.mantissa + 1)),
    ]
    places += [1 + Fraction(3, 2 ** (of.mantissa + 1)), smallest, smallest / 2, smallest * 3 / 4]
    places += [smallest * 3 / 2, smallest * 5 / 4, smallest / 4]
    for place in places:
        if largest(FLOATS["float64"]) >= place:
            number = float(place)
            yield from (number, np.nextafter(number, np.inf), np.nextafter(number, 0))
            yield from (number * (1 + 2**-23), number * (1 - 2**-24), number * (1 + 2**-40))


_CHOSEN = [0.0, -0.0, np.inf, -np.inf, np.nan, 16777217.0, 257.0, 1e-300, 5e-324, 1e300]
with np.errstate(all="ignore"):
    for _of in FLOATS.values():
        _CHOSEN += [sign * x for x in _floats_near(_of) for sign in (1, -1)]
