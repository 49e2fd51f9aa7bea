"""Where jscope differs from TensorFlow 1 on purpose, each with a check of both.

The texts are the table of `docs/from_tf1.md`; a test compares them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

import jscope as js

from . import jscope_, tensorflow1
from .outcome import Outcome
from .tensorflow1 import tf


@dataclass(frozen=True)
class Deviation:
    """A row of the table, and a function that checks it."""

    what: str
    tf: str
    js: str
    why: str
    check: Callable[[], None]


DEVIATIONS: dict[str, Deviation] = {}


def deviates(what: str, *, tf: str, js: str, why: str) -> Callable[[Any], Any]:
    """Have a function be the check of a row."""

    def register(check: Callable[[], None]) -> Callable[[], None]:
        DEVIATIONS[check.__name__] = Deviation(what, tf, js, why, check)
        return check

    return register


def both(program: Any) -> tuple[Outcome, Outcome, Outcome]:
    """What TensorFlow did, what jscope did declaring, and bound."""
    return (tensorflow1.run(program), *jscope_.run(program, again=True))


def texts(outcome: Outcome) -> list[str | None]:
    """How each attempt ended, and at last the program: the first sentence of the error."""
    return [None if f is None else f.text.partition(". ")[0] for f in outcome.failures]


# 1. Names.


@deviates(
    "`W` beside `w`",
    tf="`W` becomes `W_1`: names of operations are unique regardless of case",
    js="two variables",
    why="how one layer is spelled changed another's key in checkpoints",
)
def case():
    def program(t):
        t.get("w", (2,))
        t.get("W", (2,))

    theirs, ours, _ = both(program)
    assert theirs.names == ["w", "W_1"]
    assert ours.names == ["w", "W"]


@deviates(
    'a scope `"a/"`, or `""` in a scope',
    tf="variables `a//w`",
    js="an error",
    why="an accident of joining strings",
)
def empty_components():
    def program(t):
        def slash():
            with t.scope("a/"):
                t.get("w", (2,))

        def nothing():
            with t.scope("b"), t.scope(""):
                t.get("w", (2,))

        t.attempt(slash)
        t.attempt(nothing)

    theirs, ours, bound = both(program)
    assert theirs.names == ["a//w", "b//w"]
    for mine in (ours, bound):
        slash, nothing, _ = texts(mine)
        assert slash == "'a/' is not a legal name: it has a trailing '/'"
        assert nothing == "A variable name can't be empty, got ''."


@deviates(
    'the root, as `variable_scope("", ...)`',
    tf="is entered",
    js="an error: write `scope.variable_scope(scope, ...)`",
    why="inside a transform every scope begins a new path, and the root can't be told from others",
)
def the_root_by_name():
    def program(t):
        with t.scope("", initializer=t.ones):
            t.get("w", (2,))

    theirs, ours, _ = both(program)
    assert theirs.names == ["w"]
    assert texts(ours) == ["A variable name can't be empty, got ''."]


@deviates(
    "`get_variable(None)`",
    tf="makes a variable `Variable`",
    js="an error",
    why="an accident",
)
def no_name():
    def program(t):
        t.get(None, (2,))

    theirs, ours, _ = both(program)
    assert theirs.names == ["Variable"]
    assert texts(ours) == ["A variable name must be a string, got None of type NoneType."]


@deviates(
    "a scope `_a` at the root",
    tf="is refused when it is entered",
    js="is refused when it creates a variable",
    why="a scope doesn't know what it will be given to: `_a` is legal below the root",
)
def an_illegal_scope():
    def program(t):
        with t.scope("_a") as a:
            t.note(a.name)
            t.get("w", (2,))

    theirs, ours, _ = both(program)
    assert theirs.failures[-1].said[1] == ("_a",)
    assert theirs.notes == []
    assert texts(ours) == ["'_a/w' is not a legal name at the root: it begins with '_'"]
    assert ours.notes == [("_a",)]


@deviates(
    "`tf.Variable(name=...)` twice",
    tf="`v` and `v_1`",
    js="there is `get_variable` alone, and a second `v` is an error",
    why="parameters were duplicated by mistake",
)
def names_made_unique():
    with tf.Graph().as_default():
        theirs = [tf.Variable(1.0, name="v").op.name for _ in range(2)]
    assert theirs == ["v", "v_1"]

    def model(scope):
        scope.get_variable("v", initializer=1.0)
        scope.get_variable("v", initializer=1.0)

    with pytest.raises(js.VariableExistsError, match="Variable v already exists"):
        js.declare(model)()


# 2. Sharing.


@deviates(
    "sharing a variable without saying a dtype",
    tf="it must be float32",
    js="the dtype is not checked",
    why="an int32 variable was shared only where `dtype=` was repeated",
)
def dtype_unsaid():
    def program(t):
        with t.scope("a", reuse=t.AUTO):
            t.get("w", (2,), dtype="int32")
            t.get("w", (2,))

    theirs, ours, bound = both(program)
    (text,) = texts(theirs)
    assert "specified dtype float32 and found dtype int32" in text
    for mine in (ours, bound):
        assert texts(mine) == [None]
        assert [dtype for _, dtype in mine.returned] == ["int32", "int32"]


@deviates(
    "sharing a variable with an initial value of another shape",
    tf="the value is ignored",
    js="an error",
    why="it is a contradiction",
)
def value_of_another_shape():
    def program(t):
        with t.scope("a", reuse=t.AUTO):
            t.get("w", (3,))
            t.get("w", initializer=np.ones(5, np.float32))

    theirs, ours, bound = both(program)
    assert [shape for shape, _ in theirs.returned] == [(3,), (3,)]
    for mine in (ours, bound):
        assert "specified shape (5,) and found shape (3,)" in texts(mine)[-1]


@deviates(
    "`reuse=True`, before the variable is created",
    tf="an error",
    js="an error while declaring; a bound scope has all variables from the beginning",
    why="applying a model creates nothing, so order doesn't count",
)
def reuse_before_creation():
    def program(t):
        def early():
            with t.scope("a", reuse=True):
                t.get("w", (2,))

        t.attempt(early)
        with t.scope("a", reuse=t.AUTO):
            t.get("w", (2,))

    theirs, ours, bound = both(program)
    for out in (theirs, ours):
        assert texts(out)[0].startswith("Variable a/w does not exist")
    assert texts(bound) == [None, None]


@deviates(
    "a default name, when the model runs again",
    tf="goes on counting, at the root: `conv`, then `conv_1`",
    js="`conv` each time: counting begins with the scope that the model is given",
    why="a model applied twice is the same model",
)
def default_names_again():
    def model(t):
        with t.scope(None, "conv"):
            t.get("w", (2,))

    theirs = tensorflow1.run(lambda t: [model(t), model(t)])
    assert theirs.names == ["conv/w", "conv_1/w"]

    def ours(scope):
        return scope.variable_scope(None, "conv").get_variable("w", (2,))

    variables = js.init(ours)(jax.random.key(0))
    assert list(variables) == ["conv/w"]
    for _ in range(2):
        np.testing.assert_array_equal(ours(js.Scope(variables)), variables["conv/w"])


@deviates(
    "a default name in `jax.jit` and other transforms",
    tf="there are none",
    js="an error",
    why="JAX runs a body once for equal calls, which would silently share one name",
)
def default_names_in_transforms():
    def model(scope):
        return jax.jit(lambda s: s.variable_scope(None, "conv").get_variable("w", (2,)))(scope)

    with pytest.raises(js.ScopeError, match="The default name 'conv' was asked for in the scope"):
        js.declare(model)()


# 3. Scopes and variables are values.


@deviates(
    "`reuse_variables()`, `set_initializer(f)` and the like",
    tf="change the scope, for all who hold it",
    js="give another scope",
    why="what a scope means doesn't depend on who had it before",
)
def setters():
    def program(t):
        with t.scope("a") as a:
            t.reuse_variables()
            t.note(t.current().reuse, a.reuse)

    theirs, ours, bound = both(program)
    assert theirs.notes == [(True, True)]
    assert ours.notes == bound.notes == [(True, False)]


@deviates(
    "scopes that are not left in order",
    tf="`Improper nesting of variable_scope.`",
    js="nothing is left: `with` changes nothing",
    why="there is no current scope",
)
def nesting():
    def opened(scope):
        a, b = scope("a"), scope("b")
        a.__enter__()
        b.__enter__()
        a.__exit__(None, None, None)

    with tf.Graph().as_default(), pytest.raises(RuntimeError, match="Improper nesting"):
        opened(tf.variable_scope)
    opened(js.Scope({}).variable_scope)


@deviates(
    "an initial value of a random initializer",
    tf="depends on the order in which variables are created",
    js="depends on the variable's name",
    why="inserting a layer changes no other",
)
def order_of_creation():
    def theirs(order):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            found = {name: tf.get_variable(name, (4,)) for name in order}
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                return session.run(found)

    def ours(order):
        return js.init(lambda s: [s.get_variable(n, (4,)) for n in order])(jax.random.key(1))

    assert np.array_equal(theirs("ab")["a"], theirs("ba")["b"])
    assert not np.array_equal(theirs("ab")["a"], theirs("ba")["a"])
    assert not np.array_equal(ours("ab")["a"], ours("ba")["b"])
    assert ours("ab") == ours("ba")


@deviates(
    "`np.float64` and `np.int64` values",
    tf="make float64 and int64 variables",
    js="float32 and int32, unless `jax_enable_x64` is on",
    why="JAX's rule for all arrays",
)
def wide_values():
    def program(t):
        t.get("f", initializer=np.float64(3))
        t.get("i", initializer=np.array([1, 2], np.int64))

    theirs, ours, _ = both(program)
    assert [dtype for _, dtype in theirs.returned] == ["float64", "int64"]
    assert [dtype for _, dtype in ours.returned] == ["float32", "int32"]


# 4. Arguments.


@deviates(
    "`caching_device`, `use_resource`, `synchronization`, `aggregation`",
    tf="say how a variable is read and updated on devices",
    js="errors, which say what takes their place",
    why="a variable is an array; where it is, its sharding says",
)
def refused_arguments():
    said = {
        "caching_device": "/cpu:0",
        "use_resource": True,
        "synchronization": "on read",
        "aggregation": "mean",
    }
    for name, value in said.items():
        with pytest.raises(js.ScopeError, match=rf"was passed {name}=.*Leave {name}= out"):
            js.Scope({}).get_variable("w", (2,), **{name: value})


@deviates(
    "a partitioner",
    tf="`f(shape, dtype)` cuts a variable into `w/part_0`, `w/part_1`, ...",
    js="`f(name, shape, dtype)` says how it is sharded; it is one array, `w`",
    why="arrays are sharded over a mesh, and keep their names",
)
def partitioners():
    with tf.Graph().as_default():
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
            tf.get_variable("w", (4, 3))
        theirs = [v.op.name for v in tf.global_variables()]
    assert theirs == ["w/part_0", "w/part_1"]

    def model(scope):
        split = js.sharding.fixed_size_partitioner(2, mesh_axis="model")
        return scope.variable_scope(scope, partitioner=split).get_variable("w", (4, 3))

    spec = js.declare(model)()["w"]
    assert spec.shape == (4, 3)
    assert spec.sharding == jax.sharding.PartitionSpec("model")


@deviates(
    "an initializer without arguments, and a dtype",
    tf="the dtype is not looked at",
    js="it must be the value's",
    why="nothing is ignored that was said",
)
def no_arguments_and_a_dtype():
    def program(t):
        t.get("w", dtype="int32", initializer=lambda: np.ones(2, np.float32))

    theirs, ours, _ = both(program)
    assert [dtype for _, dtype in theirs.returned] == ["float32"]
    assert "don't match" in texts(ours)[0]


# 5. Collections.


@deviates(
    '`trainable_variables("foo")`',
    tf="a regular expression: finds `foo_1/w` too",
    js="a scope: finds `foo/...`; a compiled regular expression is one",
    why="a scope's name is not a pattern",
)
def filters():
    def program(t):
        for name in ("foo", "foo_1"):
            with t.scope(name):
                t.get("w", (2,))

    with tf.Graph().as_default():
        program(tensorflow1.TensorFlow(use_resource=False))
        theirs = [v.op.name for v in tf.trainable_variables("foo")]
    assert theirs == ["foo/w", "foo_1/w"]

    def model(scope):
        for name in ("foo", "foo_1"):
            (scope / name).get_variable("w", (2,))

    assert js.declare(model)().trainable_variables("foo") == ("foo/w",)
