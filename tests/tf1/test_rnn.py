"""The RNNs of `tf1.layers`: what TensorFlow can't show; names and values are in test_tf1_layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope.tf1 import layers

X = jax.random.normal(jax.random.key(0), (2, 4, 3))


def test_the_loop_is_that_of_calls_step_by_step():
    cell = layers.LSTMCell(4, use_peepholes=True)

    def by_hand(scope, x):
        inner = scope.variable_scope("rnn")
        state = cell.zero_state(2, x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            y, state = cell(inner, x[:, t], state)
            outputs.append(y)
        return jnp.stack(outputs, 1), state

    def loop(scope, x):
        return layers.dynamic_rnn(scope, cell, x, dtype=x.dtype)

    assert list(js.declare(by_hand)(X)) == list(js.declare(loop)(X))
    tree = js.init(loop)(jax.random.key(1), X)
    found, expected = (jax.tree.leaves(model(js.Scope(tree), X)) for model in (loop, by_hand))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_object_shares_its_variables_and_another_has_its_own():
    one, other = layers.GRUCell(3), layers.GRUCell(3)

    def model(scope, x):
        h = one.zero_state(2)
        for cell in (one, one, other, one):
            x, h = cell(scope, x, h)
        return x

    names = list(js.declare(model)(X[:, 0]))
    assert {name.split("/")[0] for name in names} == {"gru_cell", "gru_cell_1"}
    assert len(names) == 8


def test_a_second_run_of_the_model_has_the_same_names():
    cell = layers.GRUCell(3)

    def model(scope, x):
        return layers.dynamic_rnn(scope, cell, x, dtype=x.dtype)

    assert list(js.declare(model)(X)) == list(js.declare(model)(X))
    tree = js.init(model)(jax.random.key(0), X)
    apply = jax.jit(lambda tree: model(js.Scope(tree), X)[0])
    np.testing.assert_allclose(apply(tree), model(js.Scope(tree), X)[0], atol=1e-6)


def test_reuse_shares_what_exists():
    def model(scope, x):
        y, _ = layers.dynamic_rnn(scope, layers.GRUCell(3), x, dtype=x.dtype)
        again = scope.variable_scope(scope, reuse=True)
        z, _ = layers.dynamic_rnn(again, layers.GRUCell(3), x, dtype=x.dtype)
        with scope.variable_scope("rnn") as inner:
            w, _ = layers.GRUCell(3, reuse=True)(inner, x[:, 0], jnp.zeros((2, 3)))
        return y, z, w

    assert len(js.declare(model)(X)) == 4
    tree = js.init(model)(jax.random.key(0), X)
    y, z, w = model(js.Scope(tree), X)
    np.testing.assert_array_equal(y, z)
    np.testing.assert_allclose(w, y[:, 0], atol=1e-6)


def test_a_cell_of_ones_own():
    class Accumulator(layers.RNNCell):
        state_size = output_size = 3

        def call(self, scope, inputs, state):
            w = scope.get_variable("w", (3,), initializer=js.initializers.ones)
            state = state + w[None] * inputs
            return state, state

    def model(scope, x):
        return layers.dynamic_rnn(scope, Accumulator(), x, dtype=x.dtype)[0]

    assert list(js.declare(model)(X)) == ["rnn/accumulator/w"]
    y = model(js.Scope({"rnn/accumulator/w": jnp.ones(3)}), X)
    np.testing.assert_allclose(y, np.cumsum(X, axis=1), atol=1e-6)


def test_dropout_draws_another_mask_in_each_step():
    cell = layers.DropoutWrapper(layers.BasicLSTMCell(50), 1.0, 0.5, state_keep_prob=0.9)

    def model(scope, x):
        return layers.dynamic_rnn(scope, cell, x, dtype=x.dtype)[0]

    assert list(js.declare(model)(X)) == ["rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias"]
    tree = js.init(model)(jax.random.key(0), X)
    y = model(js.Scope(tree, rngs=jax.random.key(1)), X)
    zero = np.asarray(y) == 0
    assert 0.3 < zero.mean() < 0.7
    assert (zero[:, 0] != zero[:, 1]).any()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda s: layers.dynamic_rnn(s, layers.GRUCell(3), X),
            ValueError,
            "`dtype` must be specified",
        ),
        (lambda s: layers.static_rnn(s, layers.GRUCell(3), []), ValueError, "must not be empty"),
        (lambda s: layers.MultiRNNCell([]), ValueError, "at least one cell"),
        (
            lambda s: layers.MultiRNNCell([layers.GRUCell(1)], False),
            TypeError,
            "the state is a tuple",
        ),
        (lambda s: layers.LSTMCell(3, num_unit_shards=2), TypeError, "partitioner"),
        (
            lambda s: layers.DropoutWrapper(layers.GRUCell(3), variational_recurrent=True),
            TypeError,
            "one mask",
        ),
    ],
)
def test_what_cannot_be_is_an_error(call, error, text):
    with pytest.raises(error, match=text):
        call(js.Scope({}))
