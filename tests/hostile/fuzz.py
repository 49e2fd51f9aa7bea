"""Coverage-guided fuzzing of the readers: ``python tests/hostile/fuzz.py -max_total_time=60``.

For hours, give a folder where what was found is kept, ``... fuzz.py -max_total_time=36000 FOUND``;
the other options are libFuzzer's. An input that ended a run is in ``runs``; give it as an argument
to run it again. The seeds are the golden checkpoints and the `attacks`. Checksums are not compared,
else nothing would get past the first block.

The first byte of an input says what the rest is: a bundle (an index, and behind it the bytes of
each shard), a V1 file, the rows of an index one by one, a Snappy block, a graph of objects, or
the text of a state file. Whatever it is, there is data of the promised shape, not larger than the
input, or a `CheckpointError`; anything else ends the run.

Imports: atheris, what is beside this file, jscope.
"""

import contextlib
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import atheris
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["jscope.tf_checkpoint"]):
    from jscope.tf_checkpoint import _build, _graph, _packed, _state
    from jscope.tf_checkpoint._bundle import Bundle
    from jscope.tf_checkpoint._files import File
    from jscope.tf_checkpoint._slices import Slices
    from jscope.tf_checkpoint._snappy import decompress
    from jscope.tf_checkpoint._span import Span

from hostile.attacks import ATTACKS
from jscope import CheckpointError

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tf"


def file(data):
    return File("fuzz", np.frombuffer(data, np.uint8))


def length_and_rest(data):
    """Two bytes of a length, so many bytes, and the others."""
    length = int.from_bytes(data[:2], "little")
    return data[2 : 2 + length], data[2 + length :]


def read(source, most):
    """Every entry whole and in pieces; the values are no larger than what was stored."""
    for entry in source.entries(False).values():
        repr(entry)
        try:
            values = entry.read()
            assert values.shape == entry.shape, entry
            assert values.dtype == entry.dtype, entry
            assert values.nbytes <= 8 * most, entry
            if values.ndim and values.dtype != object:
                assert entry[:1].tobytes() == values[:1].tobytes(), entry
            assert all(where.nbytes <= most for where in entry.where), entry
        except CheckpointError:
            pass


def bundle(data):
    index, data = length_and_rest(data)
    source = Bundle("fuzz", file(index), False)
    size = len(data)
    for shard in range(min(source.shards, 4)):
        held, data = length_and_rest(data)
        source._files[shard] = file(held)
    read(source, size)


def rows(data):
    """An index whose table is sound, but not its rows."""
    header, data = length_and_rest(data)
    found = {b"": header}
    while data and len(found) < 50:
        key, data = length_and_rest(data)
        found[key], data = length_and_rest(data)
    source = Bundle("fuzz", file(_build.table(sorted(found.items()))), False)
    source._files.update((shard, file(bytes(256))) for shard in range(min(source.shards, 4)))
    read(source, 1024)


def slices(data):
    read(Slices("fuzz", [file(data)], False), len(data))


def snappy(data):
    assert len(decompress(Span(data, "fuzz"))) <= 22 * len(data)


def packed(data):
    number, count = data[0] % 25, data[1] if len(data) > 1 else 0
    assert _packed.values(Span(data[2:], "fuzz"), number, count).shape == (count,)


class Everything:
    """A collection that has whatever it is asked for."""

    def __contains__(self, item):
        return True


def graph(data):
    entry = SimpleNamespace(
        read=lambda: np.array(data, object), where=[SimpleNamespace(file="fuzz")]
    )
    for name, key in _graph.full_names(entry, Everything()).items():
        assert name.encode() in data, name
        assert key.encode() in data, key


def state(data):
    text = data.decode("utf-8", "replace")
    found = _state.parse(text, "fuzz")
    assert _state.parse(_state.text_of(found), "fuzz") == found


TARGETS = [bundle, rows, slices, snappy, packed, graph, state]


def once(data):
    """One input."""
    if len(data) > 1:
        with contextlib.suppress(CheckpointError):
            TARGETS[data[0] % len(TARGETS)](data[1:])


def seeds():
    """What the fuzzer begins with."""
    for prefix in ("v2", "objects"):
        index, *shards = sorted(
            GOLDEN.glob(prefix + ".*"), key=lambda path: ".index" not in path.name
        )
        yield bundle, b"".join(with_length(path.read_bytes()) for path in (index, *shards))
        yield rows, b"".join(map(with_length, rows_of(index)))
    for path in GOLDEN.glob("v1-*"):
        yield slices, path.read_bytes()
    for files, _ in ATTACKS.values():
        *others, data = files.values()
        if len(data) < 4096:
            yield (
                (bundle, b"".join(map(with_length, (*others, data)))) if others else (slices, data)
            )
    yield graph, (GOLDEN / "objects.data-00000-of-00001").read_bytes()[-80:]
    yield snappy, b"\x40\x0cabcd\x1d\x04\xee\x04\x00"
    yield state, b'model_checkpoint_path: "m\\303-1"\nlast_preserved_timestamp: 1.5\n'
    for number in range(25):
        yield packed, bytes([number, 1, 0x3A, 1, 1])


def with_length(data):
    return len(data).to_bytes(2, "little") + data


def rows_of(index):
    from jscope.tf_checkpoint._table import Table

    data = np.frombuffer(index.read_bytes(), np.uint8)
    for key, value in Table(File("seed", data), True).rows(True):
        yield from (key, bytes(value)) if key else (bytes(value),)


def main():
    Path("runs").mkdir(exist_ok=True)  # where an input that ends the run is kept
    with tempfile.TemporaryDirectory() as folder:
        for number, (target, data) in enumerate(seeds()):
            kind = bytes([TARGETS.index(target)])
            (Path(folder) / str(number)).write_bytes(kind + data)
        defaults = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-artifact_prefix=runs/"]
        again = any(Path(argument).is_file() for argument in sys.argv[1:])
        arguments = [sys.argv[0], *defaults, *sys.argv[1:], *([] if again else [folder])]
        atheris.Setup(arguments, once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
