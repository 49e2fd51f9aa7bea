"""Savers beside each other, and one after another's death; `prove_saver.py` takes longer."""

import signal

import pytest
from saver_faults import living, training, trees

import jscope as js
from jscope.saver import _finding


def test_an_evaluator_beside_a_writer_that_keeps_one_checkpoint(server, tmp_path):
    tally = living.beside(server, tmp_path, seconds=2)
    assert tally.points > 10
    assert tally.outcomes["steps"] > 3
    assert not tally.problems


@pytest.mark.parametrize("moment", ["_remembered", "checkpoints"])
def test_a_step_that_is_saved_while_one_looks_is_not_taken_for_damaged(
    tmp_path, monkeypatch, moment
):
    steps = iter(range(1, 100))
    original = getattr(_finding, moment)

    def save_first(directory):
        with js.Saver(directory, max_to_keep=1) as writer:
            writer.save(trees.tree(1), next(steps))
        return original(directory)

    js.Saver(tmp_path).save(trees.tree(1), 0)
    monkeypatch.setattr(_finding, moment, save_first)
    # A warning would be an error.
    assert trees.version_of(js.Saver(tmp_path).restore(trees.target()), [1]) == 1


def test_threads_with_a_directory_each(server, tmp_path):
    tally = living.at_once(server, tmp_path, savers=8, steps=3)
    assert not tally.problems


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_ended_at_random_moments_ends_as_one_that_is_not(server, tmp_path, number):
    tally = training.soak(server, tmp_path, 4, number)
    assert tally.outcomes["resumed steps"] > 1
    assert not tally.problems
