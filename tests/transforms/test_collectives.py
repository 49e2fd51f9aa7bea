"""Models of data-parallel programs: declared and initialized without the axis, applied with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import jscope as js
from jscope import layers

KEY = jax.random.key(0)
N = 8
X = jnp.sin(jnp.arange(16 * 6.0)).reshape(16, 6)  # two examples on each device
MESH = jax.make_mesh((N,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))


def over_devices(function):
    """``function(shared, x)`` on eight devices: x is cut along its first axis, as are results."""
    mapped = jax.shard_map(function, mesh=MESH, in_specs=(P(), P("b")), out_specs=P("b"))
    return lambda shared, x: jax.jit(mapped)(shared, x)


def cut(function, transform):
    """The same by a transform that maps a leading axis."""

    def called(shared, x):
        y = transform(function)(shared, x.reshape(N, -1, *x.shape[1:]))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), y)

    return called


PROGRAMS = {
    "shard_map": over_devices,
    "vmap": lambda f: cut(f, functools.partial(jax.vmap, in_axes=(None, 0), axis_name="b")),
    "pmap": lambda f: cut(f, functools.partial(jax.pmap, in_axes=(None, 0), axis_name="b")),
}


# Batch normalization, which needs no axis.


def network(scope, x, *, axis_name="b", training=True):
    x = layers.dense(scope / "in", x, units=5, activation=jnp.tanh)
    x = layers.batch_norm(scope / "norm", x, training=training, axis_name=axis_name)
    return layers.dense(scope / "out", x, units=3)


def test_batch_norm_over_an_axis_declares_and_initialises_without_it():
    alone = functools.partial(network, axis_name=None)
    assert dict(js.declare(network)(X)) == dict(js.declare(alone)(X))
    assert js.init(network)(KEY, X) == js.init(alone)(KEY, X)
    assert js.init(network, inline=True)(KEY, X) == js.init(alone)(KEY, X)
    both = functools.partial(network, axis_name=("a", "b"))
    assert js.init(both)(KEY, X) == js.init(alone)(KEY, X)
    assert js.init(both, axis_sizes={"a": 2})(KEY, X) == js.init(alone)(KEY, X)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_data_parallel_batch_norm_is_that_of_the_whole_batch(program):
    variables = js.init(network)(KEY, X)

    def step(variables, x):
        y, updates = js.with_updates(network)(variables, x)
        return y, jax.tree.map(lambda leaf: leaf[None], updates)

    y, updates = program(step)(variables, X)
    expected, expected_updates = js.with_updates(functools.partial(network, axis_name=None))(
        variables, X
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for name, value in expected_updates.items():
        assert updates[name].shape == (N, 5)
        np.testing.assert_allclose(updates[name], jnp.broadcast_to(value, (N, 5)), rtol=1e-5)


def test_applied_outside_the_axis_batch_norm_is_jaxs_error():
    variables = js.init(network)(KEY, X)
    with pytest.raises(NameError, match="unbound axis name: b"):
        js.with_updates(network)(variables, X)


# Collectives of the model's own. The shape of a kernel follows from that of what they give.

RING = [(i, (i + 1) % N) for i in range(N)]
COLLECTIVES = {
    "psum": lambda x: lax.psum(x, "b"),
    "pmean": lambda x: lax.pmean(x, "b"),
    "pmax": lambda x: lax.pmax(x, "b"),
    "all_gather": lambda x: lax.all_gather(x, "b", axis=1).reshape(x.shape[0], -1),
    "all_gather, tiled": lambda x: lax.all_gather(x, "b", axis=1, tiled=True),
    "ppermute": lambda x: lax.ppermute(x, "b", RING),
    "axis_index": lambda x: x + lax.axis_index("b").astype(x.dtype),
    "axis_size": lambda x: x[:, : lax.axis_size("b") - 4],
    "all_to_all": lambda x: lax.all_to_all(
        jnp.tile(x, (1, 4)), "b", split_axis=1, concat_axis=0, tiled=True
    )[: x.shape[0]],
    "psum_scatter": lambda x: lax.psum_scatter(
        jnp.tile(x, (1, 4)), "b", scatter_dimension=1, tiled=True
    ),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_a_model_with_collectives_is_declared_for_given_sizes_of_axes(name):
    def model(scope, x):
        return layers.dense(scope, COLLECTIVES[name](x), units=3)

    example = X[:2]  # what one device gets
    features = jax.eval_shape(over_devices(lambda _, x: COLLECTIVES[name](x)), None, X).shape[1]
    with jax.checking_leaks():
        declared = js.declare(model, axis_sizes={"b": N})(example)
        variables = js.init(model, axis_sizes={"b": N})(KEY, example)
    assert declared["kernel"].shape == (features, 3)
    declared.check(variables)
    y = over_devices(lambda tree, x: model(js.Scope(tree), x))(variables, X)
    assert y.shape == (16, 3)


def test_transforms_in_the_model_go_with_axes_around_it():
    def block(scope, x):
        return lax.pmean(layers.dense(scope, x, units=6), "b")

    def model(scope, x):
        x = jax.jit(block)(scope / "jitted", x)
        x = jax.checkpoint(block)(scope / "again", x)
        stack = scope.stacked("layers", 3)
        x, _ = lax.scan(lambda x, layer: (block(layer, x), None), x, stack)
        x = jax.vmap(lambda x: lax.psum(block(scope / "mapped", x), "inner"), axis_name="inner")(x)
        with_default_name = scope.variable_scope(None, default_name="last")
        return layers.dropout(with_default_name, block(with_default_name, x), training=True)

    def plain(scope, x):
        for name in ("jitted", "again", "layers/0", "layers/1", "layers/2", "mapped", "last"):
            layers.dense(scope / name, x, units=6)

    example = X[:2]
    got = js.init(model, axis_sizes={"b": N})(KEY, example)
    assert js.unstack(got, "layers") == js.init(plain)(KEY, example)


def test_two_axes_are_declared_together():
    def model(scope, x):
        x = lax.all_gather(lax.all_gather(x, "a", tiled=True), "b", tiled=True)
        return scope.get_variable("w", (x.shape[0], lax.psum(1, ("a", "b"))))

    assert js.declare(model, axis_sizes={"a": 2, "b": 3})(X)["w"].shape == (96, 6)


def test_data_dependent_initial_values_are_computed_where_the_axis_is():
    def actnorm(scope, x):
        mean = lax.pmean(x.mean(0), "b")
        shift = scope.get_variable("shift", initializer=mean)
        return x - shift[None]

    initialize = js.init(actnorm, inline=True)
    mapped = jax.vmap(initialize, in_axes=(None, 0), out_axes=None, axis_name="b")
    variables = mapped(KEY, X.reshape(N, 2, 6))
    np.testing.assert_allclose(variables["shift"], X.mean(0), atol=1e-6)
    cut = jax.shard_map(initialize, mesh=MESH, in_specs=(P(), P("b")), out_specs=P())
    np.testing.assert_allclose(jax.jit(cut)(KEY, X)["shift"], X.mean(0), atol=1e-6)


def test_a_model_that_casts_to_varying_has_the_shard_map_in_itself():
    def part(scope, x):
        def body(total, row):
            return total + layers.dense(scope, row, units=6, use_bias=False), None

        start = lax.pcast(jnp.zeros(6), "b", to="varying")
        return lax.psum(lax.scan(body, start, x)[0], "b")

    def model(scope, x):
        specs = scope.specs(lambda name, value: P(), P())
        mapped = jax.shard_map(part, mesh=MESH, in_specs=(specs, P("b")), out_specs=P())
        return jax.jit(mapped)(scope, x)

    variables = js.init(model)(KEY, X)
    y = model(js.Scope(variables), X)
    np.testing.assert_allclose(y, (X @ variables["kernel"]).sum(0), rtol=1e-5, atol=1e-5)


# Errors.


@pytest.mark.parametrize("name", sorted({*COLLECTIVES} - {"axis_size"}))
def test_an_unknown_axis_is_an_error_that_says_how_to_declare_it(name):
    def model(scope, x):
        return layers.dense(scope, COLLECTIVES[name](x), units=3)

    for call in (lambda: js.declare(model)(X), lambda: js.init(model)(KEY, X)):
        with pytest.raises(js.UnboundAxisError) as caught:
            call()
        text = str(caught.value)
        line = model.__code__.co_firstlineno
        assert text.startswith(f"model at {__file__}:{line} uses the mapped axis 'b'")
        assert "js.declare(model, axis_sizes={'b': 8})(...)" in text
        assert f"{__file__}:" in text.splitlines()[1]
        assert isinstance(caught.value, NameError)
        assert isinstance(caught.value.__cause__, NameError)


def test_an_unknown_axis_of_an_inline_init_is_told_where_to_call_it():
    def model(scope, x):
        return lax.pmean(x, "b")

    with pytest.raises(js.UnboundAxisError, match=r"'b', .*(?s:.*)where the axis is: in the func"):
        js.init(model, inline=True)(KEY, X)


def test_a_name_error_of_the_models_own_stays_what_it_is():
    def model(scope, x):
        return x @ misspelt  # noqa: F821

    for call in (lambda: js.declare(model)(X), lambda: js.init(model, inline=True)(KEY, X)):
        with pytest.raises(NameError, match="name 'misspelt' is not defined") as caught:
            call()
        assert not isinstance(caught.value, js.JscopeError)


@pytest.mark.parametrize("make", [js.declare, js.init])
@pytest.mark.parametrize(
    ("sizes", "kind", "text"),
    [
        ({1: 2}, TypeError, "got 1 as the name of an axis"),
        ({"b": 0}, ValueError, "of at least 1; got 0 as the size of 'b'"),
        ({"b": 2.0}, TypeError, "got 2.0 as the size of 'b'"),
        (["b"], TypeError, r"such as {'b': 8}; got \['b'\]"),
    ],
)
def test_axis_sizes_that_are_none_are_refused(make, sizes, kind, text):
    with pytest.raises(kind, match=text):
        make(network, axis_sizes=sizes)


def test_an_inline_init_takes_no_sizes_of_axes():
    with pytest.raises(
        TypeError, match=r"axis_sizes={'b': 8}\) is not possible.*where the axis is"
    ):
        js.init(network, inline=True, axis_sizes={"b": 8})
