"""What reading costs and survives: bytes, memory, slices, damage, others at work; TF's names."""

import contextlib
import gc
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jscope as js
from jscope._stores.files import LocalFile
from jscope.formats import _boxes, _own_packed, _own_steps
from jscope.formats._own_source import OwnSource
from jscope.formats._sealed_json import sealed
from jscope.saver import _restore, _tf1_functions


@pytest.fixture
def orbax(monkeypatch):
    """Nothing is packed."""
    monkeypatch.setattr(_own_packed, "LIMIT", 0)


def bytes_read():
    """How many bytes this process has read from files."""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this system doesn't count what a process reads")
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


# Boxes.


@st.composite
def boxes(draw):
    shape = draw(st.lists(st.integers(1, 5), max_size=3))

    def grid(length):
        cuts = sorted(draw(st.sets(st.integers(1, length - 1)))) if length > 1 else []
        return list(itertools.pairwise([0, *cuts, length]))

    return shape, *(list(itertools.product(*map(grid, shape))) for _ in range(2))


@given(boxes())
def test_regions_are_filled_from_any_chunks(case):
    shape, regions, chunks = case
    whole = np.arange(int(np.prod(shape))).reshape(shape)
    memory = {box: np.full(_boxes.lengths(box), -1) for box in regions}
    saved = [
        _boxes.Chunk(tuple(a for a, _ in box), _boxes.lengths(box), i)
        for i, box in enumerate(chunks)
    ]
    read = 0
    for unit in _boxes.units(memory, saved):
        unit.into[...] = whole[_boxes.slices(unit.box)]
        read += unit.into.size
        for part, region in unit.copies:
            region[...] = part
    assert read == whole.size
    for box, got in memory.items():
        np.testing.assert_array_equal(got, whole[_boxes.slices(box)])


def test_chunks_that_are_not_needed_are_not_read():
    needed = {((2, 3), (0, 4)): np.zeros((1, 4))}
    chunks = [_boxes.Chunk((i, 0), (1, 4), i) for i in range(5)]
    (unit,) = _boxes.units(needed, chunks)
    assert unit.crc32c == 2
    assert np.shares_memory(unit.into, needed[(2, 3), (0, 4)])


def test_memory_begins_where_xla_can_use_it():
    for shape in ((), (3,), (5, 7)):
        memory = _boxes.aligned(shape, "bfloat16")
        assert (memory.shape, memory.ctypes.data % 64) == (shape, 0)


