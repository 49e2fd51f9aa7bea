"""Threefry2x32 with 20 rounds, the hash behind JAX's default keys, on arrays of any shape.

`jax.extend.random.threefry_2x32` is the same hash. On CPUs it is a loop, which XLA compiles in
0.1 to 0.2 s where these operations in a row take 0.05. In programs that have to be compiled anyway,
as a model's are, the loop has fewer instructions; but the first initial values of a process wait
for little else.

Source: J. Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, 2011.
"""

from typing import TypeAlias

import numpy as np
from jax import Array
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
