import copy
import pickle

import pytest

from jscope import _errors
from jscope._errors import JscopeError, listed, near

CLASSES = [
    value
    for value in vars(_errors).values()
    if isinstance(value, type) and issubclass(value, JscopeError)
]

# The built-ins that callers expect, and what TF1 raises: ValueError for variables,
# OutOfRangeError and InvalidArgumentError for counters and scatters.
EXPECTED = {
    "JscopeError": (Exception,),
    "VariableNameError": (ValueError,),
    "MissingVariableError": (KeyError, ValueError),
    "VariableExistsError": (ValueError,),
    "ShapeMismatchError": (ValueError,),
    "DtypeMismatchError": (TypeError, ValueError),
    "TreeMismatchError": (ValueError,),
    "NestingError": (ValueError,),
    "NameCollisionError": (ValueError,),
    "SelectorError": (LookupError, ValueError),
    "ScopeError": (RuntimeError, ValueError),
    "InitializerError": (ValueError, TypeError),
    "InitializerCycleError": (ValueError, TypeError),
    "KeyArgumentError": (TypeError, ValueError),
    "IndexOutOfRangeError": (IndexError, ValueError),
    "LimitReachedError": (IndexError, ValueError),
    "CheckpointError": (OSError, ValueError),
    "CheckpointNotFoundError": (FileNotFoundError,),
    "CheckpointExistsError": (FileExistsError,),
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_its_builtins_and_survives_pickling_with_its_text(kind):
    text = "No variable at 'a/w' (close names: 'a/v').\nWrite 'a/v'."
    assert issubclass(kind, (JscopeError, *EXPECTED.get(kind.__name__, (Exception,))))
    for error in (kind(text), copy.copy(kind(text)), pickle.loads(pickle.dumps(kind(text)))):
        assert type(error) is kind
        assert str(error) == text
    with pytest.raises(kind) as caught:
        raise kind(text)
    assert text in "".join(caught.exconly())


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_facts_and_hint_make_the_text_and_survive_pickling(kind):
    for facts, hint, text in (
        ("No 'w'.", "Write js.init(model).", "No 'w'. Write js.init(model)."),
        ("2 differ:\n  'w'", "\nWrite 'v'.", "2 differ:\n  'w'\nWrite 'v'."),
        ("No 'w'.", "", "No 'w'."),
    ):
        for error in (kind(facts, hint), pickle.loads(pickle.dumps(kind(facts, hint)))):
            assert str(error) == text
            assert (error.facts, error.hint, error.args) == (facts, hint, (text,))


def test_every_error_of_the_list_exists():
    assert EXPECTED.keys() <= {kind.__name__ for kind in CLASSES}


def test_near_offers_close_names_then_some_then_none():
    assert near("enc/kernal", ["enc/kernel", "dec/w"]) == "close names: 'enc/kernel'"
    assert near("qqq", list("abcde")) == "no close name among 5: 'a', 'b', 'c' and 2 more"
    assert near("w", []) == "there are no variables at all"
    assert near(3, ["30", "w"]) == "close names: '30'"
    assert near("enc/kernal", dict.fromkeys(["enc/kernel"]).keys()) == "close names: 'enc/kernel'"


def test_listed_counts_what_it_leaves_out():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed("abc", most=2) == "'a', 'b' and 1 more"
    assert listed([]) == ""
