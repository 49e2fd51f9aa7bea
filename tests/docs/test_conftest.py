import importlib.util
from pathlib import Path

import pytest

# By its path, since other folders have a conftest.py too.
_spec = importlib.util.spec_from_file_location(
    "strict_conftest", Path(__file__).parents[1] / "conftest.py"
)
conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(conftest)


@pytest.mark.parametrize("name", ["TensorFlow", "transformers"])
@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("required", [True, False])
def test_tests_that_need_a_package_may_not_be_skipped_where_it_is_required(
    monkeypatch, installed, required, name
):
    known = {name.lower(): object()} if installed else {}
    monkeypatch.setattr(importlib.util, "find_spec", known.get)
    for variable in ("JSCOPE_TENSORFLOW", "JSCOPE_TRANSFORMERS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"JSCOPE_{name.upper()}", "required" if required else "")
    if required and not installed:
        with pytest.raises(pytest.UsageError, match=f"{name} is not installed, and its tests"):
            conftest.pytest_configure()
    else:
        conftest.pytest_configure()
