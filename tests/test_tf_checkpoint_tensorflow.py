"""TensorFlow checkpoints against TensorFlow, in both directions: dtypes, shapes and layouts."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from jscope import tf_checkpoint

NUMBERS = [
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn),
    *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e5m2fnuz),
    *(ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.float4_e2m1fn),
]
NUMBERS = [np.dtype(dtype) for dtype in NUMBERS]
SHAPES = [(), (1,), (3,), (2, 3), (0, 4), (2, 1, 2, 2)]
STRINGS = {
    "scalar": np.array(b"hi", object),
    "empty": np.array(b"", object),
    "none": np.empty((0,), object),
    "no row": np.empty((2, 0), object),
    "various": np.array([[b"", b"\x00\xff"], ["\u00e9".encode(), b"x" * 300]], object),
}


def values_of(dtype, shape):
    """Values whose every byte matters: random bits, of as many bits as the dtype has."""
    random = np.random.default_rng(dtype.num + len(shape))
    if dtype == np.bool_:
        return random.integers(0, 2, shape).astype(bool)
    raw = random.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    bits = {"4": 4, "2": 2}.get(dtype.name.lstrip("uint"), 8)
    if dtype.name.startswith("float4"):
        bits = 4
    return (raw & ((1 << bits) - 1)).view(dtype).reshape(shape)


def same(found, expected):
    """Equal dtypes, shapes and bits."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert (
        found.tolist() == expected.tolist()
        if found.dtype == object
        else (found.tobytes() == expected.tobytes())
    )
    return True


def all_values():
    named = {
        f"{dtype.name}/{'x'.join(map(str, shape))}": (dtype, shape)
        for dtype in NUMBERS
        for shape in SHAPES
    }
    values = {name: values_of(*what) for name, what in named.items()}
    values |= {f"string/{name}": value for name, value in STRINGS.items()}
    return dict(sorted(values.items()))


def tensor(value):
    if value.dtype == object:
        return tf.constant(value.tolist(), tf.string, value.shape)
    return tf.constant(value)


def save_v2(prefix, named, specs=None):
    """What ``Saver.save`` runs, of names in this order."""
    names, values = zip(*named, strict=True)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(names),
        shape_and_slices=specs or [""] * len(names),
        tensors=[tensor(value) for value in values],
    )


def test_every_dtype_and_shape_that_tensorflow_saves_is_read(tmp_path):
    expected = all_values()
    save_v2(tmp_path / "m", expected.items())
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert list(checkpoint) == list(expected)
    for name, value in expected.items():
        assert same(checkpoint[name].read(), value), name
        assert checkpoint[name].dtype == value.dtype
    assert checkpoint.verify() == {}


def test_variables_are_listed_as_tensorflow_lists_them(tmp_path):
    save_v2(tmp_path / "m", all_values().items())
    listed = tf_checkpoint.list_variables(tmp_path / "m")
    assert listed == [(n, tuple(s)) for n, s in tf.train.list_variables(str(tmp_path / "m"))]


@pytest.mark.parametrize("name", ["qint8", "quint8", "qint16", "quint16", "qint32"])
def test_quantized_integers_are_read_as_integers(name, tmp_path):
    value = np.array([1, 2, 100], name[1:])
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "q"),
        tensor_names=["x"],
        shape_and_slices=[""],
        tensors=[tf.bitcast(value, tf.as_dtype(name))],
    )
    entry = tf_checkpoint.open(tmp_path / "q")["x"]
    assert same(entry.read(), value)
    assert entry.tf_dtype == name


SPECS = {
    "rows": ["5 3 0,2:-", "5 3 2,1:-", "5 3 3,2:-"],
    "columns, explicitly": ["5 3 0,5:0,1", "5 3 0,5:1,2"],
    "tiles": ["5 3 0,2:0,2", "5 3 2,3:0,2", "5 3 0,2:2,1", "5 3 2,3:2,1"],
}


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("layout", SPECS)
def test_partitioned_variables_are_one_array_or_any_piece_of_it(dtype, layout, tmp_path):
    whole = values_of(dtype, (5, 3))
    save_v2(tmp_path / "p", *parts_of(whole, SPECS[layout]))
    entry = tf_checkpoint.open(tmp_path / "p")["p"]
    assert same(entry.read(), whole)
    for index in (1, -1, np.s_[1:4], np.s_[::-2, 1:], np.s_[..., 0], np.s_[4:2], [0, 3], ...):
        assert same(entry[index], whole[index]), index
    with pytest.raises(IndexError, match="out of bounds"):
        entry[5]


def parts_of(whole, specs):
    named = []
    for spec in specs:
        extents = [e.split(",") for e in spec.split()[-1].split(":")]
        named.append(
            (
                "p",
                whole[
                    tuple(
                        slice(None) if e == ["-"] else slice(int(e[0]), int(e[0]) + int(e[1]))
                        for e in extents
                    )
                ],
            )
        )
    return named, specs


# Writing.


def same_files(ours, theirs):
    """All files of two checkpoints, byte by byte."""
    found = {
        p.name.removeprefix(ours.name): p.read_bytes() for p in ours.parent.glob(ours.name + ".*")
    }
    expected = {
        p.name.removeprefix(theirs.name): p.read_bytes()
        for p in theirs.parent.glob(theirs.name + ".*")
    }
    assert sorted(found) == sorted(expected)
    for suffix, data in expected.items():
        assert found[suffix] == data, suffix
    return True


@pytest.mark.parametrize("order", [1, -1], ids=["sorted", "backwards"])
def test_every_dtype_and_shape_is_written_as_tensorflow_writes_it(order, tmp_path):
    values = dict(list(all_values().items())[::order])
    save_v2(tmp_path / "theirs", values.items())
    assert tf_checkpoint.write(tmp_path / "ours", values) == str(tmp_path / "ours")
    assert same_files(tmp_path / "ours", tmp_path / "theirs")


@pytest.mark.parametrize("layout", SPECS)
def test_partitioned_variables_are_written_as_tensorflow_writes_them(layout, tmp_path):
    whole = values_of(np.dtype(np.float32), (5, 3))
    named, specs = parts_of(whole, SPECS[layout])
    save_v2(tmp_path / "theirs", named, specs)
    tf_checkpoint.write(
        tmp_path / "ours",
        [
            ("p", tf_checkpoint.Part(v, (5, 3), i))
            for (_, v), i in zip(named, indices_of(SPECS[layout]), strict=True)
        ],
    )
    assert same_files(tmp_path / "ours", tmp_path / "theirs")


def indices_of(specs):
    for spec in specs:
        extents = [e.split(",") for e in spec.split()[-1].split(":")]
        yield tuple(
            slice(None) if e == ["-"] else slice(int(e[0]), int(e[0]) + int(e[1])) for e in extents
        )
