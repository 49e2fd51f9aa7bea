"""What a spec says of one slice of a stack, applied to values: regularizers and constraints.

A variable that is in no stack is its only slice.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._errors import ConstraintError, RegularizerError
from .._tree.vartree import jax_value
from .._variables.spec import VariableSpec


def loss(name: str, spec: VariableSpec, value: Any) -> Array | None:
    """The regularizer's value, summed over slices; None if there is none, or it gives None.

    Raises:
        RegularizerError: If it gives no scalar.
    """
    if spec.regularizer is None:
        return None
    term = _each(spec.regularizer, spec)(jax_value(value))
    if term is None:
        return None
    if np.shape(term)[len(spec.stack) :]:
        raise RegularizerError(
            f"The regularizer of {name!r} gave an array of shape "
            f"{np.shape(term)[len(spec.stack) :]}; it must give a scalar, such as the sum."
        )
    return jnp.sum(jnp.asarray(term))


def constrained(name: str, spec: VariableSpec, value: Any) -> Any:
    """The value that the variable's constraint gives; the value itself without one.

    Raises:
        ConstraintError: If it has another shape or dtype.
    """
    if spec.constraint is None:
        return value
    try:
        result = jnp.asarray(_each(spec.constraint, spec)(jax_value(value)))
    except Exception as error:
        error.add_note(f"(While the constraint of variable {name!r} was applied.)")
        raise
    if result.shape != spec.shape or result.dtype != spec.dtype:
        raise ConstraintError(
            f"The constraint of {name!r} made {result.dtype}{list(result.shape)} of "
            f"{spec.dtype}{list(spec.shape)}. A constraint is f(value) -> value of the same shape "
            "and dtype."
        )
    return result


def _each(function: Callable[[Any], Any], spec: VariableSpec) -> Callable[[Any], Any]:
    """A function of one slice, applied to all slices of a stack."""
    for _ in spec.stack:
        function = jax.vmap(function)
    return function
