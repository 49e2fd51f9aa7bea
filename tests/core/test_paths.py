"""What a path is: URLs of unknown stores are refused by whatever takes a path; `file://` is one."""

import inspect
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from etils import epath

import jscope as js
from jscope import tf_checkpoint
from jscope._cli._app import run
from jscope._stores import paths
from jscope.interop import tensorflow
from jscope.saver import Saver

TREE = js.VarTree({"w": np.zeros(3, np.float32)})
STATE = tf_checkpoint.CheckpointState("m-1")

# Each public function that takes a path, and a call of it that needs nothing else.
TAKES_PATH = {
    js.Saver: js.Saver,
    js.Saver.restore: lambda path: js.Saver("runs").restore(TREE, path),
    js.Saver.open: lambda path: js.Saver("runs").open(path),
    js.checkpoint_exists: js.checkpoint_exists,
    js.checkpoints_iterator: js.checkpoints_iterator,
    js.latest_checkpoint: js.latest_checkpoint,
    js.list_variables: js.list_variables,
    js.load_variable: lambda path: js.load_variable(path, "w"),
    tensorflow.export: lambda path: tensorflow.export(TREE, path),
    tensorflow.load: tensorflow.load,
    tensorflow.restore: lambda path: tensorflow.restore(TREE, path),
    tf_checkpoint.Writer: tf_checkpoint.Writer,
    tf_checkpoint.latest_checkpoint: tf_checkpoint.latest_checkpoint,
    tf_checkpoint.list_variables: tf_checkpoint.list_variables,
    tf_checkpoint.load_variable: lambda path: tf_checkpoint.load_variable(path, "w"),
    tf_checkpoint.open: tf_checkpoint.open,
    tf_checkpoint.read_state: tf_checkpoint.read_state,
    tf_checkpoint.write: lambda path: tf_checkpoint.write(path, TREE),
    tf_checkpoint.write_state: lambda path: tf_checkpoint.write_state(path, STATE),
}
# Those that write; their URLs are of known stores.
WRITES = [tf_checkpoint.Writer, tf_checkpoint.write_state]
KNOWN = ["gs://b/m-1", "s3://b/m-1", "GS://b"]
URLS = [
    "hdfs://b/m-1",
    "https://host/m-1",
    "az://b/m-1.npz",
    "hf://m/m.safetensors",
    "WASB://b",
]
# Of the last one pathlib makes what a directory may be called.
PATHS = [*URLS, *map(Path, URLS), "x-y.z+1://b/3"]


def public():
    """The public functions, classes and methods that have a path among their arguments."""
    owners = [(js, name, "jscope") for name in js.__all__]
    owners += [(m, name, m.__name__) for m in (tf_checkpoint, tensorflow) for name in vars(m)]
    owners += [(Saver, name, "jscope") for name in dir(Saver)]
    for owner, name, module in owners:
        value = getattr(owner, name)
        is_public = callable(value) and not name.startswith("_")
        if is_public and value.__module__.startswith(module):
            try:
                parameters = inspect.signature(value).parameters.values()
            except ValueError:  # an exception
                continue
            if any("PathLike" in str(parameter.annotation) for parameter in parameters):
                yield value


def test_all_that_take_a_path_are_listed():
    assert set(public()) == set(TAKES_PATH)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working directory that stays so."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("function", TAKES_PATH, ids=lambda function: function.__qualname__)
def test_a_url_is_refused_before_anything_is_read_or_written(empty, function, path):
    with pytest.raises(js.CheckpointValueError) as raised:
        TAKES_PATH[function](path)
    scheme = str(path).partition(":")[0]
    assert str(raised.value) == (
        f"{str(path)!r} is not on this machine: jscope reads local file systems, mounted ones too, "
        f"s3:// and gs://, and not {scheme}://. Copy the checkpoint to one of them and pass that "
        f"path. A local path that looks like a URL is written {os.path.abspath(path)!r}."
    )


@pytest.mark.parametrize("path", [*KNOWN, *map(Path, KNOWN)], ids=repr)
@pytest.mark.parametrize("function", WRITES, ids=lambda function: function.__qualname__)
def test_nothing_is_written_to_a_store(empty, function, path):
    with pytest.raises(js.CheckpointValueError) as raised:
        TAKES_PATH[function](path)
    assert str(raised.value) == (
        f"{str(path)!r} can't be written by this function: to s3:// and gs:// write js.Saver, "
        "exports, tf_checkpoint.write and jscope convert. Write to a local directory and copy it. "
        f"A local path that looks like a URL is written {os.path.abspath(path)!r}."
    )


