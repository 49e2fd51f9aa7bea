import json
import math
import os
import re
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import jscope as js
from jscope.formats import npz
from jscope.formats import safetensors as st_files

EXTENDED = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4", "uint2")
NUMPY = (*"?bBhHiIlLefdFD",)


def some(dtype, shape=(2, 3)):
    bits = np.random.default_rng(0).integers(0, 2, math.prod(shape))
    return bits.astype(np.float32).astype(dtype).reshape(shape)


def write(module, path, arrays):
    with module.Writer(path, arrays) as writer:
        for name in reversed(arrays):
            writer.write(name, arrays[name])


def read(module, path):
    entries = module.open_file(path)
    arrays = {name: entry.read() for name, entry in entries.items()}
    for name, entry in entries.items():
        array = arrays[name]
        assert (entry.shape, entry.dtype, entry.nbytes) == (array.shape, array.dtype, array.nbytes)
    return arrays


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape), name
        assert array.tobytes() == np.ascontiguousarray(expected[name]).tobytes(), name


ARRAYS = {
    "enc/w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "enc/w/Adam": np.asfortranarray(some(np.float64)),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float16),
    "ünï": some(ml_dtypes.bfloat16, (5,)),
    "odd": some(np.bool_, (3,)),
}


@pytest.mark.parametrize("module", [npz, st_files])
def test_what_is_written_is_read_and_nothing_else_is_left(module, tmp_path):
    write(module, tmp_path / "file", ARRAYS)
    assert_equal(read(module, tmp_path / "file"), ARRAYS)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("dtype", [*NUMPY, *EXTENDED, "S3", "U3"])
def test_npz_holds_every_dtype(dtype, tmp_path):
    arrays = {"w": np.ones((2, 3)).astype(dtype) if dtype[0] in "SU" else some(dtype)}
    write(npz, tmp_path / "file", arrays)
    assert_equal(read(npz, tmp_path / "file"), arrays)
    loaded = np.load(tmp_path / "file")["w"]
    if dtype in EXTENDED:
        loaded = loaded[dtype].view(dtype)
    assert_equal({"w": loaded}, arrays)


def test_npz_reads_what_numpy_writes(tmp_path):
    arrays = {**ARRAYS, "big": np.arange(3, dtype=">i4")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "file.npz", **arrays)
        expected = {**arrays, "big": np.arange(3, dtype="<i4")}
        assert_equal(read(npz, tmp_path / "file.npz"), expected)


def test_safetensors_writes_what_the_library_writes_and_reads_it(tmp_path):
    codes = [dtype for code, dtype in st_files._CODES.items()]
    arrays = {f"{dtype}.w": some(dtype) for dtype in codes} | {"e": np.zeros((2, 0), np.int8)}
    write(st_files, tmp_path / "ours", arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "theirs")
    assert_equal(read(st_files, tmp_path / "theirs"), arrays)
    with safetensors.safe_open(tmp_path / "ours", framework="np") as file:
        assert set(file.keys()) == set(arrays)
        for name in arrays:
            assert file.get_slice(name).get_shape() == list(arrays[name].shape)
    theirs, ours = (
        safetensors.deserialize((tmp_path / f).read_bytes()) for f in ("theirs", "ours")
    )
    assert dict(ours) == dict(theirs)


def test_a_file_is_never_overwritten_also_by_who_is_slower(tmp_path):
    path = tmp_path / "file"
    writer = st_files.Writer(path, {})
    path.write_text("mine")
    with pytest.raises(js.CheckpointExistsError, match="not overwritten without a request"), writer:
        pass
    with pytest.raises(js.CheckpointExistsError, match="not overwritten without a request"):
        npz.Writer(path, {})
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "mine"


@pytest.mark.parametrize("module", [npz, st_files])
def test_a_file_that_fails_leaves_nothing(module, tmp_path):
    with pytest.raises((AssertionError, ValueError)), module.Writer(tmp_path / "file", ARRAYS) as w:
        w.write("scalar", np.array("x", object))
    assert os.listdir(tmp_path) == []
    with pytest.raises(js.CheckpointError, match="nowhere/file can't be written: No such file"):
        module.Writer(tmp_path / "nowhere" / "file", ARRAYS)


