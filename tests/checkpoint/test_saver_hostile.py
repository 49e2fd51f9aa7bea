"""jscope's own index and state file, written by someone who knows the format, checksums right.

Correct data or one CheckpointError; memory bounded by what the files have; no file outside the
directory looked at. The mutations are made by `hostile.own`, and the fuzzer there makes more.
"""

import glob
import io
import itertools
import json
import os
import re
import shutil
import zipfile
from collections import Counter

import google_crc32c
import jax
import msgpack
import numpy as np
import orbax.checkpoint as v0
import pytest
import tensorstore
from hostile import own
from saver_faults.trees import larger_ones_by_orbax, packing_up_to
from test_saver_index import edit

import jscope as js
from jscope._stores import files
from jscope.formats import _json_members, _own_entry, _own_source
from jscope.saver import Saver

SECRET = "a secret".ljust(4321)
# One mutation in so many: TensorStore opens an array in a millisecond. 1 makes all; these have no
# divisor in common with the number of mutations of a member, so that each kind is made.
STRIDES = {"packed": 5, "large": 11, "compressed": 11, "portable": 11}


@pytest.fixture
def outside(tmp_path):
    """A file that nobody may open; and names by which a checkpoint in ``run/1`` might."""
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path, ("../../outside/secret", str(path), "../../outside")


def problems_of(directory, file, mutations, expected, reads, secret, most=50):
    """What is wrong with reading each mutation of a file, and how often which outcome was."""
    total, problems = Counter(), []
    with own.little_memory():
        for what, data in mutations:
            file.write_bytes(data)
            with own.watching_files() as seen:
                outcomes, wrong = own.look(directory, expected, reads)
            total.update(outcomes)
            if any(path.startswith(str(secret.parent)) for path in seen):
                wrong.append("looked outside")
            problems += [f"{what}: {one}" for one in wrong]
            if len(problems) >= most:
                break
    return total, problems


LOOKS = {
    "open": lambda path: open(path).close(),
    "io.open": lambda path: vars(io)["open"](path).close(),
    "os.open": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "os.stat": os.path.getsize,
    "os.lstat": os.path.islink,
    "os.listdir": lambda path: os.listdir(path.parent),
    "os.scandir": lambda path: list(os.scandir(path.parent)),
    "os.walk": lambda path: list(os.walk(path.parent)),
    "pathlib's open": lambda path: path.open().close(),
    "pathlib's text": lambda path: path.read_text(),
    "pathlib's stat": lambda path: path.is_file(),
    "pathlib's iterdir": lambda path: list(path.parent.iterdir()),
    "pathlib's glob": lambda path: list(path.parent.glob("*")),
    "pathlib's rglob": lambda path: list(path.parent.rglob("*")),
    "glob": lambda path: glob.glob(f"{path.parent}/*"),
    "zipfile": lambda path: zipfile.is_zipfile(path),
    "NumPy": lambda path: np.fromfile(path, np.uint8),
    "a map of NumPy's": lambda path: np.memmap(path, np.uint8, "r"),
}


@pytest.mark.parametrize("how", LOOKS)
def test_a_look_outside_is_seen_however_it_is_made_and_nothing_stays_replaced(outside, how):
    secret, _ = outside
    before = [getattr(module, name) for module, name in own.LOOKING]
    with own.watching_files() as seen:
        LOOKS[how](secret)
    assert any(path.startswith(str(secret.parent)) for path in seen)
    assert [getattr(module, name) for module, name in own.LOOKING] == before


@pytest.mark.parametrize("layout", own.LAYOUTS)
def test_an_index_with_any_member_replaced_gives_correct_data_or_one_error(
    tmp_path, outside, layout
):
    secret, names = outside
    directory = tmp_path / "run"
    file = own.save(directory, layout) / "jscope.json"
    members, expected = own.members_of(file), own.tree(layout)
    assert own.look(directory, expected, own.READS) == ({"read": len(own.READS), "refused": 0}, [])
    mutations = itertools.islice(own.mutations(members, names), 0, None, STRIDES[layout])
    total, problems = problems_of(directory, file, mutations, expected, own.READS, secret)
    assert not problems, "\n".join(problems)
    assert total["read"] > 300
    assert total["refused"] > 900


