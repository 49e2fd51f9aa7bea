"""Are the words of names distinct, and is `mix` an avalanche? A script, not a test.

    python tests/key_collisions.py [number of names, 10**7 by default]

Ten million names of four patterns are hashed by the rule of `jscope._keys` and compared:
with 64 bits, chance gives twins in one run of 370,000. Each word by itself must have as
many twins as 32 random bits, or the rule would waste bits. Then
every bit of the input of `mix` is flipped in random words: every bit of the output must
flip in 49 to 51 % of them. The exit status is 1 if any of this fails.
"""

import hashlib
import random
import resource
import sys
import time
from collections.abc import Iterable, Sequence

import numpy as np

from jscope._keys import ROOT_WORDS, mix


def hash_components(components: Iterable[str]) -> np.ndarray:
    """The first two words of the SHA-256 of each string; as `component_words`, for many."""
    digests = b"".join(hashlib.sha256(c.encode()).digest()[:8] for c in components)
    return np.frombuffer(digests, "<u4").reshape(-1, 2).astype(np.uint32)


def words_of_paths(columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The words of many names, given one level at a time.

    Args:
        columns: For each level the words of the different components, and for each name
            the index of its own.
    """
    words = np.broadcast_to(ROOT_WORDS, (len(columns[0][1]), 2))
    for hashes, index in columns:
        words = mix(words, hashes[index])
    return words


def count_twins(words: np.ndarray) -> int:
    """How many of these values occurred before."""
    ordered = np.sort(words)
    return int(np.count_nonzero(ordered[1:] == ordered[:-1]))


def patterns(count: int) -> dict[str, np.ndarray]:
    """The words of ``count`` different names of each of four patterns."""
    every = np.arange(count)
    same = np.zeros(count, np.int64)
    numbers = random.Random(0)
    strings = {f"{numbers.getrandbits(80):020x}" for _ in range(count)}
    while len(strings) < count:
        strings.add(f"{numbers.getrandbits(80):020x}")
    digits = hash_components("0123456789")
    places = range(len(str(count - 1)))
    return {
        "layer_{i}/w": words_of_paths(
            [
                (hash_components(f"layer_{i}" for i in range(count)), every),
                (hash_components(["w"]), same),
            ]
        ),
        "layer_{i}/block_{j}/kernel": words_of_paths(
            [
                (hash_components(f"layer_{i}" for i in range(count // 1000 + 1)), every // 1000),
                (hash_components(f"block_{j}" for j in range(1000)), every % 1000),
                (hash_components(["kernel"]), same),
            ]
        ),
        "random strings": words_of_paths([(hash_components(sorted(strings)), every)]),
        "a level per digit": words_of_paths(
            [(digits, every // 10**place % 10) for place in reversed(places)]
        ),
    }


def avalanche(samples: int) -> np.ndarray:
    """How often output bit j flips with input bit i, for ``[i, j]`` of 64 by 64."""
    generator = np.random.default_rng(0)
    words = generator.integers(0, 2**32, (samples, 2), np.uint32)
    component = generator.integers(0, 2**32, (samples, 2), np.uint32)
    before = mix(words, component)
    flips = np.empty((64, 64))
    for i in range(64):
        bit = np.zeros(2, np.uint32)
        bit[i // 32] = np.uint32(1) << np.uint32(i % 32)
        changed = np.ascontiguousarray(before ^ mix(words, component ^ bit))
        bits = np.unpackbits(changed.view(np.uint8), axis=1, bitorder="little")
        flips[i] = bits.mean(axis=0)
    return flips


def main(count: int) -> int:
    """Run all of it, print what was found, and return the exit status."""
    start = time.perf_counter()
    found = patterns(count // 4)
    words = np.concatenate(list(found.values()))
    for name, part in found.items():
        print(f"{len(part):>10,} names {name}: {twins(part)} twins")
    expected = len(words) ** 2 / 2**33
    halves = [count_twins(words[:, i]) for i in (0, 1)]
    print(f"{len(words):>10,} names together: {twins(words)} twins")
    print(f"           each word alone: {halves[0]:,} and {halves[1]:,}; chance {expected:,.0f}")
    print(f"           {time.perf_counter() - start:.0f} s, {peak_memory():.0f} MiB")
    start = time.perf_counter()
    flips = avalanche(200_000)
    print(f"avalanche: 64 x 64 probabilities in [{flips.min():.4f}, {flips.max():.4f}]")
    print(f"           {time.perf_counter() - start:.0f} s, {peak_memory():.0f} MiB")
    good = (
        twins(words) == 0
        and all(abs(half - expected) < 6 * expected**0.5 + 6 for half in halves)
        and flips.min() > 0.49
        and flips.max() < 0.51
    )
    return 0 if good else 1


def twins(words: np.ndarray) -> int:
    """How many names have both words of an earlier one."""
    return count_twins(np.ascontiguousarray(words).view(np.uint64)[:, 0])


def peak_memory() -> float:
    """The most memory this process held, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**7))
