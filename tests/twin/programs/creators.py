"""``variable_creator_scope``: what is called for each variable that is created, but not shared.

Bound, creators are not called, so the programs show them by what they do to variables.
"""

from . import twin


def said(trainable):
    """A creator that decides whether variables are trainable."""

    def creator(next_creator, **kwargs):
        return next_creator(**{**kwargs, "trainable": trainable})

    return creator


@twin
def a_creator_that_changes_trainability(t):
    t.get("w", (2,))
    with t.creator(said(False)):
        t.get("v", (2,))
        with t.scope("a"):
            t.get("w", (2,))
    t.get("u", (2,))


@twin
def the_creator_entered_last_is_called_first(t):
    with t.creator(said(True)), t.creator(said(False)):
        t.get("w", (2,))
    with t.creator(said(False)), t.creator(said(True)):
        t.get("v", (2,))


@twin
def a_creator_is_not_asked_when_sharing(t):
    calls = []

    def by_turns(next_creator, **kwargs):
        calls.append(kwargs["name"])
        return next_creator(**{**kwargs, "trainable": len(calls) % 2 == 1})

    with t.creator(by_turns), t.scope("a", reuse=t.AUTO):
        for name in ("w", "w", "v", "w", "u"):
            t.get(name, (2,))


@twin
def a_creator_sees_the_whole_name(t):
    def by_name(next_creator, **kwargs):
        return next_creator(**{**kwargs, "trainable": kwargs["name"] == "a/b/w"})

    with t.creator(by_name), t.scope("a"), t.scope("b"):
        t.get("w", (2,))
        t.get("v", (2,))


@twin
def a_creator_below_a_getter(t):
    def two(getter, name, *args, **kwargs):
        return getter(f"{name}/0", *args, **kwargs) + getter(f"{name}/1", *args, **kwargs)

    with t.creator(said(False)), t.scope("a", custom_getter=two):
        t.get("w", (2,))