@pytest.mark.parametrize("path", ["s3://b/run", Path("s3://b/run"), "S3://b/run/"], ids=repr)
def test_a_saver_of_a_store_has_its_url_as_directory(empty, path):
    assert str(Saver(path).directory) == "s3://b/run"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://", "has no bucket"),
        ("gs:///run", "has no bucket"),
        ("s3://b/run//1", "has an empty component"),
        ("s3://b/../c", "or '..'"),
    ],
)
def test_urls_that_two_programs_may_read_differently_are_refused(url, problem):
    with pytest.raises(js.CheckpointValueError, match=problem):
        js.Saver(url)


def test_paths_in_stores_compare_and_print_as_their_urls():
    path = paths.located("s3://b/run") / "12"
    assert path == paths.located(epath.Path("s3://b/run/12"))
    assert path == paths.located(Path("s3://b/run/12")) == paths.located("S3://b/run/12/")
    assert len({path, paths.located("s3://b/run/12"), paths.located("gs://b/run/12")}) == 2
    assert (str(path), os.fspath(path), path.name) == ("s3://b/run/12", "s3://b/run/12", "12")
    assert path.parent.parent == path.parent.parent.parent == paths.located("s3://b")
    assert pickle.loads(pickle.dumps(path)) == path


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "command",
    [
        "ls URL",
        "show URL w",
        "verify URL",
        "diff URL m.npz",
        "diff m.npz URL",
        "convert URL m.npz",
        "convert m.npz URL",
    ],
)
def test_the_command_refuses_urls(tmp_path, monkeypatch, capsys, command, url):
    monkeypatch.chdir(tmp_path)
    np.savez("m.npz", w=np.zeros(3))
    assert run(command.replace("URL", url).split()) == 2
    assert f"jscope: error: {url!r} is not on this machine" in capsys.readouterr().err
    assert os.listdir() == ["m.npz"]


@pytest.mark.parametrize("function", TAKES_PATH, ids=lambda function: function.__qualname__)
def test_an_empty_text_is_refused_before_anything_is_read_or_written(empty, function):
    with pytest.raises(js.CheckpointValueError) as raised:
        TAKES_PATH[function]("")
    assert str(raised.value) == (
        "A path is '', which is often a setting that was left out. Write the path of the "
        "checkpoints, or '.' for the working directory."
    )


def test_a_point_is_the_working_directory(empty):
    assert js.Saver(".").directory == js.Saver(Path("")).directory == empty


@pytest.mark.parametrize("path", [3, None, b"runs", ["runs"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(
        js.CheckpointValueError, match=r"A path is a string or a pathlib\.Path, got"
    ):
        js.Saver(path)
    with pytest.raises(TypeError, match=f"of type {type(path).__name__}"):
        tf_checkpoint.open(path)


@pytest.mark.parametrize("path", ["runs", "exp:/1", "a:b://c", "./gs://b", "/gs://b", ":/a", "gs:"])
def test_what_is_no_url_is_a_path(path):
    assert paths.local(path) == path


def test_a_local_path_that_looks_like_a_url_is_written_as_the_error_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(js.CheckpointValueError) as raised:
        tf_checkpoint.Writer("gs://b")
    path = str(raised.value).split()[-1].strip(".'")
    with js.Saver(path) as saver:
        saver.save(TREE, 1)
    assert js.list_variables(Path(path)) == [("w", [3])]
    assert sorted(os.listdir("gs:/b")) == ["1", "checkpoint"]


@pytest.mark.parametrize("of", [str, Path])
def test_file_urls_are_paths_everywhere(tmp_path, of):
    url = of(f"file://{tmp_path}")
    with js.Saver(of(f"file://{tmp_path}/own")) as saver:
        saver.save(TREE, 1)
        assert saver.restore(TREE, of(f"file://{tmp_path}/own/1")) == TREE
    prefix = tensorflow.export(TREE, of(f"file://{tmp_path}/m-1"))
    assert prefix == str(tmp_path / "m-1")
    assert tensorflow.load(url) == TREE
    assert tf_checkpoint.latest_checkpoint(url) == prefix
    assert js.latest_checkpoint(of(f"file://{tmp_path}/own")) == tmp_path / "own" / "1"
    assert run(["ls", str(url)]) == 0


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file://host/runs", "names the machine 'host'"),
        ("file://runs", "names the machine 'runs'"),
        ("file:///a%20b", "has escapes, which some programs decode and others don't"),
    ],
)
def test_file_urls_that_two_programs_may_read_differently_are_refused(empty, url, problem):
    with pytest.raises(js.CheckpointValueError) as raised:
        js.Saver(url)
    text = f"{url!r} {problem}. Write the path itself, such as '/runs/a', or file:///runs/a."
    assert str(raised.value) == text
