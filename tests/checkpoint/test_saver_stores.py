"""A Saver of a store has all that one of a directory has; the store is S3, by moto's server."""

import json
import os
import signal
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope._cli import _app
from jscope._stores.paths import located
from jscope._stores.store import store_of
from jscope.formats import _own_names
from jscope.formats._own_names import StepNames, void
from jscope.saver import Saver, _claims, _in_store

ROWS = 1 << 11
LARGE = np.arange(ROWS * 1024, dtype=np.float32).reshape(ROWS, 1024)  # 8 MiB
TREE = {
    "w": jnp.arange(6.0).reshape(2, 3),
    "b": jnp.ones(3, jnp.bfloat16),
    "i4": jnp.arange(5, dtype=jnp.int4),
    "u4": jnp.arange(5, dtype=jnp.uint4),
    "empty": jnp.zeros((0, 2)),
    "key": jax.random.key(3),
    "numpy": np.float64(2.5) * np.ones(2),
    "n": 3,
    "none": None,
    "large": LARGE,
}


@pytest.fixture
def saver(s3):
    with Saver(s3.url("run")) as saver:
        yield saver


def version(n):
    return {"version": n, "large": LARGE + n}


def read(saver, step=None):
    restored = saver.restore(version(0), step)
    np.testing.assert_array_equal(restored["large"], LARGE + restored["version"])
    return restored["version"]


def names(saver, step):
    store = store_of(located(str(saver.directory)))
    return StepNames.of(name.partition("/")[2] for name in store.names(str(step)))


def equal(a, b):
    is_key = isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    if is_key:
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.asarray(a).tobytes() == np.asarray(b).tobytes() if hasattr(a, "dtype") else a == b


# As on a disk.


@pytest.mark.parametrize("sharded", [True, False])
def test_every_kind_of_value_is_saved_and_restored_to_the_bit(s3, sharded):
    saver = Saver(s3.url("run"), sharded=sharded)
    assert str(saver.save(TREE, 12, metadata={"m": 1})) == f"s3://{s3.bucket}/run/12"
    restored = saver.restore(TREE)
    assert all(equal(restored[name], TREE[name]) for name in TREE)
    assert all(type(restored[name]) is type(TREE[name]) for name in TREE)
    with saver.open(12) as checkpoint:
        assert checkpoint.metadata == {"m": 1}
        np.testing.assert_array_equal(checkpoint["large"][5:7, 3], LARGE[5:7, 3])
    assert saver.verify() > LARGE.nbytes
    assert saver.restore()["n"] == 3


def test_each_shard_is_an_object_and_each_device_reads_its_own_part(s3, saver):
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("a", "b"))
    sharding = NamedSharding(mesh, PartitionSpec("a", "b"))
    saver.save({"x": jax.device_put(LARGE, sharding)}, 1)
    (data,) = names(saver, 1).data.values()
    half, quarter = 512, ROWS // 4
    assert sorted(name.partition("/")[2] for name in data) == sorted(
        f"0/{row * quarter}.{column * half}" for row in range(4) for column in range(2)
    )
    for other in (
        sharding,
        NamedSharding(mesh, PartitionSpec(None, ("a", "b"))),
        jax.sharding.SingleDeviceSharding(jax.devices()[3]),
    ):
        s3.requests()
        target = {"x": jax.ShapeDtypeStruct(LARGE.shape, LARGE.dtype, sharding=other)}
        restored = saver.restore(target)["x"]
        np.testing.assert_array_equal(restored, LARGE)
        assert restored.sharding == other
        read = [r for r in s3.requests() if "/0/" in r.path]
        assert sum(r.nbytes for r in read) == LARGE.nbytes


