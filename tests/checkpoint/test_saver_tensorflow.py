"""The Saver and functions on checkpoints against TensorFlow's: classes of errors, and retention.

What TensorFlow raises of its own (``tf.errors``, of an operation that failed) no program of JAX
catches. Where it raises Python's ValueError or TypeError, so does jscope.
"""

import os
import time

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import tf_checkpoint
from jscope.interop import tensorflow as interop

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
tf = tensorflow.compat.v1

W = {"w": jnp.zeros(2)}


def save(prefix):
    prefix.parent.mkdir()
    tf_checkpoint.write(prefix, {"w": np.ones(2, np.float32)})


def folder(place, state):
    place.mkdir()
    if state is not None:
        (place / "checkpoint").write_text(state)


@pytest.fixture
def places(tmp_path):
    """Paths that a user may give, by what is there."""
    save(tmp_path / "intact" / "m")
    save(tmp_path / "cut" / "m")
    (tmp_path / "cut" / "m.index").write_bytes((tmp_path / "cut" / "m.index").read_bytes()[:10])
    save(tmp_path / "no data" / "m")
    (tmp_path / "no data" / "m.data-00000-of-00001").unlink()
    folder(tmp_path / "empty", None)
    folder(tmp_path / "empty state", "")
    folder(tmp_path / "other state", "no state ][ {")
    folder(tmp_path / "state without latest", 'all_model_checkpoint_paths: "x"\n')
    folder(tmp_path / "state of what is gone", 'model_checkpoint_path: "x"\n')
    (tmp_path / "text").write_text("text" * 100)
    return {
        "invalid path": "invalid path",
        "": "",
        "no folder": str(tmp_path / "no folder"),
        "no checkpoint": str(tmp_path / "intact" / "n"),
        "a checkpoint": str(tmp_path / "intact" / "m"),
        "its folder": str(tmp_path / "intact"),
        "its index": str(tmp_path / "intact" / "m.index"),
        "cut": str(tmp_path / "cut" / "m"),
        "no data": str(tmp_path / "no data" / "m"),
        "text": str(tmp_path / "text"),
        "None": None,
        "3": 3,
        **{
            name: str(tmp_path / name)
            for name in (
                "empty",
                "empty state",
                "other state",
                "state without latest",
                "state of what is gone",
            )
        },
    }


def restore_in_tf(path):
    with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable("w", (2,))
        tf.train.Saver().restore(session, path)
        return session.run(w)


def in_saver(path):
    return js.Saver("saver").restore(W, path)["w"]


def state_in_tf(path):
    state = tf.train.get_checkpoint_state(path)
    return state and state.model_checkpoint_path


def state(path):
    found = tf_checkpoint.read_state(path)
    return found and found.model_checkpoint_path


# TF's function and ours.
FUNCTIONS = {
    "restore": (restore_in_tf, in_saver),
    "restore, interop": (restore_in_tf, lambda path: interop.restore(W, path)[0]["w"]),
    "get_checkpoint_state": (state_in_tf, state),
    "latest_checkpoint": (tf.train.latest_checkpoint, tf_checkpoint.latest_checkpoint),
    "latest_checkpoint, js": (tf.train.latest_checkpoint, js.latest_checkpoint),
    "NewCheckpointReader": (
        lambda path: sorted(tf.train.NewCheckpointReader(path).get_variable_to_shape_map()),
        lambda path: sorted(tf_checkpoint.open(path)),
    ),
    "list_variables": (tf.train.list_variables, tf_checkpoint.list_variables),
    "list_variables, js": (tf.train.list_variables, js.list_variables),
    **{
        f"load_variable of {name}": (
            lambda path, name=name: tf.train.load_variable(path, name),
            lambda path, name=name: tf_checkpoint.load_variable(path, name),
        )
        for name in ("w", "w:0", "w:1", "w:0:0", "nothing")
    },
    **{
        f"load_variable of {name}, js": (
            lambda path, name=name: tf.train.load_variable(path, name),
            lambda path, name=name: js.load_variable(path, name),
        )
        for name in ("w", "w:0", "w:1", "w:0:0", "nothing")
    },
    "checkpoint_exists": (tf.train.checkpoint_exists, js.checkpoint_exists),
    "checkpoints_iterator": (
        lambda path: list(tf.train.checkpoints_iterator(path, timeout=0)),
        lambda path: list(js.checkpoints_iterator(path, timeout=0)),
    ),
}
# Where jscope does something else, on purpose: what is said of each in the documentation.
ELSE = {
    # A state file that isn't one: TF takes it for none; js looks at what is there instead.
    **{
        (name, "other state"): "CheckpointError"
        for name in ("get_checkpoint_state", "latest_checkpoint")
    },
    **{
        (name, "empty state"): "nothing"
        for name in ("latest_checkpoint, js", "checkpoints_iterator")
    },
    # TF: the working directory.
    **{
        (name, ""): "CheckpointValueError"
        for name in (
            "get_checkpoint_state",
            "latest_checkpoint",
            "latest_checkpoint, js",
            "checkpoint_exists",
            "checkpoints_iterator",
        )
    },
    # One of the Saver's steps.
    ("restore", "3"): "CheckpointNotFoundError",
    # The index stands for its checkpoint, a folder for its latest; TF: nothing is in the index.
    **{
        (name, "its index"): "the checkpoint"
        for name in (
            "restore",
            "restore, interop",
            "NewCheckpointReader",
            "list_variables",
            "list_variables, js",
            "load_variable of w",
            "load_variable of w:0",
            "load_variable of w, js",
            "load_variable of w:0, js",
        )
    },
    **{
        (name, "its folder"): "the checkpoint"
        for name in ("restore", "restore, interop", "NewCheckpointReader")
    },
    # TF: whatever path there is.
    **{
        ("checkpoint_exists", place): "no checkpoint"
        for place in (
            "its folder",
            "text",
            "empty",
            "empty state",
            "other state",
            "state without latest",
            "state of what is gone",
        )
    },
}


