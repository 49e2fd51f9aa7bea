"""What is said of a variable in a stack is said of each slice: against a loop over the slices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import jscope as js
from jscope import initializers as init
from jscope import regularizers

KEY = jax.random.key(5)
X = jnp.ones((2, 3))
INNER, OUTER = 2, 3


def norm(value):
    """No sum over elements: that of a whole stack is another number than the sum over slices."""
    return jnp.sqrt(jnp.sum(value**2))


def unit_norm(value):
    return value / norm(value)


def layer(scope, x):
    w = scope.get_variable("w", (3, 3), regularizer=regularizers.l2(0.1), constraint=unit_norm)
    v = scope.get_variable("v", (3,), regularizer=norm)
    scope.get_variable("seen", (), jnp.int32, trainable=False)
    return x @ w + v[None]


def group(scope, x, loop):
    x = loop(layer, scope, "in", INNER, layer(scope / "own", x))
    return x


def unrolled_loop(function, scope, name, length, x):
    for i in range(length):
        x = function(scope / f"{name}/{i}", x)
    return x


def scanned_loop(function, scope, name, length, x):
    return lax.scan(lambda x, s: (function(s, x), None), x, scope.stacked(name, length))[0]


def model_of(loop):
    def model(scope, x):
        x = layer(scope / "first", x)
        return loop(lambda scope, x: group(scope, x, loop), scope, "out", OUTER, x)

    return model


def together(tree):
    """The layout of stacks in stacks, from that of loops."""
    return js.stack(js.stack(tree, "out"), "out/in", axis=1)


LOOP, SCAN = (js.declare(model_of(loop))(X) for loop in (unrolled_loop, scanned_loop))


@pytest.fixture(scope="module")
def slices():
    return LOOP.init(KEY)


def test_regularizers_are_summed_over_slices(slices):
    stacks = together(slices)
    expected = LOOP.regularization_loss(slices)
    of_whole_stacks = sum(
        spec.regularizer(stacks[name]) for name, spec in SCAN.items() if spec.regularizer
    )
    assert abs(of_whole_stacks - expected) > 0.1  # so that the test can tell
    found = jax.jit(SCAN.regularization_loss)(stacks)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found, wanted = (
        jax.grad(declared.regularization_loss, allow_int=True)(tree)
        for declared, tree in ((SCAN, stacks), (LOOP, slices))
    )
    wanted = together(wanted)
    for name in SCAN.trainable:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, err_msg=name)


def test_an_l2_sum_is_the_same_either_way_to_the_element():
    declared = js.declare(
        lambda scope, x: scanned_loop(
            lambda s, x: x * s.get_variable("w", (3,), regularizer=regularizers.l2(2.0))[None],
            scope,
            "s",
            4,
            x,
        )
    )(X)
    assert declared.regularization_loss({"s/w": jnp.arange(12.0).reshape(4, 3)}) == 506


def test_constraints_hold_for_each_slice(slices):
    stacks = together(slices)
    found = jax.jit(SCAN.apply_constraints)(stacks)
    expected = together(LOOP.apply_constraints(slices))
    for name in SCAN:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)
    norms = jnp.sqrt(jnp.sum(found["out/in/w"] ** 2, axis=(2, 3)))
    np.testing.assert_allclose(norms, np.ones((OUTER, INNER)), rtol=1e-6)


def test_the_trainable_selector_and_masks_pick_a_stack_where_they_pick_its_slices(slices):
    stacks = together(slices)
    params, state = SCAN.split(stacks)
    assert (params, state) == tuple(map(together, LOOP.split(slices)))
    assert js.select(stacks, SCAN.trainable) == params
    mask = js.mask(stacks, SCAN.trainable)
    assert mask == together(js.mask(slices, LOOP.trainable))
    assert js.unstack(js.unstack(mask, "out/in", length=INNER), "out", length=OUTER) == js.mask(
        slices, LOOP.trainable
    )


def test_a_masked_optimizer_does_to_a_stack_what_it_does_to_its_slices(slices):
    def updated(declared, tree):
        params, _ = declared.split(tree)
        decayed = optax.adamw(1e-2, mask=js.mask(params, "**/w"))
        optimizer = optax.masked(decayed, js.mask(params, ["first/*", "out/**"]))
        with jax.numpy_dtype_promotion("standard"):  # which Optax needs
            updates, _ = optimizer.update(params, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    found = updated(SCAN, together(slices))
    expected = together(updated(LOOP, slices))
    for name in SCAN.trainable:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)


def test_the_summary_counts_all_slices_and_says_how_many():
    loop, scan = (str(declared).splitlines() for declared in (LOOP, SCAN))
    counts = "130 parameters (120 trainable), 520 B"
    assert loop[0] == f"Declaration of 30 variables, {counts}"
    assert scan[0] == f"Declaration of 9 variables, {counts}"
    assert any(line.startswith("out/in/w") and line.endswith("out[3], out/in[2]") for line in scan)
    assert "stack" not in loop[1]
    plans = [declared.plan({"data": 2}, optimizer=optax.adam(1e-3)) for declared in (LOOP, SCAN)]
    assert plans[0].total_bytes == plans[1].total_bytes


# Initial values, whatever the initializer.

INITIALIZERS = {
    "constant": ((2,), init.constant(3.0)),
    "range": ((3,), init.range(3)),
    "random_uniform": ((5,), init.random_uniform(-1.0, 1.0)),
    "random_normal": ((5,), init.random_normal(stddev=0.1)),
    "truncated_normal": ((5,), init.truncated_normal(stddev=0.1)),
    "glorot_uniform": ((4, 3), init.glorot_uniform()),
    "orthogonal": ((4, 3), init.orthogonal()),
    "delta_orthogonal": ((3, 3, 2, 4), init.delta_orthogonal()),
    "identity": ((3, 3), init.identity()),
    "of_jax": ((4, 3), jax.nn.initializers.xavier_normal()),
    "copied": ((4, 3), init.initialized_value("orthogonal")),
}


def all_kinds(scope, x):
    for name, (shape, initializer) in INITIALIZERS.items():
        dtype = jnp.int32 if name == "range" else jnp.float32
        x = x + scope.get_variable(name, shape, dtype, initializer).sum().astype(x.dtype)
    return x


def drawn(scope, x):
    for name in ("random_normal", "orthogonal", "glorot_uniform"):
        x = x + scope.get_variable(name, *INITIALIZERS[name][:1], None, INITIALIZERS[name][1]).sum()
    return x


@pytest.mark.parametrize(
    ("block", "impl"),
    [(all_kinds, "threefry2x32"), (drawn, "rbg"), (drawn, "unsafe_rbg")],
)
def test_initial_values_of_a_stack_are_those_of_the_loop_to_the_last_bit(block, impl):
    key = jax.random.key(2, impl=impl)

    def rematerialized(scope, x):
        return jax.jit(jax.checkpoint(block))(scope, x)

    def loop(scope, x):
        return unrolled_loop(block, scope, "s", 3, x)

    def scan(scope, x):
        return scanned_loop(rematerialized, scope, "s", 3, x)

    def mapped(scope, x):
        return jax.vmap(block, (0, None))(scope.stacked("s", 3), x)

    x = jnp.float32(0)
    expected = js.stack(js.init(loop)(key, x), "s")
    assert js.init(scan)(key, x) == expected
    assert jax.jit(lambda key: js.init(mapped)(key, x))(key) == expected
