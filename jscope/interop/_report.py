"""The report of a restore, variable by variable."""

from collections.abc import Mapping
from dataclasses import dataclass

from .._tree.text import table


@dataclass(frozen=True, repr=False)
class Report:
    """The report of a restore. Prints as a table.

    Attributes:
        path: The checkpoint.
        restored: From the target's names to what they were read from: a name, or the names of all
            slices of a stack.
        kept: The target's names that kept their values.
        initialised: The target's names that got a declaration's initial values.
        unused: The checkpoint's names that were not read.
        changed: Conversions of values, such as ``"float32 -> bfloat16"``.
    """

    path: str
    restored: Mapping[str, tuple[str, ...]]
    kept: tuple[str, ...]
    initialised: tuple[str, ...]
    unused: tuple[str, ...]
    changed: Mapping[str, str]

    def __repr__(self) -> str:
        total = len(self.restored) + len(self.kept) + len(self.initialised)
        rows = [
            *((name, "restored", self._how(name)) for name in self.restored),
            *((name, "kept", "") for name in self.kept),
            *((name, "initialised", "") for name in self.initialised),
            *((name, "unused", "in the checkpoint only") for name in self.unused),
        ]
        head = f"Restored {len(self.restored):,} of {total:,} variables from {self.path}"
        return f"{head}\n{table(('name', 'what', 'how'), rows)}"

    def _how(self, name: str) -> str:
        sources = self.restored[name]
        first = "" if sources == (name,) else f"from {sources[0]!r}"
        if len(sources) > 1:
            first += f" and {len(sources) - 1} more slices"
        return ", ".join(part for part in (first, self.changed.get(name, "")) if part)