def test_a_part_without_checksums_is_read_by_its_rows(s3):
    with Saver(s3.url("run"), verify=False) as saver:
        saver.save({"x": LARGE}, 1)
        checkpoint = saver.open()
        s3.requests()
        np.testing.assert_array_equal(checkpoint["x"][7:9, 1:4], LARGE[7:9, 1:4])
        (request,) = [r for r in s3.requests() if "/0/" in r.path]
        assert (request.first, request.nbytes) == (7 * 4096, 2 * 4096)


def test_steps_are_overwritten_evicted_and_listed(s3):
    saver = Saver(s3.url("run"), max_to_keep=2)
    for step in (1, 2, 3):
        saver.save(version(step), step)
    assert saver.all_steps() == (2, 3)
    assert saver.latest_step() == 3
    assert not names(saver, 1).data
    with pytest.raises(
        js.CheckpointExistsError, match=r"Step 3 is saved already, in s3://.*/run/3"
    ):
        saver.save(version(4), 3)
    saver.save(version(4), 3, overwrite=True)
    assert read(saver) == 4
    found = names(saver, 3)
    assert [index.number for index in found.indices] == [2]
    assert found.data.keys() == {found.indices[0].save_id}
    assert not found.claims
    assert str(js.latest_checkpoint(saver.directory)) == f"s3://{s3.bucket}/run/3"
    assert js.checkpoint_exists(f"s3://{s3.bucket}/run/2")
    assert dict(js.list_variables(saver.directory)) == {"version": [], "large": [ROWS, 1024]}


def test_the_best_stay(s3):
    saver = Saver(s3.url("run"), max_to_keep=1, best="min:loss")
    for step, loss in ((1, 0.1), (2, 0.3), (3, 0.2)):
        saver.save({"x": 1}, step, metrics={"loss": loss})
    assert saver.all_steps() == (1, 3)
    assert Saver(s3.url("run"), best="min:loss").best_step() == 1


def test_an_asynchronous_save_keeps_what_it_was_given(saver):
    array = LARGE.copy()
    pending = saver.save_async({"x": array, "j": jnp.ones(3)}, 1)
    array[:] = 0
    assert str(pending.result()) == f"{saver.directory}/1"
    np.testing.assert_array_equal(saver.restore({"x": LARGE, "j": jnp.zeros(3)})["x"], LARGE)


def test_the_end_of_a_program_saves(saver):
    def train():
        with saver.saving_on_termination() as leave_if_asked:
            os.kill(os.getpid(), signal.SIGTERM)
            leave_if_asked(version(7), 7)

    with pytest.raises(SystemExit) as ended:
        train()
    assert ended.value.code == 128 + signal.SIGTERM
    assert read(saver, 7) == 7


def test_a_checkpoint_uploaded_from_a_disk_is_listed_restored_and_replaced(tmp_path, s3):
    with Saver(tmp_path) as local:
        local.save(version(1), 5)
    s3.put(tmp_path, "run")
    saver = Saver(s3.url("run"))
    assert read(saver, 5) == 1
    saver.save(version(2), 5, overwrite=True)
    assert read(saver) == 2
    assert "" not in names(saver, 5).data
    assert [index.number for index in names(saver, 5).indices] == [1]


def test_a_checkpoint_downloaded_from_a_store_is_one_of_a_local_directory(s3, saver, tmp_path):
    saver.save(version(1), 4)
    saver.save(version(2), 5)
    saver.save(version(3), 5, overwrite=True)
    store = store_of(located(str(saver.directory)))
    for name in store.names():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(store.read(name))
    local = Saver(tmp_path)
    assert local.all_steps() == (4, 5)
    assert read(local, 4) == 1
    assert read(local) == 3
    assert local.verify(5) == LARGE.nbytes
    with pytest.raises(js.CheckpointExistsError, match="Step 5 is saved already"):
        local.save(version(4), 5)
    local.save(version(4), 5, overwrite=True)
    assert read(local) == 4
    assert "jscope.json" in os.listdir(tmp_path / "5")
    (data,) = (path for path in (tmp_path / "4").iterdir() if path.is_dir())
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(js.CheckpointError, match="links in a checkpoint are not followed"):
        local.restore(version(0), 4)


