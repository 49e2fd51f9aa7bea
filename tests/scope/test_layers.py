"""Layers: what they create, what they refuse, and that any transform takes them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers as init
from jscope import layers, regularizers

KEY = jax.random.key(0)


def bind(layer, **hyperparameters):
    return functools.partial(layer, **hyperparameters)


CASES = {
    "dense": (bind(layers.dense, units=4), (2, 3), "kernel (3, 4), bias (4,)"),
    "conv": (
        bind(layers.conv, filters=4, kernel_size=2),
        (2, 5, 5, 3),
        "kernel (2, 2, 3, 4), bias (4,)",
    ),
    "depthwise": (
        bind(layers.conv, filters=6, kernel_size=2, groups=3),
        (2, 5, 3),
        "kernel (2, 1, 6), bias (6,)",
    ),
    "conv_transpose": (
        bind(layers.conv_transpose, filters=4, kernel_size=2),
        (2, 5, 5, 3),
        "kernel (2, 2, 4, 3), bias (4,)",
    ),
    "layer_norm": (layers.layer_norm, (2, 3), "gamma (3,), beta (3,)"),
    "rms_norm": (layers.rms_norm, (2, 3), "gamma (3,)"),
    "batch_norm": (
        bind(layers.batch_norm, training=False),
        (2, 5, 3),
        "moving_mean (3,), moving_variance (3,), gamma (3,), beta (3,)",
    ),
    "dropout": (bind(layers.dropout, rate=0.5, training=True), (2, 3), ""),
    "attention": (
        bind(layers.multi_head_attention, num_heads=2, head_size=4, use_bias=False),
        (2, 5, 3),
        "query/kernel (3, 8), key/kernel (3, 8), value/kernel (3, 8), output/kernel (8, 3)",
    ),
    "attention_dropout": (
        bind(
            layers.multi_head_attention,
            num_heads=2,
            head_size=2,
            num_kv_heads=1,
            dropout_rate=0.5,
            training=True,
        ),
        (2, 5, 3),
        "query/kernel (3, 4), query/bias (4,), key/kernel (3, 2), key/bias (2,), "
        "value/kernel (3, 2), value/bias (2,), output/kernel (4, 3), output/bias (3,)",
    ),
    "lstm_cell": (
        lambda scope, x: layers.lstm_cell(scope, x[:, :2], (x[:, 2:], x[:, 2:]))[0],
        (2, 5),
        "kernel (5, 12), bias (12,)",
    ),
    "gru_cell": (
        lambda scope, x: layers.gru_cell(scope, x[:, :2], x[:, 2:]),
        (2, 5),
        "gates/kernel (5, 6), gates/bias (6,), candidate/kernel (5, 3), candidate/bias (3,)",
    ),
    "max_pool": (lambda scope, x: layers.max_pool(x, pool_size=2), (2, 5, 3), ""),
    "avg_pool": (lambda scope, x: layers.avg_pool(x, pool_size=2), (2, 5, 3), ""),
}


def values_of(name):
    layer, shape, _ = CASES[name]
    x = jax.random.normal(jax.random.key(1), shape)
    return layer, x, js.init(layer)(KEY, x)


@pytest.mark.parametrize("name", CASES)
def test_its_variables(name):
    layer, shape, expected = CASES[name]
    declared = js.declare(layer)(jnp.ones(shape))
    assert ", ".join(f"{name} {spec.shape}" for name, spec in declared.items()) == expected


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_jit_grad_and_checkpoint_take_it(name):
    layer, x, variables = values_of(name)

    def total(tree, x):
        out = layer(js.Scope(tree, rngs=jax.random.key(3)), x)
        return out.sum(), out

    with jax.checking_leaks():
        _, eager = total(variables, x)
        both = jax.jit(jax.grad(total, has_aux=True))
        remat = jax.jit(jax.grad(jax.checkpoint(total), has_aux=True))
        gradient, out = both(variables, x)
        again, _ = remat(variables, x)
    close(out, eager)
    assert jax.tree.structure(gradient) == jax.tree.structure(variables)
    jax.tree.map(close, gradient, again)


@pytest.mark.parametrize("name", CASES)
def test_scan_and_vmap_over_a_stack_are_its_slices(name):
    layer, x, _ = values_of(name)

    def scanned(scope, x):
        return jax.lax.scan(lambda _, s: (None, layer(s, x)), None, scope.stacked("s", 2))[1]

    def mapped(scope, x):
        return jax.vmap(layer, in_axes=(0, None))(scope.stacked("s", 2), x)

    stacked = js.init(scanned)(KEY, x)
    scope = js.Scope(stacked, rngs=jax.random.key(3))
    with jax.checking_leaks():
        outs = [jax.jit(model)(scope, x) for model in (scanned, mapped)]
    loop = js.Scope(js.unstack(stacked, "s") if stacked else {}, rngs=jax.random.key(3))
    for i in range(2):
        expected = jax.jit(layer)(loop / f"s/{i}", x)
        for out in outs:
            close(out[i], expected)


@pytest.mark.parametrize("name", [name for name in CASES if "dropout" not in name])
def test_it_computes_in_the_dtype_of_x(name):
    layer, x, variables = values_of(name)
    out = layer(js.Scope(variables), x.astype(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    wide = layer(js.Scope(variables), x)
    np.testing.assert_allclose(out.astype(jnp.float32), wide, rtol=0.1, atol=0.1)


def test_arguments_of_variables_go_through():
    settings = {
        "kernel_initializer": init.ones,
        "bias_initializer": init.constant(2.0),
        "kernel_regularizer": regularizers.l2(0.1),
        "bias_regularizer": regularizers.l1(0.1),
        "kernel_constraint": jnp.abs,
        "bias_constraint": jnp.negative,
        "trainable": False,
    }
    for layer in (
        bind(layers.dense, units=4, **settings),
        bind(layers.conv, filters=4, kernel_size=2, **settings),
        bind(layers.conv_transpose, filters=4, kernel_size=2, **settings),
    ):
        declared = js.declare(layer)(jnp.ones((2, 5, 3)))
        assert declared.trainable == ()
        for name in ("kernel", "bias"):
            assert declared[name].initializer == init.constant(2.0) or name == "kernel"
            assert declared[name].regularizer == settings[f"{name}_regularizer"]
            assert declared[name].constraint is settings[f"{name}_constraint"]
        assert (declared.init(KEY)["kernel"] == 1).all()
    table = bind(layers.embedding, input_dim=3, output_dim=2, embeddings_initializer=init.ones)
    assert js.declare(table)(jnp.arange(2))["embeddings"].initializer == init.ones
    by_default = js.declare(bind(layers.dense, units=4))(jnp.ones((2, 3)))
    assert by_default["kernel"].initializer == init.glorot_uniform()


def test_what_is_left_out_is_no_variable():
    x = jnp.ones((2, 5, 3))
    for layer, names in (
        (bind(layers.dense, units=4, use_bias=False), ["kernel"]),
        (bind(layers.conv, filters=4, kernel_size=2, use_bias=False), ["kernel"]),
        (bind(layers.conv_transpose, filters=4, kernel_size=2, use_bias=False), ["kernel"]),
        (bind(layers.layer_norm, scale=False), ["beta"]),
        (bind(layers.layer_norm, center=False), ["gamma"]),
        (
            bind(layers.batch_norm, training=False, scale=False, center=False),
            ["moving_mean", "moving_variance"],
        ),
    ):
        assert list(js.declare(layer)(x)) == names


def test_sizes_may_be_numpys():
    x = jnp.ones((2, 5, 3))
    two, last = np.int64(2), np.int64(-1)
    declared = js.declare(bind(layers.conv, filters=4, kernel_size=two, strides=[two]))(x)
    assert declared["kernel"].shape == (2, 3, 4)
    assert js.declare(bind(layers.layer_norm, axis=last))(x)["gamma"].shape == (3,)


def test_variables_have_the_scopes_dtype_but_statistics_are_wide():
    def model(scope, x):
        half = scope.variable_scope("half", dtype=jnp.bfloat16)
        x = layers.dense(half / "dense", x, units=3)
        return layers.batch_norm(half / "norm", x, training=False)

    declared = js.declare(model)(jnp.ones((2, 3), jnp.bfloat16))
    dtypes = {name: str(spec.dtype) for name, spec in declared.items()}
    assert dtypes["half/dense/kernel"] == dtypes["half/norm/gamma"] == "bfloat16"
    assert dtypes["half/norm/moving_mean"] == dtypes["half/norm/moving_variance"] == "float32"


# Batch normalization.


def test_moving_statistics_follow_the_formula_through_scan_and_checkpoint():
    norm = bind(layers.batch_norm, training=True, momentum=0.75)
    x = jax.random.normal(KEY, (4, 6, 3)) * 2 + 1

    def block(scope, x):
        return js.with_updates(norm)(scope, x)

    def model(scope, xs):
        def body(total, pair):
            layer, x = pair
            y, updates = jax.checkpoint(block)(layer, x)
            return total + y.sum(), updates

        total, updates = jax.lax.scan(body, jnp.float32(0), (scope.stacked("norms", 4), xs))
        (scope / "norms").update(updates)
        return total

    variables = js.init(model)(KEY, x)
    with jax.checking_leaks():
        _, updates = js.with_updates(model)(variables, x)
    for i in range(4):
        mean, variance = np.mean(x[i], 0), np.var(x[i], 0)
        np.testing.assert_allclose(updates["norms/moving_mean"][i], 0.25 * mean, rtol=1e-5)
        np.testing.assert_allclose(
            updates["norms/moving_variance"][i], 0.75 + 0.25 * variance, rtol=1e-5
        )


def test_batches_on_a_mapped_axis_count_as_one():
    x = jax.random.normal(KEY, (4, 2, 3))
    variables = js.init(bind(layers.batch_norm, training=True))(KEY, x[0])

    def apply(x, **settings):
        return js.with_updates(bind(layers.batch_norm, training=True, **settings))(variables, x)

    y, updates = jax.vmap(bind(apply, axis_name="batch"), axis_name="batch")(x)
    expected, expected_updates = apply(x.reshape((8, 3)))
    np.testing.assert_allclose(y.reshape((8, 3)), expected, rtol=1e-5, atol=1e-6)
    for name, value in expected_updates.items():
        for replica in updates[name]:
            np.testing.assert_allclose(replica, value, rtol=1e-5)


def test_training_without_with_updates_says_so():
    norm = bind(layers.batch_norm, training=True)
    variables = js.init(norm)(KEY, jnp.ones((2, 3)))
    with pytest.raises(js.ScopeError, match=r"js\.with_updates"):
        norm(js.Scope(variables), jnp.ones((2, 3)))


# Dropout.


def test_dropout_keeps_the_mean_and_is_off_otherwise():
    x = jnp.ones((200, 100))
    scope = js.Scope({}, rngs=KEY)
    y = layers.dropout(scope, x, rate=0.25, training=True)
    assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs(float((y == 0).mean()) - 0.25) < 0.01
    rows = layers.dropout(scope, x, noise_shape=(200, 1), training=True, name="rows")
    assert ((rows == rows[:, :1]).all(1)).all()
    assert layers.dropout(scope, x, rate=0.25, training=False) is x
    assert layers.dropout(js.Scope({}), x, rate=0.0, training=True) is x


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 2 / 3, 1 - 1e-9, 1e-9])
def test_dropout_keeps_what_bernoulli_keeps(rate, impl):
    key, x = jax.random.key(0, impl=impl), jnp.ones((40, 50))
    drawn = js.Scope({}, rngs=key).rng("dropout")
    keep = jax.random.bernoulli(drawn, 1 - rate, x.shape)
    y = layers.dropout(js.Scope({}, rngs=key), x, rate=rate, training=True)
    np.testing.assert_array_equal(y != 0, keep)


def test_dropout_needs_its_stream():
    with pytest.raises(js.MissingStreamError, match="dropout"):
        layers.dropout(js.Scope({}), jnp.ones(3), training=True)
    with pytest.raises(ValueError, match=r"rate in the scope '' is 1\.0, not in \[0, 1\)"):
        layers.dropout(js.Scope({}), jnp.ones(3), rate=1.0, training=True)


# Attention.


def attention_by_hand(v, x, heads, size, bias, mask):
    """From the definition, in NumPy, with as many keys as queries."""
    q, k, a = (
        (x @ v[f"{name}/kernel"] + v[f"{name}/bias"]).reshape((*x.shape[:2], heads, size))
        for name in ("query", "key", "value")
    )
    out = np.zeros(q.shape)
    for head in range(heads):
        scores = q[:, :, head] @ np.swapaxes(k[:, :, head], 1, 2) / np.sqrt(size)
        weights = np.exp(scores + bias[:, head]) * mask[:, head]
        out[:, :, head] = weights / weights.sum(-1, keepdims=True) @ a[:, :, head]
    return out.reshape((*x.shape[:2], heads * size)) @ v["output/kernel"] + v["output/bias"]


@pytest.mark.parametrize("dropout", [{}, {"dropout_rate": 1e-7, "training": True}])
def test_attention_is_its_definition(dropout):
    rng = np.random.RandomState(0)
    x = rng.normal(size=(2, 5, 6)).astype(np.float32)
    bias = rng.normal(size=(1, 3, 5, 5)).astype(np.float32)
    mask = (rng.uniform(size=(2, 1, 5, 5)) < 0.7) | np.eye(5, dtype=bool)
    attend = bind(layers.multi_head_attention, num_heads=3, head_size=2, bias=bias, **dropout)
    shapes = js.declare(attend)(x).abstract()
    v = {name: rng.normal(size=s.shape).astype(np.float32) for name, s in shapes.items()}
    scope = js.Scope(v, rngs=KEY)
    out = jax.jit(bind(attend, mask=mask, is_causal=True))(scope, x)
    allowed = np.broadcast_to(mask & np.tril(np.ones((5, 5), bool)), (2, 3, 5, 5))
    close(out, attention_by_hand(v, x, 3, 2, bias, allowed))


def test_weights_of_attention_drop_out():
    attend = bind(
        layers.multi_head_attention, num_heads=1, head_size=1, use_bias=False, dropout_rate=0.75
    )
    v = {f"{name}/kernel": np.ones((1, 1), np.float32) for name in ("value", "output")}
    v |= {f"{name}/kernel": np.zeros((1, 1), np.float32) for name in ("query", "key")}
    x = jnp.ones((8, 16, 1))  # 16 equal weights, of which each is kept with probability 1/4
    kept = attend(js.Scope(v, rngs=KEY), x, training=True) * 16 / 4
    close(kept, np.round(kept))
    assert 3.5 < float(kept.mean()) < 4.5
    assert len(np.unique(np.round(kept))) > 4
    close(attend(js.Scope(v), x, training=False), x)
    with pytest.raises(TypeError, match="has a dropout_rate, so write training=True"):
        attend(js.Scope(v), x)


# The cache of attention.


@pytest.mark.parametrize("pieces", [(1,) * 6, (6,), (4, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize("kv_heads", [None, 1])
def test_decoding_with_a_cache_is_causal_attention(pieces, kv_heads):
    settings = {"num_heads": 2, "head_size": 4, "num_kv_heads": kv_heads}
    x = jax.random.normal(KEY, (2, 6, 5))
    decode = bind(layers.multi_head_attention, cache_length=6, **settings)
    declared = js.declare(decode)(x[:, :1])
    variables = declared.init(KEY)
    params, cache = declared.split(variables)
    assert set(cache) == {"cached_key", "cached_value", "cache_index"}
    attend = bind(layers.multi_head_attention, is_causal=True, **settings)
    expected = attend(js.Scope(params), x)
    step = jax.jit(js.with_updates(decode))
    outs, start = [], 0
    for count in pieces:
        out, cache = step(params | cache, x[:, start : start + count])
        outs.append(out)
        start += count
    np.testing.assert_allclose(jnp.concatenate(outs, 1), expected, rtol=1e-5, atol=1e-6)
    assert int(cache["cache_index"]) == 6


def test_a_cache_that_is_too_short():
    x = jax.random.normal(KEY, (1, 3, 4))
    decode = bind(layers.multi_head_attention, num_heads=1, head_size=4, cache_length=4)
    variables = js.init(decode)(KEY, x)
    _, updates = js.with_updates(decode)(variables, x)
    with pytest.raises(
        js.IndexOutOfRangeError, match="holds 4 positions; 3 are there, and 3 more don't fit"
    ):
        js.with_updates(decode)(variables | updates, x)
    out, _ = jax.jit(js.with_updates(decode))(variables | updates, x)
    assert not jnp.isnan(out[:, :1]).any()
    assert jnp.isnan(out[:, 1:]).all()
    with pytest.raises(js.ScopeError, match="leave out memory= and mask="):
        js.declare(decode)(x, memory=x)


# Recurrence.


def test_a_cell_in_a_scan_over_time_is_a_loop():
    def encode(scope, xs):
        def step(state, x):
            out, after = layers.lstm_cell(scope / "lstm", x, state)
            return after, layers.gru_cell(scope / "gru", out, state[1])

        start = jnp.zeros((xs.shape[1], 4))
        return jax.lax.scan(step, (start, start), xs)[1]

    xs = jax.random.normal(KEY, (3, 2, 5))
    variables = js.init(encode)(KEY, xs)
    with jax.checking_leaks():
        outs = jax.jit(encode)(js.Scope(variables), xs)
    scope, c, h = js.Scope(variables), jnp.zeros((2, 4)), jnp.zeros((2, 4))
    for x, out in zip(xs, outs, strict=True):
        new, (c, _) = layers.lstm_cell(scope.shared("lstm"), x, (c, h))
        close(out, layers.gru_cell(scope.shared("gru"), new, h))
        h = new


# Pooling.


def test_a_mean_of_bfloat16_is_taken_in_float32():
    x = jnp.ones((1, 1000, 1), jnp.bfloat16)
    assert (layers.avg_pool(x, pool_size=1000) == 1).all()  # a sum in bfloat16 stops at 256


def test_an_average_pool_of_a_batch_of_images_compiles_at_once():
    pool = jax.jit(bind(layers.avg_pool, pool_size=3, strides=2, padding="SAME"))
    lowered = pool.lower(jax.ShapeDtypeStruct((64, 56, 56, 128), jnp.float32))
    assert "1x28x28x1xf32" in lowered.as_text()  # the counts, rather than a pool over ones
    assert lowered.as_text().count("reduce_window") == 1


# Embedding.


def test_an_embedding_out_of_range_is_nan_and_the_table_reads_out():
    def model(scope, ids):
        vectors = layers.embedding(scope, ids, input_dim=5, output_dim=3)
        return vectors, vectors @ scope["embeddings"].T

    variables = js.init(model)(KEY, jnp.arange(5))
    assert float(jnp.abs(variables["embeddings"]).max()) <= 0.05
    vectors, logits = model(js.Scope(variables), jnp.array([4, 5, -1]))
    np.testing.assert_array_equal(vectors[0], variables["embeddings"][4])
    assert jnp.isnan(vectors[1:]).all()
    assert logits.shape == (3, 5)
    with pytest.raises(TypeError, match="takes integers, got ids of dtype float32"):
        model(js.Scope(variables), jnp.ones(3))


# What is refused.


@pytest.mark.parametrize(
    ("layer", "x", "error", "message"),
    [
        (
            bind(layers.dense, units=2),
            jnp.ones(3, int),
            TypeError,
            "got x of dtype int32. Write x.astype",
        ),
        (
            bind(layers.conv, filters=2, kernel_size=2),
            jnp.ones((4, 4)),
            js.ShapeMismatchError,
            r"conv takes x of shape .* got \(4, 4\). For one example .* write x\[None\]",
        ),
        (
            bind(layers.conv, filters=2, kernel_size=(2, 2)),
            jnp.ones((1, 4, 4)),
            js.ShapeMismatchError,
            r"\(2, 2\) has 2 sizes, for 1 spatial axes",
        ),
        (
            bind(layers.conv, filters=2, kernel_size=2, groups=3),
            jnp.ones((1, 4, 4)),
            js.ShapeMismatchError,
            r"4 channels and 2 filters can't be split into groups=3",
        ),
        (
            bind(layers.conv, filters=2, kernel_size=2, padding="full"),
            jnp.ones((1, 4, 4)),
            ValueError,
            "'SAME' or 'VALID', got 'full'",
        ),
        (
            bind(layers.dense, units=2),
            jnp.float32(1),
            js.ShapeMismatchError,
            r"no axis -1 in x of shape \(\)",
        ),
        (
            bind(layers.dropout, training=True),
            jnp.ones(3, int),
            TypeError,
            "got x of dtype int32",
        ),
        (
            bind(layers.multi_head_attention, num_heads=4, head_size=1, num_kv_heads=3),
            jnp.ones((1, 4, 4)),
            js.ShapeMismatchError,
            "num_kv_heads=3 is not a divisor of num_heads=4",
        ),
        (
            bind(layers.layer_norm, axis=2),
            jnp.ones((2, 2)),
            js.ShapeMismatchError,
            r"no axis 2 in x of shape \(2, 2\)",
        ),
    ],
)
def test_what_does_not_fit(layer, x, error, message):
    with pytest.raises(error, match=message):
        js.declare(layer)(x)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.dense, "units"),
        (bind(layers.dense, units=4), "use_bias"),
        (bind(layers.conv, filters=4), "kernel_size"),
        (bind(layers.conv, filters=4, kernel_size=2), "dilation_rate"),
        (bind(layers.conv_transpose, kernel_size=2), "filters"),
        (bind(layers.embedding, output_dim=2), "input_dim"),
        (layers.layer_norm, "center"),
        (layers.rms_norm, "axis"),
        (layers.batch_norm, "training"),
        (bind(layers.dropout, training=True), "rate"),
        (bind(layers.multi_head_attention, num_heads=4, head_size=1), "num_kv_heads"),
        (lambda scope, x, **sizes: layers.max_pool(x, **sizes), "pool_size"),
        (lambda scope, x, **sizes: layers.avg_pool(x, pool_size=2, **sizes), "strides"),
    ],
)
def test_a_traced_hyperparameter_is_named(layer, name):
    def model(scope, x, value):
        return layer(scope, x, **{name: value})

    x = jnp.ones((2, 5, 3))
    with pytest.raises(TypeError, match=rf"`{name}` is traced, .*static_argnames='{name}'"):
        js.declare(model)(x.astype(int) if "dim" in name else x, jnp.int32(1))
