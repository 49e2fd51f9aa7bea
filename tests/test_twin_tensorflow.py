"""The same programs through TensorFlow 1's graph mode and through jscope; see `tests/twin`.

More random programs, by one command:

    JSCOPE_TWIN_PROGRAMS=20000 python -m pytest tests/test_twin_tensorflow.py -k random
"""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from twin import deviations, jscope_, outcome, programs, random_programs, tensorflow1

PROGRAMS = programs.load()
DEVIATIONS = deviations.load()

PAGE = Path(__file__).parent.parent / "docs" / "from_tf1.md"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_do_the_same(name):
    declared, bound = jscope_.run(PROGRAMS[name])
    for use_resource in (False, True):  # TF1's two kinds of variables
        theirs = tensorflow1.run(PROGRAMS[name], use_resource=use_resource)
        outcome.compare_declared(theirs, declared)
        outcome.compare_bound(theirs, bound)


@settings(max_examples=int(os.environ.get("JSCOPE_TWIN_PROGRAMS", "300")))
@given(random_programs.programs)
def test_random_programs_do_the_same(program):
    def run(t):
        random_programs.run(t, program)

    theirs = tensorflow1.run_names(run)
    declared, bound = jscope_.run(run, valued=False)
    outcome.compare_declared(theirs, declared)
    outcome.compare_bound(theirs, bound)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_deviations_are_as_documented(name):
    DEVIATIONS[name].check()


def test_the_guide_lists_the_deviations():
    text = PAGE.read_text()
    table = re.search(r"<!-- the deviations -->\n(.*?)<!-- end", text, re.DOTALL)[1]
    rows = [f"| {d.what} | {d.tf} | {d.js} | {d.why} |" for d in DEVIATIONS.values()]
    assert table.splitlines()[2:] == rows


def test_there_are_many_programs():
    assert len(PROGRAMS) >= 300
