"""Custom getters, of scopes and of calls."""

from . import each, twin


def doubled(getter, name, *args, **kwargs):
    return getter(name, *args, **kwargs) * 2.0


def plus_one(getter, name, *args, **kwargs):
    return getter(name, *args, **kwargs) + 1.0


def plain(getter, name, *args, **kwargs):
    return getter(name, *args, **kwargs)


@twin
def a_scope_s_getter(t):
    with t.scope("a", custom_getter=doubled):
        t.get("w", (2,))
        with t.scope("b"):
            t.get("w", (2,))
    t.get("w", (2,))


@twin
def a_call_s_getter(t):
    t.get("w", (2,), custom_getter=doubled)
    t.get("v", (2,))


@twin
def the_inner_getter_is_called_first(t):
    with t.scope("o", custom_getter=doubled), t.scope("i", custom_getter=plus_one):
        t.get("w", (2,))
    with t.scope("p", custom_getter=plus_one), t.scope("i", custom_getter=doubled):
        t.get("w", (2,))


@twin
def the_order_in_which_getters_are_called(t):
    def noting(word):
        def getter(getter, name, *args, **kwargs):
            t.note(word, name)
            return getter(name + "_" + word, *args, **kwargs)

        return getter

    with t.scope("o", custom_getter=noting("outer")), t.scope("i", custom_getter=noting("inner")):
        t.get("w", (2,))


@twin
def a_call_s_getter_replaces_the_scope_s(t):
    with t.scope("a", custom_getter=doubled):
        t.get("w", (2,), custom_getter=plus_one)
        t.get("v", (2,))


@twin
def a_getter_that_does_nothing(t):
    with t.scope("a", custom_getter=plain, regularizer=t.l2(1.0), initializer=t.ones):
        t.get("w", (2,))
        with t.scope("b", custom_getter=plain):
            t.get("w", (2,), "float16", trainable=False)


@twin
def a_getter_that_asks_for_two(t):
    def summed(getter, name, *args, **kwargs):
        return getter(name + "/0", *args, **kwargs) + getter(name + "/1", *args, **kwargs)

    with t.scope("a", custom_getter=summed):
        t.get("w", (2,))
        t.get("v", (3,), trainable=False)


@twin
def a_getter_that_asks_for_none(t):
    with t.scope("a", custom_getter=lambda getter, name, *args, **kwargs: t.get("other", (2,))):
        pass
    with t.scope("b"):
        t.get("w", (2,))


@twin
def a_getter_and_reuse(t):
    for reuse in (False, True):
        with t.scope("a", reuse=reuse, custom_getter=doubled):
            t.get("w", (2,))


@twin
def a_getter_passes_errors_on(t):
    with t.scope("a", custom_getter=doubled):
        t.get("w", (2,))
        t.attempt(lambda: t.get("w", (2,)))
        with t.scope("b", reuse=True):
            t.attempt(lambda: t.get("w", (2,)))


@twin
def a_getter_sees_the_whole_name(t):
    def noting(getter, name, *args, **kwargs):
        t.note(name)
        return getter(name, *args, **kwargs)

    with t.scope("a", custom_getter=noting), t.scope("b"):
        t.get("c/w", (2,))
        t.get("v", (2,))


@twin
def a_getter_sees_keywords(t):
    def noting(getter, name, **kwargs):
        t.note(kwargs["shape"], kwargs["trainable"], kwargs["reuse"])
        return getter(name, **kwargs)

    with t.scope("a", custom_getter=noting):
        t.get("w", (2,))
    with t.scope("a", custom_getter=noting, reuse=True):
        t.get("w", [2], trainable=False)


@twin
def a_getter_that_changes_arguments(t):
    def changing(getter, name, **kwargs):
        kwargs["trainable"] = not name.endswith("b")
        kwargs["shape"] = (3,)
        return getter(name, **kwargs)

    with t.scope("a", custom_getter=changing):
        t.get("w", (2,))
        t.get("b", (2,))


@twin
def a_getter_of_an_object(t):
    with t.scope("a", custom_getter=doubled) as a:
        pass
    with t.scope("b"), t.scope(a):
        t.get("w", (2,))
    with t.scope(a, custom_getter=plus_one):
        t.get("v", (2,))


@twin
def a_getter_around_is_not_an_object_s(t):
    with t.scope("a") as a:
        pass
    with t.scope("b", custom_getter=doubled), t.scope(a):
        t.get("w", (2,))


@twin
def a_getter_of_a_default_name(t):
    with t.scope(None, "d", custom_getter=doubled) as d:
        t.note(d.custom_getter is not None, t.current().name)
        t.get("w", (2,))
    t.note(t.current().custom_getter is None)


@twin
def a_getter_that_uses_another_variable(t):
    def scaled(getter, name, *args, **kwargs):
        return getter(name, *args, **kwargs) * getter(name + "/scale", shape=())

    with t.scope("a", custom_getter=scaled):
        t.get("w", (2, 2))


@each([3, "getter"])
def no_getter_at_all(t, value):
    t.get("w", (2,), custom_getter=value)


@each([3])
def no_getter_at_all_of_a_scope(t, value):
    with t.scope("a", custom_getter=value):
        t.get("w", (2,))
