"""Moving averages: the formula, the names, trees in and out, the texts of errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jscope as js

SUFFIX = "ExponentialMovingAverage"


def values(length, dtype=np.float32):
    random = np.random.default_rng(0)
    return random.normal(size=(length, 3)).astype(dtype)


def averaged(ema, xs, numbers=None):
    """All averages of one variable, from its first value on."""
    averages = ema.init({"w": xs[0]})
    shown = [averages[f"w/{ema.name}"]]
    for i, x in enumerate(xs[1:]):
        n = None if numbers is None else numbers[i]
        averages = ema.apply(averages, {"w": x}, num_updates=n)
        shown.append(averages[f"w/{ema.name}"])
    return np.stack([np.asarray(a, np.float64) for a in shown])


def test_an_average_is_the_weighted_sum_of_all_values():
    xs = values(6)
    weights = np.array([0.9**5] + [0.1 * 0.9**i for i in (4, 3, 2, 1, 0)])
    expected = np.tensordot(weights, xs, 1)
    np.testing.assert_allclose(
        averaged(js.ExponentialMovingAverage(0.9), xs)[-1], expected, rtol=1e-5
    )


def test_num_updates_lowers_the_decay_of_early_updates():
    xs, numbers = values(4), (0, 7, 1_000_000)
    expected = xs[0].astype(np.float64)
    for x, n in zip(xs[1:], numbers, strict=True):
        d = min(0.9, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * x
    ema = js.ExponentialMovingAverage(0.9)
    np.testing.assert_allclose(averaged(ema, xs, numbers)[-1], expected, rtol=1e-5)
    traced = [jnp.int32(n) for n in numbers]
    np.testing.assert_array_equal(averaged(ema, xs, numbers), averaged(ema, xs, traced))


def test_a_debiased_average_divides_by_what_zero_took():
    xs = values(5)
    ema = js.ExponentialMovingAverage(0.75, zero_debias=True)
    averages = ema.init({"w": xs[0]})
    assert not any(np.any(np.asarray(value)) for value in averages.values())
    total = np.zeros(3)
    for t, x in enumerate(xs, start=1):
        averages = ema.apply(averages, {"w": x})
        total = 0.75 * total + 0.25 * x
        np.testing.assert_allclose(averages[f"w/{SUFFIX}"], total / (1 - 0.75**t), rtol=1e-5)
        np.testing.assert_allclose(averages[f"w/{SUFFIX}/biased"], total, rtol=1e-5)
        assert averages[f"w/{SUFFIX}/local_step"] == t


@pytest.mark.parametrize("zero_debias", [False, True])
def test_in_float32_it_is_optax_s(zero_debias):
    xs = values(8)
    ours = js.ExponentialMovingAverage(0.9, zero_debias=zero_debias)
    averages = ours.init({"w": xs[0]})
    theirs = optax.ema(0.9, debias=True) if zero_debias else None
    state = theirs.init(jnp.asarray(xs[0])) if theirs else jnp.asarray(xs[0])
    for x in map(jnp.asarray, xs):
        averages = ours.apply(averages, {"w": x})
        if theirs:
            with jax.numpy_dtype_promotion("standard"):
                shown, state = theirs.update(x, state)
        else:
            shown = state = optax.incremental_update(x, state, 0.1)
        np.testing.assert_allclose(ours.average(averages)["w"], shown, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_average_of_a_constant_is_the_constant_exactly_in_every_dtype(dtype):
    x = jnp.asarray([1.0, 0.1, -3.3], dtype)
    ema = js.ExponentialMovingAverage(0.999)
    averages = ema.init({"w": x})
    for _ in range(100):
        averages = ema.apply(averages, {"w": x})
    assert averages[f"w/{SUFFIX}"].dtype == dtype
    np.testing.assert_array_equal(averages[f"w/{SUFFIX}"], x)


def test_optax_s_average_of_a_constant_is_not_it_in_bfloat16():
    constant = average = jnp.linspace(1, 2, 57, dtype=jnp.bfloat16)
    for _ in range(200):
        average = optax.incremental_update(constant, average, 0.01)
    assert np.max(np.abs(np.float32(average) / np.float32(constant) - 1)) > 0.1


def test_a_debiased_average_counts_beyond_256_in_bfloat16():
    ema = js.ExponentialMovingAverage(0.999, zero_debias=True)
    x = {"loss": jnp.bfloat16(2.0)}

    def step(averages, _):
        return ema.apply(averages, x), None

    averages, _ = jax.lax.scan(step, ema.init(x), length=300)
    assert averages[f"loss/{SUFFIX}"].dtype == jnp.bfloat16
    assert averages[f"loss/{SUFFIX}/local_step"] == 300
    assert np.isfinite(np.float32(averages[f"loss/{SUFFIX}"]))


def test_names_are_tf1_s_and_may_be_others():
    params = {"dense/w": jnp.ones(2), "b": jnp.ones(())}
    ema = js.ExponentialMovingAverage(0.5)
    assert list(ema.init(params)) == [f"b/{SUFFIX}", f"dense/w/{SUFFIX}"]
    slow = js.ExponentialMovingAverage(0.5, name="slow")
    assert slow.average_name("dense/w") == "dense/w/slow"
    both = ema.init(params) | slow.init(params)
    assert sorted(slow.average(both | params)) == ["b", "dense/w"]
    debiased = js.ExponentialMovingAverage(0.5, zero_debias=True).init({"w": jnp.ones(2)})
    assert list(debiased) == [f"w/{SUFFIX}", f"w/{SUFFIX}/biased", f"w/{SUFFIX}/local_step"]


def test_nothing_given_is_changed_and_no_buffer_is_shared():
    params = js.VarTree({"w": jnp.ones(3)})
    ema = js.ExponentialMovingAverage(0.9)
    averages = ema.init(params)
    step = jax.jit(lambda p, a: ema.apply(a, p), donate_argnums=1)
    after = step(params | {"w": jnp.zeros(3)}, averages)
    np.testing.assert_array_equal(params["w"], np.ones(3))  # not donated with the averages
    np.testing.assert_allclose(after[f"w/{SUFFIX}"], 0.9, rtol=1e-6)


def test_jit_matches_eager_traces_once_and_leaks_nothing():
    ema = js.ExponentialMovingAverage(0.99, zero_debias=True)
    traces = []

    @jax.jit
    def step(averages, x, n):
        traces.append(1)
        return ema.apply(averages, {"w": x}, num_updates=n)

    jitted = eager = ema.init({"w": jnp.zeros(3)})
    with jax.checking_leaks():
        for n, x in enumerate(values(4)):
            jitted = step(jitted, x, jnp.int32(n))
            eager = ema.apply(eager, {"w": x}, num_updates=n)
    assert len(traces) == 1
    for name in eager:
        np.testing.assert_allclose(jitted[name], eager[name], rtol=1e-5)


def test_a_decay_that_changes_is_an_array_made_in_the_step():
    @jax.jit
    def step(averages, x, decay):
        return js.ExponentialMovingAverage(decay).apply(averages, {"w": x})

    averages = js.ExponentialMovingAverage(0.5).init({"w": jnp.zeros(())})
    averages = step(averages, jnp.ones(()), jnp.float32(0.75))
    np.testing.assert_allclose(averages[f"w/{SUFFIX}"], 0.25)


# Into parameters.


def model(scope, x):
    w = scope.get_variable("dense/w", (3, 2))
    scope.get_variable("dense/mean", (2,), trainable=False)
    scope.get_variable("step", (), jnp.int32, trainable=False)
    return x @ w


def test_variables_to_restore_reads_averages_into_parameters():
    declared = js.declare(model)(jnp.ones((1, 3)))
    ema = js.ExponentialMovingAverage(0.9)
    names = ema.variables_to_restore(declared)
    assert names == {
        f"dense/w/{SUFFIX}": "dense/w",
        "dense/mean": "dense/mean",
        "step": "step",
    }
    variables = declared.init(jax.random.key(0))
    params, state = declared.split(variables)
    averages = js.assign(ema.init(params), f"dense/w/{SUFFIX}", jnp.full((3, 2), 7.0))
    stored = params | state | averages
    restored = js.rename(js.select(stored, list(names)), names)
    declared.check(restored)
    assert restored == variables | {"dense/w": jnp.full((3, 2), 7.0)}
    assert restored == params | state | ema.average(stored)


def test_a_saver_restores_averages_into_parameters(tmp_path):
    declared = js.declare(model)(jnp.ones((1, 3)))
    ema = js.ExponentialMovingAverage(0.5)
    variables = declared.init(jax.random.key(0))
    params, state = declared.split(variables)
    averages = ema.apply(ema.init(params), params | {"dense/w": jnp.zeros((3, 2))})
    with js.Saver(tmp_path) as saver:
        saver.save(params | state | averages, 1)
        restored = saver.restore(declared, rename=ema.variables_to_restore(declared))
    assert restored == variables | {"dense/w": params["dense/w"] / 2}


def test_a_saver_restores_debiased_averages_and_leaves_what_debiases_them(tmp_path):
    declared = js.declare(model)(jnp.ones((1, 3)))
    ema = js.ExponentialMovingAverage(0.5, zero_debias=True)
    variables = declared.init(jax.random.key(0))
    params, state = declared.split(variables)
    averages = ema.apply(ema.init(params), params)
    stored = params | {"dense/w": jnp.zeros((3, 2))} | state | averages
    names = ema.variables_to_restore(declared)
    with js.Saver(tmp_path) as saver:
        saver.save(stored, 1)
        assert saver.restore(declared, rename=names) == variables
        below = {f"dense/w/{SUFFIX}/{what}" for what in ("biased", "local_step")}
        assert below < set(saver.report.ignored)
        assert saver.restore(stored) == stored
        # What else is below an average is unexpected, and so is half of the two.
        for lost in ("biased", "local_step"):
            saver.save(js.drop(stored, f"**/{lost}"), 2, overwrite=True)
            with pytest.raises(js.TreeMismatchError, match=r"unexpected: 'dense/w/(biased|local)"):
                saver.restore(declared, rename=names)
        saver.save(stored | {f"dense/w/{SUFFIX}/Adam": jnp.ones(2)}, 3)
        with pytest.raises(
            js.TreeMismatchError, match="1 difference:\n  unexpected: 'dense/w/Adam"
        ):
            saver.restore(declared, rename=names)
    assert js.Saver(tmp_path, names).restore(declared, 1) == variables


def test_debiased_averages_go_where_the_target_has_them(tmp_path):
    ema = js.ExponentialMovingAverage(0.5, zero_debias=True)
    averages = ema.apply(ema.init({"w": jnp.ones(2)}), {"w": jnp.ones(2)})
    moved = ema.apply(ema.init({"v": jnp.ones(2)}), {"v": jnp.ones(2)})
    with js.Saver(tmp_path) as saver:
        saver.save(averages, 1)
        assert saver.restore(moved, rename={f"w/{SUFFIX}": f"v/{SUFFIX}"}) == moved


def test_variables_to_restore_takes_a_selector_of_what_has_averages():
    declared = js.declare(model)(jnp.ones((1, 3)))
    names = js.ExponentialMovingAverage(0.9, name="a").variables_to_restore(declared, "dense/*")
    assert names == {"dense/w/a": "dense/w", "dense/mean/a": "dense/mean", "step": "step"}


# Errors.


def test_integers_have_no_average():
    ema = js.ExponentialMovingAverage(0.9)
    tree = {"w": jnp.ones(2), "step": jnp.int32(0), "done": jnp.array(False)}
    with pytest.raises(
        js.DtypeMismatchError,
        match=r"The variables must be half, float, or double: done, step \(the first is of bool\)",
    ) as caught:
        ema.init(tree)
    assert isinstance(caught.value, TypeError)  # TF's class
    assert "declared.split(variables)" in str(caught.value)
    with pytest.raises(js.DtypeMismatchError, match=r"or double: w \(the first is of list\)"):
        ema.apply({}, {"w": [1.0]})


def test_averages_of_another_tree_are_refused_with_all_differences():
    ema = js.ExponentialMovingAverage(0.9)
    averages = ema.init({"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)})
    tree = {"a": jnp.ones(3), "b": jnp.ones(2, jnp.float16), "d": jnp.ones(2)}
    with pytest.raises(js.TreeMismatchError) as caught:
        ema.apply(averages, tree)
    text = str(caught.value)
    assert "in 4 places" in text
    assert f"missing: 'd/{SUFFIX}' float32[2] is not in `averages`" in text
    assert f"unexpected: 'c/{SUFFIX}' float32[2] is in `averages`" in text
    assert f"shape: 'a/{SUFFIX}' is (2,) in `averages`, (3,) expected for `tree`" in text
    assert f"dtype: 'b/{SUFFIX}' is float32 in `averages`, float16 expected" in text
    assert "averages = ema.init(params)" in text


def test_a_tree_without_averages_says_so():
    with pytest.raises(js.MissingVariableError, match=f"No name ends with '/{SUFFIX}'"):
        js.ExponentialMovingAverage(0.9).average({"w": jnp.ones(2)})


@pytest.mark.parametrize("decay", [-0.1, 1.5, float("nan")])
def test_a_decay_is_between_0_and_1(decay):
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\], got"):
        js.ExponentialMovingAverage(decay)


def test_num_updates_is_said_where_it_is_known():
    # TF's second argument; here it would go stale
    with pytest.raises(TypeError, match=r"write ema\.apply\(averages, params, num_updates=step\)"):
        js.ExponentialMovingAverage(0.9, 3)
    positional = js.ExponentialMovingAverage(0.9, None, True, "Mean")
    assert positional == js.ExponentialMovingAverage(0.9, zero_debias=True, name="Mean")
    assert "num_updates" not in repr(positional)


def test_the_name_is_one():
    with pytest.raises(js.VariableNameError):
        js.ExponentialMovingAverage(0.9, name="")
