"""What a process does whose operations go wrong: one scenario, and if it survives, again.

Imports: `injector`, `scenarios`, `server`, `trees`, jscope.
"""

import os
import traceback
import warnings
from pathlib import Path

import jscope as js
from jscope.saver import Saver

from . import injector
from .scenarios import SCENARIOS
from .server import Line
from .trees import target, version_of


def run_scenario(
    line: Line,
    scenario: str,
    directory: str,
    mode: int = injector.WATCH,
    at: int = 0,
    failure: int = 0,
    depth: int = 0,
    log: str | None = None,
) -> None:
    """Act as a scenario does, with one operation going wrong, and send the result.

    Then wait; on ``"again"`` act once more, unharmed, with the same Saver, and send what is
    wrong with that.
    """
    descriptor = -1 if log is None else os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    injector.arm(Path(directory), mode, at, failure, depth, descriptor)
    saver = None
    result: dict[str, object] = {}
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", js.CheckpointWarning)
            saver = SCENARIOS[scenario].saver(directory)
            SCENARIOS[scenario].act(saver)
        result["returned"] = True
        result["warned"] = [str(warning.message) for warning in warned]
    except js.JscopeError as error:
        result["raised"] = f"{type(error).__name__}: {error}"
    except BaseException:
        result["escaped"] = traceback.format_exc()
    finally:
        result["count"], result["failed"] = injector.disarm()
    line.send(result)
    if line.receive() == "again":
        line.send({"again": _again(scenario, saver, directory)})


def restore_latest(
    line: Line, scenario: str, directory: str, mode: int, at: int, failure: int
) -> None:
    """Restore the latest checkpoint with one read going wrong, and send which version it is."""
    result: dict[str, object] = {}
    injector.arm(Path(directory), mode, at, failure)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", js.CheckpointWarning)
            values = SCENARIOS[scenario].saver(directory).restore(target())
        result["version"] = version_of(values, SCENARIOS[scenario].after.values())
    except js.JscopeError as error:
        result["raised"] = f"{type(error).__name__}: {error}"
    except BaseException:
        result["escaped"] = traceback.format_exc()
    finally:
        _, result["failed"] = injector.disarm()
    line.send(result)


def _again(scenario: str, saver: Saver | None, directory: str) -> str | None:
    try:
        SCENARIOS[scenario].act(saver or SCENARIOS[scenario].saver(directory), again=True)
    except BaseException:
        return traceback.format_exc()
    return None
