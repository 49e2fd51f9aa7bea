"""The columns of the matrix: JAX's own transforms of a block, and their mathematics.

Each passes the scope as an argument where JAX has a place for one, and closes over it else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

Block = Callable[[Any, Any], Any]
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Transform:
    """One column.

    Attributes:
        apply: ``(block, scope, x) -> out``.
        by_hand: ``(f, x) -> out``, the same for ``f(x)``, the block on plain arrays.
        says: How errors call the innermost transform.
        says_in_grad: The same where a rule of the user's own gives the gradient.
        no_gradient: Why JAX can't differentiate it backwards, in JAX's words.
        is_callback: Whether the block runs outside JAX.
        mesh: The mesh that it needs, if any.
        shards: The number of shards into which each variable's last axis is cut; the block then
            sees one of them, and ``by_hand`` is not used: each shard is the block by itself.
    """

    apply: Callable[[Block, Any, Any], Any]
    by_hand: Callable[[Function, Any], Any]
    says: str
    says_in_grad: str = ""
    no_gradient: str = ""
    is_callback: bool = False
    mesh: Callable[[], Mesh] | None = None
    shards: int = 1


def vmap(block, scope, x):
    return jax.vmap(block, in_axes=(None, 0))(scope, jnp.stack([x, 2 * x]))


def custom_jvp(block, scope, x):
    @jax.custom_jvp
    def function(scope, x):
        return block(scope, x)

    @function.defjvp
    def rule(primals, tangents):
        return jax.jvp(block, primals, tangents)

    return function(scope, x)


def custom_vjp(block, scope, x):
    @jax.custom_vjp
    def function(scope, x):
        return block(scope, x)

    function.defvjp(lambda *args: jax.vjp(block, *args), lambda pull, cotangent: pull(cotangent))
    return function(scope, x)


def scan(block, scope, x):
    return lax.scan(lambda x, _: (block(scope, x), None), x, length=2)[0]


def scan_carried(block, scope, x):
    def body(carry, _):
        scope, x = carry
        return (scope, block(scope, x)), None

    return lax.scan(body, (scope, x), length=2)[0][1]


def while_loop(block, scope, x):
    def body(carry):
        i, scope, x = carry
        return i + 1, scope, block(scope, x)

    return lax.while_loop(lambda carry: carry[0] < 2, body, (0, scope, x))[2]


DEVICES = 8


def row_of(i: int, x: Any) -> Any:
    """What the i-th device gets."""
    return (1 + i / DEVICES) * x


@cache
def mesh_of(kind: AxisType) -> Mesh:
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,))


def sharded(name: str, value: Any) -> P:
    """The spec of a variable whose last axis is cut."""
    del name
    return P(*(None,) * (len(value.shape) - 1), "data")


def replicated(name: str, value: Any) -> P:
    del name, value
    return P()


def shard_map(kind, spec, block, scope, x):
    """The block on each device, with a row of its own."""
    mesh = mesh_of(kind)
    rows = jnp.stack([row_of(i, x) for i in range(DEVICES)])
    if kind == AxisType.Explicit:
        rows = jax.sharding.reshard(rows, NamedSharding(mesh, P("data")))
    specs = scope.specs(spec, P())
    mapped = jax.shard_map(
        lambda scope, rows: block(scope, rows[0])[None],
        mesh=mesh,
        in_specs=(specs, P("data")),
        out_specs=P("data"),
    )
    return mapped(scope, rows)


def shard_map_by_hand(f, x):
    return jnp.stack([f(row_of(i, x)) for i in range(DEVICES)])


def pure_callback(block, scope, x):
    block(scope, x)  # creation has to happen outside

    def on_host(scope, x):
        return np.asarray(block(jax.tree.map(np.asarray, scope), np.asarray(x)))

    return jax.pure_callback(on_host, jax.ShapeDtypeStruct(x.shape, x.dtype), scope, x)


def value_and_pull(f, x):
    y, pull = jax.vjp(f, x)
    return y, pull(y)


def value_and_push(f, x):
    y, push = jax.linearize(f, x)
    return y, push(x)


def associative(f, x):
    both = jax.vmap(f)
    return lax.associative_scan(lambda a, b: both(a) + b, jnp.stack([x, x, 2 * x]))


def of_x(derivative):
    """A transform of functions of ``x`` alone; the block's ``x`` is the first argument."""
    return lambda block, scope, x: derivative(lambda x, scope: block(scope, x))(x, scope)


