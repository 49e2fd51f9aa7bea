"""The rule of keys, written down a second time: from its definition, in Python integers.

    python tests/keys_by_definition.py

prints `tests/key_vectors.json`. A path is a sequence of strings, the components of a name, and of
integers that are folded in.
"""

import hashlib
import json
from collections.abc import Sequence

import jax
import numpy as np

WORD = 2**32
FACTORS = (0x9E3779B5, 0x85EBCA77)
LOW = (0xC2B2AE3D, 0x27D4EB2F)
HIGH = (0x6A09E667, 0xA54FF53A)

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def first(text: str) -> tuple[int, int]:
    """The first eight bytes of the SHA-256 of a string, as two little-endian integers."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def words_by_definition(path: Sequence[str | int]) -> tuple[int, int]:
    """The name hash of a path."""
    words = first("jscope.names.2")
    for component in path:
        words = child(words, component)
    return words


def child(words: tuple[int, int], component: str | int) -> tuple[int, int]:
    """The name hash of a component below a name hash."""
    if isinstance(component, str):
        added = first(component)
    else:
        low, high = component % WORD, (component >> 32) % WORD
        start = first("jscope.fold.2")
        added = tuple(start[k] + low * LOW[k] + high * HIGH[k] for k in (0, 1))
    return tuple((words[k] * FACTORS[k] + added[k]) % WORD for k in (0, 1))


def threefry(key: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds, from Salmon and others (2011)."""
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = (block[0] + keys[0]) % WORD, (block[1] + keys[1]) % WORD
    for turn in range(5):
        for rotation in ROTATIONS[turn % 2]:
            x = (x + y) % WORD
            y = (y << rotation | y >> 32 - rotation) % WORD ^ x
        x = (x + keys[(turn + 1) % 3]) % WORD
        y = (y + keys[(turn + 2) % 3] + turn + 1) % WORD
    return x, y


def key_by_definition(root: jax.Array, *path: str | int) -> jax.Array:
    """The key of a path under a root key."""
    words = words_by_definition(path)
    if jax.random.key_impl(root) != "threefry2x32":
        return jax.random.fold_in(
            jax.random.fold_in(root, np.uint32(words[0])), np.uint32(words[1])
        )
    typed = jax.numpy.issubdtype(root.dtype, jax.dtypes.prng_key)
    with jax.ensure_compile_time_eval():
        data = np.asarray(jax.random.key_data(root) if typed else root).tolist()
    key = np.array(threefry(data, words), np.uint32)
    return jax.random.wrap_key_data(key) if typed else jax.numpy.asarray(key)


NAMES = ["", "w", "b", "W", "0", "1", "10", "a/b", "b/a", "a/b/c", "ab/cdef", "abc/def", "abcdef"]
NAMES += ["layer/10", "layer1/0", "layer_0/w", "layer_47/attention/query/kernel", "layers/0/w"]
NAMES += ["layers/1/w", "encoder/layer_0/w", "encoder/layer_0/kernel", "w/Adam", "w/Adam_1"]
NAMES += [".hidden/w", "a.b/c-d_e", "enc/_x", "...", "x" * 300]
NAMES += ["/".join("abcdefghijklmnopqrstuvwxyz"), "/".join(map(str, range(60)))]
FOLDED = [[0], [1], [-1], [2**31], [2**32], [2**63 - 1], ["enc", 3], [3, "enc"], ["enc", 3, 4]]
FOLDED += [["enc", "rng:dropout"], ["enc", "rng:dropout", "mask"], ["enc", 3, "rng:dropout"]]
KINDS = ("threefry2x32", "rbg", "unsafe_rbg")
SEED = 1234567


def vector(path: Sequence[str | int]) -> dict[str, list[int]]:
    """The name hash of a path, and its keys."""
    found = {"words": list(words_by_definition(path))}
    for kind in KINDS if path else ():
        key = key_by_definition(jax.random.key(SEED, impl=kind), *path)
        found[kind] = np.asarray(jax.random.key_data(key)).tolist()
    return found


def lines() -> list[str]:
    """The file of vectors, a vector in each line."""
    facts = {"rule": 2, "seed": SEED, "backend": "cpu"}
    facts |= {"root": first("jscope.names.2"), "F": first("jscope.fold.2")}
    facts |= {"M": FACTORS, "A": LOW, "B": HIGH}
    names = [f"    {json.dumps(n)}: {json.dumps(vector(n.split('/') if n else []))}" for n in NAMES]
    paths = [f"    {json.dumps({'path': path} | vector(path))}" for path in FOLDED]
    head = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in facts.items()]
    return [
        "{",
        *head,
        '  "names": {',
        ",\n".join(names),
        "  },",
        '  "paths": [',
        ",\n".join(paths),
        "  ]",
        "}",
    ]


if __name__ == "__main__":
    print("\n".join(lines()))
