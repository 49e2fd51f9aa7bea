"""The draws of many small variables in one program, whose shapes are not those of the variables.

A program for each shape of a small model takes seconds to compile, to compute a few milliseconds.
With threefry, random element i depends on the key and i alone (`_random.threefry.random_bits`), so
a **batch** of draws is cut into **rows** of 1,024 elements, each with its variable's name hash, the
number of its first element and the parameters of its `_random.draws.Draw`. Rows of all variables,
of any shapes and parameters, are computed by one program.

* **Outside any trace** a program computes 4 or 64 rows. These two programs serve all models; a
  model of up to 64 rows calls one of them once. The values are cut and reshaped by NumPy, which
  compiles nothing, and each becomes an array of its own.
* **In a trace** a loop computes all rows, since XLA would fuse the draws into whatever uses them,
  which changes bits; barriers are gone by then. It has two iterations or more, since XLA unrolls
  loops of one. Then the variables are cut from its result, at offsets that XLA doesn't know: it
  compiles equal kernels once, but slices at constant offsets differ, and each would take 0.03 s.

Large variables, of more than 2^16 elements, keep a program of their own shape: it uses
all cores, needs no second copy, and the time to compute them is no longer small beside compiling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import SingleDeviceSharding
from jaxtyping import Float32, UInt32

from .._random import draws
from .._random.initializer_bases import Elementwise
from .._random.keys import Words, gives_traced_keys
from .._random.threefry import random_bits, threefry_keys
from .placement import new_arrays, unaligned

ROW = 1024  # elements
SIZES = (4, 64)  # rows of a program, outside any trace
LARGEST = 1 << 16  # elements of a variable, or of a slice of a stack
MOST_ROWS = 1 << 18  # of a stack, and of a loop, whose elements are numbered in int32

_DTYPES = tuple(np.dtype(dtype) for dtype in (np.float32, np.float16, jnp.bfloat16))


@dataclass(frozen=True)
class Piece:
    """A variable, or a stack of them, to be drawn in one batch with others.

    Attributes:
        draw: How its elements are drawn.
        words: The name hash; for a stack those of its slices, ``(*lengths, 2)``.
        shape: Of one slice.
    """

    draw: draws.Draw
    words: Words
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements of one slice."""
        return math.prod(self.shape)

    @property
    def slices(self) -> int:
        """The number of slices; 1 if it is no stack."""
        return self.words.size // 2

    @property
    def rows(self) -> int:
        """The number of rows of all slices; the last row of a slice may be longer than it."""
        return self.slices * -(-self.size // ROW)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of the variable, with the lengths of its stacks."""
        return (*self.words.shape[:-1], *self.shape)


def accepts(root: Array) -> bool:
    """Whether a batch of variables can be drawn with this root key: in rows, on one device."""
    if jax.random.key_impl(root) != "threefry2x32" or not _is_partitionable():
        return False
    if isinstance(jax.random.key_data(root), jax.core.Tracer):
        return True
    # Under a mesh, or with a key on several devices, JAX's rules say where values are computed.
    ambient = jax.sharding.get_abstract_mesh()
    return ambient.empty and isinstance(root.sharding, SingleDeviceSharding)


def _is_partitionable() -> bool:
    """Whether a batch of variables can have rows: JAX draws the bits of each element by itself."""
    # Read each time: it is a setting that `jax.threefry_partitionable` changes for a block.
    config: Any = jax.config  # its settings are not annotated
    partitionable: bool = config.jax_threefry_partitionable
    return partitionable


def draw_of(
    initializer: object, shape: tuple[int, ...], dtype: np.dtype[Any], slices: int = 1
) -> draws.Draw | None:
    """The `Draw` of a variable, or of a stack, if it may be drawn in one batch with others.

    Raises:
        InitializerError: As the call of the initializer.
    """
    if not isinstance(initializer, Elementwise) or dtype not in _DTYPES:
        return None
    size = math.prod(shape)
    if not 0 < size <= LARGEST or not 0 < slices * -(-size // ROW) <= MOST_ROWS:
        return None
    return initializer.draw(shape, dtype)


def drawn_together(root: Array, pieces: Sequence[Piece]) -> list[Array]:
    """The initial values of variables that are drawn together, in a trace or outside."""
    if gives_traced_keys(root):
        return _traced_values(root, pieces)
    return new_arrays(_values(root, pieces), root)


# Outside any trace.


def _values(root: Array, pieces: Sequence[Piece]) -> list[np.ndarray[Any, Any]]:
    """The values of a batch of variables, outside any trace; they may be views of one array."""
    rows = _rows(pieces)
    size = next((size for size in SIZES if size >= len(rows)), SIZES[-1])
    blocks = [
        _compiled(root, _padded(rows[at : at + size], size)) for at in range(0, len(rows), size)
    ]
    flat = unaligned(np.concatenate(jax.device_get(blocks)).reshape(-1))
    found = []
    at = 0
    for piece in pieces:
        end = at + piece.rows * ROW
        whole = flat[at:end].reshape(piece.slices, -1)[:, : piece.size]
        with np.errstate(over="ignore"):
            rounded = whole.astype(piece.draw.dtype, copy=False)
        found.append(rounded.reshape(piece.whole_shape))
        at = end
    return found


def _rows(pieces: Sequence[Piece]) -> UInt32[np.ndarray, "rows 11"]:
    """The rows of a batch: each has a name hash, the number of its first element, and parameters.

    One array, since each argument of a compiled program takes its time.
    """
    rows = np.empty((sum(piece.rows for piece in pieces), 11), np.uint32)
    at = 0
    for piece in pieces:
        end = at + piece.rows
        by_slice = rows[at:end].reshape(piece.slices, -1, 11)
        by_slice[..., :2] = np.asarray(piece.words).reshape(-1, 1, 2)
        by_slice[..., 2] = np.arange(by_slice.shape[1], dtype=np.uint32) * np.uint32(ROW)
        by_slice[..., 3:] = piece.draw.parameters.view(np.uint32)
        at = end
    return rows


def _padded(rows: UInt32[np.ndarray, "rows 11"], size: int) -> UInt32[np.ndarray, "size 11"]:
    """The rows of a batch, and further ones whose values are not used, up to a number of rows."""
    missing = size - len(rows)
    return rows if not missing else np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])


