import enum
import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jscope._errors import VariableNameError
from jscope._names.names import CHARACTERS, check, check_root, join, split

components = st.text(CHARACTERS, min_size=1, max_size=6).filter(lambda c: c not in (".", ".."))
names = st.lists(components, min_size=1, max_size=5)


@given(names)
def test_split_inverts_join(parts):
    assert split(join(*parts)) == tuple(parts)


@given(names, names)
def test_join_is_injective(one, other):
    assert (join(*one) == join(*other)) == (one == other)


@given(names, names)
def test_joining_names_is_joining_their_components(scope, name):
    assert split(join(join(*scope), join(*name))) == (*scope, *name)


@given(st.text(max_size=6) | st.text([*"ab./_-"], max_size=6))
def test_check_accepts_exactly_the_rule(text):
    legal = all(
        component not in ("", ".", "..") and all(c in CHARACTERS for c in component)
        for component in text.split("/")
    )
    if legal:
        assert check(text) == text
    else:
        with pytest.raises(VariableNameError):
            check(text)


@given(st.lists(st.lists(components, min_size=1, max_size=3), max_size=20), components)
def test_a_scope_is_a_run_whose_order_survives_the_cut(many, scope):
    ordered = sorted({join(*parts) for parts in many} | {join(scope, *parts) for parts in many})
    below = [name.startswith(scope + "/") for name in ordered]
    assert [inside for inside, _ in itertools.groupby(below)].count(True) <= 1
    cut = [name[len(scope) + 1 :] for name in ordered if name.startswith(scope + "/")]
    assert cut == sorted(cut)


def test_empty_scopes_are_the_root_and_left_out():
    assert join("", "a", "", "b/c") == "a/b/c"
    assert join("a") == "a"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "A variable name can't be empty, got ''."),
        ("/", "A variable name can't be empty, got '/'."),
        ("a b", "'a b' is not a legal name: character ' ' at position 1 is outside TF1's alphabet"),
        ("enc/kör", "'enc/kör' is not a legal name: character 'ö' at position 5 is outside"),
        ("w:0", "character ':' at position 1 is outside TF1's alphabet (letters, digits, '_', '.'"),
        ("a/w:0", "between components). TF1 calls a variable's tensor so: write 'a/w'."),
        ("w\n", r"'w\n' is not a legal name: character '\n' at position 1 is outside"),
        ("/a", "'/a' is not a legal name: it has a leading '/'. Write 'a'."),
        ("a/", "'a/' is not a legal name: it has a trailing '/'. Write 'a'."),
        ("/a//b/", "'/a//b/' is not a legal name: it has a leading '/'. Write 'a/b'."),
        (
            "ab//c",
            "'ab//c' is not a legal name: the component at position 3 is empty. Write 'ab/c'.",
        ),
        (".", "'.' is not a legal name: '.' can't be a component, names are not file paths."),
        ("a/../b", "'a/../b' is not a legal name: '..' can't be a component"),
        (3, "A variable name must be a string, got 3 of type int."),
        (None, "A variable name must be a string, got None of type NoneType."),
        (b"w", "A variable name must be a string, got b'w' of type bytes."),
        (["w"], "A variable name must be a string, got ['w'] of type list."),
    ],
)
@pytest.mark.parametrize("function", [check, check_root, split])
def test_a_bad_name_is_told_what_is_wrong_and_where(function, name, message):
    for _ in range(2):  # an error is not cached as a success
        with pytest.raises(VariableNameError) as caught:
            function(name)
        assert message in str(caught.value)


@given(names)
def test_the_root_rule_is_tf1s_first_character(parts):
    name = join(*parts)
    if name[0] in "_-":
        with pytest.raises(VariableNameError, match="begins with") as caught:
            check_root(name)
        assert f"inside a scope {name!r} is legal" in str(caught.value)
    else:
        assert check_root(name) == name


def test_names_are_case_sensitive_and_dots_are_characters():
    assert check("W") != check("w")
    assert split("a.b/.c/...") == ("a.b", ".c", "...")


def test_a_subclass_of_str_becomes_a_plain_string():
    class Layer(enum.StrEnum):
        WEIGHT = "enc/w"

    for name in (np.str_("enc/w"), Layer.WEIGHT):
        assert type(check(name)) is str
        assert check(name) == "enc/w"


@given(st.text("ab/", max_size=8))
def test_a_name_that_a_message_offers_is_legal(text):
    try:
        check(text)
    except VariableNameError as error:
        offered = re.search("Write '(.*)'", str(error))
        assert check(offered[1]) if text.strip("/") else not offered
