"""The rule of keys, written down a second time: from its definition, in NumPy."""

import hashlib

import jax
import numpy as np


def words_by_definition(components):
    """The words of a path, by the rule in `jscope._keys`: any strings, and integers folded in."""

    def first(component):
        if isinstance(component, int):
            base = first("jscope.fold.1")
            return base ^ np.array(
                [component & 0xFFFFFFFF, component >> 32 & 0xFFFFFFFF], np.uint64
            )
        return np.frombuffer(hashlib.sha256(component.encode()).digest()[:8], "<u4").astype(
            np.uint64
        )

    def finalize(x):
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            x = (x ^ (x >> shift)) * factor & 0xFFFFFFFF
        return x ^ (x >> 16)

    left, right = map(int, first("jscope.names.1"))
    for component in components:
        a, b = map(int, first(component))
        left, right = left ^ a, right ^ b
        for constant in (0x9E3779B9, 0x3C6EF372, 0xDAA66D2B, 0x78DDE6E4):
            left, right = right, left ^ finalize((right + constant) & 0xFFFFFFFF)
    return left, right


def key_by_definition(root, *components):
    first, second = words_by_definition(components)
    return jax.random.fold_in(jax.random.fold_in(root, np.uint32(first)), np.uint32(second))