def test_the_command_gives_correct_data_or_one_error_for_any_index(tmp_path, outside):
    secret, names = outside
    file = own.save(tmp_path / "run", "packed") / "jscope.json"
    mutations = itertools.islice(own.mutations(own.members_of(file), names), 0, None, 23)
    reads = {"command": own.commanded}
    _, problems = problems_of(tmp_path / "run", file, mutations, {}, reads, secret)
    assert not problems, "\n".join(problems)


def test_a_state_file_with_any_member_replaced_never_decides_which_checkpoints_there_are(
    tmp_path, outside
):
    secret, names = outside
    directory = tmp_path / "run"
    for step in (1, 2):
        own.save(directory, "packed", step)
    file = directory / "checkpoint"
    expected = own.tree("packed")
    reads = {"steps": own.steps, "list": own.listed, "evict": own.evicting}
    mutations = own.mutations(own.members_of(file), names)
    total, problems = problems_of(directory, file, mutations, expected, reads, secret)
    assert not problems, "\n".join(problems)
    assert not total["refused"]
    assert Saver(directory).all_steps() == (1, 2)


PLANTED = {
    "what an entry says of itself": (_own_entry.Entry, "_check", lambda entry: None),
    "the chunks": (_own_entry, "_is_tiling", lambda chunks, shape: True),
    "the bytes": (_own_source.OwnSource, "stored", lambda source, name: source.entries[name]),
    "the files": (
        files.Contents,
        "size",
        lambda found, name: os.stat(found.directory / name).st_size,
    ),
    "the numbers": (_json_members, "whole_number", lambda value, below=None: value),
}


@pytest.mark.parametrize("check", PLANTED)
def test_a_check_that_is_missing_is_found(tmp_path, outside, check, monkeypatch):
    secret, names = outside
    directory = tmp_path / "run"
    # Of a file for each chunk, its size and name would tell it too.
    layout = "compressed" if check == "the chunks" else "packed"
    file = own.save(directory, layout) / "jscope.json"
    members, expected = own.members_of(file), own.tree(layout)
    members |= {"metadata": None, "metrics": {}}
    members["values"] = {name: members["values"][name] for name in "wx" if name in expected}
    monkeypatch.setattr(*PLANTED[check])
    mutations = itertools.islice(own.mutations(members, names), 0, None, 3)
    _, problems = problems_of(directory, file, mutations, expected, own.READS, secret, most=1)
    assert problems


