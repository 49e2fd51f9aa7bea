"""Declaring and applying agree: one random program, both ways, has the same outcome at each step.

A program is data: requests, reads, draws and assigns, in scopes in scopes, under transforms. Each
statement may fail, and the program goes on. What is compared of a statement is the class of its
error, or the shape and dtype of what it gives, the scope's name, and the names that getters get.

A bound scope can't know that a variable is created later, nor that it can't be created as
requested. So statements that fail while declaring, before their variable exists, are taken out of
the program first.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jscope as js

init = js.initializers


@dataclass(frozen=True)
class Get:
    """`get_variable`; ``getter`` is the call's own."""

    name: str
    shape: Any
    dtype: Any
    initializer: Any
    getter: Any


@dataclass(frozen=True)
class Do:
    """Something with a variable or a stream that must exist, or not."""

    what: str
    name: str


@dataclass(frozen=True)
class Enter:
    """Statements in a scope below, or in this one under other defaults; ``how`` is a key of HOW."""

    how: str
    name: str
    reuse: Any
    getter: Any
    body: tuple[Any, ...]


# How a body is run with a scope: at the same trace, or in that of a transform.
HOW = {
    "call": lambda body, scope: body(scope),
    "tree.map": lambda body, scope: body(jax.tree.map(lambda leaf: leaf, scope)),
    "with_values": lambda body, scope: body(scope.with_values(js.VarTree(scope))),
    "with_updates": lambda body, scope: js.with_updates(body)(scope),
    "with_records": lambda body, scope: js.with_records(
        body,
        "none of them",
    )(scope),
    "jit": lambda body, scope: jax.jit(body)(scope),
    "checkpoint": lambda body, scope: jax.checkpoint(body)(scope),
    "grad": lambda body, scope: jax.grad(lambda x: body(scope) * x)(1.0),
    "cond": lambda body, scope: jax.lax.cond(True, body, lambda scope: jnp.float32(0), scope),
    "closed over": lambda body, scope: jax.jit(lambda: body(scope))(),
    "scan": lambda body, scope: jax.lax.scan(lambda x, s: (x, body(s)), 0, scope)[1],
    "vmap": lambda body, scope: jax.vmap(body)(scope),
}
STACKS = ("scan", "vmap")


class Run:
    """One run of a program on a root scope."""

    def __init__(self, program):
        self.program = program
        self.outcomes: dict[tuple[int, ...], Any] = {}
        self.failed_before_creation: set[tuple[int, ...]] = set()
        self.seen: list[str] = []

    def model(self, scope):
        self.block(scope, self.program, ())

    def block(self, scope, statements, path):
        for i, statement in enumerate(statements):
            here = (*path, i)
            before = len(self.seen)
            try:
                outcome = self.outcome(scope, statement, here)
            except js.JscopeError as error:
                outcome = type(error).__name__
                if not (isinstance(statement, Enter) or scope.has(statement.name)):
                    self.failed_before_creation.add(here)
            names = tuple(self.seen[before:])
            self.outcomes.setdefault(here, (outcome, scope.name, names))

    def outcome(self, scope, statement, path):
        if isinstance(statement, Enter):
            return self.enter(scope, statement, path)
        return (self.get if isinstance(statement, Get) else self.do)(scope, statement)

    def get(self, scope, get):
        options = {"custom_getter": self.getter(get.getter)} if get.getter else {}
        return like(scope.get_variable(get.name, get.shape, get.dtype, get.initializer, **options))

    def do(self, scope, do):
        if do.what == "read":
            return like(scope[do.name])
        if do.what == "assign":
            return like(scope.assign(do.name, scope[do.name]))
        return like(scope.rng("noise", do.name))

    def enter(self, scope, enter, path):
        options = {"reuse": enter.reuse, "custom_getter": self.getter(enter.getter)}
        if enter.how in STACKS:
            inner = scope.variable_scope(scope, **options).stacked(f"stack_{enter.name}", 2)
        elif enter.name == "default":
            inner = scope.variable_scope(None, enter.name, **options)
        else:
            inner = scope.variable_scope(enter.name, **options)

        def body(scope):
            self.block(scope, enter.body, path)
            return jnp.float32(0)

        try:
            HOW[enter.how](body, inner)
        except js.SelectorError:
            assert enter.how == "with_records"  # which selects nothing
        return None

    def getter(self, kind):
        if kind is None:
            return None

        def watch(getter, name, *args, **kwargs):
            self.seen.append(name)
            return getter(name, *args, **kwargs)

        return js.by_value(watch) if kind == "by value" else watch


