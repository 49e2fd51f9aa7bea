"""V2 checkpoints against TensorFlow, in both directions: dtypes, shapes, partitions, shards."""

import numpy as np
import pytest
import tensorflow as tf
from tf_values import NUMBERS, PARTITIONS, all_values, same, values_of

from jscope import tf_checkpoint


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


def save_parts(prefix, whole, partition):
    specs = [spec for _, spec in partition]
    save_v2(prefix, [("p", whole[index]) for index, _ in partition], specs)


def files(prefix):
    """The files of a checkpoint, by what follows its prefix."""
    return {
        path.name.removeprefix(prefix.name): path.read_bytes()
        for path in prefix.parent.glob(prefix.name + ".*")
    }


# Reading.


def test_every_dtype_and_shape_that_tensorflow_saves_is_read(tmp_path):
    expected = all_values()
    save_v2(tmp_path / "m", expected.items())
    checkpoint = tf_checkpoint.open(tmp_path / "m")
    assert list(checkpoint) == list(expected)
    for name, value in expected.items():
        assert same(checkpoint[name].read(), value), name
        assert checkpoint[name].dtype == value.dtype
    assert checkpoint.verify() == {}


def test_variables_are_listed_and_loaded_as_tensorflow_does(tmp_path):
    save_v2(tmp_path / "m", all_values().items())
    listed = tf_checkpoint.list_variables(tmp_path / "m")
    assert listed == [(n, tuple(s)) for n, s in tf.train.list_variables(str(tmp_path / "m"))]
    ours = tf_checkpoint.load_variable(tmp_path / "m", "float32/2x3:0")
    theirs = tf.train.load_variable(str(tmp_path / "m"), "float32/2x3:0")
    assert same(ours, theirs)


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


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("layout", PARTITIONS)
def test_partitioned_variables_are_one_array_or_any_piece_of_it(dtype, layout, tmp_path):
    whole = values_of(dtype, (5, 3))
    save_parts(tmp_path / "p", whole, PARTITIONS[layout])
    entry = tf_checkpoint.open(tmp_path / "p")["p"]
    assert same(entry.read(), whole)
    assert entry.nbytes == whole.nbytes
    if entry.parts:
        covered = [whole[part].tobytes() for part in entry.parts]
        assert covered == [whole[index].tobytes() for index, _ in PARTITIONS[layout]]
    for index in (1, -1, np.s_[1:4], np.s_[::-2, 1:], np.s_[..., 0], np.s_[4:2], [0, 3], ...):
        assert same(entry[index], whole[index]), index


# Writing.


@pytest.mark.parametrize("order", [1, -1], ids=["sorted", "backwards"])
def test_every_dtype_and_shape_is_written_as_tensorflow_writes_it(order, tmp_path):
    values = dict(list(all_values().items())[::order])
    save_v2(tmp_path / "theirs", values.items())
    tf_checkpoint.write(tmp_path / "ours", values)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


@pytest.mark.parametrize("layout", PARTITIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool", "int64"])
def test_partitions_are_written_as_tensorflow_writes_them(dtype, layout, tmp_path):
    whole = values_of(np.dtype(dtype), (5, 3))
    save_parts(tmp_path / "theirs", whole, PARTITIONS[layout])
    parts = [tf_checkpoint.Part(whole[index], (5, 3), index) for index, _ in PARTITIONS[layout]]
    tf_checkpoint.write(tmp_path / "ours", [("p", part) for part in parts])
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


def test_shards_are_written_as_tensorflow_merges_them(tmp_path):
    whole = values_of(np.dtype(np.float32), (5, 3))
    rows = PARTITIONS["rows"]
    # Shard by shard: the second begins with a part, and has a name that sorts first.
    shards = [
        [("z", whole, None), ("p", whole[rows[2][0]], rows[2])],
        [("p", whole[rows[0][0]], rows[0]), ("p", whole[rows[1][0]], rows[1]), ("a", whole, None)],
        [("s", np.array(b"text", object), None)],
    ]
    prefixes = []
    for shard, named in enumerate(shards):
        prefixes.append(str(tmp_path / f"theirs_temp/part-{shard:05d}-of-00003"))
        specs = [row[1] if row else "" for _, _, row in named]
        save_v2(prefixes[-1], [(name, value) for name, value, _ in named], specs)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=prefixes,
        destination_prefix=str(tmp_path / "theirs"),
        delete_old_dirs=True,
    )
    with tf_checkpoint.Writer(tmp_path / "ours", shards=3) as writer:
        # In any order between the shards.
        for shard in (1, 0, 2):
            for name, value, row in shards[shard]:
                part = tf_checkpoint.Part(value, (5, 3), row[0]) if row else value
                writer.add(name, part, shard=shard)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    checkpoint = tf_checkpoint.open(tmp_path / "ours")
    assert same(checkpoint["p"].read(), whole)
    assert [where.file[-14:] for where in checkpoint["p"].where] == [
        "00000-of-00003",
        *["00001-of-00003"] * 2,
    ]


