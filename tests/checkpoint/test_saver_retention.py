"""Which checkpoints stay: by number, by hours, by a metric; and what survives a restart."""

import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jscope as js
from jscope.formats import _own_state
from jscope.formats._own_state import Record, State
from jscope.saver import Saver, _staging
from jscope.saver._retention import Retention

TREE = {"x": jnp.ones(1)}


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def steps(directory):
    return sorted(int(name) for name in os.listdir(directory) if name.isdigit())


def test_the_last_ones_saved_stay(tmp_path):
    with Saver(tmp_path, max_to_keep=3) as saver:
        for step in range(6):
            saver.save_async(TREE, step)
            assert saver.all_steps() == tuple(range(max(0, step - 2), step + 1))
    assert sorted(os.listdir(tmp_path)) == ["3", "4", "5", "checkpoint"]


@pytest.mark.parametrize("keep_all", [None, 0])
def test_none_and_zero_keep_all_and_write_all_down(tmp_path, keep_all):
    saver = Saver(tmp_path, max_to_keep=keep_all)
    for step in range(7):
        saver.save(TREE, step)
    assert saver.all_steps() == tuple(range(7))
    listed = json.loads((tmp_path / "checkpoint").read_text())["checkpoints"]
    assert [record["step"] for record in listed] == list(range(7))


def test_five_is_the_default(tmp_path):
    saver = Saver(tmp_path)
    for step in range(7):
        saver.save(TREE, step)
    assert saver.all_steps() == (2, 3, 4, 5, 6)


def test_a_new_saver_counts_what_others_saved(tmp_path):
    for step in range(6):
        Saver(tmp_path, max_to_keep=2).save(TREE, step)
    assert steps(tmp_path) == [4, 5]


def test_the_order_is_that_of_saving_and_the_highest_step_stays(tmp_path):
    saver = Saver(tmp_path, max_to_keep=2)
    for step in (20, 3, 7, 5):
        saver.save(TREE, step)
    assert saver.all_steps() == (5, 7, 20)
    saver.save(TREE, 7, overwrite=True)  # the newest again
    saver.save(TREE, 8)
    assert saver.all_steps() == (7, 8, 20)


def test_hours_keep_what_tensorflow_keeps(tmp_path):
    """TF 1.15's own outcome for these times: n=1 h, made at 1000, max_to_keep=2."""
    clock = Clock()
    saver = Saver(tmp_path, max_to_keep=2, keep_checkpoint_every_n_hours=1, clock=clock)
    for now in (1500, 2000, 4700, 4800, 5000, 9000, 9100, 9200, 9300):
        clock.now = now
        saver.save(TREE, now)
    assert steps(tmp_path) == [4700, 9000, 9200, 9300]


def test_hours_and_marks_survive_restarts(tmp_path):
    clock = Clock()
    options = {"max_to_keep": 2, "keep_checkpoint_every_n_hours": 1, "clock": clock}
    saver = Saver(tmp_path, **options)
    for now in (1500, 2000, 4700, 4800, 5000, 9000, 9100, 9200, 9300):
        clock.now = now
        saver.save(TREE, now)
        # Its own moment does not count: the hours go on.
        saver = Saver(tmp_path, **options)
    assert steps(tmp_path) == [4700, 9000, 9200, 9300]
    listed = json.loads((tmp_path / "checkpoint").read_text())["checkpoints"]
    assert [record["step"] for record in listed if record["kept"]] == [4700, 9000]


def test_the_best_stay_and_the_last_one_beside_them(tmp_path):
    losses = [0.5, 0.1, 0.3, 0.2, 0.9, math.nan, 0.8]
    saver = Saver(tmp_path, max_to_keep=2, best="min:loss")
    for step, loss in enumerate(losses):
        saver.save(TREE, step, metrics={"loss": loss, "other": 1})
        assert step in saver.all_steps()
    assert saver.all_steps() == (1, 3, 6)
    assert saver.best_step() == 1
    again = Saver(tmp_path, max_to_keep=2, best="max:loss")
    assert again.best_step() == 6
    again.save(TREE, 7, metrics={"loss": math.inf})
    assert again.all_steps() == (6, 7)


def test_of_equally_good_ones_the_newer_is_better(tmp_path):
    saver = Saver(tmp_path, max_to_keep=1, best="max:accuracy")
    for step in range(3):
        saver.save(TREE, step, metrics={"accuracy": 0.5})
    assert saver.all_steps() == (2,)
    assert saver.best_step() == 2


