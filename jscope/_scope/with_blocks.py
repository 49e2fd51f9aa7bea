"""Blocks of ``with scope:`` in a model that is declared, and what is created in them elsewhere.

    with scope.variable_scope("encoder"):
        w = scope.get_variable("w", (3, 2))

creates ``w``, where TF1 creates ``encoder/w``: there is no current scope, and ``with`` only names
operations. The program is legal, so it gets a warning, and only if these facts are together:

* the scope was opened by `Scope.variable_scope` with a name, and entered by the user's ``with``;
* nothing was done with it, neither before nor in the block; to read its name would be something;
* while the block was the innermost one of its thread and trace, a variable was created through
  the very scope that it was opened from, or through one that `Scope.variable_scope` opened from
  that in the block, as a layer without a name does.

So nothing is said of scopes that were kept from elsewhere, of variables that exist already when
they are requested, and of scopes by ``/``: such a block may be there for the names alone.
"""

import threading
from dataclasses import dataclass, field

from .._errors import listed
from .call_sites import Site, site_text
from .transforms import trace_state


@dataclass(slots=True, eq=False)
class WithBlock:
    """A block that is open.

    Attributes:
        context: That of its scope.
        path: The whole path of its scope.
        outer: The context of the scope that its scope was opened from; None if it may stay unused.
        site: The line that entered it.
        created: The variables that were created beside it: whole names, and where.
    """

    context: object
    path: str
    outer: object
    site: Site
    created: dict[str, Site] = field(default_factory=dict)
    trace: object = field(default_factory=trace_state)
    thread: int = field(default_factory=threading.get_ident)


class WithBlocks:
    """The blocks that are open in one run of a model, in all its threads.

    Attributes:
        open: The blocks, innermost last.
    """

    __slots__ = ("_warned", "open")

    def __init__(self) -> None:
        self.open: list[WithBlock] = []
        self._warned: set[Site] = set()

    def enter(self, context: object, path: str, outer: object, site: Site) -> None:
        """Open a block."""
        self.open.append(WithBlock(context, path, outer, site))

    def beside(self, context: object) -> WithBlock | None:
        """The innermost block here, if its scope was opened from the scope of this context."""
        if context is None or not any(block.outer is context for block in self.open):
            return None
        trace, thread = trace_state(), threading.get_ident()
        here = (b for b in reversed(self.open) if b.trace == trace and b.thread == thread)
        block = next(here, None)
        return block if block is not None and block.outer is context else None

    def leave(self, context: object) -> WithBlock | None:
        """Close the block of this scope that was opened last."""
        block = next((b for b in reversed(self.open) if b.context is context), None)
        if block is not None:
            self.open.remove(block)
        return block

    def warning(self, block: WithBlock) -> str | None:
        """What to say of a block whose scope was not used; once for each line of a program."""
        if not block.created or block.site in self._warned:
            return None
        self._warned.add(block.site)
        return _text(block)


def _text(block: WithBlock) -> str:
    outer: str = block.outer.path  # type: ignore[attr-defined]
    name = block.path[len(outer) + 1 :] if outer else block.path
    last = name.rpartition("/")[2]
    variable = last if last.isidentifier() else "inner"
    return (
        f"The scope {block.path!r} was entered by `with` and not used, and in its block variables "
        f"were created beside it: {listed(block.created, most=3)}. There is no current scope: the "
        "one whose method is called, or that is passed, decides. Write "
        f"`with scope.variable_scope({name!r}) as {variable}`, and in the block {variable} instead "
        f"of scope, as in {variable}.get_variable(name, shape). If the block is there to name "
        f"operations alone, write jax.named_scope({name!r})."
        f"\nEntered at:\n{site_text(block.site)}\nThe first was created at:\n"
        f"{site_text(next(iter(block.created.values())))}"
    )
