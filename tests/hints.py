"""Hints: the lines of code that a text of jscope's offers, found and looked at.

A text is prose with code in it. `fragments` finds the code, by Python's grammar: a call, an
assignment, an operator between names, a keyword argument by itself. `texts` gives all texts of
a file, with ``HOLE`` for what an f-string puts in; `faults` says what is wrong with a fragment:
a name that isn't there, an argument that a function doesn't take.

    >>> fragments("No variable 'w'. Write tree = tree | {'w': value}, or js.init(model) again.")
    ["tree = tree | {'w': value}", 'js.init(model)']

What a fragment does is shown by running it: `test_hints`.
"""

import ast
import builtins
import collections.abc
import functools
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jscope as js
from jscope import constraints, initializers, layers, regularizers, tf1, tf_checkpoint
from jscope.interop import tensorflow

PACKAGE = Path(js.__file__).parent
HOLE = "HOLE"


class Text(NamedTuple):
    """A string of the source, joined from all its literals."""

    file: str
    line: int
    text: str


def texts(file: Path) -> list[Text]:
    """All strings of a file but docstrings and what ``__repr__`` gives."""
    found: list[Text] = []
    name = str(file.relative_to(PACKAGE))

    def visit(node: ast.AST) -> None:
        text = _text(node)
        if text is not None:
            found.append(Text(name, node.lineno, text))  # type: ignore[attr-defined]
            for child in ast.walk(node):  # strings in what is put in: f"{', '.join(x)}"
                if isinstance(child, ast.FormattedValue):
                    visit(child.value)
            return
        for child in _inside(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a node, without docstrings and annotations."""
    if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            is_doc = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not is_doc:
                yield child


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "" for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return HOLE
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        pieces = [_text(node.left), _text(node.right)]
        if pieces != [None, None]:
            return "".join(HOLE if piece is None else piece for piece in pieces)
    return None


# Finding code in prose.

_WORD = re.compile(r"[A-Za-z_]\w*")
_TARGETS = re.compile(r"[a-z_]\w*(?:, [a-z_]\w*)* = (?=\S)")
_KEYWORD = re.compile(r"([a-z_]\w*)=(?!=)")
_BARE = re.compile(r"([a-z_]\w*)=(?=[\s.,;:)`]|$)")
_AS = re.compile(r"(?: as \w+)?")
_ENGLISH = {"and", "or", "in", "is", "not", "if", "else", "for", "as", "from", "return", "with"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def fragments(text: str) -> list[str]:
    """The code in a text, in order; keyword arguments by themselves as ``name=value``."""
    found = []
    at = 0
    while match := _WORD.search(text, at):
        start = match.start()
        at = match.end()
        if start and text[start - 1] in "'\"-.":
            # A quoted name or glob, an option of a command, what is put behind another expression.
            continue
        code = _longest(text, start)
        if code:
            found.append(code)
            at = start + len(code)
    return found


def _longest(text: str, start: int) -> str | None:
    """The longest piece of code that begins at a word, or None."""
    if targets := _TARGETS.match(text, start):
        ends = _ends(text, targets.end())
    elif bare := _BARE.match(text, start):
        return bare[0]
    elif keyword := _KEYWORD.match(text, start):
        ends = _ends(text, keyword.end())
    elif text.startswith("`with ", start - 1):
        ends = [end + len(_AS.match(text, end)[0]) for end in _ends(text, start + len("with "))]
    else:
        ends = _ends(text, start)
    for end in reversed(ends):
        code = text[start:end]
        parsed = parse(code)
        if parsed is not None and _is_code(parsed, code):
            return code
    return None


def _ends(text: str, start: int) -> list[int]:
    """Where an expression that begins at ``start`` may end: behind a word, bracket or string."""
    ends: list[int] = []
    waiting: list[str] = []  # the brackets that are to be closed
    in_lambda = False  # and in no bracket in it
    previous = ""  # the last token, if a name or number can't follow it
    at = start
    while at < len(text):
        character = text[at]
        if character in "'\"":
            close = text.find(character, at + 1)
            if close < 0 or (text[at - 1 : at].isalnum() and text[at - 1] not in "frb"):
                return ends
            at, previous = close + 1, "string"
        elif word := _WORD.match(text, at):
            in_lambda |= word[0] == "lambda" and not waiting
            is_english = not waiting and word[0] in _ENGLISH and not in_lambda
            is_operator = word[0] in _ENGLISH or word[0] == "lambda"
            if is_english or (previous and not is_operator and text[at - 1].isspace()):
                return ends
            at, previous = word.end(), "" if is_operator else word[0]
        elif character in _PAIRS:
            waiting.append(_PAIRS[character])
            at, previous = at + 1, ""
            continue
        elif character in ")]}":
            if not waiting or waiting.pop() != character:
                return ends
            at, previous = at + 1, character
        elif not waiting and _is_stop(text, at, in_lambda):
            return ends
        else:
            previous = previous if character.isspace() else ""
            at += 1
            if not character.isdigit():
                continue
        if not waiting:
            ends.append(at)
    return ends


def _is_stop(text: str, at: int, in_lambda: bool) -> bool:
    if text[at] in "\n`;?!" or (text[at] == "," and not in_lambda):
        return True
    behind = text[at + 1 : at + 2]
    return text[at] in ".:" and (not behind or behind.isspace()) and not in_lambda


def parse(code: str) -> ast.stmt | None:
    """The one statement that code is, or None; ``select=`` is an argument of any value."""
    variants = [code + "..."] if _BARE.fullmatch(code) else [code]
    for variant in [code + ": pass"] if code.startswith("with ") else variants:
        try:
            body = ast.parse(variant).body
        except SyntaxError:
            continue
        if len(body) == 1:
            return body[0]
    return None


def keyword_of(code: str) -> str | None:
    """The name, if the code is a keyword argument by itself: ``"select"`` of ``select=None``."""
    match = _KEYWORD.match(code)
    return match[1] if match else None


def _is_code(parsed: ast.stmt, code: str) -> bool:
    if not isinstance(parsed, ast.Expr | ast.Assign | ast.With):
        return False
    nodes = list(ast.walk(parsed))
    for node in nodes:
        # "shape (3, 4)" is no call, "tree. Write" no attribute.
        if isinstance(node, ast.Call) and _behind(code, node.func) != "(":
            return False
        if isinstance(node, ast.Subscript) and _behind(code, node.value) != "[":
            return False
        if isinstance(node, ast.Attribute) and _behind(code, node.value) != ".":
            return False
        if isinstance(node, ast.Attribute) and code[_end(code, node) - len(node.attr) - 1] != ".":
            return False
    if isinstance(parsed, ast.Assign):
        return " = " in code or _KEYWORD.match(code) is not None
    if isinstance(parsed, ast.With):
        return True
    return any(
        isinstance(node, ast.Call)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and " | " in code)
        or (isinstance(node, ast.Attribute | ast.Subscript) and _root(node) in ROOTS)
        or (isinstance(node, ast.BinOp) and _root(node.left) == "scope")
        for node in nodes
    )


def _end(code: str, node: ast.expr) -> int:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    lines = code.split("\n")
    before = sum(len(line) + 1 for line in lines[: node.end_lineno - 1])
    # ast counts bytes.
    return before + len(lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode())


def _behind(code: str, node: ast.expr) -> str:
    return code[_end(code, node) :].lstrip(")")[:1]  # "(a | b).c"


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


# What names in a fragment mean.


class _An(NamedTuple):
    """Some instance of a class."""

    kind: type


class _Method(NamedTuple):
    """A function of a class, of which there is an instance."""

    function: Any
    kind: type


_UNKNOWN = object()

ROOTS: Mapping[str, Any] = {
    "js": js,
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "init": initializers,
    "layers": layers,
    "regularizers": regularizers,
    "constraints": constraints,
    "tensorflow": tensorflow,
    "tf1": tf1,
    "tf_checkpoint": tf_checkpoint,
    "functools": functools,
    "re": re,
    "scope": _An(js.Scope),
    "declared": _An(js.Declaration),
    "tree": _An(js.VarTree),
    "saver": _An(js.Saver),
    "ema": _An(js.ExponentialMovingAverage),
    "Saver": js.Saver,
    "Writer": tf_checkpoint.Writer,
    "PartitionSpec": jax.sharding.PartitionSpec,
    "P": jax.sharding.PartitionSpec,
    "get_variable": _Method(js.Scope.get_variable, js.Scope),
    "variable_scope": _Method(js.Scope.variable_scope, js.Scope),
    "make_template": js.make_template,
    "x": _An(jax.Array),
    "indices": _An(jax.Array),
}

# What a reader knows to be a function of their own.
CALLED = {"model", "block", "f", "layer", "part", "next_creator", "getter"}


def faults(code: str, entry_points: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """What is wrong with a fragment.

    Args:
        code: The fragment.
        entry_points: The functions that a keyword argument by itself is for, by its name: all
            of them must take it.
    """
    parsed = parse(code)
    if parsed is None:
        return ["it is no Python"]
    problems: list[str] = []
    name = keyword_of(code)
    if name is not None and HOLE not in name:
        functions = entry_points.get(name, ())
        others = [_name(f) for f in functions if name not in _parameters(f)]
        if others or not functions:
            problems.append(f"{name}= is no argument of {', '.join(others) or 'what is listed'}")
    for node in ast.iter_child_nodes(parsed):
        if isinstance(node, ast.expr):
            _meaning(node, problems, frozenset())
        elif isinstance(node, ast.withitem):
            _meaning(node.context_expr, problems, frozenset())
    return problems


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function))


def _meaning(node: ast.expr, problems: list[str], bound: frozenset[str]) -> Any:
    """What an expression gives, as far as that can be known; notes what can't be."""
    if isinstance(node, ast.Lambda):
        names = frozenset(argument.arg for argument in node.args.args)
        _meaning(node.body, problems, bound | names)
        return _UNKNOWN
    if isinstance(node, ast.Name):
        return _UNKNOWN if node.id in bound else ROOTS.get(node.id, _UNKNOWN)
    if isinstance(node, ast.Attribute):
        return _attribute(_meaning(node.value, problems, bound), node.attr, problems)
    if isinstance(node, ast.Call):
        return _called(node, problems, bound)
    if isinstance(node, ast.BinOp):
        left = _meaning(node.left, problems, bound)
        _meaning(node.right, problems, bound)
        return left if isinstance(left, _An) else _UNKNOWN
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _meaning(child, problems, bound)
    return _UNKNOWN


def _attribute(owner: Any, name: str, problems: list[str]) -> Any:
    if owner is _UNKNOWN or HOLE in name:
        return _UNKNOWN
    holder = owner.kind if isinstance(owner, _An) else owner
    if not hasattr(holder, name):
        fields = typing.get_type_hints(holder) if isinstance(owner, _An) else {}
        if name not in fields:
            problems.append(f"{_name(holder)} has no {name}")
        return _UNKNOWN
    value = getattr(holder, name)
    if isinstance(owner, _An):
        static = inspect.getattr_static(holder, name)
        if isinstance(static, property | functools.cached_property):
            return _UNKNOWN
        if inspect.isfunction(static):
            return _Method(value, owner.kind)
    return value


def _called(node: ast.Call, problems: list[str], bound: frozenset[str]) -> Any:
    function = _meaning(node.func, problems, bound)
    for argument in node.args:
        _meaning(argument, problems, bound)
    for keyword in node.keywords:
        _meaning(keyword.value, problems, bound)
    if function is _UNKNOWN or isinstance(function, _An):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        known = CALLED | bound | set(dir(builtins))
        if name and HOLE not in name and name not in known:
            problems.append(f"{name} is no function that a reader knows")
        return _UNKNOWN
    return _bound(function, node, problems)


def _bound(function: Any, node: ast.Call, problems: list[str]) -> Any:
    """Binds the arguments to the parameters; ``...`` stands for any others."""
    kind = function.kind if isinstance(function, _Method) else None
    function = function.function if isinstance(function, _Method) else function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return _UNKNOWN
    if isinstance(node.func, ast.Name) and not (node.args or node.keywords):
        return _UNKNOWN  # "get_variable()" in a sentence names the function and calls nothing
    keywords = {k.arg: None for k in node.keywords if k.arg and HOLE not in k.arg}
    rest = [a for a in node.args if not (isinstance(a, ast.Constant) and a.value is ...)]
    is_whole = len(rest) == len(node.args) and not any(isinstance(a, ast.Starred) for a in rest)
    try:
        bind = signature.bind if is_whole else signature.bind_partial
        bind(*[None] * (kind is not None), *rest, **keywords)
    except TypeError as error:
        problems.append(f"{ast.unparse(node.func)}: {error}")
    if inspect.isclass(function):
        return _An(function)
    try:
        annotation = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):
        return _UNKNOWN
    return _An(kind) if annotation is typing.Self and kind else _of_type(annotation)


def _of_type(annotation: Any) -> Any:
    """What a value of this type is: of jscope's, or a function that gives one."""
    if inspect.isclass(annotation) and annotation.__module__.startswith("jscope"):
        return _An(annotation)
    if typing.get_origin(annotation) is collections.abc.Callable:

        def call(*args: Any, **keywords: Any) -> Any: ...

        call.__annotations__ = {"return": typing.get_args(annotation)[1]}
        return call
    return _UNKNOWN


# The command line.

_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_COMMAND = re.compile(r"\bjscope ([a-z]+)\b")


def command_faults(text: str, commands: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options and commands in a text of the command line.

    Args:
        text: The text.
        commands: The click commands that it may be about: one takes all options that it names.
    """
    wanted = set(_OPTION.findall(text))
    problems = []
    for name in _COMMAND.findall(text):
        if name not in commands:
            problems.append(f"there is no command jscope {name}")
    takers = [
        command
        for command in commands.values()
        if wanted <= {"--help", *(o for p in command.params for o in p.opts)}
    ]
    if not takers:
        problems.append(f"no command takes {' '.join(sorted(wanted))}")
    return problems
