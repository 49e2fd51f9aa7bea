"""Damage to intact checkpoints: cut short, and flipped, with or without new checksums."""

from collections.abc import Iterator

import numpy as np
from tf_values import PARTITIONS

from jscope import tf_checkpoint
from jscope.tf_checkpoint._bytes import BYTES, Span, field
from jscope.tf_checkpoint._partitions import part_key
from jscope.tf_checkpoint._table import Table

from .pieces import signed, v1, v1_meta

MASKS = (*(1 << bit for bit in range(8)), 0xFF)


def intact(folder, kind):
    """A small checkpoint of each kind, as files; its path and its values."""
    whole = np.arange(15, dtype=np.float32).reshape(5, 3)
    values = {"b": np.array([True, False]), "s": np.array([b"x", b""], object), "w": whole[0]}
    if kind == "V2":
        parts = [("p", tf_checkpoint.Part(whole[i], (5, 3), i)) for i, _ in PARTITIONS["rows"]]
        tf_checkpoint.write(folder / "m", [*values.items(), *parts], write_state=False)
        return folder / "m", values | {"p": whole}
    boxes = (((0, 2), None), ((2, 3), None))
    metas = [v1_meta("b", (2,), 10), v1_meta("s", (2,), 7), v1_meta("w", (3,), 1)]
    metas.append(v1_meta("p", (5, 3), 1, boxes))
    rows = [
        (part_key("b", (None,)), field(11, BYTES, b"\1\0")),
        (part_key("s", (None,)), field(8, BYTES, b"x") + field(8, BYTES, b"")),
        (part_key("w", (None,)), field(5, BYTES, whole[0].tobytes())),
        (part_key("p", boxes[0]), field(5, BYTES, whole[:2].tobytes())),
        (part_key("p", boxes[1]), field(5, BYTES, whole[2:].tobytes())),
    ]
    (folder / "m").write_bytes(v1(metas, rows)["m"])
    return folder / "m", values | {"p": whole}


def cut(data):
    """The bytes, cut short in every way."""
    return (data[:size] for size in range(len(data)))


def flipped(data):
    """The bytes with one of them changed, each in nine ways."""
    for at in range(len(data)):
        for mask in MASKS:
            yield data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def flipped_and_signed(data):
    """A table with one byte inside a block changed, and the block's checksum made right."""
    for begin, end in _blocks(data):
        for block in flipped(data[begin : end + 1]):
            yield data[:begin] + signed(block[:-1], block[-1]) + data[end + 5 :]


def _blocks(data) -> Iterator[tuple[int, int]]:
    """Where the contents of a table's blocks are."""
    table = Table(Span(data, "table"), True)
    footer = table._footer()
    _, _, at = table._handle(footer, 0)
    for offset, size in (*table._handles, table._handle(footer, at)[:2]):
        yield offset, offset + size