def like(value):
    return value.shape, str(value.dtype)


def declare(program):
    run = Run(program)
    return run, js.declare(run.model)()


def without(statements, paths, here=()):
    """A program without some of its statements."""
    kept = []
    for i, statement in enumerate(statements):
        path = (*here, i)
        if path in paths:
            continue
        if isinstance(statement, Enter):
            body = without(statement.body, paths, path)
            statement = Enter(**{**vars(statement), "body": body})
        kept.append(statement)
    return tuple(kept)


def comparable(program):
    """The program without what a tree can't tell, and its declaration."""
    while True:
        run, declared = declare(program)
        if not run.failed_before_creation:
            return program, run, declared
        program = without(program, run.failed_before_creation)


GETTERS = st.sampled_from([None, None, None, None, "by name", "by value"])
GETS = st.builds(
    Get,
    name=st.sampled_from(["w", "w", "w", "a/w"]),
    shape=st.sampled_from([(2,), (2,), (2,), (2,), (3,), (None,), None]),
    dtype=st.sampled_from([None, None, None, jnp.float32, jnp.int32]),
    initializer=st.sampled_from([None, None, None, init.ones, 3.0]),
    getter=GETTERS,
)
DOS = st.builds(
    Do, what=st.sampled_from(["read", "assign", "draw"]), name=st.sampled_from(["w", "w", "a/w"])
)


def enters(bodies):
    return st.builds(
        Enter,
        how=st.sampled_from(list(HOW)),
        name=st.sampled_from(["a", "a", "b", "default"]),
        reuse=st.sampled_from([None, None, True, js.AUTO_REUSE, js.AUTO_REUSE]),
        getter=GETTERS,
        body=bodies,
    )


def blocks(depth):
    statements = GETS | DOS | enters(blocks(depth - 1)) if depth else GETS | GETS | DOS
    return st.lists(statements, min_size=1, max_size=4).map(tuple)


BLOCKS = st.lists(enters(blocks(2)), min_size=2, max_size=4).map(tuple)


def check(program, apply):
    program, declaring, declared = comparable(program)
    applying = Run(program)

    def model(tree):
        js.with_updates(applying.model)(tree, rngs=jax.random.key(0))

    apply(model, declared)
    assert applying.outcomes == declaring.outcomes


@given(program=BLOCKS)
@settings(max_examples=500)
def test_a_random_program_has_the_same_outcomes_declared_and_applied_in_a_trace(program):
    check(program, lambda model, declared: jax.eval_shape(model, declared.abstract()))


@given(program=BLOCKS)
@settings(max_examples=30)
def test_a_random_program_has_the_same_outcomes_declared_and_applied_eagerly(program):
    def apply(model, declared):
        zeros = {name: np.zeros(spec.shape, spec.dtype) for name, spec in declared.items()}
        model(js.VarTree(jax.device_put(zeros)))

    check(program, apply)


W = Get("w", (2,), None, None, None)
WRONG = Get("w", (3,), None, None, None)
INT = Get("w", None, jnp.int32, None, None)


@pytest.mark.parametrize("how", HOW)
def test_a_corrected_request_is_no_second_use(how):
    body = (WRONG, INT, W, W)
    name = "stack_a" if how in STACKS else "a"
    first = Enter(how if how in STACKS else "call", "a", None, None, (W,))
    program = (first, Enter(how, "a", None, None, body))
    program_, declaring, declared = comparable(program)
    assert program_ == program
    assert list(declared) == [f"{name}/w"]
    outcomes = [declaring.outcomes[1, i][0] for i in range(4)]
    # In the trace of the first request, any other is a second use; in another one is allowed.
    again = "VariableExistsError"
    in_its_trace = how in ("call", "with_updates", "with_records")
    expected = (
        [again] * 4
        if in_its_trace
        else ["ShapeMismatchError", "DtypeMismatchError", ((2,), "float32"), again]
    )
    assert outcomes == expected
    check(program, lambda model, declared: jax.eval_shape(model, declared.abstract()))


def test_a_failed_request_does_not_decide_whether_a_variable_is_trainable():
    scope = js.Scope({"w": np.zeros(2, np.float32)})
    with pytest.raises(js.ShapeMismatchError):
        scope.get_variable("w", (3,), trainable=False)
    scope.get_variable("w", (2,))
    assert scope.trainable_variables() == ("w",)
