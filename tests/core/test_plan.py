"""Plans: bytes per device, counted by hand and by JAX."""

import math

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

import jscope as js
from jscope import initializers as init

P = PartitionSpec
RULES = [("**/w", P("data", "model"))]


def model(scope, x):
    for i in range(2):
        layer = scope / f"layer_{i}"
        x = x @ layer.get_variable("w", (64, 64)) + layer.get_variable("b", (64,))[None]
    scope.get_variable("seen", (), jnp.int32, init.zeros, trainable=False)
    return x


DECLARED = js.declare(model)(jnp.ones((2, 64)))
W, B = 64 * 64 * 4, 64 * 4


def test_bytes_per_device_are_those_of_the_shards():
    plan = DECLARED.plan({"data": 2, "model": 4}, RULES, optimizer=optax.adam(1e-3))
    parameters = 2 * (W // 8 + B)
    assert plan.parameter_bytes == plan.gradient_bytes == parameters
    assert plan.optimizer_bytes == 2 * parameters + 4  # two moments, and the count of steps
    assert plan.other_bytes == 4
    assert plan.total_bytes == 4 * parameters + 8
    assert [row.name for row in plan.replicated] == ["layer_0/b", "layer_1/b", "seen"]


def test_it_counts_what_the_devices_then_hold():
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    optimizer = optax.adamw(1e-3)
    plan = DECLARED.plan(mesh, RULES, optimizer=optimizer)
    tree = DECLARED.init(jax.random.key(0), mesh=mesh, rules=RULES)
    params, state = DECLARED.split(tree)

    def on_first_device(values):
        return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(values))

    assert plan.parameter_bytes == on_first_device(params)
    assert plan.other_bytes == on_first_device(state)
    moments = optimizer.init(params)[0]
    assert plan.optimizer_bytes == on_first_device((moments.mu, moments.nu)) + 4


def test_it_prints_what_is_cut_and_what_is_whole():
    plan = DECLARED.plan(AbstractMesh((2, 4), ("data", "model")), RULES, optimizer=optax.sgd(0.1))
    assert repr(plan) == (
        "Plan for 8 devices (data 2, model 4)\n"
        "\n"
        "bytes              on each device  of these replicated    of all\n"
        "parameters                4.5 KiB                512 B  32.5 KiB\n"
        "gradients                 4.5 KiB                512 B  32.5 KiB\n"
        "optimizer's state             0 B                  0 B       0 B\n"
        "other variables               4 B                  4 B       4 B\n"
        "together                  9.0 KiB              1.0 KiB  65.0 KiB\n"
        "\n"
        "cut        shape     dtype    sharding            on each device\n"
        "layer_0/w  (64, 64)  float32  P('data', 'model')         2.0 KiB\n"
        "layer_1/w  (64, 64)  float32  P('data', 'model')         2.0 KiB\n"
        "\n"
        "whole      shape  dtype    on each device\n"
        "layer_0/b  (64,)  float32           256 B\n"
        "layer_1/b  (64,)  float32           256 B\n"
        "seen       ()     int32               4 B"
    )


def test_of_many_variables_it_prints_the_largest():
    def towers(scope):
        for i in range(40):
            scope.get_variable(f"cut_{i}", (4, i + 1))
            scope.get_variable(f"whole_{i}", (i + 1,))

    text = repr(js.declare(towers)().plan({"data": 4}, [("cut_*", P("data"))]))
    assert text.count("\n... 30 more ...") == 2
    assert [f"cut_{i} " in text for i in (39, 30, 29)] == [True, True, False]
    assert [f"whole_{i} " in text for i in (39, 30, 29)] == [True, True, False]


def test_without_an_optimizer_and_without_variables():
    plan = js.declare(lambda scope: None)().plan({"data": 2})
    assert plan.total_bytes == 0
    assert repr(plan).count("on each device") == 1


def test_state_of_another_shape_than_its_variable_is_whole():
    plan = DECLARED.plan({"data": 2, "model": 4}, RULES, optimizer=optax.adafactor(1e-3))
    rows = [row for row in plan.optimizer if row.name.endswith("['layer_0/w']")]
    assert rows
    for row in rows:
        assert row.is_whole == (row.shape != (64, 64)) or math.prod(row.shape) == 1


def test_what_does_not_fit_is_an_error_before_anything_is_counted():
    with pytest.raises(js.ShardingError, match=r"64 / 3 = 21\.3333"):
        DECLARED.plan({"data": 3, "model": 4}, RULES)
    with pytest.raises(js.ShardingError, match="`data` must be positive, got 0"):
        DECLARED.plan({"data": 0})
