import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import key_collisions
import keys_by_definition
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keys_by_definition import FACTORS, HIGH, LOW, WORD, child, words_by_definition

from jscope._errors import KeyArgumentError, VariableNameError
from jscope._random.keys import (
    ROOT_LANES,
    below,
    check_key,
    component_words,
    draw_lanes,
    fold_integer,
    fold_words,
    name_words,
    slices,
    variable_key,
)

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "key_vectors.json").read_text())
NAMES = VECTORS["names"]
PATHS = VECTORS["paths"]

components = st.text("ab0-._Z", min_size=1, max_size=4).filter(lambda c: c not in (".", ".."))
names = st.lists(components, min_size=1, max_size=4).map("/".join)
words_strategy = st.tuples(st.integers(0, WORD - 1), st.integers(0, WORD - 1))


def parts_of(name):
    return name.split("/") if name else []


def lanes_of(words):
    return tuple(map(np.uint32, words))


def lanes_along(path):
    lanes = ROOT_LANES
    for component in path:
        one = below if isinstance(component, str) else fold_integer
        lanes = one(lanes, component)
    return lanes


def test_the_vectors_are_those_of_the_definition():
    script = keys_by_definition.__file__
    printed = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert json.loads(printed.stdout) == VECTORS


def test_the_definition_has_the_published_vectors_of_threefry():
    # From Random123's known-answer tests, by Salmon and others.
    ones = 0xFFFFFFFF
    assert keys_by_definition.threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)
    assert keys_by_definition.threefry((ones, ones), (ones, ones)) == (0x1CB996FC, 0xBB002BE7)
    pi = (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)
    assert keys_by_definition.threefry(*pi) == (0xC4923A9C, 0x483DF7A0)


@pytest.mark.parametrize("name", NAMES)
def test_words_are_the_published_ones_and_follow_the_rule(name):
    published = NAMES[name]["words"]
    assert list(words_by_definition(parts_of(name))) == published
    assert name_words(name).tolist() == published
    assert name_words(name).dtype == np.uint32


@pytest.mark.parametrize("vector", PATHS, ids=lambda vector: str(vector["path"]))
def test_words_of_paths_with_integers_are_the_published_ones(vector):
    lanes = lanes_along(vector["path"])
    assert [int(lane) for lane in lanes] == vector["words"]
    root = jax.random.key(VECTORS["seed"])
    assert jax.random.key_data(fold_words(root, lanes)).tolist() == vector["threefry2x32"]


ROOTS = {
    "threefry2x32": lambda: jax.random.key(VECTORS["seed"], impl="threefry2x32"),
    "rbg": lambda: jax.random.key(VECTORS["seed"], impl="rbg"),
    "unsafe_rbg": lambda: jax.random.key(VECTORS["seed"], impl="unsafe_rbg"),
    "uint32": lambda: jax.random.PRNGKey(VECTORS["seed"]),
}


@pytest.mark.parametrize("kind", ROOTS)
def test_keys_are_the_published_ones(kind):
    if kind == "unsafe_rbg" and jax.default_backend() != VECTORS["backend"]:
        pytest.skip("unsafe_rbg folds with a generator that differs between backends")
    root = ROOTS[kind]()
    for name, vector in NAMES.items():
        if not name:
            continue
        key = variable_key(root, name)
        assert key.dtype == root.dtype
        assert key.shape == root.shape
        data = key if kind == "uint32" else jax.random.key_data(key)
        expected = vector["threefry2x32" if kind == "uint32" else kind]
        assert data.tolist() == expected, name


@given(names)
def test_a_key_is_one_block_of_threefry_and_two_folds_of_other_generators(name):
    first, second = map(np.uint32, words_by_definition(parts_of(name)))
    root = jax.random.key(7)
    seed = tuple(jax.random.key_data(root).tolist())
    block = keys_by_definition.threefry(seed, (int(first), int(second)))
    assert tuple(jax.random.key_data(variable_key(root, name)).tolist()) == block
    root = jax.random.key(7, impl="rbg")
    expected = jax.random.fold_in(jax.random.fold_in(root, first), second)
    assert variable_key(root, name) == expected


@given(st.lists(names, unique=True, max_size=10), st.randoms())
def test_words_do_not_depend_on_order_or_on_earlier_requests(many, shuffle):
    before = {name: name_words(name).tolist() for name in many}
    shuffle.shuffle(many)
    component_words.cache_clear()
    assert {name: name_words(name).tolist() for name in many} == before


