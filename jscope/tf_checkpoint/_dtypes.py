"""TensorFlow's enumeration of dtypes, and what NumPy and ml_dtypes call them.

Numbers are stored in row-major order, one after the other, little-endian unless a bundle's
header says otherwise. Those of less than a byte (int4, uint4, int2, uint2, float4) take a byte
each. The quantized integers are read as the integers they are. Strings are arrays of ``bytes``,
of dtype object. A variant (a serialized TensorFlow object) or a resource is listed, but can't be
read; a reference (a number above 100) is never stored.
"""

from typing import Any

import ml_dtypes
import numpy as np

STRING, BOOL, VARIANT, RESOURCE = 7, 10, 21, 20

_IN_ORDER = """
    float double int32 uint8 int16 int8 string complex64 int64 bool qint8 quint8 qint32 bfloat16
    qint16 quint16 uint16 complex128 half resource variant uint32 uint64 float8_e5m2
    float8_e4m3fn float8_e4m3fnuz float8_e4m3b11fnuz float8_e5m2fnuz int4 uint4 int2 uint2
    float4_e2m1fn
"""

# TensorFlow's name of each number.
NAMES = dict(enumerate(_IN_ORDER.split(), start=1))

_STORED_AS = {"float": "float32", "double": "float64", "half": "float16", "string": "object"}


def _numpy_dtype(name: str) -> np.dtype[Any] | None:
    """The dtype of NumPy or ml_dtypes for TensorFlow's name of one; None if there is none."""
    name = _STORED_AS.get(name, name)
    if name in ("variant", "resource"):
        return None
    if name.startswith(("qint", "quint")):
        return np.dtype(name[1:])
    return np.dtype(getattr(ml_dtypes, name, name))


# What each number is read as, if it can be read.
NUMPY = {
    number: dtype for number, name in NAMES.items() if (dtype := _numpy_dtype(name)) is not None
}

# What a dtype is written as.
NUMBERS = {dtype: number for number, dtype in NUMPY.items() if not NAMES[number].startswith("q")}


def name_of(number: int) -> str:
    """TensorFlow's name of a dtype, also of one that is unknown here."""
    return NAMES.get(number, f"unknown ({number})")
