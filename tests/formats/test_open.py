"""What a path is: kinds of paths, and the same answer from every function that takes one."""

import contextlib
import io
import json
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as v0
import pytest
from flax import serialization
from safetensors.numpy import save_file

import jscope as js
from jscope import formats, tf_checkpoint
from jscope._cli import _app

W = np.arange(6, dtype=np.float32).reshape(2, 3)


def own(path, step=1, value=W):
    js.Saver(path).save({"w": jnp.asarray(value)}, step)


def orbax(path, value=W):
    v0.PyTreeCheckpointer().save(path, {"w": value})


def composite(path, steps=(1, 2)):
    with v0.CheckpointManager(path, item_names=("state", "extra")) as manager:
        for step in steps:
            items = {name: v0.args.PyTreeSave({"w": W}) for name in ("state", "extra")}
            manager.save(step, args=v0.args.Composite(**items))


def flax(path, value=W):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(serialization.msgpack_serialize({"w": value}))


def tensorflow(prefix, value=W):
    tf_checkpoint.write(prefix, {"w": value})


def sharded(path, missing=False, stray=False):
    save_file({"w": W}, path / "model-00001-of-00002.safetensors")
    if not missing:
        save_file({"b": W[0]}, path / "model-00002-of-00002.safetensors")
    if stray:
        save_file({"w": W + 1}, path / "consolidated.safetensors")
    index = {"metadata": {"total_size": 36}, "weight_map": {
        "w": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors",
    }}  # fmt: skip
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def written(path, data):
    path.write_bytes(data)


def archive(path, member):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, b"bytes")


# From a kind of path to: what makes it, below a directory; the path; the names, and the value
# of "w", that are found there, or the text of the error.
FOUND = {
    "a checkpoint of jscope": (lambda p: own(p), "1", ["w"], W),
    "a directory of its steps": (
        lambda p: [own(p, s, W + s) for s in (1, 9, 10)], "", ["w"], W + 10),
    "a tree of Orbax": (lambda p: orbax(p / "x"), "x", ["w"], W),
    "a directory of one Orbax step": (lambda p: orbax(p / "7"), "", ["w"], W),
    "a directory of Orbax steps": (
        lambda p: [orbax(p / str(s), W + s) for s in (9, 12, 13)], "", ["w"], W + 13),
    "Orbax steps with a prefix": (
        lambda p: [orbax(p / f"ckpt_{s}", W + s) for s in (9, 10)], "", ["w"], W + 10),
    "items of Orbax in a step": (composite, "2", ["extra/w", "state/w"], None),
    "a directory of steps with items": (composite, "", ["extra/w", "state/w"], None),
    "items that are called by numbers": (
        lambda p: [orbax(p / n) for n in ("0", "one")], "", ["0/w", "one/w"], None),
    "a higher step of Orbax beside one of jscope": (
        lambda p: [own(p, 3, W), orbax(p / "1000", W + 1)], "", ["w"], W + 1),
    "a lower step of Orbax beside one of jscope": (
        lambda p: [own(p, 2000, W), orbax(p / "1000", W + 1)], "", ["w"], W),
    "a step of Flax": (lambda p: flax(p / "checkpoint_5"), "checkpoint_5", ["w"], W),
    "a step of Flax that is not whole": (
        lambda p: flax(p / "checkpoint_0.5"), "checkpoint_0.5", ["w"], W),
    "a msgpack file": (lambda p: flax(p / "flax_model.msgpack"), "flax_model.msgpack", ["w"], W),
    "Flax's steps of one prefix": (
        lambda p: [flax(p / f"my_model{s}", W + s) for s in (9, 100)], "", ["w"], W + 100),
    "the path of a prefix": (
        lambda p: [flax(p / "best_5", W), flax(p / "ema_10", W + 1)], "best_", ["w"], W),
    "an npz file": (lambda p: np.savez(p / "x.npz", w=W), "x.npz", ["w"], W),
    "an npz file by another name": (
        lambda p: (np.savez(p / "x.npz", w=W), (p / "x.npz").rename(p / "x")), "x", ["w"], W),
    "a safetensors file": (
        lambda p: save_file({"w": W}, p / "x.safetensors"), "x.safetensors", ["w"], W),
    "a safetensors file by another name": (lambda p: save_file({"w": W}, p / "x"), "x", ["w"], W),
    "a directory of safetensors": (
        lambda p: [save_file({n: W}, p / f"{n}.safetensors") for n in "bw"], "", ["b", "w"], W),
    "shards with an index": (sharded, "", ["b", "w"], W),
    "an index": (sharded, "model.safetensors.index.json", ["b", "w"], W),
    "a stray file beside an index": (lambda p: sharded(p, stray=True), "", ["b", "w"], W),
    "a prefix of TensorFlow": (lambda p: tensorflow(p / "model.ckpt-7"), "model.ckpt-7", ["w"], W),
    "a file of TensorFlow": (
        lambda p: tensorflow(p / "model.ckpt-7"), "model.ckpt-7.index", ["w"], W),
    "a directory of TensorFlow": (
        lambda p: [tensorflow(p / f"model.ckpt-{s}", W + s) for s in (9, 10)], "", ["w"], W + 10),
}  # fmt: skip

