"""Scopes and variables are values."""

import tempfile
import threading

import jax
import numpy as np
import pytest

import jscope as js
from jscope.interop import tensorflow

from ..tensorflow1 import tf
from . import both, deviates, texts


@deviates(
    "`reuse_variables()`, `set_initializer(f)` and the like",
    tf="change the scope, for all code that uses it",
    js="return another scope",
    why="a scope doesn't depend on the code that used it before",
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
    "scopes that are not exited in order",
    tf="`Improper nesting of variable_scope.`",
    js="no effect: `with` changes nothing on exit",
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
    tf="create float64 and int64 variables",
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


@deviates(
    "Python's numbers as values, with `jax_enable_x64`",
    tf="create int32, float32 and complex128 variables; `4` with `dtype=int64` is an error",
    js="int64, float64 and complex128, or the `dtype=` of 32 or 64 bits",
    why="JAX's rule; without x64 they are int32, float32 and complex64",
)
def numbers_of_python():
    def program(t):
        t.get("f", initializer=0.5)
        t.get("i", initializer=[1, 2])
        t.get("n", initializer=4, dtype="int32")
        t.attempt(lambda: t.get("s", initializer=4, dtype="int64"))

    with jax.enable_x64(True):
        theirs, ours, _ = both(program)
    assert [dtype for _, dtype in theirs.returned] == ["float32", "int32", "int32"]
    assert "don't match" in texts(theirs)[0]
    assert [dtype for _, dtype in ours.returned] == ["float64", "int64", "int32", "int64"]
    assert not any(ours.failures)
    _, ours, _ = both(program)
    assert [dtype for _, dtype in ours.returned] == ["float32", "int32", "int32"]


@deviates(
    "another thread",
    tf="begins at the root",
    js="has the scope that you pass to it",
    why="there is no current scope",
)
def threads():
    found = []

    def look(graph):
        with graph.as_default():
            found.append(tf.get_variable_scope().name)

    with tf.Graph().as_default() as graph, tf.variable_scope("a"):
        thread = threading.Thread(target=look, args=[graph])
        thread.start()
        thread.join()
    assert found == [""]

    a = js.Scope({"a/w": 1.0}) / "a"
    thread = threading.Thread(target=lambda: found.append(a.get_variable("w")))
    thread.start()
    thread.join()
    assert found == ["", 1.0]


@deviates(
    "`assign` of 300 to an int8 variable",
    tf="wraps around, to 44",
    js="an error",
    why="nothing is cast silently",
)
def assigned_out_of_range():
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.get_variable("v", initializer=np.int8(1))
        session.run(v.initializer)
        assert session.run(tf.assign(v, tf.cast(300, tf.int8))) == 44
    with pytest.raises(js.DtypeMismatchError, match="can't hold the value 300"):
        js.assign({"v": np.int8(1)}, "v", 300)


@deviates(
    "a traced index out of range, in `scatter_*`",
    tf="an error on CPUs, dropped on GPUs",
    js="dropped; a concrete index is an error",
    why="a compiled program can't raise",
)
def scattered_out_of_range():
    with tf.Graph().as_default(), tf.Session() as session:
        v = tf.get_variable("v", initializer=np.zeros(2, np.float32), use_resource=False)
        session.run(v.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices.* = 5 is not in"):
            session.run(tf.scatter_add(v, [5], [1.0]))
    tree, one = {"v": np.zeros(2, np.float32)}, np.ones(1, np.float32)
    with pytest.raises(js.IndexOutOfRangeError):
        js.scatter_add(tree, "v", np.array([5]), one)
    dropped = jax.jit(lambda i: js.scatter_add(tree, "v", i, one)["v"])(np.array([5]))
    assert dropped.tolist() == [0, 0]


@deviates(
    "a restore that fails: one shape of several differs",
    tf="may have assigned the others",
    js="all differences are in one error, and nothing is restored",
    why="a partly restored model gives wrong results",
)
def restored_in_part():
    with tempfile.TemporaryDirectory() as folder:
        with tf.Graph().as_default(), tf.Session() as session:
            for name in "ab":
                tf.get_variable(name, initializer=np.ones(2, np.float32), use_resource=False)
            session.run(tf.global_variables_initializer())
            path = tf.train.Saver().save(session, f"{folder}/model.ckpt")
        with tf.Graph().as_default(), tf.Session() as session:
            tf.get_variable("a", initializer=np.zeros(3, np.float32), use_resource=False)
            b = tf.get_variable("b", initializer=np.zeros(2, np.float32), use_resource=False)
            session.run(tf.global_variables_initializer())
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"lhs shape= \[3\] rhs"):
                tf.train.Saver().restore(session, path)
            assert session.run(b).tolist() == [1, 1]
        target = {"a": np.zeros(3, np.float32), "b": np.zeros(2, np.float32)}
        with pytest.raises(js.TreeMismatchError, match=r"shape: 'a' is \(2,\) in the checkpoint"):
            tensorflow.restore(target, path)


@deviates(
    "moving averages that are created in a scope",
    tf="the scope's name is a prefix of theirs",
    js="`w`'s average is `w/ExponentialMovingAverage`",
    why="names in a checkpoint don't depend on the scope of the training code",
)
def averages_in_scopes():
    with tf.Graph().as_default():
        w = tf.get_variable("w", (2,))
        with tf.variable_scope("train"):
            ema = tf.train.ExponentialMovingAverage(0.9)
            ema.apply([w])
        assert ema.average_name(w) == "train/w/ExponentialMovingAverage"
    assert js.ExponentialMovingAverage(0.9).average_name("w") == "w/ExponentialMovingAverage"
