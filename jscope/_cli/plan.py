"""``jscope plan``: bytes on each device of a mesh, for a model in a Python module."""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from .._errors import JscopeError, SelectorError, ShardingError
from .._tree.text import bytes_text
from . import _options
from ._error import CommandError
from ._terminal import Column, Row, print_json, print_table, say

_MODEL = "mymodule:declaration"


@click.command(
    "plan",
    epilog=_options.examples(
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
@_options.as_json
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
    plan = _plan(declared, axes, rule, optimizer)
    parts = {
        "parameters": (plan.trainable, plan.parameter_bytes),
        "gradients": (plan.trainable, plan.gradient_bytes),
        "optimizer's state": (plan.optimizer, plan.optimizer_bytes),
        "other variables": (plan.other, plan.other_bytes),
    }
    variables = sorted((*plan.trainable, *plan.other), key=lambda row: -row.device_bytes)
    if as_json:
        print_json(
            {
                "mesh": axes,
                "devices": plan.mesh.size,
                "bytes_on_each_device": {
                    **{part: nbytes for part, (_, nbytes) in parts.items()},
                    "together": plan.total_bytes,
                },
                "variables": [
                    {
                        "name": row.name,
                        "shape": row.shape,
                        "dtype": str(row.dtype),
                        "sharding": str(row.spec),
                        "bytes": row.bytes,
                        "bytes_on_each_device": row.device_bytes,
                    }
                    for row in variables
                ],
            }
        )
        return
    sizes = ", ".join(f"{axis} {size}" for axis, size in axes.items())
    say((f"{model} on {plan.mesh.size:,} devices ({sizes})", "bold"))
    say("")
    print_table(
        (Column(""), Column("on each device", True), Column("of all", True)),
        [
            Row((part, bytes_text(nbytes), bytes_text(sum(row.bytes for row in rows))))
            for part, (rows, nbytes) in parts.items()
        ]
        + [
            Row(
                (
                    "together",
                    bytes_text(plan.total_bytes),
                    bytes_text(sum(row.bytes for rows, _ in parts.values() for row in rows)),
                ),
                "bold",
            )
        ],
    )
    say("")
    columns = (
        Column("name", is_name=True),
        Column("shape"),
        Column("dtype"),
        Column("sharding"),
        Column("on each device", True),
    )
    print_table(
        columns,
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
            for row in variables
        ],
    )


def _plan(declared: Any, axes: dict[str, int], rules: Iterable[str], optimizer: str | None) -> Any:
    parsed = [_rule(text) for text in rules]
    with_state = None if optimizer is None else _optimizer(optimizer)
    try:
        return declared.plan(axes, parsed, optimizer=with_state)
    except (SelectorError, ShardingError) as error:
        raise CommandError(
            error.facts, "another --rule, such as '**/w=-,model', or another --mesh"
        ) from error


def _axes(text: str) -> dict[str, int]:
    axes = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*([1-9]\d*)\s*", part)
        if not found:
            hint = "--mesh data=16,model=8"
            raise CommandError(f"--mesh {text!r}: {part!r} is not an axis", hint)
        axes[found[1]] = int(found[2])
    return axes


def _rule(text: str) -> Any:
    from jax.sharding import PartitionSpec

    selector, equals, axes = text.rpartition("=")
    if not equals:
        raise CommandError(f"--rule {text!r} has no '='", "--rule '**/w=-,model'")
    names = [tuple(axis.split("+")) for axis in axes.split(",")]
    parts = [None if n == ("-",) else n[0] if len(n) == 1 else n for n in names]
    return _options.selector(selector), PartitionSpec(*parts)


def _declaration(text: str, inputs: Iterable[str], settings: Iterable[str]) -> Any:
    from .._model.declaration import Declaration
    from .._model.declare import declare

    found = _load(text)
    if isinstance(found, Declaration):
        return found
    arguments = [_input(spec) for spec in inputs]
    keywords = dict(_setting(setting) for setting in settings)
    if not callable(found):
        raise CommandError(f"{text!r} is a {type(found).__name__}, not a declaration or a model")
    if not arguments and not keywords and not _needed(found):
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


def _needed(function: Callable[..., Any]) -> list[str]:
    """The required arguments of a function."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in kinds
    ]


def _optimizer(text: str) -> Any:
    found = _load(text)
    if not hasattr(found, "init"):
        kind = type(found).__name__
        raise CommandError(f"{text!r} has no init: it is a {kind}, not an optimizer")
    return found


def _load(text: str) -> Any:
    """An attribute of a module, which is looked for in the working directory too."""
    module, colon, attribute = text.partition(":")
    if not (module and colon and attribute):
        raise CommandError(f"{text!r} is not MODULE:NAME", f"such as {_MODEL}")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise CommandError(f"{module!r} can't be imported: {error}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise CommandError(f"{module!r} has no {attribute!r}")
        found = getattr(found, name)
    return found


def _input(text: str) -> Any:
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


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--set {text!r} has no '='", "--set 'widths=(128,10)'")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
