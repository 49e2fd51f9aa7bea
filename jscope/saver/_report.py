"""The report of a restore, variable by variable."""

import dataclasses
from collections.abc import Mapping

from .._stores.remote import AnyPath
from .._tree.text import bytes_text, table


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """The report of a restore. Prints as a table.

    Attributes:
        path: The checkpoint that was read.
        restored: From the names of the target's leaves that were restored to the saved names; of a
            stack that was saved in slices, to a tuple of the slices' names.
        kept: The leaves that have the target's values: not selected, or missing.
        initialized: The leaves that have a declaration's initial values.
        ignored: The saved names that were not read.
        converted: Conversions of dtypes or shapes, ``"float32[2] -> bfloat16[2]"``, and the
            functions that values went through, ``"through transpose"``, for the leaves that have
            some.
        bytes_read: The bytes of arrays and of the index that were read.
        verified: Whether checksums were compared; False also where the checkpoint has none.
        seconds: How long it took.
    """

    path: AnyPath
    restored: Mapping[str, str | tuple[str, ...]]
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
        first, more = (saved, 0) if isinstance(saved, str) else (saved[0], len(saved) - 1)
        source = f"from {first!r}" if first != name else ""
        slices = f" and {more} more slice{'s' * (more > 1)}" if more else ""
        parts = [source + slices, self.converted.get(name, "")]
        return ", ".join(part for part in parts if part)
