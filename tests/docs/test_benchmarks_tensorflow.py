"""The benchmark of TensorFlow's checkpoints runs and writes down what it measured."""

import json
import subprocess
import sys

from test_benchmarks import FAST, RUN, pytestmark  # noqa: F401


def test_reading_writing_and_listing_are_measured_beside_tensorflow(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, RUN, "--smoke", "--only", "tf_checkpoint", "--json", path]
    subprocess.run(command, check=True, capture_output=True, env=FAST)
    part = json.loads(path.read_text())["parts"]["tf_checkpoint"]
    assert [(row["benchmark"], row["contender"]) for row in part["rows"]] == [
        ("read", "jscope"),
        ("read", "jscope, copied"),
        ("read", "TensorFlow"),
        ("write", "jscope"),
        ("write", "TensorFlow"),
        ("write", "TensorFlow, then fsync"),
        ("list, in a new process", "jscope"),
        ("list, in a new process", "TensorFlow"),
    ]
    assert all(row["ratios"]["TensorFlow"]["median"] > 0 for row in part["rows"])
    assert [target["limit"] for target in part["targets"]] == [0.5, 1, 0.2]
    assert all(target["met"] is None for target in part["targets"])
