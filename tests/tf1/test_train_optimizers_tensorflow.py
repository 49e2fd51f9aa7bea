"""Each optimizer against TensorFlow's, over 200 steps of the same gradients."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jscope as js
from jscope.tf1 import train

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf

STEPS = 200
CASES = {
    "gradient descent": ("GradientDescentOptimizer", (0.1,), {}),
    "momentum": ("MomentumOptimizer", (0.1, 0.9), {}),
    "Nesterov": ("MomentumOptimizer", (0.1, 0.9), {"use_nesterov": True}),
    "Adam": ("AdamOptimizer", (), {}),
    "Adam, large epsilon": ("AdamOptimizer", (0.01, 0.5, 0.9, 0.1), {}),
    "Adagrad": ("AdagradOptimizer", (0.1,), {}),
    "Adagrad, from 1": ("AdagradOptimizer", (0.1, 1.0), {}),
    "RMSProp": ("RMSPropOptimizer", (0.01,), {}),
    "RMSProp, momentum": ("RMSPropOptimizer", (0.01, 0.8, 0.5, 1e-3), {}),
    "RMSProp, centered": ("RMSPropOptimizer", (0.01, 0.9, 0.5, 1e-3), {"centered": True}),
    "Adadelta": ("AdadeltaOptimizer", (1.0,), {}),
    "Ftrl": ("FtrlOptimizer", (0.1,), {}),
    "Ftrl, l1 and l2": ("FtrlOptimizer", (0.1, -0.5, 0.2, 0.05, 0.3), {}),
    "Ftrl, power": ("FtrlOptimizer", (0.1, -0.7, 0.2, 0.01, 0.01), {}),
    "Ftrl, fixed rate": ("FtrlOptimizer", (0.1, 0.0), {}),
    "Ftrl, shrinkage and beta": (
        "FtrlOptimizer",
        (0.1,),
        {"l2_shrinkage_regularization_strength": 0.1, "beta": 0.5},
    ),
}
SHAPES = {"dense/w": (3, 4), "dense/b": (4,), "table": (6, 2)}
COUNT = 5  # of rows in a sparse gradient, with duplicates


@pytest.fixture(scope="module")
def data():
    """Initial values; gradients of all steps; and sparse ones of ``table``."""
    random = np.random.default_rng(0)
    values = {n: random.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
    gradients = {
        n: (random.normal(size=(STEPS, *s)) * 0.5 + 0.1).astype(np.float32)
        for n, s in SHAPES.items()
    }
    rows = random.normal(size=(STEPS, COUNT, 2)).astype(np.float32)
    ids = random.integers(0, 5, (STEPS, COUNT)).astype(np.int32)  # row 5 never occurs
    assert all(len(set(row)) < COUNT for row in ids[:50:7])
    return values, gradients, rows, ids


def by_tensorflow(make, data, sparse, dtype=tf.float32, steps=STEPS):
    """The variables and slots, by name, after all steps."""
    values, gradients, rows, ids = data
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {
            n: tf.get_variable(n, initializer=tf.constant(v, dtype)) for n, v in values.items()
        }
        feeds = {n: tf.placeholder(dtype, v.shape) for n, v in values.items()}
        given = dict(feeds)
        if sparse:
            feeds["table"] = tf.placeholder(dtype, (COUNT, 2))
            feeds["ids"] = tf.placeholder(tf.int32, (COUNT,))
            given["table"] = tf.IndexedSlices(feeds["table"], feeds["ids"], (6, 2))
        update = make().apply_gradients([(given[n], v) for n, v in variables.items()])
        session.run(tf.global_variables_initializer())
        run = session.make_callable(update, feed_list=list(feeds.values()))
        for t in range(steps):
            step = {n: g[t] for n, g in gradients.items()}
            if sparse:
                step |= {"table": rows[t], "ids": ids[t]}
            run(*(step[n].astype(feeds[n].dtype.as_numpy_dtype) for n in feeds))
        return session.run({v.op.name: v for v in tf.global_variables()})


def by_jscope(optimizer, data, sparse, dtype=np.float32, steps=STEPS):
    """The parameters and the state after all steps."""
    values, gradients, rows, ids = data
    params = js.VarTree({n: jnp.asarray(v, dtype) for n, v in values.items()})

    @jax.jit
    def run(params, opt_state, gradients, rows, ids):
        if sparse:
            gradients |= {"table": train.IndexedSlices(rows, ids, (6, 2))}
        updates, opt_state = optimizer.update(js.VarTree(gradients), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = optimizer.init(params)
    for t in range(steps):
        step = {n: jnp.asarray(g[t], dtype) for n, g in gradients.items()}
        given = params, opt_state, step, jnp.asarray(rows[t], dtype), ids[t]
        if t == 0:
            with jax.checking_leaks():
                jax.eval_shape(run, *given)
        params, opt_state = run(*given)
    return params, opt_state


def off(ours, theirs):
    """The largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.max(np.abs(ours - theirs)) / max(np.max(np.abs(theirs)), 1e-30)


def assert_same(optimizer, params, opt_state, theirs, bound):
    named = dict(params)
    for position, slot in enumerate(optimizer.slots):
        ending = f"_{position}" if position else ""
        for name in params:
            named[f"{name}/{optimizer.name}{ending}"] = opt_state.slots[slot.key][name]
    named |= opt_state.powers
    assert sorted(named) == sorted(theirs)
    errors = {name: off(value, theirs[name]) for name, value in named.items()}
    # Adadelta's and Ftrl's slots feed back, and collect the last bits of 200 steps.
    assert max(errors[name] for name in params) <= bound, errors
    assert max(errors.values()) <= 2 * bound, errors


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("case", CASES)
def test_200_steps_give_tensorflow_s_variables_and_slots(case, sparse, data):
    name, args, kwargs = CASES[case]
    theirs = by_tensorflow(lambda: getattr(tf.train, name)(*args, **kwargs), data, sparse)
    optimizer = getattr(train, name)(*args, **kwargs)
    params, opt_state = by_jscope(optimizer, data, sparse)
    assert_same(optimizer, params, opt_state, theirs, 1e-6)
    assert int(opt_state.step) == STEPS
