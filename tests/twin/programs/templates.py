"""``make_template``: a name bound to a function, so that later calls share."""

from . import twin


def dense(t, scale=1.0):
    return t.get("w", (2,)) * scale


@twin
def a_template_called_twice(t):
    layer = t.template("layer", dense)
    layer()
    layer(scale=2.0)


@twin
def two_templates_of_one_name(t):
    for _ in range(2):
        layer = t.template("layer", dense)
        layer()
        layer()


@twin
def a_template_called_in_scopes(t):
    layer = t.template("layer", dense)
    with t.scope("a"):
        layer()
    with t.scope("b"):
        layer()


@twin
def a_template_whose_scope_is_made_at_once(t):
    with t.scope("a"):
        layer = t.template("layer", dense, create_scope_now_=True)
    with t.scope("b"):
        layer()
        layer()


@twin
def a_template_with_a_name_of_its_own(t):
    layer = t.template("layer", dense, unique_name_="own")
    layer()
    layer()


@twin
def two_templates_with_one_name_of_their_own(t):
    t.template("layer", dense, unique_name_="own")()
    t.template("layer", dense, unique_name_="own")()


@twin
def a_template_with_scopes_inside(t):
    def net(t):
        for _ in range(2):
            with t.scope(None, "inner"):
                t.get("w", (2,))
        with t.scope("named"):
            t.get("w", (2,))

    layer = t.template("net", net)
    layer()
    layer()


@twin
def a_template_in_a_template(t):
    inner = t.template("inner", dense)

    def net(t):
        inner()
        t.get("v", (2,))

    outer = t.template("outer", net)
    outer()
    outer()
    inner()


@twin
def a_template_that_makes_another_variable_later(t):
    calls = []

    def growing(t):
        calls.append(1)
        t.get(f"w{len(calls)}", (2,))

    layer = t.template("layer", growing)
    layer()
    t.attempt(layer)


@twin
def a_template_with_arguments_bound(t):
    def sized(t, size):
        t.get("w", (size,))

    layer = t.template("layer", sized, size=3)
    layer()
    layer()


@twin
def a_template_with_a_getter(t):
    def doubled(getter, name, *args, **kwargs):
        return getter(name, *args, **kwargs) * 2.0

    layer = t.template("layer", dense, custom_getter_=doubled)
    layer()
    layer()


@twin
def a_template_beside_scopes_of_its_name(t):
    with t.scope("layer"):
        t.get("w", (2,))
    layer = t.template("layer", dense)
    layer()
    layer()
    with t.scope(None, "layer") as s:
        t.note(s.name)


@twin
def a_template_keeps_the_defaults_of_its_first_scope(t):
    layer = t.template("layer", dense)
    with t.scope("a", initializer=t.ones, regularizer=t.l2(1.0)):
        layer()
    layer()


@twin
def a_template_without_a_name(t):
    t.template(None, dense)


@twin
def a_template_of_an_empty_call(t):
    layer = t.template("layer", lambda t: None)
    layer()
    layer()
    with t.scope(None, "layer") as s:
        t.note(s.name)
