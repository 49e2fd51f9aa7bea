"""`tf1.layers` and `tf1.contrib` against TensorFlow's own, by `golden/make_tf1_layers.py`."""

import contextlib
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layer_cases import CASES

import jscope as js
from jscope import initializers as init
from jscope import regularizers, tf1
from jscope.tf1 import contrib, layers

GOLDEN = np.load(Path(__file__).resolve().parent.parent / "golden" / "tf1_layers.npz")


class Namespace:
    """``tf`` of the programs: functions with the scope that is entered."""

    relu, tanh, float32 = staticmethod(jax.nn.relu), staticmethod(jnp.tanh), jnp.float32
    ones = init.ones

    def __init__(self, scope):
        self.here = scope

    def function(self, name):
        if name.startswith("contrib_"):
            return getattr(contrib, name.removeprefix("contrib_"))
        homes = (layers, contrib)
        return next(getattr(home, name) for home in homes if hasattr(home, name))

    def cell(self, kind, /, *args, **kwargs):
        return getattr(layers, kind)(*args, **kwargs)

    def called(self, cell, *args):
        return cell(self.here, *args)

    def __getattr__(self, name):
        if name in ("batch_norm", "layer_norm"):  # as functions of the scope, when passed on
            return _OfEitherForm(self.function(name), self)
        if name in ("repeat", "stack"):
            return functools.partial(self.in_turn, name)
        return functools.partial(self.function(name), self.here)

    def in_turn(self, name, x, *args, **kwargs):
        args = [a.func if isinstance(a, functools.partial) else a for a in args]
        return getattr(contrib, name)(self.here, x, *args, **kwargs)

    @contextlib.contextmanager
    def entered(self, scope):
        outer, self.here = self.here, scope
        with scope:
            yield scope
        self.here = outer

    def scope(self, *args, **kwargs):
        return self.entered(self.here.variable_scope(*args, **kwargs))

    def arg_scope(self, functions, **kwargs):
        if isinstance(functions, list):
            functions = [self.function(name) for name in functions]
        return self.entered(tf1.arg_scope(self.here, functions, **kwargs))


class _OfEitherForm:
    """A normalizer: called by a program without a scope, and by a layer with one."""

    def __init__(self, function, namespace):
        self.function = function
        self.namespace = namespace

    def __call__(self, *args, **kwargs):
        scope = () if isinstance(args[0], js.Scope) else (self.namespace.here,)
        return self.function(*scope, *args, **kwargs)


def model_of(name):
    program, shapes = CASES[name]

    def model(scope, *inputs):
        y = program(Namespace(scope), *inputs)
        if not isinstance(y, jax.Array):  # outputs and states of RNNs
            y = jnp.concatenate([part.ravel() for part in jax.tree.leaves(y)])
        return y

    return model, len(shapes)


def golden(case, key, count):
    return [GOLDEN[f"{case}/{key}_{i}"] for i in range(count)]


@pytest.mark.parametrize("case", CASES)
def test_names_order_values_gradients_and_updates_are_tensorflows(case):
    model, count = model_of(case)
    names = [str(name) for name in GOLDEN[f"{case}/names"]]
    inputs = golden(case, "input", count)
    declared = js.declare(model)(*map(jnp.asarray, inputs))
    assert list(declared) == names
    assert [declared[name].trainable for name in names] == GOLDEN[f"{case}/trainable"].tolist()
    modelled = declared.collection(js.GraphKeys.MODEL_VARIABLES)
    assert [name in modelled for name in names] == GOLDEN[f"{case}/model"].tolist()

    tree = js.VarTree(dict(zip(names, golden(case, "value", len(names)), strict=True)))
    y, updates = _applied(model, tree, inputs)
    np.testing.assert_allclose(y, GOLDEN[f"{case}/output"], atol=1e-5, rtol=1e-5)
    after = tree | updates
    for name, value in zip(names, golden(case, "after", len(names)), strict=True):
        np.testing.assert_allclose(after[name], value, atol=1e-5, rtol=1e-5, err_msg=name)

    expected = golden(case, "gradient", count + len(names))
    of_inputs, of_tree = _gradients(model, tree, inputs)
    scale = max(1.0, *(float(np.abs(g).max()) for g in expected if g.size))
    for found, value in zip(of_inputs, expected[:count], strict=True):
        np.testing.assert_allclose(found, value, atol=1e-5 * scale, rtol=1e-5)
    for name, value in zip(names, expected[count:], strict=True):
        if "/moving_" in name:  # TF's fused kernel has no gradient by them
            continue
        np.testing.assert_allclose(of_tree[name], value, atol=1e-5 * scale, rtol=1e-5, err_msg=name)


