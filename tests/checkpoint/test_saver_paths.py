"""A checkpoint is where its path says, or nothing is written, replaced or removed."""

import gc
import json
import os
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from saver_faults.trees import packing_up_to

import jscope as js
from jscope.formats import _plain_paths
from jscope.saver import Saver, _orbax

LETTERS = string.ascii_letters + string.digits
OTHERS = [f"a{character}b" for character in " " + string.punctuation if character != "/"]
TOGETHER = ["lr=[0.1]", "[!a]b", "a**b", "**", "[", "*", "{a,b}", "a\\", "\\\\a", "c:\\x", "%41"]
ENDS = [" a", "a ", ".a", "...", "-a", "~", "~a", "#a", "?a", "a|zip:", "a//b"]
UNICODE = [
    "é",
    "e\u0301",
    "ß",
    "日本語",
    "🙂",
    "\u202ea",
    "\xa0",
    "a\nb",
    "a\tb",
    "\x01\x7f",
    "\udc80",
]
NAMES = [LETTERS, *OTHERS, *TOGETHER, *ENDS, *UNICODE]
assert {chr(code) for code in range(32, 127)} <= set("".join(NAMES))

# Of more bytes than are packed beside compression.
ARRAY = np.arange(20_000, dtype=np.float32)
LAYOUTS = {
    "packed": ({}, {}),
    "large": ({}, {}),
    "compressed": ({"compression": "zstd"}, {}),
    "one file": ({"sharded": False}, {}),
    "portable": ({}, {"portable": True}),
}

