"""Every operation of a scope in every transform, declared and applied: the whole product."""

from pathlib import Path

import pytest
from matrix.cells import MODES, check, not_run, programs_kept_in
from matrix.operations import OPERATIONS
from matrix.transforms import TRANSFORMS
from print_matrix import table


@pytest.fixture(scope="module", autouse=True)
def equal_programs_compile_once(tmp_path_factory):
    with programs_kept_in(tmp_path_factory.getbasetemp().parent / "programs"):
        yield


@pytest.mark.parametrize("leaks", [False, True], ids=["eager", "checking_leaks"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_cell(operation, transform, mode, leaks):
    reason = not_run(operation, transform)
    if reason:
        pytest.skip(f"{operation} in {transform}: {reason}")
    check(operation, transform, mode, leaks=leaks)


def test_the_page_shows_the_table_that_these_tests_assert():
    page = (Path(__file__).parents[2] / "docs" / "matrix.md").read_text()
    assert "\n".join(table()) in page
