"""From a variable's name to its PRNG key: one rule, pinned by test vectors.

Version 1 of the rule. A name has a **name hash** of two 32-bit words, and

    key(root, name) = fold_in(fold_in(root, w0), w1)        (w0, w1) = hash(name).

The hash of a name is computed component by component, so that the hash of ``a/b/c``
follows from that of ``a/b`` without the strings, also where that is traced:

    hash("")    = first(SHA-256("jscope.names.1"))
    hash(p/c)   = mix(hash(p), first(SHA-256(c)))

where ``first`` reads the first eight bytes as two little-endian 32-bit words. ``mix`` is
the exclusive or of its arguments, sent through a Feistel network of four rounds on 32-bit
halves; its round function is MurmurHash3's finalizer of the half plus a round constant:

    (l, r) <- (r, l ^ f(r + constant))
    f(x): x ^= x >> 16; x *= 0x85EBCA6B; x ^= x >> 13; x *= 0xC2B2AE35; x ^= x >> 16

For a fixed parent ``mix`` is a bijection of the component's hash, so siblings collide only
if their SHA-256 prefixes do. Two words, not one: at 32 bits, one model in a hundred with
10,000 variables has two variables of equal hash.

The slices of a stack ``layers`` are named ``layers/0``, ``layers/1``, ... A random key that
is drawn from a stream, `draw_words`, follows the same rule from the stream's root key.

A key depends on the root key and the name only: not on other variables,
the order of creation, jit, remat, a mesh, or where a transform's boundary lies.

Sources: SHA-256, FIPS 180-4; the finalizer, Appleby's MurmurHash3 (2011); the network, Luby
and Rackoff, "How to construct pseudorandom permutations" (1988). TF1 has no such rule:
its op seeds count operations, so initial values change when a layer is inserted.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, UInt32

from ._errors import KeyArgumentError
from ._names.names import split

RULE_VERSION = 1

Words = UInt32[np.ndarray, "*stack 2"] | UInt32[Array, "*stack 2"]

_ROUND_CONSTANTS = tuple(np.uint32(c) for c in (0x9E3779B9, 0x3C6EF372, 0xDAA66D2B, 0x78DDE6E4))


@functools.lru_cache(maxsize=1 << 16)
def component_words(component: str) -> UInt32[np.ndarray, "2"]:
    """The first eight bytes of the SHA-256 of a string, as two little-endian words."""
    words = np.frombuffer(hashlib.sha256(component.encode()).digest()[:8], "<u4")
    # Read-only, as frombuffer's own array is, since it is cached.
    return words.astype(np.uint32, copy=False)


ROOT_WORDS: UInt32[np.ndarray, "2"] = component_words(f"jscope.names.{RULE_VERSION}")
_INTEGER_WORDS = component_words(f"jscope.fold.{RULE_VERSION}")


def mix(words: Words, component: Words) -> Words:
    """The name hash of a child from its parent's and its component's; NumPy or traced."""
    # Compiled: one equation of a model's trace instead of fifty.
    numpy = isinstance(words, np.ndarray) and isinstance(component, np.ndarray)
    result: Words = (_mix if numpy else _compiled_mix)(words, component)
    return result


def _mix(words: Words, component: Words) -> Words:
    if words.ndim > component.ndim:  # JAX can be configured to refuse arrays of different ranks
        component = component.reshape((1,) * (words.ndim - component.ndim) + component.shape)
    # Slices, not items: NumPy warns of overflow in scalars, not in arrays.
    mixed = words ^ component
    left, right = mixed[..., :1], mixed[..., 1:]
    for constant in _ROUND_CONSTANTS:
        left, right = right, left ^ _finalize(right + constant)
    concatenate: Any = np.concatenate if isinstance(mixed, np.ndarray) else jnp.concatenate
    result: Words = concatenate([left, right], axis=-1)
    return result


_compiled_mix = jax.jit(_mix)


def words_of(names: Sequence[str]) -> UInt32[np.ndarray, "n 2"]:
    """The name hash of each name, counted from the root; ``""`` is the root itself."""
    parts = [name.split("/") if name else [] for name in names]
    words = np.tile(ROOT_WORDS, (len(parts), 1))
    for depth in range(max(map(len, parts), default=0)):
        deeper = [i for i, components in enumerate(parts) if len(components) > depth]
        below = np.stack([component_words(parts[i][depth]) for i in deeper])
        words[deeper] = mix(words[deeper], below)
    return words


@functools.lru_cache(maxsize=1 << 16)
def name_words(name: str) -> UInt32[np.ndarray, "2"]:
    """The name hash of one name; see `words_of`."""
    return _below(ROOT_WORDS.tobytes(), name) if name else ROOT_WORDS


def below(words: Words, name: str) -> Words:
    """The name hash of ``name`` below a scope, from the scope's; NumPy or traced."""
    if isinstance(words, np.ndarray) and words.ndim == 1:
        return _below(words.tobytes(), name)
    for component in name.split("/"):
        words = mix(words, component_words(component))
    return words


