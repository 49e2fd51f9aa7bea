"""Where in the user's code something was requested, for error messages.

Every look-up of a variable records its call site, so a call site is kept as code objects and
instructions; the line is computed when an error needs it.
"""

import functools
import sys
import warnings
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TypeAlias

# Up to five of the user's frames, innermost first, as code and instruction.
Site: TypeAlias = tuple[tuple[CodeType, int], ...]


@functools.lru_cache(maxsize=4096)
def package_of(module: str) -> str:
    """The package that a frame's module belongs to, such as ``"jax"``."""
    return module.partition(".")[0]


def call_site(frames: int = 5) -> Site:
    """The call site of the caller: the innermost frames that are neither jscope's nor JAX's."""
    site: list[tuple[CodeType, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(site) < frames:
        if package_of(frame.f_globals.get("__name__", "")) not in ("jscope", "jax"):
            site.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(site)


def users_line() -> Site | None:
    """The call site of the caller's caller alone, if that is neither in jscope nor in JAX."""
    frame = sys._getframe(2)
    if package_of(frame.f_globals.get("__name__", "")) in ("jscope", "jax"):
        return None
    return ((frame.f_code, frame.f_lasti),)


def names_in_caller(is_it: Callable[[object], bool]) -> frozenset[str]:
    """The Python names by which the caller's caller has a value."""
    return frozenset(name for name, value in sys._getframe(2).f_locals.items() if is_it(value))


def warn_at(site: Site, text: str, category: type[Warning]) -> None:
    """Warn at a call site's innermost line."""
    code, at = site[0]
    warnings.warn_explicit(text, category, code.co_filename, _line(code, at))


def site_text(site: Site) -> str:
    """A call site as lines of text, innermost first."""
    lines = [f"  {code.co_filename}:{_line(code, at)}, in {code.co_qualname}" for code, at in site]
    return "\n".join(lines) or "  (unknown)"


def _line(code: CodeType, instruction: int) -> int:
    """The line number of an instruction in a call site, as ``frame.f_lineno`` finds it."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return next(lines, None) or code.co_firstlineno


def last_site(error: BaseException) -> str:
    """The call site in the user's code of an error, as a line like those of `site_text`."""
    site: Site = ()
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if package_of(frame.f_globals.get("__name__", "")) not in ("jscope", "jax"):
            site = ((frame.f_code, traceback.tb_lasti),)
        traceback = traceback.tb_next
    return site_text(site)