# What no member can be replaced by.


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.decode().encode("utf-16"), "can't decode byte 0xff"),
        (lambda data: b"\xef\xbb\xbf" + data, "Unexpected UTF-8 BOM"),
        (lambda data: b"[" * 1_000_000, "nested too deeply"),
        (lambda data: b"", "Expecting value"),
        (lambda data: data.replace(b'"w"', b'"\xed\xa0\x80"'), "can't decode byte 0xed"),
        (lambda data: data.replace(b"null", b"NaN"), "NaN is not JSON"),
        (lambda data: data.replace(b"null", b"1" * 5000), "Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_json_is_one_error(tmp_path, damage, message):
    file = Saver(tmp_path).save({"w": np.ones(2)}, 1) / "jscope.json"
    file.write_bytes(damage(file.read_bytes()))
    for read in own.READS.values():
        if read is not own.steps:
            with pytest.raises(js.CheckpointError, match=message):
                read(tmp_path)


@pytest.mark.parametrize("offset", [0, 64, 960])
def test_two_arrays_of_the_same_bytes_are_one_error(tmp_path, offset):
    """A thousand entries of one megabyte would fill a gigabyte of memory."""
    path = Saver(tmp_path).save({"v": np.ones(256, np.float32), "w": np.ones(256, np.float32)}, 1)
    edit(path / "jscope.json", lambda members: members["values"]["w"].update(offset=offset))
    for read in (own.opened, own.restored_whole, own.verified):
        with pytest.raises(
            js.CheckpointError, match="'w' and 'v' have the same bytes in the index"
        ):
            read(tmp_path)


def test_two_arrays_of_one_key_are_one_error(tmp_path):
    with packing_up_to(0):
        path = Saver(tmp_path).save({"v": np.ones(2), "w": np.ones(2)}, 1)
    edit(path / "jscope.json", lambda members: members["values"]["w"].update(key="0"))
    with pytest.raises(js.CheckpointError, match="'w' and 'v' have the same bytes in the index"):
        Saver(tmp_path).restore()


def test_an_index_and_its_first_bytes_name_one_save(tmp_path):
    """The first bytes tell whether a checkpoint is still the one that was opened."""
    file = Saver(tmp_path).save({"w": np.ones(2)}, 1) / "jscope.json"
    text = json.dumps(own.members_of(file))
    file.write_bytes(own.sealed(text.replace('"save_id": "', '"save_id": "0", "save_id": "')))
    with pytest.raises(js.CheckpointError, match="it has two ids of a save"):
        Saver(tmp_path).open()


def test_the_library_opens_nothing_that_is_no_regular_file(tmp_path):
    """A pipe would be waited for, for ever."""
    path = Saver(tmp_path).save({"w": np.ones(2)}, 1)
    for name in ("packed.bin", "jscope.json"):
        (path / name).unlink()
        os.mkfifo(path / name)
        with pytest.raises(js.CheckpointError, match=f"{name} is not a regular file"):
            Saver(tmp_path).open(path)["w"].read()
    (tmp_path / "checkpoint").unlink()
    os.mkfifo(tmp_path / "checkpoint")
    with pytest.warns(js.CheckpointWarning, match="checkpoint is not a regular file"):
        assert Saver(tmp_path, best="min:loss").best_step() is None


@pytest.mark.parametrize("layout", own.LAYOUTS)
def test_links_in_a_checkpoint_are_not_followed(tmp_path, layout):
    own.save(tmp_path / "run", layout)
    expected = own.tree(layout)
    shutil.copytree(tmp_path / "run" / "1", tmp_path / "outside")
    files = [p for p in (tmp_path / "run" / "1").rglob("*") if p.is_file()]
    for file in files:
        within = file.relative_to(tmp_path / "run" / "1")
        file.unlink()
        file.symlink_to(tmp_path / "outside" / within)
        with own.watching_files() as seen:
            outcomes, wrong = own.look(tmp_path / "run", expected, own.READS)
        assert not wrong
        assert outcomes["refused"], within
        assert not [path for path in seen if path.startswith(str(tmp_path / "outside"))], within
        with pytest.raises(js.CheckpointError, match=r"links in a checkpoint are not .* cp -rL"):
            Saver(tmp_path / "run").verify(1)
        file.unlink()
        shutil.copyfile(tmp_path / "outside" / within, file)
    assert not own.look(tmp_path / "run", expected, own.READS)[0]["refused"]


@pytest.mark.parametrize("layout", own.LAYOUTS)
def test_a_step_may_be_a_link_to_a_directory_elsewhere(tmp_path, layout):
    own.save(tmp_path / "run", layout)
    (tmp_path / "run" / "1").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "1").symlink_to(tmp_path / "elsewhere")
    outcomes, wrong = own.look(tmp_path / "run", own.tree(layout), own.READS)
    assert not wrong
    assert not outcomes["refused"]