FAILING = {
    "nothing": (lambda p: None, "absent", "neither it nor absent.index is there"),
    "a close name": (lambda p: orbax(p / "model"), "modl", "close names: 'model'"),
    "an empty directory": (lambda p: (p / "x").mkdir(), "x", "There is no checkpoint in"),
    "an empty file": (lambda p: written(p / "x", b""), "x", "is empty"),
    "text": (
        lambda p: written(p / "x.txt", b"text"), "x.txt", "it begins with b'text', as no file of"),
    "steps of several prefixes": (
        lambda p: [flax(p / n) for n in ("checkpoint_5", "best_5", "ema_10")], "",
        "has steps of several prefixes: 'best_', 'checkpoint_', 'ema_'"),
    "a missing shard": (
        lambda p: sharded(p, missing=True), "",
        "lacks 1 of the 2 files that model.safetensors.index.json names: "
        "'model-00002-of-00002.safetensors', with 1 of 2 tensors"),
    "an index that leads elsewhere": (
        lambda p: written(p / "x.safetensors.index.json",
                          b'{"weight_map": {"w": "../x.safetensors"}}'),
        "", "not a file beside it"),
    "tensors in two files": (
        lambda p: [save_file({"w": W}, p / f"{n}.safetensors") for n in "ab"], "",
        "Several files in"),
    "a pickle": (
        lambda p: written(p / "x.pkl", pickle.dumps({"w": W})), "x.pkl", "is a pickle of Python"),
    "PyTorch": (lambda p: archive(p / "x.pt", "x/data.pkl"), "x.pt", "safetensors.torch.save_file"),
    "Keras": (
        lambda p: archive(p / "x.keras", "model.weights.h5"), "x.keras", "is an archive of Keras"),
    "another archive": (lambda p: archive(p / "x.zip", "a.txt"), "x.zip", "not an npz file"),
    "HDF5": (lambda p: written(p / "x.h5", b"\x89HDF\r\n\x1a\n" + bytes(99)), "x.h5", "h5py"),
    "one array of NumPy": (lambda p: np.save(p / "x.npy", W), "x.npy", "numpy.load"),
    "llama.cpp": (lambda p: written(p / "x.gguf", b"GGUF" + bytes(99)), "x.gguf", "llama.cpp"),
    "Equinox": (lambda p: written(p / "x.eqx", struct.pack("<9f", *range(9))), "x.eqx", "Equinox"),
    "JSON": (lambda p: written(p / "index.json", b'{"a": 1}'), "index.json", "is JSON"),
    "TensorFlow's state": (
        lambda p: tensorflow(p / "model.ckpt-7"), "checkpoint",
        "TensorFlow's list of its checkpoints"),
    "jscope's state": (lambda p: own(p), "checkpoint", "is a file of jscope's Saver. Give"),
    "TensorFlow without its index": (
        lambda p: (tensorflow(p / "m-7"), (p / "m-7.index").unlink()), "m-7.data-00000-of-00001",
        "m-7.index is not"),
    "a URL of another store": (lambda p: None, "az://bucket/run", "not az://"),
}  # fmt: skip


