"""Several processes that save together: what each does, and what becomes of it if one fails.

The processes are threads here, each with a number of its own, so that any of them can fail at any
place; two real ones are in ``test_saver_two_processes.py``.
"""

import json
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saver_faults.trees import larger_ones_by_orbax

import jscope as js
from jscope.formats import _own_packed
from jscope.formats._own_entry import Entry
from jscope.saver import Saver, _on_disk, _orbax, _processes, _snapshot, _staging


class Together:
    """Runs a function as each of some processes."""

    def __init__(self, monkeypatch, count=3):
        self.count = count
        self._number = threading.local()
        self._barrier = threading.Barrier(count, timeout=60)
        self._texts = [None] * count
        monkeypatch.setattr(_processes, "count", lambda: count)
        monkeypatch.setattr(_processes, "index", lambda: self._number.value)
        monkeypatch.setattr(_processes, "_gather", self._gather)
        monkeypatch.setattr(_orbax, "barrier", lambda key: self._meet(key))
        self.keys = set()

    def _gather(self, text):
        self._texts[self._number.value] = text
        self._barrier.wait()
        texts = list(self._texts)
        self._barrier.wait()
        return texts

    def _meet(self, key):
        assert (key, self._number.value) not in self.keys
        self.keys.add((key, self._number.value))
        self._barrier.wait()

    def run(self, work):
        """What each returns or raises."""
        outcomes = [None] * self.count

        def run(number):
            self._number.value = number
            try:
                outcomes[number] = work(number)
            except BaseException as error:
                outcomes[number] = error

        threads = [threading.Thread(target=run, args=(n,)) for n in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes


@pytest.fixture
def together(monkeypatch):
    return Together(monkeypatch)


TREE = {"x": np.arange(5.0), "n": 3, "none": None, "empty": jnp.zeros((0, 2))}


def saves(directory, tree=TREE, step=1, **options):
    def work(number):
        with Saver(directory) as saver:
            return saver.save(tree if isinstance(tree, dict) else tree(number), step, **options)

    return work


def test_all_return_when_it_is_committed(tmp_path, together):
    assert together.run(saves(tmp_path)) == [tmp_path / "1"] * 3
    assert sorted(os.listdir(tmp_path)) == ["1", "checkpoint"]
    assert sorted(os.listdir(tmp_path / "1")) == ["jscope.json", "packed.bin"]
    assert together.run(saves(tmp_path, overwrite=True)) == [tmp_path / "1"] * 3


@pytest.mark.parametrize("culprit", range(3))
@pytest.mark.parametrize("change", [{"x": np.arange(5.0) + 1}, {"n": 4}, {"more": 1}])
def test_values_and_names_that_differ_are_refused_and_named(tmp_path, together, culprit, change):
    def tree(number):
        return TREE | (change if number == culprit else {})

    first, *others = together.run(saves(tmp_path, tree))
    (name,) = change
    assert (
        f"The processes were given different values: {name!r}. A value that is not a shard"
        in str(first)
    )
    for other in others:
        if name == "x":  # found when it has been written, by the first process
            assert str(other) == "The first process did not commit it; see its own error."
        else:
            assert (type(other), str(other)) == (type(first), str(first))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (np.zeros(2, np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 0)), np.zeros((0, 2))),
        (1, "0x1"),
        (jax.random.key(0), jax.random.key_data(jax.random.key(0))),
    ],
)
def test_values_of_the_same_bytes_and_another_dtype_or_shape_differ(
    tmp_path, together, value, other
):
    outcomes = together.run(saves(tmp_path, lambda n: {"v": value if n else other, "x": 1}))
    for outcome in outcomes:
        assert str(outcome).startswith(
            "The processes were given different values: 'v'. A value that"
        )
    assert os.listdir(tmp_path) == []