@functools.partial(jax.jit, static_argnums=0)
def _applied(model, tree, inputs):
    return js.with_updates(model)(tree, *inputs)


@functools.partial(jax.jit, static_argnums=0)
def _gradients(model, tree, inputs):
    def loss(inputs, tree):
        y, _ = js.with_updates(model)(tree, *inputs)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    return jax.grad(loss, (0, 1))(inputs, tree)


# What TensorFlow can't show.


def test_a_regularizer_of_weights_does_not_reach_biases():
    def model(scope, x):
        scope = tf1.arg_scope(
            scope,
            [contrib.conv2d, contrib.fully_connected],
            weights_regularizer=regularizers.l2(0.1),
        )
        x = contrib.conv2d(scope, x, 2, 3, normalizer_fn=contrib.batch_norm)
        x = contrib.fully_connected(scope, contrib.flatten(scope, x), 2)
        return layers.dense(scope, x, 2, kernel_regularizer=regularizers.l1(0.1))

    declared = js.declare(model)(jnp.ones((1, 4, 4, 1)))
    tree = declared.init(jax.random.key(0))
    losses = declared.regularization_losses(tree)
    assert list(losses) == ["Conv/weights", "fully_connected/weights", "dense/kernel"]
    expected = 0.1 * (np.asarray(tree["Conv/weights"]) ** 2).sum() / 2
    np.testing.assert_allclose(losses["Conv/weights"], expected, rtol=1e-6)


def test_the_default_initializers_are_tensorflows():
    def model(scope, x):
        x = layers.dense(scope, x, 300)
        x = contrib.fully_connected(scope, x, 200)
        return layers.embedding(scope, jnp.zeros(3, jnp.int32), 300, 200), x

    tree = js.init(model)(jax.random.key(0), jnp.ones((2, 100)))
    for name in ("dense/kernel", "fully_connected/weights"):
        limit = np.sqrt(6 / sum(tree[name].shape))  # Glorot uniform
        assert 0.99 * limit < np.abs(tree[name]).max() <= limit
        np.testing.assert_allclose(np.std(tree[name]), limit / np.sqrt(3), rtol=0.02)
    assert 0.0499 < np.abs(tree["embedding/embeddings"]).max() <= 0.05
    assert not tree["dense/bias"].any()
    assert not tree["fully_connected/biases"].any()


def test_an_initializer_of_the_scope_reaches_tf_layers_and_not_contrib():
    def model(scope, x):
        scope = scope.variable_scope(scope, initializer=init.constant(3.0))
        x = layers.dense(scope, x, 2)
        return contrib.fully_connected(scope, x, 2)

    tree = js.init(model)(jax.random.key(0), jnp.ones((2, 2)))
    assert (tree["dense/kernel"] == 3).all()
    assert (np.abs(tree["fully_connected/weights"]) < 3).all()


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (layers.conv2d, {"filters": 4, "kernel_size": 3, "strides": 2}),
        (layers.conv2d_transpose, {"filters": 4, "kernel_size": 3, "strides": 2}),
        (layers.separable_conv2d, {"filters": 4, "kernel_size": 3}),
        (layers.max_pooling2d, {"pool_size": 2, "strides": 2}),
        (layers.average_pooling2d, {"pool_size": 2, "strides": 2}),
        (layers.flatten, {}),
    ],
)
def test_channels_first_is_channels_last_with_axes_moved(layer, arguments):
    x = jax.random.normal(jax.random.key(1), (2, 6, 5, 3))
    tree = js.init(layer)(jax.random.key(0), x, **arguments)
    last = layer(js.Scope(tree), x, **arguments)
    moved = jnp.moveaxis(x, -1, 1)
    first = layer(js.Scope(tree), moved, data_format="channels_first", **arguments)
    expected = last if last.ndim == 2 else jnp.moveaxis(last, -1, 1)
    np.testing.assert_allclose(first, expected, atol=1e-6)


