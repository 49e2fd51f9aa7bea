"""Random programs: scopes in scopes, by name, by object and by default name, and requests in them.

A program is data, a list of statements, so that hypothesis can make it small and print it:

* ``Get``: ask for a variable;
* ``Open``: open a scope, and run statements in it;
* ``KEEP``: keep the current scope object, to be entered later from anywhere;
* ``REUSE``: ``reuse_variables``.

Each statement may fail, and the program goes on. Names of which TensorFlow and jscope think
differently on purpose are not drawn: capitals, and empty components. A dtype is left unsaid only
where it is float32, since there they differ too (`deviations`).
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from .library import Library


@dataclass(frozen=True)
class Get:
    """A request. None is left out of the call."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str | None
    trainable: bool | None
    initializer: str | None
    regularizer: str | None
    collections: tuple[str, ...] | None
    local: bool


@dataclass(frozen=True)
class Open:
    """A scope: by name, by default name, or the object that was kept as number ``kept``."""

    name: str | None
    default_name: str | None
    kept: int | None
    reuse: Any
    initializer: str | None
    regularizer: str | None
    dtype: str | None
    getter: str | None
    body: tuple[Any, ...]


KEEP, REUSE = "keep this scope", "reuse variables"

_NAMES = ("a", "a", "b", "a/b", "a_1")
_REUSE = (None, None, False, True, "auto", "auto", "auto")
_NO_REUSE = (*[None] * 9, False, True, "auto")  # beside a default name alone, others fail
_SHAPES = (*[(2,)] * 6, (3,), (3,), (None,), None)


@st.composite
def _gets(draw: st.DrawFn) -> Get:
    def one(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    return Get(
        name=one("w", "w", "v", "a/w"),
        shape=one(*_SHAPES),
        dtype=one(None, None, "float32", "int32"),
        trainable=one(None, None, True, False),
        initializer=one(None, None, "ones"),
        regularizer=one(None, None, "l2", "off"),
        collections=one(None, None, None, ("mine",), ("variables", "mine")),
        local=one(False, False, False, True),
    )


@st.composite
def _opens(draw: st.DrawFn, depth: int) -> Open:
    def one(*choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    by = one("name", "name", "default name", "object", "both names")
    return Open(
        name=one(*_NAMES) if by in ("name", "both names") else None,
        default_name=one(*_NAMES) if by in ("default name", "both names") else None,
        kept=one(0, 1, 2, 3) if by == "object" else None,
        reuse=one(*(_NO_REUSE if by == "default name" else _REUSE)),
        initializer=one(None, None, "ones"),
        regularizer=one(None, None, "l2", "off"),
        dtype=one(None, None, None, "float16"),
        getter=one(None, None, None, "plain", "renaming"),
        body=draw(_statements(depth + 1)),
    )


@st.composite
def _statements(draw: st.DrawFn, depth: int) -> tuple[Any, ...]:
    kinds = ["get", "get", "get", KEEP, KEEP, REUSE] + ["open"] * (4 if depth < 4 else 0)

    def statement() -> Any:
        kind = draw(st.sampled_from(kinds))
        if kind == "get":
            return draw(_gets())
        return draw(_opens(depth)) if kind == "open" else kind

    length = draw(st.integers(1, 3) if depth else st.integers(2, 8))
    return tuple(statement() for _ in range(length))


programs = _statements(0)


def run(t: Library, program: tuple[Any, ...]) -> None:
    """Run a program in either library."""
    _Run(t).statements(program)


class _Run:
    def __init__(self, t: Library):
        self.t = t
        self.kept = [t.current()]
        self.dtypes: dict[str, list[str]] = {}  # of variables, by name before getters

    def statements(self, statements: tuple[Any, ...]) -> None:
        for statement in statements:
            if statement == KEEP:
                self.kept.append(self.t.current())
            elif statement == REUSE:
                self.reuse_variables()
            elif isinstance(statement, Get):
                self.t.attempt(lambda get=statement: self.get(get))
            else:
                self.t.attempt(lambda scope=statement: self.open(scope))

    def open(self, scope: Open) -> None:
        name = scope.name if scope.kept is None else self.kept[scope.kept % len(self.kept)]
        given = {
            "reuse": self.t.AUTO if scope.reuse == "auto" else scope.reuse,
            "initializer": self.initializer(scope.initializer),
            "regularizer": self.regularizer(scope.regularizer),
            "dtype": scope.dtype,
            "custom_getter": _GETTERS[scope.getter],
        }
        given = {key: value for key, value in given.items() if value is not None}
        with self.t.scope(name, scope.default_name, **given) as entered:
            self.t.note(entered.name, entered.reuse or False, entered.dtype)
            self.statements(scope.body)

    def reuse_variables(self) -> None:
        """The scope, and whoever kept it: in jscope it is another object afterwards."""
        before = self.t.current()
        self.t.reuse_variables()
        after = self.t.current()
        self.kept = [after if scope is before else scope for scope in self.kept]

    def get(self, get: Get) -> None:
        scope = self.t.current()
        whole = f"{scope.name}/{get.name}".strip("/")
        dtype = get.dtype
        if dtype is None and self.t._plain(scope.dtype) == "float32":
            others = [seen for seen in self.dtypes.get(whole, []) if seen != "float32"]
            dtype = others[-1] if others else None
        regularizer = "off" if dtype == "int32" else get.regularizer
        given = {
            "shape": get.shape,
            "dtype": dtype,
            "initializer": self.initializer(get.initializer),
            "regularizer": self.regularizer(regularizer),
            "trainable": None if get.local else get.trainable,
            "collections": get.collections and list(get.collections),
        }
        given = {key: value for key, value in given.items() if value is not None}
        ask = self.t.local if get.local else self.t.get
        value = ask(get.name, **given)
        self.dtypes.setdefault(whole, []).append(self.t._plain(value.dtype))

    def initializer(self, word: str | None) -> Any:
        return {None: None, "ones": self.t.ones}[word]

    def regularizer(self, word: str | None) -> Any:
        return {None: None, "l2": self.t.l2(1.0), "off": self.t.no_regularizer}[word]


def _plain(getter, name, *args, **kwargs):
    return getter(name, *args, **kwargs)


def _renaming(getter, name, *args, **kwargs):
    return getter(f"{name}_g", *args, **kwargs)


_GETTERS = {None: None, "plain": _plain, "renaming": _renaming}
