"""``jscope plan``: bytes on each device of a mesh, for a model in a Python module."""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from .._errors import JscopeError, SelectorError, ShardingError
from .._tree.text import bytes_text
from . import _command
from ._command import CommandError
from ._terminal import Column, Row, print_json, print_table, say

if TYPE_CHECKING:
    import jax
    from jax.sharding import PartitionSpec

    from .._model.declaration import Declaration
    from .._model.plan import Optimizer, Plan, Planned
    from .._names.selectors import Selector

_MODEL = "mymodule:declaration"


@click.command(
    "plan",
    epilog=_command.examples(
        "jscope plan train:declared --mesh data=16,model=8",
        "jscope plan models:mlp --input 'float32[32,784]' --set 'widths=(128,10)' --mesh data=4",
    ),
)
@click.argument("model", metavar="MODULE:MODEL")
@click.option("--mesh", metavar="AXIS=SIZE,...", required=True, help="Such as data=16,model=8.")
@click.option(
    "--rule",
    metavar="SELECTOR=AXES",
    multiple=True,
    help="Cut along mesh axes, one for each axis of the array; - for whole: '**/w=-,model'.",
)
@click.option("--input", "inputs", multiple=True, help="An argument: 'float32[32,784]'.")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A keyword argument.")
@click.option(
    "--optimizer", metavar="MODULE:NAME", help="An Optax optimizer; its state counts too."
)
@_command.as_json
def command(
    model: str,
    mesh: str,
    rule: tuple[str, ...],
    inputs: tuple[str, ...],
    settings: tuple[str, ...],
    optimizer: str | None,
    as_json: bool,
) -> None:
    """Print what a training step holds on each device. Nothing is allocated; no device is needed.

    MODEL is a declaration, a function without arguments that returns one, or a model, whose
    arguments are given by --input and --set.
    """
    axes = _axes(mesh)
    try:
        declared = _declaration(model, inputs, settings)
    except JscopeError as error:  # The module is Python, and so is the hint, for its author.
        raise CommandError(f"{model!r} can't be declared: {error}") from error
    plan = _planned(declared, axes, rule, optimizer)
    if as_json:
        print_json(_facts(plan))
    else:
        _print_plan(plan, model)


def _planned(
    declared: "Declaration", axes: dict[str, int], rules: Iterable[str], optimizer: str | None
) -> "Plan":
    """The plan of a declaration that ``jscope plan`` prints."""
    parsed = [_rule(text) for text in rules]
    with_state = None if optimizer is None else _optimizer(optimizer)
    try:
        return declared.plan(axes, parsed, optimizer=with_state)
    except (SelectorError, ShardingError) as error:
        hint = "another --rule, such as '**/w=-,model', or another --mesh"
        raise CommandError(error.facts, hint) from error


def _parts(plan: "Plan") -> dict[str, tuple["Planned", ...]]:
    """The parts of what a device holds, as ``jscope plan`` prints them."""
    return {
        "parameters": plan.trainable,
        "gradients": plan.trainable,
        "optimizer's state": plan.optimizer,
        "other variables": plan.other,
    }


def _variables(plan: "Plan") -> list["Planned"]:
    """The variables that ``jscope plan`` prints, the largest on each device first."""
    return sorted((*plan.trainable, *plan.other), key=lambda row: -row.device_bytes)


def _facts(plan: "Plan") -> dict[str, object]:
    """What ``jscope plan --json`` prints."""
    nbytes = {part: sum(row.device_bytes for row in rows) for part, rows in _parts(plan).items()}
    return {
        "mesh": dict(plan.mesh.shape),
        "devices": plan.mesh.size,
        "bytes_on_each_device": {**nbytes, "together": plan.total_bytes},
        "variables": [
            {
                "name": row.name,
                "shape": row.shape,
                "dtype": str(row.dtype),
                "sharding": str(row.spec),
                "bytes": row.bytes,
                "bytes_on_each_device": row.device_bytes,
            }
            for row in _variables(plan)
        ],
    }


