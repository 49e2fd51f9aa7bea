"""The RNNs of `tf1.layers`: what TensorFlow can't show; names and values are in test_tf1_layers."""

import re

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


FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_may_be_a_name_as_in_tf1(name):
    kernel = np.float32([[1.0, -2.0], [0.5, 1.5], [-1.0, 2.0]])
    bias, x, state = np.float32([0.1, -0.2]), np.float32([[3.0]]), np.float32([[0.5, -0.5]])
    scope = js.Scope({"basic_rnn_cell/kernel": kernel, "basic_rnn_cell/bias": bias})
    found, _ = layers.BasicRNNCell(2, name)(scope, jnp.array(x), jnp.array(state))
    before = np.concatenate([x, state], axis=1) @ kernel + bias
    assert before.min() < 0 < before.max()
    np.testing.assert_allclose(found, FUNCTIONS[name](before), rtol=1e-6)


@pytest.mark.parametrize("kind", ["BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell"])
def test_a_cell_with_the_name_of_an_activation_is_that_with_the_function(kind):
    outputs = []
    for activation in ("relu", jax.nn.relu):
        run = in_loop(getattr(layers, kind)(4, activation=activation))
        outputs.append(run(js.Scope(js.init(run)(jax.random.key(0)))))
    jax.tree.map(np.testing.assert_array_equal, *outputs)
    with pytest.raises(ValueError, match=r"There is no activation jax\.nn\.rule\. Pass a function"):
        getattr(layers, kind)(4, activation="rule")
    with pytest.raises(TypeError, match=r"or the name of one in jax\.nn, got 3 of type int"):
        getattr(layers, kind)(4, activation=3)


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


def in_loop(cell, x=X, **arguments):
    return lambda s: layers.dynamic_rnn(s, cell, x, **{"dtype": jnp.float32, **arguments})


def in_list(cell, x=X, **arguments):
    steps = list(jnp.unstack(x, axis=1))
    return lambda s: layers.static_rnn(s, cell, steps, **{"dtype": jnp.float32, **arguments})


@pytest.mark.parametrize("first", [in_loop, in_list])
@pytest.mark.parametrize("second", [in_loop, in_list])
def test_two_cells_cannot_have_the_same_variables_in_two_loops(first, second):
    def model(scope):
        first(layers.BasicLSTMCell(3))(scope)
        second(layers.BasicLSTMCell(3))(scope)

    def stacked(scope):
        first(layers.BasicLSTMCell(3))(scope)
        second(layers.BasicLSTMCell(3), scope="rnn_2")(scope)

    text = "Variable rnn/basic_lstm_cell/kernel already exists, disallowed"
    with pytest.raises(js.VariableExistsError, match=text):
        js.declare(model)()
    tree = js.init(stacked)(jax.random.key(0))
    assert {name.partition("/")[0] for name in tree} == {"rnn", "rnn_2"}
    with pytest.raises(js.VariableExistsError, match=text):
        model(js.Scope(tree))
    with pytest.raises(js.VariableExistsError, match=text):
        jax.jit(lambda tree: model(js.Scope(tree)))(tree)


def test_a_loop_that_failed_leaves_its_names_free():
    def model(scope):
        scope.get_variable("rnn/gru_cell/gates/bias", (1,))  # of another shape than the cell's
        again = scope.variable_scope(scope, reuse=js.AUTO_REUSE)
        with pytest.raises(js.ShapeMismatchError):
            in_loop(layers.GRUCell(3))(again)
        scope.get_variable("rnn/gru_cell/candidate/kernel", (1,))

    names = ["gates/bias", "gates/kernel", "candidate/kernel"]
    assert list(js.declare(model)()) == [f"rnn/gru_cell/{name}" for name in names]


def test_a_weak_type_of_an_initial_state_is_no_second_use():
    state = jnp.full((2, 3), 0.5)
    assert state.weak_type
    assert len(js.declare(in_loop(layers.GRUCell(3), initial_state=state))()) == 4


@pytest.mark.parametrize("run", [in_loop, in_list])
def test_one_cell_in_two_scopes_has_its_variables_in_the_first(run):
    cell = layers.MultiRNNCell([layers.GRUCell(3), layers.DropoutWrapper(layers.GRUCell(3))])

    def model(scope):
        return run(cell, scope="enc")(scope)[0], run(cell, scope="dec")(scope)[0]

    declared = js.declare(model)()
    assert len(declared) == 8
    assert all(name.startswith("enc/multi_rnn_cell/cell_") for name in declared)
    tree = declared.init(jax.random.key(0))
    np.testing.assert_array_equal(*map(jnp.asarray, model(js.Scope(tree))))


def test_a_cell_in_two_scopes_draws_another_mask_in_each_step_of_both():
    wrapped = layers.DropoutWrapper(layers.BasicRNNCell(40), output_keep_prob=0.5)
    cell = layers.MultiRNNCell([wrapped])

    def model(scope):
        return in_loop(cell, scope="enc")(scope)[0], in_loop(cell, scope="dec")(scope)[0]

    tree = js.init(model)(jax.random.key(0))
    for y in model(js.Scope(tree, rngs=jax.random.key(1))):
        zero = np.asarray(y) == 0
        assert (zero[:, 0] != zero[:, 1]).any()


