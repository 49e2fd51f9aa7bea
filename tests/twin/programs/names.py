"""How names come about, from strings alone."""

from . import each, twin


@twin
def one_variable(t):
    t.get("w", (2, 3))


@twin
def nothing_at_all(t):
    with t.scope("a"):
        pass


@twin
def nested_scopes(t):
    with t.scope("encoder"):
        t.get("w", (2, 3))
        with t.scope("layer_0"):
            t.get("kernel", [3, 4])
            t.get("bias", 4)
        t.get("after", ())
    t.get("outside", (1,))


@twin
def a_slash_in_a_variable_s_name(t):
    with t.scope("a"):
        t.get("b/w", (2,))
    t.get("a/b/v", (2,))
    with t.scope("a"), t.scope("b"):
        t.get("u", (2,))


@twin
def a_slash_in_a_scope_s_name(t):
    with t.scope("a/b") as s:
        t.note(s.name)
        t.get("w", (2,))
        with t.scope("c/d") as s:
            t.note(s.name)
            t.get("w", (2,))


@twin
def names_of_scopes(t):
    t.note(t.current().name)
    with t.scope("a") as a:
        t.note(a.name, t.current().name)
        with t.scope("b") as b:
            t.note(b.name, t.current().name)
        t.note(t.current().name)
    t.note(t.current().name)


@twin
def scopes_with_equal_beginnings(t):
    for name in ("foo", "foo_", "foo_1", "foobar", "foo/bar"):
        with t.scope(name):
            t.get("w", (1,))


@twin
def a_variable_and_a_scope_of_one_name(t):
    t.get("w", (2,))
    with t.scope("w"):
        t.get("Adam", (2,))
        t.get("Adam_1", (2,))


@twin
def the_same_scope_entered_twice(t):
    with t.scope("a"):
        t.get("w", (2,))
    with t.scope("a"):
        t.get("v", (2,))


@twin
def names_that_look_uniquified(t):
    for name in ("d_1", "d", "d_1_1", "d_2"):
        with t.scope(name):
            t.get("w", (1,))


@twin
def deep_nesting(t):
    def below(depth):
        t.get("w", (depth,))
        if depth:
            with t.scope(f"s{depth}"):
                below(depth - 1)

    below(6)


@twin
def no_dimensions_and_empty_dimensions(t):
    t.get("scalar", ())
    t.get("list", [])
    t.get("empty", (0, 3))
    t.get("int", 5)


@each(["w.x", "0", ".w", "w-y", "a.b/c-d", "9/_", "W", "A/b"])
def legal_names_at_the_root(t, name):
    t.get(name, (2,))


@each(["_x", "-x", "_", "_/_", "x.y-z_"])
def legal_names_in_a_scope(t, name):
    with t.scope("a"):
        t.get(name, (2,))
        with t.scope(name):
            t.get("w", (2,))


@each(["w w", "_w", "-w", "w:0", "ü", "w@x", "_/w"])
def illegal_names_at_the_root(t, name):
    t.get(name, (2,))


@each(["w w", "w:0", "w+", "w/é"])
def illegal_names_in_a_scope(t, name):
    with t.scope("a"):
        t.get(name, (2,))


@each(["a b", "a:0", "a+/b"])
def illegal_scopes_at_the_root(t, name):
    with t.scope(name):
        t.get("w", (2,))


@each([3, ("a", "b"), 2.5, b"a"])
def a_scope_is_a_string_or_a_scope(t, name):
    with t.scope(name):
        pass


@twin
def an_exception_leaves_the_scope(t):
    def inside():
        with t.scope("a"), t.scope("b"):
            t.get("w")

    t.attempt(inside)
    t.note(t.current().name)
    t.get("w", (2,))
