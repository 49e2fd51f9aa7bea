"""What a scope gives to the variables in it: initializer, regularizer, dtype, constraint."""

import numpy as np

from . import each, twin


@twin
def an_initializer_is_inherited(t):
    with t.scope("a", initializer=t.constant(0.3)):
        t.get("w", (1,))
        t.get("own", (1,), initializer=t.constant(0.2))
        with t.scope("b"):
            t.get("w", (1,))
        with t.scope("c", initializer=t.constant(0.4)):
            t.get("w", (1,))
    t.get("w", (1,), initializer=t.zeros)


@twin
def an_initializer_beats_the_default_for_the_dtype(t):
    with t.scope("a", initializer=t.ones):
        t.get("int", (2,), dtype="int32")
        t.get("bool", (2,), dtype="bool")


@twin
def an_initial_value_beats_the_scope_s_initializer(t):
    with t.scope("a", initializer=t.ones):
        t.get("w", initializer=np.full(3, 7, np.float32))


@twin
def an_explicit_none_inherits(t):
    with t.scope("a", initializer=t.ones, regularizer=t.l2(1.0), dtype="float16"):
        with t.scope("b", initializer=None, regularizer=None, dtype=None, reuse=None) as b:
            t.note(b.dtype)
            t.get("w", (2,), dtype=None, initializer=None, regularizer=None)
        t.get("w", (2,), None, None, None)


@twin
def a_regularizer_is_inherited(t):
    with t.scope("a", regularizer=t.l2(0.5), initializer=t.ones):
        t.get("w", (2, 2))
        t.get("own", (2, 2), regularizer=t.l2(2.0))
        with t.scope("b"):
            t.get("w", (3,))
        with t.scope("c", regularizer=t.l2(10.0)):
            t.get("w", (3,))
    t.get("w", (2,))


@twin
def no_regularizer_for_one_variable(t):
    with t.scope("a", regularizer=t.l2(0.5)):
        t.get("w", (2, 2))
        t.get("free", (2, 2), regularizer=t.no_regularizer)


@twin
def no_regularizer_for_a_scope(t):
    with t.scope("a", regularizer=t.l2(0.5)):
        with t.scope("b", regularizer=t.no_regularizer):
            t.get("w", (2, 2))
            with t.scope("c"):
                t.get("w", (2,))
            with t.scope("d", regularizer=t.l2(3.0)):
                t.get("w", (2,))
        t.get("w", (2,))


@twin
def a_regularizer_runs_once_however_often_it_is_shared(t):
    for _ in range(3):
        with t.scope("a", reuse=t.AUTO, regularizer=t.l2(1.0)):
            t.get("w", (2,))


@twin
def a_regularizer_of_what_is_not_trainable(t):
    t.get("w", (2,), trainable=False, regularizer=t.l2(1.0))


@twin
def a_regularizer_that_gives_none(t):
    t.get("w", (2,), regularizer=lambda value: None)
    t.get("v", (2,), regularizer=t.l2(1.0))


@twin
def a_regularizer_made_of_operators(t):
    t.get("w", (), regularizer=lambda value: value * value * 3.0 + 1.0)


@twin
def regularizers_of_another_dtype(t):
    with t.scope("a", dtype="float16", regularizer=t.l2(0.25)):
        t.get("w", (2,))
        t.get("v", (2,), dtype="float32")


@twin
def losses_come_in_the_order_of_creation(t):
    for i, name in enumerate("cab"):
        with t.scope(name, regularizer=t.l2(10.0**i)):
            t.get("w", (2,))


@twin
def a_dtype_is_inherited(t):
    t.note(t.current().dtype)
    with t.scope("half", dtype="float16") as half:
        t.note(half.dtype)
        t.get("w", (2,))
        t.get("own", (2,), dtype="float32")
        with t.scope("below") as below:
            t.note(below.dtype)
            t.get("w", (2,))
        with t.scope("other", dtype="float32") as other:
            t.note(other.dtype)
            t.get("w", (2,))


@twin
def a_value_s_dtype_beats_the_scope_s(t):
    with t.scope("half", dtype="float16"):
        t.get("int", initializer=3)
        t.get("float", initializer=2.5)
        t.get("array", initializer=np.ones(2, np.float32))


@each(["int32", "int8", "bool", "uint8", "float16"])
def a_scope_s_dtype_chooses_the_default_initializer(t, dtype):
    with t.scope("a", dtype=dtype):
        t.get("w", (2,))


@twin
def a_scope_s_dtype_is_checked_when_sharing(t):
    with t.scope("a", dtype="float16"):
        t.get("w", (2,))
    with t.scope("a", dtype="float32", reuse=True):
        t.get("w", (2,))


@twin
def a_scope_s_dtype_is_kept_when_sharing(t):
    with t.scope("a", dtype="float16") as a:
        t.get("w", (2,))
    with t.scope(a, reuse=True):
        t.get("w", (2,))


@twin
def a_call_s_dtype_beats_the_scope_s_when_sharing(t):
    with t.scope("a"):
        t.get("w", (2,), dtype="int32")
    with t.scope("a", reuse=True, dtype="float16"):
        t.get("w", (2,), dtype="int32")
        t.get("w", (2,))


@twin
def a_constraint_of_a_scope_holds_for_its_own_variables(t):
    with t.scope("a", constraint=lambda value: value * 2.0) as a:
        t.note(a.constraint is not None)
        t.get("w", (2,))
        t.get("own", (2,), constraint=lambda value: value * 3.0)


@twin
def a_constraint_is_not_inherited(t):
    with t.scope("a", constraint=lambda value: value * 2.0) as a:
        with t.scope("b") as b:
            t.note(b.constraint is not None)
            t.get("w", (2,))
        t.get("w", (2,))
    with t.scope(a) as again:
        t.note(again.constraint is not None)
        t.get("v", (2,))


@twin
def constraints_of_calls(t):
    t.get("free", (2,))
    t.get("w", (2,), constraint=lambda value: value - 10.0)
    t.get("clipped", (3,), constraint=lambda value: abs(value - 5.0))


@twin
def a_constraint_is_ignored_when_sharing(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (2,))
        t.get("w", (2,), constraint=lambda value: value * 2.0)


@each(["initializer", "regularizer", "constraint"])
def accessors_give_what_was_said(t, which):
    said = {"initializer": t.ones, "regularizer": t.no_regularizer, "constraint": abs}[which]
    t.note(getattr(t.current(), which) is None)
    with t.scope("a", **{which: said}) as a:
        t.note(getattr(a, which) is said)
        with t.scope("b") as b:
            t.note(getattr(b, which) is said)
    with t.scope(a) as again:
        t.note(getattr(again, which) is said)


@twin
def the_root_s_defaults(t):
    with t.scope(t.current(), initializer=t.ones, regularizer=t.l2(1.0)):
        t.get("w", (2,))
        with t.scope("a"):
            t.get("w", (2,))
    t.get("v", (2,), initializer=t.zeros)


@twin
def everything_at_once(t):
    with t.scope("net", initializer=t.ones, regularizer=t.l2(0.1), dtype="float16"):
        for _ in range(2):
            with t.scope(None, "block", reuse=None):
                t.get("w", (2, 2))
                t.get("b", (2,), initializer=t.zeros, regularizer=t.no_regularizer)
                t.get("count", (), dtype="int32", trainable=False, regularizer=t.no_regularizer)
        with t.scope("head", reuse=t.AUTO, dtype="float32"):
            for _ in range(2):
                t.get("w", (2, 3))
                t.get("b", (3,), initializer=t.constant(0.5))