def test_a_cell_without_a_name_in_a_transform_says_how_it_gets_one():
    def model(scope, cell):
        return jax.jit(lambda s, x: cell(s, x, jnp.zeros((2, 3))))(scope, X[:, 0])

    text = r"The cell 'gru_cell' was called .* Write GRUCell\(..., name='gru_cell'\), or call"
    with pytest.raises(js.ScopeError, match=text):
        js.declare(model)(layers.GRUCell(3))
    assert len(js.declare(model)(layers.GRUCell(3, name="gru_cell"))) == 4


def test_lengths_that_are_floats_are_cut_off():
    tree = js.init(in_loop(layers.GRUCell(3)))(jax.random.key(0))
    for run in (in_loop, in_list):
        y, _ = run(layers.GRUCell(3), sequence_length=[1.9, 3.0])(js.Scope(tree))
        y = y if run is in_loop else jnp.stack(y, 1)
        np.testing.assert_array_equal((np.asarray(y) != 0).any(-1).sum(1), [1, 3])


WRONG = "has state_size 2, so its state for inputs of shape (2, 3) has the shape (2, 2), but got "


@pytest.mark.parametrize("run", [in_loop, in_list])
@pytest.mark.parametrize(
    ("cell", "arguments", "error", "text"),
    [
        (
            layers.GRUCell(2),
            {"initial_state": jnp.ones((2, 4))},
            js.ShapeMismatchError,
            f"GRUCell in the scope 'rnn/gru_cell' {WRONG}(2, 4).",
        ),
        (
            layers.BasicRNNCell(2),
            {"initial_state": jnp.ones((2, 7))},
            js.ShapeMismatchError,
            f"BasicRNNCell in the scope 'rnn/basic_rnn_cell' {WRONG}(2, 7).",
        ),
        (
            layers.GRUCell(2),
            {"initial_state": jnp.ones((3, 2))},
            js.ShapeMismatchError,
            f"{WRONG}(3, 2). The cell's number of units is that of its state",
        ),
        (
            layers.BasicLSTMCell(2),
            {"initial_state": jnp.ones((2, 2))},
            js.ShapeMismatchError,
            "has the shape LSTMStateTuple(c=(2, 2), h=(2, 2)), but got (2, 2).",
        ),
        (
            layers.LSTMCell(2),
            {"initial_state": (jnp.ones((2, 2)), jnp.ones((2, 3)))},
            js.ShapeMismatchError,
            "LSTMCell in the scope 'rnn/lstm_cell' has state_size LSTMStateTuple(c=2, h=2)",
        ),
        (
            layers.MultiRNNCell([layers.GRUCell(2)]),
            {"initial_state": jnp.ones((2, 2))},
            js.ShapeMismatchError,
            "MultiRNNCell in the scope 'rnn/multi_rnn_cell' has state_size (2,)",
        ),
        (
            layers.GRUCell(2),
            {"dtype": jnp.float16},
            js.DtypeMismatchError,
            "inputs of dtype float32 and a state of dtype float16. Write dtype=x.dtype for",
        ),
        (
            layers.GRUCell(2),
            {"sequence_length": [1, 2, 3]},
            js.ShapeMismatchError,
            "of shape (3,), for a batch of 2. Give one length for each sequence",
        ),
        (
            layers.GRUCell,
            {},
            TypeError,
            "takes a cell, got the class GRUCell, which makes cells. Write GRUCell(...), with",
        ),
        (3, {}, TypeError, "_rnn is not an RNNCell: got 3. Write a subclass of js.tf1.layers."),
    ],
)
def test_arguments_that_do_not_fit_are_named(run, cell, arguments, error, text):
    with pytest.raises(error, match=re.escape(text)):
        js.declare(run(cell, **arguments))()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            in_loop(layers.BasicLSTMCell(2), X[0]),
            js.ShapeMismatchError,
            "BasicLSTMCell in the scope 'rnn/basic_lstm_cell' takes inputs of shape (batch, "
            "features), got (4,). dynamic_rnn takes (batch, time, features)",
        ),
        (in_loop(layers.GRUCell(2), X[0, 0]), js.ShapeMismatchError, "features), got (3,)."),
        (
            in_loop(layers.GRUCell(2), [X[:, 0]]),
            TypeError,
            "takes one array (batch, time, features), got a list of 1. Write jnp.stack(inputs, 1)",
        ),
        (
            lambda s: layers.static_rnn(s, layers.GRUCell(2), X, dtype=X.dtype),
            TypeError,
            "of shape (2, 4, 3). Write list(jnp.unstack(x, axis=1)) for x of",
        ),
        (
            lambda s: layers.MultiRNNCell([layers.GRUCell]),
            TypeError,
            "MultiRNNCell takes a cell, got the class GRUCell",
        ),
        (
            lambda s: layers.DropoutWrapper(layers.GRUCell(2), 0),
            ValueError,
            "`input_keep_prob` is the probability to keep a value, in (0, 1], got 0.",
        ),
    ],
)
def test_inputs_and_cells_that_do_not_fit_are_named(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        js.declare(call)()


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
