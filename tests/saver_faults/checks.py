"""What must hold of a directory of checkpoints, whatever happened to it.

Imports: `scenarios`, `trees`, jscope.
"""

import os
import warnings
from pathlib import Path

import jscope as js
from jscope.saver import Saver

from .scenarios import Scenario
from .trees import target, version_of


def problems(directory: Path, scenario: Scenario, allowed: str) -> list[tuple[str, str]]:
    """What is wrong, each with its kind: ``lost`` or ``wrong``.

    Args:
        directory: The one that holds ``run``.
        scenario: What was tried.
        allowed: ``"new"`` if all must be as after the action; ``"saved"`` if the step must be
            there, and those that it evicts may be; ``"either"`` if it may be there or not.
    """
    before, after = scenario.before, scenario.after
    found = []
    with Saver(directory / "run") as saver:
        steps = saver.all_steps()
        for step in steps:
            versions = {v[step] for v in (before, after) if step in v}
            if step == scenario.step and allowed != "either":
                versions = {scenario.version}
            found += _wrong(saver, step, versions)
        try:
            latest = saver.latest_step()
        except js.JscopeError as error:
            return [*found, ("lost", f"there is no latest step: {error}")]
    kept = after.keys() & before.keys() if allowed == "either" else after.keys()
    for step in kept - set(steps):
        found.append(("lost", f"step {step} is gone; there are {steps}"))
    if allowed == "new" and set(steps) != after.keys():
        found.append(("wrong", f"there are {steps} instead of {tuple(after)}"))
    possible = {max(after)} | ({max(before, default=None)} if allowed == "either" else set())
    if latest not in possible:
        found.append(("lost", f"the latest is {latest}, not one of {possible}"))
    return found


def debris(directory: Path) -> list[tuple[str, str]]:
    """What is in a directory beside its checkpoints and the state file."""
    with Saver(directory / "run") as saver:
        steps = saver.all_steps()
    known = {"checkpoint", *map(str, steps)}
    return [("debris", name) for name in sorted(os.listdir(directory / "run")) if name not in known]


def memory(directory: Path, scenario: Scenario) -> list[tuple[str, str]]:
    """What is wrong after one more save, whose retention depends on what came before."""
    if scenario.then is None:
        return []
    with scenario.saver(str(directory)) as saver:
        scenario.follow(saver)
        steps = saver.all_steps()
    if steps != tuple(scenario.then):
        return [("lost", f"after one more save there are {steps}, not {tuple(scenario.then)}")]
    return []


def _wrong(saver: Saver, step: int, versions: set[int]) -> list[tuple[str, str]]:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = saver.restore(target(), step)
    except js.JscopeError as error:
        return [("lost", f"step {step} is listed and can't be restored: {error}")]
    if caught:
        return [("lost", f"step {step} was restored with a warning: {caught[0].message}")]
    version = version_of(restored, versions)
    return [] if version is not None else [("wrong", f"step {step} is not one of {versions}")]
