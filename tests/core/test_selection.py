import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jscope as js
from jscope._errors import NameCollisionError, SelectorError, VariableNameError
from jscope._names.names import CHARACTERS
from jscope._tree import vartree as _tree
from jscope._tree.selection import matching

components = st.text("ab0-.", min_size=1, max_size=3).filter(lambda c: c not in (".", ".."))
names = st.lists(components, min_size=1, max_size=4).map("/".join)
trees = st.dictionaries(names, st.integers(), min_size=1, max_size=10).map(js.VarTree)
pieces = st.sampled_from([*"ab0-.*?", "[ab]", "[!a]", "[0-9]", "[a-]", "[!-.]"])
parts = st.lists(pieces, min_size=1, max_size=3).map("".join).filter(lambda c: "**" not in c)
globs = st.lists(parts | st.just("**"), min_size=1, max_size=4).map("/".join)


@pytest.fixture
def tree():
    return js.VarTree(
        {"enc": {"l0": {"w": 1.0, "b": 2.0}, "l1": {"w": 3.0, "b": 4.0}}, "head": {"w": 5.0}}
    )


# A matcher from the definition: component by component, character by character.


def reference_match(glob, name):
    return match_components(glob.split("/"), name.split("/"))


def match_components(globs, components):
    if not globs:
        return not components
    first, *rest = globs
    if first == "**":
        fewest = 0 if rest else 1  # at the end, one or more
        return any(
            match_components(rest, components[n:]) for n in range(fewest, len(components) + 1)
        )
    return (
        bool(components)
        and match_characters(first, components[0])
        and match_components(rest, components[1:])
    )


def match_characters(glob, text):
    if not glob:
        return not text
    if glob[0] == "*":
        return any(match_characters(glob[1:], text[n:]) for n in range(len(text) + 1))
    if glob[0] == "[":
        end = glob.index("]")
        inside = glob[1:end].removeprefix("!")
        # The classes used here: single characters, and the one range.
        chosen = set("0123456789") if inside == "0-9" else set(inside)
        fits = bool(text) and (text[0] in chosen) != glob.startswith("[!")
        return fits and match_characters(glob[end + 1 :], text[1:])
    return bool(text) and glob[0] in ("?", text[0]) and match_characters(glob[1:], text[1:])


@given(trees, globs)
@example(js.VarTree({"a/b": 1, "a0b": 2, "a.b": 3}), "a[!a]b")
@example(js.VarTree({"w": 1, "a/w": 2, "a/b/w": 3}), "**/w")
@example(js.VarTree({"a": 1, "a/w": 2, "a/b/w": 3}), "a/**")
@example(js.VarTree({"a": 1, "a/w": 2}), "**/**")
def test_globs_match_as_the_reference_says(tree, glob):
    expected = {name for name in tree if reference_match(glob, name)}
    assert matching(tree, glob, allow_empty=True) == expected


@given(trees)
def test_every_name_is_a_glob_for_itself(tree):
    for name in tree:
        assert list(js.select(tree, name)) == [name]


@pytest.mark.parametrize("glob", ["a[!x]w", "a[.-0]w", "a?w", "a*w"])
def test_only_two_stars_cross_a_slash(glob):
    assert matching({"a/w": 1, "a.w": 2}, glob) == {"a.w"}


@given(st.sampled_from(CHARACTERS), st.sampled_from(CHARACTERS))
def test_a_range_is_what_lies_between(first, last):
    glob = f"[{first}-{last}]"
    if first > last:
        with pytest.raises(SelectorError, match="is empty"):
            matching({"w": 1}, glob)
    else:
        tree = {c: 1 for c in CHARACTERS if c != "."}
        chosen = {c for c in tree if first <= c <= last}
        assert matching(tree, glob, allow_empty=True) == chosen
        assert matching(tree, f"[!{first}-{last}]", allow_empty=True) == tree.keys() - chosen


