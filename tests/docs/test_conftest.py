import importlib.util
from pathlib import Path

import pytest

# By its path, since other folders have a conftest.py too.
_spec = importlib.util.spec_from_file_location(
    "strict_conftest", Path(__file__).parents[1] / "conftest.py"
)
conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(conftest)


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("required", [True, False])
def test_tests_that_need_tensorflow_may_not_be_skipped_where_it_is_required(
    monkeypatch, installed, required
):
    found = object() if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setenv("JSCOPE_TENSORFLOW", "required" if required else "")
    if required and not installed:
        with pytest.raises(pytest.UsageError, match="TensorFlow is not installed, and its tests"):
            conftest.pytest_configure()
    else:
        conftest.pytest_configure()
