"""Stacked scopes: declared and applied through scan and vmap, equal to the unrolled loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jscope as js
from jscope import initializers as init

X = jnp.arange(6.0).reshape(2, 3)


def layer(scope, x):
    w = scope.get_variable("w", (3, 3))
    with scope.variable_scope("norm", initializer=init.ones) as norm:
        return x @ w * norm.get_variable("scale", (3,))[None]


def scanned(scope, x, length=4):
    return lax.scan(lambda x, s: (layer(s, x), None), x, scope.stacked("layers", length))[0]


def unrolled(scope, x, length=4):
    for i in range(length):
        x = layer(scope / f"layers/{i}", x)
    return x


def stacked_by_hand(tree, length=4):
    names = [name.removeprefix("layers/0/") for name in tree if name.startswith("layers/0/")]
    return js.VarTree(
        {f"layers/{n}": jnp.stack([tree[f"layers/{i}/{n}"] for i in range(length)]) for n in names}
    )


def test_a_stack_declares_one_variable_with_a_leading_axis():
    with jax.checking_leaks():
        declared = js.declare(scanned)(X)
    assert {name: spec.shape for name, spec in declared.items()} == {
        "layers/w": (4, 3, 3),
        "layers/norm/scale": (4, 3),
    }
    spec = declared["layers/norm/scale"]
    assert spec.stack == (("layers", 4),)
    assert spec.slice_shape == (3,)


def test_it_computes_what_the_loop_computes_and_so_do_gradients():
    tree = js.init(unrolled)(jax.random.key(0), X)
    stacked = stacked_by_hand(tree)
    assert js.init(scanned)(jax.random.key(0), X) == stacked

    def loss(model):
        return lambda tree: (model(js.Scope(tree), X) ** 2).sum()

    with jax.checking_leaks():
        for wrap in (lambda f: f, jax.jit):
            np.testing.assert_allclose(
                wrap(loss(scanned))(stacked), loss(unrolled)(tree), rtol=1e-5
            )
            found = wrap(jax.grad(loss(scanned)))(stacked)
            wanted = stacked_by_hand(jax.grad(loss(unrolled))(tree))
            for name in wanted:
                np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4)


def test_an_ensemble_is_a_stack_under_vmap():
    def model(scope, x):
        return jax.vmap(layer, in_axes=(0, None))(scope.stacked("ensemble", 3), x)

    with jax.checking_leaks():
        variables = js.init(model)(jax.random.key(0), X)
        out = model(js.Scope(variables), X)
    assert out.shape == (3, 2, 3)
    for i in range(3):
        own = js.init(lambda s, x, i=i: layer(s / f"ensemble/{i}", x))(jax.random.key(0), X)
        expected = layer(js.Scope(own) / f"ensemble/{i}", X)
        np.testing.assert_allclose(out[i], expected, rtol=1e-6)


@pytest.mark.parametrize("outer", ["scan", "vmap", "jit(scan(checkpoint))"])
@pytest.mark.parametrize("inner", ["scan", "vmap", "fori"])
def test_stacks_in_stacks(outer, inner):
    def inside(scope, x):
        w = scope.get_variable("w", (3, 3))
        stack = scope.stacked("in", 2)
        if inner == "scan":
            x = lax.scan(lambda x, s: (x + s.get_variable("b", (3,))[None], None), x, stack)[0]
        elif inner == "vmap":
            x = x + jax.vmap(lambda s: s.get_variable("b", (3,)))(stack).sum(0)[None]
        else:
            pick = lambda i: jax.tree.map(lambda leaf: leaf[i], stack)  # noqa: E731
            x = lax.fori_loop(0, 2, lambda i, x: x + pick(i).get_variable("b", (3,))[None], x)
        return x @ w

    def model(scope, x):
        stack = scope.stacked("out", 3)
        if outer == "vmap":
            return jax.vmap(inside, (0, None))(stack, x).sum(0)
        body = inside if outer == "scan" else jax.checkpoint(inside)
        run = lambda stack, x: lax.scan(lambda x, s: (body(s, x), None), x, stack)[0]  # noqa: E731
        return (run if outer == "scan" else jax.jit(run))(stack, x)

    with jax.checking_leaks():
        declared = js.declare(model)(X)
        assert declared["out/w"].shape == (3, 3, 3)
        assert declared["out/in/b"].shape == (3, 2, 3)
        assert declared["out/in/b"].stack == (("out", 3), ("out/in", 2))
        variables = js.VarTree(
            {n: jax.random.normal(jax.random.key(0), s.shape) for n, s in declared.items()}
        )
        out = jax.jit(lambda v, x: model(js.Scope(v), x))(variables, X)
    x, total = X, 0
    for w, b in zip(variables["out/w"], variables["out/in/b"], strict=True):
        y = ((X if outer == "vmap" else x) + b.sum(0)[None]) @ w
        x, total = y, total + y
    np.testing.assert_allclose(out, total if outer == "vmap" else x, rtol=1e-4)


def test_two_stacks_may_be_entered_before_either_is_sliced():
    def model(scope):
        both = scope.stacked("a", 2).stacked("b", 3) / "c"
        return jax.vmap(jax.vmap(lambda s: s.get_variable("w", (5,))))(both)

    assert js.declare(model)()["a/b/c/w"].shape == (2, 3, 5)
    w = jax.random.normal(jax.random.key(0), (2, 3, 5))
    np.testing.assert_array_equal(model(js.Scope({"a/b/c/w": w})), w)


def test_defaults_go_into_a_stack():
    def model(scope):
        with scope.variable_scope("m", dtype=jnp.bfloat16, initializer=init.ones) as m:
            return jax.vmap(lambda s: s.get_variable("w", (2,)))(m.stacked("l", 3))

    declared = js.declare(model)()
    assert declared["m/l/w"].dtype == jnp.bfloat16
    assert declared["m/l/w"].initializer is init.ones


def test_stacks_are_shared_like_other_scopes():
    def model(scope, x):
        with scope.variable_scope("m", reuse=js.AUTO_REUSE) as m:
            return scanned(m, scanned(m, x))

    assert js.declare(model)(X)["m/layers/w"].shape == (4, 3, 3)
    with pytest.raises(js.ShapeMismatchError) as caught:
        js.declare(lambda s, x: scanned(s, scanned(s, x), length=5))(X)
    assert "Variable layers/w has shape (4, 3, 3), but is requested in a slice of" in str(
        caught.value
    )
    assert "the stack 'layers' of 5" in str(caught.value)


def test_a_whole_stacked_variable_is_read_from_around_the_stack():
    def model(scope, x):
        y = scanned(scope, x)
        return y * scope["layers/norm/scale"].sum() + (scope / "layers")["norm/scale"].mean()

    declared = js.declare(model)(X)
    tree = js.VarTree({name: jnp.ones(spec.shape) for name, spec in declared.items()})
    plain = scanned(js.Scope(tree), X)
    np.testing.assert_allclose(model(js.Scope(tree), X), plain * 12 + 1, rtol=1e-6)


@pytest.mark.parametrize("declaring", [True, False])
@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda s: s.get_variable("w", (3, 3)), "w"),
        (lambda s: s["w"], "w"),
        (lambda s: (s / "norm").get_variable("scale", (3,)), "scale"),
        (lambda s: s.rng("dropout"), "A key of the stream 'dropout'"),
    ],
)
def test_reading_a_stack_that_is_not_sliced_is_an_error(declaring, use, what):
    def model(scope):
        scanned(scope, X)
        use(scope.stacked("layers", 4))

    tree = {"layers/w": jnp.ones((4, 3, 3)), "layers/norm/scale": jnp.ones((4, 3))}
    run = js.declare(model) if declaring else lambda: model(js.Scope(tree, rngs=jax.random.key(0)))
    with pytest.raises(js.ScopeError) as caught:
        run()
    assert what in str(caught.value)
    assert "which is in a stack that is not sliced" in str(caught.value)
    assert "jax.lax.scan(lambda x, layer: (block(layer, x), None), x, scope" in str(caught.value)


def test_slices_that_the_tree_lacks_are_all_listed():
    tree = {"layers/w": jnp.ones((4, 3, 3)), "layers/b": jnp.ones(3), "layers/s": jnp.ones(())}
    with pytest.raises(js.ShapeMismatchError) as caught:
        scanned(js.Scope(tree), X)
    assert str(caught.value) == (
        "The scope 'layers' was requested as a stack of 4, but 2 of its 3 variables don't have 4 "
        "slices along axis 0: 'layers/b' (3,), 'layers/s' (). Write the length with which the "
        "tree was made."
    )


def test_a_tree_of_separate_layers_is_recognised():
    tree = js.init(unrolled)(jax.random.key(0), X)
    with pytest.raises(js.ShapeMismatchError, match=r"write js\.stack\(tree, 'layers'\)"):
        scanned(js.Scope(tree), X)


@pytest.mark.parametrize("length", [0, -1])
def test_a_stack_has_slices(length):
    with pytest.raises(js.ShapeMismatchError, match="needs at least one slice"):
        js.Scope({}).stacked("a", length)


@pytest.mark.parametrize("length", [1.0, "3", None])
def test_the_length_of_a_stack_is_an_int(length):
    with pytest.raises(TypeError, match="must be an int when the model is traced"):
        js.Scope({}).stacked("a", length)


def test_a_stack_without_variables_has_a_length():
    ones = lambda scope: jax.vmap(lambda s: jnp.ones(()))(scope.stacked("a", 5))  # noqa: E731
    assert ones(js.Scope({})).shape == (5,)
    assert len(js.declare(ones)()) == 0


def test_equal_stacks_are_traced_once_and_paths_do_not_matter():
    traces = []

    @jax.jit
    def tower(scope, x):
        traces.append(scope.name)
        return scanned(scope, x)

    tree = js.VarTree(
        {
            f"{part}/layers/{name}": jnp.ones(shape)
            for part in ("a", "b")
            for name, shape in (("w", (4, 3, 3)), ("norm/scale", (4, 3)))
        }
    )
    for part in ("a", "b"):
        tower(js.Scope(tree) / part, X)
    assert traces == [""]


def test_a_variable_made_around_a_stack_may_be_read_in_it():
    def model(scope):
        w = scope.get_variable("layers/w", (4, 3))
        return w, jax.vmap(lambda s: s["w"])(scope.stacked("layers", 4))

    assert js.declare(model)()["layers/w"].stack == ()
    tree = {"layers/w": jnp.arange(12.0).reshape(4, 3)}
    w, slices = model(js.Scope(tree))
    np.testing.assert_array_equal(w, slices)


def test_the_scanned_program_is_plain_jax_s():
    def plain(tree, x):
        def body(x, slices):
            w, scale = slices
            return x @ w * scale[None], None

        return lax.scan(body, x, (tree["layers/w"], tree["layers/norm/scale"]))[0]

    tree = js.VarTree({"layers/w": jnp.ones((4, 3, 3)), "layers/norm/scale": jnp.ones((4, 3))})

    def optimized(function):
        compiled = jax.jit(function).lower(tree, X).compile().as_text()
        return sorted(
            line.split("=", 1)[1].split("(")[0].split("[")[0].strip()
            for line in compiled.splitlines()
            if " = " in line
        )

    assert optimized(lambda v, x: scanned(js.Scope(v), x)) == optimized(plain)
