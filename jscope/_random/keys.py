"""From a variable's name to its PRNG key: one rule, pinned by test vectors.

Version 2 of the rule. A name has a **name hash** of two 32-bit words. It is computed component by
component, so that the hash of ``a/b/c`` follows from that of ``a/b`` without the strings, also
where that is traced. Lane by lane, modulo 2^32:

    hash("")         = first(SHA-256("jscope.names.2"))
    hash(p/c)        = hash(p) * M + first(SHA-256(c))
    hash(p, fold i)  = hash(p) * M + F + (i mod 2^32) * A + (i >> 32 mod 2^32) * B

where ``first`` reads the first eight bytes as two little-endian 32-bit words, and

    M = (9E3779B5, 85EBCA77)    A = (C2B2AE3D, 27D4EB2F)    B = (6A09E667, A54FF53A)
    F = first(SHA-256("jscope.fold.2"))

The key is the root key's generator applied to the name hash. For threefry it is one block,

    key(root, name) = threefry2x32(root, (w0, w1))                      (w0, w1) = hash(name)

and for every other implementation of keys it is ``fold_in(fold_in(root, w0), w1)``.

The hash needs no avalanche, since the generator behind it has one. It must not collide:

* Two words, not one: at 32 bits, one model in a hundred with 10,000 variables has two variables of
  equal hash. Siblings collide only if their SHA-256 prefixes do.
* ``M`` is odd, so a step can be undone. ``M0 = 5 mod 8`` and ``M1 = 7 mod 16``: exchanging two
  components d apart leaves the hash as it is only if their words agree in all but the upper
  2 + v(d) bits of one lane and 1 (d odd) or 3 + v(d) bits of the other, where v(d) is the number of
  times that 2 divides d.
* ``A0 * B1 - A1 * B0`` is odd, so no two 64-bit integers have the same hash below a scope.
* Integers i and j that are folded in d components apart collide with i' and j' only if
  ``(i - i') * M^d = j' - j`` in both lanes, hence ``(i - i') * (M0^d - M1^d) = 0 mod 2^32``. The
  residues of M make the second factor's v 1 for odd d, and ``2 + v(d)`` for even d. So pairs below
  2^31 are distinct next to each other, and pairs below 2^25 up to 32 components apart.

The slices of a stack ``layers`` are named ``layers/0``, ``layers/1``, ... A random key that
is drawn from a stream, `draw_words`, follows the same rule from the stream's root key.

A key depends on the root key and the name only: not on other variables,
the order of creation, jit, remat, a mesh, or where a transform's boundary lies.

Sources: SHA-256, FIPS 180-4, whose first and fourth initial words are B; Threefry, Salmon and
others, "Parallel random numbers: as easy as 1, 2, 3" (2011); M and A, the primes of xxHash. TF1 has
no such rule: its op seeds count operations, so initial values change when a layer is inserted.
"""

import functools
import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, UInt32

from .._errors import KeyArgumentError
from .._names.names import split
from .threefry import threefry_key

RULE_VERSION = 2

Words = UInt32[np.ndarray, "*stack 2"] | UInt32[Array, "*stack 2"]
"""Name hashes in one array, as compiled programs take them."""

Lane = np.uint32 | UInt32[np.ndarray, "*stack"] | UInt32[Array, "*stack"]
Lanes = tuple[Lane, Lane]
"""A name hash, or those of a stack's slices, word by word.

Not one array of two words: then a path below traced words would add arrays of constants to the
program, and `jax.lax.scan` carries such arrays through its loop.
"""

_FACTORS = (0x9E3779B5, 0x85EBCA77)
_LOW = (0xC2B2AE3D, 0x27D4EB2F)
_HIGH = (0x6A09E667, 0xA54FF53A)


