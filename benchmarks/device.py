"""One table of what may differ on an accelerator: ``python benchmarks/device.py``.

Measured are the dispatch of a jitted identity over many variables, a training step of the toy
GPT with dropout and without, the first initial values of a process, and saving and restoring
device arrays, for jscope, plain JAX and linen. Plain JAX saves by one raw write of all bytes, and
linen by Orbax, as its documentation does.

On one GPU it is made to take less than six minutes. ``--smoke`` runs it with the smallest sizes.

Imports: `_children`, `_report`, `_timing`, `gpt`, `savers`, jscope, JAX.
"""

import argparse
import dataclasses
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The processes that measure first initial values need memory of the same device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
from _children import child
from _report import Part, Row, environment, environment_text, part_text, rows_of
from _timing import Samples, in_turn, repeated
from gpt import linen, plain, scopes
from gpt.mathematics import Config

import jscope as js

OURS, PLAIN, LINEN = "jscope", "plain JAX", "linen"
FRAMEWORKS = {OURS: scopes, PLAIN: plain, LINEN: linen}
SAVERS = {OURS: "jscope", PLAIN: "raw write", LINEN: "Orbax v1"}  # of `savers`


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        leaves: Variables of the trees that are dispatched.
        gpt: The GPT that is trained; with dropout its rate is 0.1.
        batch: Its sequences.
        blocks: Of the GPT that is initialised.
        ways: How it is.
        initialised: In which frameworks.
        saved: Arrays that are saved, of a kilobyte times `saved_kilobytes` each.
        saved_kilobytes: See `saved`.
        rounds: Samples of dispatches and steps; of saves and restores a fifth as many.
        sample_seconds: How long a sample of a dispatch or a step takes at least.
    """

    leaves: tuple[int, ...] = (100, 800)
    gpt: Config = Config(blocks=12, width=512, heads=8, vocabulary=4096, length=256)  # noqa: RUF009
    batch: int = 8
    blocks: int = 12
    ways: tuple[str, ...] = ("eager", "jitted")
    initialised: tuple[str, ...] = (OURS, PLAIN, LINEN)
    saved: int = 64
    saved_kilobytes: int = 16 << 10
    rounds: int = 15
    sample_seconds: float = 0.05


SMOKE = Sizes(
    leaves=(3,),
    gpt=Config(blocks=1, width=2, heads=1, vocabulary=3, length=2),
    batch=1,
    blocks=1,
    ways=("jitted",),
    initialised=(OURS,),
    saved=2,
    saved_kilobytes=1,
    rounds=1,
    sample_seconds=0,
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="only whether it runs, for the tests")
    parser.add_argument("--first", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first:
        name, way, blocks = arguments.first
        print(json.dumps(first_init(name, way, int(blocks))))
        return 0
    sizes, begin = SMOKE if arguments.smoke else Sizes(), time.perf_counter()
    print(environment_text(environment()), flush=True)
    rows = [*dispatches(sizes), *training(sizes), *first_inits(sizes), *checkpoints(sizes)]
    seconds = time.perf_counter() - begin
    note = f"Measured in {seconds:.0f} s. Ratios are medians of the ratios within rounds."
    print("\n" + part_text(Part(f"On {jax.devices()[0].device_kind}", rows, [], [note])))
    return 0


def dispatches(sizes: Sizes) -> list[Row]:
    """A call of a jitted identity."""
    rows = []
    for leaves in sizes.leaves:
        tree = js.VarTree({f"layer_{i // 4}/{'abcd'[i % 4]}": jnp.ones(8) for i in range(leaves)})
        nested = tree.to_nested()
        trees = {OURS: tree, PLAIN: nested, LINEN: {"params": nested}}
        calls = {name: waiting(jax.jit(lambda tree: tree), tree) for name, tree in trees.items()}
        samples = in_turn(calls, sizes.rounds, sizes.sample_seconds / 5)
        rows += rows_of("dispatch", f"{leaves} variables", samples, PLAIN, LINEN)
    return rows


def training(sizes: Sizes) -> list[Row]:
    """A step of gradient descent, from the same parameters each time."""
    rows, key = [], jax.random.key(0)
    shape = (sizes.batch, sizes.gpt.length)
    tokens = jnp.arange(shape[0] * shape[1]).reshape(shape) % sizes.gpt.vocabulary
    variables = {name: initial(name, sizes.gpt, key, tokens) for name in FRAMEWORKS}
    for rate, benchmark in ((0.0, "training step"), (0.1, "training step, dropout")):
        config = dataclasses.replace(sizes.gpt, dropout=rate)
        calls = {}
        for name, tree in variables.items():
            step = functools.partial(descended, logits_of(name, config))
            calls[name] = waiting(jax.jit(step), tree, tokens, key)
        samples = in_turn(calls, sizes.rounds, sizes.sample_seconds)
        rows += rows_of(benchmark, f"{config.blocks} blocks", samples, PLAIN, LINEN)
    return rows


def initial(name: str, config: Config, key: jax.Array, tokens: jax.Array) -> Any:
    """All variables, in the framework's faster way."""
    init = functools.partial(FRAMEWORKS[name].init, config)
    return (init if name == OURS else jax.jit(init))(key, tokens)