def by_formats(path):
    return sorted(formats.open(path).entries)


def by_saver(path):
    with js.Saver(path).open() as checkpoint:
        return sorted(checkpoint)


def by_path_given_to_a_saver(path):
    with js.Saver("elsewhere").open(path) as checkpoint:
        return sorted(checkpoint)


def by_list_variables(path):
    return [name for name, _ in js.list_variables(path)]


def by_restore(path):
    return sorted(js.VarTree(js.Saver(path).restore()))


def by_command(path):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _app.run(["ls", "--json", str(path)])
    if status:
        raise js.CheckpointError(err.getvalue())
    return sorted(variable["name"] for variable in json.loads(out.getvalue())["variables"])


ENTRY_POINTS = [
    by_formats,
    by_saver,
    by_path_given_to_a_saver,
    by_list_variables,
    by_restore,
    by_command,
]


@pytest.mark.parametrize("kind", FOUND)
def test_every_function_finds_the_same_at_a_path(kind, tmp_path, monkeypatch):
    make, path, names, value = FOUND[kind]
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / path
    for entry_point in ENTRY_POINTS:
        assert entry_point(path) == names, entry_point.__name__
        assert entry_point(str(path)) == names, entry_point.__name__
    if value is not None:
        np.testing.assert_array_equal(js.load_variable(path, "w"), value)
        restored = js.Saver(path).restore({"w": jnp.zeros((2, 3))}, unexpected="ignore")
        np.testing.assert_array_equal(restored["w"], value)
    newest = js.latest_checkpoint(path)
    assert newest is None or by_formats(newest) == names
    assert js.checkpoint_exists(path) == (newest is None and path.name != "best_")


@pytest.mark.parametrize("kind", FOUND)
def test_every_function_finds_the_same_in_a_store(kind, tmp_path, s3, monkeypatch):
    make, path, names, value = FOUND[kind]
    (tmp_path / "made").mkdir()
    make(tmp_path / "made")
    s3.put(tmp_path / "made", "runs")
    monkeypatch.chdir(tmp_path)
    url = s3.url(f"runs/{path}" if path else "runs")
    for entry_point in ENTRY_POINTS:
        assert entry_point(url) == names, entry_point.__name__
    if value is not None:
        np.testing.assert_array_equal(js.load_variable(url, "w"), value)
        restored = js.Saver(url).restore({"w": jnp.zeros((2, 3))}, unexpected="ignore")
        np.testing.assert_array_equal(restored["w"], value)
    newest = js.latest_checkpoint(url)
    assert newest is None or by_formats(newest) == names
    assert js.checkpoint_exists(url) == (newest is None and path != "best_")


@pytest.mark.parametrize("kind", [kind for kind in FAILING if not kind.startswith("a URL")])
def test_every_function_gives_the_same_error_in_a_store(kind, tmp_path, s3, monkeypatch):
    make, path, text = FAILING[kind]
    (tmp_path / "made").mkdir()
    make(tmp_path / "made")
    s3.put(tmp_path / "made", "runs")
    monkeypatch.chdir(tmp_path)
    url = s3.url(f"runs/{path}" if path else "runs")
    for entry_point in ENTRY_POINTS:
        with pytest.raises(js.CheckpointError) as caught:
            entry_point(url)
        assert text in " ".join(str(caught.value).split()), entry_point.__name__


