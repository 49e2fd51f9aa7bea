"""A scope is an argument of the user's own transforms: declaring and bound, nothing stale."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js
from jscope import initializers as init
from jscope._errors import VariableExistsError

KEY = jax.random.key(0)
X = jnp.arange(6.0).reshape(2, 3)


def scale(scope, x, name="w"):
    """``x`` times a 3×3 matrix: the block from which the models here are made."""
    return x @ scope.get_variable(name, (3, 3), initializer=init.glorot_uniform())


def check(model, expected, names=("a/w",), *, reverse=True):
    """Declare the model, run it eagerly and under jit, compare value and gradient; no leaks.

    Args:
        model: ``model(scope, x)``.
        expected: The same as a function of the weights, in order of creation, and of ``x``.
        names: The weights' names, in order of creation.
        reverse: Whether the model can be differentiated backwards.
    """
    with jax.checking_leaks():
        declared = js.declare(model)(X)
        assert list(declared) == list(names)
        variables = js.VarTree(
            {n: jax.random.normal(jax.random.key(i), (3, 3)) for i, n in enumerate(declared)}
        )
        weights = [variables[name] for name in names]

        def total(variables, x):
            return (model(js.Scope(variables), x) ** 2).sum()

        def expected_total(weights, x):
            return (expected(*weights, x) ** 2).sum()

        want = jax.jit(expected_total)(weights, X)
        for wrap in (lambda f: f, jax.jit):
            np.testing.assert_allclose(wrap(total)(variables, X), want, rtol=1e-4)
        if reverse:
            found = jax.jit(jax.grad(total))(variables, X)
            wanted = jax.jit(jax.grad(expected_total))(weights, X)
            for name, want in zip(names, wanted, strict=True):
                np.testing.assert_allclose(found[name], want, rtol=1e-3, atol=1e-4)


def test_jit():
    check(lambda s, x: jax.jit(scale)(s / "a", x), lambda w, x: x @ w)


def test_nested_jit_and_checkpoint():
    block = jax.jit(jax.checkpoint(jax.jit(scale)))
    check(
        lambda s, x: block(s / "a", block(s / "b", x)),
        lambda b, a, x: x @ b @ a,
        names=("b/w", "a/w"),
    )


@pytest.mark.parametrize("in_axes", [(None, 0), (None, 1)])
def test_vmap_with_shared_variables(in_axes):
    def model(s, x):
        square = jnp.pad(x, ((0, 1), (0, 0)))
        return jax.vmap(scale, in_axes=in_axes)(s / "a", square)

    def expected(w, x):
        square = jnp.pad(x, ((0, 1), (0, 0)))
        return (square if in_axes[1] == 0 else square.T) @ w

    check(model, expected)


def test_vmap_over_the_variables_of_many_models():
    declared = js.declare(lambda s, x: scale(s / "a", x))(X)
    many = jax.vmap(declared.init)(jax.random.split(KEY, 4))
    for in_axes in (0, (0, None)):
        x = jnp.broadcast_to(X, (4, 2, 3)) if in_axes == 0 else X
        found = jax.vmap(scale, in_axes=in_axes)(js.Scope(many) / "a", x)
        np.testing.assert_allclose(found, jnp.einsum("ij,njk->nik", X, many["a/w"]), rtol=1e-5)
    # Declaring, a scope has nothing to map.
    inside = js.declare(lambda s, x: jax.vmap(scale)(s / "a", x))(X[:, None])
    assert inside["a/w"].shape == (3, 3)


def test_checkpoint():
    check(lambda s, x: jax.checkpoint(scale)(s / "a", x), lambda w, x: x @ w)


def test_scan_closing_over_a_scope():
    def model(s, x):
        return lax.scan(lambda x, _: (scale(s / "a", x), None), x, length=3)[0]

    check(model, lambda w, x: x @ w @ w @ w)


def test_scan_with_a_scope_in_the_carry():
    def model(s, x):
        def body(carry, _):
            scope, x = carry
            return (scope, scale(scope / "in", x)), None

        return lax.scan(body, (s / "a", x), length=2)[0][1]

    check(model, lambda w, x: x @ w @ w, names=("a/in/w",))


def test_cond_with_other_variables_in_each_branch():
    def model(s, x):
        def one(x):
            return scale(s / "one", x)

        def other(x):
            return scale(s / "other", scale(s / "more", x))

        return lax.cond(x.sum() > 0, one, other, x) + lax.cond(x.sum() < 0, one, other, x)

    check(
        model,
        lambda one, more, other, x: x @ one + x @ more @ other,
        names=("one/w", "more/w", "other/w"),
    )


def test_switch_takes_scopes_as_operands():
    def model(s, x):
        branches = [scale, lambda s, x: scale(s, x, "v")]
        return lax.switch(jnp.int32(1), branches, s / "a", x) + lax.switch(
            jnp.int32(0), branches, s / "a", x
        )

    check(model, lambda w, v, x: x @ v + x @ w, names=("a/w", "a/v"))


def test_while_loop():
    def model(s, x):
        def body(carry):
            i, x, scope = carry
            return i + 1, scale(scope, x), scope

        return lax.while_loop(lambda carry: carry[0] < 2, body, (0, x, s / "a"))[1]

    check(model, lambda w, x: x @ w @ w, reverse=False)


def test_fori_loop():
    def model(s, x):
        return lax.fori_loop(0, 2, lambda i, x: scale(s / "a", x), x)

    check(model, lambda w, x: x @ w @ w)


def test_linearize_jvp_and_vjp():
    def model(s, x):
        f = jax.jit(lambda x: scale(s / "a", x))
        y, push = jax.linearize(f, x)
        pulled = jax.vjp(f, x)[1](y)[0]
        return push(x) + jax.jvp(f, (x,), (y,))[1] + pulled

    check(model, lambda w, x: x @ w + x @ w @ w + x @ w @ w.T)


def test_custom_vjp_takes_a_scope():
    @jax.custom_vjp
    def block(scope, x):
        return scale(scope, x)

    def forward(scope, x):
        return scale(scope, x), (scope, x)

    def backward(kept, g):
        scope, x = kept
        return jax.tree.map(lambda w: x.T @ g, scope), g @ scope["w"].T

    block.defvjp(forward, backward)
    check(lambda s, x: block(s / "a", x), lambda w, x: x @ w)


def test_custom_jvp_takes_a_scope():
    @jax.custom_jvp
    def block(scope, x):
        return scale(scope, x)

    @block.defjvp
    def rule(primals, tangents):
        (scope, x), (scope_dot, x_dot) = primals, tangents
        return x @ scope["w"], x_dot @ scope["w"] + x @ scope_dot["w"]

    declared = js.declare(lambda s, x: block(s / "a", x))(X)
    variables = declared.init(KEY)
    grads = jax.grad(lambda v: block(js.Scope(v) / "a", X).sum())(variables)
    np.testing.assert_allclose(grads["a/w"], X.T @ np.ones((2, 3)), rtol=1e-6)


def test_hessian():
    w = jax.random.normal(KEY, (3, 3))

    def total(v):
        return (scale(js.Scope(v) / "a", X) ** 2).sum()

    with jax.checking_leaks():
        found = jax.hessian(total)(js.VarTree({"a/w": w}))["a/w"]["a/w"]
    gram = np.einsum("ni,nj->ij", X, X)
    expected = 2 * np.einsum("ik,jl->ijkl", gram, np.eye(3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_with_respect_to_a_bound_scope_are_a_scope():
    variables = js.VarTree({"a/w": jnp.eye(3), "b/w": jnp.eye(3)})
    scope = js.Scope(variables)
    value, grads = jax.value_and_grad(lambda s: scale(s / "a", X).sum())(scope)
    assert value == X.sum()
    assert jax.tree.structure(grads) == jax.tree.structure(scope)
    np.testing.assert_array_equal((grads / "a")["w"], X.T @ np.ones((2, 3)))
    np.testing.assert_array_equal(grads["b/w"], np.zeros((3, 3)))
    # Declaring, there is nothing to differentiate, and the model's variables are found.
    declared = js.declare(lambda s: jax.grad(lambda s: scale(s / "a", X).sum())(s))()
    assert list(declared) == ["a/w"]


def test_partial_evaluation_of_a_bound_scope_under_vmap_of_grad():
    variables = js.VarTree({"a/w": jax.random.normal(KEY, (3, 3))})
    per_example = jax.vmap(
        jax.grad(lambda v, x: scale(js.Scope(v) / "a", x[None]).sum()), (None, 0)
    )
    found = per_example(variables, X)["a/w"]
    np.testing.assert_allclose(found, np.einsum("ni,j->nij", X, np.ones(3)), rtol=1e-6)


# Traces.


def layers(count, block):
    def model(scope, x):
        for i in range(count):
            x = block(scope / f"layer_{i}", x)
        return x

    return model


def test_equal_blocks_are_traced_once_in_an_application():
    traces = []

    @jax.jit
    def block(scope, x):
        traces.append(scope.name)
        return jnp.tanh(scale(scope, x))

    model = layers(48, block)
    declared = js.declare(model)(X)
    assert traces == [""] * 48  # each has to record its variables
    variables = js.VarTree({name: jnp.eye(3) for name in declared})
    traces.clear()
    step = jax.jit(lambda v, x: model(js.Scope(v), x))
    step(variables, X)
    assert len(traces) == 1
    jaxpr = jax.make_jaxpr(lambda v, x: model(js.Scope(v), x))(variables, X)
    assert len({id(e.params["jaxpr"]) for e in jaxpr.eqns if "jaxpr" in e.params}) == 1
    traces.clear()
    step(variables | {"layer_0/w": 2 * jnp.eye(3)}, X)
    model(js.Scope(variables), X)
    jax.grad(lambda v: step(v, X).sum())(variables)
    assert len(traces) <= 1


@jax.jit
def helper(scope, x):
    """A jitted helper that outlives each application: the classic place of stale parameters."""
    return scale(scope, x)


def test_no_parameters_are_stale():
    def model(scope, x):
        return helper(scope / "a", x)

    js.declare(model)(X)
    two, five = (js.VarTree({"a/w": factor * jnp.eye(3)}) for factor in (2.0, 5.0))
    for variables, factor in ((two, 2.0), (five, 5.0), (two, 2.0)):
        np.testing.assert_array_equal(model(js.Scope(variables), X), factor * X)
        grads = jax.grad(lambda v: model(js.Scope(v), X).sum())(variables)
        np.testing.assert_array_equal(grads["a/w"], X.T @ np.ones((2, 3)))
    assert list(js.declare(model)(X)) == ["a/w"]  # also after JAX's caches are full


def test_a_cached_jit_declares_each_of_its_scopes():
    def model(scope, x):
        return helper(scope / "a", helper(scope / "b", x))

    for _ in range(3):
        assert list(js.declare(model)(X)) == ["b/w", "a/w"]


def test_one_scope_given_twice_to_a_jitted_block_is_sharing_that_the_table_shows():
    def model(scope, x):
        return helper(scope / "a", helper(scope / "a", x))

    assert js.declare(model)(X)["a/w"].shape == (3, 3)
    with pytest.raises(VariableExistsError):
        js.declare(lambda s, x: scale(s / "a", scale(s / "a", x)))(X)


# The static part of a declaring scope.


def test_rule_3_hashes_of_declaring_structures_spread():
    """JAX's hash of a structure ignores static parts; hash bits are spelled as children."""
    structures = []

    def model(scope):
        structures.extend(jax.tree.structure(scope / f"layer_{i}/block") for i in range(1000))
        structures.append(jax.tree.structure(scope))

    js.declare(model)()
    assert len(set(structures)) == 1001
    assert all(structure.num_leaves == 0 for structure in structures)
    # 4096 buckets: one bucket for all would be 1, perfect spreading about 890.
    assert len({hash(structure) for structure in structures}) > 700


