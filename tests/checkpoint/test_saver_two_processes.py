"""Two processes of one program save and restore together; `prove_saver.py` kills more of them."""

import jax
import pytest
from saver_faults import distributed
from saver_faults.training import digest

import jscope as js


def test_a_training_resumed_by_one_process_or_two_ends_with_the_same_bits(server, tmp_path):
    tally = distributed.resume(server, tmp_path)
    assert tally.points == 4
    assert not tally.problems


def test_two_processes_save_where_the_path_says(server, tmp_path):
    directory = tmp_path / "lr=[0.1]" / "a\\b"
    ends = distributed.run(server, 2, directory, save_at=[1], until=1)
    restored = js.Saver(directory).restore(jax.eval_shape(distributed.first_state))
    assert [end["digest"] for end in ends] == [digest(restored)] * 2


def test_a_process_killed_in_a_save_leaves_good_checkpoints_and_an_error(server, tmp_path):
    for tally in distributed.deaths(server, tmp_path, most=2):
        assert tally.points
        assert not tally.problems


@pytest.mark.parametrize("count", [2, 4])
def test_each_process_goes_on_with_its_own_data(server, tmp_path, count):
    uninterrupted = distributed.fed(server, count, tmp_path / "a", begin=None, until=6)
    first = distributed.fed(server, count, tmp_path / "b", begin=None, until=2)
    then = distributed.fed(server, count, tmp_path / "b", begin=2, until=6)
    assert [a + b for a, b in zip(first, then, strict=True)] == uninterrupted
    seen = [number for batches in uninterrupted for batch in batches for number in batch]
    assert len(set(seen)) == count * 6 * 4  # each process has data that no other has
    (alone,) = distributed.fed(server, 1, tmp_path / "b", begin=2, until=6)
    assert alone.startswith(f"TreeMismatchError: {count} processes saved 'data', each its own")


def test_if_one_process_is_asked_to_end_both_save_the_same_step_and_end(server, tmp_path):
    tally = distributed.preempted(server, tmp_path, whom=[1])
    assert not tally.problems
    assert tally.outcomes["saved"] == 1
