"""V1, object-based, sharded, Snappy and big-endian checkpoints, each against TensorFlow."""

import os

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from test_tf_checkpoint_tensorflow import save_v2, tensor
from tf_rewrite import big_endian, compressed_table, rows_of
from tf_values import PARTITIONS, STRINGS, V1_NUMBERS, all_values, same, values_of

import jscope as js
from jscope import tf_checkpoint


def save_v1(path, named, specs=None):
    """What ``Saver(write_version=V1).save`` runs."""
    names, values = zip(*named, strict=True)
    tf.raw_ops.SaveSlices(
        filename=str(path),
        tensor_names=list(names),
        shapes_and_slices=specs or [""] * len(names),
        data=[tensor(value) for value in values],
    )


# Version 1.


def test_every_dtype_and_shape_of_version_1_is_read(tmp_path):
    expected = all_values(V1_NUMBERS)
    save_v1(tmp_path / "m", expected.items())
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert checkpoint.version == 1
    assert list(checkpoint) == list(expected)
    for name, value in expected.items():
        assert same(checkpoint[name].read(), value), name
        assert checkpoint[name].nbytes == value.nbytes or value.dtype == object
    assert checkpoint.verify() == {}
    listed = [(name, tuple(shape)) for name, shape in tf.train.list_variables(str(tmp_path / "m"))]
    assert tf_checkpoint.list_variables(tmp_path / "m") == listed


@pytest.mark.parametrize("dtype", V1_NUMBERS, ids=str)
def test_long_arrays_of_every_width_of_varint_are_read(dtype, tmp_path):
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        steps = [0, 1, -1, 63, 64, 127, 128, -128, 16383, 16384, info.min, info.max]
        value = np.array([s for s in steps if info.min <= s <= info.max] * 20_000, dtype)
    else:
        value = values_of(dtype, (30_000,))
    save_v1(tmp_path / "m", [("v", value)])
    assert same(tf_checkpoint.load_variable(tmp_path / "m", "v"), value)


@pytest.mark.parametrize("layout", PARTITIONS)
def test_shards_and_partitions_of_version_1_are_one_array_or_any_piece_of_it(layout, tmp_path):
    whole = values_of(np.dtype(np.float32), (5, 3))
    parts = PARTITIONS[layout]
    for shard, chosen in enumerate((parts[::2], parts[1::2])):
        named = [("p", whole[index]) for index, _ in chosen] + [(f"v{shard}", whole)]
        specs = [spec for _, spec in chosen] + [""]
        save_v1(tmp_path / f"m-{shard:05d}-of-00002", named, specs)
    pattern = str(tmp_path / "m-?????-of-00002")
    theirs = tf.raw_ops.RestoreSlice(
        file_pattern=pattern, tensor_name="p", shape_and_slice="5 3 0,5:-", dt=tf.float32
    )
    assert same(theirs.numpy(), whole)
    for path in (pattern, tmp_path / "m", tmp_path / "m-00001-of-00002", tmp_path / "m-*"):
        checkpoint = tf_checkpoint.open(path)
        assert checkpoint.prefix == pattern
        assert list(checkpoint) == ["p", "v0", "v1"]
        assert same(checkpoint["p"].read(), whole)
        assert same(checkpoint["p"][1:4, 1], whole[1:4, 1])
        assert same(checkpoint["v1"][2], whole[2])


