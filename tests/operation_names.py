"""The operations of a lowered program, with their names and the lines of code that they come from.

A name is read as a profile shows it: in a function that is called, behind the name of the call.
"""

import contextlib
import linecache
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax

# What computes nothing by itself. Only regions of these are the program's own: JAX traces those of
# other operations, such as the `add` of a reduction, once for all.
STRUCTURE = re.compile(r"stablehlo\.(constant|return|while|case|optimization_barrier)|func\.|sdy\.")


class Operation(NamedTuple):
    """One operation.

    Attributes:
        kind: Such as ``"stablehlo.add"``.
        name: Such as ``"jit(f)/transpose(jvp(a))/b/add"``.
        lines: Files and lines, innermost first.
    """

    kind: str
    name: str
    lines: tuple[tuple[str, int], ...]

    def path(self, components: set[str]) -> str:
        """Those of the name's components that are among these."""
        # JAX puts names around twice in gradients of jax.checkpoint and of rules of the user's own.
        twice = r"transpose\(jvp\(([^()]*)\)\)((?:/[^()]*)?)/jvp\(\1\)\2/"
        name = re.sub(twice, r"\1\2/", self.name)
        return "/".join(part for part in re.split(r"[/()]", name) if part in components)


def operations(function: Callable[..., Any], *args: Any) -> list[Operation]:
    """What a function computes, as it is lowered."""
    module = jax.jit(function).lower(*args).compiler_ir("stablehlo")
    functions = {f.name.value: f for f in module.body.operations if f.operation.name == "func.func"}

    def walk(parent: Any, prefix: str, lines: tuple[Any, ...]) -> Iterator[Operation]:
        for region in parent.regions:
            for block in region.blocks:
                for op in block.operations:
                    text = str(op.location)
                    own = re.match(r'loc\("([^"]*)"(?!:)', text)
                    name = "/".join(part for part in (prefix, own and own[1]) if part)
                    there = re.findall(r'\("([^"]+)":(\d+)', text)
                    here = (*((file, int(line)) for file, line in there), *lines)
                    kind = op.operation.name
                    if not STRUCTURE.match(kind):
                        yield Operation(kind, name, here)
                    if kind == "func.call":
                        callee = functions[op.attributes["callee"].value]
                        yield from walk(callee, name, here)
                    elif STRUCTURE.match(kind):  # names in a shard_map are relative to it, too
                        yield from walk(op, name if kind.startswith("sdy.") else prefix, here)

    return list(walk(functions["main"], "", ()))


def marked(operation: Operation) -> str | None:
    """The comment ``#: pattern`` behind the innermost line of an operation that has one."""
    for file, number in operation.lines:
        found = re.search(r"  #:(.*)$", linecache.getline(file, number))
        if found:
            return found[1].strip()
    return None


def misnamed(found: list[Operation], components: set[str]) -> list[Operation]:
    """Operations whose path doesn't match the pattern of their line, or whose line has none."""
    return [
        operation
        for operation in found
        if (pattern := marked(operation)) is None
        or not re.fullmatch(pattern, operation.path(components))
    ]


@contextlib.contextmanager
def names_off() -> Iterator[None]:
    """No name enters a program."""
    with mock.patch.object(jax, "named_scope", return_value=contextlib.nullcontext()):
        yield


def instructions(function: Callable[..., Any], *args: Any) -> str:
    """The compiled program without its metadata, and with numbers for names."""
    text = jax.jit(function).lower(*args).compile().as_text()
    text = re.sub(r", metadata=\{[^}]*\}", "", text)
    tables = r"^(FileNames|FunctionNames|FileLocations|StackFrames)\n(\d+ .*\n)*"
    text = re.sub(tables, "", text, flags=re.MULTILINE)
    numbers: dict[str, str] = {}  # XLA calls some instructions after the names in their metadata
    return re.sub(r"%[\w.\-]+", lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"), text)