def test_a_link_that_is_called_as_a_staging_directory_leads_nowhere(tmp_path):
    (tmp_path / "outside" / "replaced-7").mkdir(parents=True)
    (tmp_path / "outside" / "replaced-7" / "jscope.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".tmp-0").symlink_to(tmp_path / "outside")
    (tmp_path / "run" / ".tmp-1").mkdir()
    (tmp_path / "run" / ".tmp-1" / "lock").symlink_to(tmp_path / "outside" / "lock")
    saver = Saver(tmp_path / "run")
    saver.save({"w": 1}, 1)
    assert saver.all_steps() == (1,)
    assert os.listdir(tmp_path / "outside") == ["replaced-7"]


# What lies beside the index: Orbax's own metadata of an array.


def grid(*shape):
    def change(members):
        members["chunk_grid"]["configuration"]["chunk_shape"] = list(shape)
        members["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]

    return change


@pytest.mark.parametrize(
    ("array", "entry", "message"),
    [
        (
            {"shape": [1 << 36, 3]},
            {},
            r"'0' is float32\(68719476736, 3\) on disk, not float32\(2, 3\)",
        ),
        (
            {"shape": [1 << 36, 3]},
            {"shape": [1 << 36, 3]},
            "'0' has 824633720832 bytes in the index, and its files have",
        ),
        ({"data_type": "float64"}, {}, "'0' is float64"),
        ({}, {"shape": [1 << 36, 3]}, r"'0' is float32\(2, 3\) on disk"),
        ({"grid": grid(1 << 36, 3)}, {}, r"'0' has chunks of \(68719476736, 3\)"),
        ({"shape": "x"}, {}, "'0' can't be read"),
    ],
)
def test_an_array_whose_own_metadata_is_hostile_is_one_error(tmp_path, array, entry, message):
    with packing_up_to(0), larger_ones_by_orbax():
        path = Saver(tmp_path).save({"w": np.ones((2, 3), np.float32)}, 1)
    file = path / "0" / "zarr.json"
    zarr = json.loads(file.read_text())
    for key, value in array.items():
        value(zarr) if callable(value) else zarr.update({key: value})
    file.write_text(json.dumps(zarr))
    edit(path / "jscope.json", lambda members: members["values"]["w"].update(entry))
    with own.little_memory():
        for read in (own.opened, own.restored, own.verified):
            with pytest.raises(js.CheckpointError):
                read(tmp_path)
        with pytest.raises(js.CheckpointError, match=message):
            Saver(tmp_path, verify=False).open(1)["w"].read()


def test_an_array_with_any_member_of_its_metadata_replaced_gives_correct_data_or_one_error(
    tmp_path, outside
):
    secret, names = outside
    expected = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    with packing_up_to(0), larger_ones_by_orbax():
        file = Saver(tmp_path / "run").save(expected, 1) / "0" / "zarr.json"
    texts = own.replacements(json.loads(file.read_text()), names)
    mutations = ((f"{path} {what}", text.encode()) for path, what, text in texts)
    mutations = itertools.islice(mutations, 0, None, 5)
    reads = {"open": own.opened, "verify": own.verified}
    total, problems = problems_of(tmp_path / "run", file, mutations, expected, reads, secret)
    assert not problems, "\n".join(problems)
    assert total["read"]
    assert total["refused"] > 100


def test_tensorstore_opens_no_file_outside_a_database(tmp_path, outside):
    """Orbax's database is a tree of files that name each other: what the Saver relies on."""
    secret, _ = outside
    store = {"driver": "ocdbt", "base": f"file://{tmp_path}/run/"}
    plain = {"compression": None, "max_inline_value_bytes": 0}
    tensorstore.KvStore.open(store | {"config": plain}).result().write("k", bytes(3000)).result()
    manifest = tmp_path / "run" / "manifest.ocdbt"
    data = manifest.read_bytes()
    assert google_crc32c.value(data[:-4]).to_bytes(4, "little") == data[-4:]
    (name,) = re.findall(rb"d/[0-9a-f]{32}", data)
    other = b"../outside/".ljust(len(name), b"a")
    shutil.copy(tmp_path / "run" / name.decode(), secret.with_name(other[11:].decode()))
    data = data.replace(name, other)[:-4]
    manifest.write_bytes(data + google_crc32c.value(data).to_bytes(4, "little"))
    with pytest.raises(ValueError, match=r"Invalid key: .*/\.\./outside/aaa"):
        tensorstore.KvStore.open(store).result().read("k").result()


# Checkpoints of other libraries.


@pytest.mark.parametrize("options", [{}, {"use_ocdbt": False, "use_zarr3": True}])
@pytest.mark.parametrize("name", ["_METADATA", "array_metadatas/process_0"])
def test_orbaxs_metadata_with_any_member_replaced_gives_correct_data_or_one_error(
    tmp_path, outside, name, options
):
    secret, names = outside
    values = {"w": np.arange(6, dtype=np.float32), "k": jax.random.key(3), "n": 3, "s": "text"}
    path = tmp_path / "run" / "1"
    handler = v0.PyTreeCheckpointHandler(**options)
    v0.Checkpointer(handler).save(path, values)

    def read(path):
        with Saver(path).open(path) as saved:
            repr(saved), saved.shapes(), saved.metadata
            return {name: variable.read() for name, variable in saved.items()}

    assert own.look(path, values, {"open": read}) == ({"read": 1, "refused": 0}, [])
    texts = own.replacements(json.loads((path / name).read_text()), names)
    mutations = ((what, text.encode()) for _, what, text in texts)
    mutations = itertools.islice(mutations, 0, None, 5)
    total, problems = problems_of(path, path / name, mutations, values, {"open": read}, secret)
    assert not problems, "\n".join(problems)
    assert total["refused"] > 20


def test_an_array_of_orbax_has_no_more_bytes_than_its_files_can_be_made_into(tmp_path):
    v0.PyTreeCheckpointer(use_ocdbt=False).save(tmp_path / "1", {"w": np.arange(6.0)})
    file = tmp_path / "1" / "w" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [1 << 36]}))
    with own.little_memory(), pytest.raises(js.CheckpointError, match="'w' has 5497558"):
        Saver(tmp_path).open(tmp_path / "1")["w"].read()


