"""The suite is strict: what JAX would convert silently is an error here.

Examples and snippets of the documentation run under JAX's defaults; their tests say so.
"""

import os

# Some tests start other processes, and on an accelerator two can't both take all of it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# Eight devices, so that meshes can be tested; arrays stay on the first unless told otherwise.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)

import jax
from hypothesis import settings

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline: the first example of a test may compile.
settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