def test_components_and_not_characters_are_hashed():
    spellings = [
        "ab/cdef",
        "abc/def",
        "abcdef",
        "a/bcdef",
        "cdef/ab",
        "b/a",
        "a/b",
        "a",
        "b",
        "a/a",
    ]
    assert len({tuple(name_words(name).tolist()) for name in spellings}) == len(spellings)


@given(names, names)
def test_the_words_of_a_child_follow_from_its_parents(scope, name):
    lanes = below(ROOT_LANES, scope)
    assert below(lanes, name) == below(ROOT_LANES, f"{scope}/{name}")
    for component in name.split("/"):
        lanes = below(lanes, component)
    assert [int(lane) for lane in lanes] == name_words(f"{scope}/{name}").tolist()


@given(words_strategy, components, st.integers(-(2**63), 2**63 - 1))
def test_a_step_is_the_rule_and_can_be_undone(words, component, integer):
    for step, function in ((component, below), (integer, fold_integer)):
        found = [int(lane) for lane in function(lanes_of(words), step)]
        assert tuple(found) == child(words, step)
        added = child((0, 0), step)
        undone = [
            (lane - a) * pow(m, -1, WORD) % WORD
            for lane, a, m in zip(found, added, FACTORS, strict=True)
        ]
        assert tuple(undone) == words


def traced(function, lanes):
    """The function of lanes, in each way in which they are traced or are arrays."""

    def through_scan(lanes):
        return jax.lax.scan(lambda carry, own: (carry, function(own)), 0, lanes)[1]

    return {
        "eager": function(tuple(map(jnp.asarray, lanes))),
        "jit": jax.jit(function)(lanes),
        "vmap": jax.vmap(function)(lanes),
        "vmap of jit": jax.vmap(jax.jit(function))(lanes),
        "scan": through_scan(lanes),
        "checkpoint": jax.jit(jax.checkpoint(function))(lanes),
    }


@pytest.mark.parametrize(
    "step",
    [
        lambda lanes: below(lanes, "a"),
        lambda lanes: below(lanes, "a/b.c/0"),
        lambda lanes: draw_lanes(lanes, "dropout", "mask"),
        lambda lanes: fold_integer(lanes, -5),
        lambda lanes: fold_integer(lanes, 2**40 + 3),
    ],
)
def test_traced_words_are_those_of_integers(step):
    lanes = tuple(np.random.default_rng(0).integers(0, WORD, (2, 64), np.uint32))
    each = [step((np.uint32(a), np.uint32(b))) for a, b in zip(*lanes, strict=True)]
    expected = np.array(each, np.uint32).T
    with jax.checking_leaks():
        ways = traced(step, lanes)
    for way, found in ways.items():
        assert all(lane.dtype == np.uint32 for lane in found), way
        np.testing.assert_array_equal(np.stack(found), expected, err_msg=way)


def test_a_path_below_traced_words_is_one_product_and_one_sum_of_scalars_in_each_lane():
    jaxpr = jax.make_jaxpr(lambda a, b: below((a, b), "block/attention/query"))(*ROOT_LANES)
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["mul", "add", "mul", "add"]
    assert not jaxpr.consts


def test_keys_of_traced_words_are_keys_of_names():
    root = jax.random.key(3)
    names = ["layers/0/w", "layers/1/w", "layers/2/w"]
    expected = jnp.stack([jax.random.key_data(variable_key(root, name)) for name in names])
    layers = slices(below(ROOT_LANES, "layers"), 3)

    def key_of(layer):
        return jax.random.key_data(fold_words(root, below(layer, "w")))

    with jax.checking_leaks():
        mapped = jax.jit(jax.vmap(key_of))(layers)
        scanned = jax.lax.scan(lambda _, w: (None, jax.checkpoint(key_of)(w)), None, layers)[1]
    np.testing.assert_array_equal(mapped, expected)
    np.testing.assert_array_equal(scanned, expected)


def test_keys_do_not_depend_on_jit_or_x64():
    root = jax.random.key(3)
    expected = jax.random.key_data(variable_key(root, "enc/w"))
    jitted = jax.jit(lambda key: jax.random.key_data(variable_key(key, "enc/w")))(root)
    np.testing.assert_array_equal(jitted, expected)
    with jax.enable_x64(True):
        wide = jax.random.key_data(variable_key(jax.random.key(3), "enc/w"))
    np.testing.assert_array_equal(wide, expected)


