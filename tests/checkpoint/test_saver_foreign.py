"""Checkpoints that other libraries wrote, restored by the same verb.

The peers write; what comes back is compared with what they were given, not with what they read.
"""

import json
import warnings
from mmap import mmap

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as v0
import pytest
from flax import serialization
from flax.training import train_state
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1

import jscope as js
from jscope import formats, tf_checkpoint
from jscope._stores.files import LocalFile
from jscope.formats import safetensors


def make_tree():
    return {
        "params": {
            "Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3, jnp.bfloat16)}
        },
        "opt_state": [jnp.zeros(2), (jnp.ones(1), {}), None],
        "step": 7,
        "rate": 0.1,
        "done": False,
        "mask": jnp.array([True, False]),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
    }


def abstract(tree):
    """The same structure without any of the values."""

    def like(leaf):
        if hasattr(leaf, "shape"):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        return type(leaf)()

    return jax.tree.map(like, tree)


def save_v0(path, tree, **options):
    handler = v0.PyTreeCheckpointHandler(**options)
    v0.Checkpointer(handler).save(path, args=v0.args.PyTreeSave(tree))
    return path


def save_v0_default(path, tree):
    v0.PyTreeCheckpointer().save(path, tree)
    return path


def save_standard(path, tree):
    with v0.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


def save_v1(path, tree):
    v1.save(path, tree)
    return path


def save_manager(path, tree):
    """As MaxText's and most training loops': a step with one item."""
    with v0.CheckpointManager(path, item_names=("items",)) as manager:
        for step in (1, 2):
            manager.save(step, args=v0.args.Composite(items=v0.args.PyTreeSave(tree)))
    return path


def save_default_item(path, tree):
    with v0.CheckpointManager(path) as manager:
        manager.save(3, args=v0.args.StandardSave(tree))
    return path


def save_v1_training(path, tree):
    with v1.training.Checkpointer(path) as checkpointer:
        checkpointer.save(5, tree)
    return path


