"""Every proof of the Saver's promises at full size, and the table of what came of them.

    python tests/prove_saver.py                                # all
    python tests/prove_saver.py --only faults --only damage    # some

Needs Linux and gcc. The exit status is 1 if anything was lost, wrong, silent or else amiss. The
tests do the same with fewer points.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

from object_stores import proxy
from object_stores.servers import S3, running
from saver_faults import concurrency, damage, distributed, names, stores, training
from saver_faults.client import Server, serving
from saver_faults.faults import MODES, READ_MODES, Faults
from saver_faults.power_cut import Recording
from saver_faults.scenarios import SCENARIOS
from saver_faults.tally import KINDS, Tally

from jscope._tree.text import table


def prove_faults(server: Server, scratch: Path) -> Iterator[Tally]:
    """Every kind of fault at every operation of every scenario."""
    faults = Faults(server, scratch)
    for scenario in SCENARIOS:
        for mode in MODES:
            yield faults.everywhere(scenario, mode)


def prove_reading(server: Server, scratch: Path) -> Iterator[Tally]:
    """Every read of a restore failing, or giving less than was requested."""
    faults = Faults(server, scratch)
    for scenario in SCENARIOS:
        for mode in READ_MODES:
            yield faults.reading(scenario, mode)


def prove_power(server: Server, scratch: Path) -> Iterator[Tally]:
    """A power cut before every operation, with what was not synced lost in several ways."""
    faults = Faults(server, scratch)
    for scenario in SCENARIOS:
        yield from Recording(faults, scratch, scenario).cut(mixtures=5)


def prove_damage(server: Server, scratch: Path) -> Iterator[Tally]:
    """Every bit flipped, every file cut, lost, zeroed, longer or swapped."""
    del server
    for layout, options in damage.LAYOUTS.items():
        directory = scratch / layout.replace(" ", "-")
        damage.save(directory, **options)
        yield from damage.every(directory, layout)
    yield damage.flips_of_values(scratch / "usual")


def prove_names(server: Server, scratch: Path) -> Iterator[Tally]:
    """Every name of up to three characters of a nasty alphabet."""
    del server
    for layout in names.LAYOUTS:
        yield names.prove(scratch / layout, layout, names.ALPHABET)


def prove_concurrency(server: Server, scratch: Path) -> Iterator[Tally]:
    """An evaluator beside a writer, eight threads, and 200 ends of a training of either kind."""
    for overwrites in (False, True):
        where = scratch / f"overwrites-{overwrites}"
        yield concurrency.evaluate_beside_writer(server, where, seconds=60, overwrites=overwrites)
    yield concurrency.save_in_threads(server, scratch / "threads", savers=8, steps=20)
    for number in (signal.SIGKILL, signal.SIGTERM):
        yield training.soak(server, scratch / number.name, 200, number)


def prove_distributed(server: Server, scratch: Path) -> Iterator[Tally]:
    """Two processes of one program, and a death of each at any operation of a save."""
    yield distributed.resume(server, scratch / "resume")
    yield distributed.preempted(server, scratch / "preempted")
    yield from distributed.deaths(server, scratch / "deaths")


def prove_stores(server: Server, scratch: Path) -> Iterator[Tally]:
    """Every request of a save to S3 lost, refused, doubled, late, or the last of its process."""
    del server
    log = scratch / "requests"
    log.touch()
    with running("s3_server.py", log) as port, proxy.running(port) as between:
        keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "of this proof")
        url = f"http://127.0.0.1:{between.port}"
        os.environ.update(keys, AWS_ENDPOINT_URL_S3=url)
        for scenario in stores.SCENARIOS:
            for mode in stores.MODES:
                yield stores.tried(S3(port, log), between, scenario, mode)


PROOFS: dict[str, Callable[[Server, Path], Iterator[Tally]]] = {
    "faults": prove_faults,
    "reading": prove_reading,
    "power": prove_power,
    "damage": prove_damage,
    "names": prove_names,
    "concurrency": prove_concurrency,
    "distributed": prove_distributed,
    "stores": prove_stores,
}


def main() -> int:
    """Run the proofs in turn, and print a line for each tally as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=PROOFS, help="may be repeated")
    arguments = parser.parse_args()
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="jscope-proofs-") as folder:
        scratch = Path(folder)
        with serving(scratch / "errors") as server:
            for name in arguments.only or PROOFS:
                (scratch / name).mkdir()
                begin = time.monotonic()
                for tally in PROOFS[name](server, scratch / name):
                    tallies.append(tally)
                    print(f"{time.monotonic() - begin:7.1f} s  {line(tally)}", flush=True)
    header = ("what", "how", "points", "found", *KINDS)
    print("\n" + table(header, list(map(row, tallies)), right=("points", *KINDS), most=1000))
    return int(any(tally.problems for tally in tallies))


def line(tally: Tally) -> str:
    """A tally in a line, and its problems below it."""
    text = "  ".join(cell for cell in row(tally)[:4])
    shown = [f"\n    {kind} at {at}: {what}" for kind, at, what in tally.problems[:5]]
    return text + "".join(shown)


def row(tally: Tally) -> tuple[str, ...]:
    """A tally as a row of the table."""
    found = ", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.outcomes.items()))
    counts = (str(tally.count(kind)) for kind in KINDS)
    return tally.scenario, tally.mode, str(tally.points), found, *counts


if __name__ == "__main__":
    sys.exit(main())
