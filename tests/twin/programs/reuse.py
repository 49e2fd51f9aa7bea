"""Creating, getting and sharing: what ``reuse`` allows and how it is inherited."""

import itertools

from . import each, twin

SAID = {"none": None, "false": False, "true": True, "auto": "AUTO"}


def said(t, word):
    """A value of ``reuse`` by its word."""
    value = SAID[word]
    return t.AUTO if value == "AUTO" else value


@twin
def twice(t):
    t.get("w", (2,))
    t.get("w", (2,))


@twin
def twice_in_a_scope(t):
    with t.scope("a"):
        t.get("w", (2,))
    with t.scope("a"):
        t.get("w", (2,))


@twin
def twice_by_another_spelling(t):
    with t.scope("a"):
        t.get("b/w", (2,))
        with t.scope("b"):
            t.get("w", (2,))


@twin
def shared_towers(t):
    for i in range(3):
        with t.scope("tower", reuse=i > 0):
            t.get("w", (2, 2))
            with t.scope("in"):
                t.get("w", (2, 2))


@twin
def auto_reuse_gets_or_creates(t):
    for _ in range(3):
        with t.scope("m", reuse=t.AUTO):
            t.get("w", (2,))
    with t.scope("m", reuse=t.AUTO):
        t.get("v", (2,))


@twin
def true_creates_nothing(t):
    with t.scope("a", reuse=True):
        t.get("w", (2,))


@twin
def true_is_inherited_by_scopes_below(t):
    with t.scope("a", reuse=True), t.scope("b"):
        t.get("w", (2,))


@each(list(SAID))
def a_table_of_creating(t, word):
    with t.scope("a", reuse=said(t, word)) as a:
        t.note(a.reuse)
        t.get("w", (2,))


@each(list(SAID))
def a_table_of_getting(t, word):
    with t.scope("a"):
        t.get("w", (2,))
    with t.scope("a", reuse=said(t, word)) as a:
        t.note(a.reuse)
        t.get("w", (2,))


@each(f"{outer}-{inner}" for outer, inner in itertools.product(SAID, SAID))
def reuse_is_inherited_and_replaced(t, words):
    outer, inner = (said(t, word) for word in words.split("-"))
    with t.scope("a"):
        t.get("old", (2,))
        with t.scope("b"):
            t.get("old", (2,))
    with t.scope("a", reuse=outer) as a:
        t.note(a.reuse)
        t.attempt(lambda: t.get("old", (2,)))
        t.attempt(lambda: t.get("new", (2,)))
        with t.scope("b", reuse=inner) as b:
            t.note(b.reuse)
            t.attempt(lambda: t.get("old", (2,)))
            t.attempt(lambda: t.get("newer", (2,)))
        t.note(t.current().reuse)


@twin
def reuse_does_not_leak_to_the_next_scope(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (2,))
    with t.scope("b") as b:
        t.note(b.reuse)
        t.get("w", (2,))
    t.get("w", (2,))
    t.note(t.current().reuse)


@each(["yes", 1, 0, (), 2.0, "AUTO_REUSE"])
def other_values_of_reuse(t, value):
    with t.scope("a", reuse=value):
        t.get("w", (2,))


@twin
def another_shape(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (1,))
        t.get("w", (2,))


@each([(1,), (), (2, 1), (1, 2, 1), (0,)])
def other_shapes(t, shape):
    t.get("w", (1, 2))
    with t.scope(t.current(), reuse=True):
        t.get("w", shape)


@each([(None, 2), (1, None), (None, None), None])
def partial_shapes_fit(t, shape):
    t.get("w", (1, 2))
    with t.scope(t.current(), reuse=True):
        t.get("w", shape)


@each([(None, 3), (None,), (None, None, None)])
def partial_shapes_that_do_not_fit(t, shape):
    t.get("w", (1, 2))
    with t.scope(t.current(), reuse=True):
        t.get("w", shape)


@each(["int32", "float16", "bool"])
def another_dtype(t, dtype):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (1,), dtype="float32")
        t.get("w", (1,), dtype=dtype)


@twin
def what_is_ignored_when_sharing(t):
    with t.scope("a"):
        t.get("w", (2,), initializer=t.ones, regularizer=t.l2(1.0))
    with t.scope("a", reuse=True, regularizer=t.l2(3.0), initializer=t.zeros):
        t.get("w", (2,))
        t.get("w", (2,), regularizer=t.l2(2.0), trainable=False)
        t.get("w", (2,), initializer=t.zeros)


@twin
def a_failed_request_creates_nothing(t):
    t.attempt(lambda: t.get("w"))
    t.attempt(lambda: t.get("w", (2, -1)))
    t.get("w", (2,))


@twin
def sharing_with_a_wrong_shape_leaves_the_variable(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (1,))
        t.attempt(lambda: t.get("w", (2,)))
        t.get("w", (1,))


@twin
def reuse_variables_in_the_middle(t):
    with t.scope("a"):
        t.get("w", (2,))
        t.note(t.current().reuse)
        t.reuse_variables()
        t.note(t.current().reuse)
        t.get("w", (2,))
        t.attempt(lambda: t.get("v", (2,)))
        with t.scope("b") as b:
            t.note(b.reuse)
            t.attempt(lambda: t.get("w", (2,)))
    t.note(t.current().reuse)
    t.get("v", (2,))


@twin
def reuse_variables_at_the_root_stays(t):
    t.get("w", (2,))
    t.reuse_variables()
    t.get("w", (2,))
    t.attempt(lambda: t.get("v", (2,)))
    with t.scope("a") as a:
        t.note(a.reuse)
        t.attempt(lambda: t.get("v", (2,)))
    t.note(t.current().reuse)


@twin
def reuse_variables_below_auto(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (2,))
        t.reuse_variables()
        t.note(t.current().reuse)
        t.get("w", (2,))
        t.attempt(lambda: t.get("v", (2,)))