@pytest.mark.parametrize("layer", [contrib.conv2d, contrib.conv2d_transpose])
def test_contrib_with_nchw_normalizes_the_channels(layer):
    x = jax.random.normal(jax.random.key(1), (2, 6, 5, 3))

    def model(scope, x, data_format):
        scope = tf1.arg_scope(scope, [layer, contrib.batch_norm], data_format=data_format)
        return layer(scope, x, 4, 3, normalizer_fn=contrib.batch_norm)

    tree = js.init(model)(jax.random.key(0), x, "NHWC")
    last, _ = js.with_updates(model)(tree, x, "NHWC")
    first, _ = js.with_updates(model)(tree, jnp.moveaxis(x, -1, 1), "NCHW")
    np.testing.assert_allclose(first, jnp.moveaxis(last, -1, 1), atol=1e-5)


def test_statistics_are_used_and_not_updated_without_with_updates():
    x = jnp.array([[0.0], [4.0]])
    for layer, arguments in (
        (layers.batch_normalization, {"training": True}),
        (contrib.batch_norm, {}),
    ):
        tree = js.init(layer)(jax.random.key(0), x)
        y = layer(js.Scope(tree), x, update=False, **arguments)
        np.testing.assert_allclose(y, (x - 2) / np.sqrt(4 + 1e-3), rtol=1e-6)
        with pytest.raises(js.ScopeError, match="nothing collects updates here"):
            layer(js.Scope(tree), x, **arguments)


def test_fused_statistics_over_mapped_axes_are_those_of_the_whole_batch():
    x = jax.random.normal(jax.random.key(0), (4, 2, 3, 3, 2))
    layer = functools.partial(layers.batch_normalization, training=True)
    tree = js.init(layer)(jax.random.key(0), x[0])
    whole, expected = js.with_updates(layer)(tree, x.reshape(8, 3, 3, 2))
    mapped = jax.vmap(lambda x: js.with_updates(layer)(tree, x, axis_name="b"), axis_name="b")
    y, updates = mapped(x)
    np.testing.assert_allclose(y.reshape(whole.shape), whole, atol=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(updates[name][0], value, rtol=1e-5)


def test_two_dropouts_differ_and_keep_their_share_in_scale():
    def model(scope, x):
        a = layers.dropout(scope, x, 0.25, training=True)
        b = layers.dropout(scope, x, 0.25, training=True)
        c = contrib.dropout(scope, x, 0.75, seed=1, scope="c")
        return a, b, c, layers.dropout(scope, x), contrib.dropout(scope, x, is_training=False)

    x = jnp.ones(4000)
    a, b, c, *not_training = model(js.Scope({}, rngs=jax.random.key(0)), x)
    for mask in (a, b, c):
        assert set(np.unique(mask)) == {0, np.float32(1 / 0.75)}
        assert abs(float(mask.mean()) - 1) < 0.05
    assert (a != b).any()
    assert (b != c).any()
    for y in not_training:
        np.testing.assert_array_equal(y, x)


def test_a_seed_of_a_dropout_gives_another_mask():
    x = jnp.ones(100)
    masks = [
        layers.dropout(js.Scope({}, rngs=jax.random.key(0)), x, seed=seed, training=True)
        for seed in (None, 1, 2, 1)
    ]
    assert (masks[0] != masks[1]).any()
    assert (masks[1] != masks[2]).any()
    np.testing.assert_array_equal(masks[1], masks[3])


def test_outputs_are_recorded_under_their_collections():
    def model(scope, x):
        scope = tf1.arg_scope(
            scope, [contrib.conv2d, contrib.max_pool2d], outputs_collections="end_points"
        )
        x = contrib.conv2d(scope, x, 2, 3, scope="conv1")
        return contrib.max_pool2d(scope, x, 2, scope="pool1")

    x = jnp.ones((1, 4, 4, 1))
    tree = js.init(model)(jax.random.key(0), x)
    y, records = js.with_records(model)(tree, x)
    assert list(records) == ["conv1/end_points", "pool1/end_points"]
    np.testing.assert_array_equal(records["pool1/end_points"], y)


def test_collections_of_variables_are_given_for_all_or_by_name():
    def model(scope, x):
        x = contrib.fully_connected(scope, x, 2, variables_collections=["a"])
        return contrib.fully_connected(scope, x, 2, variables_collections={"weights": ["b"]})

    declared = js.declare(model)(jnp.ones((1, 2)))
    assert list(declared.collection("a")) == ["fully_connected/weights", "fully_connected/biases"]
    assert list(declared.collection("b")) == ["fully_connected_1/weights"]


def test_embed_sequence_and_embedding_give_rows():
    ids = jnp.array([[2, 0]])

    def model(scope):
        return layers.embedding(scope, ids, 3, 2), contrib.embed_sequence(scope, ids, 3, 2)

    tree = js.init(model)(jax.random.key(0))
    assert sorted(tree) == ["EmbedSequence/embeddings", "embedding/embeddings"]
    for y, name in zip(model(js.Scope(tree)), ("embedding", "EmbedSequence"), strict=True):
        np.testing.assert_array_equal(y, np.asarray(tree[f"{name}/embeddings"])[np.array(ids)])


def test_the_other_functions_of_contrib_are_what_they_say():
    scope = js.Scope({})
    x = jnp.array([[1.0, 2.0]])
    np.testing.assert_allclose(contrib.softmax(scope, x), jax.nn.softmax(x))
    one_hot = contrib.one_hot_encoding(scope, jnp.array([1]), 3, on_value=2.0, off_value=-1.0)
    np.testing.assert_array_equal(one_hot, [[-1, 2, -1]])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s, x: layers.dense(s, x, 2, activity_regularizer=regularizers.l2(1.0)), "record"),
        (lambda s, x: layers.batch_normalization(s, x, renorm=True), "renorm=True"),
        (lambda s, x: contrib.batch_norm(s, x, zero_debias_moving_mean=True), "zero_debias"),
    ],
)
def test_arguments_that_mean_nothing_are_errors(call, text):
    with pytest.raises(TypeError, match=text):
        js.declare(call)(jnp.ones((2, 2)))


