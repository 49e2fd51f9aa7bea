"""Names: how they are spelled, and when they are looked at."""

import pytest

import jscope as js

from ..tensorflow1 import tf
from . import both, deviates, texts


@deviates(
    "`W` beside `w`",
    tf="`W` becomes `W_1`: names of operations are unique regardless of case",
    js="two variables",
    why="the case of one layer's name changed another's name in checkpoints",
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
    why="in TF1 it is a side effect of joining strings",
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
    why="inside a transform every scope begins a new path, so the root can't be recognized",
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
    tf="creates a variable `Variable`",
    js="an error",
    why="a name is required",
)
def no_name():
    def program(t):
        t.get(None, (2,))

    theirs, ours, _ = both(program)
    assert theirs.names == ["Variable"]
    assert texts(ours) == ["A variable name must be a string, got None of type NoneType."]


@deviates(
    "a scope `_a` at the root",
    tf="is an error when it is entered",
    js="is an error when it creates a variable",
    why="a scope may be passed on before it is used: `_a` is legal below the root",
)
def an_illegal_scope():
    def program(t):
        with t.scope("_a") as a:
            t.note(a.name)
            t.get("w", (2,))

    theirs, ours, _ = both(program)
    assert theirs.failures[-1].matched[1] == ("_a",)
    assert theirs.notes == []
    assert texts(ours) == ["'_a/w' is not a legal name at the root: it begins with '_'"]
    assert ours.notes == [("_a",)]


@deviates(
    "`tf.Variable(name=...)` twice",
    tf="`v` and `v_1`",
    js="only `get_variable` exists, and a second `v` is an error",
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
