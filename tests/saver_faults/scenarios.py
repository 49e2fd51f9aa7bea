"""What a Saver is doing when something goes wrong.

Imports: `trees`, jscope.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jscope.saver import Saver

from .trees import packing_up_to, tree

NOW = {"seconds": 0.0}
"""The time that the Savers' clocks show."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A save, and the checkpoints before and after it.

    The tree that a step holds is identified by its version; see `tree`.

    Attributes:
        before: The steps saved before, each with its version.
        step: The step that is saved.
        version: With which tree.
        after: The steps that are there after it, each with its version.
        then: And after one more save, of a step and a version that are one higher.
        options: Of the Saver.
        save_options: Of each save.
        losses: The metric of the saves, by version, if there is one.
        hours: When the versions are saved, after the beginning.
        is_async: Whether it is an asynchronous save.
    """

    before: Mapping[int, int]
    step: int
    version: int
    after: Mapping[int, int]
    then: Mapping[int, int] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    save_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    losses: Mapping[int, float] = dataclasses.field(default_factory=dict)
    hours: Mapping[int, float] = dataclasses.field(default_factory=dict)
    is_async: bool = False

    def saver(self, directory: str) -> Saver:
        """A Saver of the directory ``run`` below the one given."""
        return Saver(f"{directory}/run", **self.options, clock=lambda: NOW["seconds"])

    def prepare(self, directory: str) -> None:
        """Save what is there before."""
        NOW["seconds"] = 0.0
        if self.before:
            with self.saver(directory) as saver:
                for step, version in self.before.items():
                    self._save(saver, step, version)
                assert saver.all_steps() == tuple(self.before)

    def act(self, saver: Saver, *, again: bool = False) -> None:
        """Save; a second time in place of what a first one may have saved."""
        self._save(saver, self.step, self.version, again or self.step in self.before)

    def follow(self, saver: Saver) -> None:
        """Save once more."""
        self._save(saver, self.step + 1, self.version + 1)

    def _save(self, saver: Saver, step: int, version: int, overwrite: bool = False) -> None:
        NOW["seconds"] = self.hours.get(version, version) * 3600.0
        options = dict(self.save_options, overwrite=overwrite)
        if version in self.losses:
            options["metrics"] = {"loss": self.losses[version]}
        with packing_up_to(1 << 16):
            if self.is_async:
                saver.save_async(tree(version), step, **options).result()
            else:
                saver.save(tree(version), step, **options)


SCENARIOS = {
    "first save": Scenario({}, 1, 1, {1: 1}),
    "next save": Scenario({1: 1}, 2, 2, {1: 1, 2: 2}),
    "async save": Scenario({1: 1}, 2, 2, {1: 1, 2: 2}, is_async=True),
    "overwrite": Scenario({1: 1, 2: 2}, 2, 3, {1: 1, 2: 3}),
    "overwrite the only": Scenario({1: 1}, 1, 2, {1: 2}, options={"max_to_keep": 1}),
    "retention": Scenario(
        {1: 1, 2: 2}, 3, 3, {2: 2, 3: 3}, {3: 3, 4: 4}, options={"max_to_keep": 2}
    ),
    "retention of one": Scenario({1: 1}, 2, 2, {2: 2}, {3: 3}, options={"max_to_keep": 1}),
    # Of 1 and 2, the best and the newest, the save of a middling one removes 2.
    "best": Scenario(
        {1: 1, 2: 2},
        3,
        3,
        {1: 1, 3: 3},
        {1: 1, 4: 4},
        options={"max_to_keep": 1, "best": "min:loss"},
        losses={1: 0.1, 2: 0.3, 3: 0.2, 4: 0.4},
    ),
    # 1 would go, and is the first that was saved more than three hours after the beginning.
    "kept for good": Scenario(
        {1: 1},
        2,
        2,
        {1: 1, 2: 2},
        {1: 1, 3: 3},
        options={"max_to_keep": 1, "keep_checkpoint_every_n_hours": 3},
        hours={1: 4, 2: 5, 3: 5.5},
    ),
    "portable": Scenario({1: 1}, 2, 2, {1: 1, 2: 2}, save_options={"portable": True}),
    "compressed": Scenario({1: 1}, 2, 2, {1: 1, 2: 2}, options={"compression": "zstd"}),
    "one file": Scenario({1: 1}, 2, 2, {1: 1, 2: 2}, options={"sharded": False}),
}