def twice(f, x):
    return f(f(x))


def two(f, x):
    return jnp.stack([f(x), f(2 * x)])


def summed(derivative):
    return lambda f: derivative(lambda *args: f(*args).sum())


def closed(function):
    """A transform that takes ``f`` and ``x``, of a block that closes over its scope."""
    return lambda block, scope, x: function(lambda x: block(scope, x), x)


grad, value_and_grad = summed(jax.grad), summed(jax.value_and_grad)
hessian = summed(jax.hessian)

TRANSFORMS = {
    "jit": Transform(lambda b, s, x: jax.jit(b)(s, x), lambda f, x: f(x), "jax.jit"),
    "checkpoint": Transform(
        lambda b, s, x: jax.checkpoint(b)(s, x), lambda f, x: f(x), "jax.checkpoint"
    ),
    "vmap": Transform(vmap, two, "jax.vmap"),
    "map": Transform(
        lambda b, s, x: lax.map(lambda x: b(s, x), jnp.stack([x, 2 * x])),
        two,
        "jax.lax.map",
    ),
    "grad": Transform(of_x(grad), lambda f, x: grad(f)(x), "jax.grad"),
    "value_and_grad": Transform(
        of_x(value_and_grad),
        lambda f, x: value_and_grad(f)(x),
        "jax.value_and_grad",
    ),
    "jvp": Transform(
        closed(lambda f, x: jax.jvp(f, (x,), (x,))),
        lambda f, x: jax.jvp(f, (x,), (x,)),
        "jax.jvp",
    ),
    "vjp": Transform(closed(value_and_pull), value_and_pull, "jax.vjp"),
    "linearize": Transform(closed(value_and_push), value_and_push, "jax.linearize"),
    "jacfwd": Transform(of_x(jax.jacfwd), lambda f, x: jax.jacfwd(f)(x), "jax.jacfwd"),
    "jacrev": Transform(of_x(jax.jacrev), lambda f, x: jax.jacrev(f)(x), "jax.jacrev"),
    "hessian": Transform(of_x(hessian), lambda f, x: hessian(f)(x), "jax.jacfwd"),
    "custom_jvp": Transform(
        custom_jvp, lambda f, x: f(x), "jax.custom_jvp", says_in_grad="jax.jvp"
    ),
    "custom_vjp": Transform(
        custom_vjp, lambda f, x: f(x), "jax.custom_vjp", says_in_grad="jax.vjp"
    ),
    "scan": Transform(scan, twice, "jax.lax.scan"),
    "scan, carried": Transform(scan_carried, twice, "jax.lax.scan"),
    "fori_loop": Transform(
        lambda b, s, x: lax.fori_loop(0, 2, lambda i, x: b(s, x), x),
        twice,
        "jax.lax.fori_loop",
    ),
    "while_loop": Transform(
        while_loop,
        twice,
        "jax.lax.while_loop",
        no_gradient="Reverse-mode differentiation does not work for lax.while_loop",
    ),
    "cond": Transform(
        lambda b, s, x: lax.cond(x[0] < 9, b, lambda s, x: x, s, x),
        lambda f, x: f(x),
        "jax.lax.cond",
    ),
    "switch": Transform(
        lambda b, s, x: lax.switch(jnp.int32(1), [lambda s, x: x, b, lambda s, x: -x], s, x),
        lambda f, x: f(x),
        "jax.lax.switch",
    ),
    "associative_scan": Transform(closed(associative), associative, "jax.vmap"),
    **{
        f"shard_map, {kind.name}, {spec.__name__}": Transform(
            partial(shard_map, kind, spec),
            shard_map_by_hand,
            "jax.shard_map",
            mesh=partial(mesh_of, kind),
            shards=DEVICES if spec is sharded else 1,
        )
        for kind in (AxisType.Auto, AxisType.Explicit)
        for spec in (replicated, sharded)
    },
    "pure_callback": Transform(
        pure_callback,
        lambda f, x: f(x),
        "jax.pure_callback",
        no_gradient="Pure callbacks do not support JVP",
        is_callback=True,
    ),
}
