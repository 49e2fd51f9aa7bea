import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import jscope
from jscope import _cli, tf_checkpoint
from jscope._cli import _app, _terminal
from jscope.formats import npz
from jscope.interop import safetensors as safetensors_files

TREE = {
    "bert/embeddings/word": np.linspace(-1, 1, 600, dtype=np.float32).reshape(100, 6),
    "bert/layer_2/w": np.arange(0.25, 16, dtype=np.float32).reshape(4, 4),
    "bert/layer_10/w": np.full((4, 4), 2, ml_dtypes.bfloat16),
    "bert/layer_10/w/Adam": np.zeros((4, 4), np.float32),
    "global_step": np.array(1000, np.int64),
}
WITHOUT_STRINGS = ("npz", "safetensors")
FILES = {"npz": ".npz", "safetensors": ".safetensors", "tensorflow": ".ckpt"}
ENDINGS = {**FILES, "jscope": "/12"}


def save(path, arrays):
    """Write a checkpoint with the library of its format, not with the command."""
    path = str(path)
    if path.endswith(".npz"):
        with npz.Writer(Path(path), arrays) as writer:
            for name, array in arrays.items():
                writer.write(name, array)
    elif path.endswith(".safetensors"):
        safetensors.numpy.save_file(arrays, path)
    elif path.endswith(".ckpt"):
        tf_checkpoint.write(path, arrays)
    else:
        directory, _, step = path.rpartition("/")
        with jscope.Saver(directory) as saver:
            saver.save(arrays, int(step))
    return path


@pytest.fixture(params=sorted(ENDINGS))
def ckpt(request, tmp_path):
    return save(tmp_path / f"model{ENDINGS[request.param]}", TREE)