def test_declaring_structures_are_equal_within_a_run_alone():
    runs = []

    def model(scope):
        here = jax.tree.structure((scope / "a", scope / "a/b"))
        assert here == jax.tree.structure((scope / "a", scope / "a" / "b"))
        assert hash((scope / "a/b")._context) == hash((scope / "a" / "b")._context)
        assert here != jax.tree.structure((scope / "b", scope / "a/b"))
        assert jax.tree.structure(scope.shared("a")) != jax.tree.structure(scope / "a")
        assert jax.tree.structure(scope.variable_scope("a")) == jax.tree.structure(scope / "a")
        assert jax.tree.structure(scope) != jax.tree.structure(js.Scope({}))
        runs.append(here)

    js.declare(model)()
    js.declare(model)()
    assert runs[0] != runs[1]


def test_rules_4_and_5_a_declaring_scope_has_no_leaves_and_takes_sentinels():
    def model(scope):
        a = scope / "a"
        assert jax.tree.leaves(a) == []
        mapped = jax.tree.map(lambda x: 1 / 0, a)
        assert mapped.name == ""
        mapped.get_variable("w", 2)
        paths = jax.tree_util.tree_flatten_with_path(a, is_leaf=lambda x: x is None or x == ())[0]
        anything = jax.tree.unflatten(
            jax.tree.structure(a, is_leaf=lambda x: x is None or x == ()),
            [object() for _ in paths],
        )
        (anything / "b").get_variable("w", 2)

    assert list(js.declare(model)()) == ["a/w", "a/b/w"]


def test_jax_s_caches_keep_the_structures_of_a_run_but_nothing_of_its_model():
    kept = []

    class Big:
        pass

    def model(scope, big):
        kept.append((weakref.ref(big), weakref.ref(scope._context.run)))
        return jax.jit(lambda s: s.get_variable("w", 2))(scope / "a")

    js.declare(model)(Big())
    gc.collect()
    big, _ = kept[0]
    assert big() is None
    jax.clear_caches()
    gc.collect()
    assert kept[0][1]() is None


def test_a_scope_in_a_structure_error_is_named_by_variables():
    scope = js.Scope({"a/w": jnp.ones((3, 3)), "a/b": jnp.ones(3)})

    def body(carry, _):
        return jax.tree.map(lambda x: x.astype(jnp.float16), carry), None

    with pytest.raises(TypeError) as caught:
        lax.scan(body, scope / "a", length=2)
    assert "['w']" in str(caught.value)
