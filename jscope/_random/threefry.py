"""Threefry2x32 with 20 rounds, the hash behind JAX's default keys, and what is computed by it.

`jax.extend.random.threefry_2x32` is the same hash. On CPUs it is a loop, which XLA compiles in
0.1 to 0.2 s where the operations of `threefry`, in a row, take 0.05. In programs that have to be
compiled anyway, as a model's are, the loop has fewer instructions; but the first initial values of
a process wait for little else.

Source: J. Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, 2011.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.random import threefry_2x32
from jaxtyping import UInt32

Words: TypeAlias = UInt32[np.ndarray, "..."] | UInt32[Array, "..."] | np.uint32

_DISTANCES = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[Words, Words], block: tuple[Words, Words]) -> tuple[Words, Words]:
    """The two words of a block, hashed with the two words of a key.

    All four broadcast against each other: NumPy's arrays, or JAX's, traced or not.
    """
    first, second = key
    keys = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    x, y = block[0] + first, block[1] + second
    for i in range(5):
        for distance in _DISTANCES[i % 2]:
            x = x + y
            y = x ^ (y << np.uint32(distance) | y >> np.uint32(32 - distance))
        x, y = x + keys[(i + 1) % 3], y + (keys[(i + 2) % 3] + np.uint32(i + 1))
    return x, y


# Keys and random bits.


def threefry_key(root: Array, first: Words, second: Words) -> Array:
    """The key of a name hash, given as two words, under a threefry root key of either kind."""
    typed = jnp.issubdtype(root.dtype, jax.dtypes.prng_key)
    data = jax.random.key_data(root) if typed else root
    key: Array = _block(data, first, second)
    return jax.random.wrap_key_data(key, impl="threefry2x32") if typed else key


@jax.jit
def _block(data: Array, first: Array, second: Array) -> Array:
    """JAX's threefry of one block of two words; compiled, so that a program has it once."""
    key: Array = threefry_2x32((data[0], data[1]), jnp.stack([first, second]))
    return key


def threefry_keys(root: Array, words: UInt32[Array, "n 2"]) -> UInt32[Array, "n 2"]:
    """The keys of many name hashes under a threefry root key; the program compiles fast."""
    data = jax.random.key_data(root)
    keys = threefry((data[0], data[1]), (words[:, 0], words[:, 1]))
    return jnp.stack(keys, axis=-1)


def random_bits(key: tuple[Words, Words], counters: Words) -> Words:
    """The random bits of elements ``counters``, below 2^32, that JAX draws with a threefry key."""
    x, y = threefry(key, (np.uint32(0), counters))
    return x ^ y
