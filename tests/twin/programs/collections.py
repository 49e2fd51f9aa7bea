"""Collections: in which a variable is. They are compared for each program, and each scope."""

from . import each, twin


@twin
def trainable_and_other_variables(t):
    with t.scope("a"):
        t.get("w", (2,))
        t.get("mean", (2,), trainable=False)
    t.get("step", (), "int32", trainable=False)


@twin
def a_collection_of_one_s_own(t):
    t.get("w", (2,), collections=["mine"])
    t.get("v", (2,), collections=["mine", "variables"])
    t.get("u", (2,))


@twin
def one_s_own_and_not_trainable(t):
    t.get("w", (2,), collections=["mine"], trainable=False)
    t.get("v", (2,), collections=["mine", "other"], trainable=False)


@each([[], (), ("a", "b"), {"a"}, ["a", "a"]])
def kinds_of_collections(t, collections):
    t.get("w", (2,), collections=collections)


@each(["mine", "variables", 3])
def no_collections_at_all(t, collections):
    t.get("w", (2,), collections=collections)


@twin
def a_local_variable(t):
    with t.scope("a"):
        t.local("count", ())
        t.get("w", (2,))


@twin
def a_local_variable_in_a_collection(t):
    t.local("count", (), collections=["mine"])
    t.local("total", (), "int32", t.ones)


@twin
def local_variables_are_shared_as_others(t):
    t.local("count", ())
    t.attempt(lambda: t.local("count", ()))
    with t.scope(t.current(), reuse=True):
        t.local("count", ())
        t.get("count", ())
        t.attempt(lambda: t.local("other", ()))


@twin
def a_local_variable_takes_the_scope_s_defaults(t):
    with t.scope("a", initializer=t.constant(4.0), regularizer=t.l2(1.0), dtype="float16"):
        t.local("count", (2,))


@twin
def collections_when_sharing_are_ignored(t):
    with t.scope("a", reuse=t.AUTO):
        t.get("w", (2,), collections=["mine"])
        t.get("w", (2,), collections=["other"])


@twin
def the_standard_keys(t):
    t.get("w", (2,), collections=["variables", "model_variables"])
    t.get("v", (2,), collections=["variables", "moving_average_variables"], trainable=False)
    t.get("u", (), collections=["variables", "global_step"], trainable=False)


@twin
def scopes_with_equal_beginnings_have_their_own(t):
    for name in ("foo", "foo_", "foo_1", "foo/bar"):
        with t.scope(name):
            t.get("w", (1,), collections=["mine", "variables"])
    t.get("foo/v", (1,))


@twin
def collections_keep_the_order_of_creation(t):
    for name in "dcab":
        t.get(name, (1,), collections=["mine", "variables"])
        t.local(f"{name}/local", ())


@twin
def a_scope_lists_its_own_variables(t):
    root = t.current()
    with t.scope("foo") as foo:
        t.get("w", (1,))
        t.get("mean", (1,), trainable=False)
        t.local("count", (1,))
    with t.scope("foo_1") as other:
        t.get("w", (1,))
    with t.scope("foo/bar") as inner:
        t.get("w", (1,))
    for scope in (root, foo, other, inner):
        t.note(*t.below(scope))
