"""jscope's own index and state file, written by someone who knows the format, checksums right.

Correct data or one CheckpointError; memory bounded by what the files have; no file outside the
directory looked at. The mutations are made by `hostile.own`, and the fuzzer there makes more.
"""

import contextlib
import resource
from collections import Counter

import pytest
from hostile import own

SECRET = "the secret of 4321 bytes".ljust(4321)
# What a checkpoint of some hundred bytes may take: JAX's and TensorStore's threads, once.
MEMORY = 1 << 30


@contextlib.contextmanager
def memory_for(more):
    """Let this process have only so much more address space, so that a huge array can't be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def outside(tmp_path):
    """A file that nobody may open; and names by which a checkpoint in ``run/1`` might."""
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path, ("../../outside/secret", str(path), "../../outside")


@pytest.mark.parametrize("layout", own.LAYOUTS)
def test_an_index_with_any_member_replaced_gives_correct_data_or_one_error(
    tmp_path, outside, layout
):
    secret, names = outside
    directory = tmp_path / "run"
    file = own.save(directory, layout) / "jscope.json"
    members = own.members_of(file)
    expected = own.tree(layout)
    assert own.look(directory, expected, own.READS) == ({"read": len(own.READS), "refused": 0}, [])
    total, problems = Counter(), []
    with memory_for(MEMORY):
        for what, data in own.mutations(members, names):
            file.write_bytes(data)
            with own.watching_files() as seen:
                outcomes, wrong = own.look(directory, expected, own.READS)
            total.update(outcomes)
            if any(path.startswith(str(secret.parent)) for path in seen):
                wrong.append("looked outside")
            problems += [f"{what}: {one}" for one in wrong]
    print(layout, total, len(problems))
    assert not problems, "\n".join(problems[:50])