def test_a_save_without_the_metric_that_counts_is_refused(tmp_path):
    saver = Saver(tmp_path, best="min:loss")
    with pytest.raises(js.CheckpointValueError) as caught:
        saver.save(TREE, 1, metrics={"accuracy": 1})
    assert str(caught.value) == (
        "This Saver keeps the best by 'loss', and the save has 'accuracy'. Write "
        "saver.save(tree, step, metrics={'loss': ...})."
    )
    with pytest.raises(js.CheckpointValueError, match="and the save has none"):
        saver.save(TREE, 1)
    for wrong in ({"loss": "low"}, [1], {"loss": None}):
        with pytest.raises(js.CheckpointValueError, match="metrics are numbers by name"):
            saver.save(TREE, 1, metrics=wrong)
    assert saver.best_step() is None
    with pytest.raises(js.CheckpointValueError, match="This Saver has no `best`"):
        Saver(tmp_path).best_step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_to_keep": -1}, "max_to_keep is how many checkpoints stay, got -1. Write None or 0"),
        ({"max_to_keep": 2.5}, "max_to_keep is how many checkpoints stay, got 2.5"),
        ({"max_to_keep": True}, "max_to_keep is how many checkpoints stay, got True"),
        ({"keep_checkpoint_every_n_hours": 0}, "is a number above 0, or None, got 0"),
        ({"keep_checkpoint_every_n_hours": "1"}, "is a number above 0, or None, got '1'"),
        ({"best": "loss"}, "as in best='min:loss' or best='max:accuracy'; got 'loss'"),
        ({"best": "min:"}, "as in best='min:loss' or best='max:accuracy'; got 'min:'"),
        ({"best": len}, "as in best='min:loss'"),
    ],
)
def test_what_can_be_no_rule_is_refused_at_once(tmp_path, options, message):
    with pytest.raises(js.CheckpointValueError) as caught:
        Saver(tmp_path, **options)
    assert message in str(caught.value)


# The state file.


def test_what_the_state_file_does_not_know_is_found_and_counted(tmp_path):
    saver = Saver(tmp_path, max_to_keep=3)
    for step in range(3):
        saver.save(TREE, step)
    (tmp_path / "checkpoint").unlink()
    assert saver.all_steps() == (0, 1, 2)
    saver.save(TREE, 3)
    assert saver.all_steps() == (1, 2, 3)


def test_what_was_evicted_by_one_who_died_before_he_could_remove_it_goes_next(
    tmp_path, monkeypatch
):
    class Death(BaseException):
        pass

    def dying(*arguments):
        raise Death

    saver = Saver(tmp_path, max_to_keep=2)
    for step in (1, 2):
        saver.save(TREE, step)
    with monkeypatch.context() as patch:
        patch.setattr(_staging, "_evict", dying)
        with pytest.raises(Death):
            saver.save(TREE, 3)
    assert saver.all_steps() == (1, 2, 3)
    saver.save(TREE, 4)
    assert saver.all_steps() == (3, 4)


def test_metrics_of_a_lost_state_file_are_read_from_the_indexes(tmp_path):
    saver = Saver(tmp_path, max_to_keep=2, best="min:loss")
    for step, loss in enumerate([0.3, 0.1, 0.2]):
        saver.save(TREE, step, metrics={"loss": loss})
    (tmp_path / "checkpoint").unlink()
    assert saver.best_step() == 1
    assert saver.all_steps() == (1, 2)


def test_a_step_replaced_behind_its_back_is_noticed(tmp_path):
    saver = Saver(tmp_path / "a", best="min:loss")
    other = Saver(tmp_path / "b", best="min:loss")
    for step, loss in enumerate([0.3, 0.1]):
        saver.save(TREE, step, metrics={"loss": loss})
    other.save(TREE, 1, metrics={"loss": 0.9})
    os.rename(tmp_path / "a" / "1", tmp_path / "old")
    os.rename(tmp_path / "b" / "1", tmp_path / "a" / "1")
    assert saver.best_step() == 0


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-5], lambda text: b"", lambda text: text.replace(b"3", b"4", 1)]
)
def test_a_damaged_state_file_keeps_all_for_good_with_a_warning(tmp_path, damage):
    saver = Saver(tmp_path, max_to_keep=2)
    for step in range(3):
        saver.save(TREE, step)
    state = tmp_path / "checkpoint"
    state.write_bytes(damage(state.read_bytes()))
    assert saver.latest_step() == 2
    with pytest.warns(js.CheckpointWarning, match="so it is unknown which checkpoints"):
        saver.save(TREE, 3)
    for step in (4, 5, 6):
        saver.save(TREE, step)
    assert saver.all_steps() == (1, 2, 5, 6)


