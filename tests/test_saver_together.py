"""Two processes of one program save and restore together; `prove_saver.py` kills more of them."""

from saver_faults import together


def test_a_training_resumed_by_one_process_or_two_ends_with_the_same_bits(server, tmp_path):
    tally = together.resume(server, tmp_path)
    assert tally.points == 4
    assert not tally.problems


def test_a_process_killed_in_a_save_leaves_good_checkpoints_and_an_error(server, tmp_path):
    for tally in together.deaths(server, tmp_path, most=2):
        assert tally.points
        assert not tally.problems


def test_if_one_process_is_asked_to_end_both_save_the_same_step_and_end(server, tmp_path):
    tally = together.preempted(server, tmp_path, whom=[1])
    assert not tally.problems
    assert tally.outcomes["saved"] == 1