def test_inputs_of_another_rank_are_errors():
    with pytest.raises(js.ShapeMismatchError, match="expected 4 axes, found 3"):
        js.declare(layers.conv2d)(jnp.ones((1, 2, 3)), 2, 2)
    with pytest.raises(js.ShapeMismatchError, match="expected 4 axes, found 2"):
        js.declare(contrib.max_pool2d)(jnp.ones((1, 2)), 2)
    with pytest.raises(ValueError, match="data_format"):
        js.declare(layers.conv2d)(jnp.ones((1, 2, 3, 4)), 2, 2, data_format="NCWH")


def test_an_activation_may_be_a_name_of_jax_nn():
    x = jnp.array([[-1.0, 1.0]])
    tree = {"dense/kernel": jnp.eye(2), "dense/bias": jnp.zeros(2)}
    np.testing.assert_array_equal(layers.dense(js.Scope(tree), x, 2, "relu"), [[0, 1]])
    np.testing.assert_array_equal(layers.dense(js.Scope(tree), x, 2, "linear"), x)
    with pytest.raises(ValueError, match=r"jax\.nn\.rule"):
        layers.dense(js.Scope(tree), x, 2, "rule")


def test_a_default_name_in_a_transform_is_an_error_that_says_what_to_write():
    with pytest.raises(js.ScopeError, match="default name 'dense' was requested"):
        js.declare(lambda scope, x: jax.jit(lambda x: layers.dense(scope, x, 2))(x))(
            jnp.ones((2, 2))
        )


def test_variables_have_the_scopes_dtype_and_results_that_of_the_input():
    def model(scope, x):
        x = layers.dense(scope, x, 2)
        return contrib.fully_connected(scope, x, 2, normalizer_fn=contrib.layer_norm)

    x = jnp.ones((2, 2), jnp.bfloat16)
    declared = js.declare(model)(x)
    assert {spec.dtype.name for spec in declared.values()} == {"float32"}
    assert model(js.Scope(declared.init(jax.random.key(0))), x).dtype == jnp.bfloat16
