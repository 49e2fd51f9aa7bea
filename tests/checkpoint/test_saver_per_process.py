"""`PerProcess`: values that each process saves its own of, and gets back.

Several processes are threads here, as in ``test_saver_simulated_processes.py``; real ones are in
``test_saver_two_processes.py``.
"""

import collections
import contextlib
import itertools
import json
import math
import pickle
import random

import grain
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hostile import own
from hypothesis import given, settings
from hypothesis import strategies as st
from test_saver_simulated_processes import Together

import jscope as js
from jscope._cli import _app
from jscope.formats import _per_process
from jscope.saver import Saver


@pytest.fixture
def together(monkeypatch):
    return Together(monkeypatch)


def dataset():
    numbers = grain.MapDataset.range(1000).shuffle(seed=7).repeat(2)
    return numbers.map(lambda x: x * x).batch(16).to_iter_dataset()


def loader():
    return grain.DataLoader(
        data_source=np.arange(200),
        sampler=grain.samplers.IndexSampler(200, shuffle=True, seed=3, num_epochs=2),
        operations=[grain.transforms.Batch(8)],
    )


@pytest.mark.parametrize("batches", [dataset, loader])
@pytest.mark.parametrize("is_async", [False, True])
def test_grains_iterator_resumed_in_mid_epoch_equals_the_uninterrupted_run(
    tmp_path, batches, is_async
):
    uninterrupted = [np.asarray(batch) for batch in batches()]
    iterator = iter(batches())
    before = [np.asarray(next(iterator)) for _ in range(5)]
    tree = {"w": np.ones(3), "data": js.PerProcess(iterator)}
    with Saver(tmp_path) as saver:
        if is_async:
            pending = saver.save_async(tree, 5)
            next(iterator)  # the training goes on
            pending.result()
        else:
            saver.save(tree, 5)
    fresh = iter(batches())
    next(fresh)
    restored = Saver(tmp_path).restore({"w": np.zeros(3), "data": js.PerProcess(fresh)})
    assert restored["data"].value is fresh
    after = [np.asarray(batch) for batch in fresh]
    assert len(uninterrupted) > 30
    np.testing.assert_equal([*before, *after], uninterrupted)


def test_random_states_of_the_host_go_on(tmp_path):
    rngs = [np.random.default_rng(3), np.random.Generator(np.random.MT19937(4))]
    python, legacy = random.Random(5), np.random.RandomState(6)
    states = [js.PerProcess(rng.bit_generator.state) for rng in rngs]
    states += [js.PerProcess(python.getstate()), js.PerProcess(legacy)]
    Saver(tmp_path).save(states, 1)
    expected = [
        *(rng.normal(size=700).tolist() for rng in rngs),
        [python.random() for _ in range(700)],
        legacy.normal(size=700).tolist(),
    ]
    restored = Saver(tmp_path).restore(states)
    for rng, state in zip(rngs, restored, strict=False):
        rng.bit_generator.state = state.value
    python.setstate(restored[2].value)
    assert expected == [
        *(rng.normal(size=700).tolist() for rng in rngs),
        [python.random() for _ in range(700)],
        legacy.normal(size=700).tolist(),
    ]


# Which values come back.

numbers = st.one_of(
    st.integers(-(1 << 200), 1 << 200), st.floats(), st.complex_numbers(), st.booleans()
)
dtypes = st.sampled_from(["int8", "uint64", "float16", "complex64", "bool", "bfloat16", "int4"])
arrays = st.builds(
    lambda name, shape: np.arange(math.prod(shape)).reshape(shape).astype(name),
    dtypes,
    st.lists(st.integers(0, 3), max_size=3),
)
leaves = st.one_of(st.none(), numbers, st.text(), st.binary(), arrays)
states = st.recursive(
    leaves,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.dictionaries(st.text() | st.integers(), inside, max_size=3),
    ),
    max_leaves=8,
)


