"""The values that a writer takes for a tensor, and the bytes that are stored of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import CheckpointValueError
from . import _dtypes
from ._boxes import Box, Extent, lengths


@dataclass(frozen=True)
class Part:
    """A part of a partitioned variable.

    Attributes:
        value: The values of this part.
        shape: The shape of the whole.
        index: Which part it is, a slice per axis, as in ``whole[index]``; ``np.s_[0:2, :]``.

    Source:
        A ``tf.Variable`` with ``save_slice_info``. Of ``SaveV2``'s slice specs, ``:`` is TF's
        ``-`` and ``a:b`` its ``a,length``.
    """

    value: Any
    shape: Sequence[int]
    index: tuple[slice, ...] | slice

    def box(self, name: str) -> Box:
        """The index as it is stored."""
        index = self.index if isinstance(self.index, tuple) else (self.index,)
        box: list[Extent] = []
        for item, size in zip(index, self.shape, strict=False):
            if item == slice(None):
                box.append(None)
                continue
            start, stop, step = item.indices(size)
            if step != 1 or not 0 <= start < stop <= size or item.stop not in (None, stop):
                break
            box.append((start, stop - start))
        if not len(box) == len(index) == len(self.shape):
            raise CheckpointValueError(
                f"A part of {name!r} can't be {self.index!r} of shape {tuple(self.shape)}: write "
                "one slice per axis, without step, not empty and inside, such as np.s_[0:2, :]."
            )
        expected = lengths(tuple(box), self.shape)
        if np.shape(self.value) != expected:
            raise CheckpointValueError(
                f"The part {self.index!r} of {name!r} has shape {np.shape(self.value)}, not "
                f"{expected}."
            )
        return tuple(box)


def as_array(name: str, value: object) -> tuple[NDArray[Any], int]:
    """A value as a contiguous array of this machine's byte order, and the number of its dtype.

    Strings become ``bytes``.
    """
    if isinstance(value, (str, bytes)):
        value = np.array(value, object)
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        raise CheckpointValueError(
            f"{name!r} is a {type(value).__name__}, which has no dtype of its own: write "
            "np.asarray(value, np.float32), say."
        )
    array = np.asarray(value, order="C")
    if array.dtype.kind in "SUO":
        return _strings(name, array), _dtypes.STRING
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    number = _dtypes.NUMBERS.get(array.dtype)
    if number is None:
        known = ", ".join(str(dtype) for dtype in _dtypes.NUMBERS)
        raise CheckpointValueError(
            f"{name!r} has dtype {array.dtype}, which TensorFlow has no number for. It has "
            f"{known}: convert it."
        )
    return array, number


def _strings(name: str, array: NDArray[Any]) -> NDArray[Any]:
    strings = np.empty(array.shape, object)
    for place, item in np.ndenumerate(array):
        if not isinstance(item, (str, bytes)):
            raise CheckpointValueError(
                f"{name!r} has dtype object and holds a {type(item).__name__}: TensorFlow's only "
                "objects are strings, so give bytes or str."
            )
        strings[place] = item.encode() if isinstance(item, str) else bytes(item)
    return strings
