"""The command ``jscope``: how much longer than its imports of NumPy it takes to start and end.

Every sample is a process of its own, with compiled files in a cache that the first one fills, as
an installed package has them. The checkpoints are small, so what is timed is starting: Python,
NumPy, click and, on a terminal, Rich.

Imports: `_report`, `_settings`, `_timing`, jscope.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from _report import Part, Target, rows_of
from _settings import Settings
from _timing import in_turn

from jscope import tf_checkpoint
from jscope.formats import npz, safetensors

BASE = "import numpy, ml_dtypes"
LIMIT = 0.2  # seconds more than BASE
_RUN = "import sys; from jscope._cli import main; sys.exit(main())"


def measure(settings: Settings) -> Part:
    """Time it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/cache"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        commands = {BASE: ["-c", BASE]}
        for format, path in _write(Path(folder)).items():
            for words in (["ls", path], ["show", path, "model/0/w"], ["verify", path]):
                commands[f"{words[0]}, {format}"] = ["-c", _RUN, *words]
        terminal = {**environment, "FORCE_COLOR": "1"}
        contenders = {name: _process(words, environment) for name, words in commands.items()}
        contenders["ls, TensorFlow, a terminal"] = _process(commands["ls, TensorFlow"], terminal)
        for contender in contenders.values():
            contender(1)  # fills the cache
        samples = in_turn(contenders, settings.start_rounds)
    targets = [
        Target("starting", "a process", f"{name} - {BASE}, seconds", "<=", LIMIT, value)
        for name, seconds in samples.items()
        if name != BASE
        for value in [median(a - b for a, b in zip(seconds, samples[BASE], strict=True))]
    ]
    return Part("The command line", rows_of("starting", "a process", samples, BASE), targets)


def _write(folder: Path) -> dict[str, str]:
    """Small checkpoints, by format."""
    arrays = {f"model/{i}/w": np.ones((8, 8), np.float32) for i in range(100)}
    paths = {"TensorFlow": "m.ckpt", "npz": "m.npz", "safetensors": "m.safetensors"}
    tf_checkpoint.write(folder / paths["TensorFlow"], arrays)
    for module, format in ((npz, "npz"), (safetensors, "safetensors")):
        with module.Writer(folder / paths[format], arrays) as writer:
            for name, array in arrays.items():
                writer.write(name, array)
    return {format: str(folder / path) for format, path in paths.items()}


def _process(words: list[str], environment: dict[str, str]) -> Callable[[int], object]:
    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            subprocess.run(
                [sys.executable, *words], env=environment, check=True, stdout=subprocess.DEVNULL
            )

    return run
