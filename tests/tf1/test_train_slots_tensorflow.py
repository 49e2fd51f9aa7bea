"""The names of slots: exactly those of TensorFlow's program, wherever it calls ``minimize``."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope.tf1 import train

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf

PARAMS = js.VarTree({"m/w": jnp.ones(2), "v": jnp.ones(3)})


def loss(*variables):
    return tf.add_n([tf.reduce_sum(v) for v in variables])


def in_a_variable_scope(w, v):
    with tf.variable_scope("train"):
        tf.train.AdamOptimizer().minimize(loss(w, v))


def in_a_name_scope(w, v):
    with tf.name_scope("train"):
        tf.train.AdamOptimizer().minimize(loss(w, v))


def in_a_scope_entered_again(w, v):
    with tf.variable_scope("m"):
        tf.train.AdamOptimizer().minimize(loss(w, v))


def in_both(w, v):
    with tf.name_scope("a"), tf.variable_scope("b"):
        tf.train.AdamOptimizer().minimize(loss(w, v))


def two_of_the_same(w, v):
    for optimizer in (tf.train.AdamOptimizer(), tf.train.AdamOptimizer()):
        optimizer.minimize(loss(w, v))


def two_of_different(w, v):
    tf.train.AdamOptimizer().minimize(loss(w), var_list=[w])
    tf.train.AdamOptimizer().minimize(loss(v), var_list=[v])


def two_kinds_of_one_name(w, v):
    tf.train.AdamOptimizer().minimize(loss(w, v))
    tf.train.MomentumOptimizer(0.1, 0.9, name="Adam").minimize(loss(w, v))


def a_numbered_name_first(w, v):
    tf.train.AdamOptimizer(name="Adam_1").minimize(loss(w, v))
    tf.train.AdamOptimizer().minimize(loss(w, v))


def custom(w, v):
    tf.train.AdamOptimizer(name="My/Own").minimize(loss(w, v))


def root_and_scope_and_root(w, v):
    tf.train.AdamOptimizer().minimize(loss(w, v))
    with tf.variable_scope("u"):
        tf.train.AdamOptimizer().minimize(loss(w, v))
    tf.train.AdamOptimizer().minimize(loss(w, v))


def ftrl(w, v):
    tf.train.FtrlOptimizer(0.1, accum_name="acc").minimize(loss(w, v))


def centered(w, v):
    tf.train.RMSPropOptimizer(0.1, centered=True).minimize(loss(w, v))


Adam = train.AdamOptimizer
PROGRAMS = {
    in_a_variable_scope: Adam(scope="train"),
    in_a_name_scope: Adam(name_scope="train"),
    in_a_scope_entered_again: Adam(scope="m", name_scope="m_1"),
    in_both: Adam(scope="b", name_scope="a/b"),
    two_of_the_same: {"one": Adam(), "another": Adam()},
    two_of_different: ({"z": Adam(), "a": Adam()}, {"z": "m/w", "a": "v"}),
    two_kinds_of_one_name: {
        "adam": Adam(),
        "momentum": train.MomentumOptimizer(0.1, 0.9, name="Adam"),
    },
    a_numbered_name_first: {"first": Adam(name="Adam_1"), "second": Adam()},
    custom: Adam(name="My/Own"),
    root_and_scope_and_root: {"a": Adam(), "b": Adam(scope="u"), "c": Adam()},
    ftrl: train.FtrlOptimizer(0.1, accum_name="acc"),
    centered: train.RMSPropOptimizer(0.1, centered=True),
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_names_and_first_values_are_tensorflow_s(program):
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("m"):
            w = tf.get_variable("w", (2,))
        v = tf.get_variable("v", (3,))
        program(w, v)
        session.run(tf.global_variables_initializer())
        theirs = session.run({x.op.name: x for x in tf.global_variables()[2:]})
    optimizer = PROGRAMS[program]
    optimizer, which = optimizer if type(optimizer) is tuple else (optimizer, None)
    if isinstance(optimizer, dict):
        params = {k: js.select(PARAMS, which[k]) if which else PARAMS for k in optimizer}
        opt_state = {k: o.init(params[k]) for k, o in optimizer.items()}
    else:
        params, opt_state = PARAMS, optimizer.init(PARAMS)
    ours = train.to_slots(optimizer, opt_state)
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    # And back, from other values in every slot.
    changed = js.VarTree({n: value + np.float32(i) for i, (n, value) in enumerate(theirs.items())})
    back = train.from_slots(optimizer, changed | {"global_step": np.int64(7)}, params)
    assert train.to_slots(optimizer, back) == changed
    steps = [s.step for s in back.values()] if isinstance(back, dict) else [back.step]
    assert [int(step) for step in steps] == [7] * len(steps)