def _print_plan(plan: "Plan", model: str) -> None:
    """Print a plan: what each device holds, and each variable."""
    sizes = ", ".join(f"{axis} {size}" for axis, size in plan.mesh.shape.items())
    say((f"{model} on {plan.mesh.size:,} devices ({sizes})", "bold"))
    say("")

    def totals(part: str, rows: Iterable["Planned"], style: str = "") -> Row:
        sums = [sum(getattr(row, of) for row in rows) for of in ("device_bytes", "bytes")]
        return Row((part, *map(bytes_text, sums)), style)

    parts = _parts(plan)
    print_table(
        (Column(""), Column("on each device", True), Column("of all", True)),
        [
            *(totals(part, rows) for part, rows in parts.items()),
            totals("together", sum(parts.values(), ()), "bold"),
        ],
    )
    say("")
    print_table(
        (
            Column("name", is_name=True),
            Column("shape"),
            Column("dtype"),
            Column("sharding"),
            Column("on each device", True),
        ),
        [
            Row(
                (
                    row.name,
                    str(row.shape),
                    str(row.dtype),
                    "whole" if row.is_whole else str(row.spec),
                    bytes_text(row.device_bytes),
                )
            )
            for row in _variables(plan)
        ],
    )


def _axes(text: str) -> dict[str, int]:
    """The axes that ``jscope plan --mesh`` means."""
    axes = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*([1-9]\d*)\s*", part)
        if not found:
            hint = "--mesh data=16,model=8"
            raise CommandError(f"--mesh {text!r}: {part!r} is not an axis", hint)
        axes[found[1]] = int(found[2])
    return axes


def _rule(text: str) -> "tuple[Selector, PartitionSpec]":
    """The rule that ``jscope plan --rule`` means."""
    from jax.sharding import PartitionSpec

    selector, equals, axes = text.rpartition("=")
    if not equals:
        raise CommandError(f"--rule {text!r} has no '='", "--rule '**/w=-,model'")
    names = [tuple(axis.split("+")) for axis in axes.split(",")]
    parts = [None if n == ("-",) else n[0] if len(n) == 1 else n for n in names]
    return _command.selector(selector), PartitionSpec(*parts)


def _declaration(text: str, inputs: Iterable[str], settings: Iterable[str]) -> "Declaration":
    """The declaration that ``jscope plan`` is given, or makes of a model."""
    from .._model.declaration import Declaration
    from .._model.declare import declare

    found = _load(text)
    if isinstance(found, Declaration):
        return found
    arguments = [_input(spec) for spec in inputs]
    keywords = dict(_setting(setting) for setting in settings)
    if not callable(found):
        raise CommandError(f"{text!r} is a {type(found).__name__}, not a declaration or a model")
    if not arguments and not keywords and not _required_arguments(found):
        result = found()
        if isinstance(result, Declaration):
            return result
        raise CommandError(
            f"{text}() returned a {type(result).__name__}, not a declaration",
            "return js.declare(model)(...)",
        )
    try:
        return declare(found)(*arguments, **keywords)
    except JscopeError:  # some are TypeErrors too
        raise
    except TypeError as error:
        raise CommandError(
            f"{text!r} can't be declared: {error}",
            "give its arguments: --input 'float32[32,784]' --set 'features=10'",
        ) from error


def _required_arguments(function: Callable[..., object]) -> list[str]:
    """The arguments that a model needs of ``jscope plan``."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in kinds
    ]


def _optimizer(text: str) -> "Optimizer":
    """The optimizer that ``jscope plan --optimizer`` means."""
    found = _load(text)
    if not hasattr(found, "init"):
        kind = type(found).__name__
        raise CommandError(f"{text!r} has no init: it is a {kind}, not an optimizer")
    return found


def _load(text: str) -> object:
    """The model or optimizer that ``jscope plan`` is given as ``MODULE:NAME``."""
    module, colon, attribute = text.partition(":")
    if not (module and colon and attribute):
        raise CommandError(f"{text!r} is not MODULE:NAME", f"such as {_MODEL}")
    sys.path.insert(0, os.getcwd())
    try:
        found: object = importlib.import_module(module)
    except ImportError as error:
        raise CommandError(f"{module!r} can't be imported: {error}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise CommandError(f"{module!r} has no {attribute!r}")
        found = getattr(found, name)
    return found


def _input(text: str) -> "jax.ShapeDtypeStruct":
    """The abstract array that ``jscope plan --input`` means."""
    import jax
    import jax.numpy as jnp

    found = re.fullmatch(r"(\w+)\[([\d,\s]*)\]", text)
    try:
        if found:
            shape = tuple(int(size) for size in found[2].split(",") if size.strip())
            return jax.ShapeDtypeStruct(shape, jnp.dtype(found[1]))
    except TypeError:
        pass
    raise CommandError(f"--input {text!r} is not a dtype and shape", "--input 'float32[32,784]'")


def _setting(text: str) -> tuple[str, object]:
    """The argument of a model that ``jscope plan --set`` means."""
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set {text!r} has no '='", "--set 'widths=(128,10)'")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