ORBAX = {
    "v0": save_v0_default,
    "v0, no database": lambda path, tree: save_v0(path, tree, use_ocdbt=False, use_zarr3=False),
    "v0, zarr3": lambda path, tree: save_v0(path, tree, use_ocdbt=True, use_zarr3=True),
    "v0, zarr3, no database": lambda p, tree: save_v0(p, tree, use_ocdbt=False, use_zarr3=True),
    "v0, standard": save_standard,
    "v0, manager with items": save_manager,
    "v0, manager": save_default_item,
    "v1": save_v1,
    "v1, training": save_v1_training,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One checkpoint of each kind."""
    tree = make_tree()
    directory = tmp_path_factory.mktemp("orbax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = {
            kind: save(directory / f"c{i}", tree) for i, (kind, save) in enumerate(ORBAX.items())
        }
    return tree, paths


def same(a, b):
    return js.VarTree({"x": a}) == js.VarTree({"x": b})


@pytest.mark.parametrize("kind", ORBAX)
def test_a_checkpoint_of_orbax_is_restored_in_the_users_structure(written, tmp_path, kind):
    tree, paths = written
    for saver, step in ((js.Saver(paths[kind]), None), (js.Saver(tmp_path), paths[kind])):
        restored = saver.restore(abstract(tree), step)
        assert jax.tree.structure(restored) == jax.tree.structure(tree)
        assert same(restored, tree)
        assert type(restored["step"]) is int
        assert not saver.report.verified


@pytest.mark.parametrize("kind", ["v0", "v0, no database", "v1"])
def test_names_parts_and_conversions_are_the_same_as_of_own_checkpoints(written, tmp_path, kind):
    tree, paths = written
    target = js.VarTree(
        {"dense/w": jnp.zeros((2, 3)), "dense/b": jnp.zeros(3), "head": jnp.ones(1)}
    )
    saver = js.Saver(tmp_path)
    names = {"params/Dense_0": "dense", "params/Dense_0/kernel": "dense/w"}
    restored = saver.restore(
        target,
        paths[kind],
        select="dense/**",
        rename=names | {"params/Dense_0/bias": "dense/b"},
        convert=True,
    )
    expected = {"dense/w": tree["params"]["Dense_0"]["kernel"], "dense/b": jnp.ones(3)}
    assert restored == target | expected
    assert saver.report.bytes_read < 5000
    nested = {"params": {"Dense_0": {"kernal": jnp.zeros((2, 3))}}}
    with pytest.raises(js.TreeMismatchError, match="missing: 'params/Dense_0/kernal' float32"):
        saver.restore(nested, paths[kind], unexpected="ignore")


def test_each_device_reads_its_part(written, tmp_path):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    target = {
        "params": {
            "Dense_0": {"kernel": jax.ShapeDtypeStruct((2, 3), "float32", sharding=sharding)}
        }
    }
    for path in written[1].values():
        restored = js.Saver(path).restore(target, unexpected="ignore")["params"]["Dense_0"][
            "kernel"
        ]
        assert restored.sharding == sharding
        np.testing.assert_array_equal(restored, np.arange(6.0).reshape(2, 3))


def test_a_checkpoint_is_seen_before_it_is_read(written):
    for path in written[1].values():
        with js.Saver(path).open() as checkpoint:
            assert checkpoint["params/Dense_0/bias"].dtype == "bfloat16"
            assert checkpoint["params/Dense_0/kernel"].shape == (2, 3)
            np.testing.assert_array_equal(checkpoint["params/Dense_0/kernel"][1, ::2], [3, 5])
            assert (checkpoint["step"].read(), checkpoint["step"].kind) == (7, "python int")
            assert checkpoint["keys"].kind == "key<rbg>"
            assert jax.random.key_impl(checkpoint["keys"].read()) == "rbg"
        assert ("params/Dense_0/kernel", [2, 3]) in js.list_variables(path)
        assert js.load_variable(path, "rate") == 0.1


def test_steps_of_other_libraries_are_found(written, tmp_path):
    _, paths = written
    manager = paths["v0, manager with items"]
    assert js.Saver(manager).all_steps() == (1, 2)
    assert js.latest_checkpoint(manager) == manager / "2"
    assert js.Saver(manager).restore({"step": 0}, 1, unexpected="ignore") == {"step": 7}
    with pytest.raises(js.CheckpointNotFoundError, match=r"no step 3 in .*; it has steps 1, 2"):
        js.Saver(manager).restore({"step": 0}, 3)
    assert js.latest_checkpoint(paths["v0"]) is None
    assert js.checkpoint_exists(paths["v0"])
    assert not js.checkpoint_exists(tmp_path)
    # A directory that has steps of jscope has no others.
    with js.Saver(manager) as saver:
        path = saver.save({"mine": 1}, 9)
        assert saver.restore({"mine": 0}) == {"mine": 1}
    assert js.latest_checkpoint(manager) == path


def test_several_items_are_scopes(tmp_path):
    with v0.CheckpointManager(tmp_path, item_names=("params", "extra", "notes")) as manager:
        items = v0.args.Composite(
            params=v0.args.StandardSave({"w": jnp.ones(2)}),
            extra=v0.args.StandardSave({"x": jnp.zeros(1)}),
            notes=v0.args.JsonSave({"a": 1}),
        )
        manager.save(4, args=items)
    restored = js.Saver(tmp_path).restore({"params/w": jnp.zeros(2), "extra/x": jnp.ones(1)})
    assert (restored["params/w"][0], restored["extra/x"][0]) == (1, 0)


def test_metadata_of_orbax_is_kept(tmp_path):
    v1.save(tmp_path / "c", {"w": jnp.ones(1)}, custom_metadata={"model": "tiny"})
    assert js.Saver(tmp_path / "c").open().metadata == {"model": "tiny"}


def test_leaves_that_orbax_stored_as_one_are_refused(tmp_path):
    # It may also fail to, by chance, so here it is written by hand.
    v1.save(tmp_path / "c", {"a.b": jnp.zeros(2)})
    file = tmp_path / "c" / "state" / "_METADATA"
    members = json.loads(file.read_text())
    (leaf,) = members["tree_metadata"].values()
    keys = [{"key": key, "key_type": 2} for key in "ab"]
    members["tree_metadata"]["('a', 'b')"] = leaf | {"key_metadata": keys}
    file.write_text(json.dumps(members))
    with pytest.raises(js.CheckpointError, match=r"leaves of one name: \('a.b',\), \('a', 'b'\)"):
        js.Saver(tmp_path / "c").restore({"a.b": jnp.zeros(2)})


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"tree_metadata": {"x": 3}}'])
def test_a_damaged_checkpoint_of_orbax_is_an_error_of_ours(tmp_path, damage):
    path = save_v0_default(tmp_path / "c", {"w": jnp.ones(2)})
    (path / "_METADATA").write_bytes(damage)
    with pytest.raises(js.CheckpointError, match="_METADATA is damaged"):
        js.Saver(path).restore({"w": jnp.zeros(2)})


def test_an_array_of_orbax_that_is_gone_is_an_error_of_ours(tmp_path):
    path = save_v0(tmp_path / "c", {"w": jnp.ones(2)}, use_ocdbt=False)
    (path / "w" / ".zarray").unlink()
    with pytest.raises(js.CheckpointError, match=r"'w' can't be read: NOT_FOUND"):
        js.Saver(path).restore({"w": jnp.zeros(2)})


# Flax.


APPLY, OPTIMIZER = nn.Dense(3).apply, optax.adam(1e-3)


def make_train_state(key):
    params = nn.Dense(3).init(key, jnp.ones((1, 2)))["params"]
    return train_state.TrainState.create(apply_fn=APPLY, params=params, tx=OPTIMIZER)


def test_a_train_state_of_flax_comes_back_whichever_way_flax_saved_it(tmp_path):
    state = make_train_state(jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"):
        state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params))
    # What flax.training.checkpoints does, with Orbax and before it.
    save_v0_default(tmp_path / "new" / "checkpoint_1", state)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "checkpoint_1").write_bytes(serialization.to_bytes(state))
    for directory in ("new", "old"):
        restored = js.Saver(tmp_path / directory).restore(make_train_state(jax.random.key(1)), 1)
        assert same(restored, state)
        assert type(restored) is train_state.TrainState
        assert restored.step == 1


def test_a_file_that_only_begins_like_one_of_flax_is_an_error_of_ours(tmp_path):
    (tmp_path / "checkpoint_1").write_bytes(b"\x81\xa1")
    with pytest.raises(js.CheckpointError, match="not a checkpoint of Flax, or damaged"):
        js.Saver(tmp_path).restore({"w": jnp.zeros(2)})


# Files.


def write_safetensors(path, arrays):
    with safetensors.Writer(path, arrays) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("spec", [PartitionSpec("x"), PartitionSpec(None, "x"), PartitionSpec()])
def test_a_sharded_restore_of_safetensors_reads_each_byte_once(tmp_path, monkeypatch, count, spec):
    value = np.arange(1024 * 256, dtype=np.float32).reshape(1024, 256)
    write_safetensors(tmp_path / "w.safetensors", {"w": value})
    read = []
    read_into = LocalFile.read_into

    def counted(self, start, into):
        read.append(len(into))
        read_into(self, start, into)

    monkeypatch.setattr(LocalFile, "read_into", counted)
    mapped = []
    monkeypatch.setattr(safetensors.mmap, "mmap", lambda *a, **k: mapped.append(a) or mmap(*a, **k))
    mesh = Mesh(np.array(jax.devices()[:count]), ("x",))
    target = jax.ShapeDtypeStruct((1024, 256), np.float32, sharding=NamedSharding(mesh, spec))
    restored = js.Saver(tmp_path).restore({"w": target}, tmp_path / "w.safetensors")["w"]
    np.testing.assert_array_equal(restored, value)
    assert restored.sharding == target.sharding
    # Columns are not side by side in the file: they are read by a map of it.
    if mapped:
        assert spec == PartitionSpec(None, "x")
        assert sum(read) <= 0.05 * value.nbytes
    else:
        assert value.nbytes <= sum(read) <= 1.05 * value.nbytes


def test_safetensors_are_restored(tmp_path):
    arrays = {
        "model.embed.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
        "model.norm.weight": np.ones(3, ml_dtypes.bfloat16),
    }
    write_safetensors(tmp_path / "one.safetensors", arrays)
    target = js.VarTree(
        {"embed/weight": jnp.zeros((4, 3)), "norm/weight": jnp.zeros(3, "bfloat16")}
    )

    def rename(name):
        return name.removeprefix("model.").replace(".", "/")

    saver = js.Saver(tmp_path / "one.safetensors")
    restored = saver.restore(target, rename=rename)
    assert restored == js.VarTree({rename(name): jnp.asarray(x) for name, x in arrays.items()})
    assert js.load_variable(tmp_path / "one.safetensors", "model.embed.weight")[3, 2] == 11
    # Shards in a directory, as large models come.
    write_safetensors(tmp_path / "two.safetensors", {"lm_head": np.ones(2, np.int8)})
    names = [name for name, _ in js.list_variables(tmp_path)]
    assert names == ["lm_head", "model.embed.weight", "model.norm.weight"]
    write_safetensors(tmp_path / "three.safetensors", {"lm_head": np.ones(2, np.int8)})
    with pytest.raises(js.CheckpointError, match=r"Several files in .* have 'lm_head'"):
        js.list_variables(tmp_path)


def test_numpy_archives_are_restored(tmp_path):
    np.savez(tmp_path / "x.npz", **{"enc/w": np.arange(4.0), "names": np.array(["a", "b"])})
    restored = js.Saver(tmp_path).restore({"enc": {"w": np.zeros(4)}}, tmp_path / "x.npz")
    np.testing.assert_array_equal(restored["enc"]["w"], np.arange(4.0))
    (tmp_path / "y.npz").write_bytes(b"PK")
    with pytest.raises(js.CheckpointError, match="is not an npz file, or damaged"):
        js.Saver(tmp_path).restore({"w": np.zeros(4)}, tmp_path / "y.npz")


@pytest.mark.parametrize("format", ["npz", "tensorflow"])
def test_what_is_read_as_a_whole_is_read_once_for_all_devices(tmp_path, format):
    values = {"w": np.arange(64.0).reshape(8, 8), "n": np.float32(3), "empty": np.zeros((0, 2))}
    path = tmp_path / f"m.{format}"
    np.savez(path, **values) if format == "npz" else tf_checkpoint.write(path, values)
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    sharding = NamedSharding(mesh, PartitionSpec("x", "y"))
    target = {
        "w": jax.ShapeDtypeStruct((8, 8), np.float64, sharding=sharding),
        "n": jnp.zeros(()),
        "empty": np.zeros((0, 2)),
    }
    saver = js.Saver(tmp_path / "mine")
    restored = saver.restore(target, path)
    assert restored["w"].sharding == sharding
    np.testing.assert_array_equal(restored["w"], values["w"])
    assert restored["n"] == 3
    assert restored["empty"].shape == (0, 2)
    assert saver.report.bytes_read == 64 * 8 + 4
    assert saver.open(path)["w"][2:4, 1].tolist() == [17, 25]


def test_tensorflows_checkpoints_are_restored(tmp_path):
    prefix = tmp_path / "model.ckpt-7"
    tf_checkpoint.write(prefix, {"enc/w": np.arange(4, dtype=np.float32), "w/Adam": np.ones(2)})
    saver = js.Saver(tmp_path / "mine")
    restored = saver.restore(js.VarTree({"enc/w": jnp.zeros(4)}), prefix, unexpected="ignore")
    np.testing.assert_array_equal(restored["enc/w"], np.arange(4))
    assert js.load_variable(str(prefix), "enc/w:0")[3] == 3
    assert js.checkpoint_exists(prefix)
    # TF lists nothing, without a word, for one of the files.
    for path in (tmp_path, f"{prefix}.index", f"{prefix}.data-00000-of-00001"):
        assert js.list_variables(path) == [("enc/w", [4]), ("w/Adam", [2])]
    assert js.latest_checkpoint(tmp_path) == prefix
    assert not js.checkpoint_exists(tmp_path)
    assert saver.restore(js.VarTree({"enc/w": jnp.zeros(4)}), tmp_path, unexpected="ignore")


def test_what_is_no_checkpoint_is_none(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    for path in (tmp_path, *tmp_path.iterdir(), tmp_path / "absent"):
        with pytest.raises(js.CheckpointError):
            formats.open(path)
        assert not js.checkpoint_exists(path)
    with pytest.raises(js.CheckpointNotFoundError, match="of jscope, Orbax, Flax, safetensors"):
        js.Saver(tmp_path).restore({"w": jnp.zeros(2)}, tmp_path / "sub")


def test_strings_of_orbax_are_strings(tmp_path):
    for save in (save_v0_default, save_v1):
        path = save(tmp_path / save.__name__, {"name": "a run", "w": jnp.ones(1)})
        restored = js.Saver(path).restore({"name": "", "w": jnp.zeros(1)})
        assert (restored["name"], restored["w"]) == ("a run", 1)


def test_a_step_of_another_library_is_not_hidden_by_a_save(tmp_path):
    (tmp_path / "checkpoint_100").write_bytes(serialization.to_bytes({"w": jnp.ones(2)}))
    saver = js.Saver(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(js.CheckpointExistsError) as error:
            saver.save({"w": jnp.zeros(2)}, 100, overwrite=overwrite)
        assert str(error.value) == (
            f"{tmp_path}/checkpoint_100 is in the way of step 100, and is not a checkpoint of "
            "jscope. Remove it, or give Saver another directory."
        )
    saver.save({"w": jnp.zeros(2)}, 101)
    assert saver.all_steps() == (100, 101)
    assert saver.restore(step=100)["w"].all()


def test_arrays_of_strings_are_listed_and_loaded_and_reported(tmp_path):
    text = np.array([b"x", b"yz"], object)
    path = tf_checkpoint.write(tmp_path / "m-7", {"a": np.ones(2, "f4"), "st": text})
    assert js.list_variables(path) == [("a", [2]), ("st", [2])]
    np.testing.assert_array_equal(js.load_variable(path, "st"), text)
    saver = js.Saver(tmp_path / "none")
    saver.restore({"a": jnp.zeros(2)}, path)
    assert saver.report.ignored == ("st",)
    with pytest.raises(js.MissingVariableError) as error:
        saver.open(path)["st"]
    assert str(error.value) == (
        f"'st' in the checkpoint {path} is an array of strings, or of a dtype that JAX lacks. "
        "checkpoint.strings['st'].read() gives strings, as NumPy's."
    )


def test_an_open_checkpoint_that_is_replaced_says_so(tmp_path):
    saver = js.Saver(tmp_path)
    saver.save({"a": jnp.ones((2, 3))}, 1)
    opened = saver.open(1)
    path = saver.save({"a": jnp.zeros((2, 3))}, 1, overwrite=True)
    with pytest.raises(js.CheckpointError) as error:
        opened["a"].read()
    assert str(error.value) == (
        f"{path} was replaced or removed since it was opened, so 'a' can't be read. Open it again."
    )


def test_a_staging_directory_is_not_looked_at_for_steps_of_other_libraries(tmp_path):
    saver = js.Saver(tmp_path)
    (tmp_path / ".tmp-0a12").write_bytes(serialization.to_bytes({"w": jnp.ones(2)}))
    assert saver.all_steps() == ()
    (tmp_path / "checkpoint_12").write_bytes(serialization.to_bytes({"w": jnp.ones(2)}))
    assert saver.all_steps() == (12,)
