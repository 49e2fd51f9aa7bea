"""Whether a call through a scope compiles to the program of plain JAX.

Compared is the optimized HLO of the toy GPT's call, as text, instruction by instruction.
An instruction is its line without its metadata (source lines) and its name, with what it
refers to, operands and called computations, spelled out in the same way; an argument of
the program is the variable it stands for. So two programs have the same instructions if
and only if they compute the same from the same variables by the same steps, whatever the
order of the arguments.

Imports: `_report`, `_settings`, `contenders`, JAX.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from _report import Part, Target
from _settings import Settings
from contenders import FRAMEWORKS, OURS, PLAIN, abstract, example
from gpt.mathematics import Config
from gpt.values import common_name

_METADATA = re.compile(r', metadata=\{(?:[^{}"]|"[^"]*")*\}|/\*index=\d+\*/')
_NAME = re.compile(r"%[\w.\-]+")
_INSTRUCTION = re.compile(r"  (ROOT )?(%[\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"(ENTRY )?(%[\w.\-]+) \(.*\{$")
_PARAMETER = re.compile(r" parameter\((\d+)\)")


def measure(settings: Settings) -> Part:
    """Both programs, compared."""
    config = Config(settings.program_blocks)
    ours, plain = (program(name, config) for name in (OURS, PLAIN))
    differing = (ours - plain).total() + (plain - ours).total()
    note = f"{OURS} compiles to {ours.total()} instructions, {PLAIN} to {plain.total()}: " + (
        f"{differing} are in one of the two only." if differing else "identical."
    )
    size = f"{config.blocks} blocks"
    target = Target("optimized HLO", size, "instructions that differ", "==", 0, differing)
    return Part("The compiled call of the toy GPT", [], [target], [note])


def program(name: str, config: Config) -> Counter[str]:
    """The instructions of the optimized call, canonical, with how often each occurs."""
    apply, variables = abstract(FRAMEWORKS[name], config)
    _, tokens = example(config)
    return compiled(apply, variables, tokens)


def compiled(apply: Callable[..., Any], variables: Any, tokens: Any) -> Counter[str]:
    """The instructions of the optimized program of a function of variables and tokens."""
    # The wrapper gives all modules one name; unused arguments would shift the others' numbers.
    lowered = jax.jit(lambda *args: apply(*args), keep_unused=True).lower(variables, tokens)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]
    names = [common_name(jax.tree_util.keystr(p, simple=True, separator="/")) for p in paths]
    return instructions(lowered.compile().as_text(), [*names, "tokens"])


def instructions(text: str, arguments: Sequence[str]) -> Counter[str]:
    """The canonical instructions of an HLO module.

    Args:
        text: The module, every computation before those that call it.
        arguments: What the entry's parameters stand for.
    """
    found: Counter[str] = Counter()
    computations: dict[str, str] = {}
    meaning: dict[str, str] = {}  # of the names in the present computation
    name, entry, lines = "", False, []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            entry, name, lines, meaning = bool(match[1]), match[2], [], dict(computations)
        elif line == "}":
            computations[name] = _digest("\n".join(sorted(lines)))
        elif match := _INSTRUCTION.match(line):
            spelled = _spell(_METADATA.sub("", match[3]), meaning)
            if entry:
                spelled = _PARAMETER.sub(lambda m: f" argument {arguments[int(m[1])]}", spelled)
            meaning[match[2]] = _digest(spelled)
            lines.append(f"{match[1] or ''}{spelled}")
            found[lines[-1]] += 1
    return found


def _spell(line: str, meaning: Mapping[str, str]) -> str:
    return _NAME.sub(lambda match: meaning[match[0]], line)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
