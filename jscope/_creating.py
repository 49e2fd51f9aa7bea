"""From a request to a `VariableSpec`: what creating a variable means while a model is declared.

Variable creators stand around it; see `_getters`.

Imports: `_collections`, `_errors`, `_getters`, `_initial`, `_names`, `_place`, `_recorder`,
`_seen`, `_wanted`, `initializers`, `sharding`, JAX.
"""

import functools
from typing import Any

import jax

from . import _initial, _wanted
from ._collections import check_collections
from ._errors import ConstraintError, GetterError, RegularizerError
from ._getters import Creator, composed
from ._names import outward
from ._place import Request
from ._recorder import Recorder, Stack, VariableSpec
from ._seen import shape_of_all_shards
from .initializers import InitializedValue
from .sharding import check_spec


def create(
    whole: str, request: Request, creators: tuple[Creator, ...], stack: Stack, recorder: Recorder
) -> VariableSpec:
    """The facts of a new variable.

    Args:
        whole: Its whole name.
        request: What was asked for, the scope's defaults included.
        creators: The scope's variable creators, outermost first.
        stack: The stacks around it.
        recorder: That of the run.
    """
    make = functools.partial(_spec, whole, stack, recorder)
    if not creators:
        return make(whole, *(getattr(request, name) for name in _ARGUMENTS))
    arguments = {name: getattr(request, name) for name in _ARGUMENTS}
    created = composed(creators, make)(name=whole, **arguments)
    if not isinstance(created, VariableSpec):
        raise GetterError(
            f"The creator of variable {whole!r} gave {created!r}, not a VariableSpec. A variable "
            "creator is a function f(next_creator, **arguments) that returns "
            "next_creator(**arguments)."
        )
    found = jax.ShapeDtypeStruct(created.slice_shape, created.dtype)
    dtype = request.dtype_said(whole, None)
    _wanted.check_found(whole, request.shape_said(whole), dtype, found, _changed_by_creator)
    return created


def _changed_by_creator() -> str:
    return "Its variable creator changed that; leave it out of get_variable, or of the creator."


# What creators get beside the name, in the order of `_spec`.
_ARGUMENTS = (
    "shape",
    "dtype",
    "initializer",
    "regularizer",
    "trainable",
    "collections",
    "partitioner",
    "constraint",
    "sharding",
)


def _spec(
    whole: str,
    stack: Stack,
    recorder: Recorder,
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool = True,
    collections: Any = None,
    partitioner: Any = None,
    constraint: Any = None,
    sharding: Any = None,
) -> VariableSpec:
    if name != whole:
        raise GetterError(
            f"The creator of variable {whole!r} wants to create {name!r}. A creator can't change a "
            "name, since look-ups don't run it; a custom getter can."
        )
    if not (regularizer is None or callable(regularizer)):
        raise RegularizerError(
            f"Variable {whole!r}: a regularizer is a function f(value) -> scalar, such as "
            f"regularizers.l2(1e-4), got {regularizer!r}."
        )
    if not (constraint is None or callable(constraint)):
        raise ConstraintError(
            f"Variable {whole!r}: The `constraint` argument must be a callable f(value) -> value, "
            f"got {constraint!r}."
        )
    if isinstance(initializer, InitializedValue):
        shape, dtype = _like_source(whole, initializer, shape, dtype, stack, recorder)
    initializer = recorder.accepted(whole, initializer)
    wanted = _wanted.normalize(whole, shape, dtype, initializer)
    if sharding is None and partitioner is not None:
        if not callable(partitioner):
            raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}.")
        sharding = partitioner(whole, wanted.shape, wanted.dtype)
    sharding = check_spec(whole, sharding, wanted.shape)
    one = jax.ShapeDtypeStruct(wanted.shape, wanted.dtype)
    return VariableSpec(
        (*(length for _, length in stack), *shape_of_all_shards(whole, one, sharding, recorder)),
        wanted.dtype,
        wanted.initializer,
        trainable,
        regularizer,
        constraint,
        sharding,
        check_collections(whole, collections),
        stack,
    )


def _like_source(
    whole: str,
    initializer: InitializedValue,
    shape: Any,
    dtype: Any,
    stack: Stack,
    recorder: Recorder,
) -> tuple[Any, Any]:
    """The shape and dtype of a variable that starts as another one, where not said."""
    for name in outward(whole, initializer.name):
        source = recorder.created(name)
        if source is not None:
            shared = sum(a == b for a, b in zip(source.stack, stack, strict=False))
            seen = jax.ShapeDtypeStruct(source.shape[shared:], source.dtype)
            like = _initial.like_source(initializer, seen)
            return (
                like.shape if shape is None else shape,
                like.dtype if dtype is None else dtype,
            )
    return shape, dtype  # created later, so it must be said