def test_what_is_in_the_way_is_not_touched(s3, saver):
    s3.put_object("run/12/notes.txt", b"mine")
    with pytest.raises(js.CheckpointExistsError, match="in the way of step 12, and is not a check"):
        saver.save({"x": 1}, 12, overwrite=True)


def test_a_checkpoint_is_converted_to_one_in_a_store_and_back(tmp_path, s3, capsys):
    values = {"w": np.arange(5, dtype=np.float32), "large": LARGE}
    np.savez(tmp_path / "m.npz", **values)
    for source, target in (
        (f"{tmp_path}/m.npz", s3.url("run/7")),
        (s3.url("run/7"), f"{tmp_path}/back.npz"),
    ):
        assert _app.run(["convert", source, target]) == 0, capsys.readouterr()
    assert Saver(s3.url("run")).all_steps() == (7,)
    with np.load(tmp_path / "back.npz") as back:
        assert {name: back[name].tobytes() for name in back} == {
            name: array.tobytes() for name, array in values.items()
        }
    capsys.readouterr()
    assert _app.run(["convert", f"{tmp_path}/m.npz", s3.url("run/7")]) != 0
    assert "Step 7 is saved already" in capsys.readouterr().err
    for command in (["ls"], ["verify"], ["show"]):
        words = ["w"] if command == ["show"] else []
        assert _app.run([*command, s3.url("run"), *words]) == 0, capsys.readouterr()


# Requests.


def test_small_arrays_take_few_requests(s3, saver):
    s3.requests()
    saver.save({str(i): np.full(1024, i, np.float32) for i in range(2000)}, 1)
    assert len(s3.requests()) == 11
    saver.save({"x": np.ones(3)}, 2)
    saver.save({"x": np.ones(3)}, 3)
    s3.requests()
    saver.save({str(i): np.full(1024, i, np.float32) for i in range(2000)}, 4)
    assert len(s3.requests()) == 11
    s3.requests()
    saver.restore({str(i): np.zeros(1024, np.float32) for i in range(2000)}, 4)
    assert len(s3.requests()) == 3
    saver.restore({str(i): np.zeros(1024, np.float32) for i in range(2000)})
    listing, index, data = s3.requests()
    assert "list-type=2" in listing.query
    assert index.path.endswith(".json")
    assert data.path.endswith("/packed.bin")


@pytest.mark.parametrize("steps", [1, 4])
def test_of_any_number_of_steps_the_newest_takes_few_requests(s3, saver, monkeypatch, steps):
    for step in range(steps):
        saver.save({"x": np.full(3, step)}, step)
    monkeypatch.setattr(_own_names, "_valid", {})  # as in another process
    s3.requests()
    restored = Saver(s3.url("run")).restore({"x": np.zeros(3, int)})
    np.testing.assert_array_equal(restored["x"], [steps - 1] * 3)
    requests = s3.requests()
    assert sum("list-type" in request.query for request in requests) == 1
    assert len(requests) == 3  # and the index, and the array


def test_a_step_of_void_indices_alone_is_none(s3, saver, monkeypatch):
    saver.save({"x": np.ones(3)}, 1)
    store_of(located(s3.url("run"))).create(f"2/jscope.1.{'0' * 32}.json", void("0" * 32))
    monkeypatch.setattr(_own_names, "_valid", {})
    assert Saver(s3.url("run")).latest_step() == 1
    Saver(s3.url("run")).restore({"x": np.ones(3)})
    only = located(s3.url("other"))
    store_of(only).create(f"2/jscope.1.{'0' * 32}.json", void("0" * 32))
    assert Saver(str(only)).latest_step() is None


