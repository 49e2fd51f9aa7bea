"""What a model sees of a variable while it is declared: a slice of a stack, a shard of a mesh.

A slice lacks the leading dimensions that are the lengths of its stacks.

Inside `jax.shard_map` shapes are those of one shard. A declaring scope has no variables as
leaves, so what the transform's specs say of them can't be known; `Scope.specs` tells it to the
recorder. Where it was not told, variables are taken to be replicated, as with ``P()``; if they
are not, applying the model finds other shapes than were declared.

Imports: `_errors`, `_recorder`, JAX.
"""

from typing import Any

import jax

from ._errors import ShapeMismatchError
from ._recorder import Recorder, Stack, VariableSpec


def slice_of(name: str, spec: VariableSpec, stack: Stack) -> jax.ShapeDtypeStruct:
    """What a slice of these stacks sees of a variable.

    Raises:
        ShapeMismatchError: If the variable doesn't begin with the stacks' lengths.
    """
    lengths = tuple(length for _, length in stack)
    if spec.shape[: len(lengths)] != lengths:
        raise ShapeMismatchError(
            f"Variable {name} has shape {spec.shape}, but is asked for in a slice of "
            + " in ".join(f"the stack {scope!r} of {length}" for scope, length in stack[::-1])
            + ". All that is asked for in a stack has its length as the first dimension."
        )
    return jax.ShapeDtypeStruct(spec.shape[len(lengths) :], spec.dtype)


def seen_in_shard(
    name: str, whole: jax.ShapeDtypeStruct, recorder: Recorder
) -> jax.ShapeDtypeStruct:
    """What one shard sees of a variable inside `jax.shard_map`; elsewhere all of it."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.manual_axes:
        return whole
    shards = _shards(name, whole, recorder, mesh)
    uneven = [i for i, (size, n) in enumerate(zip(whole.shape, shards, strict=True)) if size % n]
    if uneven:
        i = uneven[0]
        raise ShapeMismatchError(
            f"Variable {name!r} of shape {whole.shape} can't be cut into {shards[i]} shards along "
            f"axis {i}: {whole.shape[i]} / {shards[i]} is no integer."
        )
    shape = tuple(size // n for size, n in zip(whole.shape, shards, strict=True))
    return jax.ShapeDtypeStruct(shape, whole.dtype)


def shape_of_all_shards(
    name: str, one: jax.ShapeDtypeStruct, sharding: Any, recorder: Recorder
) -> tuple[int, ...]:
    """The shape of a variable that is created inside `jax.shard_map`, from that of one shard.

    Raises:
        ShapeMismatchError: If the variable's sharding was said, but not that of its scope.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.manual_axes:
        return tuple(one.shape)
    if recorder.specs_told(name) is None and any(_manual(part, mesh) for part in sharding or ()):
        raise ShapeMismatchError(
            f"Variable {name!r} with sharding={sharding} is created inside jax.shard_map over "
            f"{mesh.manual_axes}, where {one.shape} may be the shape of one shard or of all. Pass "
            "the scope with in_specs=(scope.specs(lambda name, value: spec, PartitionSpec()), ...),"
            " which says so at declaration and at application; or create the variable outside."
        )
    shards = _shards(name, one, recorder, mesh)
    return tuple(size * n for size, n in zip(one.shape, shards, strict=True))


def _shards(
    name: str, value: jax.ShapeDtypeStruct, recorder: Recorder, mesh: Any
) -> tuple[int, ...]:
    """Along each axis, the number of shards that `Scope.specs` told; 1 where it didn't."""
    told = recorder.specs_told(name)
    if told is None:
        return (1,) * len(value.shape)
    whole = jax.ShapeDtypeStruct((*told.lengths, *value.shape), value.dtype)
    spec = tuple(told.function(name[len(told.scope) + 1 :] if told.scope else name, whole))
    of_stack, of_slice = spec[: len(told.lengths)], spec[len(told.lengths) :]
    if len(of_slice) > len(value.shape) or any(_manual(part, mesh) for part in of_stack):
        raise ShapeMismatchError(
            f"scope.specs gives {spec} for variable {name!r} of shape {whole.shape}: it must have "
            "at most as many parts as the variable has dimensions, and can't cut a stack itself."
        )
    shards = [1] * len(value.shape)
    for i, part in enumerate(of_slice):
        for axis in _manual(part, mesh):
            shards[i] *= mesh.shape[axis]
    return tuple(shards)


def _manual(part: Any, mesh: Any) -> tuple[str, ...]:
    """The axes of the mesh inside `jax.shard_map` that one part of a spec names."""
    axes = part if isinstance(part, tuple) else (part,)
    return tuple(axis for axis in axes if axis in mesh.manual_axes)
