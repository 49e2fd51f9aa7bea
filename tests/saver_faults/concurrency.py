"""Processes and threads that save and restore beside each other.

Imports: `client`, `server`, `tally`, `trees`, jscope.
"""

import itertools
import threading
import time
import traceback
from pathlib import Path

from jscope.saver import Saver

from .client import Server
from .server import Line
from .tally import Tally
from .trees import packing_up_to, target, tree, version_of


def write(line: Line, directory: str, seconds: float, overwrites: bool) -> None:
    """Save over and over, the tree of each save's number; send how many there were.

    Each is a step of its own, of which one is kept, or all are the same step.
    """
    end = time.monotonic() + seconds
    with packing_up_to(1 << 16), Saver(directory, max_to_keep=1) as saver:
        for number in itertools.count(1):
            step = 1 if overwrites else number
            handle = saver.save_async(tree(number), step, overwrite=overwrites)
            if number % 2:
                handle.result()
            if number == 1:
                line.send("begun")
            if time.monotonic() > end:
                break
    line.send({"saves": number})


def evaluate(line: Line, directory: str, seconds: float) -> None:
    """Restore the latest step over and over; send how often, how many trees, and what was wrong."""
    end = time.monotonic() + seconds
    restored, problems = [], []
    saver = Saver(directory)
    while time.monotonic() < end and len(problems) < 5:
        try:
            # A new one now and then, as another job would have.
            saver = Saver(directory) if len(restored) % 3 == 0 else saver
            values = saver.restore(target())
            step = int(values["step"])
            restored.append(step)
            if version_of(values, [step]) is None:
                problems.append(f"step {step} has wrong values")
            if restored[-2:] != sorted(restored[-2:]):
                problems.append(f"went back: {restored[-2:]}")
        except Exception:
            problems.append(traceback.format_exc())
    line.send({"restored": len(restored), "seen": len(set(restored)), "problems": problems})


def threads(line: Line, directory: str, savers: int, steps: int) -> None:
    """Save and restore in one directory for each thread, all at once; send what was wrong."""
    problems: list[str] = []

    def work(number: int) -> None:
        try:
            with Saver(f"{directory}/{number}", max_to_keep=2) as saver:
                for step in range(steps):
                    version = 100 * number + step
                    saver.save_async(tree(version), step)
                    if version_of(saver.restore(target()), [version]) is None:
                        problems.append(f"{number}: step {step} has wrong values")
                if saver.all_steps() != (steps - 2, steps - 1):
                    problems.append(f"{number}: {saver.all_steps()}")
        except BaseException:
            problems.append(f"{number}: {traceback.format_exc()}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(savers)]
    with packing_up_to(1 << 16):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    line.send(problems)


def evaluate_beside_writer(
    server: Server, directory: Path, seconds: float, *, overwrites: bool
) -> Tally:
    """Two evaluators beside a writer that keeps one checkpoint; the points are their restores."""
    how = "that overwrites a step" if overwrites else "of max_to_keep=1"
    tally = Tally("an evaluator", f"beside a writer {how}")
    where = str(directory)
    writer = server.start(
        "concurrency:write", directory=where, seconds=seconds, overwrites=overwrites
    )
    assert writer.receive() == "begun"
    evaluators = [
        server.start("concurrency:evaluate", directory=where, seconds=seconds) for _ in range(2)
    ]
    for evaluator in evaluators:
        result = evaluator.last()
        if result is None:
            tally.problems.append(("other", 0, f"an evaluator ended with {evaluator.status}"))
            continue
        tally.points += result["restored"]
        tally.outcomes["seen"] += result["seen"]
        tally.problems += [("other", 0, text) for text in result["problems"]]
    written = writer.last()
    if written is None:
        tally.problems.append(("other", 0, f"the writer ended with status {writer.status}"))
    else:
        tally.outcomes["saved"] = written["saves"]
    return tally


def save_in_threads(server: Server, directory: Path, savers: int, steps: int) -> Tally:
    """Savers of as many directories, a thread each; the points are their saves."""
    tally = Tally(f"{savers} threads", "each in its directory", points=savers * steps)
    process = server.start(
        "concurrency:threads", directory=str(directory), savers=savers, steps=steps
    )
    problems = process.last()
    if problems is None:
        problems = [f"the process ended with status {process.status}"]
    tally.problems += [("other", 0, text) for text in problems]
    return tally
