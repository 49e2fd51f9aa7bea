"""Reading from object stores: how many requests, of how many bytes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from safetensors.numpy import save_file

import jscope as js
from jscope import formats, tf_checkpoint
from jscope._cli._app import run
from jscope.interop import tensorflow

SHAPE = (512, 1024)
VALUE = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
NBYTES = VALUE.nbytes


def sharded(count, spec):
    mesh = Mesh(np.array(jax.devices()[:count]), ("x",))
    return jax.ShapeDtypeStruct(SHAPE, np.float32, sharding=NamedSharding(mesh, spec))


def ranges(requests, ending):
    """The bytes of the ranges that were read of objects with this ending."""
    return sum(r.nbytes for r in requests if r.path.endswith(ending) and r.nbytes is not None)


@pytest.mark.parametrize("spec", [PartitionSpec("x"), PartitionSpec(None, "x")], ids=str)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_each_device_reads_its_own_part_of_safetensors(s3, tmp_path, count, spec):
    save_file({"w": VALUE}, tmp_path / "x.safetensors")
    s3.put(tmp_path)
    url = s3.url("x.safetensors")
    restored = js.Saver(url).restore({"w": sharded(count, spec)})["w"]
    np.testing.assert_array_equal(restored, VALUE)
    read = ranges(s3.requests(), ".safetensors")
    # Of columns the runs of bytes are short, and what is between them is read as well.
    assert read <= 1.05 * NBYTES * (1 if spec == PartitionSpec("x") else count)


def test_long_runs_of_a_box_are_read_alone(s3, tmp_path):
    value = np.arange(8 << 18, dtype=np.int64).reshape(8, 1 << 18)
    save_file({"w": value}, tmp_path / "x.safetensors")
    s3.put(tmp_path)
    source = formats.open(s3.url("x.safetensors"))
    s3.requests()
    into = np.empty((8, 1 << 16), np.int64)
    source.start("w", ((0, 8), (1 << 16, 2 << 16)), into)()
    np.testing.assert_array_equal(into, value[:, 1 << 16 : 2 << 16])
    assert ranges(s3.requests(), ".safetensors") == into.nbytes


@pytest.mark.parametrize(
    "box", [((0, 4), (0, 3), (2, 4)), ((1, 4), (1, 2), (0, 5)), ((2, 3), (1, 2), (1, 4))]
)
@pytest.mark.parametrize("short", [0, 1 << 14])
@pytest.mark.parametrize("band", [4, 70, 1 << 20])
def test_any_box_is_read(s3, tmp_path, monkeypatch, box, short, band):
    monkeypatch.setattr("jscope.formats.safetensors._SHORT_RUN", short)
    monkeypatch.setattr("jscope.formats.safetensors._BAND", band)
    value = np.arange(60, dtype=np.int16).reshape(4, 3, 5)
    save_file({"x": value}, tmp_path / "x.safetensors")
    s3.put(tmp_path)
    index = tuple(slice(a, b) for a, b in box)
    into = np.full(value[index].shape, -1, np.int16)
    formats.open(s3.url("x.safetensors")).start("x", box, into)()
    np.testing.assert_array_equal(into, value[index])


@pytest.mark.parametrize("count", [1, 4])
def test_each_device_reads_its_own_part_of_a_large_array(s3, tmp_path, count):
    mesh = Mesh(np.array(jax.devices()[:4]), ("x",))
    value = np.arange(8 << 20, dtype=np.float32).reshape(4, -1)
    placed = jax.device_put(value, NamedSharding(mesh, PartitionSpec("x")))
    js.Saver(tmp_path).save({"w": placed}, 1)
    s3.put(tmp_path, "run")
    mesh = Mesh(np.array(jax.devices()[:count]), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    target = {"w": jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)}
    with js.Saver(s3.url("run")) as saver:
        np.testing.assert_array_equal(saver.restore(target)["w"], value)
        assert saver.report.verified
    shards = [r for r in s3.requests() if "/run/1/0/" in r.path]
    assert len(shards) == 4


def test_many_small_arrays_are_read_by_few_requests(s3, tmp_path):
    tree = {f"w{i:04}": jnp.full(1024, i, jnp.float32) for i in range(1000)}
    js.Saver(tmp_path).save(tree, 1)
    s3.put(tmp_path, "run")
    restored = js.Saver(s3.url("run")).restore(tree)
    assert all(np.array_equal(restored[name], value) for name, value in tree.items())
    requests = s3.requests()
    assert len(requests) <= 10
    assert ranges(requests, "packed.bin") <= 1.05 * 1000 * 4096


def test_the_newest_of_many_steps_is_found_by_few_requests(s3, tmp_path):
    for step in range(20):
        js.Saver(tmp_path, max_to_keep=None).save({"w": jnp.full(3, step)}, step)
    s3.put(tmp_path, "run")
    assert js.Saver(s3.url("run")).latest_step() == 19
    assert len(s3.requests()) <= 5


def test_one_small_array_is_read_alone(s3, tmp_path):
    js.Saver(tmp_path).save({f"w{i}": jnp.full(1024, i, jnp.float32) for i in range(100)}, 1)
    s3.put(tmp_path, "run")
    np.testing.assert_array_equal(js.load_variable(s3.url("run/1"), "w57"), np.full(1024, 57.0))
    requests = s3.requests()
    assert [r.path.rpartition("/")[2] for r in requests] == ["", "jscope.json", "packed.bin"]
    assert requests[2].nbytes == 4096


def test_a_variable_of_tensorflow_is_read_alone(s3, tmp_path):
    tf_checkpoint.write(tmp_path / "m-1", {f"w{i}": np.full(256, i) for i in range(9)})
    s3.put(tmp_path, "run")
    checkpoint = tf_checkpoint.open(s3.url("run"))
    s3.requests()
    np.testing.assert_array_equal(checkpoint["w5"].read(), np.full(256, 5))
    (request,) = s3.requests()
    assert request.nbytes == 2048


def test_a_large_file_is_read_by_several_requests_at_once(s3, tmp_path, monkeypatch):
    monkeypatch.setattr("jscope._stores.bucket._PART", 1 << 18)
    np.savez(tmp_path / "x.npz", w=VALUE)
    s3.put(tmp_path)
    np.testing.assert_array_equal(js.load_variable(s3.url("x.npz"), "w"), VALUE)
    assert sum((r.nbytes or 0) == 1 << 18 for r in s3.requests()) >= NBYTES // (1 << 18) - 1


def test_a_state_file_of_tensorflow_names_files_of_the_store_alone(s3, tmp_path):
    prefix = tf_checkpoint.write(tmp_path / "m-1", {"w": np.zeros(2)})
    state = tf_checkpoint.CheckpointState(prefix)
    tf_checkpoint.write_state(tmp_path, state)
    s3.put(tmp_path, "run")
    with pytest.raises(js.CheckpointNotFoundError, match="which is not there"):
        tf_checkpoint.open(s3.url("run"))
    url = s3.url("run/m-1")
    text = f'model_checkpoint_path: "{url}"\nall_model_checkpoint_paths: "{url}"\n'
    s3.put_object("run/checkpoint", text.encode())
    assert tf_checkpoint.latest_checkpoint(s3.url("run")) == url
    assert list(tf_checkpoint.open(s3.url("run"))) == ["w"]


def test_a_saver_sees_what_is_saved_after_it_was_made(s3, tmp_path):
    saver = js.Saver(s3.url("run"))
    assert saver.all_steps() == ()
    assert saver.latest_step() is None
    local = js.Saver(tmp_path)
    for step in (1, 2):
        local.save({"w": jnp.full(3, step)}, step, metrics={"loss": step})
        s3.put(tmp_path, "run")
        assert saver.latest_step() == step
        np.testing.assert_array_equal(saver.restore({"w": jnp.zeros(3, int)})["w"], [step] * 3)
    assert saver.all_steps() == (1, 2)
    assert js.Saver(s3.url("run"), best="min:loss").best_step() == 1
    assert saver.verify() == saver.verify(1) == 12 + 12 * jax.config.jax_enable_x64
    paths = js.checkpoints_iterator(s3.url("run"), timeout=0)
    assert list(map(str, paths)) == [s3.url("run/2")]


def test_a_damaged_step_in_a_store_is_skipped_with_a_warning(s3, tmp_path):
    local = js.Saver(tmp_path)
    for step in (1, 2):
        local.save({"w": jnp.full(3, step)}, step)
    index = tmp_path / "2" / "jscope.json"
    index.write_bytes(index.read_bytes().replace(b'"step": 2', b'"step": 3'))
    s3.put(tmp_path, "run")
    with pytest.warns(js.CheckpointWarning, match="Step 2 can't be read from s3://"):
        assert js.Saver(s3.url("run")).latest_step() == 1


def test_a_missing_object_makes_a_step_damaged(s3, tmp_path):
    js.Saver(tmp_path).save({"w": jnp.ones(3)}, 1)
    (tmp_path / "1" / "packed.bin").unlink()
    s3.put(tmp_path, "run")
    with pytest.raises(js.CheckpointError, match=r"packed\.bin is gone"):
        js.Saver(s3.url("run")).latest_step()


# The other functions and commands that read.


def test_tensorflow_s_functions_read_stores(s3, tmp_path):
    prefix = tf_checkpoint.write(tmp_path / "m-1", {"enc/w": VALUE[:2], "step": np.int64(7)})
    s3.put(tmp_path, "run")
    url = s3.url("run")
    assert js.VarTree(tensorflow.load(url)) == js.VarTree(tensorflow.load(prefix))
    target = js.VarTree({"enc/w": jnp.zeros((2, 1024))})
    restored, _ = tensorflow.restore(target, f"{url}/m-1", drop="step")
    np.testing.assert_array_equal(restored["enc/w"], VALUE[:2])
    assert tf_checkpoint.list_variables(f"{url}/m-1.index") == [("enc/w", (2, 1024)), ("step", ())]
    assert tf_checkpoint.load_variable(url, "step") == 7
    assert tf_checkpoint.read_state(url).model_checkpoint_path == f"{url}/m-1"


def test_version_1_of_tensorflow_s_format_is_read(s3):
    golden = Path(__file__).parents[1] / "golden" / "tf"
    s3.put(golden, "golden")
    found = [p for p in golden.iterdir() if tf_checkpoint._location.exists(p)]
    of_version_1 = [p.name for p in found if tf_checkpoint.open(p).version == 1]
    assert of_version_1
    for name in of_version_1:
        here, there = (
            tf_checkpoint.open(golden / name),
            tf_checkpoint.open(s3.url(f"golden/{name}")),
        )
        assert there.version == 1
        assert list(there) == list(here)
        for variable in here:
            np.testing.assert_array_equal(there[variable].read(), here[variable].read())


def test_the_commands_read_stores(s3, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    js.Saver("run").save({"enc/w": jnp.ones((2, 3)), "n": jnp.arange(3)}, 1)
    s3.put("run", "run")
    url = s3.url("run/1")
    for command in ("ls URL", "show URL n", "verify URL", "diff URL run/1", "convert URL x.npz"):
        assert run(command.replace("URL", url).split()) == 0, command
    assert "enc/w" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load("x.npz")["n"], [0, 1, 2])
    assert run(["convert", "x.npz", s3.url("x.npz")]) == 0
    np.testing.assert_array_equal(js.load_variable(s3.url("x.npz"), "n"), [0, 1, 2])
    assert run(["convert", "x.npz", s3.url("x.npz")]) == 2
    assert "x.npz exists, and is not overwritten without a request" in capsys.readouterr().err