def _rows_computed(root: Array, rows: UInt32[Array, "rows 11"]) -> Float32[Array, "rows elements"]:
    """The elements of some rows of a batch of variables; compiled, as `_compiled`."""
    return _elements(threefry_keys(root, rows[:, :2]), rows)


def _elements(
    keys: UInt32[Array, "rows 2"], rows: UInt32[Array, "rows 11"]
) -> Float32[Array, "rows elements"]:
    """The random elements of a batch's rows, from the key of each row."""
    counters = rows[:, 2:3] + lax.broadcasted_iota(np.uint32, (len(rows), ROW), 1)
    bits = random_bits((keys[:, :1], keys[:, 1:]), counters)
    return draws.values_of(bits, lax.bitcast_convert_type(rows[:, 3:], jnp.float32))


_compiled = jax.jit(_rows_computed)


# In a trace.


def _traced_values(root: Array, pieces: Sequence[Piece]) -> list[Array]:
    """The values of a batch of variables, in a trace; the program hardly grows with it."""
    loops: dict[tuple[np.dtype[Any], int], list[int]] = {}
    rows = 0
    for i, piece in enumerate(pieces):
        rows += piece.rows
        loops.setdefault((piece.draw.dtype, rows // MOST_ROWS), []).append(i)
    values: dict[int, Array] = {}
    for (dtype, _), chosen in loops.items():
        some = [pieces[i] for i in chosen]
        values.update(zip(chosen, _cut(_in_loop(root, some, dtype), some), strict=True))
    return [values[i] for i in range(len(pieces))]


def _in_loop(root: Array, pieces: Sequence[Piece], dtype: np.dtype[Any]) -> Array:
    """The elements of all rows of a batch of variables, one row after the other, by a loop."""
    rows = _rows(pieces)
    block = min(SIZES[-1], -(-len(rows) // 2))
    iterations = -(-len(rows) // block)
    # Behind a barrier, or XLA would compute what follows from constants, with other bits.
    rows = lax.optimization_barrier(jnp.asarray(_padded(rows, block * iterations)))
    keys = threefry_keys(root, rows[:, :2])
    by_block = [of.reshape(iterations, block, -1) for of in (keys, rows)]
    # Rounded in the loop, or XLA would omit the rounding where a consumer goes back to float32.
    values: Array = lax.map(lambda of: _elements(*of).astype(dtype), by_block)
    return values.reshape(-1)


def _cut(flat: Array, pieces: Sequence[Piece]) -> list[Array]:
    """The variables of a batch, cut from an array that has their rows one after the other."""
    ends = np.cumsum([piece.rows for piece in pieces])
    first = [np.int32((end - piece.rows) * ROW) for end, piece in zip(ends, pieces, strict=True)]
    starts = _unknown(first)
    found = []
    for start, piece in zip(starts, pieces, strict=True):
        each = piece.size if piece.slices == 1 else piece.rows * ROW // piece.slices
        size = piece.slices * each
        values = lax.dynamic_slice(flat, (start,), (size,), allow_negative_indices=False)
        if each > piece.size:
            by_slice = values.reshape(piece.slices, each)
            values = lax.slice(by_slice, (0, 0), (piece.slices, piece.size))
        found.append(values.reshape(piece.whole_shape))
    return found


def _unknown(numbers: Sequence[np.int32]) -> list[Array]:
    """The offsets of a batch's variables, such that XLA doesn't know them while it compiles."""
    zero = np.int32(0)
    one = lax.fori_loop(0, 2, lambda _, number: lax.max(number, zero), np.int32(1))
    found: list[Array] = lax.cond(
        one == zero,
        lambda: [jnp.zeros_like(x) for x in numbers],
        lambda: list(map(jnp.asarray, numbers)),
    )
    return found
