"""Pooling over one, two or three axes."""

from jax import Array

from ... import layers
from ..._layer_arithmetic import Sizes, check_window
from ..._scope.scope import Scope
from .._arg_scope import add_arg_scope
from ._layer import CHANNELS_LAST, channels_as_given, channels_last, check_rank


class _Pooling:
    def __init__(self, kind: str, axes: int):
        self._pool = layers.max_pool if kind == "max" else layers.avg_pool
        self._axes = axes
        self.__name__ = f"{kind}_pooling{axes}d"

    def __call__(
        self,
        scope: Scope,
        /,
        inputs: Array,
        pool_size: Sizes,
        strides: Sizes,
        padding: str = "valid",
        data_format: str = CHANNELS_LAST,
        name: str | None = None,
    ) -> Array:
        """The largest value, or the mean, of each window; ``strides`` has no default.

        Source: ``tf.layers.max_pooling2d``, ``average_pooling2d``, and those of one and three axes.
        """
        del scope, name  # which TF1 gives to the operations; no variable has them
        check_rank(self.__name__, inputs, self._axes)
        x = channels_last(inputs, data_format)
        check_window(self.__name__, x, pool_size, padding, argument="pool_size")
        y = self._pool(x, pool_size=pool_size, strides=strides, padding=padding)
        return channels_as_given(y, data_format)


max_pooling1d = add_arg_scope(_Pooling("max", 1))
max_pooling2d = add_arg_scope(_Pooling("max", 2))
max_pooling3d = add_arg_scope(_Pooling("max", 3))
average_pooling1d = add_arg_scope(_Pooling("average", 1))
average_pooling2d = add_arg_scope(_Pooling("average", 2))
average_pooling3d = add_arg_scope(_Pooling("average", 3))
