"""TensorFlow's checkpoints, V1 and V2."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ... import tf_checkpoint
from ._protocol import Array, Checkpoint, Variable


def open_tensorflow(path: str) -> Checkpoint:
    """A TensorFlow checkpoint, however it is spelled; see `tf_checkpoint.open`."""
    checkpoint = tf_checkpoint.open(path)
    variables = {
        name: Variable(
            entry.shape,
            entry.dtype,
            entry.nbytes,
            entry.read,
            "string" if entry.tf_dtype == "string" else "",
        )
        for name, entry in checkpoint.items()
    }
    version = f"TensorFlow checkpoint, V{checkpoint.version}"
    return Checkpoint(checkpoint.prefix, version, variables, "CRC-32C")


@contextmanager
def create_tensorflow(path: str, variables: Mapping[str, Variable]) -> Iterator["_Writer"]:
    """A new V2 checkpoint; the ``checkpoint`` file of its folder is left alone."""
    with tf_checkpoint.Writer(path, write_state=False) as writer:
        yield _Writer(writer)


class _Writer:
    def __init__(self, writer: tf_checkpoint.Writer):
        self._writer = writer

    def write(self, name: str, array: Array) -> None:
        self._writer.add(name, array)
