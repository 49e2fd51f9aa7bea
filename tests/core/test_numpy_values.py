"""NumPy's values are values: every layer and every function of a tree treats them as JAX's.

Trees of NumPy values come from `jax.device_get`, from checkpoints and from TensorFlow. Each case
is a function of a tree, called with JAX's arrays and, in three ways, with NumPy's: eagerly, as
the argument of a jitted function, and closed over by one.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jscope as js
from jscope import initializers as init
from jscope import layers

KEY = jax.random.key(0)
ROWS = jnp.arange(6.0).reshape(2, 3) / 7
IMAGE = jnp.arange(2 * 5 * 5 * 2.0).reshape(2, 5, 5, 2) / 50
WORDS = jnp.arange(2 * 4 * 6.0).reshape(2, 4, 6) / 24
MEMORY = jnp.cos(jnp.arange(2 * 3 * 4.0).reshape(2, 3, 4))
STATE = jnp.sin(ROWS[:, :2])

WAYS = {
    "eager": lambda function, tree: function(tree),
    "jit argument": lambda function, tree: jax.jit(function)(tree),
    "jit closure": lambda function, tree: jax.jit(lambda: function(tree))(),
}


def assert_same(got, expected):
    """Same structure; same names, shapes, dtypes and values, but for rounding."""
    flat, expected_flat = jax.tree.flatten(got), jax.tree.flatten(expected)
    assert flat[1] == expected_flat[1]
    for one, other in zip(flat[0], expected_flat[0], strict=True):
        assert np.shape(one) == np.shape(other)
        if hasattr(other, "dtype"):  # else a mask's bool, or a label
            assert one.dtype == other.dtype
        np.testing.assert_allclose(
            np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=2e-5, atol=1e-6
        )


# Layers. Each is called as a model would, so that what it assigns is compared too.

LAYERS = {
    "dense": (layers.dense, (ROWS,), {"units": 4}),
    "conv": (layers.conv, (IMAGE,), {"filters": 4, "kernel_size": 3, "groups": 2}),
    "conv_transpose": (
        layers.conv_transpose,
        (IMAGE,),
        {"filters": 3, "kernel_size": 2, "strides": 2},
    ),
    "embedding": (
        layers.embedding,
        (jnp.array([[1, 3], [0, 7]]),),
        {"input_dim": 5, "output_dim": 3},
    ),
    "layer_norm": (layers.layer_norm, (ROWS,), {}),
    "rms_norm": (layers.rms_norm, (ROWS,), {}),
    "batch_norm": (layers.batch_norm, (ROWS,), {"training": True}),
    "batch_norm, applied": (layers.batch_norm, (ROWS,), {"training": False}),
    "dropout": (layers.dropout, (ROWS,), {"training": True}),
    "multi_head_attention": (
        layers.multi_head_attention,
        (WORDS,),
        {
            "num_heads": 2,
            "head_size": 3,
            "num_kv_heads": 1,
            "memory": MEMORY,
            "bias": jnp.ones((4, 3)),
        },
    ),
    "multi_head_attention, cached": (
        layers.multi_head_attention,
        (WORDS,),
        {"num_heads": 2, "head_size": 3, "cache_length": 5},
    ),
    "lstm_cell": (layers.lstm_cell, (ROWS, (STATE, STATE)), {}),
    "gru_cell": (layers.gru_cell, (ROWS, STATE), {}),
}
POOLS = {"max_pool", "avg_pool"}  # they have no scope


def test_every_layer_is_in_the_table():
    public = {
        name
        for name, value in vars(layers).items()
        if inspect.isfunction(value)
        and value.__module__ == layers.__name__
        and not name.startswith("_")
    }
    assert public == {name.partition(",")[0] for name in LAYERS} | POOLS


@functools.cache
def variables_of(name):
    layer, inputs, settings = LAYERS[name]
    return js.init(layer)(KEY, *inputs, **settings)


@functools.cache
def result_of(name):
    return applied(name, LAYERS[name][1], variables_of(name))


def applied(name, inputs, tree):
    layer, _, settings = LAYERS[name]
    return js.with_updates(layer)(tree, *inputs, rngs=jax.random.key(1), **settings)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_the_same_with_numpys_variables(name, way):
    function = functools.partial(applied, name, LAYERS[name][1])
    assert_same(way(function, jax.device_get(variables_of(name))), result_of(name))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_the_same_with_numpys_inputs(name):
    got = applied(name, jax.device_get(LAYERS[name][1]), jax.device_get(variables_of(name)))
    assert_same(got, result_of(name))


@pytest.mark.parametrize("pool", [layers.max_pool, layers.avg_pool])
def test_a_pool_computes_the_same_with_numpys_inputs(pool):
    assert_same(pool(np.asarray(IMAGE), pool_size=2), pool(IMAGE, pool_size=2))


# Functions of a tree.

TREE = js.VarTree(
    {
        "w": jnp.arange(12.0).reshape(4, 3) / 5,
        "half": jnp.array([1, -2, 3], jnp.bfloat16),
        "scalar": jnp.float32(-1.5),
        "n": jnp.int32(3),
        "flag": jnp.array([True, False]),
        "layers/0/w": jnp.array([[1.0, 2.0, 3.0]]),
        "layers/1/w": jnp.array([[4.0, 5.0, 6.0]]),
    }
)
FLOATS = js.select(TREE, ["w", "half", "scalar", "layers/**"])


def declared_model(scope, x):
    (scope / "a").get_variable(
        "w",
        (4, 3),
        regularizer=lambda w: (w.at[0].set(0) ** 2).sum(),
        constraint=lambda w: w.at[0].set(1),
    )
    scope.get_variable("step", (), jnp.int32, init.zeros, trainable=False)
    scope.get_variable("copy", initializer=init.initialized_value("a/w", lambda w: w.at[0].set(2)))
    return jax.vmap(
        lambda slot: slot.get_variable(
            "v", (3,), regularizer=lambda v: v.sum(), constraint=lambda v: v.at[0].set(0)
        )
    )(scope.stacked("slots", 2))


DECLARED = js.declare(declared_model)(ROWS)
DECLARED_TREE = DECLARED.init(KEY)
GIVEN = js.select(DECLARED_TREE, ["a/w", "step"])

SCATTER = {
    name: (getattr(js, name), "w", jnp.array([2, 0]), ROWS + 1)
    for name in (
        *("scatter_update", "scatter_add", "scatter_sub", "scatter_mul", "scatter_div"),
        *("scatter_min", "scatter_max"),
    )
}
SCATTER |= {
    name: (getattr(js, name), "w", jnp.array([[2, 0], [1, 1]]), ROWS[0, :2])
    for name in ("scatter_nd_update", "scatter_nd_add", "scatter_nd_sub")
}
SCATTER["batch_scatter_update"] = (
    js.batch_scatter_update,
    "w",
    jnp.array([[0], [2], [1], [0]]),
    jnp.ones((4, 1)),
)
CHANGES = {
    **SCATTER,
    "assign": (js.assign, "w", jnp.ones((4, 3))),
    "assign_add": (js.assign_add, "half", jnp.ones(3, jnp.bfloat16)),
    "assign_sub": (js.assign_sub, "scalar", 2),
    "count_up_to": (js.count_up_to, "n", 10),
}


def changed(name):
    change, variable, *arguments = CHANGES[name]
    return lambda tree: change(tree, variable, *arguments)


def changed_in_scope(name):
    _, variable, *arguments = CHANGES[name]

    def model(scope):
        value = getattr(scope, name)(variable, *arguments)
        return value, scope[variable], scope.get_variable(variable)

    return js.with_updates(model)


def averaged(ema, tree):
    averages = ema.init(tree)
    averages = ema.apply(averages, jax.tree.map(lambda v: v * 2, tree), num_updates=np.int32(3))
    return ema.average(averages)


FUNCTIONS = {
    "get_variable": lambda tree: js.get_variable(tree, "w", (4, 3))[0].at[0].set(0),
    "get_variable, new": lambda tree: js.get_variable(
        tree, "new", initializer=init.initialized_value("w", lambda w: w.at[0].set(0)), key=KEY
    ),
    **{name: changed(name) for name in CHANGES},
    "select": lambda tree: js.select(tree, "**/w"),
    "drop": lambda tree: js.drop(tree, "layers/**"),
    "partition": lambda tree: js.partition(tree, lambda name, value: value.ndim == 2),
    "mask": lambda tree: js.mask(tree, "**/w"),
    "labels": lambda tree: js.labels(tree, {1: "**/w"}, 0),
    "rename": lambda tree: js.rename(tree, {"layers": "blocks"}),
    "map_named": lambda tree: js.map_named(tree, lambda name, value: value[..., None]),
    "stack": lambda tree: js.stack(tree, "layers"),
    "unstack": lambda tree: js.unstack(js.stack(tree, "layers"), "layers"),
    "or": lambda tree: tree | {"w": ROWS},
    "ema": lambda tree: averaged(js.ExponentialMovingAverage(0.9), js.select(tree, tuple(FLOATS))),
    "ema, debiased": lambda tree: averaged(
        js.ExponentialMovingAverage(0.9, zero_debias=True), js.select(tree, tuple(FLOATS))
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_tree_gives_the_same_for_numpys_values(name, way):
    function = FUNCTIONS[name]
    assert_same(way(function, jax.device_get(TREE)), function(TREE))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("zero_debias", [False, True])
def test_averages_that_numpy_holds_are_updated_as_jaxs(zero_debias, way):
    ema = js.ExponentialMovingAverage(0.9, zero_debias=zero_debias)
    averages = ema.init(FLOATS)

    def apply(trees):
        return ema.apply(*trees)

    assert_same(way(apply, jax.device_get((averages, FLOATS))), apply((averages, FLOATS)))


METHODS = {
    "init": lambda tree: DECLARED.init(KEY, given=js.select(tree, tuple(GIVEN))),
    "init, donated": lambda tree: DECLARED.init(
        KEY, given=js.select(tree, tuple(GIVEN)), donate_given=True
    ),
    "split": DECLARED.split,
    "check": DECLARED.check,
    "missing": lambda tree: len(DECLARED.missing(tree)),
    "regularization_losses": DECLARED.regularization_losses,
    "regularization_loss": DECLARED.regularization_loss,
    "apply_constraints": DECLARED.apply_constraints,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", METHODS)
def test_a_declaration_treats_numpys_values_as_jaxs(name, way):
    function = METHODS[name]
    assert_same(way(function, jax.device_get(DECLARED_TREE)), function(DECLARED_TREE))


# Scopes.


def scanned(tree):
    def body(x, layer):
        w = layer.get_variable("w", (1, 3))
        return x + w.at[0, 0].set(0), None

    return jax.lax.scan(body, jnp.zeros((1, 3)), js.Scope(tree).stacked("layers", 2))[0]


def mapped(tree):
    stack = js.Scope(tree).stacked("layers", 2)
    return jax.vmap(lambda layer: layer.get_variable("w", (1, 3)).at[0, 0].set(0))(stack)


def indexed(tree):
    """A stack whose slices are taken by a traced number."""
    stack = js.Scope(tree).stacked("layers", 2)

    def step(i, x):
        layer = jax.tree.map(lambda leaf: leaf[i], stack)
        return x + layer.get_variable("w", (1, 3))

    return jax.lax.fori_loop(0, 2, step, jnp.zeros((1, 3)))


def updated_in_scan(tree):
    def layer(scope, x):
        return x, scope.assign_add("w", jnp.ones((1, 3)))

    def model(scope):
        stack = scope.stacked("layers", 2)
        _, (_, updates) = jax.lax.scan(
            lambda x, one: (x, js.with_updates(layer)(one, x)), 0.0, stack
        )
        stack.update(updates)

    return js.with_updates(model)(tree)


def recorded(tree):
    def model(scope):
        scope.record("w", scope.get_variable("w"))
        scope.record("both", {"n": scope["n"], "w": scope["w"]})

    return js.with_records(model)(tree)


def through(getter):
    def model(tree):
        scope = js.Scope(tree).variable_scope("layers", custom_getter=getter)
        return (scope / "0").get_variable("w", (1, 3)).at[0].set(0)

    return model


def differentiated(tree):
    def loss(scope):
        return (scope.get_variable("w", (4, 3)).at[0].set(0) ** 2).sum()

    gradient = jax.grad(loss)(js.Scope(js.select(tree, "w")))
    return gradient["w"]


SCOPES = {
    "get_variable": lambda tree: js.Scope(tree).get_variable("w", (4, 3)).at[0].set(0),
    "scope[name]": lambda tree: js.Scope(tree)["w"].at[0].set(0),
    "scope[name], scalar": lambda tree: js.Scope(tree)["scalar"].at[()].set(0),
    "shared": lambda tree: js.Scope(tree).shared("layers/0").get_variable("w").at[0].set(0),
    **{f"scope.{name}": changed_in_scope(name) for name in CHANGES},
    "custom getter": through(lambda getter, name, **kw: getter(name, **kw).at[0].add(1)),
    "scan": lambda tree: scanned(js.stack(tree, "layers")),
    "vmap": lambda tree: mapped(js.stack(tree, "layers")),
    "fori_loop": lambda tree: indexed(js.stack(tree, "layers")),
    "updates in scan": lambda tree: updated_in_scan(js.stack(tree, "layers")),
    "records": recorded,
    "VarTree(scope)": lambda tree: js.VarTree(js.Scope(tree) / "layers"),
    "with_values": lambda tree: (
        js.Scope(TREE).with_values(tree).get_variable("w", (4, 3)).at[0].set(0)
    ),
    "grad": differentiated,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", SCOPES)
def test_a_scope_gives_the_same_for_numpys_values(name, way):
    function = SCOPES[name]
    assert_same(way(function, jax.device_get(TREE)), function(TREE))


def test_a_scope_gives_jaxs_arrays_and_a_tree_what_it_holds():
    holds = {
        "array": np.ones(2, np.float32),
        "scalar": np.float32(1),
        "text": np.array("a"),
        "number": 2.0,
    }
    tree = js.VarTree(holds)
    scope = js.Scope(tree)
    for name in ("array", "scalar"):
        assert isinstance(scope[name], jax.Array)
        assert isinstance(scope.get_variable(name), jax.Array)
        assert isinstance(js.get_variable(tree, name)[0], jax.Array)
        assert tree[name] is holds[name]
    # What JAX has no array for is given as it is.
    assert scope["text"] is holds["text"]
    assert scope["number"] is holds["number"]


def test_a_model_does_not_see_a_change_of_numpys_memory():
    # Aligned as XLA's buffers are, so that it could be shared.
    space = np.zeros(4000 + 64, np.uint8)
    memory = space[-space.ctypes.data % 64 :][:4000].view(np.float32)
    seen = js.Scope({"w": memory}).get_variable("w", (1000,))
    memory[:] = 1
    np.testing.assert_array_equal(seen, np.zeros(1000))