def test_large_arrays_take_one_request_for_each_shard(s3, saver):
    mesh = Mesh(np.array(jax.devices()[:8]), ("a",))
    arrays = {
        name: jax.device_put(LARGE, NamedSharding(mesh, PartitionSpec("a"))) for name in "abc"
    }
    s3.requests()
    saver.save(arrays, 1)
    assert len(s3.requests()) <= 3 * 8 + 15


# Damage.


def test_damage_is_found(s3, saver):
    saver.save({"small": np.ones(4, np.float32), "large": LARGE}, 1)
    store = store_of(located(str(saver.directory)))
    (save_id,) = names(saver, 1).data
    store.write(f"1/{save_id}/0/0.0", b"\1" + LARGE.tobytes()[1:])
    with pytest.raises(js.CheckpointError, match=r"'large' in 0/0\.0: the checksum of its part at"):
        saver.verify()
    with pytest.raises(js.CheckpointError, match="the checksum of"):
        saver.restore({"large": LARGE}, unexpected="ignore")
    store.write(f"1/{save_id}/0/0.0", LARGE.tobytes()[:-1])
    with pytest.raises(js.CheckpointError, match="ends too soon"):
        saver.restore({"large": LARGE}, unexpected="ignore")
    store.remove([f"1/{save_id}/0/0.0"])
    with pytest.raises(js.CheckpointError, match=r"0/0\.0 is gone"):
        saver.restore({"large": LARGE}, unexpected="ignore")


def test_a_damaged_newest_step_is_skipped_with_a_warning(saver):
    saver.save(version(1), 1)
    saver.save(version(2), 2)
    store = store_of(located(str(saver.directory)))
    store.write(f"2/{names(saver, 2).indices[0].file}", b"damaged")
    with pytest.warns(
        js.CheckpointWarning, match=r"jscope\.1\..* is damaged.*Step 1 is the newest"
    ):
        assert read(saver) == 1


# Several writers.


def paused(saver, tree, step, at, **options):
    """A save that waits before its commit; how to go on, which gives what it raised."""
    reached, go_on = threading.Event(), threading.Event()
    commit, outcome = _claims.Claim.commit, []

    def wait(claim, index):
        if not reached.is_set():
            reached.set()
            assert go_on.wait(60)
        commit(claim, index)

    def run():
        try:
            saver.save(tree, step, **options)
            outcome.append(None)
        except js.JscopeError as error:
            outcome.append(error)

    at.setattr(_claims.Claim, "commit", wait)
    thread = threading.Thread(target=run)
    thread.start()
    assert reached.wait(60)

    def finish():
        go_on.set()
        thread.join()
        return outcome[0]

    return finish


def test_of_two_savers_of_one_step_the_first_to_claim_it_saves(s3, saver, monkeypatch):
    finish = paused(saver, version(1), 1, monkeypatch)
    with pytest.raises(js.CheckpointExistsError, match=r"Step 1 is being saved to .*by process"):
        Saver(s3.url("run")).save(version(2), 1)
    assert finish() is None
    assert read(saver) == 1


def test_of_two_overwriting_savers_the_later_claim_is_the_checkpoint(s3, saver, monkeypatch):
    saver.save(version(1), 1)
    finish = paused(saver, version(2), 1, monkeypatch, overwrite=True)
    other = Saver(s3.url("run"))
    other.save(version(3), 1, overwrite=True)
    assert read(other) == 3
    assert finish() is None
    assert read(saver) == 3
    Saver(s3.url("run")).save(version(4), 2)
    assert [index.number for index in names(saver, 1).indices] == [3]