def test_a_class_of_nothing_picks_nothing():
    assert not matching({"w": 1}, "[!a-zA-Z0-9_.-]", allow_empty=True)


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("", "The glob '' has an empty component. Names have no leading, trailing or double '/'"),
        ("enc/", "The glob 'enc/' has an empty component."),
        ("enc//w", "for everything below a scope write 'scope/**'."),
        ("enc**", "In the glob 'enc**', '**' must be a whole component, as in 'enc/**/w'."),
        ("[ab", "In the glob '[ab', '[' has no partner."),
        ("ab]", "In the glob 'ab]', ']' has no partner."),
        ("[]", "In the glob '[]', '[' has no partner."),
        ("l[1-0]", "In the glob 'l[1-0]', the range '1-0' is empty."),
        ("l[^0]", "In the glob 'l[^0]', '[^0]' holds '^', which no name has. For all but some"),
        ("w\n", r"The selector 'w\n' matches no variable"),
    ],
)
@pytest.mark.parametrize("allow_empty", [False, True])
def test_a_bad_glob_is_an_error_that_says_what_is_wrong(tree, glob, message, allow_empty):
    if allow_empty and "matches no" in message:
        assert not js.select(tree, glob, allow_empty=True)
        return
    with pytest.raises(SelectorError) as caught:
        js.select(tree, glob, allow_empty=allow_empty)
    assert message in str(caught.value)


# The other selectors.


def test_a_regex_is_searched_for(tree):
    assert list(js.select(tree, re.compile("l[01]/w$"))) == ["enc/l0/w", "enc/l1/w"]
    assert list(js.select(tree, re.compile("^head"))) == ["head/w"]
    with pytest.raises(SelectorError, match=r"matches bytes; names are strings"):
        js.select(tree, re.compile(b"w"))


def test_a_predicate_sees_names_and_values(tree):
    seen = []
    picked = js.select(tree, lambda name, value: seen.append((name, value)) or value > 3)
    assert dict(picked) == {"enc/l1/b": 4.0, "head/w": 5.0}
    assert seen == list(tree.items())
    assert list(js.select(tree, lambda name, value: np.bool_(name == "head/w"))) == ["head/w"]


def test_a_mapping_picks_its_names(tree):
    assert list(js.select(tree, js.VarTree({"head": {"w": None}, "enc/l0/b": 0}))) == [
        "enc/l0/b",
        "head/w",
    ]


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, dict.fromkeys])
def test_a_collection_picks_what_one_of_it_picks(tree, kind):
    made = kind(["head/*", "**/b"])
    if isinstance(made, dict):
        made = made.keys()
    assert list(js.select(tree, made)) == ["enc/l0/b", "enc/l1/b", "head/w"]


def test_collections_nest_and_mix(tree):
    selector = ["head/w", [re.compile("l0/b"), (lambda name, value: value == 3.0,)]]
    assert list(js.select(tree, selector)) == ["enc/l0/b", "enc/l1/w", "head/w"]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            "enc/l0/ww",
            "The selector 'enc/l0/ww' matches no variable (close names: 'enc/l0/w', 'enc/l1/w', "
            "'enc/l0/b'). Write allow_empty=True if that is meant.",
        ),
        (
            "enc/l0",
            "The selector 'enc/l0' matches no variable: it is a scope of 2. Write 'enc/l0/**' for "
            "all that is below it.",
        ),
        (
            "enc/*",
            "The selector 'enc/*' matches no variable: 'enc' is a scope of 4. Write 'enc/**' for "
            "all that is below it.",
        ),
        (re.compile("q$"), "The selector 'q$' matches none of 5 variables: 'enc/l0/b', 'enc/l0/w'"),
        (lambda name, value: False, "matches none of 5 variables"),
        ([], "An empty collection of selectors picks nothing. Write allow_empty=True"),
        ({}, "A selector without names picks nothing. Write allow_empty=True"),
        (["**/w", "qqq"], "The selector 'qqq' matches no variable (no close name among 5"),
        (
            {"head/w": 1, "head/ww": 1},
            "Of 2 names selected, 1 are not in the tree of 5: 'head/ww' (close names: 'head/w'). "
            "Write allow_empty=True if that is meant.",
        ),
        ({3: 1}, "Of 1 names selected, 1 are not in the tree of 5: 3 (no close name among 5"),
    ],
)
def test_picking_nothing_is_an_error_unless_it_is_meant(tree, selector, message):
    for function in (js.select, js.drop, js.partition, js.mask):
        with pytest.raises(SelectorError) as caught:
            function(tree, selector)
        assert message in str(caught.value)
    assert (
        js.drop(tree, selector, allow_empty=True) | js.select(tree, selector, allow_empty=True)
        == tree
    )