def extension(code, *parts):
    return msgpack.ExtType(code, msgpack.packb(parts))


def chunked(shape):
    dims = {str(i): n for i, n in enumerate(shape)}
    return {"__msgpack_chunked_array__": True, "shape": dims, "chunks": {}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (extension(1, [1 << 62], "float32", bytes(8)), "cannot reshape"),
        (extension(1, [1.5], "float32", bytes(8)), "not a checkpoint of Flax, or damaged"),
        (extension(1, [1], "object", bytes(8)), "not a checkpoint of Flax, or damaged"),
        (extension(1, [1], "V8", bytes(8)), "'w', of type .*V8.*, which can't be read"),
        (extension(1, [1], "M8[s]", bytes(8)), "'w', of type datetime64"),
        (extension(1, [1], b"\xff", bytes(8)), "not a checkpoint of Flax, or damaged"),
        (extension(2, 1), "not a checkpoint of Flax, or damaged"),
        (extension(9, 1), "'w', of type ExtType, which can't be read"),
        (msgpack.Timestamp(1), "'w', of type Timestamp, which can't be read"),
        ([1, 2], "'w', of type list, which can't be read"),
        (chunked([1 << 62]), "not a checkpoint of Flax, or damaged"),
        ({"a": {"b": 1}, "a/b": 2}, "two values of the name 'w/a/b'"),
        ({1: 1, "1": 2}, "two values of the name 'w/1'"),
    ],
)
def test_a_hostile_file_of_flax_is_one_error(tmp_path, value, message):
    (tmp_path / "checkpoint_1").write_bytes(msgpack.packb({"w": value}, strict_types=True))
    with own.little_memory(), pytest.raises(js.CheckpointError, match=message):
        Saver(tmp_path / "run").open(tmp_path / "checkpoint_1")


def test_a_file_of_flax_that_is_nested_deeply_or_says_that_it_is_long_is_one_error(tmp_path):
    for data in (
        b"\x81\xa1w" * 100_000 + b"\xc0",
        b"\xdf" + b"\xff" * 4,
        b"\x81\xa1w\xdd\xff\xff\xff\xff",
    ):
        (tmp_path / "checkpoint_1").write_bytes(data)
        with own.little_memory(), pytest.raises(js.CheckpointError, match="or damaged"):
            Saver(tmp_path / "run").open(tmp_path / "checkpoint_1")


def npy(header, data=bytes(8)):
    text = str(header).encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def member(shape, descr="<f4"):
    return npy({"descr": descr, "fortran_order": False, "shape": shape})


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (member((-1, -2)), {}, "can't hold float32"),
        (member((1 << 61,)), {}, "can't hold float32"),
        (member((2.0,)), {}, "no header of NumPy's"),
        (npy("[" * 60), {}, "no header of NumPy's"),
        (
            member((2,)),
            {"compression": zipfile.ZIP_BZIP2},
            "is not compressed as by NumPy",
        ),
        (member((1 << 28,)), {"size": 128 + (1 << 30)}, "can't have 1073741952 bytes in"),
    ],
)
def test_a_hostile_archive_of_numpy_is_one_error(tmp_path, content, options, message):
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", options.get("compression", zipfile.ZIP_STORED)) as archive:
        archive.writestr("w.npy", content)
        if "size" in options:
            archive.infolist()[0].file_size = options["size"]  # as the directory at the end says
    with own.little_memory(), pytest.raises(js.CheckpointError, match=message):
        Saver(tmp_path).open(path)
