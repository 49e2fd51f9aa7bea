"""Initialising a model while it runs: initial values that depend on what the model computes.

Such are those of ActNorm, or of weight normalisation by data. The model runs once with real
values, and each variable gets its initial value where it is first asked for. So a variable
can't be created inside a transform: its value could not leave it.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jax import Array

from .._errors import ScopeError
from .._keys import check_key, draw_words, fold_words, name_words
from .._scope.call_sites import transform_around
from .._scope.declaring import Recorder
from .._scope.usage import trace_state
from .._variables.initialize import initialize
from ..initializers import KnownShape


@dataclass(frozen=True, eq=False)
class Computed(KnownShape):
    """An initial value that is traced: of the very trace in which the model runs."""

    value: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    def __call__(self, key: Any, shape: Any, dtype: Any = None) -> Array:
        del key, shape, dtype  # whoever calls it compares them with what it gives
        return self.value


class InlineRecorder(Recorder):
    """A recorder that also gives variables their initial values."""

    has_values = True

    def __init__(self, key: Array):
        super().__init__()
        self._key = check_key(key)
        self._trace = trace_state()
        self.values: dict[str, Array] = {}

    def value(self, name: str, seen: jax.ShapeDtypeStruct) -> Array:
        """A variable's value; a new one's initial value.

        It is all of it: creation inside a transform fails, so no scope sees a slice or a shard.
        """
        if name not in self.values:
            if trace_state() != self._trace:
                raise ScopeError(
                    f"Variable {name!r} would be created inside {transform_around()}. With "
                    "inline=True initial values are computed where the model runs, and a value "
                    "computed inside a transform can't leave it. Call the function without the "
                    "transform while initialising, ask for the variable before the transform, or "
                    "write js.init(model) if no initial value depends on data."
                )
            self.values[name] = initialize(self.specs(), [name], self._key, self.values)[name]
        return self.values[name]

    def accepted(self, name: str, initializer: Any) -> Any:
        """The initializer of a new variable; it may depend on what the model computed."""
        is_traced = isinstance(initializer, jax.core.Tracer)
        return Computed(initializer) if is_traced else initializer

    def draw(self, scope: str, stream: str, name: str | None) -> Any:
        """A random key, from the key of the initial values."""
        return fold_words(self._key, draw_words(name_words(scope), stream, name))
