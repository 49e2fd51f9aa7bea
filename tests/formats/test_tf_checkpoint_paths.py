"""What a path may be, and the state file of a directory."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tf_checkpoint import GOLDEN

from jscope import CheckpointError, CheckpointNotFoundError, CheckpointValueError, tf_checkpoint
from jscope.tf_checkpoint import CheckpointState, _state_file


@pytest.fixture
def folder(tmp_path):
    """Two V2 checkpoints, the latter named as the latest, and a V1 checkpoint of two shards."""
    for step in (1, 2):
        tf_checkpoint.write(tmp_path / f"m-{step}", {"step": np.int64(step)})
    for path in GOLDEN.glob("v1-*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "m-2.meta").write_bytes(b"a graph")
    return tmp_path


def step(path):
    return int(tf_checkpoint.load_variable(path, "step"))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("m-1", 1),
        ("m-2.index", 2),
        ("m-2.meta", 2),
        ("m-1.data-00000-of-00001", 1),
        ("m-1*", 1),
        ("m-[1].index", 1),
        ("", 2),
    ],
)
def test_any_file_of_a_checkpoint_means_the_checkpoint(given, found, folder, monkeypatch):
    assert step(folder / given) == found
    assert step(f"file://{folder / given}") == found
    monkeypatch.chdir(folder)
    assert step(given or ".") == found


@pytest.mark.parametrize("given", ["v1", "v1-00001-of-00002", "v1-?????-of-00002", "v1-*"])
def test_any_name_of_version_1_means_all_its_shards(given, folder):
    checkpoint = tf_checkpoint.open(folder / given)
    assert checkpoint.prefix == str(folder / "v1-?????-of-00002")
    assert checkpoint["p"].shape == (5, 3)


def test_a_glob_passes_over_what_is_no_checkpoint(tmp_path):
    tf_checkpoint.write(tmp_path / "m-1", {"step": np.int64(3)})
    (tmp_path / "events.out").write_bytes(b"something else")
    (tmp_path / "folder").mkdir()
    assert step(tmp_path / "*") == 3


def test_a_file_with_an_odd_name_is_found_literally(tmp_path):
    tf_checkpoint.write(tmp_path / "m[1]*", {"step": np.int64(5)})
    assert step(tmp_path / "m[1]*") == 5
    shutil.copy(tmp_path / "m[1]*.index", tmp_path / "m.index.index")
    shutil.copy(tmp_path / "m[1]*.data-00000-of-00001", tmp_path / "m.index.data-00000-of-00001")
    assert step(tmp_path / "m.index") == 5


@pytest.mark.parametrize("inside", ["", "variables", "variables/variables"])
def test_a_saved_model_means_its_variables(inside, tmp_path):
    tf_checkpoint.write(tmp_path / "variables/variables", {"step": np.int64(7)}, write_state=False)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert step(tmp_path / inside) == 7


def test_a_directory_with_one_checkpoint_needs_no_state_file(folder):
    (folder / "checkpoint").unlink()
    with pytest.raises(CheckpointNotFoundError) as error:
        tf_checkpoint.open(folder)
    assert "has no file named checkpoint, and 2 checkpoints: " in str(error.value)
    assert f"'{folder / 'm-1'}', '{folder / 'm-2'}'. Name one" in str(error.value)
    for path in folder.glob("m-1*"):
        path.unlink()
    assert step(folder) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("m-3", "No checkpoint at '{0}/m-3': neither {0}/m-3.index nor {0}/m-3 is a file (close "),
        ("nowhere/m", "and there is no checkpoint beside it)."),
        ("m-*", "matches 2 checkpoints: '{0}/m-1', '{0}/m-2'. Name one."),
        ("x-*", "No checkpoint at '{0}/x-*'"),
        ("empty", "The directory '{0}/empty' has no file named checkpoint, and no checkpoint."),
        ("lost.meta", "{0}/lost.meta is there, but {0}/lost.index is not. Copy it beside"),
        ("part", "2 of the 3 files of '{0}/part' are missing: '{0}/part-00001-of-00003', "),
        ("a\0b", "No file can be called"),
    ],
)
def test_a_path_that_means_nothing_is_an_error_with_a_hint(given, message, folder):
    (folder / "empty").mkdir()
    (folder / "lost.meta").write_bytes(b"a graph")
    (folder / "part-00000-of-00003").write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError) as error:
        tf_checkpoint.open(f"{folder}/{given}")
    assert message.format(folder) in str(error.value)
    assert isinstance(error.value, FileNotFoundError)


def test_other_machines_are_not_asked():
    with pytest.raises(CheckpointValueError, match="'az://b/m' is not on this machine"):
        tf_checkpoint.open("az://b/m")


def test_the_parts_of_a_number_are_not_shards(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="No checkpoint at"):
        tf_checkpoint.open(tmp_path / "m-00000-of-00002")


def test_what_cannot_be_read_says_why(folder, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError, match=r"m-1\.index can't be read: Permission denied"):
        tf_checkpoint.open(folder / "m-1")
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint beside it"):
        tf_checkpoint.open(folder / "m-9")


# State files.


def test_the_latest_checkpoint_is_the_one_that_the_state_names(folder):
    assert tf_checkpoint.latest_checkpoint(folder) == str(folder / "m-2")
    state = tf_checkpoint.read_state(folder)
    assert state == CheckpointState(str(folder / "m-2"), (str(folder / "m-1"), str(folder / "m-2")))
    v1 = str(folder / "v1-?????-of-00002")
    tf_checkpoint.write_state(folder, CheckpointState(v1, (v1,)), "other")
    assert tf_checkpoint.latest_checkpoint(folder, "other") == v1
    assert tf_checkpoint.latest_checkpoint(folder / "nowhere") is None
    moved = folder.rename(folder.with_name("moved"))
    assert tf_checkpoint.latest_checkpoint(moved) == str(moved / "m-2")


def test_a_state_that_names_what_is_gone_is_explained(folder):
    tf_checkpoint.write_state(folder, CheckpointState("/old/place/m-1", ("/old/place/m-1",)))
    assert tf_checkpoint.latest_checkpoint(folder) is None
    with pytest.raises(CheckpointNotFoundError) as error:
        tf_checkpoint.open(folder)
    assert (
        "names '/old/place/m-1', which is not there; perhaps the directory was moved. It has"
        in (str(error.value))
    )
    for path in folder.glob("*.index"):
        path.unlink()
    with pytest.raises(CheckpointNotFoundError, match="It has none at all"):
        tf_checkpoint.open(folder)


def test_a_state_is_never_taken_for_a_glob(folder):
    # A pattern such as this takes a file system's whole tree.
    tf_checkpoint.write_state(folder, CheckpointState("/*" * 12))
    assert tf_checkpoint.latest_checkpoint(folder) is None


def test_saving_again_keeps_the_others_and_their_times(tmp_path):
    value = {"step": np.int64(0)}
    tf_checkpoint.write(tmp_path / "m-1", value)
    state = CheckpointState("m-1", ("gone", "m-1"), (1.0, 2.0), 0.5)
    tf_checkpoint.write_state(tmp_path, state)
    tf_checkpoint.write(tmp_path / "m-2", value)
    found = tf_checkpoint.read_state(tmp_path)
    assert found.all_model_checkpoint_paths == tuple(
        str(tmp_path / name) for name in ("gone", "m-1", "m-2")
    )
    assert found.all_model_checkpoint_timestamps[:2] == (1.0, 2.0)
    assert found.all_model_checkpoint_timestamps[2] > 1e9
    assert found.last_preserved_timestamp == 0.5
    # A name that is listed moves to the end.
    for path in tmp_path.glob("m-1.*"):
        path.unlink()
    tf_checkpoint.write(tmp_path / "m-1", value)
    assert [
        path[-3:] for path in tf_checkpoint.read_state(tmp_path).all_model_checkpoint_paths
    ] == [
        "one",
        "m-2",
        "m-1",
    ]


paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
times = st.floats(allow_nan=False, allow_infinity=True)


@given(paths, st.lists(paths), st.lists(times), st.none() | times)
def test_states_are_read_as_they_were_written(latest, others, stamps, last):
    state = CheckpointState(latest, tuple(others), tuple(stamps), last)
    assert _state_file.parse(_state_file.text_of(state), "x") == state


def test_protobufs_text_is_read_in_its_other_spellings():
    text = """
        # a comment
        model_checkpoint_path : 'a"b' "\\x63\\144\\n" ; all_model_checkpoint_paths: "x",
        all_model_checkpoint_paths: 'y\\'' # another
        all_model_checkpoint_timestamps: 1.5e3 last_preserved_timestamp: 2
        a_field_of_the_future: ANYTHING
    """
    assert _state_file.parse(text, "x") == CheckpointState('a"bcd\n', ("x", "y'"), (1500.0,), 2.0)
    raw = os.fsdecode(b"\xfe")
    assert _state_file.parse('model_checkpoint_path: "\\376"', "x").model_checkpoint_path == raw
    assert '"\\376"' in _state_file.text_of(CheckpointState(raw))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_checkpoint_path 'm'", "line 1: expected a field of a CheckpointState such as"),
        ("\nmodel_checkpoint_path: 'm", "line 2: expected a field of a CheckpointState"),
        ("model_checkpoint_path: m", "expected a path in quotes, found 'm'"),
        ("model_checkpoint_path: 'a\\000b'", "expected a path, found one with a NUL"),
        ("last_preserved_timestamp: soon", "expected a time in seconds, found 'soon'"),
        ("all_model_checkpoint_paths: 'm'", "names no checkpoint: expected a line such as"),
    ],
)
def test_a_state_that_cannot_be_read_is_an_error(text, message, tmp_path):
    (tmp_path / "checkpoint").write_text(text)
    for read in (tf_checkpoint.read_state, tf_checkpoint.latest_checkpoint, tf_checkpoint.open):
        with pytest.raises(CheckpointError) as error:
            read(tmp_path)
        assert message in str(error.value)
        assert str(tmp_path / "checkpoint") in str(error.value)
    with pytest.raises(CheckpointError):
        tf_checkpoint.write(tmp_path / "m", {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_state_in_another_encoding_is_an_error(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"model_checkpoint_path: '\xfe'")
    with pytest.raises(CheckpointError, match="checkpoint, offset 24: expected UTF-8"):
        tf_checkpoint.open(tmp_path)


def test_times_for_some_checkpoints_only_are_refused(tmp_path):
    with pytest.raises(
        CheckpointValueError, match=r"1 timestamps for 2 checkpoints, .*: give one for"
    ):
        tf_checkpoint.write_state(tmp_path, CheckpointState("b", ("a", "b"), (1.0,)))
    with pytest.raises(CheckpointValueError, match="2 timestamps for 3 checkpoints, 'a', 'b', 'c'"):
        tf_checkpoint.write_state(tmp_path, CheckpointState("c", ("a", "b"), (1.0, 2.0)))
    with pytest.raises(CheckpointError, match="checkpoint can't be written: No such file"):
        tf_checkpoint.write_state(tmp_path / "nowhere", CheckpointState("b"))


def test_a_state_names_a_checkpoint_and_not_itself(tmp_path):
    with pytest.raises(CheckpointValueError, match=r"model_checkpoint_path .* is empty: name the"):
        tf_checkpoint.write_state(tmp_path, CheckpointState(""))
    itself = str(tmp_path / "checkpoint")
    with pytest.raises(CheckpointValueError, match=r"is the state file itself.*'another'"):
        tf_checkpoint.write_state(tmp_path, CheckpointState(itself))
    tf_checkpoint.write_state(tmp_path, CheckpointState(itself), "another")
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_a_file_is_no_directory_that_has_a_state(folder):
    assert tf_checkpoint.latest_checkpoint(folder / "m-1.index") is None
    assert tf_checkpoint.read_state(folder / "m-1.index") is None


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_checkpoint_is_where_its_path_says(tmp_path, monkeypatch, is_absolute):
    monkeypatch.chdir(tmp_path)
    names = [f"a{chr(code)}b" for code in range(32, 127) if chr(code) != "/"]
    for name in [*names, "lr=[0.1]", "**", "{a}", "e\u0301", "日本", "a\nb", "\udc80"]:
        given = os.path.join(tmp_path, name) if is_absolute else name
        tf_checkpoint.write(os.path.join(given, name), {"step": np.int64(len(name))})
        assert os.path.isfile(os.path.join(tmp_path, name, f"{name}.index"))
        assert step(given) == step(os.path.join(given, name)) == len(name)
        assert tf_checkpoint.latest_checkpoint(given) == os.path.join(given, name)
