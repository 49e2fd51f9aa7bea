"""Savers beside each other, and one after another's death; `prove_saver.py` takes longer."""

import os
import shutil
import signal
from unittest.mock import patch

import pytest
from saver_faults import concurrency, training, trees

import jscope as js
from jscope.formats import _own_steps


@pytest.mark.parametrize("overwrites", [False, True])
def test_an_evaluator_beside_a_writer_that_keeps_one_checkpoint(server, tmp_path, overwrites):
    tally = concurrency.evaluate_beside_writer(server, tmp_path, seconds=1.5, overwrites=overwrites)
    assert tally.points > 10
    assert tally.outcomes["seen"] > 3
    assert not tally.problems


@pytest.mark.parametrize("overwrites", [False, True])
@pytest.mark.parametrize("moment", ["_remembered_steps", "_listing", "read_index", "check_files"])
def test_what_is_saved_while_one_looks_is_not_taken_for_damage(
    tmp_path, monkeypatch, moment, overwrites
):
    versions = iter(range(2, 5))
    original = getattr(_own_steps, moment)

    def save_first(*arguments):
        version = next(versions, None)
        if version is not None:
            writer = js.Saver(tmp_path, max_to_keep=1)
            with writer, patch.object(_own_steps, moment, original):
                step = 1 if overwrites else version
                writer.save(trees.tree(version), step, overwrite=overwrites)
        return original(*arguments)

    js.Saver(tmp_path).save(trees.tree(1), 1)
    monkeypatch.setattr(_own_steps, moment, save_first)
    # A warning would be an error.
    restored = js.Saver(tmp_path).restore(trees.target())
    assert trees.version_of(restored, range(1, 5)) is not None


def test_a_step_that_is_removed_while_one_lists_is_not_missed_with_its_successor(
    tmp_path, monkeypatch
):
    js.Saver(tmp_path).save(trees.tree(1), 1)
    original = os.listdir

    def list_too_early(directory):
        names = original(directory)
        if "1" in names:
            monkeypatch.setattr(os, "listdir", original)
            with js.Saver(tmp_path, max_to_keep=1) as writer:
                writer.save(trees.tree(2), 2)
            monkeypatch.setattr(os, "listdir", list_too_early)
        return names

    monkeypatch.setattr(os, "listdir", list_too_early)
    assert js.Saver(tmp_path).all_steps() == (2,)


def test_a_directory_whose_steps_were_removed_by_hand_has_none(tmp_path):
    saver = js.Saver(tmp_path)
    shutil.rmtree(saver.save(trees.tree(1), 1))
    assert saver.latest_step() is None


def test_who_replaces_faster_than_one_can_read_is_told_of(tmp_path, monkeypatch):
    saver = js.Saver(tmp_path)
    (saver.save(trees.tree(1), 1) / "packed.bin").unlink()
    monkeypatch.setattr(_own_steps, "read_save_id", lambda path: "another")
    with pytest.raises(js.CheckpointError, match="it is replaced faster than it can be read"):
        saver.latest_step()


def test_threads_with_a_directory_each(server, tmp_path):
    tally = concurrency.save_in_threads(server, tmp_path, savers=8, steps=3)
    assert not tally.problems


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_ended_at_random_moments_ends_as_one_that_is_not(server, tmp_path, number):
    tally = training.soak(server, tmp_path, 4, number)
    assert tally.outcomes["resumed steps"] > 1
    assert not tally.problems
