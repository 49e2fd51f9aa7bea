"""Entering a scope object, from anywhere."""

import itertools

from . import each, twin
from .reuse import SAID, said


@twin
def an_object_entered_again(t):
    with t.scope("a") as a:
        t.get("w", (2,))
    with t.scope(a, reuse=True) as again:
        t.note(again.name, again.reuse)
        t.get("w", (2,))
    with t.scope(a) as again:
        t.note(again.name, again.reuse)
        t.get("v", (2,))


@twin
def an_object_entered_from_somewhere_else(t):
    with t.scope("root"):
        with t.scope("towerA") as tower:
            t.get("w", (2,))
        t.get("w", (2,))
    with t.scope("x"), t.scope("y"), t.scope(tower, reuse=True) as again:
        t.note(again.name)
        t.get("w", (2,))
        with t.scope("in") as inside:
            t.note(inside.name)
    with t.scope("x"):
        t.get("w", (2,))


@twin
def back_to_where_one_was(t):
    with t.scope("a") as a, t.scope("b"):
        with t.scope(a):
            t.get("w", (2,))
            t.note(t.current().name)
        t.note(t.current().name)
        t.get("w", (2,))
    t.note(t.current().name)


@twin
def the_current_scope_entered(t):
    with t.scope("a"):
        t.get("w", (2,))
        with t.scope(t.current()) as same:
            t.note(same.name)
            t.get("v", (2,))
        with t.scope(t.current(), reuse=True):
            t.get("w", (2,))


@twin
def the_root_entered(t):
    root = t.current()
    with t.scope("a"):
        t.get("w", (2,))
        with t.scope(root) as again:
            t.note(again.name)
            t.get("w", (2,))
            with t.scope("b"):
                t.get("w", (2,))


@twin
def the_root_entered_with_reuse(t):
    t.get("w", (2,))
    with t.scope("a"):
        t.get("w", (2,))
    with t.scope(t.current(), reuse=True):
        t.get("w", (2,))
        with t.scope("a"):
            t.get("w", (2,))
        t.attempt(lambda: t.get("v", (2,)))


@each(f"{own}-{given}" for own, given in itertools.product(SAID, SAID))
def whose_reuse_counts(t, words):
    own, given = (said(t, word) for word in words.split("-"))
    with t.scope("a", reuse=own) as a:
        pass
    for word in SAID:
        with t.scope("around", reuse=said(t, word)), t.scope(a, reuse=given) as again:
            t.note(again.reuse)
            with t.scope("b") as b:
                t.note(b.reuse)


@twin
def the_object_s_defaults_count_not_those_around(t):
    with t.scope("a", initializer=t.ones, regularizer=t.l2(2.0), dtype="float16") as a:
        pass
    with t.scope("b", initializer=t.constant(3.0), regularizer=t.l2(5.0)):
        t.get("w", (2,))
        with t.scope(a):
            t.get("w", (2,))
            with t.scope("c"):
                t.get("w", (2,))
        t.get("v", (2,))


@twin
def defaults_around_are_not_taken_by_an_object_without(t):
    with t.scope("a") as a:
        pass
    with t.scope("b", initializer=t.ones, regularizer=t.l2(1.0), dtype="float16"), t.scope(a):
        t.get("w", (2,), initializer=t.zeros)


@twin
def arguments_replace_the_object_s_defaults(t):
    with t.scope("a", initializer=t.ones, regularizer=t.l2(2.0), dtype="float16") as a:
        pass
    with t.scope(
        a, initializer=t.constant(3.0), regularizer=t.no_regularizer, dtype="float32"
    ) as changed:
        t.note(changed.dtype)
        t.get("w", (2,))
    with t.scope(a) as again:
        t.note(again.dtype)
        t.get("v", (2,))


@twin
def a_changed_copy_does_not_change_the_object(t):
    with t.scope("a") as a:
        t.get("w", (2,))
    with t.scope(a):
        t.reuse_variables()
        t.get("w", (2,))
    t.note(a.reuse)
    with t.scope(a) as again:
        t.note(again.reuse)
        t.get("v", (2,))


@twin
def an_object_passed_to_functions(t):
    def dense(scope):
        with t.scope(scope):
            t.get("w", (2,))

    with t.scope("a") as a:
        pass
    with t.scope("b") as b:
        pass
    dense(a)
    with t.scope("elsewhere"):
        dense(b)
        t.attempt(lambda: dense(a))


@twin
def an_object_of_an_object(t):
    with t.scope("a") as a, t.scope("b") as b:
        pass
    with t.scope(a) as first, t.scope(first) as second:
        t.note(first.name, second.name)
        t.get("w", (2,))
        with t.scope(b) as third:
            t.note(third.name)
            t.get("w", (2,))


@twin
def an_object_that_was_opened_by_a_default_name(t):
    with t.scope(None, "d") as first:
        t.get("w", (2,))
    with t.scope(None, "d") as second:
        t.get("w", (2,))
    with t.scope("x"):
        with t.scope(first, reuse=True):
            t.get("w", (2,))
        with t.scope(second, reuse=True):
            t.get("w", (2,))


@twin
def below_an_object(t):
    with t.scope("a") as a:
        pass
    with t.scope("x"), t.scope(a), t.scope("b"), t.scope("c"):
        t.get("w", (2,))
        t.note(t.current().name)


@twin
def an_exception_inside_an_object(t):
    with t.scope("a") as a:
        pass

    def inside():
        with t.scope("b"), t.scope(a):
            t.get("w", (2,))
            t.get("w", (2,))

    t.attempt(inside)
    t.note(t.current().name)
    with t.scope(a):
        t.get("v", (2,))


@twin
def a_default_name_beside_an_object_is_not_looked_at(t):
    with t.scope("a") as a:
        pass
    with t.scope(a, "d") as again:
        t.note(again.name)