def outcome(function, path):
    try:
        return function(path)
    except Exception as error:
        return error


def plain(value):
    """A result as the other library would give it: paths are text, shapes are lists."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        name, shape = value
        return name, list(shape)
    if isinstance(value, np.ndarray | jnp.ndarray):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


BUILTIN = (ValueError, TypeError)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_have_tensorflow_s_classes(name, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_tf, here = FUNCTIONS[name]
    differing = {}
    for place, path in places.items():
        theirs, ours = outcome(in_tf, path), outcome(here, path)
        if not isinstance(theirs, Exception):
            same = not isinstance(ours, Exception) and plain(ours) == plain(theirs)
        elif isinstance(theirs, BUILTIN) and not isinstance(theirs, tensorflow.errors.OpError):
            same = isinstance(ours, type(theirs)) and isinstance(ours, js.JscopeError)
        else:
            same = isinstance(ours, js.JscopeError)
        if not same:
            differing[place] = ours
    assert set(differing) == {place for called, place in ELSE if called == name}, differing
    for place, ours in differing.items():
        if (name, place) in ELSE and ELSE[name, place].endswith("Error"):
            assert type(ours).__name__ == ELSE[name, place]
        else:
            assert not isinstance(ours, Exception)


# Which checkpoints stay for good.


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def kept_by_tf(times, monkeypatch, directory):
    """The times of what a ``tf.train.Saver(max_to_keep=1)`` of one hour keeps."""
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable("w", (2,))
        saver = tf.train.Saver([w], max_to_keep=1, keep_checkpoint_every_n_hours=1)
        session.run(w.initializer)
        for clock.now in times:
            saver.save(session, str(directory / "m"), int(clock.now), write_meta_graph=False)
    return sorted(int(path.stem.removeprefix("m-")) for path in directory.glob("m-*.index"))


def kept_by_manager(times, monkeypatch, directory):
    """The same of a ``tf.train.CheckpointManager``."""
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    saved = tensorflow.train.Checkpoint(w=tensorflow.Variable(0.0))
    manager = tensorflow.train.CheckpointManager(saved, str(directory), 1, 1)
    for clock.now in times:
        manager.save(int(clock.now))
    return sorted(int(path.stem.removeprefix("ckpt-")) for path in directory.glob("ckpt-*.index"))


def kept_here(times, directory):
    clock = Clock()
    options = {"max_to_keep": 1, "keep_checkpoint_every_n_hours": 1, "clock": clock}
    saver = js.Saver(directory, **options)
    for clock.now in times:
        saver.save(W, int(clock.now))
    return list(saver.all_steps())


STEADY = range(1600, 15_000, 600)  # every ten minutes
PAUSED = [1600, *range(12_000, 16_000, 600)]  # nothing for three hours
RARE = range(5000, 40_000, 5000)


@pytest.mark.parametrize("times", [STEADY, PAUSED, RARE], ids=["steady", "paused", "rare"])
def test_hours_keep_what_tensorflow_s_saver_keeps(times, tmp_path, monkeypatch):
    expected = kept_by_tf(times, monkeypatch, tmp_path)
    assert kept_here(times, tmp_path / "ours") == expected


def test_after_a_pause_several_stay_in_a_row_and_not_with_tensorflow_s_manager(
    tmp_path, monkeypatch
):
    here = kept_here(PAUSED, tmp_path / "ours")
    assert here == [12_000, 12_600, 13_200, 15_600]  # for the hours from 4600, 8200 and 11800
    manager = kept_by_manager(PAUSED, monkeypatch, tmp_path / "manager")
    assert manager == [12_000, 15_600]  # each at least an hour after the one before
