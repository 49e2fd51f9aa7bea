"""The same programs through TensorFlow 1's graph mode and through jscope; see `tests/twin`.

More random programs, by one command:

    JSCOPE_TWIN_PROGRAMS=20000 python -m pytest tests/scope/test_twin_tensorflow.py -k random
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from twin import deviations, jscope_, outcome, programs, random_programs, tensorflow1

PROGRAMS = programs.load()
DEVIATIONS = deviations.load()

PAGE = Path(__file__).parents[2] / "docs" / "from_tf1.md"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_do_the_same(name):
    declared, bound = jscope_.run(PROGRAMS[name])
    for use_resource in (False, True):  # TF1's two kinds of variables
        theirs = tensorflow1.run(PROGRAMS[name], use_resource=use_resource)
        outcome.compare_declared(theirs, declared)
        outcome.compare_bound(theirs, bound)


@settings(max_examples=int(os.environ.get("JSCOPE_TWIN_PROGRAMS", "1000")))
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


# What a comparison that sees nothing would let through.


def rich(t):
    with t.scope("a", regularizer=t.l2(1.0), constraint=abs, reuse=t.AUTO) as a:
        t.note(a.name)
        for name in ("w", "v", "w"):
            t.get(name, (2,), initializer=t.ones, collections=["mine"])
    t.attempt(lambda: t.get("u"))


DIFFERENCES = {
    "created": lambda out: out.created.reverse(),
    "returned": lambda out: out.returned.pop(),
    "requested": lambda out: out.requested.update({"a/w": 1}),
    "notes": lambda out: out.notes.append(("b",)),
    "failures": lambda out: out.failures.pop(0),
    "collections": lambda out: out.collections.pop(("mine", "a")),
    "losses": lambda out: out.losses.pop(("a", "a/v")),
    "loss": lambda out: out.losses.update({("a", "a/v"): 0.0}),
    "constrained": lambda out: out.constrained.update({"a/w": np.zeros(2)}),
    "initial": lambda out: out.initial.update({"a/w": np.zeros(2)}),
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_difference_is_seen_in(what):
    theirs, (declared, _) = tensorflow1.run(rich), jscope_.run(rich)
    outcome.compare_declared(theirs, declared)
    DIFFERENCES[what](declared)
    with pytest.raises(AssertionError):
        outcome.compare_declared(theirs, declared)


def test_a_bound_scope_that_reads_another_variable_is_seen():
    theirs, (_, bound) = tensorflow1.run(rich), jscope_.run(rich)
    outcome.compare_bound(theirs, bound)
    bound.values.reverse()
    bound.values[0], bound.values[1] = bound.values[1], bound.values[0]
    with pytest.raises(AssertionError):
        outcome.compare_bound(theirs, bound)
