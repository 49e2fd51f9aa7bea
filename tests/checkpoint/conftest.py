"""What the tests of the Saver share."""

import os
import sys

import jax.numpy as jnp
import pytest

import jscope as js


@pytest.fixture
def saver(tmp_path):
    with js.Saver(tmp_path) as saver:
        yield saver


@pytest.fixture
def tree():
    return js.VarTree(
        {
            "enc": {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3, jnp.bfloat16)},
            "head/w": jnp.arange(4, dtype=jnp.int32),
        }
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Who forks processes whose file operations can be made to fail; see `saver_faults`."""
    from saver_faults.client import serving
    from saver_faults.injector import compiler

    if compiler() is None or sys.platform != "linux":
        missing = "breaking file operations needs Linux and a C compiler, such as gcc"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with serving(tmp_path_factory.mktemp("server") / "errors") as server:
        yield server
