"""Power cuts: a save is recorded once and replayed on a disk that forgets.

Imports: `checks`, `disk`, `faults`, `scenarios`, `tally`.
"""

import copy
import random
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

from . import checks, disk
from .faults import Faults, repeated
from .scenarios import SCENARIOS
from .tally import Tally


class Recording:
    """A save, operation by operation.

    Attributes:
        scenario: Its name.
        operations: What was done.
        missed: Paths where the disk's model ends up with something else than the real one.
        unsynced: What a power cut could undo after the save has returned.
    """

    def __init__(self, faults: Faults, scratch: Path, scenario: str):
        self.scenario = scenario
        self._scratch = scratch.resolve()
        case = faults.case(scenario)
        self._root = case
        self._before = disk.read(case)
        model = disk.Disk(case)
        self.operations = faults.trace(scenario)
        for operation in self.operations:
            model.apply(operation)
        after = disk.read(case)
        now = model.now()
        self.missed = sorted(p for p in now | after if now.get(p, 0) != after.get(p, 0))
        self.unsynced = model.unsynced()

    def cut(self, mixtures: int, most: int | None = None) -> Iterator[Tally]:
        """Cut the power before each operation and at the end, and look at what is left.

        Args:
            mixtures: How many random states to look at for each cut, beside the other three.
            most: At most so many cuts, chosen at random, and the one at the end.

        Returns:
            One tally for each kind of state.
        """
        points = list(range(len(self.operations) + 1))
        if most is not None:
            points = sorted(random.Random(0).sample(points[:-1], most - 1)) + points[-1:]
        tallies = {kind: Tally(self.scenario, f"power cut, {kind}") for kind in disk.CUTS}
        model = self._start()
        for at, operation in enumerate([*self.operations, None]):
            if at in points:
                for kind, tally in tallies.items():
                    for seed in range(mixtures if kind == "mixture" else 1):
                        self._look(tally, at, model.after_cut(kind, 1000 * at + seed))
            if operation is not None:
                model.apply(operation)
        yield from tallies.values()

    def without(self, kind: str) -> "Recording":
        """The same, of a program that leaves out one kind of operation."""
        other = copy.copy(self)
        other.operations = [o for o in self.operations if o.kind != kind]
        model = self._start()
        for operation in other.operations:
            model.apply(operation)
        other.unsynced = model.unsynced()
        return other

    def _start(self) -> disk.Disk:
        # The recorded paths are below this root, whatever has become of it since.
        shutil.rmtree(self._root, ignore_errors=True)
        disk.write(self._before, self._root)
        return disk.Disk(self._root)

    def _look(self, tally: Tally, at: int, state: disk.State) -> None:
        case = self._scratch / "cut"
        shutil.rmtree(case, ignore_errors=True)
        disk.write(state, case)
        has_returned = at == len(self.operations)
        scenario = SCENARIOS[self.scenario]
        tally.points += 1
        try:
            found = checks.problems(case, scenario, "new" if has_returned else "either")
            is_new = not checks.problems(case, scenario, "new")
            tally.outcomes["new" if is_new else "old"] += 1
            wrong = repeated(scenario, case)
            found += [("stuck", wrong)] if wrong else []
            found += [("stuck", text) for _, text in checks.problems(case, scenario, "new")]
            scenario.saver(str(case)).close()
            found += checks.debris(case)
            found += checks.memory(case, scenario)
        except Exception:
            found = [("other", traceback.format_exc())]
        tally.problems += [(kind, at, text) for kind, text in found]
