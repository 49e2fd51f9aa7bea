"""Arrays of every dtype that JAX has, with random bits, and the bits of arrays."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

# Elements that NumPy holds in a byte and that have fewer bits.
BITS = {"bool": 1, "int1": 1, "uint1": 1, "int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
BITS |= {"float4_e2m1fn": 4}
SMALL_FLOATS = ["e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu"]
DTYPES = [
    *BITS,
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float8_{kind}" for kind in SMALL_FLOATS),
    *("bfloat16", "float16", "float32", "float64", "complex64", "complex128"),
]
KEY_IMPLS = ["threefry2x32", "rbg", "unsafe_rbg"]


def numpy_dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def bit_patterns(name, size):
    """An array of a dtype whose elements have random bits: NaNs with payloads, infinities, all."""
    dtype = numpy_dtype(name)
    data = np.random.default_rng(0).integers(0, 256, size * dtype.itemsize, dtype=np.uint8)
    bits = BITS.get(name)
    if bits:
        # In the low bits; signed ones are sign-extended by the dtype's own conversion.
        low = data % 2**bits
        if name in ("bool", "float4_e2m1fn") or name.startswith("uint"):
            return low.view(dtype)
        return (low.astype(np.int8) - 2 ** (bits - 1)).astype(dtype)
    return data.view(dtype)


def raw(value):
    """The bytes of an array's elements, whatever the dtype."""
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value).tobytes()
