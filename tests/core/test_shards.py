"""Scopes in `jax.shard_map`: what is looked up, and what may be created there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jscope as js

X = jnp.arange(16.0).reshape(8, 2)


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(request.param,) * 2)
    with jax.set_mesh(mesh):
        yield mesh


def dense(scope, x, features):
    return x @ scope.get_variable("w", (x.shape[-1], features))


def put(tree, mesh, specs):
    """The tree with each variable sharded as ``specs`` says."""
    return js.VarTree(
        {name: jax.device_put(v, NamedSharding(mesh, specs[name])) for name, v in tree.items()}
    )


def test_replicated_variables_are_created_and_read_inside(mesh):
    def model(scope, x):
        return jax.shard_map(
            lambda s, x: dense(s, x, 3),
            in_specs=(P(), P("data")),
            out_specs=P("data"),
            axis_names={"data", "model"},
            check_vma=False,
        )(scope / "a", x)

    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    with jax.checking_leaks():
        declared = js.declare(model)(x)
        assert declared["a/w"].shape == (2, 3)
        variables = put(declared.init(jax.random.key(0)), mesh, {"a/w": P()})
        out = jax.jit(lambda v, x: model(js.Scope(v), x))(variables, x)
    np.testing.assert_allclose(out, X @ np.asarray(variables["a/w"]), rtol=1e-5)


def column_parallel(scope, x):
    """A dense layer whose columns are shared out over the axis ``model``."""
    specs = scope.specs(lambda name, value: P(None, "model"), P())
    return jax.shard_map(
        lambda s, x: dense(s, x, 3),
        in_specs=(specs, P("data")),
        out_specs=P("data", "model"),
        axis_names={"data", "model"},
    )(scope, x)


@pytest.mark.parametrize("rngs", [None, jax.random.key(3)], ids=["plain", "rngs"])
def test_specs_tell_the_shape_of_all_shards_at_declaration_and_fit_at_application(mesh, rngs):
    def model(scope, x):
        return column_parallel(scope / "a", x)

    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    with jax.checking_leaks():
        declared = js.declare(model)(x)
        assert declared["a/w"].shape == (2, 6)
        variables = put(declared.init(jax.random.key(0)), mesh, {"a/w": P(None, "model")})
        out = jax.jit(lambda v, x: model(js.Scope(v, rngs=rngs), x))(variables, x)
    np.testing.assert_allclose(out, X @ np.asarray(variables["a/w"]), rtol=1e-5)


def test_in_a_stack_specs_have_its_axis_first(mesh):
    def block(scope, x):
        return scope.shared("in").get_variable("w", (2, 1)).sum() + scope["in/w"].sum() + x

    def model(scope, x):
        stack = scope.stacked("layers", 5)
        specs = stack.specs(lambda name, value: P(None, None, "model"), P())

        def total(stack, x):
            return jax.lax.scan(lambda x, s: (block(s, x), None), x, stack)[0]

        return jax.shard_map(total, in_specs=(specs, P()), out_specs=P("model"), check_vma=False)(
            stack, x
        )

    declared = js.declare(model)(jnp.zeros(1))
    assert declared["layers/in/w"].shape == (5, 2, 2)
    w = jnp.arange(20.0).reshape(5, 2, 2)
    tree = put({"layers/in/w": w}, mesh, {"layers/in/w": P(None, None, "model")})
    out = jax.jit(lambda v, x: model(js.Scope(v), x))(tree, jnp.zeros(1))
    np.testing.assert_allclose(out, 2 * np.asarray(w).sum((0, 1)))


def test_a_stack_itself_is_not_cut_while_declaring(mesh):
    # Explicit axes have no spec by which a stack's own words, which are whole, would be cut.
    is_auto = mesh.axis_types[0] == AxisType.Auto

    def model(scope):
        stack = scope.stacked("layers", 4)
        specs = stack.specs(lambda name, value: P("data"), P("data") if is_auto else P())

        def local(stack):
            return jax.vmap(lambda s: s.get_variable("w", (2,)))(stack)

        return jax.shard_map(local, in_specs=(specs,), out_specs=P("data"))(stack)

    with pytest.raises(js.ShapeMismatchError, match="can't cut a stack itself"):
        js.declare(model)()
    if not is_auto:
        return
    # Applied, its slices may be anywhere.
    tree = put({"layers/w": jnp.ones((4, 2))}, mesh, {"layers/w": P("data")})
    assert jax.jit(lambda v: model(js.Scope(v)))(tree).shape == (4, 2)


def test_a_sharding_alone_does_not_say_whether_the_shape_is_a_shard_s(mesh):
    def model(scope, x):
        def inside(s, x):
            return x @ s.get_variable("w", (2, 3), sharding=P(None, "model"))

        return jax.shard_map(
            inside, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False
        )(scope / "a", x)

    with pytest.raises(js.ShapeMismatchError) as caught:
        js.declare(model)(jax.device_put(X, NamedSharding(mesh, P("data"))))
    text = str(caught.value)
    assert "Variable 'a/w' with sharding=" in text
    assert "is created inside jax.shard_map over ('data', 'model')" in text
    assert "in_specs=(scope.specs(lambda name, value: spec, PartitionSpec()), ...)" in text


def test_shards_that_were_not_told_are_found_out_at_application(mesh):
    def model(scope, x):
        return jax.shard_map(
            lambda s, x: dense(s, x, 4),
            in_specs=(P(None, "model"), P("data")),
            out_specs=P("data", "model"),
        )(scope / "a", x)

    x = jax.device_put(X, NamedSharding(mesh, P("data")))
    declared = js.declare(model)(x)
    tree = put(declared.init(jax.random.key(0)), mesh, {"a/w": P(None, "model")})
    with pytest.raises(js.ShapeMismatchError) as caught:
        model(js.Scope(tree), x)
    assert "specified shape (2, 4) and found shape (2, 2)" in str(caught.value)
    assert "Inside jax.shard_map shapes are those of one shard" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (P(None, None, "model"), "it must have at most as many parts as the variable has dim"),
        (P("data"), "can't be cut into 4 shards along axis 0: 6 / 4 is not an integer"),
    ],
)
def test_specs_that_do_not_fit_are_errors(mesh, spec, text):
    def model(scope):
        w = scope.get_variable("a/w", (6, 2))  # made outside, read inside
        a = scope / "a"
        specs = a.specs(lambda name, value: spec, P())
        inside = jax.shard_map(lambda s: s["w"].sum(), in_specs=(specs,), out_specs=P())
        return w, inside(a)

    with pytest.raises(js.ShapeMismatchError) as caught:
        js.declare(model)()
    assert text in str(caught.value)


def test_what_is_made_outside_is_seen_as_a_shard_inside(mesh):
    shapes = []

    def model(scope):
        scope.get_variable("a/w", (8, 6))
        a = scope / "a"
        specs = a.specs(lambda name, value: P(("data", "model")), P())
        inside = lambda s: shapes.append(s["w"].shape)  # noqa: E731
        jax.shard_map(inside, in_specs=(specs,), out_specs=None)(a)

    js.declare(model)()
    assert shapes == [(1, 6)]


def test_specs_fit_vmap_s_in_axes_in_both_modes():
    def model(scope, x):
        axes = scope.specs(lambda name, value: 1 if name == "w" else None, None)
        return jax.vmap(lambda s, x: x + s["w"] + s["b"], in_axes=(axes, None))(scope, x)

    tree = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(2)}
    for rngs in (None, jax.random.key(0)):
        out = model(js.Scope(tree, rngs=rngs), jnp.zeros(2))
        np.testing.assert_array_equal(out, tree["w"].T + 1)
