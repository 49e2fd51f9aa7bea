"""Arguments, and what is declared of variables."""

import jax
import numpy as np
import pytest
import tensorflow

import jscope as js

from .. import tensorflow1
from ..tensorflow1 import tf
from . import both, deviates, texts


@deviates(
    "`caching_device`, `use_resource`, `synchronization`, `aggregation`",
    tf="specify how a variable is read and updated on devices",
    js="errors, which name the replacement",
    why="a variable is an array; its sharding specifies its placement",
)
def refused_arguments():
    given = {
        "caching_device": "/cpu:0",
        "use_resource": True,
        "synchronization": "on read",
        "aggregation": "mean",
    }
    for name, value in given.items():
        with pytest.raises(js.ScopeError, match=rf"was passed {name}=.*Leave {name}= out"):
            js.Scope({}).get_variable("w", (2,), **{name: value})


@deviates(
    "a partitioner",
    tf="`f(shape, dtype)` divides a variable into `w/part_0`, `w/part_1`, ...",
    js="`f(name, shape, dtype)` specifies how it is sharded; it is one array, `w`",
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
    tf="the dtype is ignored",
    js="it must be the value's",
    why="no argument is ignored",
)
def no_arguments_and_a_dtype():
    def program(t):
        t.get("w", dtype="int32", initializer=lambda: np.ones(2, np.float32))

    theirs, ours, _ = both(program)
    assert [dtype for _, dtype in theirs.returned] == ["float32"]
    assert "don't match" in texts(ours)[0]


@deviates(
    '`trainable_variables("foo")`',
    tf="a regular expression: finds `foo_1/w` too",
    js="a scope: finds `foo/...`; a compiled regular expression is matched",
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


@deviates(
    "`init.constant(v)` without a shape",
    tf="an error",
    js="the value's own shape and dtype",
    why="both are known from the value",
)
def constants_without_a_shape():
    def program(t):
        t.get("w", initializer=t.constant([1, 2]))

    theirs, ours, _ = both(program)
    assert "`shape` should be fully defined" in theirs.failures[0].text
    assert ours.created == [("w", (2,), "int32", True)]


@deviates(
    "an initializer's class",
    tf="is instantiated",
    js="an error that contains the call to write",
    why="arguments are not converted",
)
def classes_of_initializers():
    with tf.Graph().as_default():
        assert tf.get_variable("w", (2,), initializer=tf.random_normal_initializer).shape == (2,)
    with pytest.raises(js.InitializerError, match=r"write init\.random_normal\(\)"):
        js.declare(lambda s: s.get_variable("w", (2,), initializer=js.initializers.random_normal))()


@deviates(
    "`validate_shape=False`",
    tf="allows an initial value of unknown shape; the shape is still checked when sharing",
    js="the shape isn't checked when sharing",
    why="all shapes are known when JAX traces",
)
def unvalidated_shapes():
    def program(t):
        with t.scope("a", reuse=t.AUTO):
            t.get("w", (2,))
            t.get("w", (3,), validate_shape=False)

    theirs, ours, bound = both(program)
    assert "specified shape (3,) and found shape (2,)" in texts(theirs)[0]
    for mine in (ours, bound):
        assert [shape for shape, _ in mine.returned] == [(2,), (2,)]


@deviates(
    "norms, in constraints",
    tf="1e-7 is added to them",
    js="a value that satisfies a constraint is not changed",
    why="weights within a bound shrank with each step",
)
def norms():
    value = np.array([[0.5], [0.0]], np.float32)
    theirs = tensorflow.keras.constraints.MaxNorm(1.0, axis=0)(value)
    ours = js.constraints.max_norm(1.0)(value)
    assert float(theirs[0, 0]) < 0.5
    assert float(ours[0, 0]) == 0.5
