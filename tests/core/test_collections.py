"""Collections: what is declared of a variable, and how it is found again."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jscope as js
from jscope import initializers as init
from jscope import regularizers

KEY = jax.random.key(0)
X = jnp.ones(2)
components = st.sampled_from(["a", "b", "a_1", "ab"])
names = st.lists(components, min_size=1, max_size=3).map("/".join)


def model(scope, x):
    """Towers that share a trunk, and a metric."""
    trunk = scope.variable_scope("trunk", regularizer=regularizers.l2(1.0))
    trunk.get_variable("w", (2,), initializer=init.ones, collections=["variables", "wanted"])
    trunk.get_variable("frozen", (2,), initializer=init.ones, trainable=False)
    for tower in ("tower", "tower_1"):
        inner = scope.variable_scope(tower)
        inner.get_variable("w", (2,), regularizer=regularizers.l1(1.0), initializer=init.ones)
        inner.get_variable("b", (2,), collections=["wanted"], regularizer=lambda w: None)
    scope.get_local_variable("count", (), initializer=init.zeros)
    return x


@pytest.fixture(scope="module")
def declared():
    return js.declare(model)(X)


def test_a_collection_is_in_order_of_creation(declared):
    assert declared.collection("wanted") == ("trunk/w", "tower/b", "tower_1/b")
    assert declared.collection(js.GraphKeys.GLOBAL_VARIABLES) == (
        "trunk/w",
        "trunk/frozen",
        "tower/w",
        "tower_1/w",
    )
    assert declared.collection("local_variables") == ("count",)
    assert declared.collection("nobody named this") == ()


def test_what_is_trainable_is_in_its_collection_whatever_else_it_is_in(declared):
    trainable = ("trunk/w", "tower/w", "tower/b", "tower_1/w", "tower_1/b")
    assert declared.trainable_variables() == declared.trainable == trainable
    named = js.declare(
        lambda s: s.get_variable("w", 2, trainable=False, collections=["trainable_variables"])
    )()
    assert named.trainable_variables() == ("w",)
    assert named.trainable == ()


def test_a_scope_is_not_the_beginning_of_a_name(declared):
    assert declared.trainable_variables("tower") == ("tower/w", "tower/b")
    assert declared.trainable_variables("tower/w") == ("tower/w",)
    assert declared.collection("wanted", "tow") == ()
    assert declared.trainable_variables("") == declared.trainable
    with pytest.raises(js.VariableNameError, match=r"trailing '/'\. Write 'tower'"):
        declared.trainable_variables("tower/")


def test_an_expression_is_matched_from_the_beginning(declared):
    found = declared.trainable_variables(re.compile("tower"))
    assert found == ("tower/w", "tower/b", "tower_1/w", "tower_1/b")
    assert declared.trainable_variables(re.compile("w")) == ()
    assert declared.trainable_variables(re.compile(".*/w$")) == ("trunk/w", "tower/w", "tower_1/w")


@given(st.lists(names, min_size=1, max_size=6, unique=True), names)
def test_filtering_is_by_components(all_names, scope):
    specs = {n: js.VariableSpec((), np.dtype("float32"), init.zeros) for n in all_names}
    cut = scope.split("/")
    expected = [n for n in all_names if n.split("/")[: len(cut)] == cut]
    assert list(js.Declaration(specs).collection("variables", scope)) == expected


def test_names_in_a_collection_select(declared):
    tree = declared.init(KEY)
    assert list(js.select(tree, declared.collection("wanted", "trunk"))) == ["trunk/w"]
    only = declared.init(KEY, only=declared.collection("local_variables"), given=tree)
    assert only == tree
    assert declared.missing(js.drop(tree, declared.trainable)) == declared.trainable


def test_collections_are_shown_if_any_was_named(declared):
    assert "uses  collections" in repr(declared)
    assert re.search(r"trunk/w .* 1  variables, wanted", repr(declared))
    assert "collections" not in repr(js.declare(lambda s: s.get_variable("w", 2))())


# Losses.


def test_losses_are_by_variable_and_by_scope(declared):
    tree = {name: jnp.full(spec.shape, 3.0) for name, spec in declared.items()}
    losses = declared.regularization_losses(tree)
    assert list(losses) == ["trunk/w", "trunk/frozen", "tower/w", "tower_1/w"]
    expected = [9.0, 9.0, 6.0, 6.0]
    np.testing.assert_allclose(list(losses.values()), expected)
    assert list(declared.regularization_losses(tree, "tower")) == ["tower/w"]
    assert list(declared.regularization_losses(tree, re.compile("tower"))) == list(losses)[2:]
    assert float(declared.regularization_loss(tree)) == 30.0
    assert float(declared.regularization_loss(tree, "trunk")) == 18.0
    assert float(declared.regularization_loss(tree, "nowhere")) == 0.0
    # A scope's losses need the scope's variables alone; gradients flow into these.
    part = js.select(js.VarTree(tree), "tower/*")
    gradient = jax.jit(jax.grad(lambda t: declared.regularization_loss(t, "tower")))(part)
    np.testing.assert_array_equal(gradient["tower/w"], [1.0, 1.0])
    with pytest.raises(js.MissingVariableError, match="trunk/w"):
        declared.regularization_losses(part)


def test_the_losses_of_a_stack_are_summed():
    def stacked(scope, x):
        def layer(x, scope):
            return x * scope.get_variable("w", (2,), regularizer=regularizers.l1(1.0)), None

        return jax.lax.scan(layer, x, scope.stacked("layers", 3))[0]

    declared = js.declare(stacked)(X)
    assert float(declared.regularization_losses({"layers/w": jnp.ones((3, 2))})["layers/w"]) == 6.0


# A scope's own.


def test_a_scope_knows_its_variables():
    seen = []

    def asking(scope, x):
        seen.append(scope.variables())
        a = scope.variable_scope("a")
        a.get_variable("w", (2,))
        a.get_variable("b/w", (2,), trainable=False)
        scope.variable_scope("a_1").get_variable("v", (2,))
        scope.shared("a").get_variable("w", (2,), trainable=False)  # is as it was created
        seen.append((a.variables(), a.trainable_variables(), scope.trainable_variables()))
        seen.append((scope / "a/b").variables())
        return x

    tree = js.init(asking)(KEY, X)
    declaring, seen[:] = list(seen), []
    asking(js.Scope(tree), X)
    bound, seen[:] = list(seen), []
    assert declaring[0] == ()
    assert bound[0] == ("a/b/w", "a/w", "a_1/v")
    assert declaring[1] == (("w", "b/w"), ("w",), ("a/w", "a_1/v"))
    assert bound[1] == (("b/w", "w"), ("w",), ("a/w", "a_1/v"))
    assert declaring[2] == bound[2] == ("w",)


def test_variables_that_are_made_in_transforms_are_known_where_that_can_be():
    def asking(scope, x):
        x = jax.jit(lambda s, x: x * s.get_variable("w", (2,)))(scope / "a", x)
        return scope.variables(), scope.trainable_variables()

    found = []
    js.declare(lambda s, x: found.append(asking(s, x)))(X)
    assert found == [(("a/w",), ("a/w",))]
    scope = js.Scope({"a/w": X, "b": X})
    with pytest.raises(js.ScopeError) as caught:
        asking(scope, X)
    assert "not of 'a/w', 'b'. Take them from the declaration" in str(caught.value)
    assert "declared.trainable_variables('')" in str(caught.value)
    inside = jax.jit(lambda s: (s.get_variable("w", (2,)), s.trainable_variables())[0])
    with pytest.raises(js.ScopeError, match="outside transforms"):
        inside(scope / "a")
