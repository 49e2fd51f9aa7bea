"""How long it takes to assert every operation of a scope in every transform, on one core.

It is a program of the tests, ``tests/print_matrix.py``, in a process of its own; the tests
run the same cells, shared out over their processes.

Imports: `_report`, `_settings`, standard library.
"""

import re
import subprocess
import sys
from pathlib import Path

from _report import Part, Row, Target
from _settings import Settings

PROGRAM = Path(__file__).parent.parent / "tests" / "print_matrix.py"
ALL = "all operations"


def measure(settings: Settings) -> Part:
    """Run it; a cell that fails is an error."""
    only = settings.matrix_operation
    words = ["--only", only] if only else []
    command = [sys.executable, str(PROGRAM), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = re.search(r"^(\d+) cells, 0 failed, (\d+) s$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    seconds = float(found[2])
    value = None if only else seconds
    target = Target("the matrix", ALL, "seconds", "<=", 600, value)
    row = Row("the matrix", only or ALL, f"{int(found[1]):,} cells", [seconds])
    return Part("Every operation in every transform", [row], [target])