def is_same(a, b):
    """Whether two values have one type and the same bits, at any depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray | np.generic):
        return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
    return pickle.dumps(a) == pickle.dumps(b)


@given(st.lists(states, min_size=1, max_size=3))
def test_the_text_of_all_processes_values_has_each_to_the_last_bit(values):
    text = _per_process.joined([js.PerProcess(value).text() for value in values])
    text.encode("ascii")  # an index is UTF-8, and a string may be half a character
    assert is_same(_per_process.values_of(text), tuple(values))


@settings(max_examples=20)
@given(states)
def test_a_value_comes_back_with_its_types_and_bits(tmp_path_factory, value):
    saver = Saver(tmp_path_factory.mktemp("run"))
    saver.save({"a": js.PerProcess(value), "b": 3}, 1)
    restored = saver.restore({"a": js.PerProcess("of the target"), "b": 0})
    assert type(restored["a"]) is js.PerProcess
    assert is_same(restored["a"].value, value)
    assert is_same(saver.restore()["a"].value, value)
    assert is_same(saver.open()["a"].read(), (value,))
    assert saver.verify(1) == 0


def test_scalars_keys_and_arrays_of_jax(tmp_path):
    value = {"s": np.float32(0.1), "k": jax.random.key(3), "x": jnp.arange(3.0)}
    value["e"] = ml_dtypes.int4(3)
    Saver(tmp_path).save({"a": js.PerProcess(value)}, 1)
    found = Saver(tmp_path).restore()["a"].value
    assert (type(found["s"]), found["s"]) == (np.float32, np.float32(0.1))
    assert (type(found["e"]), found["e"]) == (ml_dtypes.int4, 3)
    assert jax.random.key_data(found["k"]).tolist() == [0, 3]
    assert type(found["x"]) is np.ndarray
    assert found["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"f": [print]}, "'data' has a value of type builtin_function_or_method, which can't be"),
        (collections.OrderedDict(a=1), "'data' has a value of type OrderedDict"),
        ({(1, 2): 3}, "'data' has a value of type dict"),
        (np.array(["x"]), "'data' has a value of type ndarray"),
        (np.array([None]), "'data' has a value of type ndarray"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_name_before_anything_is_written(tmp_path, value, text):
    saver = Saver(tmp_path)
    with pytest.raises(js.CheckpointValueError) as caught:
        saver.save({"data": js.PerProcess(value), "w": np.ones(2)}, 1)
    assert "The tree can't be saved; nothing was written. 1 of its values" in str(caught.value)
    assert text in str(caught.value)
    assert saver.all_steps() == ()


def test_a_value_that_contains_itself_is_refused(tmp_path):
    value = []
    value.append(value)
    with pytest.raises(js.CheckpointValueError, match="'data' is nested deeper than 100"):
        Saver(tmp_path).save({"data": js.PerProcess(value)}, 1)


def test_orbax_holds_no_such_values(tmp_path):
    with pytest.raises(js.CheckpointValueError, match="PerProcess, which Orbax does not hold"):
        Saver(tmp_path).save({"data": js.PerProcess(3)}, 1, portable=True)


def test_an_argument_that_is_no_function_is_refused():
    with pytest.raises(js.CheckpointValueError, match="is 'error' or a function, got 'first'"):
        js.PerProcess(3, on_other_count="first")


# Restoring.


class Counter:
    """An object with a state."""

    def __init__(self, at=0, fails=False):
        self.at = at
        self.fails = fails

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        if self.fails:
            raise RuntimeError("no")
        self.at = state["at"]


def test_the_state_is_set_only_if_all_else_is_restored(tmp_path):
    Saver(tmp_path).save({"data": js.PerProcess(Counter(3)), "w": np.ones(2)}, 1)
    counter = Counter()
    with pytest.raises(js.TreeMismatchError):
        Saver(tmp_path).restore({"data": js.PerProcess(counter), "w": np.ones(3)})
    assert counter.at == 0


def test_a_part_is_selected_kept_and_renamed_as_any_other(tmp_path):
    saver = Saver(tmp_path)
    saver.save({"data": js.PerProcess(Counter(3)), "w": np.ones(2)}, 1)
    counter = Counter()
    target = {"data": js.PerProcess(counter), "w": np.zeros(2)}
    assert saver.restore(target, select="w")["data"].value.at == 0
    renamed = {"input": js.PerProcess(counter), "more": js.PerProcess(Counter(9))}
    restored = saver.restore(renamed, rename={"data": "input"}, missing="keep", unexpected="ignore")
    assert (restored["input"].value.at, restored["more"].value.at) == (3, 9)
    assert js.list_variables(tmp_path) == [("data", []), ("w", [2])]
    tree = saver.restore(select="data")
    assert isinstance(tree, js.VarTree)
    assert tree["data"].value == {"at": 3}
    assert saver.open()["data"].dtype == np.dtype(object)


def test_another_kind_of_value_is_not_taken_for_it(tmp_path):
    saver = Saver(tmp_path)
    saver.save({"a": js.PerProcess(3), "b": 3}, 1)
    with pytest.raises(js.TreeMismatchError) as caught:
        saver.restore({"a": 0, "b": js.PerProcess(0)}, convert=True)
    assert "'a' is python PerProcess in the checkpoint, python int in the target" in str(
        caught.value
    )
    assert "'b' is python int in the checkpoint, python PerProcess in the target" in str(
        caught.value
    )


def test_the_command_lists_shows_and_verifies_it(tmp_path, capsys):
    path = Saver(tmp_path).save({"data": js.PerProcess(Counter(3)), "w": np.ones(2)}, 1)
    assert [_app.run([what, str(path)]) for what in ("ls", "verify")] == [0, 0]
    assert "python PerProcess" in capsys.readouterr().out
    assert _app.run(["show", str(path), "data"]) == 0
    assert "({'at': 3},)" in capsys.readouterr().out


# Several processes.


def test_each_process_gets_its_own_value(tmp_path, together):
    counters = [Counter(10 * number) for number in range(3)]

    def save(number):
        counter = counters[number]
        tree = {"data": js.PerProcess(counter), "n": 1, "more": js.PerProcess([number] * number)}
        with Saver(tmp_path) as saver:
            return saver.save(tree, 1)

    together.run(save)
    fresh = [Counter() for _ in range(3)]

    def restore(number):
        target = {"data": js.PerProcess(fresh[number]), "n": 0, "more": js.PerProcess(None)}
        restored = Saver(tmp_path).restore(target)
        assert restored["data"].value is fresh[number]
        return restored["more"].value, Saver(tmp_path).restore()["data"].value

    values = [{"at": 0}, {"at": 10}, {"at": 20}]
    assert together.run(restore) == list(zip([[], [1], [2, 2]], values, strict=True))
    assert [counter.at for counter in fresh] == [0, 10, 20]
    assert Saver(tmp_path).open()["data"].read() == tuple(values)


def test_processes_that_have_other_names_of_such_values_are_refused(tmp_path, together):
    def save(number):
        with Saver(tmp_path) as saver:
            saver.save({"data" if number else "other": js.PerProcess(3)}, 1)

    for outcome in together.run(save):
        assert "were given different values: 'data', 'other'" in str(outcome)


def test_values_that_differ_are_refused_with_the_line_to_write(tmp_path, together):
    def save(number):
        with Saver(tmp_path) as saver:
            saver.save({"data": number}, 1)

    for outcome in together.run(save):
        assert str(outcome).endswith("such as a data iterator, is saved as js.PerProcess(value).")


def test_a_value_that_one_process_cannot_save_is_an_error_of_all(tmp_path, together):
    def save(number):
        with Saver(tmp_path) as saver:
            saver.save({"data": js.PerProcess(print if number == 1 else 3)}, 1)

    outcomes = together.run(save)
    assert all(isinstance(outcome, js.CheckpointValueError) for outcome in outcomes)
    assert "Process 1 failed" in str(outcomes[0])
    assert "Process 1 failed" in str(outcomes[2])
    assert Saver(tmp_path).all_steps() == ()


def saved_by_three(directory, together):
    def save(number):
        with Saver(directory) as saver:
            saver.save({"data": js.PerProcess([number])}, 1)

    together.run(save)


def test_another_number_of_processes_is_an_error_that_says_what_to_write(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        saved_by_three(tmp_path, Together(patch))
    for target in (None, {"data": js.PerProcess(0)}):
        with pytest.raises(js.TreeMismatchError) as caught:
            Saver(tmp_path).restore(target)
        assert str(caught.value) == (
            f"3 processes saved 'data', each its own value, in {tmp_path / '1'}, and this program "
            "has 1 process: which of the values a process gets is unknown. Run it with 3 "
            "processes, or leave these out by select=. Or choose: a target that has "
            "js.PerProcess(value, on_other_count=lambda values, process, count: ...) gets what "
            f"the function returns, and saver.open('{tmp_path / '1'}')['data'].read() is all of "
            "them."
        )


def test_a_function_chooses_for_another_number_of_processes(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        saved_by_three(tmp_path, Together(patch))

    def own(values, process, count):
        return list(itertools.chain(*values))[process::count]

    def restore(number):
        del number
        return Saver(tmp_path).restore({"data": js.PerProcess(0, own)})["data"].value

    assert restore(0) == [0, 1, 2]
    with monkeypatch.context() as patch:
        assert Together(patch, 2).run(restore) == [[0, 2], [1]]
    with monkeypatch.context() as patch:  # not called for the same number
        assert Together(patch, 3).run(restore) == [[0], [1], [2]]


def test_an_error_of_the_callers_function_is_raised_as_it_is(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        saved_by_three(tmp_path, Together(patch))
    target = {"data": js.PerProcess(0, lambda values, process, count: values[7])}
    with pytest.raises(IndexError) as caught:
        Saver(tmp_path).restore(target)
    assert caught.value.__notes__ == ["This is `on_other_count` of 'data', given 3 values."]


def test_an_error_of_an_object_that_is_given_its_state_is_an_error_of_all(tmp_path, together):
    def save(number):
        with Saver(tmp_path) as saver:
            saver.save({"data": js.PerProcess(Counter(number))}, 1)

    def restore(number):
        return Saver(tmp_path).restore({"data": js.PerProcess(Counter(fails=number == 1))})

    together.run(save)
    outcomes = together.run(restore)
    assert [str(outcome).partition(",")[0] for outcome in outcomes] == [
        "Process 1 failed",
        "no",
        "Process 1 failed",
    ]


# Who knows the format.


def test_a_text_with_any_member_replaced_gives_a_value_or_one_error(tmp_path):
    value = {"a": [1, (2.5, 3j)], "b": b"x", "w": np.arange(3, dtype=np.int16), "n": 1 << 99}
    members = {"x": json.loads(js.PerProcess(value).text())}
    read = 0
    with own.little_memory():
        for _, _, text in own.replacements(members):
            text = text.strip().removeprefix('{"x":').removesuffix("}")
            with contextlib.suppress(ValueError):
                _per_process.values_of(text)
                read += 1
    assert read > 20


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "[" * 10**5,
        '[{"array": ["float32", [68719476736], ""]}]',
        '[{"array": ["O", [1], "AAAAAAAAAAA="]}]',
        '[{"array": ["U1", [1], "AAAAAA=="]}]',
        '[{"array": ["(9,)f4", [0], ""]}]',
        '[{"array": ["int16", [-1, -1], "AAA="]}]',
        '[{"keys": ["other", [2], "AAAAAAAAAAA="]}]',
        '[{"tuple": []}, {"other": 1}]',
        '[{"bytes": 3}]',
        '[{"dict": [[null, 1]]}]',
        "[NaN]",
        "[0.5]",
    ],
)
def test_a_hostile_text_is_one_error(tmp_path, text):
    with own.little_memory(), pytest.raises(ValueError, match="values per process"):
        _per_process.values_of(text)
    file = Saver(tmp_path).save({"data": js.PerProcess(3)}, 1) / "jscope.json"
    members = own.members_of(file)
    members["values"]["data"]["value"] = text
    file.write_text(own.sealed(json.dumps(members)).decode())
    for read in (lambda: Saver(tmp_path).restore(), lambda: Saver(tmp_path).verify(1)):
        with pytest.raises(js.CheckpointError, match="is not a python PerProcess: it is not"):
            read()
