"""Names of any spelling are kept or refused, and never taken for each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saver_faults import names

import jscope as js
from jscope.saver import Saver


@pytest.mark.parametrize("layout", names.LAYOUTS)
def test_every_short_name_is_kept_or_refused(tmp_path, layout):
    tally = names.prove(tmp_path, layout, names.FEWER[layout])
    assert tally.outcomes["exact"] > 50
    assert not tally.problems


trees = st.recursive(
    st.integers(-100, 100),
    lambda children: st.dictionaries(st.text(max_size=4), children, min_size=1, max_size=4),
    max_leaves=12,
)


@given(trees)
def test_any_nested_names_are_kept_or_refused(tmp_path_factory, tree):
    state = (jax.tree.map(jnp.int32, tree),)
    with Saver(tmp_path_factory.mktemp("names")) as saver:
        try:
            saver.save(state, 0)
        except js.JscopeError:
            assert saver.all_steps() == ()
            return
        restored = saver.restore(state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert jax.tree.leaves(restored) == jax.tree.leaves(state)


@pytest.mark.parametrize(
    "state",
    [
        ({"a/b": 1, "a": {"b": 2}},),
        ({"a": {"": 1}, "a/": 2},),
        {"x": [1, 2], "x/0": 3},
    ],
)
def test_two_values_of_one_name_are_refused(tmp_path, state):
    with Saver(tmp_path) as saver:
        with pytest.raises(js.JscopeError):
            saver.save(jax.tree.map(np.int32, state), 0)
        assert saver.all_steps() == ()
