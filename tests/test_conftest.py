import importlib.util

import conftest
import pytest


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
