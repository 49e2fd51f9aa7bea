"""A GPT with a trillion parameters, planned for 4,096 devices on a laptop, in seconds.

The story, in the order in which `main` tells it:

1. **Declaration.** 128 blocks, each with variables of its own, 2,052 in all. Nothing is computed
   or allocated, and no accelerator is needed.
2. **A first plan.** Rules that cut each kernel over the devices that share a model: what each
   device would hold is far more than it has. The plan's table says how much.
3. **A second plan.** The same kernels cut over all devices, and the largest variable that the
   first table shows as whole cut too. Parameters, gradients and Adam's moments then fit.
4. **A rule that can't be**: the error shows the arithmetic.
"""

import argparse
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

import jscope as js
from jscope import layers

MESH = {"data": 16, "model": 256}
MEMORY = 16 << 30  # of each device, in bytes

UP = ["**/query/kernel", "**/key/kernel", "**/value/kernel", "**/up/kernel"]
DOWN = ["**/output/kernel", "**/down/kernel", "tokens/embeddings"]
FIRST = [(UP, P(None, "model")), (DOWN, P("model"))]
SECOND = [(UP, P("data", "model")), (DOWN, P("model", "data")), ("positions", P("model", "data"))]


@dataclass(frozen=True)
class GPT:
    """A decoder; the settings are those of a trillion parameters."""

    width: int = 25_600
    depth: int = 128
    heads: int = 160
    context: int = 2_048
    vocabulary: int = 51_200

    def block(self, scope: js.Scope, x: Array) -> Array:
        y = layers.layer_norm(scope / "norm_1", x)
        size = self.width // self.heads
        x = x + layers.multi_head_attention(
            scope / "attention", y, num_heads=self.heads, head_size=size, is_causal=True
        )
        y = layers.layer_norm(scope / "norm_2", x)
        y = layers.dense(scope / "up", y, units=4 * self.width, activation=jax.nn.gelu)
        return x + layers.dense(scope / "down", y, units=self.width)

    def __call__(
        self, scope: js.Scope, tokens: Int[Array, "batch time"]
    ) -> Float[Array, "batch time vocabulary"]:
        x = layers.embedding(
            scope / "tokens", tokens, input_dim=self.vocabulary, output_dim=self.width
        )
        x = x + scope.get_variable("positions", (self.context, self.width))
        for i in range(self.depth):
            x = self.block(scope / f"block_{i}", x)
        return layers.layer_norm(scope / "norm", x) @ scope["tokens/embeddings"].T


def main() -> None:
    parse_arguments()
    begin = time.process_time()
    model = GPT()
    declared = js.declare(model)(jax.ShapeDtypeStruct((1, model.context), jnp.int32))
    print(str(declared).partition("\n")[0])

    for title, rules in (("Over 256 devices each", FIRST), ("Over all devices", SECOND)):
        plan = declared.plan(MESH, rules, optimizer=optax.adamw(1e-4))
        verdict = "fits" if plan.total_bytes <= MEMORY else "does not fit"
        largest = plan.replicated[0]
        print(f"\n{title}:\n{plan}\n")
        print(f"The largest variable that each device holds whole: {largest.name!r}.")
        print(f"{plan.total_bytes / 2**30:.1f} GiB {verdict} into {MEMORY >> 30} GiB.")
    assert plan.total_bytes <= MEMORY

    print("\nOver other devices:")
    try:
        declared.plan({"data": 24, "model": 256}, [("block_0/up/kernel", P("data", "model"))])
    except js.ShardingError as error:
        print(error)

    seconds = time.process_time() - begin
    memory = peak_bytes() / 2**20
    print(f"\nAll this took {seconds:.1f} s of a processor and at most {memory:.0f} MiB.")


def peak_bytes() -> int:
    """The most memory that this process has had, Python and JAX included."""
    try:  # Linux's getrusage counts the process that started this one
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def parse_arguments() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()


if __name__ == "__main__":
    main()
