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

DIGITS = Path(__file__).parent.parent / "examples" / "digits.py"

needs_examples = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sklearn", "matplotlib", "tqdm")),
    reason="the extra 'examples' is not installed",
)


def digits(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name[:4] != "JAX_"}
    command = [sys.executable, str(DIGITS), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@needs_examples
def test_digits_tells_its_whole_story(tmp_path):
    done = digits("--epochs", "2", "--out", "here", cwd=tmp_path)
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
    done = digits("--help", cwd=tmp_path)
    assert done.returncode == 0
    for option in ("--epochs", "--out", "--seed", "--evaluate"):
        assert option in done.stdout
    assert "fine-tuned" in done.stdout
    wrong = digits("--epochs", "0", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--epochs must be at least 1" in wrong.stderr
    assert not list(tmp_path.iterdir())
