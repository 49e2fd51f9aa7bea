"""The rows of the matrix: one block for each operation of a scope, and its mathematics.

Blocks take and give arrays of shape (3,), and most use nothing but ``*`` and ``+``, so that they
run in a callback too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from keys_by_definition import key_by_definition

import jscope as js

ROOT = jax.random.key(11)
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """One row.

    Attributes:
        block: ``(scope, x) -> y``.
        by_hand: ``(values, x) -> y``, the same from the values of the block's variables.
        shapes: The variables that the block has, relative to its scope.
        before: What the model does with the scope outside the transform, which will cut the last
            axis of variables into so many shards.
        refused: If it must fail, the modes where it does, and its message by the transform's name.
        in_callback: Whether it needs no JAX, and so runs in `jax.pure_callback`.
        draws: Whether it needs random streams; the others run without.
    """

    block: Callable[[Any, Any], Any]
    by_hand: Callable[[Values, Any], Any]
    shapes: Mapping[str, tuple[int, ...]]
    before: Callable[[Any, int], object] = lambda scope, shards: None
    refused: tuple[frozenset[str], Callable[[str], str]] | None = None
    in_callback: bool = False
    draws: bool = False


def create_w(scope: Any, shards: int = 1) -> Any:
    return scope.get_variable("w", (3 * shards,))


def create(scope, x):
    return x * x * create_w(scope)


def look_up(scope, x):
    return x * x * scope["w"]


def share(scope, x):
    tied = scope.shared("tied")
    return x * tied.get_variable("w", (3,)) + tied.get_variable("w", (3,))


def twice(getter, name, **arguments):
    return 2 * getter(name, **arguments)


def enter(scope, x):
    inner = scope.variable_scope("inner", dtype=jnp.float32)
    with (scope / "other").variable_scope(inner, custom_getter=twice) as again:
        return create(again, x) * create_w(scope / "other/deep")


def stack(scope, x):
    return jax.lax.scan(lambda x, layer: (create(layer, x), None), x, scope.stacked("s", 2))[0]


def mapped_stack(scope, x):
    return jax.vmap(create, in_axes=(0, None))(scope.stacked("s", 2), x).sum(0)


def number(key: Any) -> Any:
    """A number in [0, 1) from the bits of the key itself, which are as good as any."""
    return (jax.random.key_data(key)[:1] >> 8).astype(jnp.float32) / 2**24


def draw(scope, x):
    return x * x * number(scope.rng("noise"))


def fold(scope, x):
    now = (scope / "inner").fold(jnp.int32(5))
    return x * x * number(now.rng("noise"))


def count(scope, x):
    n = scope.get_variable("n", (3,), initializer=js.initializers.zeros, trainable=False)
    return x * x * scope.assign("n", n + x)


def assign(scope, x):
    y, updates = js.with_updates(count)(scope, x)
    return y + updates["n"]


def observe(scope, x):
    y = create(scope, x)
    scope.record("y", y * x)
    return y


def record(scope, x):
    y, records = js.with_records(observe)(scope, x)
    return y + (records["y"] if "y" in records else jnp.zeros_like(y))


def noise(*path: str | int) -> Any:
    return number(key_by_definition(ROOT, "a", *path, "rng:noise"))


EVERYWHERE = frozenset({"declare", "direct", "jit", "grad"})

OPERATIONS = {
    "create": Operation(create, lambda v, x: x * x * v["w"], {"w": (3,)}, in_callback=True),
    "look up": Operation(
        look_up, lambda v, x: x * x * v["w"], {"w": (3,)}, before=create_w, in_callback=True
    ),
    "share": Operation(
        share, lambda v, x: x * v["tied/w"] + v["tied/w"], {"tied/w": (3,)}, in_callback=True
    ),
    "enter, getter": Operation(
        enter,
        lambda v, x: x * x * 2 * v["inner/w"] * v["other/deep/w"],
        {"inner/w": (3,), "other/deep/w": (3,)},
        in_callback=True,
    ),
    "scan a stack": Operation(
        stack, lambda v, x: (x * x * v["s/w"][0]) ** 2 * v["s/w"][1], {"s/w": (2, 3)}
    ),
    "map a stack": Operation(
        mapped_stack, lambda v, x: x * x * (v["s/w"][0] + v["s/w"][1]), {"s/w": (2, 3)}
    ),
    "draw a key": Operation(
        draw,
        lambda v, x: x * x * noise(),
        {},
        draws=True,
    ),
    "fold, draw": Operation(
        fold,
        lambda v, x: x * x * noise("inner", 5),
        {},
        draws=True,
    ),
    "assign": Operation(
        assign,
        lambda v, x: x * x * (v["n"] + x) + (v["n"] + x),
        {"n": (3,)},
    ),
    "assign, bare": Operation(
        count,
        lambda v, x: None,
        {"n": (3,)},
        refused=(
            EVERYWHERE,
            lambda transform: (
                f"Variable 'a/n' was assigned inside {transform}, from which a new value comes out "
                "only as a result. Write the function that is transformed with y, updates = "
                "js.with_updates(block)(scope, x), return both"
            ),
        ),
    ),
    "record": Operation(record, lambda v, x: x * x * v["w"] + x * x * v["w"] * x, {"w": (3,)}),
    "record, bare": Operation(
        observe,
        lambda v, x: x * x * v["w"],
        {"w": (3,)},
        refused=(
            EVERYWHERE - {"declare"},
            lambda transform: (
                "The records 'a/y' were made inside a transform, from which values come out only "
                "as results. Write the function that is transformed with y, records = "
                "js.with_records(block)(scope, x) and return both"
            ),
        ),
    ),
}
