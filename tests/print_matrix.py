"""Run the whole matrix and print it as a table: operation x transform, what works and what fails.

python tests/print_matrix.py                  # every cell, then the table
python tests/print_matrix.py --only create    # one operation's cells (may be repeated), then it
python tests/print_matrix.py --table          # the table alone, as it is in docs/matrix.md
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)

import jax
from matrix.cells import MODES, check, is_refused, not_run, programs_kept_in
from matrix.operations import OPERATIONS
from matrix.transforms import TRANSFORMS

WORKS, REFUSED, FORWARD, NOT_RUN = "yes", "**error**", "yes, no grad", "-"


def outcome(operation: str, transform: str) -> str:
    """What the tests assert of an operation in a transform, over all modes."""
    row, column = OPERATIONS[operation], TRANSFORMS[transform]
    if not_run(operation, transform):
        return NOT_RUN
    if is_refused(row, column):
        return REFUSED
    return FORWARD if column.no_gradient else WORKS


def table() -> Iterator[str]:
    """The matrix in Markdown: a line for each transform, a column for each operation."""
    yield f"| | {' | '.join(OPERATIONS)} |"
    yield "|---" * (len(OPERATIONS) + 1) + "|"
    for transform in TRANSFORMS:
        cells = [outcome(operation, transform) for operation in OPERATIONS]
        yield f"| {transform} | {' | '.join(cells)} |"


def run(operations: Iterable[str]) -> int:
    """Check every cell of some operations; print those that fail, and why any was not run."""
    start, failed, count = time.perf_counter(), 0, 0
    for operation, transform in itertools.product(operations, TRANSFORMS):
        reason = not_run(operation, transform)
        if reason:
            print(f"not run: {operation} in {transform}: {reason}")
            continue
        for mode, leaks in itertools.product(MODES, (False, True)):
            count += 1
            try:
                check(operation, transform, mode, leaks=leaks)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # pytest's failures are no Exceptions
                failed += 1
                print(f"FAILED: {operation} in {transform}, {mode}, leaks={leaks}: {error}")
    print(f"{count} cells, {failed} failed, {time.perf_counter() - start:.0f} s")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the table alone")
    parser.add_argument("--only", action="append", choices=OPERATIONS, help="may be repeated")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    arguments = parser.parse_args()
    failed = 0
    if not arguments.table:
        with tempfile.TemporaryDirectory() as folder, programs_kept_in(folder):
            failed = run(arguments.only or OPERATIONS)
    print("\n".join(table()))
    sys.exit(bool(failed))
