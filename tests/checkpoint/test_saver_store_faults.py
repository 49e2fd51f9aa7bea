"""A save to S3 of which one request goes wrong: the old or the new checkpoint is whole, always."""

import contextlib
import warnings

import numpy as np
import pytest
from object_stores import proxy as proxies

import jscope as js
from jscope._stores.paths import located
from jscope._stores.store import store_of
from jscope.formats import _own_packed
from jscope.formats._own_names import by_step
from jscope.saver import Saver, _protocol

LARGE = 100  # elements of an array that has an object of its own
# A lease that doesn't end by itself.
LONG = 1e6


def tree(version):
    return {
        "small": np.full(3, version, np.float32),
        "large": np.full(LARGE, version, np.float32),
        "version": version,
    }


@pytest.fixture(autouse=True)
def few_are_packed(monkeypatch):
    monkeypatch.setattr(_own_packed, "LIMIT", 4 * LARGE - 1)


def next_save(saver, **options):
    saver.save(tree(2), 2, **options)


def overwrite(saver, **options):
    saver.save(tree(3), 1, **{"overwrite": True, **options})


# The steps with their versions before and after, and the action.
SCENARIOS = {
    "a next save that evicts": ({1: 1}, {2: 2}, next_save),
    "an overwriting save": ({1: 1}, {1: 3}, overwrite),
}
# Each changes what is there; of the others none matters to a process that dies.
CHANGING = ("PUT", "DELETE")
# Of a save's requests some, which `prove_saver.py` tries all: its list, claim, data, index, state.
POINTS = (2, 5, 7, 10, 14)
NON_FATAL = [mode for mode in proxies.MODES if not mode.startswith("killed")]


def prepared(s3, name, at):
    saver = Saver(s3.url(f"{name}-{at}".replace(" ", "-")), max_to_keep=1, lease=LONG)
    for step, version in SCENARIOS[name][0].items():
        saver.save(tree(version), step)
    return saver


def check(saver, *allowed):
    """All listed steps restore, exactly, and are as one of those allowed."""
    found = {}
    for step in saver.all_steps():
        restored = saver.restore(tree(0), step)
        found[step] = restored["version"]
        assert (restored["small"] == found[step]).all()
        assert (restored["large"] == found[step]).all()
    assert found in allowed, found
    assert saver.latest_step() == max(found)
    return found


def check_is_clean(saver):
    """Nothing is stored but the checkpoints, and void indices."""
    store = store_of(located(str(saver.directory)))
    for step, names in by_step(store.names()).items():
        valid = _protocol._valid_of(store, step, names)
        assert not names.claims
        assert names.data.keys() == {index.save_id for index in valid}
        assert len(valid) <= 1


@pytest.mark.parametrize("mode", ["killed before", "killed after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_request_the_old_or_the_new_is_there(s3, proxy, name, mode):
    before, after, act = SCENARIOS[name]
    is_new = set()
    for at in range(1, 60):
        saver = prepared(s3, name, at)
        proxy.arm(mode, at, CHANGING)
        with contextlib.suppress(js.JscopeError), warnings.catch_warnings():
            warnings.simplefilter("ignore", js.CheckpointWarning)
            act(saver)
        if not proxy.disarm():
            break
        found = check(saver, before, after, before | after)
        is_new.add(after.items() <= found.items())
        act(saver, overwrite=True)
        check(saver, after)
        check_is_clean(saver)
    assert at > 6
    assert is_new == {False, True}


@pytest.mark.parametrize("mode", NON_FATAL)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_request_that_fails_once_is_repeated(s3, proxy, name, mode):
    _, after, act = SCENARIOS[name]
    for at in POINTS:
        saver = prepared(s3, name, at)
        proxy.arm(mode, at)
        act(saver)
        assert proxy.disarm()
        check(saver, after)
        act(saver, overwrite=True)
        check(saver, after)
        check_is_clean(saver)
