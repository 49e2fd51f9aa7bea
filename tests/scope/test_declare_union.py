"""``declared_a | declared_b``: several functions of one program are one declaration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers as init
from jscope import regularizers


def network(scope, x):
    with scope.variable_scope("net", regularizer=regularizers.l2(0.1)) as s:
        w = s.get_variable("w", (x.shape[-1], 3), initializer=jax.nn.initializers.he_normal())
        return x @ w + s.get_variable("b", initializer=lambda: jnp.ones(3, np.float32))[None]


def act(scope, x):
    return jnp.argmax(network(scope, x), -1)


def learn(scope, x):
    scale = scope.get_variable("scale", (), initializer=init.ones, trainable=False)
    return jnp.sum(network(scope, x) * scale)


def test_a_union_has_the_variables_of_both_in_their_order_and_counts_their_uses():
    x = jnp.ones((2, 4))
    one, other = js.declare(act)(x), js.declare(learn)(x)
    both = one | other
    assert list(both) == ["net/w", "net/b", "scale"]
    assert list(other | one) == ["scale", "net/w", "net/b"]
    assert both.trainable == ("net/w", "net/b")
    uses = [line.split()[-1] for line in repr(both).splitlines()[-3:]]
    assert uses == ["2", "2", "1"]
    key = jax.random.key(0)
    assert both.init(key) == other.init(key)
    variables = both.init(key)
    assert act(js.Scope(variables), x).shape == (2,)
    assert learn(js.Scope(variables), x).shape == ()


def test_a_union_lists_every_name_that_is_declared_differently_and_how():
    def one(scope):
        scope.get_variable("same", (2,))
        scope.get_variable("a", (2,), initializer=init.zeros)
        scope.get_variable("b", (2,))

    def other(scope):
        scope.get_variable("b", (3,), trainable=False)
        scope.get_variable("a", (2,), initializer=init.ones)
        scope.get_variable("same", (2,))

    with pytest.raises(js.TreeMismatchError) as error:
        js.declare(one)() | js.declare(other)()
    text = str(error.value)
    assert "differ in 3 places" in text
    assert "'a': initializer" in text
    assert "'b': shape (2,) in the first, (3,) in the second" in text
    assert "'b': trainable True in the first, False in the second" in text
    assert "'same'" not in text
    assert "under another scope in one of them" in text


def test_a_declaration_has_no_union_with_anything_else():
    declared = js.declare(act)(jnp.ones((2, 4)))
    with pytest.raises(TypeError, match="unsupported operand"):
        declared | {"w": 1}


def test_check_accepts_an_undeclared_global_step_of_tf1_and_nothing_else():
    declared = js.declare(act)(jnp.ones((2, 4)))
    variables = declared.init(jax.random.key(0))
    declared.check(variables | {"global_step": np.int64(1000)})
    with pytest.raises(js.TreeMismatchError, match="unexpected: 'global_step' float32"):
        declared.check(variables | {"global_step": np.ones((2,), np.float32)})
    with pytest.raises(js.TreeMismatchError, match="unexpected: 'net/global_step'"):
        declared.check(variables | {"net/global_step": np.int64(1000)})
