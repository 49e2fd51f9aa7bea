"""What scopes enter in JAX's name stack, by which profiles and lowered programs name operations.

A **block** is what a ``with scope:`` or one call of a `js.named` function encloses. It enters the
scope's path, by `jax.named_scope`, and restores the stack when it is left. Names are relative to
the scope's **base**, the root scope or the transform's boundary where its usage tracker begins, so
that nothing in the body of a transform depends on what is around it, and equal bodies are traced
once: JAX puts the name of the call before the names in the body.

In one trace and thread the stack has the names of one scope only, and what the user entered by
`jax.named_scope`. A block inside a block of

* a scope around it, or of the scope itself, enters the rest of its path;
* another scope suspends that block's name, and enters its own path from the base;
* a scope of another base enters its path from its own base, behind the other block's names if its
  base began inside that block, as that of ``jax.lax.stop_gradient(scope)`` does, and else in place
  of them.

JAX's stack is one of each thread, and leaving `jax.named_scope` sets it to what it was on entering,
whatever has happened to it since. So each thread has a list of its blocks. A block that is left
while the stack is not as it was entered, because another generator entered something, in another
trace, or in another thread, changes nothing: it is marked, and its name is taken from the stack
when it is on top again, at the latest when the next block is entered. The stack of a trace ends
with the trace, by JAX.

Outside of any trace nothing is entered, since nothing would come of it: an operation by itself is a
program without names, and JAX begins each trace with an empty stack.

Nothing here can change a result. Whether the stack is as it was is known from what
`jax.named_scope` gives on entering, which is compared with ``==`` and else not looked at. (JAX
documents that it gives None; if it does, blocks that are left out of order are not noticed.)
"""

import functools
import itertools
import threading
from contextlib import AbstractContextManager

import jax

from .transforms import trace_state

# If there are more, blocks are forgotten: those that were left, and may never be on top of the
# stack again; and those of other traces, which have most probably ended, that were not left.
_MOST_LEFT, _MOST = 16, 256


clock = itertools.count(1).__next__  # the times of this process, each once


class Base:
    """A root scope, or a scope at a boundary, to which the names of operations are relative.

    Attributes:
        began: When, by `clock`.
        blocks: What is entered by ``with``, by the scope's path from here.
    """

    began: int
    blocks: "dict[str, list[Block]] | None" = None


class Block:
    """What was entered in JAX's name stack of one scope.

    Attributes:
        base: Where its path begins; None if it entered no name.
        path: The scope's path from there.
        trace: The trace in which it was entered.
        time: When it was entered, by `clock`.
        left: When it was left, though its name may still be on the stack; or None.
        manager: Leaving it sets JAX's stack to what it was before the block.
        stack: JAX's stack in the block, as `_stack` gives it, if it is one of ``with``, which may
            be left out of order.
        thread: The thread in which it was entered, likewise.
    """

    __slots__ = ("base", "left", "manager", "path", "stack", "thread", "time", "trace")

    manager: AbstractContextManager[object]
    stack: object
    thread: int

    def __init__(self, base: Base | None, path: str, trace: object):
        self.base = base
        self.path = path
        self.trace = trace
        self.time = clock()
        self.left: int | None = None


class _Thread(threading.local):
    def __init__(self) -> None:
        self.blocks: list[Block] = []  # innermost last


_here = _Thread()