def test_tensorflows_state_file_is_left_alone(tmp_path):
    text = 'model_checkpoint_path: "model-1"\n'
    (tmp_path / "checkpoint").write_text(text)
    saver = Saver(tmp_path)
    with pytest.raises(js.CheckpointError, match="is TensorFlow's list of its checkpoints"):
        saver.save(TREE, 1)
    assert os.listdir(tmp_path) == ["checkpoint"]
    assert (tmp_path / "checkpoint").read_text() == text


def test_a_damaged_checkpoint_is_the_first_to_go(tmp_path):
    saver = Saver(tmp_path, max_to_keep=2)
    for step in (1, 2):
        saver.save(TREE, step)
    (tmp_path / "2" / "jscope.json").write_text("damaged")
    with pytest.warns(UserWarning, match="2"):
        assert saver.latest_step() == 1
    saver.save(TREE, 3)
    assert saver.all_steps() == (1, 3)


# The rule, for all inputs.

records = st.lists(
    st.builds(
        Record,
        step=st.integers(0, 50),
        save_id=st.just("a"),
        saved_at=st.floats(0, 1e6),
        metrics=st.dictionaries(st.just("loss"), st.floats(width=16)),
        kept=st.booleans(),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda record: record.step,
)


@given(
    records,
    st.integers(1, 5),
    st.one_of(st.none(), st.floats(0.01, 100)),
    st.sampled_from([None, "min:loss", "max:loss"]),
)
def test_the_last_the_highest_the_best_and_the_kept_never_go(found, count, hours, best):
    rule = Retention.of(count, hours, best)
    state, going = rule.apply(State(tuple(found)), 0.0)
    staying = {record.step for record in state.records}
    assert staying | {record.step for record in going} == {record.step for record in found}
    assert found[-1].step in staying
    assert max(record.step for record in found) in staying
    assert {record.step for record in found if record.kept} <= staying
    if best is not None and not all(record.kept for record in found):
        loose = State(tuple(record for record in found if not record.kept))
        assert rule.best(loose) in staying | {None}
    # Applied again, nothing more happens.
    assert rule.apply(state, 0.0) == (state, ())


@given(records, st.sampled_from([None, 0]), st.one_of(st.none(), st.floats(0.01, 100)))
def test_to_keep_all_is_to_let_none_go(found, count, hours):
    state, going = Retention.of(count, hours, None).apply(State(tuple(found)), 5.0)
    assert going == ()
    assert state.records == tuple(found)
    assert state.kept_until == 5.0


def test_a_state_is_read_as_it_was_written(tmp_path):
    numbers = {"loss": 0.1, "nan": math.nan, "inf": -math.inf}
    state = State((Record(3, "abc", 12.5, numbers), Record(1, "def", 13.5, {}, kept=True)), 7.25)
    _own_state.write_state(tmp_path / "checkpoint", state)
    found, damage = _own_state._read_file(tmp_path)
    assert damage == ""
    assert repr(found) == repr(state)
    assert _own_state.remembered(tmp_path) == {1, 3}
    for length in range(len((tmp_path / "checkpoint").read_bytes())):
        text = (tmp_path / "checkpoint").read_bytes()[:length]
        (tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut" / "checkpoint").write_bytes(text)
        assert _own_state._read_file(tmp_path / "cut")[1] != ""


def test_arguments_by_position_are_tf1_s_and_a_number_is_no_flag(tmp_path):
    saver = Saver(tmp_path, None, False, True, 2, None)
    for step in range(4):
        saver.save(TREE, step)
    assert saver.all_steps() == (2, 3)
    with pytest.raises(
        js.CheckpointValueError, match=r"reshape is True or False, got 3\. After.*var"
    ):
        Saver(tmp_path, None, 3)
    with pytest.raises(js.CheckpointValueError, match=r"sharded is True or False, got 'yes'"):
        Saver(tmp_path, None, True, "yes")


@pytest.mark.parametrize("hours", [np.float32(1.5), np.int64(2), np.float64(0.5)])
def test_hours_may_be_numpys(hours):
    found = Retention.of(5, hours, None).hours
    assert type(found) is float
    assert found == hours
