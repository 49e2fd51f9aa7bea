"""The cells of the matrix: an operation in a transform, in a mode.

Modes: *declare* the model; apply it by a *direct* call; under an outer *jit*; and under *grad*,
by its variables and by its input. Each is compared with the mathematics on plain arrays, or must
fail with the message that its operation or transform foretells.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding

import jscope as js

from .operations import OPERATIONS, ROOT, Operation
from .transforms import TRANSFORMS, Transform, replicated, row_of, sharded

MODES = ("declare", "direct", "jit", "grad")
X = np.array([0.5, -1.25, 0.75], np.float32)


def not_run(operation: str, transform: str) -> str | None:
    """Why a combination can't be requested at all."""
    if TRANSFORMS[transform].is_callback and not OPERATIONS[operation].in_callback:
        return "a callback runs outside JAX, and this operation computes with JAX"
    return None


def check(operation: str, transform: str, mode: str, *, leaks: bool) -> None:
    """Assert one cell: that it equals the mathematics, or fails as foretold."""
    row, column = OPERATIONS[operation], TRANSFORMS[transform]
    message = expected_error(row, column, mode)
    if message is not None:
        # Without the checker, which would count the tracers in the error's own traceback.
        kind = js.ScopeError if is_refused(row, column) else (ValueError, NotImplementedError)
        with pytest.raises(kind, match=re.escape(message)), mesh_of(column):
            run(row, column, mode)
        return
    if mode != "declare":
        by_hand(operation, transform)  # not on the mesh
    with jax.checking_leaks() if leaks else contextlib.nullcontext(), mesh_of(column):
        checks = {"declare": check_declare, "direct": check_call, "jit": check_jit}
        checks.get(mode, check_grad)(operation, transform)


@contextlib.contextmanager
def programs_kept_in(folder: str | Path) -> Iterator[None]:
    """Compile equal programs once, also while JAX checks for leaks, where its other caches rest."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for settings_now in (settings, before):
        compilation_cache.reset_cache()
        for name, value in settings_now.items():
            jax.config.update(name, value)
        if settings_now is settings:
            yield


def mesh_of(column: Transform) -> Any:
    """The mesh that the transform needs, as a context."""
    return jax.set_mesh(column.mesh()) if column.mesh else contextlib.nullcontext()


def is_refused(row: Operation, column: Transform) -> bool:
    """Whether jscope refuses it, in some mode."""
    return row.refused is not None


def expected_error(row: Operation, column: Transform, mode: str) -> str | None:
    """The message of what can't work, jscope's or JAX's."""
    if is_refused(row, column) and mode in row.refused[0]:
        says = column.says_in_grad if mode == "grad" else ""
        return row.refused[1](says or column.says)
    return column.no_gradient if mode == "grad" and column.no_gradient else None


def model_of(row: Operation, column: Transform) -> Callable[[Any, Any], Any]:
    def model(scope, x):
        row.before(scope / "a", column.shards)
        out = column.apply(row.block, scope / "a", x)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out))

    return model


def apply(row: Operation, column: Transform, tree: js.VarTree, x: Any) -> Any:
    """The model on a tree; rows that must fail get all that they could hope for."""
    model = model_of(row, column)
    rngs = ROOT if row.draws else None
    if row.refused is None:
        return model(js.Scope(tree, rngs=rngs), x)
    records, updates = js.with_records(model), js.with_updates(model)
    return (records if row.shapes.keys() == {"w"} else updates)(tree, x)[0]


def run(row: Operation, column: Transform, mode: str) -> None:
    if mode == "declare":
        js.declare(model_of(row, column))(X)
        return
    function = functools.partial(apply, row, column)
    wrap = {"jit": jax.jit, "grad": functools.partial(jax.grad, argnums=(0, 1))}
    wrap.get(mode, lambda f: f)(function)(values_of(row, column), X)


def shapes_of(row: Operation, column: Transform) -> dict[str, tuple[int, ...]]:
    """The variables' shapes, of all shards."""
    return {
        f"a/{name}": (*shape[:-1], column.shards * shape[-1]) for name, shape in row.shapes.items()
    }


def values_of(row: Operation, column: Transform) -> js.VarTree:
    """Some values, laid out as the transform wants them."""
    rng = np.random.RandomState(len(row.shapes))
    values = {
        name: rng.uniform(0.5, 1.0, shape).astype(np.float32)
        for name, shape in shapes_of(row, column).items()
    }
    if column.mesh:
        spec = sharded if column.shards > 1 else replicated
        values = {
            name: jax.device_put(value, NamedSharding(column.mesh(), spec(name, value)))
            for name, value in values.items()
        }
    return js.VarTree(values)


def check_declare(operation: str, transform: str) -> None:
    row, column = OPERATIONS[operation], TRANSFORMS[transform]
    declared = js.declare(model_of(row, column))(X)
    found = {name: spec.shape for name, spec in declared.items()}
    assert found == shapes_of(row, column)


def check_call(operation: str, transform: str) -> None:
    row, column = OPERATIONS[operation], TRANSFORMS[transform]
    found = apply(row, column, values_of(row, column), X)
    np.testing.assert_allclose(found, by_hand(operation, transform)[0], rtol=1e-4, atol=1e-6)


def check_jit(operation: str, transform: str) -> None:
    row, column = OPERATIONS[operation], TRANSFORMS[transform]
    found = jax.jit(functools.partial(apply, row, column))(values_of(row, column), X)
    np.testing.assert_allclose(found, by_hand(operation, transform)[0], rtol=1e-4, atol=1e-6)


def check_grad(operation: str, transform: str) -> None:
    row, column = OPERATIONS[operation], TRANSFORMS[transform]
    total = functools.partial(apply, row, column)
    of_tree, of_x = jax.grad(total, argnums=(0, 1))(values_of(row, column), X)
    _, expected, expected_of_x = by_hand(operation, transform)
    np.testing.assert_allclose(of_x, expected_of_x, rtol=1e-3, atol=1e-5)
    for name in row.shapes:
        np.testing.assert_allclose(of_tree[f"a/{name}"], expected[name], rtol=1e-3, atol=1e-5)


@functools.cache
def by_hand(operation: str, transform: str) -> tuple[Any, Any, Any]:
    """The value and the gradients, of the mathematics on plain arrays."""
    row, column = OPERATIONS[operation], TRANSFORMS[transform]

    def one_shard(i: int, values: dict[str, Any], x: Any) -> Any:
        own = {name: jnp.split(v, column.shards, axis=-1)[i] for name, v in values.items()}
        return row.by_hand(own, row_of(i, x))

    def total(values: dict[str, Any], x: Any) -> Any:
        if column.shards == 1:
            out = column.by_hand(functools.partial(row.by_hand, values), x)
        else:
            out = [one_shard(i, values, x) for i in range(column.shards)]
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out))

    values = {name.removeprefix("a/"): np.asarray(v) for name, v in values_of(row, column).items()}
    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(values, jnp.asarray(X))
    return value, *gradients
