"""Are name hashes distinct, and do keys look random? A script, not a test.

    python tests/key_collisions.py [number of names, 10**7 by default]

Ten million paths of six patterns are hashed by the rule of `jscope._random.keys` and compared:
with 64 bits, chance gives duplicates in one run of 370,000. Then every bit of the words of a
component is flipped: every bit of the key must flip in 49 to 51 % of random parents. The exit
status is 1 if any of this fails.
"""

import hashlib
import random
import resource
import sys
import time
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from keys_by_definition import FACTORS, LOW, WORD, first

from jscope._random.keys import fold_words

M, A = np.array(FACTORS, np.uint32), np.array(LOW, np.uint32)


def hash_components(components: Iterable[str]) -> np.ndarray:
    """The first two words of the SHA-256 of each string."""
    digests = b"".join(hashlib.sha256(c.encode()).digest()[:8] for c in components)
    return np.frombuffer(digests, "<u4").reshape(-1, 2).astype(np.uint32)


def hash_folds(integers: np.ndarray) -> np.ndarray:
    """What integers below 2^32 that are folded in add to a hash."""
    return integers.astype(np.uint32)[:, None] * A + np.array(first("jscope.fold.2"), np.uint32)


def words_of_paths(columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The words of many paths, given one level at a time.

    Args:
        columns: For each level the words of the different components, and for each path
            the index of its own.
    """
    words = np.tile(np.array(first("jscope.names.2"), np.uint32), (len(columns[0][1]), 1))
    for hashes, index in columns:
        words = words * M + hashes[index]
    return words


def patterns(count: int) -> dict[str, np.ndarray]:
    """The words of ``count`` different paths of each of six patterns."""
    every = np.arange(count)
    same = np.zeros(count, np.int64)
    side = int(count**0.5) + 1
    numbers = random.Random(0)
    strings = {f"{numbers.getrandbits(80):020x}" for _ in range(count)}
    while len(strings) < count:
        strings.add(f"{numbers.getrandbits(80):020x}")
    digits = hash_components("0123456789")
    places = range(len(str(count - 1)))
    layers = hash_components(f"layer_{i}" for i in range(count))
    blocks = hash_components(f"block_{j}" for j in range(1000))
    folds = hash_folds(np.arange(side))
    word = hash_components(["w"])
    return {
        "layer_{i}/w": words_of_paths([(layers, every), (word, same)]),
        "layer_{i}/block_{j}/w": words_of_paths(
            [(layers, every // 1000), (blocks, every % 1000), (word, same)]
        ),
        "random strings": words_of_paths([(hash_components(sorted(strings)), every)]),
        "a level per digit": words_of_paths(
            [(digits, every // 10**place % 10) for place in reversed(places)]
        ),
        "fold i, fold j": words_of_paths([(folds, every // side), (folds, every % side)]),
        "fold i/w, fold j/w": words_of_paths(
            [(folds, every // side), (word, same), (folds, every % side), (word, same)]
        ),
    }


def close_folds(limit: int, distance: int) -> int:
    """How many pairs ``|i - i'|, |j - j'| <= limit`` of integers that are folded in collide.

    Exact: ``(i, j)`` and ``(i', j')``, folded in ``distance`` components apart, have the same hash
    if and only if ``(i - i') * M^distance + j - j'`` is 0 modulo 2^32 in both lanes.
    """
    steps = np.arange(1, limit + 1, dtype=np.uint64)
    others = [steps * np.uint64(pow(m, distance, WORD)) % np.uint64(WORD) for m in FACTORS]
    near = (others[0] <= limit) | (others[0] >= WORD - limit)
    return int(np.count_nonzero((others[0] == others[1]) & near))


def avalanche(samples: int) -> np.ndarray:
    """How often bit j of the key flips with bit i of a component's words, for ``[i, j]``."""
    generator = np.random.default_rng(0)
    parent = generator.integers(0, 2**32, (samples, 2), np.uint32)
    component = generator.integers(0, 2**32, (samples, 2), np.uint32)
    root = jax.random.key(0)

    @jax.jit
    def keys(words: jax.Array) -> jax.Array:
        return jax.vmap(lambda own: jax.random.key_data(fold_words(root, own)))(words)

    before = np.asarray(keys(jnp.asarray(parent * M + component)))
    flips = np.empty((64, 64))
    for i in range(64):
        bit = np.zeros(2, np.uint32)
        bit[i // 32] = np.uint32(1) << np.uint32(i % 32)
        after = np.asarray(keys(jnp.asarray(parent * M + (component ^ bit))))
        changed = np.ascontiguousarray(before ^ after)
        bits = np.unpackbits(changed.view(np.uint8), axis=1, bitorder="little")
        flips[i] = bits.mean(axis=0)
    return flips


def duplicates(words: np.ndarray) -> int:
    """How many paths have both words of an earlier one."""
    ordered = np.sort(np.ascontiguousarray(words).view(np.uint64)[:, 0])
    return int(np.count_nonzero(ordered[1:] == ordered[:-1]))


def main(count: int) -> int:
    """Run all of it, print what was found, and return the exit status."""
    start = time.perf_counter()
    found = patterns(count // 6)
    words = np.concatenate(list(found.values()))
    for name, part in found.items():
        print(f"{len(part):>10,} paths {name}: {duplicates(part)} duplicates")
    print(f"{len(words):>10,} paths together: {duplicates(words)} duplicates")
    close = sum(close_folds(10**5, distance) for distance in range(1, 33))
    print(f"           pairs of folds up to 10^5, 1 to 32 components apart: {close} duplicates")
    print(f"           {time.perf_counter() - start:.0f} s, {peak_memory():.0f} MiB")
    start = time.perf_counter()
    flips = avalanche(200_000)
    print(f"avalanche: 64 x 64 probabilities in [{flips.min():.4f}, {flips.max():.4f}]")
    print(f"           {time.perf_counter() - start:.0f} s, {peak_memory():.0f} MiB")
    good = duplicates(words) == 0 and close == 0 and flips.min() > 0.49 and flips.max() < 0.51
    return 0 if good else 1


def peak_memory() -> float:
    """The most memory this process held, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**7))
