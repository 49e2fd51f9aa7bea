"""Every benchmark with one command: ``python benchmarks/run.py``.

Prints tables with medians, quartiles and ratios, and says of each target whether it is met;
a missed target is no failure. See the README beside this file.

Imports: the other files of this folder; the peers, through them.
"""

import argparse
import importlib
import importlib.util
import json
import sys
from pathlib import Path

# What is run by default, in this order; each is a module here with a function `measure`.
PARTS = (
    *("trees", "calls", "tracing", "blocks", "programs", "stacks", "gradients", "declaring"),
    "initializing",
    "planning",
    "matrix",
    "starting",
    "saving",
    "stores",
    "tf_checkpoint",
)
PEERS = ("haiku", "flax", "equinox")


def main() -> int:
    """Measure, print, write; 0 unless a part raises."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="a taste: small sizes, few rounds")
    sizes.add_argument("--smoke", action="store_true", help="only whether it runs, for the tests")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    arguments = parser.parse_args()

    chosen = arguments.only or PARTS
    needed = (*PEERS, *(["tensorflow"] if "tf_checkpoint" in chosen else []))
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        parser.error(
            f"{', '.join(absent)} can't be imported; the benchmarks need the dependency groups "
            "peers and test: uv pip install --group peers --group test"
        )

    import _report
    import _settings
    import jax

    # Else short programs are handed to another thread, see `trees`; before JAX's first use.
    jax.config.update("jax_cpu_enable_async_dispatch", False)

    mode = "quick" if arguments.quick else "smoke" if arguments.smoke else "full"
    settings = getattr(_settings, mode.upper())
    print(_report.environment_text(_report.environment()), flush=True)
    parts = {}
    for name in chosen:
        parts[name] = importlib.import_module(name).measure(settings)
        print("\n" + _report.part_text(parts[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(_report.as_json(parts, mode), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
