"""Coverage-guided fuzzing of the readers: ``python tests/hostile/fuzz.py own -max_total_time=60``.

The first argument is whose formats are read: ``own``, ``tensorflow`` or ``others``. For hours,
give a folder where what was found is kept, ``... fuzz.py own -max_total_time=36000 FOUND``; the
other options are libFuzzer's. An input that ended a run is in ``runs``; give it as an argument to
run it again.

The first byte of an input says what the rest is.

* ``tensorflow``: a bundle (an index, and behind it the bytes of each shard), a V1 file, the rows of
  an index one by one, a Snappy block, a graph of objects, or the text of a state file. The seeds
  are the golden checkpoints and the `attacks`. Checksums are not compared, else nothing would get
  past the first block. Whatever it is, there is data of the promised shape, not larger than the
  input, or a `CheckpointError`; anything else ends the run.
* ``own``: the text of an index or of a state file, or some of its members and what replaces them;
  both get the right checksum. The file is put into an intact checkpoint of one of the layouts, and
  read in one of the ways of `own`, which also says what must come of it.
* ``others``: the part that `foreign` replaces in a file of safetensors, NumPy, Flax or Orbax, or
  some of its members and what replaces them; lengths and checksums are made right.

Imports: atheris, what is beside this file, jscope.
"""

import contextlib
import functools
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import atheris
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["jscope.tf_checkpoint", "jscope.saver", "jscope.formats"]):
    from hostile import foreign, own
    from jscope.tf_checkpoint._bytes import Span
    from jscope.tf_checkpoint._checkpoint import full_names
    from jscope.tf_checkpoint._state_file import parse, text_of
    from jscope.tf_checkpoint._table import Table, decompress, table_bytes
    from jscope.tf_checkpoint._v1_slices import Slices, proto_values
    from jscope.tf_checkpoint._v2_bundle import Bundle

from hostile.attacks import ATTACKS
from jscope import CheckpointError

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "tf"


def file(data):
    return Span(data, "fuzz")


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
    """An index whose table is intact, but not its rows."""
    header, data = length_and_rest(data)
    found = {b"": header}
    while data and len(found) < 50:
        key, data = length_and_rest(data)
        found[key], data = length_and_rest(data)
    source = Bundle("fuzz", file(table_bytes(sorted(found.items()))), False)
    source._files.update((shard, file(bytes(256))) for shard in range(min(source.shards, 4)))
    read(source, 1024)


def slices(data):
    read(Slices("fuzz", [file(data)], False), len(data))


def snappy(data):
    assert len(decompress(Span(data, "fuzz"))) <= 22 * len(data)


def packed(data):
    number, count = data[0] % 25, data[1] if len(data) > 1 else 0
    assert proto_values(Span(data[2:], "fuzz"), number, count).shape == (count,)


class Everything:
    """A collection that has whatever it is asked for."""

    def __contains__(self, item):
        return True


def graph(data):
    entry = SimpleNamespace(
        read=lambda: np.array(data, object), where=[SimpleNamespace(file="fuzz")]
    )
    for name, key in full_names(entry, Everything()).items():
        assert name.encode() in data, name
        assert key.encode() in data, key


def state(data):
    text = data.decode("utf-8", "replace")
    found = parse(text, "fuzz")
    assert parse(text_of(found), "fuzz") == found


# jscope's own.


class Intact:
    """An intact checkpoint, in which one file is replaced, again and again."""

    def __init__(self, folder, layout, name):
        self.directory = folder / layout / name
        for step in (1, 2)[: 1 + (name == "checkpoint")]:
            path = own.save(self.directory, layout, step)
        self.file = (path if name == "jscope.json" else self.directory) / name
        self.members = own.members_of(self.file)
        self.text = json.dumps(self.members).encode()
        self.paths = list(own.paths_of(self.members))
        self.expected = own.tree(layout)
        self.reads = {"steps": own.steps, "evict": own.evicting}
        if name == "jscope.json":
            self.reads = {
                how: own.READS[how] for how in ("open", "restore", "restore all", "verify")
            }

    def seal(self, data):
        return own.sealed_bytes(data)

    def look(self, data, how):
        self.file.write_bytes(data)
        how = sorted(self.reads)[how % len(self.reads)]
        _, wrong = own.look(self.directory, self.expected, {how: self.reads[how]})
        assert not wrong, wrong


