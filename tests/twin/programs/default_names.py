"""Scopes with a default name, made unique by counting."""

from . import each, twin


def opened(t, *steps):
    """Open scopes one after the other: "d" by name, "~d" by default name; note their names."""
    for step in steps:
        with t.scope(None, step[1:]) if step.startswith("~") else t.scope(step) as s:
            t.note(s.name)


@twin
def the_first_has_no_number(t):
    opened(t, "~d", "~d", "~d")


@twin
def explicit_opens_count_too(t):
    opened(t, "d", "~d", "~d", "d", "~d", "d_1", "~d")


@twin
def numbered_names_are_taken_one_by_one(t):
    opened(t, "d_1", "d_2", "~d", "~d", "~d")


@twin
def each_name_counts_for_itself(t):
    opened(t, "~a", "~b", "~a", "~b", "~c")


@twin
def a_default_name_of_two_components(t):
    opened(t, "~a/b", "~a/b", "~a", "~a/b")


@twin
def a_default_name_of_two_components_goes_on_inside(t):
    opened(t, "~a/b", "~a/b")
    with t.scope("a"):
        opened(t, "~b", "~b")
    opened(t, "~a/b")


@twin
def a_default_name_that_ends_in_a_number(t):
    opened(t, "~d_1", "~d_1", "~d", "~d", "~d")


@twin
def variables_in_scopes_of_default_names(t):
    for _ in range(3):
        with t.scope(None, "layer"):
            t.get("w", (2,))


@twin
def counting_begins_anew_in_each_scope(t):
    with t.scope("a"):
        opened(t, "~d", "~d")
    with t.scope("b"):
        opened(t, "~d", "~d")


@twin
def counting_begins_anew_when_a_string_scope_is_entered_again(t):
    for reuse in (False, True):
        with t.scope("o", reuse=reuse):
            for _ in range(2):
                with t.scope(None, "d") as d:
                    t.note(d.name)
                    t.get("w", (2,))


@twin
def counting_at_the_root_never_begins_anew(t):
    with t.scope(None, "d"):
        t.get("w", (2,))
    with t.scope(t.current(), reuse=True), t.scope(None, "d") as d:
        t.note(d.name)
        t.attempt(lambda: t.get("w", (2,)))


@twin
def an_object_entered_again_begins_anew(t):
    with t.scope("o") as o:
        opened(t, "~d", "~d")
    with t.scope(o):
        opened(t, "~d", "~d")
    with t.scope(o):
        opened(t, "~d")


@twin
def what_is_opened_in_an_object_is_forgotten(t):
    with t.scope("o") as o:
        opened(t, "~d")
        with t.scope(o):
            opened(t, "~d", "~d")
        opened(t, "~d", "~d")


@twin
def an_object_entered_from_below_goes_on_counting(t):
    with t.scope("o") as o:
        opened(t, "~d")
        with t.scope("x"):
            with t.scope(o):
                opened(t, "~d")
            opened(t, "~d")
        opened(t, "~d")


@twin
def the_root_entered_from_below_goes_on_counting(t):
    root = t.current()
    opened(t, "~d")
    with t.scope("x"):
        opened(t, "~d")
        with t.scope(root):
            opened(t, "~d", "~d")
    opened(t, "~d")


@twin
def reuse_of_an_object_finds_default_names(t):
    with t.scope("o") as o, t.scope(None, "d"):
        t.get("w", (2,))
    with t.scope(o, reuse=True), t.scope(None, "d") as d:
        t.note(d.name)
        t.get("w", (2,))


@twin
def default_names_below_default_names(t):
    for _ in range(2):
        with t.scope(None, "a"):
            for _ in range(2):
                with t.scope(None, "b"):
                    t.get("w", (2,))


@twin
def siblings_with_equal_beginnings(t):
    with t.scope("tower"):
        opened(t, "~d", "~dd", "~d_", "~d")
    with t.scope("tower1"):
        opened(t, "~d")
    with t.scope("tower"):
        opened(t, "~d")


@twin
def a_scope_left_by_an_exception_counts(t):
    def inside():
        with t.scope(None, "d"):
            t.get("w", (2,))
            t.get("w", (2,))

    t.attempt(inside)
    opened(t, "~d")
    with t.scope("o"):
        t.attempt(inside)
        opened(t, "~d")
    with t.scope("o"):
        opened(t, "~d")


@each([True, False, None, "auto"])
def reuse_with_a_default_name_only(t, reuse):
    with t.scope(None, "d", reuse=t.AUTO if reuse == "auto" else reuse) as s:
        t.note(s.name, s.reuse)
        t.get("w", (2,))


@twin
def inherited_reuse_with_a_default_name(t):
    for reuse in (False, True):
        with t.scope("a", reuse=reuse), t.scope(None, "d") as d:
            t.note(d.reuse)
            t.get("w", (2,))


@twin
def inherited_auto_reuse_with_a_default_name(t):
    for _ in range(2):
        with t.scope("a", reuse=t.AUTO), t.scope(None, "d") as d:
            t.note(d.name, d.reuse)
            t.get("w", (2,))


@twin
def neither_a_name_nor_a_default_name(t):
    with t.scope(None):
        pass


@twin
def a_name_and_a_default_name(t):
    with t.scope("a", "d") as s:
        t.note(s.name)
    opened(t, "~d", "~a")


@twin
def a_failed_default_name_does_not_count(t):
    def inside():
        with t.scope(None, "d", reuse=True):
            pass

    t.attempt(inside)
    opened(t, "~d")


@twin
def defaults_of_a_scope_with_a_default_name(t):
    for value in (1.0, 2.0):
        with t.scope(None, "d", initializer=t.constant(value), dtype="float16"):
            t.get("w", (2,))


@twin
def default_names_and_numbers_that_are_strings(t):
    opened(t, "d_01", "~d", "~d_01", "~d", "~d")


@twin
def many_of_one_name(t):
    opened(t, *["~layer"] * 12)


@twin
def default_names_count_scopes_not_variables(t):
    t.get("d", (2,))
    t.get("e/w", (2,))
    opened(t, "~d", "~e", "~d")


@twin
def the_counter_of_a_scope_s_own_name(t):
    with t.scope(None, "d"):
        opened(t, "~d", "d", "~d")
    opened(t, "~d")
