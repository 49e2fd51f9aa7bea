"""bfloat16, x64, schedules, BERT's AdamW, LazyAdam and clipping, against TensorFlow or formulas."""

import os
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import jscope as js
from jscope.tf1 import train

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow.compat.v1 as tf

RANDOM = np.random.default_rng(0)
GRADIENTS = RANDOM.normal(size=(40, 4, 3))
FIRST = RANDOM.normal(size=(4, 3))


def by_tensorflow(make, dtype, steps, gradients=GRADIENTS):
    """Every variable by name, after each number of steps in ``steps``."""
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        w = tf.get_variable("w", initializer=tf.constant(FIRST, dtype))
        given = tf.placeholder(dtype, (4, 3))
        update = make(step).apply_gradients([(given, w)], step)
        session.run(tf.global_variables_initializer())
        for t in range(steps):
            session.run(update, {given: gradients[t].astype(dtype.as_numpy_dtype)})
        return session.run({v.op.name: v for v in tf.global_variables()})


def by_jscope(optimizer, dtype, steps, gradients=GRADIENTS):
    params = js.VarTree({"w": jnp.asarray(FIRST, dtype)})
    opt_state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for t in range(steps):
        changes, opt_state = update(
            js.VarTree({"w": jnp.asarray(gradients[t], dtype)}), opt_state, params
        )
        params = optax.apply_updates(params, changes)
    return dict(params) | dict(train.to_slots(optimizer, opt_state))


def assert_close(ours, theirs, rtol):
    assert sorted(ours) == sorted(set(theirs) - {"global_step"})
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype, name
        expected = theirs[name].astype(np.float64)
        off = np.max(np.abs(np.asarray(value, np.float64) - expected)) / np.max(np.abs(expected))
        assert off <= rtol, (name, off)


