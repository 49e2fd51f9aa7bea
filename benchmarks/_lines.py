"""How many instructions of an HLO module can be reached from its entry computation.

Imports: standard library only.
"""

import re
from collections.abc import Mapping

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: \(.*)? ?\{$")
_REFERENCE = re.compile(
    r"\b(?:to_apply|calls|body|condition|select|scatter|true_computation|false_computation)="
    r"%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")


def reachable(text: str) -> int:
    """The instructions of the entry computation and of all that it calls, each counted once."""
    entry, computations = _computations(text)
    seen: set[str] = set()
    todo = [entry]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [other for line in computations[name] for other in _called(line)]
    return sum(len(computations[name]) for name in seen)


def _computations(text: str) -> tuple[str, Mapping[str, list[str]]]:
    """The name of the entry computation, and the lines of each by name."""
    found: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[2]
            found[name] = []
            entry = name if match[1] else entry
        elif line.startswith("  ") and " = " in line:
            found[name].append(line)
    return entry, found


def _called(line: str) -> list[str]:
    branches = [name.strip(" %") for group in _BRANCHES.findall(line) for name in group.split(",")]
    return _REFERENCE.findall(line) + branches
