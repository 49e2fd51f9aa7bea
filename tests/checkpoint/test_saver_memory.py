"""How much memory a save and a restore need, measured in processes of their own."""

import pytest

from jscope.saver._read import IN_FLIGHT

# Of more than 32 MiB: memory of such blocks goes back to the system as soon as it is free.
COUNT, SIZE = 5, 40 << 20
# For what else a process allocates on the way: threads, caches, small buffers.
SLACK = 20 << 20


@pytest.fixture
def grown(server, tmp_path):
    def grown(what, **options):
        process = server.start(
            "memory:measure",
            directory=str(tmp_path),
            what=what,
            count=COUNT,
            size=SIZE,
            options=options,
        )
        peak = process.receive()
        assert process.wait() == 0
        return peak

    return grown


def test_a_save_makes_no_copy_of_the_tree(grown):
    assert grown("save") <= SIZE + SLACK


def test_an_asynchronous_save_makes_at_most_one_copy(grown):
    assert grown("save_async") <= COUNT * SIZE + SLACK


def test_a_save_without_shards_holds_one_array_at_a_time(grown):
    assert grown("save", sharded=False) <= SIZE + SLACK


def test_a_restore_makes_no_second_copy_of_the_tree(grown):
    grown("save")
    assert COUNT * SIZE > IN_FLIGHT + SLACK
    assert grown("restore") <= COUNT * SIZE + IN_FLIGHT + SLACK


@pytest.mark.parametrize("sharded", [True, False])
def test_a_sequential_restore_holds_one_array_beside_the_result(grown, sharded):
    grown("save", sharded=sharded)
    assert grown("restore", restore_sequentially=True) <= COUNT * SIZE + SIZE + SLACK