class IntactOther:
    """The same of another library's format."""

    def __init__(self, folder, kind):
        folder = folder / str(list(foreign.VICTIMS).index(kind))
        folder.mkdir()
        self.victim = foreign.VICTIMS[kind](folder)
        self.victim.put(self.victim.text)
        self.text = self.victim.text
        self.members = self.victim.members
        self.paths = [] if self.members is None else list(own.paths_of(self.members))
        _, wrong = own.look(self.victim, {}, foreign.READS)
        assert not wrong, wrong

    def seal(self, data):
        return data

    def look(self, data, how):
        self.victim.put(data)
        how = sorted(foreign.READS)[how % len(foreign.READS)]
        _, wrong = own.look(self.victim, {}, {how: foreign.READS[how]})
        assert not wrong, wrong


INTACT = []


def intact(data):
    """Which checkpoint an input is for, in which way it is read, and the rest."""
    how, which = divmod(data[0], len(INTACT))
    return INTACT[which], how, data[1:]


def text(data):
    """An index, a state file, a header, all of it but the checksum or length."""
    checkpoint, how, data = intact(data)
    checkpoint.look(checkpoint.seal(data), how)


def edits(data):
    """Up to four members replaced, each by what is hostile, by a number, or by another one."""
    checkpoint, how, data = intact(data)
    members = checkpoint.members
    if members is None:
        return
    for at in range(0, min(len(data) - 3, 16), 4):
        where, what = int.from_bytes(data[at : at + 2], "little"), data[at + 2 : at + 4]
        path = checkpoint.paths[where % len(checkpoint.paths)]
        with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError):
            members = own.changed(members, path, replacement(checkpoint, *what))
    text = json.dumps(members).encode("utf-8", "surrogatepass")
    checkpoint.look(checkpoint.seal(text), how)


def replacement(checkpoint, kind, number):
    if kind % 3 == 0:
        return json.loads(own.HOSTILE[number % len(own.HOSTILE)])
    if kind % 3 == 1:
        return number
    return own.at(checkpoint.members, checkpoint.paths[number % len(checkpoint.paths)])


TARGETS = {
    "tensorflow": [bundle, rows, slices, snappy, packed, graph, state],
    "own": [text, edits],
    "others": [text, edits],
}


def once(targets, data):
    """One input."""
    if len(data) > 1:
        with contextlib.suppress(CheckpointError):
            targets[data[0] % len(targets)](data[1:])


def json_seeds():
    """The files of intact checkpoints, and a few edits of each, in each way of reading."""
    for number in range(4 * len(INTACT)):
        yield text, bytes([number]) + intact([number])[0].text
        for kind in range(3):
            yield edits, bytes([number]) + bytes([number, 0, kind, 7] * 3)


def tensorflow_seeds():
    """The golden checkpoints and the attacks."""
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
    for key, value in Table(Span(index.read_bytes(), "seed"), True).rows(True):
        yield from (key, bytes(value)) if key else (bytes(value),)


def main():
    Path("runs").mkdir(exist_ok=True)  # where an input that ends the run is kept
    program, group, *arguments = sys.argv
    targets = TARGETS[group]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "seeds"
        folder.mkdir()
        if group == "own":
            INTACT.extend(Intact(Path(name), layout, "jscope.json") for layout in own.LAYOUTS)
            INTACT.append(Intact(Path(name), "packed", "checkpoint"))
        if group == "others":
            INTACT.extend(IntactOther(Path(name), kind) for kind in foreign.VICTIMS)
        begin = tensorflow_seeds() if group == "tensorflow" else json_seeds()
        for number, (target, data) in enumerate(begin):
            (folder / str(number)).write_bytes(bytes([targets.index(target)]) + data)
        defaults = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-artifact_prefix=runs/"]
        again = any(Path(argument).is_file() for argument in arguments)
        arguments = [program, *defaults, *arguments, *([] if again else [str(folder)])]
        atheris.Setup(arguments, functools.partial(once, targets))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