# Bytes and memory.


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_the_bytes_read_are_those_of_what_is_asked_for(saver, monkeypatch, limit):
    monkeypatch.setattr(_own_packed, "LIMIT", limit)
    size = 1 << 20
    values = {f"v{i}": jnp.full((size // 4,), float(i)) for i in range(8)}
    path = saver.save(values, 1)
    index = (path / "jscope.json").stat().st_size
    target = {"v3": values["v3"]}
    saver.restore(target, unexpected="ignore")
    before = bytes_read()
    saver.restore(target, unexpected="ignore")
    assert size < bytes_read() - before < size + index + (64 << 10)
    assert saver.report.bytes_read == size + index
    before = bytes_read()
    assert js.load_variable(path, "v5")[0] == 5
    assert size < bytes_read() - before < size + index + (64 << 10)


def test_a_device_reads_the_chunks_that_it_needs(saver, orbax):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    value = jnp.arange(1 << 18, dtype=jnp.float32)
    saver.save({"w": jax.device_put(value, NamedSharding(mesh, PartitionSpec("x")))}, 1)
    with saver.open() as checkpoint:
        checkpoint["w"][:1]
        before = bytes_read()
        np.testing.assert_array_equal(checkpoint["w"][70000:70010], np.arange(70000, 70010))
        assert (1 << 18) <= bytes_read() - before < (1 << 18) + (64 << 10)


MEMORY = """
import sys, threading, time
import jax, jax.numpy as jnp, numpy as np
import jscope as js
from jscope.saver import _saver
_saver.IN_FLIGHT = 32 << 20
directory, is_sequential = sys.argv[1], sys.argv[2] == "True"
saver = js.Saver(directory, restore_sequentially=is_sequential)
target = {f"v{i}": jax.ShapeDtypeStruct((4 << 20,), jnp.float32) for i in range(8)}
saver.restore({"v0": target["v0"]}, unexpected="ignore")

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

begin, peak, is_over = resident(), 0, False

def watch():
    global peak
    while not is_over:
        peak = max(peak, resident())
        time.sleep(0.0005)

thread = threading.Thread(target=watch)
thread.start()
restored = jax.block_until_ready(saver.restore(target))
is_over = True
thread.join()
assert [float(x[0]) for x in restored.values()] == list(range(8))
print(peak - begin)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")
@pytest.mark.parametrize("is_sequential", [False, True])
def test_restoring_holds_no_second_copy(tmp_path, is_sequential):
    """Beside the result there is what is in flight: one array of TensorStore's, or two."""
    size = 16 << 20
    js.Saver(tmp_path).save({f"v{i}": np.full(size // 4, i, np.float32) for i in range(8)}, 1)
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path, str(is_sequential)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < (14 if is_sequential else 15) * size  # 16 are two copies


def test_the_number_of_reads_under_way_is_bounded(saver, orbax, monkeypatch):
    saver.save({f"v{i}": np.full(1000, i, np.float32) for i in range(6)}, 1)
    target = {f"v{i}": np.zeros(1000, np.float32) for i in range(6)}
    under_way, most = 0, 0
    start = OwnSource.start

    def counted(self, *arguments):
        nonlocal under_way, most
        wait = start(self, *arguments)
        under_way += 1
        most = max(most, under_way)

        def waited():
            nonlocal under_way
            wait()
            under_way -= 1

        return waited

    monkeypatch.setattr(OwnSource, "start", counted)
    saver.restore(target)
    assert most == 6
    most = 0
    js.Saver(saver.directory, restore_sequentially=True).restore(target)
    assert most == 1


def test_small_arrays_that_lie_side_by_side_are_read_together(saver, monkeypatch):
    values = {f"v{i:03}": np.full((16, 16), i, np.float32) for i in range(1000)}
    saver.save(values, 1)
    reads = []
    read_into = LocalFile.read_into

    def counted(self, start, into):
        if self.path.name == "packed.bin":
            reads.append(len(into))
        read_into(self, start, into)

    monkeypatch.setattr(LocalFile, "read_into", counted)
    restored = saver.restore({name: jnp.zeros((16, 16)) for name in values})
    assert len(reads) <= 4
    assert sum(reads) == 1000 << 10
    for name, value in values.items():
        np.testing.assert_array_equal(restored[name], value)
    # In any order, of some of them, and where what is between them is not needed.
    reads.clear()
    names = [f"v{i:03}" for i in (700, 3, 2, 999)]
    restored = saver.restore({name: np.zeros((16, 16), np.float32) for name in names}, select=names)
    assert sorted(reads) == [1 << 10, 1 << 10, 2 << 10]
    assert all((value == int(name[1:])).all() for name, value in restored.items())


def test_values_that_are_read_together_or_from_one_array_share_no_element(saver):
    saver.save({"a": np.arange(4), "b": np.arange(4)}, 1)
    target = {name: np.zeros(4, int) for name in ("a", "b", "c")}
    restored = saver.restore(target, rename={"a": ("a", "c")})
    for name, value in restored.items():
        value[:] = -1
        assert all((other == range(4)).all() for n, other in restored.items() if n > name)


# Opening.


def test_a_checkpoint_is_a_mapping_of_what_can_be_read(saver):
    values = {
        "keys": jax.random.split(jax.random.key(0), 3),
        "none": None,
        "rate": 0.5,
        "w": jnp.arange(6.0).reshape(2, 3),
        "zero": jnp.zeros((0, 2), jnp.bfloat16),
    }
    path = saver.save(values, 4, metadata={"model": "tiny"}, metrics={"loss": 0.25})
    with saver.open() as checkpoint:
        assert list(checkpoint) == list(values)
        assert (checkpoint.path, checkpoint.step) == (path, 4)
        assert (checkpoint.metadata, checkpoint.metrics) == ({"model": "tiny"}, {"loss": 0.25})
        assert {n: (v.shape, v.kind, v.nbytes) for n, v in checkpoint.items()} == {
            "keys": ((3,), "key<fry>", 24),
            "none": ((), "python None", 0),
            "rate": ((), "python float", 0),
            "w": ((2, 3), "float32", 24),
            "zero": ((0, 2), "bfloat16", 0),
        }
        np.testing.assert_array_equal(checkpoint["w"].read(), values["w"])
        np.testing.assert_array_equal(np.asarray(checkpoint["w"], np.float64), values["w"])
        assert (checkpoint["none"].read(), checkpoint["rate"].read()) == (None, 0.5)
        assert checkpoint["zero"].read().shape == (0, 2)
        assert checkpoint["zero"][:, 1].shape == (0,)
        assert checkpoint["keys"][1] == values["keys"][1]
        assert "w" in checkpoint
        assert "v" not in checkpoint
        assert checkpoint.nbytes == 48
        assert repr(checkpoint["w"]) == "SavedVariable('w', float32[2,3])"
        with pytest.raises(js.MissingVariableError, match=r"No variable 'ww' .*close names: 'w'"):
            checkpoint["ww"]
        with pytest.raises(IndexError, match="'rate' is not an array but a python float"):
            checkpoint["rate"][0]
        lines = repr(checkpoint).split("\n")
        assert lines[0] == f"Checkpoint {path} of 5 variables, 48 B"
        assert lines[2].split() == ["keys", "(3,)", "key<fry>", "24", "B"]
    assert checkpoint["w"][0, 0] == 0  # reading opens it anew
    assert "of 0 variables" in repr(js.Saver(saver.directory / "other").open(saver.save({}, 5)))


def test_a_forgotten_checkpoint_leaves_no_file_open(saver):
    saver.save({"w": jnp.ones(2)}, 1)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    checkpoint = saver.open(1)
    checkpoint["w"].read()
    variable = checkpoint["w"]
    del checkpoint
    gc.collect()
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)
    assert variable.read()[0] == 1
    variable._source.close()


def test_a_forgotten_checkpoint_waits_for_no_thread(saver, monkeypatch):
    saver.save({"w": jnp.ones((1025, 1024), jnp.float32)}, 1)
    checkpoint = saver.open(1)
    checkpoint["w"].read()  # by threads
    # The garbage collector finds it, in a thread that may hold any lock.
    cycle = [checkpoint]
    cycle.append(cycle)
    del checkpoint, cycle
    joined = []
    monkeypatch.setattr(threading.Thread, "join", lambda thread: joined.append(thread))
    found = [thread for thread in threading.enumerate() if thread.name.startswith("jscope-read")]
    assert found
    gc.collect()
    monkeypatch.undo()
    assert joined == []
    for thread in found:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_any_index_of_numpys_gives_what_numpy_gives(saver, monkeypatch, limit):
    monkeypatch.setattr(_own_packed, "LIMIT", limit)
    value = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    saver.save({"x": value}, 1)
    variable = saver.open()["x"]
    number = st.integers(-3, 2)
    side = st.one_of(
        number,
        st.just(...),
        st.builds(
            slice, *[st.none() | st.integers(-6, 6)] * 2, st.sampled_from([None, 1, 2, -1, -3])
        ),
    )

    @given(st.one_of(side, st.lists(side, max_size=4).map(tuple)))
    def check(index):
        try:
            expected = value[index]
        except IndexError as error:
            with pytest.raises(IndexError, match=re.escape(str(error))):
                variable[index]
        else:
            np.testing.assert_array_equal(variable[index], expected, strict=True)

    check()
    for index in (None, [0, 2], np.array([True, False, True]), (0, [1, 1]), True, (slice(1), None)):
        np.testing.assert_array_equal(variable[index], value[index], strict=True)
    with pytest.raises(IndexError):
        variable[[7]]


# TensorFlow's functions.


def test_functions_of_tensorflow_by_name(saver, tmp_path):
    assert js.latest_checkpoint(tmp_path) is None
    assert js.latest_checkpoint(tmp_path / "absent") is None
    first = saver.save({"useful_scope/var4": jnp.zeros((9, 9)), "var1": jnp.ones((1, 10))}, 1)
    path = saver.save({"var3": jnp.arange(3.0), "var2": jnp.zeros(()), "step": 3}, 12)
    assert js.latest_checkpoint(tmp_path) == js.latest_checkpoint(str(tmp_path)) == path
    assert js.list_variables(first) == [("useful_scope/var4", [9, 9]), ("var1", [1, 10])]
    assert js.list_variables(tmp_path) == [("step", []), ("var2", []), ("var3", [3])]
    np.testing.assert_array_equal(js.load_variable(tmp_path, "var3:0"), [0, 1, 2])
    assert js.load_variable(path, "step") == 3
    assert js.checkpoint_exists(path)
    assert not js.checkpoint_exists(tmp_path)
    assert not js.checkpoint_exists(tmp_path / "13")
    with pytest.raises(js.MissingVariableError, match=r"No variable 'var9' .*close names: 'var"):
        js.load_variable(path, "var9")
    for function in (js.list_variables, lambda path: js.load_variable(path, "x")):
        with pytest.raises(js.CheckpointNotFoundError, match="There is no checkpoint in"):
            function(tmp_path / "absent")


def test_a_relative_path_and_the_home_directory(saver, tmp_path, monkeypatch):
    saver.save({"w": jnp.ones(1)}, 1)
    monkeypatch.chdir(tmp_path.parent)
    assert js.latest_checkpoint(tmp_path.name) == tmp_path / "1"
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert js.latest_checkpoint(f"~/{tmp_path.name}") == tmp_path / "1"
    assert saver.restore({"w": jnp.zeros(1)}, f"{tmp_path.name}/1")["w"] == 1
    shutil.copytree(tmp_path / "1", tmp_path / "copy")
    assert saver.restore({"w": jnp.zeros(1)}, tmp_path / "copy")["w"] == 1


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(_tf1_functions, "_POLL_SECONDS", 0.01)


def test_new_checkpoints_are_yielded_as_they_come(saver, quick):
    paths = js.checkpoints_iterator(saver.directory, timeout=0.05)
    saver.save({"w": jnp.ones(1)}, 1)
    assert next(paths) == saver.directory / "1"
    saver.save({"w": jnp.ones(1)}, 2)
    saver.save({"w": jnp.ones(1)}, 3)
    assert next(paths) == saver.directory / "3"  # those between are skipped
    saver.save({"w": jnp.zeros(1)}, 3, overwrite=True)
    assert next(paths) == saver.directory / "3"  # another one
    with pytest.raises(StopIteration):
        next(paths)


def test_the_iterator_waits_for_the_first_checkpoint(saver, quick):
    thread = threading.Timer(0.2, lambda: saver.save({"w": jnp.ones(1)}, 7))
    thread.start()
    assert next(js.checkpoints_iterator(saver.directory)) == saver.directory / "7"
    thread.join()


def test_the_iterator_asks_after_its_timeout_whether_to_end(saver, quick):
    answers = iter([False, False, False, True])
    answered = []

    def is_over():
        answered.append(next(answers))
        return answered[-1]

    assert list(js.checkpoints_iterator(saver.directory, timeout=0.02, timeout_fn=is_over)) == []
    assert len(answered) == 4


def test_the_iterator_keeps_its_distance(saver, quick):
    saver.save({"w": jnp.ones(1)}, 1)
    paths = js.checkpoints_iterator(saver.directory, min_interval_secs=0.3)
    next(paths)
    saver.save({"w": jnp.ones(1)}, 2)
    begin = time.monotonic()
    next(paths)
    assert time.monotonic() - begin > 0.15


# Damage, and others at work.


def break_index(path):
    file = path / "jscope.json"
    file.write_bytes(file.read_bytes()[:-1])


def lose_index(path):
    (path / "jscope.json").unlink()


def cut_data(path):
    file = path / "packed.bin"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (break_index, "jscope.json is damaged"),
        (lose_index, "jscope.json is gone"),
        (cut_data, "packed.bin has 63 bytes instead of 64"),
    ],
)
def test_after_damage_the_step_before_is_restored_with_a_warning(saver, damage, what):
    saver.save({"w": jnp.ones(1)}, 1)
    damage(saver.save({"w": jnp.full(1, 2.0)}, 2))
    match = rf"Step 2 can't be read from .*{what}.* Step 1 is the newest intact one"
    with pytest.warns(js.CheckpointWarning, match=match):
        assert saver.restore({"w": jnp.zeros(1)})["w"] == 1
    with pytest.warns(js.CheckpointWarning, match=match):
        assert saver.latest_step() == 1
    with pytest.warns(js.CheckpointWarning, match=match):
        assert js.latest_checkpoint(saver.directory) == saver.directory / "1"
    damage(saver.directory / "1")
    with pytest.raises(
        js.CheckpointError, match=rf"Step 2 can't .* Step 1 can't .*{what}.*no intact"
    ):
        saver.restore({"w": jnp.zeros(1)})
    with pytest.raises(js.CheckpointError, match=r"Step 2 can't .* Step 1 can't"):
        saver.latest_step()


def test_damaged_data_is_an_error_that_names_file_and_variable_and_offers_the_step_before(saver):
    saver.save({"v": jnp.ones(1), "w": jnp.ones(1)}, 1)
    file = saver.save({"v": jnp.ones(1), "w": jnp.full(1, 2.0)}, 2) / "packed.bin"
    data = bytearray(file.read_bytes())
    data[64] ^= 1
    os.truncate(file, 0)
    file.write_bytes(data)
    message = (
        r"Step 2 can't be read from .*: ValueError: 'w' is damaged in packed.bin: the checksum of "
        r"its part at \(0,\) of shape \(1,\) differs. Step 1 seems intact, in "
        r".*/1\. Write saver.restore\(target, step=1\)."
    )
    target = {"v": jnp.zeros(1), "w": jnp.zeros(1)}
    with pytest.raises(js.CheckpointError, match=message):
        saver.restore(target, 2)
    with pytest.raises(js.CheckpointError, match=r"'w' can't be read from .*checksum"):
        js.load_variable(saver.directory / "2", "w")
    # What is not damaged is what was saved; and whoever does not want to know is not told.
    assert saver.restore({"v": jnp.zeros(1)}, 2, unexpected="ignore")["v"] == 1
    assert js.Saver(saver.directory, verify=False).restore(target, 2)["w"] != 2


def test_a_flipped_bit_is_found_wherever_the_array_goes(saver, orbax):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    there = NamedSharding(mesh, PartitionSpec("x"))
    path = saver.save({"w": jax.device_put(jnp.arange(64.0), there)}, 1)
    file = path / "0" / "32"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    for sharding in (there, NamedSharding(mesh, PartitionSpec()), None):
        target = {"w": jax.ShapeDtypeStruct((64,), jnp.float32, sharding=sharding)}
        with pytest.raises(js.CheckpointError, match=r"'w' is damaged in 0/: .*\(32,\) of shape"):
            saver.restore(target, 1)
    with saver.open(1) as checkpoint:
        assert checkpoint["w"][31] == 31
        with pytest.raises(js.CheckpointError, match="'w' is damaged in 0"):
            checkpoint["w"][32]


def test_a_step_that_is_removed_while_it_is_read_gives_way_to_the_next(saver, monkeypatch):
    saver.save({"w": jnp.ones(1)}, 1)
    prepare = _restore.prepare

    def interrupted(source, *arguments, **options):
        if source.index.step < 4:
            step = source.index.step + 1
            js.Saver(saver.directory, max_to_keep=1).save({"w": jnp.full(1, float(step))}, step)
        return prepare(source, *arguments, **options)

    monkeypatch.setattr(_restore, "prepare", interrupted)
    assert saver.restore({"w": jnp.zeros(1)})["w"] == 4
    with pytest.raises(js.CheckpointNotFoundError, match=r"no step 1 in .*; it has steps 4"):
        saver.restore({"w": jnp.zeros(1)}, 1)


def test_a_step_that_is_overwritten_while_it_is_read_is_read_anew(saver, monkeypatch):
    saver.save({"w": jnp.ones(1)}, 1)
    prepare = _restore.prepare

    def interrupted(source, *arguments, **options):
        monkeypatch.setattr(_restore, "prepare", prepare)
        saver.save({"w": jnp.full(1, 2.0)}, 1, overwrite=True)
        return prepare(source, *arguments, **options)

    monkeypatch.setattr(_restore, "prepare", interrupted)
    assert saver.restore({"w": jnp.zeros(1)}, 1)["w"] == 2


def test_steps_that_vanish_forever_are_an_error(saver, monkeypatch):
    saver.save({"w": jnp.ones(1)}, 1)
    shutil.rmtree(saver.directory / "1")
    found = ["1"], {1: saver.directory / "1"}, True
    monkeypatch.setattr(_own_steps, "_listed", lambda directory: found)
    with pytest.raises(js.CheckpointError, match="removed faster than they can be read"):
        saver.restore({"w": jnp.zeros(1)})


def test_what_fails_twenty_times_is_told(saver, monkeypatch):
    saver.save({"w": jnp.ones(1)}, 1)
    monkeypatch.setattr(OwnSource, "has_changed", lambda source: True)
    monkeypatch.setattr(_restore, "read", lambda *arguments, **options: 1 / 0)
    with pytest.raises(js.CheckpointError, match="ZeroDivisionError"):
        saver.restore({"w": jnp.zeros(1)})


def test_what_cannot_be_listed_is_an_error_of_ours(saver, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")
    assert js.latest_checkpoint(tmp_path / "file") is None
    saver.save({"w": jnp.ones(1)}, 1)

    def refuse(directory):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_own_steps, "_listed", refuse)
    with pytest.raises(js.CheckpointError, match="can't be read: PermissionError"):
        saver.restore({"w": jnp.zeros(1)})


def test_an_error_offers_the_newest_sound_step_before(saver):
    for step in range(4):
        saver.save({"w": jnp.ones(1)}, step)
    for step in (1, 3):
        break_index(saver.directory / str(step))
    cut_data(saver.directory / "2")
    with pytest.raises(js.CheckpointError, match=r"Step 0 seems intact, in .*/0\. Write saver\."):
        saver.restore({"w": jnp.zeros(1)}, 3)
    with pytest.raises(js.CheckpointError, match=r"3 can't be read: ValueError: jscope.json"):
        saver.restore({"w": jnp.zeros(1)}, saver.directory / "3")


def test_entries_that_are_none_are_told_when_they_are_asked_for(saver):
    path = saver.save({"w": jnp.ones(1)}, 1)
    members = json.loads((path / "jscope.json").read_text())
    del members["crc32c"]
    members["values"]["v"] = {}
    (path / "jscope.json").write_bytes(sealed(members))
    with saver.open(1) as checkpoint:
        assert checkpoint["w"].read() == 1
        with pytest.raises(js.CheckpointError, match=r"jscope.json is damaged at 'v'"):
            checkpoint["v"]
    with pytest.raises(js.CheckpointError, match=r"jscope.json is damaged: KeyError"):
        js.list_variables(path)


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_without_checksums_each_device_reads_its_part_alone(saver, monkeypatch, limit):
    monkeypatch.setattr(_own_packed, "LIMIT", limit)
    saver.save({"w": jnp.arange(64.0).reshape(8, 8)}, 1)
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    target = {
        "w": jax.ShapeDtypeStruct(
            (8, 8), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("y", "x"))
        )
    }
    unverified = js.Saver(saver.directory, verify=False)
    np.testing.assert_array_equal(
        unverified.restore(target)["w"], np.arange(64, dtype=np.float32).reshape(8, 8)
    )
    assert not unverified.report.verified


def test_a_bar_is_told_what_there_is_to_read_and_what_has_been(saver, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def watching(title, total, done):
        seen.append((title, total, done()))
        yield
        seen.append(done())

    monkeypatch.setattr(_restore, "watching", watching)
    saver.save({"w": jnp.ones(100), "step": 3}, 7)
    saver.restore({"w": jnp.ones(100), "step": 3})
    assert seen == [("restoring 7", 400, 0), 400]
