"""Which checkpoints a directory keeps: a function of its state."""

import dataclasses
import math
import numbers
import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

from .._errors import CheckpointValueError
from ..formats._own_state import Record, State


@dataclasses.dataclass(frozen=True)
class Retention:
    """The rule of a Saver on which checkpoints are kept; the others are evicted.

    Attributes:
        max_to_keep: How many are kept, the last ones saved; all if None. With ``best`` it is the
            best ones, and the last one beside them.
        hours: Of those that would go, one every so many hours is kept for good.
        metric: By which metric the best are found, or None.
        sign: 1 if more of it is better, -1 if less is better.
    """

    max_to_keep: int | None = None
    hours: float | None = None
    metric: str | None = None
    sign: int = 1

    @property
    def arguments(self) -> dict[str, Any]:
        """Its values, by the names of a Saver's arguments."""
        best = None if self.metric is None else f"{'max' if self.sign > 0 else 'min'}:{self.metric}"
        return {
            "max_to_keep": self.max_to_keep,
            "keep_checkpoint_every_n_hours": self.hours,
            "best": best,
        }

    @classmethod
    def of(cls, max_to_keep: SupportsIndex | None, hours: object, best: object) -> "Retention":
        """The rule, from what a Saver was given.

        Raises:
            CheckpointValueError: If an argument is invalid.
        """
        try:
            if isinstance(max_to_keep, bool):
                raise TypeError
            count = None if max_to_keep is None else operator.index(max_to_keep)
        except TypeError:
            count = -1
        if count is not None and count < 0:
            raise CheckpointValueError(
                f"max_to_keep is how many checkpoints stay, got {max_to_keep!r}. Write None or 0 "
                "to keep all."
            )
        if isinstance(hours, numbers.Real) and not isinstance(hours, int):
            hours = float(hours)  # NumPy's too
        if hours is not None and not (isinstance(hours, int | float) and hours > 0):
            raise CheckpointValueError(
                f"keep_checkpoint_every_n_hours is a number above 0, or None, got {hours!r}."
            )
        mode, _, metric = best.partition(":") if isinstance(best, str) else ("", "", "")
        if best is not None and not (mode in ("min", "max") and metric):
            raise CheckpointValueError(
                f"best is a metric and whether less or more of it is better, as in "
                f"best='min:loss' or best='max:accuracy'; got {best!r}."
            )
        return cls(count or None, hours, metric or None, -1 if mode == "min" else 1)

    def check(self, metrics: Mapping[str, float] | None) -> dict[str, float]:
        """The metrics of a save, as numbers.

        Raises:
            CheckpointValueError: If they are not numbers by name, or lack the metric of ``best``.
        """
        try:
            numbers = {str(name): float(value) for name, value in (metrics or {}).items()}
        except (TypeError, ValueError, AttributeError):
            raise CheckpointValueError(
                f"metrics are numbers by name, as in metrics={{'loss': 0.5}}; got {metrics!r}."
            ) from None
        if self.metric is not None and self.metric not in numbers:
            has = f"has {', '.join(map(repr, numbers))}" if numbers else "has none"
            raise CheckpointValueError(
                f"This Saver keeps the best by {self.metric!r}, and the save {has}. Write "
                f"saver.save(tree, step, metrics={{{self.metric!r}: ...}})."
            )
        return numbers

    def apply(self, state: State, now: float) -> tuple[State, tuple[Record, ...]]:
        """The checkpoints that stay, and those to evict.

        The one that was saved last, the one of the highest step and the best are never evicted.

        Args:
            state: The checkpoints, the newest last.
            now: When the hours begin, if they have not yet.

        Returns:
            The state after it, and the checkpoints to be evicted, the oldest first.
        """
        kept_until = now if state.kept_until is None else state.kept_until
        evictable = [record for record in state.records if not record.kept]
        if self.max_to_keep is None or not evictable:
            return dataclasses.replace(state, kept_until=kept_until), ()
        staying = {record.step for record in self._ranked(evictable)[-self.max_to_keep :]}
        staying |= {state.records[-1].step, max(record.step for record in state.records)}
        records, going = [], []
        for record in state.records:
            if record.kept or record.step in staying:
                records.append(record)
            elif self.hours is not None and record.saved_at > kept_until + self.hours * 3600:
                records.append(dataclasses.replace(record, kept=True))
                kept_until += self.hours * 3600
            else:
                going.append(record)
        return State(tuple(records), kept_until), tuple(going)

    def best(self, state: State) -> int | None:
        """The step that is the best, or None if there is none with the metric."""
        ranked = self._ranked(state.records)
        return ranked[-1].step if ranked and self._worth(ranked[-1]) > -math.inf else None

    def _ranked(self, records: Iterable[Record]) -> list[Record]:
        # Sorting keeps the order of equals: of two equally good ones the newer is better.
        return sorted(records, key=self._worth) if self.metric is not None else list(records)

    def _worth(self, record: Record) -> float:
        value = record.metrics.get(self.metric or "", math.nan)
        return -math.inf if math.isnan(value) else self.sign * value