@pytest.mark.parametrize("module", [npz, st_files])
def test_no_such_file(module, tmp_path):
    with pytest.raises(js.CheckpointError, match="file can't be read: No such file"):
        module.open_file(tmp_path / "file")
    write(module, tmp_path / "file", ARRAYS)
    entries = module.open_file(tmp_path / "file")
    (tmp_path / "file").unlink()
    with pytest.raises(js.CheckpointError, match="file can't be read: No such file"):
        entries["enc/w"].read()


def test_what_a_format_has_no_dtype_for_is_listed(tmp_path):
    arrays = {"w": some(np.complex128), "i": some("int4"), "x": some(np.float32)}
    with pytest.raises(js.CheckpointValueError, match="2 of these: 'w' is complex128; 'i' is int4"):
        st_files.Writer(tmp_path / "file", arrays)
    with pytest.raises(js.CheckpointValueError, match="__metadata__"):
        st_files.Writer(tmp_path / "file", {"__metadata__": some(np.float32)})
    objects = {"names": np.array([b"a"], object)}
    with pytest.raises(js.CheckpointValueError, match="'names' is object"):
        npz.Writer(tmp_path / "file", objects)
    assert os.listdir(tmp_path) == []


UNREADABLE = [
    (np.array([{}], object), "object", " of Python objects, which only a pickle can hold"),
    (np.zeros(2, "V4"), "|V4", ", unknown here"),
    (np.zeros(2, "M8[s]"), "datetime64[s]", ", unknown here"),
    (np.zeros(2, [("bfloat16", "<u4")]), "[('bfloat16', '<u4')]", ", unknown here"),
    (np.zeros(2, [("a", "O")]), "[('a', 'O')]", " of Python objects, which only a pickle can hold"),
]


@pytest.mark.parametrize(("array", "dtype", "why"), UNREADABLE, ids=[u[1] for u in UNREADABLE])
def test_npz_of_a_pickle_or_an_unknown_dtype_is_listed_and_the_others_are_read(
    tmp_path, array, dtype, why
):
    path = tmp_path / "file.npz"
    np.savez(path, x=array, w=np.arange(3))
    entries = npz.open_file(path)
    assert entries["w"].read().tolist() == [0, 1, 2]
    assert (entries["x"].shape, entries["x"].kind) == (array.shape, dtype)
    text = f"'x' in {path} has the dtype {dtype}{why}. Leave it out: the other variables can be"
    with pytest.raises(js.CheckpointError, match=re.escape(text)):
        entries["x"].read()

    saver = js.Saver(tmp_path)
    np.testing.assert_array_equal(saver.restore({"w": np.zeros(3, int)}, path)["w"], np.arange(3))
    assert saver.report.ignored == ("x",)
    assert list(saver.restore(step=path)) == ["w"]
    assert js.list_variables(path) == [("w", [3]), ("x", list(array.shape))]
    with pytest.raises(js.CheckpointError, match=re.escape(text)):
        js.load_variable(path, "x")


