"""The examples run as a newcomer runs them: in a process of their own, under JAX's defaults."""

import importlib.util
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

needs_examples = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sklearn", "matplotlib", "tqdm")),
    reason="the extra 'examples' is not installed",
)


def example(name: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name[:4] != "JAX_"}
    environment.pop("XLA_FLAGS", None)  # which gives the tests eight devices
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@needs_examples
def test_digits_tells_its_whole_story(tmp_path):
    done = example("digits.py", "--epochs", "2", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    output = done.stdout

    assert "Declaration of 10 variables" in output
    accuracies = re.findall(r"epoch +\d+ .* test accuracy ([\d.]+)%", output)
    assert len(accuracies) == 2 + 1 + 1
    assert float(accuracies[1]) > 80

    here = re.search(r"^This process    (test accuracy .*, logits \w{16})$", output, re.MULTILINE)
    there = re.search(r"^Second process  (test accuracy .*)$", output, re.MULTILINE)
    assert here
    assert there
    assert here[1] == there[1]
    assert "Equal, to the last bit of the logits." in output

    compared = re.findall(r"^  (\S+) +([\d,]+) values, +([\d,]+) differ$", output, re.MULTILINE)
    differing = {name: int(differ.replace(",", "")) for name, _, differ in compared}
    assert len(differing) == 10
    assert differing.pop("head/w") > 0
    assert differing.pop("head/b") > 0
    assert not any(differing.values())
    assert "The frozen part, 8 variables, is bit-identical." in output
    assert re.search(r"^Digits 5-9, head only +10 .* bytes$", output, re.MULTILINE)  # the table

    (out,) = (tmp_path / "here").iterdir()
    assert sorted(path.name for path in out.iterdir()) == ["0-4", "0-9", "5-9", "digits.png"]
    saved = sorted(path.name for path in (out / "0-9").iterdir())
    assert saved == ["21", "42", "checkpoint"]
    width, height, pixels = read_png(out / "digits.png")
    assert width > 1000
    assert height > 800
    assert len(set(pixels)) > 50  # not blank


def read_png(path: Path) -> tuple[int, int, bytes]:
    """Width, height and pixels; every chunk's checksum must be right."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + length
    assert chunks[-1][0] == b"IEND"
    width, height = struct.unpack(">II", chunks[0][1][:8])
    return (
        width,
        height,
        zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT")),
    )


@needs_examples
def test_digits_explains_itself_and_its_arguments(tmp_path):
    done = example("digits.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for option in ("--epochs", "--out", "--seed", "--evaluate"):
        assert option in done.stdout
    assert "fine-tuned" in done.stdout
    wrong = example("digits.py", "--epochs", "0", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--epochs must be at least 1" in wrong.stderr
    assert not list(tmp_path.iterdir())


@needs_examples
def test_resnet_learns_and_its_stack_is_its_blocks(tmp_path):
    done = example("resnet.py", "--epochs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Declaration of 17 variables" in done.stdout
    accuracies = re.findall(r"held-out accuracy ([\d.]+)%", done.stdout)
    assert len(accuracies) == 2
    assert float(accuracies[1]) > 80
    assert done.stdout.count("logits differ by at most") == 2
    assert not list(tmp_path.iterdir())


@needs_examples
def test_gpt_is_the_same_on_eight_devices_as_on_one(tmp_path):
    done = example("gpt.py", "--steps", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Plan for 8 devices (data 2, model 4)" in done.stdout
    found = re.findall(r"^step +\d+  loss ([\d.]+)", done.stdout, re.MULTILINE)
    losses = [float(loss) for loss in found]
    assert len(losses) == 4  # the first and the last step on eight devices, and on one
    assert losses[1] < losses[0] - 0.5
    assert losses[2:] == pytest.approx(losses[:2], abs=0.002)
    assert "The first 4 losses on one device differ by at most" in done.stdout
    assert "Logits through the cache differ by at most" in done.stdout
    assert re.search(r"^The ", done.stdout, re.MULTILINE)  # the text it continues


@needs_examples
def test_llama_is_restored_from_shards_and_exported(tmp_path):
    done = example("llama.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "150,976 parameters out of 4 files" in done.stdout
    assert re.search(r"layers/mlp/up/kernel +\(3, 64, 176\) .* layers\[3\]", done.stdout)
    assert "restored: the logits are equal to the last bit." in done.stdout
    assert not list(tmp_path.iterdir())
    (tmp_path / "config.json").write_text('{"rope_scaling": {"rope_type": "llama3"}}')
    other = example("llama.py", "--model", ".", cwd=tmp_path)
    assert "rotations of type 'llama3', or biases, are not written here" in other.stderr


@needs_examples
def test_a_trillion_parameters_are_planned_in_seconds_and_little_memory(tmp_path):
    done = example("plan_gpt.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Declaration of 2,052 variables, 1,008,038,758,400 parameters" in done.stdout
    assert "60.1 GiB does not fit into 16 GiB." in done.stdout
    assert "4.3 GiB fits into 16 GiB." in done.stdout
    assert "can't be cut over 'data': 25600 / 24 = 1066.67" in done.stdout
    took = re.search(r"took ([\d.]+) s of a processor and at most (\d+) MiB", done.stdout)
    assert took
    assert float(took[1]) < 10
    assert int(took[2]) < 1000


@needs_examples
def test_gpt2_learns_resumes_and_writes(tmp_path):
    done = example("tf1/gpt2.py", "--steps", "28", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Declaration of 28 variables, 120,576 parameters" in done.stdout
    losses = re.findall(r"^step +\d+  loss ([\d.]+)", done.stdout, re.MULTILINE)
    assert float(losses[1]) < float(losses[0]) - 1
    assert "Saved 87 variables, Adam's slots among them." in done.stdout  # 28 * 3, and 3 more
    assert re.search(r"^The .+", done.stdout, re.MULTILINE)  # the text it continues
    assert not list(tmp_path.iterdir())


@needs_examples
def test_bert_s_classifier_begins_with_what_was_pretrained(tmp_path):
    done = example("tf1/bert.py", "--steps", "30", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"^step +\d+  loss ([\d.]+)", done.stdout, re.MULTILINE)
    assert float(losses[1]) < float(losses[0]) - 0.5
    assert "23 variables restored; new: output_bias, output_weights" in done.stdout
    assert re.search(r"^Held-out accuracy \d+%$", done.stdout, re.MULTILINE)
    assert not list(tmp_path.iterdir())


@needs_examples
def test_dqn_catches_the_ball(tmp_path):
    done = example("tf1/dqn.py", "--steps", "1500", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Declaration of 9 variables" in done.stdout
    caught = [int(x) for x in re.findall(r"caught (\d+)%", done.stdout)]
    assert len(caught) == 5
    assert caught[0] < 60
    assert caught[-1] > 70
    assert " deepq/deepq/q_func/fully_connected/weights/Adam_1 " in done.stdout
    assert not list(tmp_path.iterdir())


@needs_examples
def test_resnet_v1_learns_other_digits_without_its_logits(tmp_path):
    done = example("tf1/resnet_v1.py", "--steps", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, untrained, last = map(float, re.findall(r"([\d.]+)%", done.stdout))
    assert first > 80
    assert untrained < 60
    assert last > 80
    assert "new: resnet_v1/logits/biases, resnet_v1/logits/weights" in done.stdout
    assert not list(tmp_path.iterdir())


@needs_examples
def test_pix2pix_fills_unseen_outlines(tmp_path):
    done = example("tf1/pix2pix.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Declaration of 56 variables, 108,746 parameters (108,314 trainable)" in done.stdout
    averages = [float(x) for x in re.findall(r"gen_loss_L1 ([\d.]+)$", done.stdout, re.MULTILINE)]
    assert len(averages) == 4
    assert averages[-1] < averages[1]
    held_out = re.search(r"L1 of the outlines ([\d.]+), of the generator ([\d.]+)", done.stdout)
    assert held_out
    assert float(held_out[2]) < 0.75 * float(held_out[1])
    # 40 trainable variables with two slots each, 16 statistics, 4 powers, 3 averages, the step.
    assert "Saved 144 variables for TensorFlow" in done.stdout
    assert "\n  generator_loss/Mean_1/ExponentialMovingAverage\n" in done.stdout
    assert not list(tmp_path.iterdir())
