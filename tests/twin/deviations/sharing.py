"""Sharing: what is checked, and when."""

import jax
import numpy as np
import pytest

import jscope as js

from .. import tensorflow1
from . import both, deviates, texts


@deviates(
    "sharing a variable without specifying a dtype",
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
    why="the value contradicts the variable",
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
    why="applying a model creates nothing, so the order doesn't matter",
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
    tf="continues counting, at the root: `conv`, then `conv_1`",
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
    tf="has no transforms",
    js="an error",
    why="JAX runs a body once for equal calls, which would silently share one name",
)
def default_names_in_transforms():
    def model(scope):
        return jax.jit(lambda s: s.variable_scope(None, "conv").get_variable("w", (2,)))(scope)

    with pytest.raises(js.ScopeError, match="The default name 'conv' was requested in the scope"):
        js.declare(model)()