RESTORE = """
import json, sys, numpy as np, jscope as js
problems = {}
for layout, path in json.load(sys.stdin):
    try:
        with js.Saver(path) as saver:
            restored = saver.restore({"w": np.zeros(20_000, np.float32), "step": np.int32(0)})
            assert saver.all_steps() == (1,) and restored["step"] == 1
            np.testing.assert_array_equal(restored["w"], np.arange(20_000, dtype=np.float32))
    except Exception as error:
        problems.setdefault(layout, []).append(f"{path!a}: {error!a}")
print(json.dumps(problems))
"""


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """What goes wrong for a process that restores what this one saved, by layout.

    What is saved by a relative path is restored by the absolute one, and the other way round.
    """
    root = tmp_path_factory.mktemp("paths")
    saved = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for layout, (of_saver, of_save) in LAYOUTS.items():
            with packing_up_to(1 << (30 if layout == "packed" else 10)):
                for number, name in enumerate(NAMES):
                    # A relative path that begins with ~ is one in the home directory.
                    ways = os.path.join(layout, name), os.path.join(root, layout, name)
                    written, read = ways if number % 2 else ways[::-1]
                    with Saver(written, **of_saver) as saver:
                        saver.save({"w": ARRAY, "step": np.int32(1)}, 1, **of_save)
                    saved.append((layout, read))
    done = subprocess.run(
        [sys.executable, "-c", RESTORE],
        input=json.dumps(saved),
        cwd=root,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found = json.loads(done.stdout)
    for layout in LAYOUTS:
        strays = set(os.listdir(root / layout)) - {name.split("/")[0] for name in NAMES}
        found.setdefault(layout, []).extend(f"{stray!a} is not requested" for stray in strays)
    assert set(os.listdir(root)) == set(LAYOUTS)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_is_where_its_path_says_and_another_process_restores_it(problems, layout):
    assert problems[layout] == []


@pytest.fixture
def links(tmp_path, monkeypatch):
    """An empty directory for temporary files."""
    directory = tmp_path / "links"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.mark.parametrize("name", ["a\\b", "lr=[0.1]"])
def test_links_are_gone_after_their_use(tmp_path, links, name):
    with packing_up_to(64), Saver(tmp_path / name) as saver:
        saver.save({"w": ARRAY}, 1, portable=True)
        saver.save_async({"w": ARRAY}, 2, portable=True).result()
        assert os.listdir(links) == []
        checkpoint = saver.open(2)
        np.testing.assert_array_equal(checkpoint["w"][3:5], ARRAY[3:5])
        assert len(os.listdir(links)) == ("\\" in name)
    del checkpoint
    gc.collect()
    assert os.listdir(links) == []


def test_a_failed_save_leaves_no_link(tmp_path, links, monkeypatch):
    def fail(*arguments, **options):
        assert len(os.listdir(links)) == 1
        raise OSError("no space left")

    monkeypatch.setattr(_orbax, "begin", fail)
    with (
        packing_up_to(64),
        Saver(tmp_path / "a\\b") as saver,
        pytest.raises(js.CheckpointError, match="no space left"),
    ):
        saver.save({"w": ARRAY}, 1, portable=True)
    assert os.listdir(links) == []


@pytest.mark.parametrize("place", ["absent", "strange\\"])
def test_where_no_link_can_be_made_nothing_is_written_or_removed(tmp_path, monkeypatch, place):
    if place != "absent":
        (tmp_path / place).mkdir()
    monkeypatch.setattr("jscope.saver._saver._PACKS_BESIDE_COMPRESSED", 64)
    with Saver(tmp_path / "a\\b", max_to_keep=1, compression="zstd") as saver:
        saver.save({"w": ARRAY}, 1)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
        with pytest.raises(js.CheckpointError) as raised:
            saver.save({"w": ARRAY}, 2)
        assert saver.all_steps() == (1,)
        assert sorted(os.listdir(saver.directory)) == ["1", "checkpoint"]
        # What is packed needs none.
        saver.save({"w": ARRAY[:3]}, 3)
    text = str(raised.value)
    assert "has '\\\\', which TensorStore or Orbax takes for something else, and no link" in text
    assert "Set TMPDIR to a directory that can be written, or choose a path without" in text


def test_orbaxs_checkpoints_are_read_by_any_path(tmp_path):
    tree = {"w": jnp.asarray(ARRAY), "s": jnp.int32(3)}
    orbax.checkpoint.PyTreeCheckpointer().save(tmp_path / "plain", tree)
    for name in ("a\\b", "lr=[0.1]", "\udc80"):
        (tmp_path / "plain").rename(tmp_path / name)
        restored = Saver(tmp_path / name).restore(tree)
        np.testing.assert_array_equal(restored["w"], ARRAY)
        assert js.load_variable(tmp_path / name, "s") == 3
        (tmp_path / name).rename(tmp_path / "plain")


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_evicted_or_replaced_by_what_cannot_be_read_back(
    tmp_path, monkeypatch, overwrite
):
    # Without the link, Orbax saves a database without arrays there.
    with packing_up_to(64), Saver(tmp_path / "lr=[0.1]", max_to_keep=1) as saver:
        saver.save({"w": ARRAY}, 1, portable=True)
        monkeypatch.setattr(
            _plain_paths.Plain,
            "__init__",
            lambda self, path, *more: vars(self).update(path=path, close=lambda: None),
        )
        step = 1 if overwrite else 2
        with pytest.raises(js.CheckpointError) as raised:
            saver.save({"w": ARRAY + 1}, step, portable=True, overwrite=overwrite)
        assert saver.all_steps() == (1,)
        np.testing.assert_array_equal(saver.restore({"w": ARRAY})["w"], ARRAY)
    assert str(raised.value).startswith(
        f"Step {step} was not saved to {saver.directory}: the written files can't be read back. No "
        "other step was replaced or removed. 'w' can't be read: NOT_FOUND"
    )


@pytest.mark.parametrize("kind", ["cut", "gone", "another's"])
def test_what_is_written_is_compared_with_its_index_before_it_is_committed(
    tmp_path, monkeypatch, kind
):
    from jscope.saver import _staging

    write_index = _staging.write_index

    def write(directory: Path, index):
        write_index(directory, index)
        if kind == "cut":
            os.truncate(directory / "packed.bin", 3)
        if kind == "gone":
            (directory / "0" / "0").unlink()
        if kind == "another's":
            (directory / "1" / "0").write_bytes(bytes(ARRAY.nbytes + 1))

    with packing_up_to(64), Saver(tmp_path, max_to_keep=1) as saver:
        tree = {"s": ARRAY[:3], "v": ARRAY, "w": ARRAY}
        saver.save(tree, 1)
        monkeypatch.setattr(_staging, "write_index", write)
        with pytest.raises(js.CheckpointError, match="the written files can't be read back"):
            saver.save(tree, 2)
        assert saver.all_steps() == (1,)
        saver.verify(1)
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]