@pytest.mark.parametrize("kind", FAILING)
def test_every_function_gives_the_same_error(kind, tmp_path, monkeypatch):
    make, path, text = FAILING[kind]
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = path if "://" in path else tmp_path / path
    for entry_point in ENTRY_POINTS:
        with pytest.raises((js.CheckpointError, js.CheckpointValueError)) as caught:
            entry_point(path)
        assert text in " ".join(str(caught.value).split()), entry_point.__name__


def test_an_unknown_file_is_an_error_of_one_thought(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"some text")
    with pytest.raises(js.CheckpointNotFoundError) as caught:
        formats.open(tmp_path / "x.txt")
    assert str(caught.value) == (
        f"There is no checkpoint in {tmp_path / 'x.txt'}: it begins with b'some tex', as no file "
        "of jscope, Orbax, Flax, safetensors, NumPy or TensorFlow does. If one of them wrote it, "
        "it is damaged or not whole: fetch it again."
    )


def test_the_steps_of_all_kinds_are_listed(tmp_path):
    own(tmp_path, 3)
    orbax(tmp_path / "1000")
    saver = js.Saver(tmp_path)
    assert saver.all_steps() == (3, 1000)
    assert saver.latest_step() == 1000
    saver.save({"w": jnp.asarray(W + 1)}, 1001)
    assert saver.all_steps() == (3, 1000, 1001)
    assert saver.latest_step() == 1001
    np.testing.assert_array_equal(saver.restore({"w": jnp.zeros((2, 3))}, 1000)["w"], W)


def test_steps_of_others_are_not_evicted(tmp_path):
    orbax(tmp_path / "1000")
    with js.Saver(tmp_path, max_to_keep=1) as saver:
        for step in (1001, 1002):
            saver.save({"w": jnp.asarray(W)}, step)
        assert saver.all_steps() == (1000, 1002)


def test_a_saver_finds_the_steps_of_tensorflow(tmp_path):
    for step in (1, 2):
        tensorflow(tmp_path / f"model.ckpt-{step}", W + step)
    saver = js.Saver(tmp_path)
    assert saver.all_steps() == (1, 2)
    assert saver.latest_step() == 2
    np.testing.assert_array_equal(saver.restore({"w": jnp.zeros((2, 3))}, 1)["w"], W + 1)


def test_one_step_of_several_prefixes_is_an_error_that_names_them(tmp_path):
    for prefix in ("best_", "checkpoint_"):
        flax(tmp_path / f"{prefix}5")
    with pytest.raises(js.CheckpointError, match="step 5: 'best_5', 'checkpoint_5'"):
        js.Saver(tmp_path).restore({"w": jnp.zeros((2, 3))}, 5)


def test_the_metadata_of_safetensors_can_be_read(tmp_path):
    save_file({"w": W}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    with js.Saver(tmp_path / "x.safetensors").open() as checkpoint:
        assert checkpoint.metadata == {"format": "pt"}


@pytest.mark.parametrize(
    "box",
    [
        ((0, 4), (0, 3), (0, 5)),
        ((1, 3), (0, 3), (0, 5)),
        ((2, 3), (1, 3), (0, 5)),
        ((2, 3), (1, 2), (1, 4)),
        ((0, 4), (0, 3), (2, 4)),
        ((1, 4), (1, 2), (0, 5)),
        ((0, 0), (0, 3), (0, 5)),
    ],
)
def test_a_box_of_a_tensor_is_read(box, tmp_path):
    value = np.arange(60, dtype=np.int16).reshape(4, 3, 5)
    save_file({"a": W, "x": value}, tmp_path / "x.safetensors")
    source = formats.open(tmp_path / "x.safetensors")
    index = tuple(slice(a, b) for a, b in box)
    into = np.full(value[index].shape, -1, np.int16)
    source.start("x", box, into)()
    np.testing.assert_array_equal(into, value[index])
