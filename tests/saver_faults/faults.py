"""Trying every fault at every operation, and counting what came of it.

Imports: `checks`, `client`, `injector`, `scenarios`, `tally`.
"""

import errno
import shutil
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import checks, injector
from .client import Process, Server
from .scenarios import SCENARIOS, Scenario
from .tally import Tally

MODES = {
    "kill": (injector.KILL, 0),
    "torn write": (injector.TEAR, 0),
    "short write": (injector.SHORT, 0),
    "ENOSPC once": (injector.FAIL, errno.ENOSPC),
    "ENOSPC for good": (injector.FAIL_ALL, errno.ENOSPC),
    "EIO once": (injector.FAIL, errno.EIO),
    "EIO for good": (injector.FAIL_ALL, errno.EIO),
}
READ_MODES = {
    "short read": (injector.SHORT_READ, 0),
    "EIO on read": (injector.FAIL_READ, errno.EIO),
}
# The depth of `run/12`, below the directory of a case.
COMMITS = 2


class Faults:
    """Scenarios tried in a scratch directory, through a server.

    Args:
        server: Who forks.
        scratch: A directory without symbolic links in its path.
    """

    def __init__(self, server: Server, scratch: Path):
        self._server = server
        self._scratch = scratch.resolve()
        self._templates: dict[str, Path] = {}

    def case(self, scenario: str, name: str = "case") -> Path:
        """A fresh directory with what the scenario has before its action."""
        if scenario not in self._templates:
            template = self._scratch / "templates" / scenario.replace(" ", "-")
            template.mkdir(parents=True)
            SCENARIOS[scenario].prepare(str(template))
            self._templates[scenario] = template
        case = self._scratch / name
        shutil.rmtree(case, ignore_errors=True)
        shutil.copytree(self._templates[scenario], case)
        return case

    def commits(self, scenario: str, mode: str) -> Tally:
        """Try a kind of fault at every operation on the names of checkpoints, not inside them.

        These make a checkpoint appear, replace another one or go; they are few, and few of the
        others are interesting.
        """
        tally, at = Tally(scenario, mode), 1
        while self._try(tally, at, COMMITS):
            at += 1
        return tally

    def everywhere(self, scenario: str, mode: str) -> Tally:
        """Try a kind of fault at every operation."""
        # How many there are differs by some from run to run: until one is not reached.
        tally, at = Tally(scenario, mode), 1
        while self._try(tally, at):
            at += 1
        return tally

    def some(self, scenario: str, mode: str, most: int) -> Tally:
        """Try a kind of fault at some operations, spread evenly."""
        tally = Tally(scenario, mode)
        operations = self.trace(scenario)
        if mode in ("torn write", "short write"):
            operations = [o for o in operations if o.kind == "write"]
        most = min(most, len(operations))
        for i in range(most):
            self._try(tally, 1 + int((i + 0.5) * len(operations) / most))
        return tally

    def reading(self, scenario: str, mode: str, stride: int = 1) -> Tally:
        """Fault every read of a restore after the scenario, or every so many.

        The outcomes are ``exact``, ``reported`` by an error, or ``earlier``: the checkpoint before,
        with a warning.
        """
        tally = Tally(f"restore after {scenario}", mode)
        case = self.case(scenario)
        with SCENARIOS[scenario].saver(str(case)) as saver:
            SCENARIOS[scenario].act(saver)
        newest = SCENARIOS[scenario].after[max(SCENARIOS[scenario].after)]
        number, failure = READ_MODES[mode]
        at = 1
        while True:
            process = self._server.start(
                "faulty_process:restore_latest",
                scenario=scenario,
                directory=str(case),
                mode=number,
                at=at,
                failure=failure,
            )
            result = process.receive()
            process.wait()
            if result and not result["failed"]:
                return tally
            tally.points += 1
            if result and result.get("version"):
                tally.outcomes["exact" if result["version"] == newest else "earlier"] += 1
            elif result and "raised" in result:
                tally.outcomes["reported"] += 1
            else:
                kind = "wrong" if result and "version" in result else "other"
                tally.problems.append((kind, at, f"{result} {process.status}"))
            at += stride

    def trace(self, scenario: str) -> list[injector.Operation]:
        """The operations of a run in which nothing fails."""
        case, log = self.case(scenario), self._scratch / "log"
        process = self._start(scenario, case, log=str(log))
        result = process.receive()
        process.send("end")
        process.wait()
        assert result.get("returned"), result
        return list(injector.read_log(log))

    def _start(self, scenario: str, case: Path, **fault: Any) -> Process:
        return self._server.start(
            "faulty_process:run_scenario", scenario=scenario, directory=str(case), **fault
        )

    def _try(self, tally: Tally, at: int, depth: int = 0) -> bool:
        """Whether the operation was reached."""
        case = self.case(tally.scenario)
        mode, failure = MODES[tally.mode]
        process = self._start(tally.scenario, case, mode=mode, at=at, failure=failure, depth=depth)
        result = process.receive()
        if result and result.get("returned") and not result["failed"]:
            process.send("end")
            process.wait()
            return False
        tally.points += 1
        try:
            found = list(self._judge(tally, case, process, result))
        except Exception:
            process.kill()
            found = [("other", traceback.format_exc())]
        process.wait()
        tally.problems += [(kind, at, text) for kind, text in found]
        return True

    def _judge(
        self, tally: Tally, case: Path, process: Process, result: dict[str, Any] | None
    ) -> Iterator[tuple[str, str]]:
        scenario = SCENARIOS[tally.scenario]
        # 1. At once, while a process that survived is still there.
        if result is None:
            assert process.status == -signal.SIGKILL, process.status
            yield from checks.problems(case, scenario, "either")
        elif "returned" in result:
            # What a warning reported, such as an eviction that failed, is not silent.
            for _, text in checks.problems(case, scenario, "saved" if result["warned"] else "new"):
                yield "silent", text
        else:
            if "escaped" in result:
                yield "other", result["escaped"]
            yield from checks.problems(case, scenario, "either")
        is_new = not checks.problems(case, scenario, "new")
        tally.outcomes["new" if is_new else "old"] += 1
        # 2. Once more, by the survivor if there is one.
        if result is None:
            wrong = repeated(scenario, case)
        else:
            process.send("again")
            answer = process.receive()
            wrong = answer["again"] if answer else f"died with status {process.status}"
        if wrong:
            yield "stuck", wrong
        for _, text in checks.problems(case, scenario, "new"):
            yield "stuck", text
        # 3. And the next construction, when the survivor is gone, leaves no debris.
        process.wait()
        scenario.saver(str(case)).close()
        yield from checks.debris(case)
        # 4. And what is remembered of the past is right.
        yield from checks.memory(case, scenario)


def repeated(scenario: Scenario, case: Path) -> str | None:
    """What is wrong with a second try, by a new Saver."""
    try:
        with scenario.saver(str(case)) as saver:
            scenario.act(saver, again=True)
    except Exception:
        return traceback.format_exc()
    return None