def test_thousands_of_names_fill_several_blocks_as_tensorflows_do(tmp_path):
    # Lengths, neighbours and bytes that reach every branch of the shortened keys of the index.
    odd = "\u00ff\u0000"
    names = [f"layer_{i}/{'w' * (i % 7)}{odd[: i % 3]}{i * i}" for i in range(12_000)]
    value = np.zeros(1, np.int8)
    save_v2(tmp_path / "theirs", [(name, value) for name in names])
    tf_checkpoint.write(tmp_path / "ours", [(name, value) for name in names])
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert len(tf_checkpoint.open(tmp_path / "theirs")) == len(names)


def test_tensorflow_restores_what_was_written(tmp_path):
    value = np.arange(15, dtype=np.float32).reshape(5, 3)
    tf_checkpoint.write(tmp_path / "m-1", {"v": value, "w": value[0]})
    parts = [("p", tf_checkpoint.Part(value[i], (5, 3), i)) for i, _ in PARTITIONS["rows"]]
    tf_checkpoint.write(tmp_path / "m-2", [("v", 2 * value), ("w", value[0]), *parts])
    latest = tf.train.latest_checkpoint(str(tmp_path))
    assert latest == str(tmp_path / "m-2")
    assert tf_checkpoint.latest_checkpoint(tmp_path) == latest
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert list(state.all_model_checkpoint_paths) == [str(tmp_path / "m-1"), latest]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v = tf.compat.v1.get_variable("v", (5, 3), use_resource=False)
        p = tf.compat.v1.get_variable(
            "p", (5, 3), partitioner=tf.compat.v1.fixed_size_partitioner(2), use_resource=False
        )
        tf.compat.v1.train.Saver().restore(session, latest)
        assert same(session.run(v), 2 * value)
        assert same(session.run(tf.convert_to_tensor(p)), value)


# The state file.


def test_state_files_are_written_as_tensorflow_writes_them(tmp_path):
    paths = ["m-1", "sub/m \u00e9\t'\"\\-2"]
    tf.compat.v1.train.update_checkpoint_state(
        str(tmp_path), paths[1], paths, all_model_checkpoint_timestamps=[1.5, 1.7e9]
    )
    theirs = (tmp_path / "checkpoint").read_bytes()
    expected = tf_checkpoint.CheckpointState(paths[1], tuple(paths), (1.5, 1.7e9))
    tf_checkpoint.write_state(tmp_path, expected)
    assert (tmp_path / "checkpoint").read_bytes() == theirs
    found = tf_checkpoint.read_state(tmp_path)
    assert found.all_model_checkpoint_paths == tuple(str(tmp_path / path) for path in paths)
    assert found.all_model_checkpoint_timestamps == (1.5, 1.7e9)


STATES = {
    "latest alone": ("m-2", ()),
    "latest is last": ("m-2", ("m-1", "m-2")),
    "latest is appended": ("m-3", ("m-1", "m-2")),
    "latest is not last": ("m-1", ("m-1", "m-2")),
    "in another folder": ("sub/m-2", ("m-1", "../m-0")),
    "absolute": ("/old/m-2", ("/old/m-1", "m-1")),
    "below the directory": ("runs/m-2", ("runs/m-1",)),
}
TIMES = {
    "no times": ((), None),
    "kept for good": ((), 0.5),
    "one time": ((1.5,), None),
    "two times": ((1.5, 1.7e9), 1.25),
    "three times": ((1.5, 1.7e9, 1234567890.123456), None),
}


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("paths", STATES)
@pytest.mark.parametrize("directory", ["relative", "relative, deeper", "absolute"])
def test_write_state_is_update_checkpoint_state(directory, paths, times, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = {"relative": "runs", "relative, deeper": "runs/a"}.get(directory, str(tmp_path / "b"))
    (tmp_path / folder).mkdir(parents=True)
    (latest, every), (stamps, kept) = STATES[paths], TIMES[times]
    state = tf_checkpoint.CheckpointState(latest, every, stamps, kept)
    file = tmp_path / folder / "checkpoint"
    try:
        tf.compat.v1.train.update_checkpoint_state(
            folder,
            latest,
            list(every),
            all_model_checkpoint_timestamps=list(stamps),
            last_preserved_timestamp=kept,
        )
    except ValueError:
        with pytest.raises(ValueError, match=r"\d timestamps for \d checkpoints"):
            tf_checkpoint.write_state(folder, state)
        assert not file.exists()
        return
    theirs = file.read_bytes()
    file.unlink()
    tf_checkpoint.write_state(folder, state)
    assert file.read_bytes() == theirs
    found, expected = tf_checkpoint.read_state(folder), tf.train.get_checkpoint_state(folder)
    assert found.model_checkpoint_path == expected.model_checkpoint_path
    assert found.all_model_checkpoint_paths == tuple(expected.all_model_checkpoint_paths)
    tf_checkpoint.write_state(folder, found)  # as it was read
    assert tf_checkpoint.read_state(folder) == found


def test_the_managers_times_are_read_and_continued(tmp_path):
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(v=tf.Variable(1.0)), str(tmp_path), max_to_keep=5
    )
    first = manager.save()
    before = tf_checkpoint.read_state(tmp_path)
    assert before.model_checkpoint_path == first
    assert before.last_preserved_timestamp > 0
    tf_checkpoint.write(tmp_path / "ours", {"v": np.zeros(1)})
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert list(state.all_model_checkpoint_paths) == [first, str(tmp_path / "ours")]
    assert len(state.all_model_checkpoint_timestamps) == 2
    assert state.last_preserved_timestamp == before.last_preserved_timestamp
