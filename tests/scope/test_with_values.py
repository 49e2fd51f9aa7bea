"""`js.VarTree(scope)` and `scope.with_values(tree)`: a part of a model over other values."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint

import jscope as js
from jscope import layers

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
KEY = jax.random.key(3)


def block(scope, x):
    w = scope.get_variable("w", (3, 3))
    return layers.dropout(scope / "drop", jnp.tanh(x @ w), rate=0.5, training=True)


def adapted(scope, x):
    """Model-agnostic meta-learning: a step of descent inside of the model."""
    inner = scope / "inner"
    tree = js.VarTree(inner)
    gradients = jax.grad(lambda tree: (block(inner.with_values(tree), x) ** 2).sum())(tree)
    tree = jax.tree.map(lambda w, g: w - 0.1 * g, tree, gradients)
    return block(inner.with_values(tree), x) @ scope.get_variable("head", (3, 2))


def adapted_by_hand(w, head, mask, x):
    def forward(w):
        return jnp.where(mask, jnp.tanh(x @ w) / 0.5, 0)

    w = w - 0.1 * jax.grad(lambda w: (forward(w) ** 2).sum())(w)
    return forward(w) @ head


def test_maml_with_dropout_inside_a_model_equals_the_mathematics():
    variables = js.init(adapted)(KEY, X)
    assert {name: v.shape for name, v in variables.items()} == {"head": (3, 2), "inner/w": (3, 3)}
    drop = js.Scope({}, rngs=KEY) / "inner/drop"  # which draws the same mask elsewhere
    mask = layers.dropout(drop, jnp.ones((4, 3)), rate=0.5, training=True) != 0
    assert 0 < mask.sum() < mask.size

    def loss(variables):
        return (adapted(js.Scope(variables, rngs=KEY), X) ** 2).sum()

    def by_hand(variables):
        return (adapted_by_hand(variables["inner/w"], variables["head"], mask, X) ** 2).sum()

    expected = jax.value_and_grad(by_hand)(dict(variables))
    with jax.checking_leaks():
        for wrap in (lambda f: f, jax.jit):
            value, gradients = wrap(jax.value_and_grad(loss))(variables)
            np.testing.assert_allclose(value, expected[0], rtol=1e-5)
            for name, gradient in gradients.items():
                np.testing.assert_allclose(gradient, expected[1][name], rtol=1e-4, atol=1e-6)


def test_two_steps_of_adaptation_without_a_transform_around_the_second_use():
    def model(scope, x):
        first = block(scope.with_values(js.VarTree(scope)), x)
        second = block(scope.with_values(js.VarTree(scope)), x)
        return first, second, block(scope, x)

    variables = js.init(model)(KEY, X)
    assert list(variables) == ["w"]
    first, second, third = model(js.Scope(variables, rngs=KEY), X)
    assert (first == second).all()  # the same keys
    assert (first == third).all()


def test_an_ode_s_parameters_are_a_scope_s_tree():
    def field(scope, y):
        return -scope.get_variable("rate", (), initializer=js.initializers.ones) * y

    def model(scope, y):
        scope = scope / "field"
        field(scope, y)

        def slope(y, t, tree):
            del t
            return field(scope.with_values(tree), y)

        return odeint(slope, y, jnp.array([0.0, 1.0]), js.VarTree(scope))[-1]

    variables = js.init(model)(KEY, jnp.float32(2))
    variables = js.assign(variables, "field/rate", jnp.float32(0.5))
    out, slope = jax.value_and_grad(lambda v: model(js.Scope(v, rngs=KEY), jnp.float32(2)))(
        variables
    )
    np.testing.assert_allclose(out, 2 * np.exp(-0.5), rtol=1e-4)
    np.testing.assert_allclose(slope["field/rate"], -2 * np.exp(-0.5), rtol=1e-3)


def test_a_cast_over_the_leaves():
    scope = js.Scope({"w": jnp.ones((3, 3)), "n": jnp.int32(1)}, rngs=KEY)
    half = jax.tree.map(lambda v: v.astype(jnp.bfloat16), js.VarTree(scope))
    assert scope.with_values(half).get_variable("w").dtype == jnp.bfloat16
    assert scope.get_variable("w").dtype == jnp.float32


# The tree of a scope.


def test_a_scope_s_tree_has_its_values_by_relative_names_with_what_was_assigned():
    def model(scope):
        a = scope / "a"
        before = js.VarTree(a)
        (a / "b").assign("n", jnp.int32(5))
        return before, js.VarTree(a), js.VarTree(scope)

    tree = js.VarTree({"a/b/n": jnp.int32(1), "a/m": jnp.int32(2), "c": jnp.int32(3)})
    before, after, whole = js.with_updates(model)(tree)[0]
    assert before == js.VarTree({"b/n": jnp.int32(1), "m": jnp.int32(2)})
    assert after == js.VarTree({"b/n": jnp.int32(5), "m": jnp.int32(2)})
    assert whole == tree | {"a/b/n": jnp.int32(5)}
    assert js.VarTree(js.Scope(tree)) == tree
    assert len(js.VarTree(js.Scope(tree) / "nothing")) == 0


def test_while_declaring_it_has_the_abstract_values_of_those_declared_so_far():
    def model(scope):
        a = scope / "a"
        assert len(js.VarTree(a)) == 0
        a.get_variable("w", (2, 3))
        (a / "b").get_variable("n", (), jnp.int32)
        scope.get_variable("c", ())
        tree = js.VarTree(a)
        assert {name: (v.shape, v.dtype) for name, v in tree.items()} == {
            "b/n": ((), jnp.int32),
            "w": ((2, 3), jnp.float32),
        }
        assert all(isinstance(v, jax.core.Tracer) for v in tree.values())

    declared = js.declare(model)()
    assert declared._times == {"a/w": 1, "a/b/n": 1, "c": 1}  # looking at a tree is no request


def test_while_initialising_inline_a_scope_s_tree_has_values():
    def model(scope):
        scope.get_variable("w", initializer=X)
        return scope.get_variable("v", initializer=2 * js.VarTree(scope)["w"])

    assert (js.init(model, inline=True)(KEY)["v"] == 2 * X).all()


def test_a_stack_s_tree_is_stacked_and_a_slice_s_is_sliced():
    shapes = []

    def model(scope, x):
        stack = scope.stacked("layers", 4)

        def body(x, layer):
            x = x @ layer.get_variable("w", (3, 3))
            shapes.append(js.VarTree(layer)["w"].shape)
            return x @ layer.with_values(js.VarTree(layer)).get_variable("w", (3, 3)), None

        x = jax.lax.scan(body, x, stack)[0]
        shapes.append(js.VarTree(stack)["w"].shape)
        return x

    variables = js.init(model)(KEY, X)
    assert set(shapes) == {(3, 3), (4, 3, 3)}
    shapes.clear()
    out = model(js.Scope(variables), X)
    assert set(shapes) == {(3, 3), (4, 3, 3)}
    expected = X
    for w in variables["layers/w"]:
        expected = expected @ w @ w
    np.testing.assert_allclose(out, expected, rtol=1e-4)


# The scope over other values.


def in_both_modes(model):
    """What a model raises, while declaring and while applying."""
    texts = []
    for run in (lambda: js.declare(model)(X), lambda: model(js.Scope({"a/w": X}, rngs=KEY), X)):
        with pytest.raises(js.JscopeError) as caught:
            run()
        texts.append(re.split(r"[?\n]", str(caught.value))[0])  # what follows is the hint
    assert texts[0] == texts[1]
    return texts[0]


def other(scope):
    return scope.with_values(js.VarTree(scope))


def test_it_may_have_other_variables_and_says_which_are_missing():
    scope = js.Scope({"a/w": X, "a/v": X}) / "a"
    assert js.VarTree(scope.with_values({"u": X})) == js.VarTree({"u": X})
    with pytest.raises(js.MissingVariableError) as caught:
        scope.with_values({"u": X})["w"]
    assert "No variable at 'a/w'" in str(caught.value)
    assert "'a/v'" not in str(caught.value)
    with pytest.raises(TypeError, match="A VarTree or another mapping is needed, got list"):
        scope.with_values([X])
    with pytest.raises(TypeError, match="VarTree needs a mapping, got list"):
        js.VarTree([X])


def test_it_keeps_the_defaults_the_name_and_the_getters():
    def double(getter, name, **arguments):
        assert name == "a/b/w"
        return 2 * getter(name, **arguments)

    scope = js.Scope({"a/b/w": X}).variable_scope(
        "a", custom_getter=double, initializer=js.initializers.ones, reuse=js.AUTO_REUSE
    )
    again = scope.with_values({"b/w": 2 * X})
    assert again.name == "a"
    assert again.reuse is js.AUTO_REUSE
    assert again.initializer is js.initializers.ones
    assert ((again / "b").get_variable("w") == 4 * X).all()


def test_default_names_are_counted_anew_in_it():
    def model(scope, x):
        names = []
        for one in (scope, other(scope)):
            names += [one.variable_scope(None, "conv").name for _ in range(2)]
        return names

    expected = ["conv", "conv_1", "conv", "conv_1"]
    assert model(js.Scope({}), X) == expected
    js.declare(lambda scope, x: np.testing.assert_array_equal(model(scope, x), expected))(X)


def test_twice_in_it_is_a_second_use():
    def model(scope, x):
        again = other(scope / "a")
        return again.get_variable("w", (4, 3)) + again.get_variable("w", (4, 3))

    assert "Variable a/w already exists" in in_both_modes(model)


def test_what_is_assigned_in_it_has_its_own_with_updates():
    def assigns(scope, x):
        w = scope.get_variable("w", (4, 3))
        scope.assign("w", w + 1)
        return w

    assert "nothing collects updates here" in in_both_modes(
        lambda scope, x: assigns(other(scope / "a"), x)
    )
    scope = js.Scope({"a/w": X}) / "a"
    _, updates = js.with_updates(lambda scope: js.with_updates(assigns)(other(scope), X)[1])(scope)
    assert dict(updates) == {}
    _, updates = js.with_updates(assigns)(scope.with_values({"w": 2 * X}), X)
    assert (updates["w"] == 2 * X + 1).all()


def test_what_is_recorded_in_it_is_not_lost_without_a_word():
    def model(scope):
        other(scope / "a").record("y", X)

    with pytest.raises(js.ScopeError, match=r"The records 'a/y' were made inside a transform"):
        js.with_records(model)({})
    model(js.Scope({}))
    _, records = js.with_records(lambda scope: scope.record("y", X))(other(js.Scope({})))
    assert (records["y"] == X).all()


def test_it_is_a_root_of_its_own():
    def model(scope, x):
        again = other(scope)
        return again.variable_scope(scope / "a").get_variable("w", (4, 3))

    assert "can't be entered from '': it is another tree's" in in_both_modes(model)