def run_command(capsys, *arguments):
    status = _app.run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def jscope_command(capsys, monkeypatch):
    """Runs the command; gives its status, output and errors."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return functools.partial(run_command, capsys)


@pytest.fixture
def on_terminal(capsys, monkeypatch):
    """The same as a terminal of 80 columns shows it, without the colours."""

    def run(*arguments):
        with monkeypatch.context() as changed:
            changed.setenv("FORCE_COLOR", "1")
            changed.setenv("COLUMNS", "80")
            changed.delenv("NO_COLOR", raising=False)
            _terminal.console.cache_clear()
            status, out, err = run_command(capsys, *arguments)
        _terminal.console.cache_clear()
        plain = re.sub(r"\x1b\[[\d;]*m", "", out)
        lines = [line.rstrip() for line in plain.split("\n")]
        assert "\x1b[" in out
        assert all(len(line) <= 80 for line in lines), plain
        return status, "\n".join(lines).rstrip(), err

    return run


# ls


def test_ls_takes_names_with_numbers_of_any_length_and_text_that_is_no_utf_8(tmp_path, capsys):
    tree = {"w9" + "0" * 5000: np.ones(1), "w" + "8" * 4999: np.ones(2), "text": "\udcff"}
    path = jscope.Saver(tmp_path).save(tree, 1)
    status, out, err = run_command(capsys, "ls", path)
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines() if line]
    assert [name for name in names if name in tree] == sorted(tree, key=len)


def test_ls_lists_name_shape_dtype_and_bytes_in_natural_order(ckpt, jscope_command):
    status, out, err = jscope_command("ls", ckpt)
    assert (status, err) == (0, "")
    table, total = out.rstrip().split("\n\n")
    assert table.split("\n") == [
        "name                  shape     dtype       bytes",
        "bert/embeddings/word  (100, 6)  float32   2.3 KiB",
        "bert/layer_2/w        (4, 4)    float32      64 B",
        "bert/layer_10/w       (4, 4)    bfloat16     32 B",
        "bert/layer_10/w/Adam  (4, 4)    float32      64 B",
        "global_step           ()        int64         8 B",
    ]
    assert total.startswith("5 variables, 649 elements, 2.5 KiB   ")


def test_ls_of_selectors(ckpt, jscope_command):
    _, out, _ = jscope_command("ls", ckpt, "bert/*/w", "re:^global", "--json")
    facts = json.loads(out)
    assert [v["name"] for v in facts["variables"]] == [
        "bert/layer_2/w",
        "bert/layer_10/w",
        "global_step",
    ]
    assert facts["variables"][1] == {
        "name": "bert/layer_10/w",
        "shape": [4, 4],
        "dtype": "bfloat16",
        "bytes": 32,
    }
    assert facts["total"] == {"variables": 3, "elements": 33, "bytes": 104}


def test_ls_depth_gives_totals_by_scope(ckpt, jscope_command):
    _, out, _ = jscope_command("ls", ckpt, "--depth", 2)
    assert out.split("\n\n")[0].split("\n") == [
        "scope            variables  elements    bytes  share",
        "bert/embeddings          1       600  2.3 KiB  93.5%",
        "bert/layer_2             1        16     64 B   2.5%",
        "bert/layer_10            2        32     96 B   3.7%",
        "/                        1         1      8 B   0.3%",
    ]
    _, out, _ = jscope_command("ls", ckpt, "--depth", 0, "--json")
    (only,) = json.loads(out)["scopes"]
    assert only == {"scope": "", "variables": 5, "elements": 649, "bytes": 2568}


def test_ls_on_a_terminal_folds_names_at_slashes(tmp_path, on_terminal):
    deep = "bert/encoder/layer_0/attention/output/LayerNorm/gamma/AdamWeightDecayOptimizer"
    path = save(tmp_path / "m.npz", {deep: np.zeros((768, 768)), "x" * 90: np.zeros(3)})
    status, out, _ = on_terminal("ls", path)
    assert status == 0
    assert out.split("\n")[:6] == [
        "name                                                shape       dtype      bytes",
        "bert/encoder/layer_0/attention/output/LayerNorm/    (768, 768)  float64  4.5 MiB",
        "  gamma/AdamWeightDecayOptimizer",
        "x" * 50 + "  (3,)        float64     24 B",
        "  " + "x" * 40,
        "",
    ]
    _, out, _ = on_terminal("ls", path, "--depth", 1)
    assert out.split("\n")[1].endswith("100.0%  ████████████")


def test_a_very_long_table_is_plain_on_a_terminal_too(tmp_path, on_terminal, monkeypatch):
    monkeypatch.setattr("jscope._cli._terminal._MOST_WITH_RICH", 2)
    path = save(tmp_path / "m.npz", {name: np.zeros(3) for name in "abc"})
    _, out, _ = on_terminal("ls", path)
    assert out.split("\n")[:2] == ["name  shape  dtype    bytes", "a     (3,)   float64   24 B"]


def test_an_empty_checkpoint(tmp_path, jscope_command):
    path = save(tmp_path / "m.npz", {})
    for command in ("ls", "verify"):
        status, out, _ = jscope_command(command, path)
        assert status == 0
        assert "0 variables" in out
    _, out, _ = jscope_command("ls", path, "--depth", 1)
    assert "0 variables" in out


def test_strings_are_listed_and_shown(tmp_path, jscope_command):
    value = np.array([b"a", b"x" * 200], object)
    path = save(tmp_path / "m.ckpt", {"names": value})
    _, out, _ = jscope_command("ls", path)
    assert re.search(r"names +\(2,\) +string", out)
    _, out, _ = jscope_command("show", path, "names")
    assert out.split("\n\n")[1].startswith("[b'a'\n b'xxx")
    assert "x...'" in out
    _, out, _ = jscope_command("show", path, "names", "--values", "--json")
    assert json.loads(out)["values"] == ["a", "x" * 200]


# show


def test_show_counts_what_is_no_number(tmp_path, jscope_command):
    values = np.array([0, 1, 2, -5, np.nan, np.nan, np.inf, -np.inf, 0, 4], np.float32)
    path = save(tmp_path / "m.npz", {"w": values})
    status, out, _ = jscope_command("show", path, "w")
    assert status == 0
    assert out.split("\n\n")[:2] == [
        "w\nfloat32 (10,), 10 elements, 40 B, CRC-32 verified",
        "min                  -5      zeros            2\n"
        "max                   4      NaN              2\n"
        "mean           0.333333      +Inf             1\n"
        "std             2.74874      -Inf             1\n"
        "norm            6.78233",
    ]
    assert "nan" in out.split("\n\n")[2]  # few values are shown


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16", "uint8", "complex64", "bool"])
def test_show_computes_what_numpy_does(dtype, tmp_path, jscope_command, monkeypatch):
    monkeypatch.setattr("jscope._cli.show._CHUNK", 100)
    values = np.random.default_rng(0).normal(0, 50, 1000).reshape(10, 100)
    values = values > 0 if dtype == "bool" else values.astype(dtype)
    path = save(tmp_path / "m.npz", {"w": values})
    _, out, _ = jscope_command("show", path, "w", "--json")
    found = json.loads(out)["statistics"]
    wide = np.abs(values) if dtype == "complex64" else values.astype(np.float64)
    assert found["minimum"] == wide.min()
    assert found["maximum"] == wide.max()
    assert found["mean"] == pytest.approx(wide.mean())
    assert found["std"] == pytest.approx(wide.std())
    assert found["norm"] == pytest.approx(np.sqrt((wide**2).sum()))
    assert found["zeros"] == (wide == 0).sum()
    assert sum(found["histogram"]) == 1000
    bins = len(found["histogram"])
    if dtype == "bool":
        assert found["histogram"] == [1000 - values.sum(), values.sum()]
    else:
        np.testing.assert_array_equal(found["histogram"], np.histogram(wide, bins)[0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full(20, np.nan), {"finite": 0, "mean": "nan", "histogram": []}),
        (np.array([-1e308, 1e308] * 10), {"maximum": 1e308, "histogram": [], "norm": "inf"}),
        (np.array([2**62, 2**62 + 1] * 10), {"minimum": 2**62, "maximum": 2**62 + 1}),
        (np.zeros((0, 3)), {"finite": 0, "histogram": []}),
        (np.array([1 + 2j, np.inf]), {"positive_infinity": 1, "maximum": 5**0.5}),
    ],
)
def test_show_at_the_limits(values, expected, tmp_path, jscope_command):
    path = save(tmp_path / "m.npz", {"w": values})
    status, out, _ = jscope_command("show", path, "w", "--json", "--values")
    assert status == 0
    found = json.loads(out)["statistics"]
    assert {key: found[key] for key in expected} == expected
    assert jscope_command("show", path, "w")[0] == 0


def test_show_draws_a_histogram(tmp_path, on_terminal):
    values = np.repeat([0, 1, 2, 3], [20, 10, 5, 1])
    path = save(tmp_path / "m.npz", {"enc/w": values})
    _, out, _ = on_terminal("show", path, "enc/w", "--values")
    assert out.split("\n")[9:] == [
        "█" * 16,
        "█" * 16,
        "█" * 16,
        "█" * 32,
        "█" * 32 + "▄" * 16,
        "█" * 48 + "▃" * 16,
        "0" + " " * 62 + "3",
        "",
        "[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1 1 1 2 2 2 2 2 3]",
    ]


def test_show_of_what_is_not_there_offers_close_names(ckpt, jscope_command):
    status, out, err = jscope_command("show", ckpt, "bert/layer_2/W")
    assert (status, out) == (2, "")
    first, hint = err.rstrip().split("\n")
    assert first.startswith("jscope: error: no variable 'bert/layer_2/W' in ")
    assert "close names: 'bert/layer_2/w'" in first
    assert hint == f"hint: jscope ls {ckpt}"


def test_show_takes_the_name_of_tensorflow_s_tensor(ckpt, jscope_command):
    variable = jscope_command("show", ckpt, "global_step")
    assert variable[0] == 0
    assert jscope_command("show", ckpt, "global_step:0") == variable
    _, out, _ = jscope_command("show", ckpt, "global_step:0", "--json")
    assert json.loads(out)["name"] == "global_step"
    for name in ("global_step:1", "global_step:0:0", "global_step:00"):
        status, out, err = jscope_command("show", ckpt, name)
        assert (status, out) == (2, "")
        assert f"no variable {name!r} in " in err
        assert "close names: 'global_step'" in err
        assert ("a variable's tensor is ':0'" in err) == (name == "global_step:1")


def test_show_prefers_a_variable_of_just_that_name(tmp_path, jscope_command):
    path = tmp_path / "odd.npz"
    np.savez(path, **{"w": np.float32(1), "w:0": np.float32(2)})
    assert json.loads(jscope_command("show", path, "w:0", "--values", "--json")[1])["values"] == 2


# diff


@pytest.mark.parametrize("other", sorted(FILES))
def test_diff_of_equal_checkpoints(ckpt, other, tmp_path, jscope_command):
    path = save(tmp_path / f"other{ENDINGS[other]}", TREE)
    assert jscope_command("diff", ckpt, path) == (0, "5 equal\n", "")


def changed():
    arrays = {name.replace("bert", "encoder"): array.copy() for name, array in TREE.items()}
    del arrays["global_step"]
    arrays["encoder/embeddings/word"][3, 4] *= 1.25
    arrays["encoder/layer_2/w"] = np.ones((4, 5), np.float32)
    arrays["encoder/layer_10/w"] = np.full((4, 4), 2, np.float32)
    arrays["head/w"] = np.zeros(3, np.float32)
    return arrays


def test_diff_lists_every_kind_of_difference(ckpt, tmp_path, jscope_command):
    path = save(tmp_path / "other.npz", changed())
    status, out, _ = jscope_command("diff", ckpt, path, "--rename", "bert=encoder")
    assert status == 1
    table, total = out.rstrip().split("\n\n")
    assert [" ".join(line.split()) for line in table.split("\n")[1:]] == [
        "encoder/embeddings/word values float32[100,6] 0.2",
        "encoder/layer_2/w shape float32[4,4] -> [4,5]",
        "encoder/layer_10/w dtype bfloat16 -> float32[4,4] 0",
        "global_step missing int64[]",
        "head/w extra float32[3]",
    ]
    assert total == "1 equal, 5 different: 1 missing, 1 extra, 1 shape, 1 dtype, 1 values"
    _, out, _ = jscope_command("diff", ckpt, path, "--rename", "bert=encoder", "--json")
    facts = json.loads(out)
    assert facts["equal"] == 1
    assert facts["differences"][0]["relative"] == pytest.approx(0.2)
    assert facts["differences"][3] == {
        "name": "global_step",
        "kind": "missing",
        "a": "int64[]",
        "b": "",
        "relative": None,
    }


def test_diff_of_a_part_and_with_a_tolerance(ckpt, tmp_path, jscope_command, on_terminal):
    path = save(tmp_path / "other.npz", changed())
    part = ("diff", ckpt, path, "--rename", "bert=encoder", "--select", "**/word")
    assert jscope_command(*part)[0] == 1
    assert jscope_command(*part, "--rtol", "0.21") == (0, "1 equal\n", "")
    _, out, _ = on_terminal(*part)
    assert out.split("\n")[1].split() == [
        "encoder/embeddings/word",
        "values",
        "float32[100,6]",
        "0.2",
    ]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1.0, 0.0], [1.0, -0.0], 0),
        ([np.nan, np.inf], [np.nan, np.inf], 0),
        ([np.nan], [1.0], np.inf),
        ([np.inf], [-np.inf], np.inf),
        ([0.0], [1e-300], 1),
        ([1e308], [-1e308], 2),
        ([1 + 1j], [1 - 1j], 2**0.5),
        ([2**62], [2**62 + 1], 2**-62),
        ([b"a"], [b"b"], np.inf),
        ([b"a"], [b"a"], 0),
        (np.array([3], "int8"), np.array([3.0], "float32"), 0),
        (np.array([3], ml_dtypes.int4), np.array([2], ml_dtypes.int4), 1 / 3),
        ([], [], 0),
    ],
)
def test_the_largest_relative_difference(x, y, expected):
    from jscope._cli.diff import largest_relative_difference

    x, y = (np.array(v, object) if v and isinstance(v[0], bytes) else np.array(v) for v in (x, y))
    assert largest_relative_difference(x, y) == pytest.approx(expected, rel=0.9, abs=0)


# convert


@pytest.mark.parametrize("to", sorted(ENDINGS))
def test_convert_between_all_formats(ckpt, to, tmp_path, jscope_command):
    path = tmp_path / "new" / f"converted{ENDINGS[to]}"
    path.parent.mkdir(parents=True)
    status, out, err = jscope_command("convert", ckpt, path)
    assert (status, err) == (0, "")
    assert out == f"{path}: 5 variables, 2.5 KiB   {to}\n"
    assert jscope_command("diff", ckpt, path) == (0, "5 equal\n", "")
    content = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    status, out, err = jscope_command("convert", ckpt, path)
    assert (status, out) == (2, "")
    assert str(path) in err
    assert any(text in err for text in ("overwritten", "There is a checkpoint", "saved already"))
    assert {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()} == content


def test_convert_selects_drops_renames_and_casts(ckpt, tmp_path, jscope_command):
    path = tmp_path / "converted"
    status, out, _ = jscope_command(
        *("convert", ckpt, path, "--to", "npz", "--select", "bert/**", "--drop", "**/Adam*"),
        *("--rename", "bert=", "--rename", "bert/embeddings/word=table"),
        *("--dtype", "float16", "--json"),
    )
    assert status == 0
    assert json.loads(out) == {"path": str(path), "format": "npz", "variables": 3, "bytes": 1264}
    loaded = np.load(path)
    assert set(loaded) == {"layer_2/w", "layer_10/w", "table"}
    expected = TREE["bert/embeddings/word"].astype(np.float16)
    np.testing.assert_array_equal(loaded["table"], expected, strict=True)


def write_map(tmp_path, names):
    path = tmp_path / "names.json"
    path.write_text(names if isinstance(names, str) else json.dumps(names))
    return path


def test_convert_renames_by_a_map(ckpt, tmp_path, jscope_command):
    names = {
        "bert/": "encoder/",
        "bert/layer_*/": "encoder/layers/*/",
        "bert/embeddings/word": ["table", "head/w"],
        "bert/layer_10/w/Adam": "slot",
    }
    path = tmp_path / "o.npz"
    assert jscope_command("convert", ckpt, path, "--map", write_map(tmp_path, names))[0] == 0
    expected = {
        "encoder/layers/2/w": "bert/layer_2/w",
        "encoder/layers/10/w": "bert/layer_10/w",
        "slot": "bert/layer_10/w/Adam",
        "table": "bert/embeddings/word",
        "head/w": "bert/embeddings/word",
        "global_step": "global_step",
    }
    found = {name: entry.read() for name, entry in npz.open_file(path).items()}
    assert found.keys() == expected.keys()
    for new, old in expected.items():
        np.testing.assert_array_equal(found[new], TREE[old], strict=True)


def test_stars_of_a_map_are_within_a_component_also_of_dotted_names(tmp_path, jscope_command):
    arrays = {f"model.layers.{i}.proj": np.full(2, i) for i in (0, 11)} | {"a/b/w": np.ones(1)}
    path = save(tmp_path / "m.safetensors", arrays)
    names = write_map(tmp_path, {"model.layers.*.proj": "layers/*/w", "*/w": "*/v", "a/*/w": "*"})
    status, _, err = jscope_command("convert", path, tmp_path / "o.npz", "--map", names)
    assert status == 2  # not across components
    assert "'*/w': '*/v' has nothing like '*/w' in the checkpoint" in err
    names = write_map(tmp_path, {"model.layers.*.proj": "layers/*/w", "a/*/w": "*"})
    assert jscope_command("convert", path, tmp_path / "o.npz", "--map", names)[0] == 0
    assert set(np.load(tmp_path / "o.npz")) == {"layers/0/w", "layers/11/w", "b"}


@pytest.mark.parametrize(
    ("names", "message", "hint"),
    [
        (
            {"bert/layer_*/": "layers/"},
            "'bert/layer_*/': 'layers/' has not the same * on both sides, and would need a stack",
            'write each * on both sides, as "layer_*/": "layers/*/"',
        ),
        ({"bert/layer_*/": "l/*"}, "has a scope on one side only", "end both with / or none"),
        ({"brt/": "b/"}, "nothing like 'brt/' in the checkpoint (close names: 'bert/')", "ls"),
        (
            {"bert/layer_2/w": "global_step"},
            "two variables would be called 'global_step'",
            "--drop",
        ),
        ({"a": 1}, "has no name for 'a': 1", '{"bert/": "encoder/"'),
        ({"a": []}, "has no name for 'a': []", '{"bert/": "encoder/"'),
        ('{"a": "b", "a": "c"}', "has 'a' twice", 'a list of both: "a": ["new", "other"]'),
        ("[]", "is not an object of names", '{"bert/": "encoder/"'),
        ("{", "is not JSON: Expecting", '{"bert/": "encoder/"'),
    ],
)
def test_a_map_that_can_not_be_is_an_error_in_the_commands_words(
    names, message, hint, tmp_path, jscope_command
):
    path, file = save(tmp_path / "m.npz", TREE), write_map(tmp_path, names)
    status, _, err = jscope_command("convert", path, tmp_path / "o.npz", "--map", file)
    assert status == 2
    first, _, second = err.partition("hint: ")
    assert f"--map {file}" in first
    assert message in first
    assert hint in second
    assert "js." not in err
    assert not (tmp_path / "o.npz").exists()


def test_a_map_excludes_renames_and_must_be_there(tmp_path, jscope_command):
    path = save(tmp_path / "m.npz", TREE)
    words = ("convert", path, tmp_path / "o.npz", "--map", tmp_path / "no.json")
    _, _, err = jscope_command(*words)
    assert f"--map {tmp_path / 'no.json'} can't be read: No such file" in err
    _, _, err = jscope_command(*words, "--rename", "a=b")
    assert "--map and --rename exclude each other\nhint: write all names in the file" in err


def test_convert_writes_shards_and_their_index(ckpt, tmp_path, jscope_command):
    path = tmp_path / "exported"
    status, out, _ = jscope_command("convert", ckpt, path, "--max-shard-size", "2.4KB")
    assert (status, "safetensors" in out) == (0, True)
    index = json.loads((path / "model.safetensors.index.json").read_text())
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert index["weight_map"] == {name: shards[name != "bert/embeddings/word"] for name in TREE}
    assert index["metadata"] == {"total_size": sum(array.nbytes for array in TREE.values())}
    assert sorted(os.listdir(path)) == [*shards, "model.safetensors.index.json"]
    for name, found in jscope.Saver(path).restore().items():
        np.testing.assert_array_equal(found, TREE[name], strict=True)
    status, _, err = jscope_command("convert", ckpt, path, "--max-shard-size", "5GB")
    assert status == 2
    assert "is not overwritten without a request." in err
    assert "hint: write to another DST, or remove what is there" in err
    assert "overwrite=True" not in err
    one = tmp_path / "one"
    assert jscope_command("convert", ckpt, one, "--max-shard-size", "5gb")[0] == 0
    assert os.listdir(one) == ["model.safetensors"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("o", "--max-shard-size", "5GiB"), "--max-shard-size '5GiB' is not a size\nhint: 5GB"),
        (("o", "--max-shard-size", "0"), "--max-shard-size '0' is not a size"),
        (("o", "--max-shard-size", "5GB", "--to", "npz"), "for safetensors, and not for --to npz"),
        (("o.safetensors", "--max-shard-size", "5GB"), "is named as a checkpoint\nhint: name a d"),
        (("runs/12", "--max-shard-size", "5GB"), "DST is a directory, and 'runs/12' is named as"),
    ],
)
def test_a_size_of_shards_that_can_not_be(words, text, tmp_path, jscope_command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "m.npz", {"w": np.ones(2)})
    status, _, err = jscope_command("convert", "m.npz", *words)
    assert status == 2
    assert text in err
    assert os.listdir(tmp_path) == ["m.npz"]


def test_convert_leaves_whole_numbers_alone_and_refuses_to_overflow(tmp_path, jscope_command):
    arrays = {"big": np.array([1e10, np.inf]), "step": np.array(2**60)}
    path = save(tmp_path / "m.npz", arrays)
    status, _, err = jscope_command("convert", path, tmp_path / "o.npz", "--dtype", "float16")
    assert status == 2
    assert "which can't hold 1 of its 2 values, such as 10000000000.0" in err
    assert os.listdir(tmp_path) == ["m.npz"]
    assert jscope_command("convert", path, tmp_path / "o.npz", "--dtype", "float32")[0] == 0
    loaded = np.load(tmp_path / "o.npz")
    assert loaded["step"] == 2**60
    np.testing.assert_array_equal(loaded["big"], np.float32([1e10, np.inf]), strict=True)


def test_convert_lists_what_a_format_has_no_dtype_for(tmp_path, jscope_command):
    path = save(tmp_path / "m.ckpt", {"s": np.array(b"x", object), "w": np.zeros(3)})
    for to in WITHOUT_STRINGS:
        status, _, err = jscope_command("convert", path, tmp_path / f"o.{to}")
        assert status == 2
        assert "'s' is object" in err
    assert jscope_command("convert", path, tmp_path / "o.npz", "--drop", "s")[0] == 0


def test_what_cannot_be_read_is_listed_with_its_dtype_and_left_out_by_its_name(
    tmp_path, jscope_command
):
    path = tmp_path / "m.npz"
    np.savez(path, w=np.ones(2), objects=np.array([{}, []], object), days=np.zeros(3, "M8[D]"))
    _, out, _ = jscope_command("ls", path, "--json")
    listed = {v["name"]: (v["shape"], v["dtype"]) for v in json.loads(out)["variables"]}
    expected = {"w": ([2], "float64"), "objects": ([2], "object"), "days": ([3], "datetime64[D]")}
    assert listed == expected
    status, _, err = jscope_command("show", path, "objects")
    assert status == 2
    assert "'objects' in " in err
    assert "has the dtype object of Python objects, which only a pickle can hold" in err
    drop = ["--drop", "objects", "--drop", "days"]
    assert jscope_command("convert", path, tmp_path / "o.npz", *drop)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "o.npz")["w"], np.ones(2))


def test_convert_needs_one_variable_at_a_time_in_memory(tmp_path):
    """24 variables of 8 MB, of which 40 MB may be in memory."""
    path = tmp_path / "m.ckpt"
    with tf_checkpoint.Writer(path) as writer:
        for i in range(24):
            writer.add(f"w{i}", np.full(1 << 20, i, np.float64))
    ends = ("npz/o.npz", "st/o.safetensors", "tf/o.ckpt", "runs/1")
    for end in ends:
        (tmp_path / end).parent.mkdir()
    code = (
        "import json, resource, sys; from jscope._cli import _app\n"
        "path, *new = json.loads(sys.argv[1])\n"
        "first = [f'{end[:-1]}0' for end in new]\n"  # also imports what it takes
        "for end, to in zip(first, ('npz', 'safetensors', 'tensorflow', 'jscope')):\n"
        "    assert _app.run(['convert', path, end, '--to', to, '--select', 'w0']) == 0\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "limit = int(status['VmData'].split()[0]) * 1024 + (40 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        "assert [_app.run(['convert', path, end]) for end in new] == [0] * len(new)"
    )
    arguments = json.dumps([str(path), *(str(tmp_path / end) for end in ends)])
    done = subprocess.run([sys.executable, "-c", code, arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# verify


def test_verify_of_a_sound_checkpoint(ckpt, jscope_command, on_terminal):
    status, out, _ = jscope_command("verify", ckpt)
    assert status == 0
    is_unguarded = ckpt.endswith("safetensors")
    what = "readable" if is_unguarded else "intact"
    assert out.startswith(f"5 variables, 2.5 KiB: all {what}   ")
    assert ("no checksums" if is_unguarded else "of each") in out
    assert on_terminal("verify", ckpt)[0] == 0
    assert json.loads(jscope_command("verify", ckpt, "--json")[1])["damaged"] == {}


@pytest.mark.parametrize("end", [".npz", ".ckpt"])
def test_verify_names_what_is_damaged(end, tmp_path, jscope_command):
    path = save(tmp_path / f"m{end}", TREE)
    file = Path(path if end == ".npz" else f"{path}.data-00000-of-00001")
    data = file.read_bytes()
    at = data.index(TREE["bert/layer_2/w"].tobytes())
    file.write_bytes(data[:at] + b"!" + data[at + 1 :])
    status, out, _ = jscope_command("verify", path)
    assert status == 1
    assert "damaged: bert/layer_2/w\n" in out
    assert "4 of 5 variables are intact" in out
    assert list(json.loads(jscope_command("verify", path, "--json")[1])["damaged"]) == [
        "bert/layer_2/w"
    ]
    assert jscope_command("show", path, "bert/layer_2/w")[0] == 2
    assert jscope_command("show", path, "global_step")[0] == 0


@pytest.mark.parametrize("ending", FILES.values())
def test_verify_of_what_can_not_be_opened_is_damage(ending, tmp_path, jscope_command):
    path = save(tmp_path / f"m{ending}", TREE)
    file = Path(f"{path}.index" if ending == ".ckpt" else path)
    file.write_bytes(file.read_bytes()[:-9])
    status, out, err = jscope_command("verify", path)
    assert (status, err) == (1, "")
    assert out.startswith(f"damaged: {path}\n  ")
    facts = json.loads(jscope_command("verify", path, "--json")[1])
    assert (list(facts["damaged"]), facts["format"]) == ([path], None)
    assert jscope_command("ls", path)[0] == 2
    assert jscope_command("verify", tmp_path / "nowhere")[0] == 2


# Directories: of a Saver, and of Orbax.


@pytest.fixture
def saved(tmp_path):
    """A Saver's directory with two steps, of whatever it can hold."""
    tree = {
        "enc": {"w": jnp.arange(6.0).reshape(2, 3)},
        "rngs": jax.random.split(jax.random.key(3), 4),
        "epoch": 3,
        "name": "first",
        "none": None,
    }
    with jscope.Saver(tmp_path / "runs") as saver:
        saver.save(tree, 3)
        saver.save({**tree, "name": "second"}, 12)
    return tmp_path / "runs"


