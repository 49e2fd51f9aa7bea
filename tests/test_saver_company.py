"""Savers beside each other, and one after another's death; `prove_saver.py` takes longer."""

import signal

import pytest
from saver_faults import living, training


def test_an_evaluator_beside_a_writer_that_keeps_one_checkpoint(server, tmp_path):
    tally = living.beside(server, tmp_path, seconds=2)
    assert tally.points > 10
    assert tally.outcomes["steps"] > 3
    assert not tally.problems


def test_threads_with_a_directory_each(server, tmp_path):
    tally = living.at_once(server, tmp_path, savers=8, steps=3)
    assert not tally.problems


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_ended_at_random_moments_ends_as_one_that_is_not(server, tmp_path, number):
    tally = training.soak(server, tmp_path, 4, number)
    assert tally.outcomes["resumed steps"] > 1
    assert not tally.problems