def test_a_saver_of_version_1_and_its_state_are_found(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v = tf.compat.v1.get_variable("scope/v", initializer=[1.0, 2.0], use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V1)
        path = saver.save(session, str(tmp_path / "m"), global_step=3)
        expected = session.run(v)
    for given in (tmp_path, path, path + ".meta"):
        assert same(tf_checkpoint.load_variable(given, "scope/v"), expected)
    train = tf.compat.v1.train
    assert js.checkpoint_exists(path) == train.checkpoint_exists(path) is True
    for given in (str(tmp_path), path):
        latest = js.latest_checkpoint(given)
        assert (latest and os.fspath(latest)) == train.latest_checkpoint(given)
        found = list(js.checkpoints_iterator(given, timeout=0))
        assert list(map(os.fspath, found)) == list(train.checkpoints_iterator(given, timeout=0))
        listed = [(name, list(shape)) for name, shape in js.list_variables(given)]
        assert listed == train.list_variables(given) == [("scope/v", [2])]
        assert same(js.load_variable(given, "scope/v"), train.load_variable(given, "scope/v"))
        target = {"scope/v": jnp.zeros(2)}
        for saver, step in ((js.Saver(given), None), (js.Saver(tmp_path / "other"), given)):
            assert same(np.asarray(saver.restore(target, step)["scope/v"]), expected)


# What tf.train.Saver writes.


@pytest.mark.parametrize("sharded", [False, True])
def test_a_savers_checkpoint_is_found_from_any_of_its_files(sharded, tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        p = tf.compat.v1.get_variable(
            "p",
            initializer=tf.reshape(tf.range(30.0), (10, 3)),
            partitioner=tf.compat.v1.fixed_size_partitioner(3),
            use_resource=False,
        )
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(sharded=sharded)
        path = saver.save(session, str(tmp_path / "m"), global_step=7)
        expected = session.run(tf.convert_to_tensor(p))
    suffixes = ("", ".index", ".meta", ".data-00000-of-00001", "*")
    for given in (tmp_path, f"file://{tmp_path}", *(path + suffix for suffix in suffixes)):
        checkpoint = tf_checkpoint.open(given)
        assert same(checkpoint["p"].read(), expected)
        assert len(checkpoint["p"].parts) == 3
    # Written again, part by part.
    with tf_checkpoint.Writer(tmp_path / "again") as writer:
        for part in checkpoint["p"].parts:
            writer.add("p", tf_checkpoint.Part(checkpoint["p"][part], (10, 3), part))
    again = (tmp_path / "again.index").read_bytes()
    assert again == (tmp_path / "m-7.index").read_bytes()


# Objects.


def test_objects_are_found_by_key_and_by_full_name(tmp_path):
    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable([[1.0, 2.0]], name="dense/kernel")
            self.parent = self  # a circle in the graph of objects
            self.twins = [tf.Variable(1, name="twin"), tf.Variable(2, name="twin")]

    model = Model()
    path = tf.train.Checkpoint(model=model, step=tf.Variable(5, dtype=tf.int64)).save(
        tmp_path / "c"
    )
    checkpoint = tf_checkpoint.open(path)
    key = "model/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert same(checkpoint[key].read(), model.kernel.numpy())
    assert checkpoint["dense/kernel"] is checkpoint[key]
    assert "dense/kernel" in checkpoint
    assert checkpoint.full_names["dense/kernel"] == key
    assert "twin" not in checkpoint  # which one?
    assert "dense/kernel" not in list(checkpoint)
    assert [name for name, _ in tf.train.list_variables(path)] == sorted(checkpoint)


def test_kerass_checkpoints_are_read(tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Dense(3, name="head")])
    model.build((None, 2))
    path = tf.train.Checkpoint(model=model).save(tmp_path / "k")
    checkpoint = tf_checkpoint.open(path)
    theirs = tf.train.load_checkpoint(path)
    for name, entry in checkpoint.items():
        if entry.dtype != object:
            assert same(entry.read(), np.asarray(theirs.get_tensor(name)))
    kernels = [e.read() for name, e in checkpoint.items() if e.shape == (2, 3)]
    assert same(kernels[0], np.asarray(model.layers[0].kernel))
    assert checkpoint.full_names


def test_a_saved_model_is_read_from_its_folder(tmp_path):
    module = tf.Module()
    module.v = tf.Variable([1.0, 2.0], name="v")
    tf.saved_model.save(module, str(tmp_path / "model"))
    for given in ("model", "model/variables", "model/variables/variables"):
        assert same(tf_checkpoint.load_variable(tmp_path / given, "v"), module.v.numpy())


# What TensorFlow reads but doesn't write.


def test_snappy_is_read_as_tensorflow_reads_it(tmp_path):
    expected = all_values()
    save_v2(tmp_path / "m", expected.items())
    index = tmp_path / "m.index"
    plain = index.read_bytes()
    index.write_bytes(compressed_table(rows_of(index)))
    assert len(index.read_bytes()) < len(plain)
    theirs = tf.train.load_checkpoint(str(tmp_path / "m"))
    assert len(theirs.get_variable_to_shape_map()) == len(expected)
    assert same(np.asarray(theirs.get_tensor("float32/2x3")), expected["float32/2x3"])
    for name, entry in tf_checkpoint.open(tmp_path / "m").items():
        assert same(entry.read(), expected[name])


def test_snappy_in_version_1_is_read_as_tensorflow_reads_it(tmp_path):
    value = np.arange(60_000, dtype=np.int32) // 1000
    save_v1(tmp_path / "m", [("v", value), ("s", STRINGS["various"])])
    (tmp_path / "m").write_bytes(compressed_table(rows_of(tmp_path / "m")))
    assert same(tf.train.load_variable(str(tmp_path / "m"), "v"), value)
    assert same(tf_checkpoint.load_variable(tmp_path / "m", "v"), value)
    assert same(tf_checkpoint.load_variable(tmp_path / "m", "s"), STRINGS["various"])


def test_big_endian_is_read_as_tensorflow_reads_it(tmp_path):
    expected = all_values()
    whole = values_of(np.dtype(ml_dtypes.bfloat16), (5, 3))
    named = list(expected.items()) + [("p", whole[i]) for i, _ in PARTITIONS["rows"]]
    specs = [""] * len(expected) + [spec for _, spec in PARTITIONS["rows"]]
    save_v2(tmp_path / "little", named, specs)
    big_endian(tmp_path / "little", tmp_path / "big")
    theirs = tf.train.load_checkpoint(str(tmp_path / "big"))
    checkpoint = tf_checkpoint.open(tmp_path / "big")
    for name, value in expected.items():
        assert same(checkpoint[name].read(), value), name
        if value.dtype.itemsize > 1 and value.dtype != object:  # TF swaps no smaller ones.
            assert same(np.asarray(theirs.get_tensor(name)), value), name
    assert theirs.get_tensor("string/various").tolist() == STRINGS["various"].tolist()
    assert same(checkpoint["p"].read(), whole)
    assert checkpoint.verify() == {}