def test_very_deep_names_have_words():
    name = "/".join(str(i % 7) for i in range(5000))
    assert tuple(name_words(name).tolist()) == words_by_definition(name.split("/"))


def test_a_hundred_thousand_paths_have_no_duplicates():
    found = key_collisions.patterns(25_000)
    words = np.concatenate(list(found.values()))
    assert words.shape == (150_000, 2)
    assert key_collisions.duplicates(words) == 0
    # The script hashes many at once; these are the same words.
    np.testing.assert_array_equal(found["layer_{i}/w"][777], name_words("layer_777/w"))
    np.testing.assert_array_equal(
        found["layer_{i}/block_{j}/w"][24_999], name_words("layer_24/block_999/w")
    )
    np.testing.assert_array_equal(found["a level per digit"][1234], name_words("0/1/2/3/4"))
    side = int(25_000**0.5) + 1
    np.testing.assert_array_equal(
        found["fold i, fold j"][5 * side + 7], np.array(lanes_along([5, 7]))
    )
    np.testing.assert_array_equal(
        found["fold i/w, fold j/w"][5 * side + 7], np.array(lanes_along([5, "w", 7, "w"]))
    )


def power_of_two(x):
    return (x & -x).bit_length() - 1


def test_folded_integers_are_distinct_as_the_residues_of_the_factors_promise():
    assert FACTORS[0] % 8 == 5
    assert FACTORS[1] % 16 == 7
    assert all(a % 2 for a in LOW)
    assert (LOW[0] * HIGH[1] - LOW[1] * HIGH[0]) % 2  # 64-bit integers, one from another
    for distance in range(1, 200):
        apart = FACTORS[0] ** distance - FACTORS[1] ** distance
        expected = 1 if distance % 2 else 2 + power_of_two(distance)
        assert power_of_two(apart) == expected
    for distance in range(1, 33):
        assert key_collisions.close_folds(10**5, distance) == 0


def test_the_bound_of_folded_integers_is_the_best_that_the_rule_has():
    assert lanes_along([2**31, 0]) == lanes_along([0, 2**31])
    assert lanes_along([2**31 - 1, 0]) != lanes_along([0, 2**31 - 1])
    assert lanes_along([2**29, "w", 0]) == lanes_along([0, "w", 2**29])


def test_every_bit_of_a_component_flips_every_bit_of_the_key_half_of_the_time():
    flips = key_collisions.avalanche(40_000)
    assert flips.shape == (64, 64)
    assert flips.min() > 0.485  # six standard deviations
    assert flips.max() < 0.515


# What is a key, and what is none.


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (42, "One PRNG key is needed, got 42. Write jax.random.key(42)."),
        (True, "One PRNG key is needed, got True. Write jax.random.key(0)."),
        (None, "One PRNG key is needed, got NoneType. Write jax.random.key(0)."),
        ("w", "One PRNG key is needed, got str. Write jax.random.key(0)."),
        (
            np.zeros(3, np.float32),
            "One PRNG key is needed, got an array of shape (3,) and dtype float32. Write",
        ),
        (np.zeros((2, 2), np.uint32), "got an array of shape (2, 2) and dtype uint32"),
        (np.zeros(3, np.uint32), "got an array of shape (3,) and dtype uint32"),
        (
            jax.random.split(jax.random.key(0), 3),
            "got an array of shape (3,) and dtype key<fry>; for several models at once, write "
            "jax.vmap(declared.init)(keys). Write",
        ),
    ],
)
def test_what_is_no_key_is_told_what_to_write(key, message):
    for function in (check_key, lambda key: variable_key(key, "w")):
        with pytest.raises(KeyArgumentError) as caught:
            function(key)
        assert message in str(caught.value)


def test_old_style_numpy_and_traced_keys_are_keys():
    old = jax.random.PRNGKey(0)
    for key in (old, np.asarray(old), jax.random.key(0), jax.random.key(0, impl="rbg")):
        assert check_key(key).dtype == key.dtype
    keys = jax.random.split(jax.random.key(0), 3)
    one_by_one = [jax.random.key_data(variable_key(key, "w")) for key in keys]
    mapped = jax.jit(jax.vmap(lambda key: jax.random.key_data(variable_key(key, "w"))))(keys)
    np.testing.assert_array_equal(mapped, jnp.stack(one_by_one))


@pytest.mark.parametrize("name", ["", "a//b", "a b", 3])
def test_a_key_needs_a_legal_name(name):
    with pytest.raises(VariableNameError):
        variable_key(jax.random.key(0), name)