def test_a_savers_directory_is_its_newest_step(saved, jscope_command):
    for path, step in ((saved, 12), (saved / "12", 12), (saved / "3", 3)):
        _, out, _ = jscope_command("ls", path)
        assert out.split("\n")[:6] == [
            "name   shape   dtype        bytes",
            "enc/w  (2, 3)  float32       24 B",
            "epoch  ()      python int     8 B",
            "name   ()      python str     8 B",
            "none   ()      python None    8 B",
            "rngs   (4, 2)  key<fry>      32 B",
        ]
        assert out.rstrip().endswith(f"step {step} of jscope's Saver")
    assert "b'second'" in jscope_command("show", saved, "name")[1]
    assert "b'first'" in jscope_command("show", saved / "3", "name")[1]
    shown = json.loads(jscope_command("show", saved, "rngs", "--values", "--json")[1])["values"]
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), 4))
    np.testing.assert_array_equal(shown, keys)
    status, out, _ = jscope_command("diff", saved / "3", saved, "--json")
    assert (status, json.loads(out)["differences"][0]["name"]) == (1, "name")


def test_what_only_a_saver_stores_is_not_converted_silently(saved, tmp_path, jscope_command):
    status, _, err = jscope_command("convert", saved, tmp_path / "m.npz")
    assert status == 2
    assert "'rngs': PRNG keys, which only jscope.Saver stores" in err
    assert "hint: --drop 'rngs'" in err
    status, _, err = jscope_command("convert", saved, tmp_path / "m.npz", "--drop", "rngs")
    assert "'name' is object; 'none' is object" in err
    words = ("--drop", "rngs", "--drop", "n*")
    assert jscope_command("convert", saved, tmp_path / "m.npz", *words)[0] == 0
    assert np.load(tmp_path / "m.npz")["epoch"] == 3


