"""Initial values over a mesh: each device computes its own shard, and the bits don't change."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope import initializers as init
from jscope._variables import initial_value as _initial

P = PartitionSpec
KEY = jax.random.key(3)
X = jax.ShapeDtypeStruct((2, 64), jnp.float32)
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}


def mesh_of(kind: str) -> Mesh:
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(KINDS[kind],) * 2)


@pytest.fixture(params=KINDS)
def mesh(request) -> Mesh:
    return mesh_of(request.param)


def block(scope, x):
    """One variable of each kind: drawn, orthogonal, constant, given, narrow, derived, a key."""
    spec = P("data", "model")
    w = scope.get_variable("w", (64, 32), initializer=init.truncated_normal(), sharding=spec)
    scope.get_variable("o", (32, 16), initializer=init.orthogonal(), sharding=P("model"))
    scope.get_variable("z", (32,), initializer=init.zeros, sharding=P("model"))
    scope.get_variable("g", initializer=np.arange(8.0, dtype=np.float32), sharding=P("data"))
    scope.get_variable("h", (64, 8), jnp.bfloat16, sharding=P("model", "data"))
    scope.get_variable("copy", initializer=init.initialized_value("w"), sharding=P(None, "model"))
    scope.get_variable("replicated", (3, 5))
    return jax.nn.relu(x @ w) @ scope.get_variable("v", (32, 64), sharding=P("model"))


def loops(scope, x):
    for i in range(3):
        x = block(scope / f"block_{i}", x)
    return x


def stacked(scope, x):
    return jax.lax.scan(lambda x, layer: (block(layer, x), None), x, scope.stacked("blocks", 3))[0]


MODELS = {"loop": loops, "stack": stacked}


@functools.cache
def unsharded(model: str) -> js.VarTree:
    return js.init(MODELS[model])(KEY, X)


def check_placed(tree: js.VarTree, declared, mesh: Mesh, expected: js.VarTree) -> None:
    assert tree == expected  # bit for bit
    for name, sharding in declared.shardings(mesh).items():
        assert tree[name].sharding.is_equivalent_to(sharding, tree[name].ndim), name
        assert tree[name].addressable_shards[0].data.shape == sharding.shard_shape(tree[name].shape)


@pytest.mark.parametrize("model", MODELS)
def test_init_over_a_mesh_gives_the_same_bits_in_shards(model, mesh):
    declared = js.declare(MODELS[model])(X)
    with jax.checking_leaks():
        tree = declared.init(KEY, mesh=mesh)
    check_placed(tree, declared, mesh, unsharded(model))


@pytest.mark.parametrize("model", MODELS)
def test_the_mesh_of_set_mesh_is_taken_where_shardings_are_said(model, mesh):
    declared = js.declare(MODELS[model])(X)
    with jax.set_mesh(mesh):
        check_placed(declared.init(KEY), declared, mesh, unsharded(model))


@pytest.mark.parametrize("model", MODELS)
def test_a_jitted_init_under_set_mesh(model, mesh):
    declared = js.declare(MODELS[model])(X)
    with jax.set_mesh(mesh), jax.checking_leaks():
        tree = jax.jit(lambda key: js.init(MODELS[model])(key, X))(KEY)
    check_placed(tree, declared, mesh, unsharded(model))


@pytest.mark.parametrize("model", MODELS)
def test_a_jitted_init_with_a_mesh(model, mesh):
    declared = js.declare(MODELS[model])(X)
    tree = jax.jit(lambda key: declared.init(key, mesh=mesh))(KEY)
    check_placed(tree, declared, mesh, unsharded(model))


@pytest.mark.parametrize("model", MODELS)
def test_a_jitted_init_with_out_shardings(model, mesh):
    declared = js.declare(MODELS[model])(X)
    tree = jax.jit(declared.init, out_shardings=declared.shardings(mesh))(KEY)
    check_placed(tree, declared, mesh, unsharded(model))


def compiled_init(declared, mesh: Mesh, how: str):
    if how == "mesh":
        return jax.jit(lambda key: declared.init(key, mesh=mesh)).lower(KEY).compile()
    if how == "set_mesh":
        with jax.set_mesh(mesh):
            return jax.jit(lambda key: declared.init(key)).lower(KEY).compile()
    return jax.jit(declared.init, out_shardings=declared.shardings(mesh)).lower(KEY).compile()


COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def wide_model(layout):
    """Eight times two kernels, which are the two groups; 8 MiB in all."""

    def wide(scope, x):
        kernel = scope.get_variable("up", (256, 512), sharding=P(None, "model"))
        return jax.nn.relu(x @ kernel) @ scope.get_variable("down", (512, 256), sharding=P("model"))

    def model(scope, x):
        if layout == "loop":
            for i in range(8):
                x = wide(scope / f"{i}", x)
            return x
        return jax.lax.scan(lambda x, s: (wide(s, x), None), x, scope.stacked("l", 8))[0]

    return js.declare(model)(jnp.ones((2, 256)))


SHARE = 8 * 2 * 256 * 512 * 4 // 8  # of each of eight devices, in bytes


@pytest.mark.parametrize("how", ["mesh", "set_mesh", "out_shardings"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", MODELS)
def test_each_device_holds_its_share_and_nothing_is_communicated(layout, kind, how):
    mesh = jax.make_mesh((8,), ("model",), axis_types=(KINDS[kind],))
    compiled = compiled_init(wide_model(layout), mesh, how)
    largest_group = SHARE // 2
    assert compiled.memory_analysis().temp_size_in_bytes <= 1.3 * SHARE + largest_group
    assert compiled.memory_analysis().output_size_in_bytes <= 1.01 * SHARE
    assert not re.search(COLLECTIVES, compiled.as_text())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", MODELS)
def test_so_too_outside_jit_program_by_program(layout, kind, monkeypatch):
    ran = []

    def watched(sharding, original=_initial._compiled):
        def run(*arguments):
            ran.append(original(sharding).lower(*arguments).compile())
            return original(sharding)(*arguments)

        run.lower = original(sharding).lower  # which compiles, but runs nothing
        return run

    monkeypatch.setattr(_initial, "_compiled", watched)
    mesh = jax.make_mesh((8,), ("model",), axis_types=(KINDS[kind],))
    tree = wide_model(layout).init(KEY, mesh=mesh)
    assert len(ran) == len(tree)  # each variable, or stack, is a call of its group's program
    sizes = [program.memory_analysis() for program in ran]
    assert sum(size.output_size_in_bytes for size in sizes) <= 1.01 * SHARE
    largest_group = SHARE // 2
    assert max(size.temp_size_in_bytes for size in sizes) <= largest_group
    assert not any(re.search(COLLECTIVES, program.as_text()) for program in ran)
    on_first = sum(value.addressable_shards[0].data.nbytes for value in tree.values())
    assert on_first == SHARE


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_generators_give_the_same_bits_in_shards(impl):
    key = jax.random.key(5, impl=impl)
    mesh = mesh_of("auto")
    for model in MODELS.values():
        declared = js.declare(model)(X)
        check_placed(declared.init(key, mesh=mesh), declared, mesh, js.init(model)(key, X))


def test_a_key_variable_is_laid_out_too():
    def keys(key, shape, dtype):
        return jax.random.split(key, shape)

    def model(scope):
        return scope.get_variable("k", (8,), KEY.dtype, keys)

    mesh = mesh_of("auto")
    declared = js.declare(model)()
    tree = declared.init(KEY, mesh=mesh, rules=[("k", P("model"))])
    assert tree["k"].addressable_shards[0].data.shape == (2,)
    assert tree == js.init(model)(KEY)


def test_given_values_are_laid_out_too_and_left_alone():
    mesh = mesh_of("auto")
    declared = js.declare(loops)(X)
    given = js.select(unsharded("loop"), "block_0/**")
    tree = declared.init(KEY, given=given, mesh=mesh)
    check_placed(tree, declared, mesh, unsharded("loop"))
    jax.tree.map(lambda value: value.delete(), tree)
    assert given == js.select(js.init(loops)(KEY, X), "block_0/**")


def test_a_mesh_without_devices_computes_nothing():
    declared = js.declare(loops)(X)
    with pytest.raises(js.ShardingError, match="no devices to compute initial values on"):
        declared.init(KEY, mesh=jax.sharding.AbstractMesh((2, 4), ("data", "model")))


def test_rules_need_a_mesh():
    declared = js.declare(loops)(X)
    with pytest.raises(js.ShardingError, match=r"there is no mesh\. Pass mesh=jax\.make_mesh"):
        declared.init(KEY, rules=[("**/w", P())])


def test_abstract_values_carry_shardings():
    declared = js.declare(loops)(X)
    mesh = mesh_of("auto")
    abstract = declared.abstract(mesh, rules=[("**/w", P("model"))])
    assert abstract["block_0/w"].sharding == NamedSharding(mesh, P("model"))
    assert declared.abstract()["block_0/w"].sharding is None
