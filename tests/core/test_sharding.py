"""Partitioners, rules, and what doesn't fit."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

import jscope as js
from jscope import sharding

P = PartitionSpec
MESH = AbstractMesh((2, 4), ("data", "model"))


def model(scope, x):
    body = scope.variable_scope("body", partitioner=by_name)
    h = x @ body.get_variable("w", (8, 16))
    h = h @ body.get_variable("said", (16, 8), sharding=P("data"))
    return h * scope.get_variable("scale", ())


def by_name(name, shape, dtype):
    assert dtype == jnp.float32
    return P(None, "model") if name == "body/w" and shape == (8, 16) else P("model")


DECLARED = js.declare(model)(jnp.ones((2, 8)))


def specs(rules=()):
    return {name: s.spec for name, s in DECLARED.shardings(MESH, rules=rules).items()}


def test_the_variable_wins_over_the_scope_and_what_nobody_said_is_replicated():
    assert specs() == {"body/said": P("data"), "body/w": P(None, "model"), "scale": P()}


def test_rules_win_over_the_code_and_the_first_rule_decides():
    rules = [("body/w", P("data", "model")), ("body/**", None)]
    assert specs(rules) == {"body/said": P(), "body/w": P("data", "model"), "scale": P()}


def test_a_rule_may_be_a_partitioner():
    rules = [("**/*", sharding.fixed_size_partitioner(2, axis=1, mesh_axis="data"))]
    assert specs(rules)["body/w"] == P(None, "data")
    assert specs([("**", lambda name, shape, dtype: None)]) == dict.fromkeys(specs(), P())


def test_a_spec_is_that_of_one_slice_of_a_stack():
    def stacked(scope, x):
        def body(x, layer):
            return x @ layer.get_variable("w", (8, 8), sharding=P("model")), None

        return jax.lax.scan(body, x, scope.stacked("layers", 3))[0]

    declared = js.declare(stacked)(jnp.ones((2, 8)))
    assert declared.shardings(MESH)["layers/w"].spec == P(None, "model")
    assert declared.shardings(MESH, rules=[("**", P(None, "data"))])["layers/w"].spec == P(
        None, None, "data"
    )


def test_all_that_does_not_fit_is_listed_with_the_arithmetic():
    def misfits(scope):
        scope.get_variable("a", (6, 10), sharding=P("data", "model"))
        scope.get_variable("b", (8, 12), sharding=P(("data", "model")))
        scope.get_variable("c", (4, 12), sharding=P(None, ("data", "model")))
        scope.get_variable("d", (4, 4), sharding=P("stage"))
        scope.get_variable("e", (4, 4), sharding=P("data", "data"))

    with pytest.raises(js.ShardingError) as caught:
        js.declare(misfits)().shardings(MESH)
    assert str(caught.value) == (
        "4 shardings can't be used on the mesh {'data': 2, 'model': 4}:\n"
        "  'a': axis 1 of (6, 10) can't be cut over 'model': 10 / 4 = 2.5\n"
        "  'c': axis 1 of (4, 12) can't be cut over 'data' x 'model': 12 / 8 = 1.5\n"
        "  'd': P('stage',) names 'stage', which is not an axis of the mesh\n"
        "  'e': P('data', 'data') names the axis 'data' twice\n"
        "Give another spec with rules=[(selector, PartitionSpec(...))], or use another mesh."
    )


def test_a_spec_with_too_many_parts_is_an_error_where_the_variable_is_created():
    def long(scope):
        scope.get_variable("w", (4,), sharding=P(None, "model"))

    with pytest.raises(js.ShardingError, match=r"'w': .* has 2 parts, but the shape \(4,\) has 1"):
        js.declare(long)()
    with pytest.raises(js.ShardingError, match="has 1 parts, but the shape"):
        specs([("scale", P("model"))])


def test_what_is_no_spec_is_an_error():
    def wrong(scope):
        scope.get_variable("w", (4,), sharding="model")

    with pytest.raises(js.ShardingError, match=r"'w': a sharding is .* got 'model' of type str"):
        js.declare(wrong)()
    with pytest.raises(js.ShardingError, match="A rule is a pair"):
        specs(["body/w"])
    with pytest.raises(js.SelectorError, match="'boddy/w' matches no variable"):
        specs([("boddy/w", P())])


def test_partitioners_leave_scalars_whole_and_name_what_they_cannot_cut():
    part = sharding.fixed_size_partitioner(4, axis=1, mesh_axis="model")
    assert part("s", (), jnp.float32) is None
    with pytest.raises(js.ShardingError) as caught:
        part("dense/b", (3,), jnp.float32)
    assert str(caught.value) == (
        "Cannot partition variable 'dense/b' along axis 1 when shape is only (3,). For a scope "
        "that has such variables too, pass a function: partitioner=lambda name, shape, dtype: "
        "part(name, shape, dtype) if len(shape) > 1 else None."
    )


def test_partitioners_count_from_the_end_too_and_compare_by_parameters():
    part = sharding.fixed_size_partitioner(4, axis=-1, mesh_axis="model")
    assert part("w", (3, 5), jnp.float32) == P(None, "model")
    assert part("w", (5, 1), jnp.float32) == P()
    assert part == sharding.fixed_size_partitioner(4, axis=-1, mesh_axis="model")


def test_an_empty_variable_is_not_cut_by_size():
    part = sharding.variable_axis_size_partitioner(8, mesh_axis="model")
    assert part("w", (4, 0), jnp.float32) == P()


@pytest.mark.parametrize(
    "make",
    [
        lambda: sharding.fixed_size_partitioner(0, mesh_axis="m"),
        lambda: sharding.variable_axis_size_partitioner(0, mesh_axis="m"),
        lambda: sharding.variable_axis_size_partitioner(4, max_shards=0, mesh_axis="m"),
        lambda: sharding.min_max_variable_partitioner(0, mesh_axis="m"),
        lambda: sharding.min_max_variable_partitioner(2, min_slice_size=0, mesh_axis="m"),
    ],
)
def test_counts_must_be_positive(make):
    with pytest.raises(js.ShardingError, match="must be positive, got 0"):
        make()
