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


@pytest.fixture
def proxy(s3, monkeypatch):
    """A proxy before the server of S3, by which requests go wrong; they are repeated at once."""
    from object_stores import proxy as proxies

    from jscope._stores import settings

    at_once = dict.fromkeys(("initial_delay", "max_delay"), "10ms")
    monkeypatch.setattr(settings, "_RETRIES", at_once)
    with proxies.running(s3.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        for cache in (settings._context_of, settings._opened_by_spec):
            cache.cache_clear()
        yield proxy
    for cache in (settings._context_of, settings._opened_by_spec):
        cache.cache_clear()
