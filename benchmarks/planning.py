"""A GPT of a trillion parameters, declared and planned for 16 x 256 devices: time and memory.

Each sample is a process of its own that imports, declares, plans with Adam's state, and prints
the plan, as a loop over blocks with variables of their own, and as a stack. What counts is the
whole process: its time, and the most memory it had.

Imports: `_children`, `_report`, `_settings`; in the child also `gpt`, the example `plan_gpt`,
jscope, JAX and Optax.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from _children import child
from _report import Part, Row, Target
from _settings import Settings

LAYOUTS = ("loop", "stack")
EXAMPLES = Path(__file__).parent.parent / "examples"


def measure(settings: Settings) -> Part:
    """Both layouts, in processes that take turns."""
    blocks = settings.planned_blocks
    found: dict[str, list[Any]] = {layout: [] for layout in LAYOUTS}
    for _ in range(settings.planning_rounds):
        for layout in LAYOUTS:
            begin = time.perf_counter()
            result = child(__file__, layout, blocks)
            found[layout].append({**result, "seconds": time.perf_counter() - begin})
    size = f"{found['loop'][0]['parameters']:.3g} parameters"
    rows = [
        Row("plan", size, layout, [r["seconds"] for r in results])
        for layout, results in found.items()
    ]
    notes = [
        f"{layout}: {first['variables']:,} variables, {first['parameters']:,} parameters; "
        f"{first['bytes'] / 1e6:.0f} MB at most, {first['bytes_before'] / 1e6:.0f} MB after the "
        f"imports; declared, planned and printed in {first['planning']:.2f} s."
        for layout, (first, *_) in found.items()
    ]
    targets = [
        Target("plan", size, f"{layout}, {what}", "<=", limit, max(r[key] for r in results))
        for layout, results in found.items()
        for what, key, limit in (("seconds", "seconds", 10), ("bytes", "bytes", 1e9))
    ]
    return Part("Planning a GPT for 4,096 devices", rows, targets, notes)


def plan(layout: str, blocks: int) -> dict[str, Any]:
    """What the child does."""
    import jax
    import jax.numpy as jnp
    import optax
    from gpt import scopes
    from gpt.mathematics import Config
    from jax.sharding import PartitionSpec as P

    import jscope as js

    sys.path.append(str(EXAMPLES))
    from plan_gpt import MESH, peak_bytes

    before = peak_bytes()
    begin = time.perf_counter()
    config = Config(blocks, width=25_600, heads=160, vocabulary=51_200, length=2048)
    model = {"loop": scopes.gpt, "stack": scopes.scanned}[layout]
    declared = js.declare(model)(jax.ShapeDtypeStruct((1, config.length), jnp.int32), config)
    rules = [
        (["**/q/w", "**/k/w", "**/v/w", "**/up/w", "head/w"], P("data", "model")),
        (["**/o/w", "**/down/w", "embed/w", "positions/w"], P("model", "data")),
    ]
    planned = declared.plan(MESH, rules, optimizer=optax.adamw(1e-4))
    str(planned)
    return {
        "variables": len(declared),
        "parameters": declared.abstract().size,
        "planning": time.perf_counter() - begin,
        "bytes_before": before,
        "bytes": peak_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(plan(sys.argv[1], int(sys.argv[2]))))
