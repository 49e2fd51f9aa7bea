"""Gradients of scanned, rematerialised models: tracing, lowering, compiling, a step, and HLO.

Three models: a T5, an S5 and blocks of dropouts, each with dropout and without, from the same
values in jscope, plain JAX and linen. What is traced is `jax.value_and_grad` of the loss, of a
new function each time, so that JAX does not answer from its cache; a step is a call of it.

Instructions are those that can be reached from the entry computation (`_lines`), of the HLO as
lowered and as optimized.

Imports: `_lines`, `_report`, `_settings`, `_timing`, `_values`, the models, JAX.
"""

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dropouts.linen
import dropouts.mathematics
import dropouts.plain
import dropouts.scopes
import jax
import s5.linen
import s5.mathematics
import s5.plain
import s5.scopes
import t5.linen
import t5.mathematics
import t5.plain
import t5.scopes
from _lines import reachable
from _report import Part, Row, Target, interval_target, rows_of
from _settings import Settings
from _timing import in_turn, repeated, stages_in_turn
from _values import of_linen

OURS, PLAIN, LINEN = "jscope", "plain JAX", "linen"
STAGES = ("trace", "lower", "compile", "step")
BEFORE, AFTER = "instructions, lowered", "instructions, optimized"


@dataclass(frozen=True)
class Model:
    """A model in all frameworks, and the limits of jscope's.

    Attributes:
        package: Its files ``mathematics``, ``scopes``, ``plain`` and ``linen``.
        small: Sizes with which it is only shown to run.
        against: With whom jscope's is compared.
        limit: How many times as much jscope's may take.
        limited: What of.
    """

    package: types.ModuleType
    small: Mapping[str, int]
    against: str
    limit: float
    limited: tuple[str, ...]

    def config(self, small: bool, dropout: bool) -> Any:
        """Its sizes."""
        default = self.package.mathematics.Config()
        sizes = self.small if small else {}
        return dataclasses.replace(default, **sizes, dropout=default.dropout * dropout)

    def frameworks(self) -> dict[str, types.ModuleType]:
        """What has ``objective``, by name."""
        package = self.package
        return {OURS: package.scopes, PLAIN: package.plain, LINEN: package.linen}


_S5 = {"layers": 2, "width": 4, "states": 3, "length": 5, "batch": 2}
_T5 = {"layers": 2, "width": 4, "heads": 2, "head_size": 2, "hidden": 4, "vocabulary": 8}
MODELS = {
    "T5": Model(t5, {**_T5, "length": 4}, LINEN, 1.0, (*STAGES, BEFORE, AFTER)),
    "S5": Model(s5, _S5, LINEN, 1.0, ("compile", "step", BEFORE, AFTER)),
    "dropouts": Model(
        dropouts,
        {"layers": 2, "width": 2, "batch": 1},
        PLAIN,
        1.1,
        ("compile", "step", BEFORE, AFTER),
    ),
}


def measure(settings: Settings) -> Part:
    """Every model, with dropout and without."""
    rows, targets, notes = [], [], []
    for name in settings.gradients:
        for dropout in (True, False):
            model, what = MODELS[name], f"{name}, {'dropout' if dropout else 'no dropout'}"
            config = model.config(settings.gradients_small, dropout)
            more, counts = _measure(what, model, config, settings)
            rows += more
            notes += [
                f"{what}, {which}: "
                + ", ".join(f"{framework} {n:,}" for framework, n in counts[which].items())
                for which in counts
            ]
            targets += _targets(what, model, _size(config), rows, counts)
    if settings.gradients_small:
        targets = [dataclasses.replace(t, value=None, interval=None) for t in targets]
    return Part("Gradients of scanned, rematerialised models", rows, targets, notes)


def arguments(model: Model, config: Any) -> dict[str, tuple[Any, ...]]:
    """What each framework's loss takes: parameters, state, a key, and a batch; equal values."""
    trees = model.package.scopes.variables(config, jax.random.key(0))
    key = jax.random.key(1) if config.dropout else None
    batch = model.package.mathematics.example(config)
    return {
        OURS: (*trees, key, batch),
        PLAIN: (*(tree.to_nested() for tree in trees), key, batch),
        LINEN: (*map(of_linen, trees), key, batch),
    }


def gradient(framework: str, model: Model, config: Any) -> Callable[..., Any]:
    """``(params, state, key, batch) -> ((loss, state), gradient)``, a new function each time."""
    loss = model.frameworks()[framework].objective(config)
    found: Callable[..., Any] = jax.value_and_grad(loss, has_aux=True)
    return found


def _measure(
    what: str, model: Model, config: Any, settings: Settings
) -> tuple[list[Row], dict[str, dict[str, int]]]:
    programs: dict[str, tuple[Any, Any]] = {}
    inputs = arguments(model, config)

    def stages(name: str) -> Iterator[str]:
        traced = jax.jit(gradient(name, model, config)).trace(*inputs[name])
        yield "trace"
        lowered = traced.lower()
        yield "lower"
        programs[name] = lowered, lowered.compile()
        yield "compile"

    timed = stages_in_turn(
        {name: lambda name=name: stages(name) for name in inputs}, settings.gradient_rounds
    )
    timed["step"] = in_turn(
        {
            name: repeated(lambda c=compiled, a=inputs[name]: jax.block_until_ready(c(*a)))
            for name, (_, compiled) in programs.items()
        },
        settings.step_rounds,
        settings.sample_seconds,
    )
    rows = [
        row
        for stage, samples in timed.items()
        for row in rows_of(f"{what}: {stage}", _size(config), samples, PLAIN, LINEN)
    ]
    lowered = {n: reachable(p.compiler_ir("hlo").as_hlo_text()) for n, (p, _) in programs.items()}
    optimized = {name: reachable(p.as_text()) for name, (_, p) in programs.items()}
    return rows, {BEFORE: lowered, AFTER: optimized}


def _targets(
    what: str,
    model: Model,
    size: str,
    rows: list[Row],
    counts: Mapping[str, Mapping[str, int]],
) -> list[Target]:
    against, limit, found = model.against, model.limit, []
    for limited in model.limited:
        if limited in counts:
            ratio = counts[limited][OURS] / counts[limited][against]
            claim = f"{OURS} / {against}"
            found.append(Target(f"{what}: {limited}", size, claim, "<=", limit, ratio))
        else:
            benchmark = f"{what}: {limited}"
            found.append(interval_target(rows, benchmark, size, OURS, against, "<=", limit))
    return found


def _size(config: Any) -> str:
    return f"{config.layers} layers"
