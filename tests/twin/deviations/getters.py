"""Custom getters, creators and templates."""

import pytest

import jscope as js

from . import both, deviates, texts


@deviates(
    "a custom getter that doesn't pass `reuse` on",
    tf="gets or creates",
    js="the scope's `reuse` applies",
    why="sharing is explicit, never inferred",
)
def getters_and_reuse():
    def forgetful(getter, name, shape=None, **others):
        return getter(name, shape=shape)

    def program(t):
        with t.scope("a", custom_getter=forgetful):
            t.get("w", (2,))
            t.get("w", (2,))

    theirs, ours, bound = both(program)
    assert texts(theirs) == [None]
    for mine in (ours, bound):
        assert texts(mine)[0].startswith("Variable a/w already exists, disallowed")


@deviates(
    "the dtype that a custom getter gets, if none was specified",
    tf="float32",
    js="None",
    why="as when sharing: a dtype that was not specified is not checked",
)
def getters_and_dtypes():
    def program(t):
        def noting(getter, name, **arguments):
            t.note(arguments["dtype"])
            return getter(name, **arguments)

        with t.scope("a", custom_getter=noting):
            t.get("w", (2,))

    theirs, ours, bound = both(program)
    assert theirs.notes == [("float32",)]
    assert ours.notes == bound.notes == [(None,)]


@deviates(
    "a custom getter that requests a variable outside its scope",
    tf="gets it",
    js="an error: it may only request names below its scope",
    why="only the variables below a scope are passed to a transform",
)
def getters_and_places():
    def elsewhere(getter, name, **arguments):
        return getter("b/w", **arguments)

    def program(t):
        with t.scope("a", custom_getter=elsewhere):
            t.get("w", (2,))

    theirs, ours, _ = both(program)
    assert theirs.names == ["b/w"]
    assert "requested 'b/w', which is not below" in texts(ours)[0]


@deviates(
    "a variable creator",
    tf="creates the variable, from `initial_value`",
    js="creates its spec, from `initializer` and `shape`; a bound scope doesn't call it",
    why="variables are created when a model is declared",
)
def creators():
    def program(t):
        def noting(next_creator, **arguments):
            t.note("initial_value" in arguments, "initializer" in arguments)
            return next_creator(**arguments)

        with t.creator(noting):
            t.get("w", (2,))

    theirs, ours, bound = both(program)
    assert theirs.notes == [(True, False)]
    assert ours.notes == [(False, True)]
    assert bound.notes == []


@deviates(
    "a variable creator that changes the name",
    tf="the variable has the new name, and is still found by the old one",
    js="an error: use a custom getter",
    why="a look-up runs no creator, and would not find the variable",
)
def creators_and_names():
    def program(t):
        def renaming(next_creator, **arguments):
            return next_creator(**{**arguments, "name": "v"})

        with t.creator(renaming), t.scope("a", reuse=t.AUTO):
            t.get("w", (2,))
            t.get("w", (2,))

    theirs, ours, _ = both(program)
    assert theirs.names == ["v"]
    assert theirs.requested == {"v": 2}
    assert "The creator of variable 'a/w' requested the name 'v'" in texts(ours)[0]


@deviates(
    "a template",
    tf="takes the scope that is open, at its first call or with `create_scope_now_=True`",
    js="the scope is the first argument of each call, or `create_scope_now_=scope`",
    why="there is no current scope",
)
def templates():
    layer = js.make_template("layer", lambda scope: scope.get_variable("w", (2,)))

    def model(scope):
        layer(scope / "a")
        layer(scope / "b")

    assert list(js.declare(model)()) == ["a/layer/w"]
    with pytest.raises(js.ScopeError, match="write create_scope_now_=scope"):
        js.make_template("layer", lambda scope: None, create_scope_now_=True)

    def program(t):
        made = t.template("layer", lambda t: t.get("w", (2,)))
        with t.scope("a"):
            made()
        with t.scope("b"):
            made()

    theirs, _, _ = both(program)
    assert theirs.names == ["a/layer/w"]