def test_a_writer_paused_past_its_lease_saves_nothing_and_spoils_nothing(s3, monkeypatch):
    monkeypatch.setattr(_claims, "_is_alive", lambda process: True)
    monkeypatch.setattr(_in_store, "_RENEWALS", 1e-9)  # and it isn't renewed
    slow = Saver(s3.url("run"), lease=0.05)
    finish = paused(slow, version(1), 1, monkeypatch)
    monkeypatch.setattr(_claims, "_claimed", set())
    threading.Event().wait(0.1)
    other = Saver(s3.url("run"), lease=0.05)
    other.save(version(2), 1)
    error = finish()
    assert isinstance(error, js.CheckpointError)
    assert "took this save for one that has crashed" in str(error)
    assert "A longer lease is Saver(..., lease=seconds)" in str(error)
    assert read(other, 1) == 2
    found = names(other, 1)
    assert not found.claims
    assert len(found.data) == 1


def test_a_claim_is_renewed_while_its_process_lives(s3, monkeypatch):
    monkeypatch.setattr(_claims, "_is_alive", lambda process: True)
    slow = Saver(s3.url("run"), lease=1.0)
    finish = paused(slow, version(1), 1, monkeypatch)
    monkeypatch.setattr(_claims, "_claimed", set())
    threading.Event().wait(1.5)
    Saver(s3.url("run"), lease=1.0).save(version(2), 2)
    assert finish() is None
    assert read(slow, 1) == 1


# What is refused.


def test_what_a_store_cannot_do_is_refused_with_the_line_to_write(s3, saver):
    with pytest.raises(
        js.CheckpointValueError, match=r"portable=True writes local directories onl"
    ):
        saver.save({"x": np.ones(2)}, 1, portable=True)
    with pytest.raises(js.CheckpointValueError, match="compression is for local directories"):
        Saver(s3.url("run"), compression="zstd")
    for lease in (0, -1.0, "1", None, True, float("nan")):
        with pytest.raises(js.CheckpointValueError, match="lease is a number of seconds above 0"):
            Saver(s3.url("run"), lease=lease)
    assert saver.all_steps() == ()


def test_a_store_that_fails_is_named_and_nothing_is_lost(proxy, saver):
    with pytest.raises(js.CheckpointError, match=r"no-such-bucket.*there is no bucket"):
        Saver("s3://no-such-bucket-of-jscope/run").save({"x": 1}, 1)
    saver.save(version(1), 1)
    proxy.arm("killed before", 1, ("PUT",))
    with pytest.raises(
        js.CheckpointError, match=r"s3://.*/run/2/claim\.1 can't be written: no perm"
    ):
        saver.save(version(2), 2)
    assert proxy.disarm()
    assert saver.all_steps() == (1,)
    saver.save(version(2), 2)
    assert read(saver) == 2


def test_no_secret_is_stored(s3, saver):
    saver.save({"x": np.ones(3)}, 1)
    store = store_of(located(str(saver.directory)))
    for name in store.names():
        assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in store.read(name)


def test_what_could_not_be_evicted_is_a_warning_and_goes_with_the_next_save(s3, proxy):
    saver = Saver(s3.url("run"), max_to_keep=1)
    saver.save(version(1), 1)
    proxy.arm("killed before", 1, ("DELETE",))
    with pytest.warns(js.CheckpointWarning, match="Step 2 is saved to .*could not be removed"):
        saver.save(version(2), 2)
    assert proxy.disarm()
    assert saver.all_steps() == (1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saver.save(version(3), 3)
    assert saver.all_steps() == (3,)
    assert not names(saver, 2).claims


def test_the_index_is_the_format_that_is_documented(saver):
    saver.save({"large": LARGE, "x": np.ones(2)}, 1)
    found = names(saver, 1)
    store = store_of(located(str(saver.directory)))
    index = json.loads(store.read(f"1/{found.indices[0].file}"))
    assert index["save_id"] == found.indices[0].save_id
    assert index["files"].keys() == {"packed.bin"}
    assert index["values"]["large"].keys() == {"shape", "dtype", "place", "key", "crc32c"}
    assert index["values"]["large"]["place"] == "raw"
    data = store.read(f"1/{index['save_id']}/0/0.0")
    assert data == LARGE.tobytes()
