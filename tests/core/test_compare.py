"""Differences of two mappings: one line each, all at once."""

import collections
import itertools

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jscope._tree.differences import differences, transposing
from jscope._tree.values import value_text

names = st.sampled_from(["a/w", "a/b", "c", "d/e/f"])
arrays = st.builds(
    lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype),
    st.sampled_from([(), (2,), (2, 3)]),
    st.sampled_from(["float32", "bfloat16", "int32"]),
)


@given(st.dictionaries(names, arrays), st.dictionaries(names, arrays))
def test_there_is_one_line_for_each_difference(expected, found):
    lines = differences(expected, found, "declared", "in the tree")
    kinds = collections.Counter(line.split(":")[0] for line in lines)
    both = [name for name in expected if name in found]
    shapes = [n for n in both if expected[n].shape != found[n].shape]
    dtypes = [n for n in both if expected[n].dtype != found[n].dtype]
    assert kinds == collections.Counter(
        missing=len(set(expected) - set(found)),
        unexpected=len(set(found) - set(expected)),
        shape=len(shapes),
        dtype=len(dtypes),
    )
    assert (lines == ()) == (expected == found)


def test_the_lines_show_both_sides_and_near_names():
    expected = {"enc/w": np.zeros((2, 3), np.float32), "enc/b": np.zeros(3), "n": np.int32(1)}
    found = {"enc/W": np.zeros(3), "enc/b": np.zeros(4, np.float16), "n": "three"}
    assert differences(expected, found, "declared", "in the checkpoint") == (
        "missing: 'enc/w' float32[2,3] is not in the checkpoint (close names: 'enc/b', 'enc/W')",
        "unexpected: 'enc/W' float64[3] is in the checkpoint but not declared",
        "shape: 'enc/b' is (4,) in the checkpoint, (3,) declared",
        "dtype: 'enc/b' is float16 in the checkpoint, float64 declared",
        "no array: 'n' is of type str in the checkpoint, int32[] declared",
    )
    unexpected = differences({}, {"x": [1]}, "declared", "there")
    assert unexpected == ("unexpected: 'x' of type list is there but not declared",)


def test_hints_stop_where_finding_them_would_take_minutes():
    expected = {f"layer_{i}/w": np.zeros(2) for i in range(300)}
    found = {f"layer_{i}/v": np.zeros(2) for i in range(300)}
    lines = differences(expected, found, "declared", "there")
    assert sum(line.startswith("missing") for line in lines) == 300
    assert sum("close names" in line for line in lines) == 5000 // 300


def test_a_signature_is_dtype_and_shape():
    assert value_text(np.zeros((3, 4), np.float32)) == "float32[3,4]"
    assert value_text(np.int8(3)) == "int8[]"
    assert value_text(jax.random.split(jax.random.key(0), 3)) == "key<fry>[3]"
    assert value_text("text") == "of type str"


shapes = st.lists(st.integers(1, 4), max_size=4)


@given(shapes, st.randoms())
def test_what_transposes_a_shape_gives_the_other_one(found, random):
    wanted = random.sample(found, len(found)) + [1] * random.randint(0, 1)
    array = np.arange(np.prod(found, dtype=int)).reshape(found)
    python = transposing(found, wanted)
    if python is None:  # with axes of length 1 only elsewhere, no element changes its place
        assert [n for n in found if n > 1] == [n for n in wanted if n > 1]
        return
    result = eval(f"array{python}", {"array": array})
    assert result.shape == tuple(wanted)
    orders = itertools.permutations(range(len(found)))
    assert any(np.array_equal(array.transpose(order).reshape(wanted), result) for order in orders)


@given(shapes, shapes)
def test_only_the_same_lengths_in_another_order_look_transposed(found, wanted):
    same = sorted(n for n in found if n > 1) == sorted(n for n in wanted if n > 1)
    assert (transposing(found, wanted) is not None) <= same
    assert transposing(found, found) is None