def logits_of(name: str, config: Config) -> Callable[..., jax.Array]:
    """``(variables, tokens, key) -> logits``."""
    if name == OURS:
        return lambda tree, tokens, key: scopes.gpt(js.Scope(tree, rngs=key), tokens, config)
    if name == PLAIN:
        return lambda params, tokens, key: plain.gpt(params, tokens, config, key=key)
    model = linen.GPT(config)
    return lambda variables, tokens, key: model.apply(variables, tokens, rngs={"dropout": key})


def descended(
    logits: Callable[..., jax.Array], variables: Any, tokens: jax.Array, key: jax.Array
) -> Any:
    """The variables after a step on the cross-entropy of each token's successor."""

    def loss(variables: Any) -> jax.Array:
        log_p = jax.nn.log_softmax(logits(variables, tokens, key)[:, :-1])
        return -jnp.take_along_axis(log_p, tokens[:, 1:, None], axis=-1).mean()

    return jax.tree.map(lambda v, g: v - 1e-3 * g, variables, jax.grad(loss)(variables))


def waiting(call: Callable[..., Any], *arguments: Any) -> Callable[[int], object]:
    """A contender that waits for the results of the calls, which the device runs in order."""

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            out = call(*arguments)
        jax.block_until_ready(out)

    return run


def first_inits(sizes: Sizes) -> list[Row]:
    """Of processes of their own, without a compilation cache; eagerly and jitted."""
    rows = []
    for way in sizes.ways:
        samples: Samples = {
            name: [child(__file__, "--first", name, way, sizes.blocks)]
            for name in sizes.initialised
        }
        rows += rows_of(f"first init, {way}", f"{sizes.blocks} blocks", samples, PLAIN, LINEN)
    return rows


def first_init(name: str, way: str, blocks: int) -> float:
    """Seconds until all variables are ready, imports and the device's start not included."""
    framework, config, key = FRAMEWORKS[name], Config(blocks), jax.random.key(0)
    tokens = jax.block_until_ready(jnp.zeros((2, config.length), jnp.int32))

    def init(key: jax.Array, tokens: jax.Array) -> Any:
        return framework.init(config, key, tokens)

    call = jax.jit(init) if way == "jitted" else init
    begin = time.perf_counter()
    jax.block_until_ready(call(key, tokens))
    return time.perf_counter() - begin


def checkpoints(sizes: Sizes) -> list[Row]:
    """Saves of device arrays until they are on disk, and restores to the device."""
    import savers  # with Orbax, for which the processes of `first_inits` need not wait

    shape = (sizes.saved, sizes.saved_kilobytes * 1024 // 4)
    values = jax.random.normal(jax.random.key(0), shape)
    tree = {f"layer_{i}": jax.block_until_ready(values[i] + 0) for i in range(sizes.saved)}
    abstract = {name: jax.ShapeDtypeStruct(v.shape, v.dtype) for name, v in tree.items()}
    size = f"{sizes.saved * sizes.saved_kilobytes >> 10} MB"
    known = savers.contenders()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, name.replace(" ", "_")) for name in SAVERS}
        save = {
            name: repeated(functools.partial(saved, known[saver].save, paths[name], tree))
            for name, saver in SAVERS.items()
        }
        rounds = max(1, sizes.rounds // 5)
        rows = rows_of("save", size, in_turn(save, rounds), PLAIN, LINEN)
        restore = {
            name: waiting(known[saver].restore, paths[name], abstract)
            for name, saver in SAVERS.items()
        }
        return rows + rows_of("restore", size, in_turn(restore, rounds), PLAIN, LINEN)


def saved(save: Callable[..., object], path: Path, tree: Mapping[str, jax.Array]) -> None:
    """Save, in place of what was saved there."""
    from savers import flush

    if path.is_dir():
        shutil.rmtree(path)
    save(path, tree)
    flush(path)


if __name__ == "__main__":
    sys.exit(main())