DIFFERENT = {
    "metadata": (
        {"metadata": {"lr": 0.1}},
        {"metadata": {"lr": 0.2}},
        '{"lr": 0.1}',
        '{"lr": 0.2}',
    ),
    "metadata of one": ({"metadata": None}, {"metadata": [1]}, "null", "[1]"),
    "metrics": ({"metrics": {"loss": 0.5}}, {"metrics": {"loss": 0.25}}, "0.5}", "0.25}"),
    "step": ({"step": 1}, {"step": 2}, "step is 1", "2 in"),
    "overwrite": ({"overwrite": True}, {"overwrite": False}, "true", "false"),
    "portable": ({"portable": True}, {"portable": False}, "portable is true", "false"),
    "sharded": ({}, {"sharded": False}, "sharded is true", "false in"),
    "compression": ({"compression": "zstd"}, {}, 'compression is "zstd"', "null in"),
    "max_to_keep": ({}, {"max_to_keep": 3}, "max_to_keep is 5", "3 in"),
    "hours": ({"keep_checkpoint_every_n_hours": 2}, {}, "n_hours is 2", "null in"),
    "best": ({"best": "min:a"}, {"best": "max:a"}, 'best is "min:a"', '"max:a" in'),
    "the directory": ({"directory": "a"}, {"directory": "b"}, "/a", "/b"),
}


@pytest.mark.parametrize("culprit", [1, 2])
@pytest.mark.parametrize("what", DIFFERENT)
def test_arguments_that_differ_are_one_error_for_all_and_nothing_is_written(
    tmp_path, together, culprit, what
):
    first, other, shown, other_shown = DIFFERENT[what]
    of_save = {"metadata", "metrics", "step", "overwrite", "portable"}

    def work(number):
        given = {"metrics": {"a": 1.0}} | (other if number == culprit else first)
        step, directory = given.pop("step", 1), given.pop("directory", "runs")
        options = {name: given.pop(name) for name in of_save & given.keys()}
        with Saver(tmp_path / directory, **given) as saver:
            return saver.save({"x": np.arange(5.0)}, step, **options)

    outcomes = together.run(work)
    text = str(outcomes[0])
    assert text.startswith("The processes gave different arguments, and nothing was written: ")
    in_first, _, in_other = text.partition(" in process 0, and ")
    assert shown in in_first
    assert other_shown in in_other
    assert f" in process {culprit}. All processes must pass the same arguments. Take" in in_other
    for outcome in outcomes:
        assert (type(outcome), str(outcome)) == (js.CheckpointValueError, text)
    assert [names for _, _, names in os.walk(tmp_path) if names] == []
    assert [path.name for path in tmp_path.rglob(".tmp*")] == []


def test_arguments_that_are_equal_in_other_words_agree(tmp_path, together):
    def work(number):
        metadata = {"a": 1, "b": [2]} if number else {"b": [2], "a": 1}
        metrics = {"loss": np.float32(0.5) if number else 0.5, "nan": float("nan")}
        step = np.int64(1) if number else 1
        with Saver(tmp_path, best="min:loss") as saver:
            return saver.save(TREE, step, metadata=metadata, metrics=metrics)

    assert together.run(work) == [tmp_path / "1"] * 3


def test_everything_that_differs_is_in_one_error(tmp_path, together):
    def work(number):
        with Saver(tmp_path) as saver:
            return saver.save(TREE | ({"more": 1} if number == 2 else {}), 1, metadata=number)

    for outcome in together.run(work):
        assert "different values: 'more'. A value that is not a sharded jax.Array must be" in str(
            outcome
        )
        assert "Also, metadata is 0 in process 0, and 1 in process 1." in str(outcome)