@functools.lru_cache(maxsize=1 << 16)
def _below(words: bytes, name: str) -> UInt32[np.ndarray, "2"]:
    found: Any = np.frombuffer(words, np.uint32)
    for component in name.split("/"):
        found = mix(found, component_words(component))
    found.flags.writeable = False
    result: UInt32[np.ndarray, 2] = found
    return result


def slices(words: Words, length: int) -> Words:
    """The name hashes of a stack's slices, from the stack's: ``(..., length, 2)``."""
    return mix(words[..., None, :], _indices(length))


@functools.lru_cache(maxsize=1024)
def _indices(length: int) -> UInt32[np.ndarray, "n 2"]:
    return np.stack([component_words(str(i)) for i in range(length)])


def stack_words(name: str, stack: Sequence[tuple[str, int]]) -> UInt32[np.ndarray, "*stack 2"]:
    """The name hashes of the slices of a variable: of ``layers/3/w`` for slice 3 of ``layers/w``.

    Args:
        name: The variable's whole name, without indices.
        stack: ``(scope, length)`` of each stack around it, outermost first.
    """
    words: Any = ROOT_WORDS
    done = 0
    for scope, length in stack:
        words = slices(below(words, scope[done:]), length)
        done = len(scope) + 1
    return np.asarray(below(words, name[done:]))


def draw_words(words: Words, stream: str, name: str | None) -> Words:
    """The name hash of a draw in a scope: of ``<scope>/rng:<stream>``, or of ``name`` below that.

    No variable has such a name, so no draw has a variable's key.
    """
    drawn = mix(words, component_words(f"rng:{stream}"))
    return drawn if name is None else below(drawn, name)


def fold_integer(words: Words, i: int | Array) -> Words:
    """The name hash of a scope into which a 64-bit integer is folded, traced or not.

    An integer is the component ``first(SHA-256("jscope.fold.1")) ^ (i mod 2^32, i >> 32)``.
    """
    if isinstance(i, int):
        halves: Any = np.array([i & 0xFFFFFFFF, i >> 32 & 0xFFFFFFFF], np.uint32)
    else:
        # Narrower ones have no bits to shift out; their upper half is their sign.
        high = i >> 32 if i.dtype.itemsize == 8 else jnp.where(i < 0, -1, 0)
        halves = jnp.stack([i.astype(jnp.uint32), high.astype(jnp.uint32)])
    return mix(words, _INTEGER_WORDS ^ halves)


def fold_words(root: Array, words: Words) -> Array:
    """``fold_in(fold_in(root, w0), w1)``; under `jax.vmap` too, for any implementation of keys."""
    # unsafe_rbg folds a batch of keys differently from single keys.
    in_turn = jax.random.key_impl(root) == "unsafe_rbg"
    folded: Array = (_fold_in_turn if in_turn else _fold)(root, words)
    return folded


def _fold(root: Array, words: Words) -> Array:
    return jax.random.fold_in(jax.random.fold_in(root, words[0]), words[1])


_fold_in_turn = sequential_vmap(_fold)


def variable_key(root: Array, name: str) -> Array:
    """The key of the variable ``name`` under the root key; see the top of this file.

    Args:
        root: One PRNG key, typed or an old-style ``uint32`` array.
        name: A variable's whole name, counted from the root.

    Returns:
        A key of the same kind.
    """
    split(name)
    return fold_words(check_key(root), name_words(name))


def check_key(key: object) -> Array:
    """Return ``key`` if it is one PRNG key, or raise.

    Raises:
        KeyArgumentError: If it is a number, several keys, or not a key.
    """
    found = f"got {key!r}" if isinstance(key, int) else f"got {type(key).__name__}"
    if isinstance(key, jax.Array | np.ndarray):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if typed and key.ndim == 0:
            return jnp.asarray(key)
        if not typed and key.dtype == np.uint32 and key.ndim == 1 and key.size in (2, 4):
            return jnp.asarray(key)
        found = f"got an array of shape {key.shape} and dtype {key.dtype}"
        if typed:
            found += "; for several models at once, write jax.vmap(declared.init)(keys)"
    seed = key if type(key) is int else 0  # True is not a seed
    raise KeyArgumentError(f"One PRNG key is needed, {found}. Write jax.random.key({seed}).")


def _finalize(x: Words) -> Words:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
