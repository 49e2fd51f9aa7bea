"""Other libraries' files, written by someone who knows their formats: correct data or one error.

What is replaced in them is made by `hostile.foreign`, and the fuzzer there makes more:
``python tests/hostile/fuzz.py others -max_total_time=60``.
"""

import itertools
import json
import struct
import time
import tracemalloc
from collections import Counter

import pytest
from hostile import foreign, own

from jscope import CheckpointError, formats

# One text in so many; what opens arrays of TensorStore takes some milliseconds.
STRIDES = {"npz": 2, "msgpack": 2} | {name: 7 for name in foreign.VICTIMS if "Orbax" in name}
STRIDES |= {"Orbax's strings": 1, "an array of Orbax": 3, "Orbax's metadata of a checkpoint": 3}
# Of Python's memory, beside what the file has: of the libraries' own caches, and of messages.
SLACK = 8 << 20


@pytest.mark.parametrize("kind", foreign.VICTIMS)
def test_a_file_with_any_member_replaced_gives_correct_data_or_one_error(kind, tmp_path):
    secret = tmp_path / "outside" / "secret"
    secret.parent.mkdir()
    secret.write_text("a secret".ljust(4321))
    folder = tmp_path / "run"
    folder.mkdir()
    victim = foreign.VICTIMS[kind](folder)
    victim.put(victim.text)
    intact = {"read": len(foreign.READS), "refused": 0}
    assert own.look(victim, {}, foreign.READS) == (intact, [])
    texts = victim.texts(("../../outside/secret", str(secret), "../outside"))
    total, problems = Counter(), []
    if "Orbax" not in kind:
        # TensorStore's threads hold Python's objects, and tracemalloc ends the process where a new
        # thread of another library allocates (CPython issue 128679).
        tracemalloc.start()
    try:
        with own.little_memory():
            for text in itertools.islice(texts, 0, None, STRIDES.get(kind, 1)):
                outcomes, wrong = _looked(victim, text, secret)
                total.update(outcomes)
                problems += [f"{text[:300]!r}: {one}" for one in wrong]
                if len(problems) >= 50:
                    break
    finally:
        tracemalloc.stop()
    assert not problems, "\n".join(problems)
    assert total["refused"] > 20


def _looked(victim, text, secret):
    victim.put(text)
    is_traced = tracemalloc.is_tracing()
    if is_traced:
        tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with own.watching_files() as seen:
        outcomes, wrong = own.look(victim, {}, foreign.READS)
    more = tracemalloc.get_traced_memory()[1] - before
    if more > SLACK + 32 * len(text):
        wrong.append(f"took {more} bytes for {len(text)}")
    if any(path.startswith(str(secret.parent)) for path in seen):
        wrong.append("looked outside")
    return outcomes, wrong


def test_a_header_with_200_000_names_and_one_of_them_twice_is_refused_at_once(tmp_path):
    """To count each name by a search takes minutes."""
    names = [f"{i:06d}" for i in range(200_000)]
    text = "{" + ", ".join(f'"{name}": 0' for name in [*names, names[7]]) + "}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    begin = time.process_time()
    with pytest.raises(CheckpointError, match="it has '000007' twice"):
        formats.open(path)
    assert time.process_time() - begin < 10


def test_an_index_of_more_than_256_mb_is_refused_unread(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    with path.open("wb") as file:
        file.write(b"{")
        file.truncate(1 << 40)
    with own.little_memory(), pytest.raises(CheckpointError, match="has 1099511627776 bytes"):
        formats.open(path)


def test_a_chunk_of_128_gb_is_refused_before_tensorstore_allocates_it(tmp_path):
    """It would end the process."""
    victim = foreign.VICTIMS["an array of Orbax"](tmp_path)
    members = victim.members | {"chunks": [1 << 36]}
    victim.put(json.dumps(members).encode())
    with own.little_memory(), pytest.raises(CheckpointError, match="137438953472 bytes a chunk"):
        foreign.opened(victim)
