"""Operations have the names of scopes: in models, in every transform, and whatever is left how.

In what follows, ``#: pattern`` behind a line says which path its operations have, as a regular
expression.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from matrix.cells import mesh_of
from matrix.transforms import TRANSFORMS
from operation_names import instructions, marked, misnamed, names_off, operations

import jscope as js
from jscope import layers

KEY = jax.random.key(0)


def components_of(tree):
    return {part for name in tree for part in name.split("/")[:-1]}


# Models.


@js.named
def attention(scope, x):
    y = layers.layer_norm(scope / "norm", x)  #: block_\d/attention/norm
    return layers.multi_head_attention(  #: block_\d/attention/heads(/(query|key|value|output))?
        scope / "heads", y, num_heads=2, head_size=4, is_causal=True
    )


@js.named
def mlp(scope, x):
    x = layers.rms_norm(scope / "norm", x)  #: block_\d/mlp/norm
    y = layers.dense(scope / "up", x, units=16)  #: block_\d/mlp/up
    y = jax.nn.gelu(y)  #: block_\d/mlp
    y = layers.dropout(scope / "drop", y, rate=0.5, training=True)  #: block_\d/mlp(/drop)?
    return layers.dense(scope / "down", y, units=8)  #: block_\d/mlp/down


@js.named
def gpt_block(scope, x):
    y = attention(scope / "attention", x)  #: block_\d
    x = x + y  #: block_\d
    y = mlp(scope / "mlp", x)  #: block_\d
    return x + y  #: block_\d


def gpt(scope, tokens, block=gpt_block):
    x = layers.embedding(scope / "tokens", tokens, input_dim=11, output_dim=8)  #: tokens
    for i in range(2):
        x = block(scope / f"block_{i}", x)
    return layers.dense(scope / "head", x, units=11)  #: head


@js.named
def residual(scope, x, *, filters):
    y = layers.conv(scope / "conv", x, filters=filters, kernel_size=3, padding="SAME")  #: u\d/conv
    y = layers.batch_norm(scope / "bn", y, training=True)  #: u\d/bn
    y = jax.nn.relu(y)  #: u\d
    x = layers.conv(scope / "short", x, filters=filters, kernel_size=1)  #: u\d/short
    return x + y  #: u\d


def resnet(scope, x):
    with scope.variable_scope("stem") as stem:
        x = layers.conv(stem, x, filters=4, kernel_size=3)  #: stem
        x = layers.max_pool(x, pool_size=2)  #: stem
    for i in range(2):
        with scope.variable_scope(f"u{i}") as unit:
            x = residual(unit, x, filters=4 * (i + 1))
    with scope.variable_scope("top") as top:
        x = layers.avg_pool(x, pool_size=2)  #: top
        x = x.mean((1, 2))  #: top
        return layers.dense(top / "logits", x, units=3)  #: top/logits


MODELS = {
    "GPT": (gpt, jnp.zeros((2, 5), jnp.int32)),
    "GPT, jitted blocks": (
        functools.partial(gpt, block=js.named(jax.jit(gpt_block))),
        jnp.zeros((2, 5), jnp.int32),
    ),
    "GPT, rematerialized blocks": (
        functools.partial(gpt, block=js.named(jax.checkpoint(gpt_block))),
        jnp.zeros((2, 5), jnp.int32),
    ),
    "ResNet": (resnet, jnp.ones((2, 8, 8, 3))),
}


def losses(model, x):
    """The loss and its gradient, and a tree to take them at."""
    tree = js.init(model)(KEY, x)

    def loss(tree):
        out, updates = js.with_updates(model)(js.Scope(tree, rngs=KEY), x)
        return jnp.sin(out).sum(), updates  #:

    return loss, jax.grad(loss, has_aux=True), tree


@pytest.mark.parametrize("name", MODELS)
def test_all_operations_of_a_model_have_their_paths(name):
    forward, backward, tree = losses(*MODELS[name])
    components = components_of(tree) | {"drop"}
    for function in (forward, backward):
        found = operations(function, tree)
        ours = [op for op in found if marked(op) is not None]
        # The gradients of the result, and those of values that have none, are of no line.
        others = {(op.kind, op.path(components)) for op in found if marked(op) is None}
        assert others <= {("stablehlo.broadcast_in_dim", "")}
        assert misnamed(ours, components) == []
        assert {op.path(components) for op in ours} >= {s.rpartition("/")[0] for s in tree}


# Transforms.


@js.named
def tanh(scope, x):
    w = scope.get_variable("w", x.shape)  #: a/inner
    return jnp.tanh(x * w)  #: a/inner


def in_a(scope, x):
    return tanh(scope / "inner", x)


@js.named
def sin(scope, x):
    w = scope.get_variable("w", x.shape)  #: b/deep/inner
    return jnp.sin(x * w)  #: b/deep/inner


def in_b(scope, x):
    with scope.variable_scope("inner") as inner:
        return sin(inner, x)


X = np.array([0.5, -1.25, 0.75], np.float32)


def model_in(transform):
    def model(scope, x):
        with scope.variable_scope("a") as a, scope.variable_scope("b/deep") as b:
            y = js.named(functools.partial(transform.apply, in_b))(b, x)
            x = js.named(functools.partial(transform.apply, in_a))(a, x)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves((x, y)))

    return model


def laid_out(tree, transform):
    if transform.mesh is None:
        return tree
    spec = P("data") if transform.shards > 1 else P()
    return jax.device_put(tree, NamedSharding(transform.mesh(), spec))


@pytest.mark.parametrize("name", [name for name, t in TRANSFORMS.items() if not t.is_callback])
def test_operations_have_their_paths_in_every_transform(name):
    transform = TRANSFORMS[name]
    model = model_in(transform)
    with mesh_of(transform):
        tree = laid_out(js.init(model)(KEY, X), transform)
        found = operations(lambda tree: model(js.Scope(tree), X), tree)
        if not transform.no_gradient:
            found += operations(jax.grad(lambda tree: model(js.Scope(tree), X)), tree)
    ours = [op for op in found if marked(op) is not None]
    assert misnamed(ours, {"a", "b", "deep", "inner"}) == []
    kinds = {op.kind for op in ours}
    assert kinds >= {"stablehlo.tanh", "stablehlo.sine", "stablehlo.multiply"}


# What names may not change.


@pytest.mark.parametrize("name", ["GPT", "ResNet"])
def test_names_change_nothing_in_a_program_but_its_metadata(name):
    forward, backward, tree = losses(*MODELS[name])
    for function in (forward, backward):
        jaxpr, compiled = str(jax.make_jaxpr(function)(tree)), instructions(function, tree)
        with names_off():
            unnamed = losses(*MODELS[name])[function is backward]
            assert not any("norm" in op.name for op in operations(unnamed, tree))
            assert str(jax.make_jaxpr(unnamed)(tree)) == jaxpr
            assert instructions(unnamed, tree) == compiled
