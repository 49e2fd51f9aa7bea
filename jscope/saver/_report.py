"""The report of a restore, variable by variable."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from .._tree.text import bytes_text, table


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """The report of a restore. Prints as a table.

    Attributes:
        path: The checkpoint that was read.
        restored: From the names of the target's leaves that were restored to the saved names.
        kept: The leaves that have the target's values: not selected, or missing.
        initialized: The leaves that have a declaration's initial values.
        ignored: The saved names that were not read.
        converted: Conversions of dtypes or shapes, ``"float32 -> bfloat16"``, for the leaves
            that have one.
        bytes_read: The bytes of arrays and of the index that were read.
        verified: Whether checksums were compared; False also where the checkpoint has none.
        seconds: How long it took.
    """

    path: Path
    restored: Mapping[str, str]
    kept: tuple[str, ...]
    initialized: tuple[str, ...]
    ignored: tuple[str, ...]
    converted: Mapping[str, str]
    bytes_read: int
    verified: bool
    seconds: float

    def __repr__(self) -> str:
        checked = "verified" if self.verified else "not verified"
        head = (
            f"Restored {len(self.restored):,} of {self._targets:,} from {self.path}: "
            f"{bytes_text(self.bytes_read)}, {checked}, in {self.seconds:.3g} s"
        )
        rows = [
            *((name, "restored", self._how(name)) for name in self.restored),
            *((name, "kept", "") for name in self.kept),
            *((name, "initialized", "") for name in self.initialized),
            *((name, "ignored", "in the checkpoint only") for name in self.ignored),
        ]
        return f"{head}\n{table(('name', 'what', 'how'), rows)}"

    @property
    def _targets(self) -> int:
        return len(self.restored) + len(self.kept) + len(self.initialized)

    def _how(self, name: str) -> str:
        saved = self.restored[name]
        parts = [f"from {saved!r}" if saved != name else "", self.converted.get(name, "")]
        return ", ".join(part for part in parts if part)