def test_hundreds_of_absent_names_are_counted_not_compared(tree):
    with pytest.raises(SelectorError, match=r"and 290 more\. Write allow_empty"):
        js.select(tree, dict.fromkeys(f"qqq{i}" for i in range(300)))


@pytest.mark.parametrize("selector", [None, 3, b"**", iter(["w"])])
def test_what_is_no_selector_is_told_what_is_one(tree, selector):
    with pytest.raises(
        SelectorError, match=r"is not a selector\. It may be a glob such as 'enc/\*"
    ):
        js.select(tree, selector, allow_empty=True)


# The functions.


@given(trees, st.lists(globs, max_size=3))
def test_parts_are_disjoint_and_merge_to_the_tree(tree, selectors):
    *parts, rest = js.partition(tree, *selectors, allow_empty=True)
    taken = set()
    for part, glob in zip(parts, selectors, strict=True):
        expected = {name for name in tree if reference_match(glob, name)} - taken
        assert set(part) == expected
        taken |= expected
    assert set(rest) == set(tree) - taken
    assert functools.reduce(js.VarTree.__or__, parts, rest) == tree


@given(trees, globs)
def test_select_drop_mask_labels_and_partition_agree(tree, glob):
    picked = js.select(tree, glob, allow_empty=True)
    dropped = js.drop(tree, glob, allow_empty=True)
    assert js.partition(tree, glob, allow_empty=True) == (picked, dropped)
    mask = js.mask(tree, glob, allow_empty=True)
    assert dict(mask) == {name: name in picked for name in tree}
    assert jax.tree.structure(mask) == jax.tree.structure(tree)
    labels = js.labels(tree, {"yes": glob}, "no", allow_empty=True)
    assert dict(labels) == {name: "yes" if name in picked else "no" for name in tree}


@given(trees)
def test_nothing_given_is_changed_and_dicts_will_do(tree):
    flat = dict(tree)
    for function in (js.select, js.drop, js.partition, js.mask):
        assert function(flat, "**") == function(tree, "**")
    assert js.map_named(flat, lambda name, value: value) == tree
    assert flat == dict(tree)


def test_a_selection_is_interned_and_keeps_its_values(tree):
    picked = js.select(tree, "**/w")
    assert type(_tree.values_of(picked)) is tuple
    again = js.VarTree(dict.fromkeys(picked, 0))
    assert _tree.structure_of(picked) is _tree.structure_of(again)


def test_the_first_label_wins_and_all_need_one(tree):
    labels = js.labels(tree, {"slow": "enc/l0/**", "w": "**/w", "b": "**/b"})
    assert dict(labels) == {
        "enc/l0/b": "slow",
        "enc/l0/w": "slow",
        "enc/l1/b": "b",
        "enc/l1/w": "w",
        "head/w": "w",
    }
    with pytest.raises(SelectorError) as caught:
        js.labels(tree, {"w": "**/w"})
    assert str(caught.value) == (
        "No label for 'enc/l0/b', 'enc/l1/b'. Add a selector that picks them, or default='...'."
    )


def test_map_named_sees_names(tree):
    assert js.map_named(tree, lambda name, value: (name, value))["head/w"] == ("head/w", 5.0)


# Renaming.


@pytest.mark.parametrize(
    ("renames", "expected"),
    [
        ({"head/w": "head/kernel"}, {"head/w": "head/kernel"}),
        ({"enc": "encoder"}, {"enc/": "encoder/"}),
        ({"enc": "e", "enc/l0": "first", "enc/l0/w": "w"}, None),
        ({"": "model"}, {"": "model/"}),
        ({"": ""}, {}),
        ({"enc": ""}, {"enc/": ""}),
        ({"enc": "head", "head": "enc"}, None),
        ({"enc/l0/w": "enc/l1/w", "enc/l1/w": "enc/l0/w"}, None),
    ],
)
def test_the_longest_old_name_wins(tree, renames, expected):
    def new_name(name):
        fits = [old for old in renames if old in ("", name) or name.startswith(old + "/")]
        if not fits:
            return name
        old = max(fits, key=len)
        return "/".join(filter(None, [renames[old], name[len(old) :].strip("/")]))

    found = js.rename(tree, renames)
    assert dict(found) == {new_name(name): value for name, value in tree.items()}
    if expected is not None:
        ((old, new),) = expected.items() or [("", "")]
        replaced = [new + n[len(old) :] if n.startswith(old) else n for n in tree]
        assert list(found) == sorted(replaced)


