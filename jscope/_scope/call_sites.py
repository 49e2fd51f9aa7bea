"""Where in the user's code something was requested, for error messages.

Every look-up of a variable records its call site, so a call site is kept as code objects and
instructions; the line is computed when an error needs it.
"""

import functools
import sys
from types import CodeType, FrameType
from typing import TypeAlias

# Up to five of the user's frames, innermost first, as code and instruction.
Site: TypeAlias = tuple[tuple[CodeType, int], ...]


@functools.lru_cache(maxsize=4096)
def _owner(module: str) -> str:
    return module.partition(".")[0]


def call_site(frames: int = 5) -> Site:
    """The innermost frames of the caller that belong neither to jscope nor to JAX."""
    site: list[tuple[CodeType, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(site) < frames:
        if _owner(frame.f_globals.get("__name__", "")) not in ("jscope", "jax"):
            site.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(site)


def users_line() -> Site | None:
    """The caller's caller, if it belongs neither to jscope nor to JAX."""
    frame = sys._getframe(2)
    if _owner(frame.f_globals.get("__name__", "")) in ("jscope", "jax"):
        return None
    return ((frame.f_code, frame.f_lasti),)


def site_text(site: Site) -> str:
    """A call site as lines, innermost first."""
    lines = [f"  {code.co_filename}:{_line(code, at)}, in {code.co_qualname}" for code, at in site]
    return "\n".join(lines) or "  (unknown)"


def _line(code: CodeType, instruction: int) -> int:
    """The line of an instruction, as ``frame.f_lineno`` finds it."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return next(lines, None) or code.co_firstlineno


def last_site(error: BaseException) -> str:
    """Where in the user's code an error came up, as a line like those of `site_text`."""
    site: Site = ()
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if _owner(frame.f_globals.get("__name__", "")) not in ("jscope", "jax"):
            site = ((frame.f_code, traceback.tb_lasti),)
        traceback = traceback.tb_next
    return site_text(site)


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
    """The innermost transform that traces the caller, such as ``"jax.lax.scan"``.

    ``"a transform"`` if its name isn't known. The outermost function of the innermost run of
    JAX's frames is the one that the user called: `jax.lax.fori_loop` calls `jax.lax.scan`.
    """
    frame: FrameType | None = sys._getframe(1)
    found = None
    inside = False
    while frame is not None:
        owner = _owner(frame.f_globals.get("__name__", ""))
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
    """Whether JAX runs the caller, up to the call that collects its assignments."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = _owner(frame.f_globals.get("__name__", ""))
        if owner == "jax":
            return True
        if owner == "jscope" and frame.f_code.co_qualname in _TAKING:
            break
        frame = frame.f_back
    return False


def elsewhere() -> str:
    """Where the caller runs, if that isn't the trace in which its root scope was made."""
    found = transform_around()
    return f"inside {found}" + ", or in another thread" * (found == _UNKNOWN)


def in_callback() -> bool:
    """Whether the caller runs in `jax.pure_callback`, which no declaration runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_qualname == "pure_callback_impl" and _owner(module) == "jax":
            return True
        frame = frame.f_back
    return False
