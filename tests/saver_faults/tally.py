"""Counting what came of many trials.

Imports: standard library only.
"""

import collections
import dataclasses

KINDS = ("lost", "wrong", "silent", "stuck", "debris", "other")
"""What may go wrong: a checkpoint that was there is gone or can't be restored; other values are
restored; an action returns without having had its effect; a second try fails; something is
left over after it; another exception than jscope's, or a process that hangs."""


@dataclasses.dataclass
class Tally:
    """What came of one scenario with one kind of fault.

    Attributes:
        points: How many operations were made to fail.
        outcomes: How often which state was found: ``old`` or ``new``.
        problems: By kind, at which operation, and what.
    """

    scenario: str
    mode: str
    points: int = 0
    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    problems: list[tuple[str, int, str]] = dataclasses.field(default_factory=list)

    def count(self, kind: str) -> int:
        """At how many operations something of this kind went wrong."""
        return len({at for found, at, _ in self.problems if found == kind})