@functools.lru_cache(maxsize=1 << 16)
def component_words(component: str) -> tuple[int, int]:
    """The first eight bytes of the SHA-256 of a string, as two little-endian words."""
    digest = hashlib.sha256(component.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


_INTEGER_WORDS = component_words(f"jscope.fold.{RULE_VERSION}")


def _word(value: int) -> np.uint32:
    """An integer as one word of a name hash, modulo 2^32."""
    return np.uint32(value & 0xFFFFFFFF)


_ROOT_WORDS = component_words(f"jscope.names.{RULE_VERSION}")
ROOT_LANES: Lanes = (_word(_ROOT_WORDS[0]), _word(_ROOT_WORDS[1]))


def below(lanes: Lanes, name: str) -> Lanes:
    """The name hash of ``name`` below a scope, from the scope's; NumPy or traced."""
    return _affine(lanes, *_name_factors(name))


@functools.lru_cache(maxsize=1 << 16)
def _name_factors(name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a name does to the name hash of a scope: a factor and a summand for each word."""
    factors, summands = (1, 1), (0, 0)
    for component in name.split("/"):
        a, b = component_words(component)
        factors = factors[0] * _FACTORS[0], factors[1] * _FACTORS[1]
        summands = summands[0] * _FACTORS[0] + a, summands[1] * _FACTORS[1] + b
    return factors, summands


def _affine(lanes: Lanes, factors: tuple[int, int], summands: tuple[int, int]) -> Lanes:
    """A name hash times factors plus summands, word by word."""
    first, second = lanes
    return _scaled(first, factors[0], summands[0]), _scaled(second, factors[1], summands[1])


def _scaled(lane: Lane, factor: int, summand: int) -> Lane:
    """One word of a name hash, or those of slices, times a factor plus a summand."""
    if isinstance(lane, np.generic | np.ndarray) and lane.ndim == 0:
        # In integers, since NumPy warns of overflow in scalars. JAX gives scalars as arrays, too.
        return _word(int(lane) * factor + summand)
    scaled: Lane = lane * _word(factor) + _word(summand)
    return scaled


def name_words(name: str) -> UInt32[np.ndarray, "2"]:
    """The name hash of a name, counted from the root; ``""`` is the root itself."""
    return np.array(below(ROOT_LANES, name) if name else ROOT_LANES)


def slices(lanes: Lanes, length: int) -> Lanes:
    """The name hashes of a stack's slices, from the stack's: ``(..., length)``."""
    first, second = (
        (lane if isinstance(lane, jax.Array) else np.asarray(lane))[..., None] * _word(factor)
        # JAX can be configured to refuse arrays of different ranks.
        + indices.reshape((1,) * np.ndim(lane) + indices.shape)
        for lane, factor, indices in zip(lanes, _FACTORS, _indices(length), strict=True)
    )
    return first, second


@functools.lru_cache(maxsize=1024)
def _indices(length: int) -> UInt32[np.ndarray, "2 n"]:
    """For the keys of a stack's slices: the hashes of the names ``0``, ``1``, ..., word by word."""
    return np.array([component_words(str(i)) for i in range(length)], np.uint32).reshape(-1, 2).T


def stack_words(name: str, stack: Sequence[tuple[str, int]]) -> UInt32[np.ndarray, "*stack 2"]:
    """The name hashes of the slices of a variable: of ``layers/3/w`` for slice 3 of ``layers/w``.

    Args:
        name: The variable's whole name, without indices.
        stack: ``(scope, length)`` of each stack around it, outermost first.
    """
    lanes = ROOT_LANES
    done = 0
    for scope, length in stack:
        lanes = slices(below(lanes, scope[done:]), length)
        done = len(scope) + 1
    return np.stack(below(lanes, name[done:]), axis=-1)


def draw_lanes(lanes: Lanes, stream: str, name: str | None) -> Lanes:
    """The name hash of a draw in a scope: of ``<scope>/rng:<stream>``, or of ``name`` below that.

    No variable has such a name, so no draw has a variable's key.
    """
    drawn = f"rng:{stream}"
    return below(lanes, drawn if name is None else f"{drawn}/{name}")


def fold_integer(lanes: Lanes, i: int | Array) -> Lanes:
    """The name hash of a scope into which a 64-bit integer is folded, traced or not."""
    if isinstance(i, int):
        low, high = i & 0xFFFFFFFF, i >> 32 & 0xFFFFFFFF
        terms = zip(_INTEGER_WORDS, _LOW, _HIGH, strict=True)
        first, second = (word + low * a + high * b for word, a, b in terms)
        return _affine(lanes, _FACTORS, (first, second))
    one, other = _affine(lanes, _FACTORS, _INTEGER_WORDS)
    words = i.astype(jnp.uint32)
    one, other = one + words * _word(_LOW[0]), other + words * _word(_LOW[1])
    if i.dtype.itemsize < 8 and jnp.issubdtype(i.dtype, jnp.unsignedinteger):
        return one, other
    # The upper half of a narrower integer is its sign.
    words = (i >> min(32, 8 * i.dtype.itemsize - 1)).astype(jnp.uint32)
    return one + words * _word(_HIGH[0]), other + words * _word(_HIGH[1])


def fold_words(root: Array, words: Words | Lanes) -> Array:
    """The key of a name hash under a root key, of the root's kind; see the top of this file.

    Under `jax.vmap` it is the same as without, for any implementation of keys.
    """
    implementation = jax.random.key_impl(root)
    if implementation == "threefry2x32":
        return threefry_key(root, words[0], words[1])
    # unsafe_rbg folds a batch of keys differently from single keys.
    folded: Array = (_fold_in_turn if implementation == "unsafe_rbg" else _fold)(root, words)
    return folded


def _fold(root: Array, words: Words | Lanes) -> Array:
    """The key of a name hash under a root key of any kind, by folding in its words."""
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


def gives_traced_keys(root: Array) -> bool:
    """Whether a root key gives traced keys, and so traced values, here.

    Not ``isinstance(root, Tracer)``: from a concrete key JAX computes traced values under a jit.
    """
    return isinstance(jax.random.key_data(root), jax.core.Tracer)


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