OPTIMIZERS = {
    "Adam": lambda t: t.AdamOptimizer(0.01),
    "momentum": lambda t: t.MomentumOptimizer(0.01, 0.9),
    "Adagrad": lambda t: t.AdagradOptimizer(0.1),
    "Adadelta": lambda t: t.AdadeltaOptimizer(1.0),
    "RMSProp": lambda t: t.RMSPropOptimizer(0.01, momentum=0.5),
    "Ftrl": lambda t: t.FtrlOptimizer(0.1, l1_regularization_strength=0.01),
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_float64_under_x64_is_tensorflow_s_with_the_same_float32_numbers(case):
    theirs = by_tensorflow(lambda step: OPTIMIZERS[case](tf.train), tf.float64, 40)
    with jax.enable_x64(True):
        ours = by_jscope(OPTIMIZERS[case](train), np.float64, 40)
    # A rate of 0.01 that is not float32 first would be off by 2e-8.
    powers = {name for name in ours if name.endswith("_power")}
    assert all(ours[name].dtype == np.float32 for name in powers)
    rest = {n: v for n, v in ours.items() if n not in powers}
    assert_close(rest, {n: v for n, v in theirs.items() if n not in powers}, 1e-11)
    for name in powers:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_bfloat16_adam_is_tensorflow_s_with_betas_that_it_can_hold():
    make = {"learning_rate": 0.01, "beta1": 0.875, "beta2": 0.9375, "epsilon": 1e-3}
    theirs = by_tensorflow(lambda step: tf.train.AdamOptimizer(**make), tf.bfloat16, 20)
    ours = by_jscope(train.AdamOptimizer(**make), ml_dtypes.bfloat16, 20)
    assert ours["w/Adam"].dtype == ml_dtypes.bfloat16
    assert_close(ours, theirs, 2e-2)  # a unit in bfloat16's last place is 0.8 %


def test_in_bfloat16_the_default_beta2_is_one_in_both():
    theirs = by_tensorflow(lambda step: tf.train.AdamOptimizer(), tf.bfloat16, 1)
    ours = by_jscope(train.AdamOptimizer(), ml_dtypes.bfloat16, 1)
    assert not np.any(theirs["w/Adam_1"])
    assert not np.any(ours["w/Adam_1"])
    np.testing.assert_array_equal(ours["w"], theirs["w"])


def test_a_schedule_gets_the_step_before_it_is_counted_as_in_tensorflow():
    theirs = by_tensorflow(
        lambda step: tf.train.AdamOptimizer(tf.train.exponential_decay(0.1, step, 5, 0.5, True)),
        tf.float32,
        17,
    )
    rate = train.exponential_decay(0.1, None, 5, 0.5, True)
    assert_close(by_jscope(train.AdamOptimizer(rate), np.float32, 17), theirs, 1e-6)


def test_a_step_given_to_update_is_what_a_schedule_gets():
    optimizer = train.GradientDescentOptimizer(lambda step: 0.5 * step.astype(np.float32))
    params = {"w": jnp.zeros(2)}
    updates, state = optimizer.update(
        {"w": jnp.ones(2)}, optimizer.init(params), params, global_step=jnp.int32(3)
    )
    np.testing.assert_array_equal(updates["w"], [-1.5, -1.5])
    assert int(state.step) == 1


# What TensorFlow no longer has: by the formulas of its sources.


@pytest.mark.parametrize("excluded", [["LayerNorm", "bias"], "**/bias", re.compile("bias$")])
def test_bert_s_adamw_is_its_formula_with_decay_but_where_it_is_excluded(excluded):
    optimizer = train.AdamWeightDecayOptimizer(0.01, 0.1, exclude_from_weight_decay=excluded)
    values = {"dense/kernel": FIRST, "dense/bias": FIRST[0], "LayerNorm/gamma": FIRST[1]}
    params = js.VarTree({n: jnp.asarray(v, np.float32) for n, v in values.items()})
    opt_state = optimizer.init(params)
    m = {n: np.zeros_like(v) for n, v in values.items()}
    v = {n: np.zeros_like(v) for n, v in values.items()}
    w = dict(values)
    update = jax.jit(optimizer.update)
    for t in range(20):
        rows = {"dense/kernel": GRADIENTS[t], "dense/bias": GRADIENTS[t, 0]}
        rows["LayerNorm/gamma"] = GRADIENTS[t, 1]
        for name, g in rows.items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g * g
            step = m[name] / (np.sqrt(v[name]) + 1e-6)
            is_excluded = name == "dense/bias" or (name[0] == "L" and isinstance(excluded, list))
            w[name] = w[name] - 0.01 * (step + (0 if is_excluded else 0.1 * w[name]))
        gradients = js.VarTree({n: jnp.asarray(g, np.float32) for n, g in rows.items()})
        changes, opt_state = update(gradients, opt_state, params)
        params = optax.apply_updates(params, changes)
    for name, value in w.items():
        np.testing.assert_allclose(params[name], value, rtol=2e-5, atol=1e-6)
    assert sorted(train.to_slots(optimizer, opt_state)) == sorted(
        f"{name}/{slot}" for name in values for slot in ("adam_m", "adam_v")
    )


def test_lazy_adam_changes_only_the_rows_that_are_there():
    table, ids = np.asarray(FIRST, np.float32), np.array([2, 0, 2])
    optimizer = train.LazyAdamOptimizer(0.1, epsilon=1e-3)
    params = js.VarTree({"w": jnp.asarray(table)})
    opt_state = optimizer.init(params)
    w, m, v = table.astype(np.float64), np.zeros((4, 3)), np.zeros((4, 3))
    for t in range(1, 6):
        rows = GRADIENTS[t, :3].astype(np.float32)
        for i in {0, 2}:
            g = rows[ids == i].astype(np.float64).sum(0)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            w[i] -= rate * m[i] / (np.sqrt(v[i]) + 1e-3)
        slices = train.IndexedSlices(rows, ids, (4, 3))
        changes, opt_state = jax.jit(optimizer.update)(js.VarTree({"w": slices}), opt_state, params)
        params = optax.apply_updates(params, changes)
    np.testing.assert_allclose(params["w"], w, rtol=1e-5)
    np.testing.assert_array_equal(params["w"][jnp.array([1, 3])], table[[1, 3]])
    np.testing.assert_allclose(opt_state.slots["m"]["w"], m, rtol=1e-5)


@pytest.mark.parametrize("limit", [0.5, 100.0])
@pytest.mark.parametrize("special", [1.0, np.inf, np.nan])
def test_clipping_by_the_global_norm_is_tensorflow_s(limit, special):
    dense = np.array([[3.0, -4.0], [special, 2.0]], np.float32)
    rows, ids = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.array([1, 1])
    with tf.Graph().as_default(), tf.Session() as session:
        slices = tf.IndexedSlices(tf.constant(rows), tf.constant(ids), (3, 2))
        clipped, norm = tf.clip_by_global_norm([tf.constant(dense), slices], limit)
        theirs = session.run([clipped[0], clipped[1].values, norm])
    gradients = {"d": jnp.asarray(dense), "s": train.IndexedSlices(rows, ids, (3, 2))}
    ours, norm = jax.jit(train.clip_by_global_norm)(gradients, limit)
    assert isinstance(ours["s"], train.IndexedSlices)
    for mine, their in zip((ours["d"], ours["s"].values, norm), theirs, strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-6)