@pytest.mark.parametrize("culprit", range(3))
@pytest.mark.parametrize(
    "wrong",
    [{"metadata": {1, 2}}, {"metrics": {"loss": "low"}}, {"step": -1}, {"tree": {"a": 1, "a/": 2}}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_argument_that_one_refuses_keeps_no_one_waiting(tmp_path, together, culprit, wrong):
    def work(number):
        given = {"tree": TREE, "step": 1} | (wrong if number == culprit else {})
        with Saver(tmp_path) as saver:
            return saver.save(given.pop("tree"), given.pop("step"), **given)

    for number, outcome in enumerate(together.run(work)):
        assert type(outcome) is js.CheckpointValueError
        assert (f"Process {culprit} failed" in str(outcome)) == (number != culprit)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("culprit", range(3))
def test_what_one_refuses_all_refuse_with_the_same_class(tmp_path, together, culprit):
    outcomes = together.run(saves(tmp_path, lambda n: {"f": len} if n == culprit else TREE))
    for number, outcome in enumerate(outcomes):
        assert type(outcome) is js.CheckpointValueError
        told = f"Process {culprit} failed, so this one stopped. CheckpointValueError: The tree can"
        assert str(outcome).startswith("The tree can" if number == culprit else told)
    assert os.listdir(tmp_path) == []


def test_a_step_that_is_taken_is_refused_by_all(tmp_path, together):
    together.run(saves(tmp_path))
    for outcome in together.run(saves(tmp_path)):
        assert type(outcome) is js.CheckpointExistsError
        assert "saver.save(tree, 1, overwrite=True)" in str(outcome)


def fail(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("culprit", range(3))
def test_one_that_fails_to_write_leaves_no_checkpoint_and_no_one_waiting(
    tmp_path, together, monkeypatch, culprit
):
    write = _snapshot.Snapshot.write

    def failing(*arguments):
        if _processes.index() == culprit:
            fail()
        return write(*arguments)

    monkeypatch.setattr(_snapshot.Snapshot, "write", failing)
    outcomes = together.run(saves(tmp_path))
    assert all(isinstance(outcome, js.CheckpointError) for outcome in outcomes)
    assert "No space left on device" in str(outcomes[culprit])
    if culprit:
        assert str(outcomes[0]) == (
            f"Process {culprit} could not write its part; see its own error."
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("culprit", range(3))
def test_one_whose_snapshot_fails_keeps_no_one_waiting(tmp_path, together, monkeypatch, culprit):
    parts = _snapshot._parts

    def failing(array):
        if _processes.index() == culprit:
            raise MemoryError
        return parts(array)

    monkeypatch.setattr(_own_packed, "LIMIT", 0)
    monkeypatch.setattr(_snapshot, "_parts", failing)
    outcomes = together.run(saves(tmp_path))
    assert all(isinstance(outcome, js.CheckpointError) for outcome in outcomes)
    assert "Step 1 was not saved" in str(outcomes[culprit])
    assert "MemoryError" in str(outcomes[culprit])
    assert os.listdir(tmp_path) == []


# In a store.


def test_processes_save_to_a_store_together(s3, together):
    large = {"large": np.arange(3 << 19, dtype=np.float64), **TREE}
    outcomes = together.run(saves(s3.url("run"), large))
    assert [str(outcome) for outcome in outcomes] == [s3.url("run/1")] * 3
    for restored in together.run(lambda number: Saver(s3.url("run")).restore(large)):
        np.testing.assert_array_equal(restored["large"], large["large"])
    saver = Saver(s3.url("run"))
    assert saver.verify() == large["large"].nbytes + TREE["x"].nbytes
    names = saver.directory.fresh().names()
    assert len(names) == 4  # the state, the index, the packed arrays, the large one
    assert not any("part-" in name or "claim" in name for name in names)


@pytest.mark.parametrize("culprit", range(3))
def test_one_that_fails_to_write_to_a_store_leaves_nothing_there(
    s3, together, monkeypatch, culprit
):
    write = _snapshot.Snapshot.write

    def failing(snapshot, place):
        if _processes.index() == culprit:
            fail()
        return write(snapshot, place)

    with monkeypatch.context() as patch:
        patch.setattr(_snapshot.Snapshot, "write", failing)
        outcomes = together.run(saves(s3.url("run")))
    assert all(isinstance(outcome, js.CheckpointError) for outcome in outcomes)
    assert "No space left on device" in str(outcomes[culprit])
    if culprit:
        assert str(outcomes[0]) == (
            f"Process {culprit} could not write its part; see its own error."
        )
    saver = Saver(s3.url("run"))
    assert saver.directory.fresh().names() == []
    together.run(saves(s3.url("run")))
    assert saver.all_steps() == (1,)


def test_an_array_of_which_nobody_has_a_part_is_never_committed():
    entry = Entry((4,), "float32", (4,), "float32", "orbax")
    parts = [{"w": (None, [[[0], [2], 7]], 0)}, {"w": (None, [], 0)}]
    with pytest.raises(js.CheckpointError, match="Missing shards of 'w': no process has them"):
        _snapshot.merge({"w": entry}, parts, portable=False)
    parts[1] = {"w": (None, [[[2], [2], 8]], 0)}
    merged = _snapshot.merge({"w": entry}, parts, portable=False)["w"]
    assert merged.chunks == (((0,), (2,), 7), ((2,), (2,), 8))
    assert merged.key == "0"


@pytest.mark.parametrize("stage", ["write_index", "flush_all"])
def test_if_the_commit_fails_all_are_texts(tmp_path, together, monkeypatch, stage):
    with monkeypatch.context() as patch:
        patch.setattr(_staging, stage, fail)
        outcomes = together.run(saves(tmp_path))
    assert "No space left on device" in str(outcomes[0])
    assert "The first process did not commit it" in str(outcomes[1])
    assert os.listdir(tmp_path) == []
    assert together.run(saves(tmp_path)) == [tmp_path / "1"] * 3


def test_a_staging_directory_that_cannot_be_made_is_reported_to_all(
    tmp_path, together, monkeypatch
):
    monkeypatch.setattr(_on_disk, "Staging", fail)
    outcomes = together.run(saves(tmp_path))
    assert "No space left on device" in str(outcomes[0])
    for outcome in outcomes[1:]:
        assert type(outcome) is js.CheckpointError
        assert "Process 0 failed, so this one stopped. CheckpointError: Step 1 was" in str(outcome)


def test_a_program_of_one_process_meets_nobody(monkeypatch):
    monkeypatch.setattr(_orbax, "barrier", fail)
    monkeypatch.setattr(_processes, "_gather", fail)
    _processes.barrier("anything")
    assert _processes.together(lambda: "done") == ["done"]
    with pytest.raises(ZeroDivisionError):
        _processes.together(lambda: str(1 / 0))


def test_gathering_keeps_texts_of_any_length(monkeypatch):
    from jax.experimental import multihost_utils

    texts = ["", "ü" * 1000, json.dumps({"a": None})]
    for text in texts:

        def allgather(array):
            # As if another process had told nothing.
            return np.stack([np.asarray(array), np.zeros_like(array)])

        monkeypatch.setattr(multihost_utils, "process_allgather", allgather)
        assert _processes._gather(text) == [text, ""]


def test_a_large_array_of_a_process_alone_is_written_once(together, tmp_path):
    outcomes = together.run(saves(tmp_path, {"x": jnp.zeros(1 << 21)}))
    assert outcomes == [tmp_path / "1"] * 3
    assert sorted(p.name for p in (tmp_path / "1").rglob("*")) == ["0", "0", "jscope.json"]
    assert Saver(tmp_path).verify() == 1 << 23


def test_orbax_is_given_a_large_array_of_a_process_alone_as_numpys(together, tmp_path, monkeypatch):
    given = []

    def begin(path, arrays, **options):
        given.append(arrays)
        fail()

    monkeypatch.setattr(_orbax, "begin", begin)
    with larger_ones_by_orbax():
        outcomes = together.run(saves(tmp_path, {"x": jnp.zeros(1 << 21)}))
    assert all(isinstance(outcome, js.CheckpointError) for outcome in outcomes)
    assert [type(arrays["0"]) for arrays in given] == [np.ndarray] * 3
    assert os.listdir(tmp_path) == []


def test_an_array_that_lies_in_several_processes_is_gathered(monkeypatch):
    from jax.experimental import multihost_utils

    class Elsewhere:
        is_fully_addressable = is_fully_replicated = False

    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda array, tiled: np.ones(3) if tiled else None
    )
    np.testing.assert_array_equal(_snapshot.whole(Elsewhere()), np.ones(3))


def test_in_several_processes_jax_takes_note_of_signals(tmp_path, monkeypatch):
    import signal

    from jax.experimental import multihost_utils

    reported = []

    def reached(step):
        reported.append(step)
        return bool(step == 2)

    saved = []
    saver = Saver(tmp_path)
    monkeypatch.setattr(_processes, "count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
    monkeypatch.setattr(saver, "_save_at_last", lambda tree, step: saved.append(step))
    before = signal.getsignal(signal.SIGTERM)
    with saver.saving_on_termination() as leave_if_asked:
        assert signal.getsignal(signal.SIGTERM) is before
        for step in (0, 1):
            leave_if_asked(TREE, np.int32(step))
        with pytest.raises(SystemExit, match="143"):
            leave_if_asked(TREE, np.int32(2))
    assert reported == [0, 1, 2]
    assert saved == [2]


def test_host_copies_die_with_the_save(tmp_path, monkeypatch):
    """On an accelerator; here a CPU says it is none."""
    monkeypatch.setattr(_snapshot, "_is_on_cpu", lambda array: False)
    arrays = {"small": jnp.ones(3), "large": jnp.ones((3000, 1000))}
    saver = Saver(tmp_path)
    saver.save(arrays, 1)
    saver.save_async(arrays, 2).result()
    for step in (1, 2):
        restored = saver.restore(arrays, step)
        assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), restored, arrays))
    detached = _snapshot.detached(arrays["small"])
    assert detached is not arrays["small"]
    assert detached.unsafe_buffer_pointer() == arrays["small"].unsafe_buffer_pointer()