def test_a_damaged_header_of_npz_is_not_taken_for_an_unknown_dtype(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, w=np.zeros(2, np.float32))
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"'|V4'"))
    with pytest.raises(js.CheckpointError, match=r"Bad CRC-32 for file 'w\.npy'"):
        npz.open_file(path)


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it can't hold a header of 0 bytes"),
        (struct.pack("<Q", 1 << 62) + b"{}", "it can't hold a header of 4611686018427387904"),
        (safetensors_bytes(b"[]"), "its header begins with b'[', not with '{'"),
        (safetensors_bytes(b"{"), "its header is not JSON"),
        (safetensors_bytes(b'{"a":1,"a":2}'), "it has 'a' twice"),
        (safetensors_bytes(b'{"\xff":1}'), "its header is not JSON"),
        (safetensors_bytes(b'{"a":' + b"[" * 10**5), "its header is not JSON"),
        (safetensors_bytes({"a": 1}), "of tensor 'a' its header says 1"),
        (safetensors_bytes({"a": {"dtype": "F32"}}), "of tensor 'a' its header says"),
        (safetensors_bytes({"a": tensor(shape=[-2])}, bytes(8)), "its header says"),
        (safetensors_bytes({"a": tensor(shape=[2.0])}, bytes(8)), "its header says"),
        (safetensors_bytes({"a": tensor(shape=[1 << 62, 1 << 62, 0], offsets=[0, 0])}), "says"),
        (safetensors_bytes({"a": tensor("F4", [2], [0, 1])}, bytes(1)), "has dtype 'F4', which"),
        (safetensors_bytes({"a": tensor(shape=[3])}, bytes(8)), "takes 12 bytes, not those from 0"),
        (safetensors_bytes({"a": tensor(shape=[1 << 59], offsets=[0, 8])}, bytes(8)), "takes"),
        (safetensors_bytes({"a": tensor(offsets=[4, 12])}, bytes(12)), "'a' begins at 4 of the"),
        (safetensors_bytes({"a": tensor(), "b": tensor()}, bytes(8)), "begins at 0 of the data"),
        (
            safetensors_bytes({"a": tensor()}, bytes(9)),
            "its tensors end at 8 of the data, not at 9",
        ),
        (
            safetensors_bytes({"a": tensor()}, bytes(7)),
            "its tensors end at 8 of the data, not at 7",
        ),
    ],
)
def test_a_hostile_safetensors_file_is_one_error(content, text, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(js.CheckpointError) as caught:
        st_files.open_file(tmp_path / "file")
    assert text in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.parametrize("module", [npz, st_files])
def test_a_truncated_file_is_one_error(module, tmp_path):
    write(module, tmp_path / "file", {"a": some(np.float32), "b": some(np.int8, (3,))})
    content = (tmp_path / "file").read_bytes()
    for size in range(len(content)):
        (tmp_path / "file").write_bytes(content[:size])
        with pytest.raises(js.CheckpointError):
            module.open_file(tmp_path / "file")


def test_a_safetensors_file_that_shrinks_while_open_is_one_error(tmp_path):
    write(st_files, tmp_path / "file", {"a": some(np.float32)})
    entries = st_files.open_file(tmp_path / "file")
    os.truncate(tmp_path / "file", 80)
    with pytest.raises(js.CheckpointError, match="it ends within tensor 'a', at 80"):
        entries["a"].read()


def test_a_flipped_byte_of_npz_is_right_or_one_error(tmp_path):
    arrays = {"a": some(np.float32), "b": some(np.int8, (3,))}
    write(npz, tmp_path / "file", arrays)
    content = (tmp_path / "file").read_bytes()
    errors, expected = 0, [array.tolist() for array in reversed(arrays.values())]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 0x41
        (tmp_path / "file").write_bytes(flipped)
        try:
            found = read(npz, tmp_path / "file")
        except js.CheckpointError:
            errors += 1
        else:  # in a time stamp, an attribute, or a name in the directory
            assert [v.tolist() for v in found.values()] == expected
    assert errors > len(content) / 2


def test_npz_of_another_version_of_numpys_format(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x09\x00" + bytes(8))
    with pytest.raises(js.CheckpointError, match=r"member 'a.npy' has version \(9, 0\)"):
        npz.open_file(tmp_path / "file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_members_of_one_name_are_an_error_and_others_are_left_alone(tmp_path):
    np.savez(tmp_path / "file", a=ARRAYS["enc/w"])
    with zipfile.ZipFile(tmp_path / "file.npz", "a") as archive:
        archive.writestr("README", "not an array")
    assert list(npz.open_file(tmp_path / "file.npz")) == ["a"]
    with zipfile.ZipFile(tmp_path / "file.npz", "a") as archive:
        archive.writestr("a.npy", "twice")
    with pytest.raises(js.CheckpointError, match=r"it has two members 'a\.npy'"):
        npz.open_file(tmp_path / "file.npz")


def test_a_second_version_of_numpys_format_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array(member, ARRAYS["enc/w"], version=(2, 0))
    assert_equal(read(npz, tmp_path / "file"), {"a": ARRAYS["enc/w"]})