@given(trees)
def test_a_function_renames_every_variable(tree):
    there = js.rename(tree, lambda name: "x/" + name)
    assert there.subtree("x") == tree
    assert js.rename(there, {"x": ""}) == tree
    assert js.rename(there, lambda name: name[2:]) == tree


def test_a_variable_that_is_a_scope_moves_with_or_without_what_is_below():
    tree = js.VarTree({"w": 1, "w/Adam": 2})
    assert dict(js.rename(tree, {"w": "v"})) == {"v": 1, "v/Adam": 2}
    assert dict(js.rename(tree, {"w": "v", "w/Adam": "w/Adam"})) == {"v": 1, "w/Adam": 2}


def test_renames_that_collide_list_all_of_them(tree):
    with pytest.raises(NameCollisionError) as caught:
        js.rename(tree, {"enc/l0": "enc/l1"})
    assert str(caught.value) == (
        "Variables would get one name: 'enc/l0/b', 'enc/l1/b' -> 'enc/l1/b'; 'enc/l0/w', "
        "'enc/l1/w' -> 'enc/l1/w'. Rename or js.drop one of each."
    )


def test_an_old_name_that_is_not_there_is_an_error(tree):
    with pytest.raises(SelectorError) as caught:
        js.rename(tree, {"heads/w": "x", "encoder": "y", "enc": "z"})
    assert str(caught.value).startswith("Nothing to rename: 'heads/w' (close names: 'head/w'); ")
    assert js.rename(tree, {"heads/w": "x"}, allow_empty=True) == tree


@pytest.mark.parametrize(
    "bad", [{"head/w": None}, {"head/w": "a b"}, {"head/w": "/x"}, {3: "x"}, {"head/": "x"}]
)
@pytest.mark.parametrize("allow_empty", [False, True])
def test_illegal_names_in_a_rename_are_refused(tree, bad, allow_empty):
    with pytest.raises(VariableNameError):
        js.rename(tree, bad, allow_empty=allow_empty)


@pytest.mark.parametrize("function", [lambda name: None, lambda name: "", lambda name: "a//b"])
def test_illegal_names_from_a_function_are_refused(tree, function):
    with pytest.raises(VariableNameError):
        js.rename(tree, function)
    with pytest.raises(VariableNameError):
        js.rename(js.VarTree({"enc": 1}), {"enc": ""})


# What they are made for.


@pytest.fixture
def params():
    return js.VarTree({"enc/w": jnp.ones((2, 2)), "enc/b": jnp.ones(2), "head/w": jnp.ones(3)})


def test_labels_steer_multi_transform(params):
    labels = js.labels(params, {"slow": "enc/**"}, default="fast")
    optimizer = optax.multi_transform({"slow": optax.sgd(0.1), "fast": optax.sgd(1.0)}, labels)
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(optimizer.update)(ones, optimizer.init(params), params)
    for name, update in updates.items():
        np.testing.assert_allclose(update, -0.1 if name.startswith("enc") else -1.0)


def test_a_mask_steers_masked(params):
    optimizer = optax.masked(optax.scale(0.0), js.mask(params, "enc/**"))
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(optimizer.update)(ones, optimizer.init(params), params)
    for name, update in updates.items():
        np.testing.assert_array_equal(update, 0.0 if name.startswith("enc") else 1.0)


def test_map_named_makes_axes_and_shardings(params):
    mesh = Mesh(np.array(jax.devices()[:1]), "x")
    shardings = js.map_named(
        params, lambda name, v: NamedSharding(mesh, PartitionSpec(*["x"][: name == "head/w"]))
    )
    out = jax.jit(lambda t: t, out_shardings=shardings)(params)
    assert {name: value.sharding for name, value in out.items()} == dict(shardings)
    axes = js.map_named(params, lambda name, value: 0 if name == "head/w" else None)
    total = jax.vmap(lambda t: t["enc/w"].sum() + t["head/w"], in_axes=(axes,))(params)
    np.testing.assert_array_equal(total, [5.0, 5.0, 5.0])


def test_selection_works_on_traced_trees(params):
    def halves(tree):
        enc, rest = js.partition(tree, "enc/**")
        return js.rename(enc, {"enc": ""}), rest

    with jax.checking_leaks():
        enc, rest = jax.jit(halves)(params)
    assert (enc, rest) == (params.subtree("enc"), js.select(params, "head/w"))
