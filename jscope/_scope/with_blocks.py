"""Blocks of ``with scope:`` in a model that is declared, and two mistakes that show in them.

    with scope.variable_scope("encoder"):
        w = scope.get_variable("w", (3, 2))

creates ``w``, where TF1 creates ``encoder/w``: there is no current scope, and ``with`` only names
operations. The program is legal, so it gets a warning, and only if these facts come together:

* the scope was opened by `Scope.variable_scope` with a name, and entered by the user's ``with``;
* nothing was done with it, neither before nor in the block; to read its name would be something;
* while the block was the innermost one of its thread and trace, a variable was created through
  the very scope that it was opened from, or through one that `Scope.variable_scope` opened from
  that in the block, as a layer without a name does.

The second mistake is to go on with the inner scope after its block, which

    with scope.variable_scope("encoder") as scope:
        ...
    w = scope.get_variable("w", (3, 2))

does: it creates ``encoder/w``, where TF1 creates ``w``. It is noticed if the function has the inner
scope, when the block is left, by no other Python name than it had the outer one by when the block
was entered; and a variable is created after that through the inner scope, or through one that is
made from it after that.

So nothing is said of scopes that were kept from elsewhere, of variables that exist already when
they are requested, and of scopes by ``/``: such a block may be there for the names alone.
"""

import threading
from dataclasses import dataclass, field

from .._errors import ScopeWarning, listed
from .call_sites import Site, site_text, warn_at
from .transforms import trace_state


@dataclass(slots=True, eq=False)
class WithBlock:
    """A block that is open.

    Attributes:
        context: That of its scope.
        path: The whole path of its scope.
        outer: The context of the scope that its scope was opened from; None if it may stay unused.
        site: The line that entered it.
        names: The Python names of the scope that its scope was opened from, where it was entered;
            after the block, those of them that are its own scope's.
        created: The variables that were created beside it: whole names, and where.
    """

    context: object
    path: str
    outer: object
    site: Site
    names: frozenset[str]
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

    def enter(
        self, context: object, path: str, outer: object, site: Site, names: frozenset[str]
    ) -> None:
        """Open a block."""
        self.open.append(WithBlock(context, path, outer, site, names))

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
        return _unused(block)

    def created_after(self, block: WithBlock, name: str, site: Site) -> None:
        """Warn of a variable that is created through the scope of a block that was left."""
        if block.site not in self._warned:
            self._warned.add(block.site)
            warn_at(site, _rebound(block, name, site), ScopeWarning)


def _names(block: WithBlock) -> tuple[str, str]:
    """The name of a block's scope in the scope around it; and a Python name for it."""
    outer: str = block.outer.path  # type: ignore[attr-defined]
    name = block.path[len(outer) + 1 :] if outer else block.path
    last = name.rpartition("/")[2]
    is_free = last.isidentifier() and last not in block.names
    return name, last if is_free else "inner"


def _rebound(block: WithBlock, created: str, site: Site) -> str:
    name, variable = _names(block)
    python = min(block.names)
    return (
        f"Variable {created!r} was created in the scope {block.path!r} after its block, since the "
        f"Python name {python} still refers to that scope. Write "
        f"`with {python}.variable_scope({name!r}) as {variable}`, and {variable} in the block. To "
        f"go on in the scope, write {variable} = {python} / {name!r} without a block."
        f"\nEntered at:\n{site_text(block.site)}\nCreated at:\n{site_text(site)}"
    )


def _unused(block: WithBlock) -> str:
    name, variable = _names(block)
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
