"""Layers against Flax's: values and gradients, from the same variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jscope as js
from jscope import layers

X = jax.random.normal(jax.random.key(0), (2, 5, 6))
MEMORY = jax.random.normal(jax.random.key(1), (2, 7, 3))


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield  # which Flax needs


def compare(ours, variables, theirs, to_flax):
    """Values, and gradients by the variables, of two functions of them."""

    def our_total(variables):
        out = ours(js.Scope(variables))
        return jnp.sum(jnp.sin(out)), out

    def their_total(variables):
        out = theirs(to_flax(variables))
        return jnp.sum(jnp.sin(out)), out

    gradient, out = jax.jit(jax.grad(our_total, has_aux=True))(variables)
    expected_gradient, expected = jax.jit(jax.grad(their_total, has_aux=True))(variables)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    for name in variables:
        np.testing.assert_allclose(
            gradient[name], expected_gradient[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


def some_values(model, *args):
    shapes = js.declare(model)(*args).abstract()
    keys = dict(zip(shapes, jax.random.split(jax.random.key(2), len(shapes)), strict=True))
    return js.map_named(shapes, lambda name, s: jax.random.normal(keys[name], s.shape))


def attention_parameters(v, heads, size):
    def split(name):
        kernel, bias = v[f"{name}/kernel"], v[f"{name}/bias"]
        return {
            "kernel": kernel.reshape((-1, heads, size)),
            "bias": bias.reshape((heads, size)),
        }

    out = {
        "kernel": v["output/kernel"].reshape((heads, size, -1)),
        "bias": v["output/bias"],
    }
    return {"params": {name: split(name) for name in ("query", "key", "value")} | {"out": out}}


@pytest.mark.parametrize("memory", [None, MEMORY])
def test_attention(memory):
    ours = functools.partial(layers.multi_head_attention, num_heads=3, head_size=2, memory=memory)
    mask = jnp.tril(jnp.ones((5, 5 if memory is None else 7), bool))[None, None]
    theirs = nn.MultiHeadDotProductAttention(3, qkv_features=6, deterministic=True)
    compare(
        lambda scope: ours(scope, X, mask=mask),
        some_values(ours, X),
        lambda v: theirs.apply(v, X, memory, mask=mask),
        lambda v: attention_parameters(v, 3, 2),
    )


def test_a_causal_mask_is_the_lower_triangle():
    ours = functools.partial(layers.multi_head_attention, num_heads=3, head_size=2, is_causal=True)
    theirs = nn.MultiHeadDotProductAttention(3, qkv_features=6, deterministic=True)
    compare(
        lambda scope: ours(scope, X),
        some_values(ours, X),
        lambda v: theirs.apply(v, X, mask=nn.make_causal_mask(X[..., 0])),
        lambda v: attention_parameters(v, 3, 2),
    )


def test_shared_keys_and_values_are_repeated_ones():
    ours = functools.partial(layers.multi_head_attention, num_heads=6, head_size=2, num_kv_heads=2)
    theirs = nn.MultiHeadDotProductAttention(6, qkv_features=12, deterministic=True)

    def repeated(v):
        wide = {
            f"{name}/{part}": jnp.repeat(
                v[f"{name}/{part}"].reshape((*v[f"{name}/{part}"].shape[:-1], 2, 2)), 3, axis=-2
            ).reshape((*v[f"{name}/{part}"].shape[:-1], 12))
            for name in ("key", "value")
            for part in ("kernel", "bias")
        }
        return attention_parameters({**v, **wide}, 6, 2)

    compare(
        lambda scope: ours(scope, X), some_values(ours, X), lambda v: theirs.apply(v, X), repeated
    )


def test_rms_norm():
    compare(
        lambda scope: layers.rms_norm(scope, X),
        some_values(layers.rms_norm, X),
        lambda v: nn.RMSNorm().apply(v, X),
        lambda v: {"params": {"scale": v["gamma"]}},
    )


def test_layer_norm_of_bfloat16_computes_wide():
    x = (X * 3).astype(jnp.bfloat16)
    variables = some_values(layers.layer_norm, x)
    expected = nn.LayerNorm(epsilon=1e-3, dtype=jnp.bfloat16).apply(
        {"params": {"scale": variables["gamma"], "bias": variables["beta"]}}, x
    )
    out = layers.layer_norm(js.Scope(variables), x)
    assert out.dtype == jnp.bfloat16
    wide = layers.layer_norm(js.Scope(variables), x.astype(jnp.float32))
    np.testing.assert_array_equal(out, wide.astype(jnp.bfloat16))
    np.testing.assert_allclose(
        out.astype(jnp.float32), expected.astype(jnp.float32), rtol=2e-2, atol=2e-2
    )


def test_lstm_cell():
    x, c, h = X[:, 0], X[:, 1, :4], X[:, 2, :4]

    def ours(scope):
        return jnp.concatenate(layers.lstm_cell(scope, x, (c, h))[1], -1)

    def to_flax(v):  # one layer for each gate and input; it adds nothing to the forget gate
        gates = dict(zip("igfo", jnp.split(v["kernel"], 4, 1), strict=True))
        biases = dict(zip("igfo", jnp.split(v["bias"] + forget, 4), strict=True))
        of_x = {f"i{gate}": {"kernel": kernel[:6]} for gate, kernel in gates.items()}
        of_h = {f"h{g}": {"kernel": k[6:], "bias": biases[g]} for g, k in gates.items()}
        return {"params": of_x | of_h}

    forget = jnp.repeat(jnp.array([0.0, 0.0, 1.0, 0.0]), 4)
    theirs = nn.OptimizedLSTMCell(4)
    compare(
        ours,
        some_values(layers.lstm_cell, x, (c, h)),
        lambda v: jnp.concatenate(theirs.apply(v, (c, h), x)[0], -1),
        to_flax,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (functools.partial(layers.dense, units=4), nn.Dense(4)),
        (
            functools.partial(layers.conv, filters=4, kernel_size=3, strides=2, padding="SAME"),
            nn.Conv(4, (3,), strides=2),
        ),
        (
            functools.partial(layers.conv, filters=4, kernel_size=2, groups=2, dilation_rate=2),
            nn.Conv(4, (2,), kernel_dilation=2, feature_group_count=2, padding="VALID"),
        ),
        (
            functools.partial(layers.conv_transpose, filters=4, kernel_size=3, strides=2),
            nn.ConvTranspose(4, (3,), (2,), padding="VALID", transpose_kernel=True),
        ),
    ],
)
def test_what_flax_calls_the_same(ours, theirs):
    compare(
        lambda scope: ours(scope, X),
        some_values(ours, X),
        lambda v: theirs.apply(v, X),
        lambda v: {"params": dict(v)},
    )


def test_batch_norm():
    ours = functools.partial(layers.batch_norm, training=True)
    theirs = nn.BatchNorm(use_running_average=False, epsilon=1e-3)
    variables = some_values(ours, X)
    state = {"mean": variables["moving_mean"], "var": variables["moving_variance"]}

    def flax(v):
        return theirs.apply(v, X, mutable=["batch_stats"])

    def to_flax(v):
        return {"params": {"scale": v["gamma"], "bias": v["beta"]}, "batch_stats": state}

    compare(
        lambda scope: js.with_updates(ours)(scope, X)[0],
        variables,
        lambda v: flax(v)[0],
        to_flax,
    )
    _, updates = js.with_updates(ours)(variables, X)
    expected = flax(to_flax(variables))[1]["batch_stats"]
    np.testing.assert_allclose(updates["moving_mean"], expected["mean"], rtol=1e-4)
    np.testing.assert_allclose(updates["moving_variance"], expected["var"], rtol=1e-4)
