"""Values of every dtype and shape for the tests of TensorFlow checkpoints, and two rewriters.

Values come from NumPy alone, so that golden files can be compared with them without TensorFlow.
"""

import ml_dtypes
import numpy as np

NUMBERS = [
    np.dtype(dtype)
    for dtype in (
        *(np.float16, np.float32, np.float64, np.complex64, np.complex128, np.bool_),
        *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn),
        *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e5m2fnuz),
        *(ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2),
        ml_dtypes.float4_e2m1fn,
    )
]
# Version 1 has no field for the others.
V1_NUMBERS = [n for n in NUMBERS if n.isbuiltin == 1 and n.name not in ("uint32", "uint64")]
SHAPES = [(), (1,), (3,), (2, 3), (0, 4), (2, 1, 2, 2)]
STRINGS = {
    "scalar": np.array(b"hi", object),
    "empty": np.array(b"", object),
    "none": np.empty((0,), object),
    "no row": np.empty((2, 0), object),
    "various": np.array([[b"", b"\x00\xff"], ["\u00e9".encode(), b"x" * 300]], object),
}
# Partitions of a (5, 3) variable: the slices of each part, and TensorFlow's spec of it.
PARTITIONS = {
    "rows": [
        (np.s_[0:2, :], "5 3 0,2:-"),
        (np.s_[2:3, :], "5 3 2,1:-"),
        (np.s_[3:5, :], "5 3 3,2:-"),
    ],
    "columns, spelled out": [(np.s_[0:5, 0:1], "5 3 0,5:0,1"), (np.s_[0:5, 1:3], "5 3 0,5:1,2")],
    "tiles": [
        (np.s_[0:2, 0:2], "5 3 0,2:0,2"),
        (np.s_[2:5, 0:2], "5 3 2,3:0,2"),
        (np.s_[0:2, 2:3], "5 3 0,2:2,1"),
        (np.s_[2:5, 2:3], "5 3 2,3:2,1"),
    ],
    "one part, whole": [(np.s_[0:5, :], "5 3 0,5:-")],
}


def values_of(dtype, shape):
    """Random bits, as many as the dtype has, so that every byte matters."""
    random = np.random.default_rng([*dtype.name.encode(), *shape])
    if dtype == np.bool_:
        return random.integers(0, 2, shape).astype(bool)
    bits = next((n for n in (4, 2) if dtype.name in (f"int{n}", f"uint{n}", "float4_e2m1fn")), 8)
    raw = random.integers(0, 1 << bits, (*shape, dtype.itemsize), np.uint8)
    return raw.view(dtype).reshape(shape)


def all_values(numbers=NUMBERS):
    """Name to value, sorted by name."""
    values = {f"string/{name}": value for name, value in STRINGS.items()}
    for dtype in numbers:
        for shape in SHAPES:
            values[f"{dtype.name}/{'x'.join(map(str, shape))}"] = values_of(dtype, shape)
    return dict(sorted(values.items()))


def same(found, expected):
    """Equal dtypes, shapes and bits."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()
    return True


# What is in the golden checkpoints: for each shard, what was saved, and TensorFlow's spec of it.


def golden_v2():
    """Two shards: ``(name, value, spec)`` in the order in which they were saved."""
    named = [(name, value, "") for name, value in golden_values(NUMBERS).items()]
    return _in_two_shards(named)


def golden_v1():
    """The same of the dtypes that version 1 has."""
    named = [(name, value, "") for name, value in golden_values(V1_NUMBERS).items()]
    return _in_two_shards(named)


def golden_values(numbers):
    """A name for each dtype, a scalar, an empty array and strings."""
    values = {dtype.name: values_of(dtype, (2, 3)) for dtype in numbers}
    values["scalar"] = values_of(np.dtype(np.float32), ())
    values["empty"] = values_of(np.dtype(np.int64), (0, 4))
    return values | {f"string {name}": value for name, value in STRINGS.items()}


def golden_p():
    """The partitioned variable."""
    return values_of(np.dtype(np.float32), (5, 3))


def _in_two_shards(named):
    parts = [("p", golden_p()[index], spec) for index, spec in PARTITIONS["rows"]]
    half = len(named) // 2
    return [*named[:half], *parts[:2]], [*named[half:], parts[2]]