@functools.cache
def _outside_traces() -> object:
    """The trace state outside of any trace, where operations have no names; threads begin there."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(trace_state()))
    thread.start()
    thread.join()
    return found[0]


def enter_call(base: Base, path: str, function: str) -> Block | None:
    """Enter the rest of a scope's path in the name stack; at the base, a function's name.

    Returns:
        What `leave_call` takes; None if there was nothing to enter.
    """
    trace = trace_state()
    if trace == _outside_traces():
        return None
    outer, suspended = _surroundings(_here.blocks, base, path, trace)
    name = (path or function) if outer is None else _rest(path, outer)
    if not name and suspended is None:
        return None
    block = Block(base, path, trace)
    _enter(block, name, suspended)
    return block


def leave_call(block: Block) -> None:
    """Restore the name stack of before a call, whatever is left of blocks that began in it."""
    block.manager.__exit__(None, None, None)
    blocks = _here.blocks
    if blocks and blocks[-1] is block:
        blocks.pop()
    elif block in blocks:
        del blocks[blocks.index(block) :]


def enter_with(base: Base, path: str) -> None:
    """Enter a scope's path in the name stack, at the beginning of ``with scope:``."""
    trace = trace_state()
    block = Block(base if path else None, path, trace)
    block.thread = threading.get_ident()
    if trace != _outside_traces():
        outer, suspended = _surroundings(_here.blocks, base, path, trace)
        _enter(block, path if outer is None else _rest(path, outer), suspended)
        block.stack = _stack()
        if len(_here.blocks) > _MOST:
            _here.blocks[:] = [each for each in _here.blocks if each.trace == trace]
    if base.blocks is None:
        base.blocks = {}
    base.blocks.setdefault(path, []).append(block)


def leave_with(base: Base, path: str) -> None:
    """Leave, in the name stack, the ``with scope:`` entered last, if possible in this thread."""
    blocks = None if base.blocks is None else base.blocks.get(path)
    if not blocks:
        return
    thread, trace = threading.get_ident(), trace_state()
    block = max(blocks, key=lambda b: (b.thread == thread, b.trace == trace, b.time))
    blocks.remove(block)
    block.left = clock()
    _settle(_here.blocks, trace)


def _surroundings(
    blocks: list[Block], base: Base, path: str, trace: object
) -> tuple[str | None, Block | None]:
    """The blocks in the name stack that are around a new one.

    Returns:
        The path, from the same base, of the innermost block that contains it; and the outermost
        block inside of that one, which doesn't.
    """
    if blocks and blocks[-1].left is not None:
        _settle(blocks, trace)
    suspended = elsewhere = None
    for block in reversed(blocks):
        if block.trace != trace:  # one around this one, whose stack is not to be changed here
            elsewhere = elsewhere or (block if block.left is None else None)
        elif block.left is None:
            if block.base is base and _is_in(path, block.path):
                return block.path, suspended
            if block.base is not base and block.time < base.began:
                return None, suspended
            suspended = block
        elif suspended is not None and suspended.time < block.left:  # it is under that one
            suspended = block
    if elsewhere is not None and elsewhere.base is base and _is_in(path, elsewhere.path):
        return elsewhere.path, suspended
    return None, suspended


def _is_in(path: str, outer: str) -> bool:
    """Whether a scope's path, in the name stack, is that of another block's scope, or below."""
    return not outer or path == outer or path.startswith(outer + "/")


def _rest(path: str, outer: str) -> str:
    """The rest of a scope's path, in the block of a scope around it."""
    return path[len(outer) :].removeprefix("/")


def _enter(block: Block, name: str, suspended: Block | None) -> None:
    """Enter a name in JAX's name stack, in place of the suspended block's."""
    manager = block.manager = jax.named_scope(name)
    manager.__enter__()
    if suspended is not None or not name:
        (suspended or block).manager.__exit__(None, None, None)
        if name:
            jax.named_scope(name).__enter__()
    _here.blocks.append(block)


def _stack() -> object:
    """JAX's stack of names, to be compared with ``==``."""
    with jax.named_scope("") as stack:
        return stack


def _settle(blocks: list[Block], trace: object) -> None:
    """Take the names of blocks that were left from the stack, where they are on top of it."""
    for block in reversed(blocks.copy()):
        if block.trace == trace:
            if block.left is None:
                break
            if block.stack == _stack():
                block.manager.__exit__(None, None, None)
                blocks.remove(block)
    left = [block for block in blocks if block.left is not None]
    for block in left[:-_MOST_LEFT]:
        blocks.remove(block)