def test_a_converted_checkpoint_is_one_of_a_saver(tmp_path, jscope_command):
    arrays = {**TREE, "small": np.ones(3, ml_dtypes.uint4), "empty": np.zeros((0, 2))}
    path = save(tmp_path / "m.npz", arrays)
    assert jscope_command("convert", path, tmp_path / "runs" / "7")[0] == 0
    with jscope.Saver(tmp_path / "runs") as saver:
        assert saver.latest_step() == 7
        restored = saver.restore(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(restored[name], array, strict=True)
    assert jscope_command("convert", path, tmp_path / "runs" / "8", "--select", "empty")[0] == 0
    assert sorted(os.listdir(tmp_path / "runs")) == ["7", "8", "checkpoint"]
    status, _, err = jscope_command("convert", path, tmp_path / "runs", "--to", "jscope")
    assert (status, "doesn't end with a step" in err) == (2, True)
    strings = save(tmp_path / "s.ckpt", {"s": np.array(b"x", object)})
    status, _, err = jscope_command("convert", strings, tmp_path / "runs" / "9")
    assert (status, "'s'" in err) == (2, True)
    assert sorted(os.listdir(tmp_path / "runs")) == ["7", "8", "checkpoint"]


def test_verify_of_a_savers_directory_names_newer_steps_that_are_damaged(saved, jscope_command):
    assert jscope_command("verify", saved)[0] == 0
    packed = saved / "12" / "packed.bin"
    content = packed.read_bytes()
    packed.write_bytes(b"!" + content[1:])
    status, out, _ = jscope_command("verify", saved / "12")
    assert (status, "damaged: " in out) == (1, True)
    packed.write_bytes(content[:-1])
    status, out, _ = jscope_command("verify", saved / "12")
    assert (status, f"damaged: {saved / '12'}\n" in out) == (1, True)
    status, out, err = jscope_command("verify", saved)
    assert (status, err) == (1, "")
    assert out.startswith(f"damaged: {saved}\n  ")
    assert "step 3 of jscope's Saver" in out
    status, out, err = jscope_command("ls", saved)
    assert (status, err.startswith("jscope: warning: ")) == (0, True)


def test_an_orbax_checkpoint_of_others(tmp_path, jscope_command):
    from orbax.checkpoint import v1

    arrays = {"enc": {"w": np.ones((2, 3), np.float32)}, "step": np.array(4)}
    v1.save(tmp_path / "orbax", arrays)
    status, out, _ = jscope_command("ls", tmp_path / "orbax")
    assert (status, out.rstrip().endswith("Orbax checkpoint")) == (0, True)
    assert "enc/w  (2, 3)  float32   24 B" in out
    assert jscope_command("convert", tmp_path / "orbax", tmp_path / "m.ckpt-4")[0] == 0
    assert jscope_command("diff", tmp_path / "orbax", tmp_path / "m.ckpt-4")[0] == 0
    assert tf_checkpoint.load_variable(tmp_path / "m.ckpt-4", "step") == 4


def test_directories_that_are_tensorflows(tmp_path, jscope_command):
    save(tmp_path / "a" / "m.ckpt", TREE)
    for name in ("a", "b"):
        if name == "b":
            (tmp_path / "a" / "checkpoint").unlink()
            (tmp_path / "a").rename(tmp_path / "b")
        assert "TensorFlow checkpoint, V2" in jscope_command("ls", tmp_path / name)[1]
    (tmp_path / "none").mkdir()
    status, _, err = jscope_command("ls", tmp_path / "none")
    assert (status, str(tmp_path / "none") in err) == (2, True)


def test_a_file_of_flax(tmp_path, jscope_command):
    from flax import serialization

    (tmp_path / "checkpoint_3").write_bytes(serialization.msgpack_serialize({"w": np.ones(3)}))
    _, out, _ = jscope_command("ls", tmp_path / "checkpoint_3")
    assert "w     (3,)   float64   24 B" in out
    (tmp_path / "text").write_text("no checkpoint")
    assert jscope_command("ls", tmp_path / "text")[0] == 2


# plan


MODEL = """
import jax.numpy as jnp
import jscope as js

def model(scope, x, *, features, kind="dense"):
    return x @ scope.get_variable("w", (x.shape[-1], features)) + features * (kind == "dense")

declared = js.declare(model)(jnp.ones((2, 64)), features=32)

def make():
    return declared

class adam:
    @staticmethod
    def init(params):
        return {"mu": params, "nu": params}

number = 3
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    (tmp_path / "planned.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "planned"
    sys.modules.pop("planned", None)


def test_plan_of_a_declaration_a_function_and_a_model(model, jscope_command, on_terminal):
    rule = ("--mesh", "data=2,model=4", "--rule", "w=data,model", "--json")
    spelled = (
        ("planned:declared",),
        ("planned:make",),
        ("planned:model", "--input", "float32[2,64]", "--set", "features=32"),
    )
    facts = [json.loads(jscope_command("plan", *words, *rule)[1]) for words in spelled]
    assert facts[0] == facts[1] == facts[2]
    assert facts[0]["devices"] == 8
    assert facts[0]["bytes_on_each_device"]["parameters"] == 64 * 32 * 4 // 8
    assert facts[0]["variables"][0]["bytes"] == 64 * 32 * 4
    _, out, _ = on_terminal(
        *("plan", "planned:declared", "--mesh", "data=2,model=4", "--rule", "**/w=-,data+model"),
        *("--optimizer", "planned:adam"),
    )
    assert [line.split() for line in out.split("\n")][2:8] == [
        ["on", "each", "device", "of", "all"],
        ["parameters", "1.0", "KiB", "8.0", "KiB"],
        ["gradients", "1.0", "KiB", "8.0", "KiB"],
        ["optimizer's", "state", "2.0", "KiB", "16.0", "KiB"],
        ["other", "variables", "0", "B", "0", "B"],
        ["together", "4.0", "KiB", "32.0", "KiB"],
    ]
    assert "P(None, ('data', 'model'))" in out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["planned:model", "--mesh", "data=2"], "'planned:model' can't be declared"),
        (
            ["planned:model", "--mesh", "data=2", "--input", "x[2]"],
            "'x[2]' is not a dtype and shape",
        ),
        (["planned:model", "--mesh", "data=2", "--set", "x"], "--set 'x' has no '='"),
        (["planned:number", "--mesh", "data=2"], "is a int, not a declaration or a model"),
        (["planned:adam", "--mesh", "data=2"], "planned:adam() returned a adam, not a declaration"),
        (["planned:nix", "--mesh", "data=2"], "'planned' has no 'nix'"),
        (["nowhere:nix", "--mesh", "data=2"], "'nowhere' can't be imported"),
        (["planned", "--mesh", "data=2"], "'planned' is not MODULE:NAME"),
        (["planned:declared", "--mesh", "data=0"], "'data=0' is not an axis"),
        (["planned:declared", "--mesh", "data=2", "--rule", "x"], "--rule 'x' has no '='"),
        (["planned:declared", "--mesh", "data=2", "--rule", "x=data"], "'x' matches no variable"),
        (["planned:declared", "--mesh", "data=2", "--rule", "w=x"], "'x', which is not an axis"),
        (["planned:declared", "--mesh", "data=2", "--optimizer", "planned:number"], "has no init"),
    ],
)
def test_what_cannot_be_planned(words, text, model, jscope_command):
    status, out, err = jscope_command("plan", *words)
    assert (status, out) == (2, "")
    assert text in err


def test_a_setting_that_is_no_literal_is_a_string(model, jscope_command):
    words = ("planned:model", "--input", "float32[2,64]", "--set", "features=3", "--set", "kind=x")
    assert jscope_command("plan", *words, "--mesh", "data=2")[0] == 0


# Errors, help and starting.


@pytest.mark.parametrize(
    ("words", "text", "hint"),
    [
        (["ls", "{0}", "bert"], "it is a scope of 4. Write 'bert/**' for all", ""),
        (["ls", "{0}", "brt/**"], "'brt/**' matches no variable", ""),
        (["ls", "{0}", "re:("], "'re:(' is not a regular expression", ""),
        (["ls", "/nowhere/model.ckpt"], "/nowhere/model.ckpt", ""),
        (["ls", "{0}", "--depth", "x"], "Invalid value for '--depth'", "hint: jscope ls --help"),
        (["lx"], "No such command 'lx'", "hint: jscope --help"),
        (["convert", "{0}", "x"], "'x' doesn't show the format", "hint: end it with .ckpt"),
        (["convert", "{0}", "x.npz", "--rename", "a"], "'a' has no '='", "hint: --rename OLD=NEW"),
        (["convert", "{0}", "x.npz", "--rename", "a=b"], "Nothing to rename: 'a'", ""),
        (
            ["convert", "{0}", "x.npz", "--rename", "bert/layer_2/w=global_step"],
            "two variables would be called 'global_step'",
            "hint: rename one",
        ),
        (
            ["convert", "{0}", "x.npz", "--dtype", "int8"],
            "'int8' is not a floating-point",
            "hint: fl",
        ),
        (
            ["convert", "{0}", "x.npz", "--dtype", "wat"],
            "'wat' is not a floating-point",
            "hint: fl",
        ),
        (["convert", "{0}", "/nowhere/x.npz"], "/nowhere/x.npz can't be written", ""),
    ],
)
def test_an_error_is_a_line_and_a_hint(words, text, hint, ckpt, jscope_command):
    status, out, err = jscope_command(*(word.format(ckpt) for word in words))
    assert (status, out) == (2, "")
    assert text in err
    assert hint in err
    assert "allow_empty" not in err
    assert len(err.rstrip().split("\n")) == 1 + bool(hint)


def test_help_and_version(jscope_command):
    for words in ([], ["--help"]):
        status, out, err = jscope_command(*words)
        text = out + err
        assert "Usage: jscope [OPTIONS] COMMAND" in text
        assert "convert" in text
    for name in _app._COMMANDS:
        status, out, _ = jscope_command(name, "--help")
        assert status == 0
        assert "Examples:" in out or name == "verify"
        assert "--json" in out
    assert jscope_command("--version")[1].startswith("jscope ")


def test_a_bug_is_one_line_too(ckpt, jscope_command, monkeypatch):
    def broken(path):
        raise ZeroDivisionError("unexpected")

    monkeypatch.setattr("jscope.formats.open", broken)
    status, _, err = jscope_command("ls", ckpt)
    assert status == 2
    assert err.startswith("jscope: error: ZeroDivisionError: unexpected\nhint: this is a bug")
    monkeypatch.setenv("JSCOPE_TRACEBACK", "1")
    assert "Traceback" in jscope_command("ls", ckpt)[2]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "x.npz"), 2, "x.npz: Permission denied"),
        (OSError("odd"), 2, "error: odd"),
    ],
)
def test_what_the_system_says(error, status, text, ckpt, jscope_command, monkeypatch):
    def broken(path):
        raise error

    monkeypatch.setattr("jscope.formats.open", broken)
    found, _, err = jscope_command("ls", ckpt)
    assert (found, text in err) == (status, True)


def test_a_reader_that_has_enough_is_no_error(ckpt):
    program = f"import sys; from jscope._cli import main; sys.argv[1:] = ['ls', {ckpt!r}]"
    code = f"{program}; import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_entry_point_runs_what_the_command_line_says(ckpt, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jscope", "verify", ckpt])
    assert _cli.main() == 0
    assert "5 variables" in capsys.readouterr().out


def test_a_pipe_that_is_closed_early_is_no_error(ckpt, jscope_command, monkeypatch):
    def closed(path):
        raise BrokenPipeError

    monkeypatch.setattr("jscope.formats.open", closed)
    with open(os.devnull, "w") as stand_in:
        monkeypatch.setattr(sys, "stdout", stand_in)
        assert _app.run(["ls", ckpt]) == 0


def test_a_progress_bar_is_shown_to_who_watches(ckpt, jscope_command, monkeypatch):
    monkeypatch.setattr("jscope._cli._terminal._WORTH_A_BAR", 0)
    assert jscope_command("verify", ckpt)[2] == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    status, out, err = jscope_command("verify", ckpt)
    assert (status, "verifying" in err) == (0, True)
    assert "verifying" not in out


def test_without_click_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "click", None)
    assert _cli.main() == 2
    assert capsys.readouterr().err == (
        "jscope: error: the command line needs click, which is not installed.\n"
        "hint: pip install 'jscope-jax[cli]'\n"
    )


def test_the_entry_point_resolves():
    project = tomllib.loads((Path(jscope.__file__).parent.parent / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["jscope"].partition(":")
    assert getattr(sys.modules[module], name) is _cli.main


@pytest.mark.parametrize("ending", [*FILES.values(), "/"])
@pytest.mark.parametrize("words", [["ls"], ["show", "bert/layer_2/w"], ["verify"], ["--help"]])
def test_looking_loads_neither_jax_nor_more_than_it_needs(words, ending, tmp_path):
    if ending == "/":
        safetensors_files.export(TREE, tmp_path / "model", max_shard_size=2000)
    ckpt = str(tmp_path / "model") if ending == "/" else save(tmp_path / f"model{ending}", TREE)
    arguments = [words[0], ckpt, *words[1:]] if words[0] != "--help" else words
    code = (
        "import sys; from jscope._cli import main; sys.argv[1:] = sys.argv[1:]\n"
        "assert main() == 0\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & {"jax", "jaxlib", "tensorflow", "orbax", "tensorstore", "flax", "rich"}
