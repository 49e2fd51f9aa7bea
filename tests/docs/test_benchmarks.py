"""The benchmarks run and write down what they measured; never how fast."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"

absent = [name for name in ("haiku", "equinox") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(absent),
    reason=f"no {', '.join(absent)}: install the dependency group peers, as in "
    "uv pip install --group peers",
)

# One device, and machine code of which nobody times the speed.
FAST = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}

OPERATIONS = ("tree to tree", "tree to scalar", "flatten", "unflatten")
CONTAINERS = (
    "nested dict",
    "flat dict",
    "tuple",
    "FrozenDict",
    "Equinox module",
    "NNX state",
    "VarTree",
)
FRAMEWORKS = ("plain JAX", "jscope", "Haiku", "linen", "NNX")


def test_one_command_measures_every_contender_and_writes_json(tmp_path):
    path = tmp_path / "results.json"
    parts = [word for part in ("trees", "tracing", "programs") for word in ("--only", part)]
    command = [sys.executable, RUN, "--smoke", *parts, "--json", path]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=FAST).stdout
    results = json.loads(path.read_text())

    assert list(results["parts"]) == ["trees", "tracing", "programs"]
    assert results["mode"] == "smoke"
    assert {"jax", "flax", "dm-haiku", "equinox", "backend"} <= set(results["environment"])

    rows = results["parts"]["trees"]["rows"]
    assert _found(rows) == [(o, "20 leaves", c) for o in OPERATIONS for c in CONTAINERS]
    for row in rows:
        assert row["lower"] <= row["median"] <= row["upper"]
        assert set(row["ratios"]) == {"nested dict", "tuple"}
        assert len(row["samples"]) == row["rounds"]

    rows = results["parts"]["tracing"]["rows"]
    contenders = (*FRAMEWORKS, "jscope, no names")
    assert _found(rows) == [("trace", "1 blocks", contender) for contender in contenders]

    (program,) = results["parts"]["programs"]["targets"]
    assert program["value"] == 0, "jscope's call and plain JAX's compile to different programs"
    assert program["met"] is True

    targets = [target for part in results["parts"].values() for target in part["targets"]]
    assert len(targets) == 12 + 5 + 1
    assert all(target["met"] is None for target in targets if target is not program)
    assert "not measured in this run" in shown
    assert "Equinox module" in shown


def test_two_checkouts_are_compared_in_pairs():
    compare, checkout = RUN.with_name("compare.py"), RUN.parent.parent
    command = [sys.executable, compare, checkout, "--only", "calls", "--rounds", "3"]
    for limit, status in (("1000", 0), ("0", 1)):
        done = subprocess.run(
            [*command, "--limit", limit], check=False, stdout=subprocess.PIPE, text=True, env=FAST
        )
        assert done.returncode == status
        title, *rows = done.stdout.splitlines()
        assert title.split()[:4] == ["contender", "new", "old", "ratio"]
        assert [row[:18].rstrip() for row in rows] == [
            "calls: Scope",
            "calls: Scope, rngs",
            "calls: look up",
        ]
        assert all(("above the limit" in row) == bool(status) for row in rows)


def test_scopes_in_transforms_are_measured(tmp_path):
    path = tmp_path / "results.json"
    names = ("calls", "blocks", "stacks", "planning", "matrix")
    parts = [word for part in names for word in ("--only", part)]
    command = [sys.executable, RUN, "--smoke", *parts, "--json", path]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=FAST).stdout
    results = json.loads(path.read_text())["parts"]
    contenders = {name: [c for _, _, c in _found(results[name]["rows"])] for name in names}
    assert contenders["calls"] == ["nested dict", "Scope", "Scope, rngs"]
    ours, peers = contenders["blocks"][:4], contenders["blocks"][4:]
    assert ours == ["jscope", "jscope, rngs", "plain JAX", "jscope, traced only"]
    assert peers == ["linen", "linen, lowered", "NNX", "NNX, lowered"]
    assert contenders["stacks"] == ["jscope", "plain JAX"]
    assert contenders["planning"] == ["loop", "stack"]
    assert contenders["matrix"][0].endswith(" cells")
    same = results["stacks"]["targets"][0]
    assert same["value"] == 0, "a step over a stack and plain JAX's compile to different programs"
    assert [target["claim"] for target in results["planning"]["targets"]] == [
        f"{layout}, {what}" for layout in ("loop", "stack") for what in ("seconds", "bytes")
    ]
    assert "not measured in this run" in shown


def test_gradients_of_scanned_models_are_measured(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, RUN, "--smoke", "--only", "gradients", "--json", path]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=FAST)
    part = json.loads(path.read_text())["parts"]["gradients"]
    models, stages = ("dropouts, dropout", "dropouts, no dropout"), ("compile", "step")
    assert {row["benchmark"] for row in part["rows"]} == {
        f"{model}: {stage}" for model in models for stage in ("trace", "lower", *stages)
    }
    assert {row["contender"] for row in part["rows"]} == {"jscope", "plain JAX", "linen"}
    counts = ("instructions, lowered", "instructions, optimized")
    assert [target["benchmark"] for target in part["targets"]] == [
        f"{model}: {what}" for model in models for what in (*stages, *counts)
    ]
    assert all(target["met"] is None for target in part["targets"])
    assert len(part["notes"]) == 4


def test_an_accelerator_is_measured_in_one_table():
    command = [sys.executable, RUN.with_name("device.py"), "--smoke"]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=FAST).stdout
    header, *rows = shown.partition("\nbenchmark ")[2].splitlines()
    assert header.split()[-5:] == ["x", "plain", "JAX", "x", "linen"]
    contenders = ("jscope", "plain JAX", "linen")
    measured = dict.fromkeys(("dispatch", "training step", "training step, dropout"), contenders)
    measured |= {"first init, jitted": contenders[:1], "save": contenders, "restore": contenders}
    for benchmark, expected in measured.items():
        found = [row for row in rows if row.startswith(f"{benchmark}  ")]
        for contender, row in zip(expected, found, strict=True):
            assert contender in row
    assert "Measured in" in shown


def test_who_saves_and_restores_is_measured(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, RUN, "--smoke", "--only", "saving", "--json", path]
    settings = {**FAST, "TMPDIR": str(tmp_path)}
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings)
    part = json.loads(path.read_text())["parts"]["saving"]
    measured = {(row["benchmark"], row["contender"]) for row in part["rows"]}
    for contender in ("raw write", "np.savez", "Orbax v0", "Orbax v1", "jscope", "safetensors"):
        assert {("save", contender), ("restore", contender)} <= measured
    for benchmark in ("begin", "list", "read one"):
        assert (benchmark, "jscope") in measured
    counted = [t for t in part["targets"] if t["benchmark"] == "restore over devices"]
    assert len(counted) == 8
    assert all(target["met"] for target in counted)  # bytes, not times
    assert len(part["targets"]) == 15 + 8
    assert "jscope's index" in shown.stdout
    # What is written is removed again.
    assert not list(tmp_path.glob("saving-*"))


def _found(rows):
    return [(row["benchmark"], row["size"], row["contender"]) for row in rows]


def test_starting_the_command_is_measured(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, RUN, "--smoke", "--only", "starting", "--json", path]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=FAST)
    part = json.loads(path.read_text())["parts"]["starting"]
    contenders = [f"{c}, {f}" for f in ("TensorFlow", "npz", "safetensors") for c in COMMANDS]
    assert [contender for _, _, contender in _found(part["rows"])] == [
        "import numpy, ml_dtypes",
        *contenders,
        "ls, TensorFlow, a terminal",
    ]
    assert all(target["value"] is not None for target in part["targets"])


COMMANDS = ("ls", "show", "verify")


@pytest.mark.parametrize("way", ["eager", "jitted"])
def test_a_first_init_is_measured_in_a_process_of_its_own(way):
    """One process of those that `initializing` starts: framework, way, and the size of the GPT."""
    command = [
        sys.executable,
        RUN.with_name("initializing.py"),
        "plain JAX",
        way,
        "1",
        "8",
        "9",
        "4",
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured = json.loads(done.stdout)
    assert set(measured) == {"cpu", "wall"}
    assert min(measured.values()) > 0


def test_saving_to_s3_is_measured_beside_its_requests(tmp_path):
    pytest.importorskip("moto", reason="no moto: install the dependency group test")
    path = tmp_path / "results.json"
    command = [sys.executable, RUN, "--smoke", "--only", "stores", "--json", path]
    settings = {**FAST, "TMPDIR": str(tmp_path)}
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings)
    part = json.loads(path.read_text())["parts"]["stores"]
    measured = _found(part["rows"])
    for benchmark, contenders in (
        ("save", ("PUT", "jscope")),
        ("restore", ("GET", "GET, to jax.Arrays", "jscope")),
    ):
        for contender in contenders:
            for kind in (benchmark, f"{benchmark}, CPU"):
                assert (kind, "2 x 4 KB", contender) in measured
    assert all(target["value"] is not None for target in part["targets"])
    assert "Requests for 2 x 4 KB: 11 of a save, 3 of a restore" in shown.stdout
    assert not list(tmp_path.glob("stores-*"))
