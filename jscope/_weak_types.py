"""JAX's weak types, for arrays that take the place of others.

``jnp.asarray(1.0)``, a step counter that began as a number of Python, and what a jitted function
makes of one are weakly typed: their dtype gives way to another operand's. Weak types are part of
the key of JAX's cache of traces, so an array that lost its weak type causes one more trace.
"""

import jax


def as_weak_as(leaf: object, array: jax.Array) -> jax.Array:
    """An array, weakly typed if a leaf of a target is: the same values, device and sharding."""
    if not getattr(leaf, "weak_type", False):
        return array
    device = None if array.committed else next(iter(array.devices()))
    with jax.default_device(device):
        # No function of JAX's public API makes an array of any shape weak; this is what it does
        # within, by the one name that is exported (JAX 0.10.2 to 0.12.0).
        weak: jax.Array = jax.lax.convert_element_type_p.bind(
            array, new_dtype=array.dtype, weak_type=True, sharding=None
        )
    # Over explicit axes JAX spells P("x") as P("x", None), which are two for its caches.
    return weak if weak.sharding == array.sharding else jax.device_put(weak, array.sharding)
