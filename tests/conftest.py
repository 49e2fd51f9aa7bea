"""The suite is strict: what JAX would convert silently is an error here.

Examples and snippets of the documentation run under JAX's defaults; their tests say so.

Tests that need TensorFlow skip without it. Where ``JSCOPE_TENSORFLOW=required`` is set, as
`tests/run.py` does, they may not: then the whole suite fails at once.
"""

import importlib.util
import os

# Some tests start other processes, and on an accelerator two can't both take all of it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# Eight devices, so that meshes can be tested; arrays stay on the first unless told otherwise.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline: the first example of a test may compile.
settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure() -> None:
    required = os.environ.get("JSCOPE_TENSORFLOW") == "required"
    if required and importlib.util.find_spec("tensorflow") is None:
        raise pytest.UsageError(
            "TensorFlow is not installed, and its tests would be skipped, but "
            "JSCOPE_TENSORFLOW=required is set."
        )
