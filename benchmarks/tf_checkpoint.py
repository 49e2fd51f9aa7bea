"""TensorFlow's checkpoints, read and written with and without TensorFlow.

*Reading* is opening a bundle and reading every tensor, checksums compared, from the page cache.
jscope gives arrays over the mapped file; so that this can be told from its speed, one contender
copies each into an array that exists. *Writing* is from arrays in memory to new files; jscope
waits for the disk, TensorFlow doesn't, so one contender is TensorFlow and then ``fsync``. The
disk is idle when a clock starts, and another such file was just removed: a virtual machine whose
free memory went back to its host gets it again at a price. *Listing* is the first thing that a
new process does, imports counted.

Imports: `_children`, `_report`, `_settings`, `_timing`, jscope, NumPy; TensorFlow when it runs.
"""

import os
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _children import child
from _report import Part, ratio_target, rows_of
from _settings import Settings
from _timing import Samples, in_turn, one_by_one, repeated

from jscope import tf_checkpoint

OURS, THEIRS = "jscope", "TensorFlow"


def measure(settings: Settings) -> Part:
    """Reading, writing and listing; in a folder of the system's for temporary files."""
    tensors = {
        f"layer_{i:03d}/w": np.random.default_rng(i).standard_normal(settings.tensor, np.float32)
        for i in range(settings.tensors)
    }
    size = f"{len(tensors)} tensors, {sum(v.nbytes for v in tensors.values()) / 1e9:.2g} GB"
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/read"
        tf_checkpoint.write(prefix, tensors)
        samples = in_turn(readers(prefix), settings.checkpoint_rounds)
        rows = rows_of("read", size, samples, THEIRS)
        samples = written(folder, tensors, settings.checkpoint_rounds)
        rows += rows_of("write", size, samples, THEIRS)
        names = {
            f"layer_{i // 8}/part_{i % 8}/w": np.zeros(3) for i in range(settings.listed_variables)
        }
        tf_checkpoint.write(f"{folder}/list", names)
        listed = f"{len(names):,} variables"
        samples = listings(f"{folder}/list", len(names), settings.listed_rounds)
        rows += rows_of("list, in a new process", listed, samples, THEIRS)
    full = "200 tensors, 1 GB"
    targets = [
        ratio_target(rows, "read", full, OURS, THEIRS, "<=", 0.5),
        ratio_target(rows, "write", full, OURS, THEIRS, "<=", 1),
        ratio_target(rows, "list, in a new process", "10,000 variables", OURS, THEIRS, "<=", 0.2),
    ]
    return Part("TensorFlow's checkpoints", rows, targets)


def readers(prefix: str) -> dict[str, Callable[[int], object]]:
    """Everything that is in a bundle."""
    import tensorflow as tf

    def theirs() -> object:
        reader = tf.train.load_checkpoint(prefix)
        return [reader.get_tensor(name) for name in reader.get_variable_to_shape_map()]

    def ours() -> object:
        return [entry.read() for entry in tf_checkpoint.open(prefix).values()]

    copies = {name: np.zeros_like(entry) for name, entry in tf_checkpoint.open(prefix).items()}

    def copied() -> None:
        for name, entry in tf_checkpoint.open(prefix).items():
            np.copyto(copies[name], entry.read())

    calls = {OURS: ours, "jscope, copied": copied, THEIRS: theirs}
    return {name: repeated(call) for name, call in calls.items()}


def written(folder: str, tensors: Mapping[str, Any], rounds: int) -> Samples:
    """Everything into a new bundle."""
    import tensorflow as tf

    prefix = Path(folder) / "write"
    given = [tf.constant(value) for value in tensors.values()]

    def ours() -> None:
        tf_checkpoint.write(prefix, tensors, write_state=False)

    def theirs() -> None:
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=given,
        )

    def theirs_on_disk() -> None:
        theirs()
        for path in prefix.parent.glob("write.*"):
            with path.open() as file:
                os.fsync(file.fileno())

    calls = {OURS: ours, THEIRS: theirs, "TensorFlow, then fsync": theirs_on_disk}
    samples: Samples = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            for _ in range(2):  # the first finds memory for the file, which machines take away
                for path in prefix.parent.glob("write.*"):
                    path.unlink()
                os.sync()
                (seconds,) = one_by_one(calls[name], 1)
            samples[name].append(seconds)
    return samples


def listings(prefix: str, count: int, rounds: int) -> Samples:
    """Names and shapes, each time in a process of its own."""
    samples: Samples = {OURS: [], THEIRS: []}
    for _ in range(rounds):
        for name, seconds in samples.items():
            took, found = child(Path(__file__).with_name("_listing.py"), name, prefix)
            assert found == count, f"{name} lists {found} variables of {count}"
            seconds.append(took)
    return samples
