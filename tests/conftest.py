"""The suite is strict: what JAX would convert silently is an error here.

Examples and snippets of the documentation run under JAX's defaults; their tests say so.

Tests that need TensorFlow, or `transformers`, skip without it. Where ``JSCOPE_TENSORFLOW=required``
or ``JSCOPE_TRANSFORMERS=required`` is set, as `tests/run.py` does, they may not: then the whole
suite fails at once.
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
    for variable, name in (
        ("JSCOPE_TENSORFLOW", "TensorFlow"),
        ("JSCOPE_TRANSFORMERS", "transformers"),
    ):
        required = os.environ.get(variable) == "required"
        if required and importlib.util.find_spec(name.lower()) is None:
            raise pytest.UsageError(
                f"{name} is not installed, and its tests would be skipped, but "
                f"{variable}=required is set."
            )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """The port of a server of S3, and the file of its requests."""
    from object_stores.servers import running

    log = tmp_path_factory.mktemp("s3") / "requests"
    log.touch()
    with running("s3_server.py", log) as port:
        yield port, log


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A new bucket of S3, which the environment's settings lead to."""
    from object_stores.servers import S3

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    port, log = s3_server
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-this-test")
    return S3(port, log)


@pytest.fixture(scope="session")
def gcs_server():
    """The port of an emulator of Google Cloud Storage."""
    from object_stores.servers import running

    with running("gcs_server.py") as port:
        yield port


@pytest.fixture
def gcs(gcs_server, monkeypatch):
    """Google Cloud Storage, to which the environment's settings lead."""
    from object_stores.servers import Gcs

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{gcs_server}")
    return Gcs(gcs_server)
