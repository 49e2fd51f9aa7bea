"""Saves to S3 of which one request goes wrong.

Imports: `tally`, object_stores, jscope and NumPy.
"""

import contextlib
import traceback
import warnings
from collections.abc import Iterable

import numpy as np
from object_stores import proxy as proxies

import jscope as js
from jscope._stores.paths import located
from jscope._stores.store import store_of
from jscope.formats import _own_packed
from jscope.formats._own_names import by_step
from jscope.saver import Saver, _claims

from .tally import Tally

LARGE = 100  # elements of an array that has an object of its own
MOST = 100  # more than a save's requests
LONG = 1e6  # a lease that doesn't end by itself
MODES = proxies.MODES
# Each changes what is there; of the others none matters to a process that dies.
CHANGING = ("PUT", "DELETE")


def tree(version):
    """A tree that a version identifies."""
    return {
        "small": np.full(3, version, np.float32),
        "large": np.full(LARGE, version, np.float32),
        "version": version,
    }


def next_save(saver, **options):
    """Save step 2, which evicts step 1."""
    saver.save(tree(2), 2, **options)


def overwrite(saver, **options):
    """Save step 1 anew."""
    saver.save(tree(3), 1, **{"overwrite": True, **options})


# The steps with their versions before and after, and the action.
SCENARIOS = {
    "a next save that evicts": ({1: 1}, {2: 2}, next_save),
    "an overwriting save": ({1: 1}, {1: 3}, overwrite),
}


def tried(s3, proxy, scenario: str, mode: str, points: Iterable[int] | None = None) -> Tally:
    """Let each of some requests of a save go wrong; all, if there are none given."""
    tally = Tally(scenario, mode)
    for at in range(1, MOST) if points is None else points:
        try:
            with packing_less():
                if not _try(s3, proxy, tally, at):
                    return tally
        except Exception:
            proxy.disarm()
            tally.problems.append(("other", at, traceback.format_exc()))
        tally.points += 1
    return tally


@contextlib.contextmanager
def packing_less():
    """Pack arrays that are smaller than the large one only."""
    limit, _own_packed.LIMIT = _own_packed.LIMIT, 4 * LARGE - 1
    try:
        yield
    finally:
        _own_packed.LIMIT = limit


def _try(s3, proxy, tally: Tally, at: int) -> bool:
    """Whether the request was reached."""
    before, after, act = SCENARIOS[tally.scenario]
    is_fatal = tally.mode.startswith("killed")
    url = s3.url(f"{tally.scenario}-{tally.mode}-{at}".replace(" ", "-"))
    saver = Saver(url, max_to_keep=1, lease=LONG)
    for step, version in before.items():
        saver.save(tree(version), step)
    proxy.arm(tally.mode, at, CHANGING if is_fatal else proxies.ANY)
    if is_fatal:
        with contextlib.suppress(js.JscopeError), warnings.catch_warnings():
            warnings.simplefilter("ignore", js.CheckpointWarning)
            act(saver)
    else:
        act(saver)
    if not proxy.disarm():
        return False
    allowed = [before, after, before | after] if is_fatal else [after]
    found = _look(saver, tally, at, allowed)
    tally.outcomes["new" if after.items() <= found.items() else "old"] += 1
    act(saver, overwrite=True)
    _look(saver, tally, at, [after])
    tally.problems += [("debris", at, text) for text in debris(saver)]
    return True


def _look(saver, tally: Tally, at: int, allowed: list[dict[int, int]]) -> dict[int, int]:
    """The version of each step; what is wrong with them goes to the tally."""
    found = {}
    for step in saver.all_steps():
        try:
            restored = saver.restore(tree(0), step)
        except js.JscopeError as error:
            tally.problems.append(("lost", at, f"step {step} is listed: {error}"))
            continue
        found[step] = version = restored["version"]
        if not all((restored[name] == version).all() for name in ("small", "large")):
            tally.problems.append(("wrong", at, f"step {step} has values of several versions"))
    if found not in allowed:
        tally.problems.append(("lost", at, f"there are {found}, not one of {allowed}"))
    if saver.latest_step() != max(found, default=None):
        tally.problems.append(("lost", at, f"the latest is {saver.latest_step()} of {found}"))
    return found


def debris(saver) -> list[str]:
    """What is stored beside the checkpoints, their state and void indices."""
    store = store_of(located(str(saver.directory)))
    left = []
    for step, names in by_step(store.names()).items():
        valid = _claims._valid_of(store, step, names)
        left += [f"{step}/claim.{number}" for number in names.claims]
        left += [f"{step}/{save}" for save in names.data.keys() - {i.save_id for i in valid}]
        left += [f"{step}/{index.file}" for index in valid[:-1]]
    return left
