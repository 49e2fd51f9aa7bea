"""In which trace, and inside which transform, the caller runs.

Trace states are opaque, are compared with ``==`` and hold weak references only. Which transform
it is, JAX doesn't say: it is read from the call stack, for error messages.
"""

import functools
import sys
from collections.abc import Callable
from types import FrameType

from jax.extend.core import get_opaque_trace_state

from .call_sites import package_of

# The present trace: that of the innermost transform; opaque, to be compared with ``==``. Not a
# function of Python's, which each request would call once more.
trace_state: Callable[[], object] = functools.partial(get_opaque_trace_state, convention="jscope")


# JAX's functions as they appear on the stack while they trace a user's function. If JAX
# renames one, a message lacks the transform's name.
_TRANSFORMS = {
    "associative_scan": "jax.lax.associative_scan",
    "checkpoint.<locals>.fun_remat": "jax.checkpoint",
    "cond": "jax.lax.cond",
    "custom_jvp.__call__": "jax.custom_jvp",
    "custom_vjp.__call__": "jax.custom_vjp",
    "_cpp_pjit.<locals>.cache_miss": "jax.jit",
    "fori_loop": "jax.lax.fori_loop",
    "grad.<locals>.grad_f": "jax.grad",
    "jacfwd.<locals>.jacfun": "jax.jacfwd",
    "jacrev.<locals>.jacfun": "jax.jacrev",
    "jvp": "jax.jvp",
    "linearize": "jax.linearize",
    "map": "jax.lax.map",
    "_shard_map.<locals>.wrapped": "jax.shard_map",
    "scan": "jax.lax.scan",
    "switch": "jax.lax.switch",
    "value_and_grad.<locals>.value_and_grad_f": "jax.value_and_grad",
    "vjp": "jax.vjp",
    "vmap.<locals>.vmap_f": "jax.vmap",
    "while_loop": "jax.lax.while_loop",
}

_UNKNOWN = "a transform"


def transform_around() -> str:
    """The innermost transform that traces the caller, such as ``"jax.lax.scan"``, for errors.

    ``"a transform"`` if its name isn't known. The outermost function of the innermost run of
    JAX's frames is the one that the user called: `jax.lax.fori_loop` calls `jax.lax.scan`.
    """
    frame: FrameType | None = sys._getframe(1)
    found = None
    inside = False
    while frame is not None:
        owner = package_of(frame.f_globals.get("__name__", ""))
        if owner == "jax":
            inside = True
            found = _TRANSFORMS.get(frame.f_code.co_qualname, found)
        elif inside and owner != "jscope":
            break
        frame = frame.f_back
    return found or _UNKNOWN


# The functions of jscope that call a model and take what it assigns.
_TAKING = frozenset(
    {
        "declare.<locals>.declared.<locals>.run",
        "init.<locals>.initialized_inline",
        "with_updates.<locals>.applied",
    }
)


def in_transform() -> bool:
    """Whether a JAX transform traces the caller, inside the call that collects its assignments."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = package_of(frame.f_globals.get("__name__", ""))
        if owner == "jax":
            return True
        if owner == "jscope" and frame.f_code.co_qualname in _TAKING:
            break
        frame = frame.f_back
    return False


def transform_or_thread() -> str:
    """In which transform, or thread, the caller runs, if not in the trace of its root scope."""
    found = transform_around()
    return f"inside {found}" + ", or in another thread" * (found == _UNKNOWN)


def in_callback() -> bool:
    """Whether the caller runs outside the trace, in `jax.pure_callback`, as no declaration does."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_qualname == "pure_callback_impl" and package_of(module) == "jax":
            return True
        frame = frame.f_back
    return False
