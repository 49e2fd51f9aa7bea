r"""Variable names: how they are spelled.

A name is a path such as ``"encoder/layer_0/kernel"``: components joined by ``/``.
Everything else in jscope treats names as opaque strings; this file alone knows how they
are spelled.

Facts that hold for every name that `check` accepts, and that other files rely on:

* **Join is injective.** ``/`` never occurs inside a component, so two different tuples
  of components never give the same string.
* **No aliases.** No component is empty, ``.`` or ``..``; there is no leading or trailing
  ``/``; names are case-sensitive.
* **A scope is a run.** In string order, the names below ``"a/"`` stand together, and
  cutting the prefix off keeps their order.
* **Names are TensorFlow's.** The alphabet is that of TF1 scope names,
  ``[A-Za-z0-9_.\-/]``; the first character of a whole name is one of ``[A-Za-z0-9.]``.

A name may be relative to some scope, and a relative name may begin with ``_`` or ``-``
(TF1: ``a/_x`` is legal, ``_x`` at the root is not). `check` accepts relative names;
`check_root` also holds the first character of a whole name to TF1's rule.

Source: ``tf.Graph.name_scope``, TensorFlow 1.15, ``python/framework/ops.py``. Differences:
TF accepts ``a//w``, ``a/`` and, at the root, an empty name by accident; here they are errors.
"""

import functools
import re
import string
from collections.abc import Iterable, Iterator

from .._errors import VariableNameError

DEBIASING = ("biased", "local_step")  # kept below a moving average's name with `zero_debias`, as TF
CHARACTERS = string.ascii_letters + string.digits + "_.-"  # of a component

_COMPONENT = re.compile(r"[A-Za-z0-9_.\-]+")
_ILLEGAL = re.compile(r"[^A-Za-z0-9_.\-/]")
_ALPHABET = "letters, digits, '_', '.', '-' and '/' between components"


def check(name: str) -> str:
    """Return ``name``, which may be relative to a scope, or raise.

    Raises:
        VariableNameError: If it is not a string; is empty; has an empty, ``.`` or ``..``
            component, or a leading or trailing ``/``; or has a character outside the
            alphabet (the message shows the character and its position).
    """
    # Not cached as a whole: a value that is not a string need not be hashable.
    if not isinstance(name, str):
        raise VariableNameError(
            f"A variable name must be a string, got {name!r} of type {type(name).__name__}."
        )
    return checked(name)


def check_root(name: str) -> str:
    """Return ``name``, counted from the root, or raise.

    Raises:
        VariableNameError: As `check`, and if the first character is ``_`` or ``-``.
    """
    check(name)
    if name[0] in "_-":
        raise VariableNameError(
            f"{name!r} is not a legal name at the root: it begins with {name[0]!r}. TF1 wants a "
            f"letter, a digit or '.' there; inside a scope {name!r} is legal."
        )
    return name


def join(*parts: str) -> str:
    """Join scope names and a name with ``/``; empty scope names (the root) are left out.

    >>> join("", "encoder", "layer_0/kernel")
    'encoder/layer_0/kernel'
    """
    return check("/".join(part for part in parts if part))


def below(scope: str, name: str) -> str:
    """`join` of a scope's name and a relative one that were checked, at a third of the cost.

    >>> below("encoder", "w"), below("", "w")
    ('encoder/w', 'w')
    """
    return f"{scope}/{name}" if scope else name


def inside(scope: str, names: Iterable[str]) -> Iterator[str]:
    """The names below a scope, relative to it.

    >>> list(inside("a", ["a/w", "a_1/w", "a/b/w"]))
    ['w', 'b/w']
    """
    start = f"{scope}/" if scope else ""
    return (name[len(start) :] for name in names if name.startswith(start))


def split(name: str) -> tuple[str, ...]:
    """The components of a name.

    >>> split("encoder/layer_0/kernel")
    ('encoder', 'layer_0', 'kernel')
    """
    return tuple(check(name).split("/"))


@functools.lru_cache(maxsize=1 << 16)
def checked(name: str) -> str:
    """Return the legal ``name`` as a plain string, or raise."""
    for component in name.split("/"):
        if not _COMPONENT.fullmatch(component) or component in (".", ".."):
            raise VariableNameError(_what_is_wrong(name))
    # A plain string also of a subclass, such as numpy.str_ or a member of an enum, which
    # would show in messages and travel in pickles.
    return str.__str__(name)


def outward(name: str, relative: str) -> Iterator[str]:
    """Where ``relative`` may be, seen from a variable: in its scope, then in each around it.

    >>> list(outward("encoder/layer_0/average", "w"))
    ['encoder/layer_0/w', 'encoder/w', 'w']
    """
    scope = name
    while scope:
        scope = scope.rpartition("/")[0]
        yield join(scope, relative)


def _what_is_wrong(name: str) -> str:
    """Why a name is not legal, for the error."""
    if not name.strip("/"):
        return f"A variable name can't be empty, got {name!r}."
    illegal = _ILLEGAL.search(name)
    if illegal:
        variable = name.removesuffix(":0")
        is_tensor = variable != name and not _ILLEGAL.search(variable)
        return (
            f"{name!r} is not a legal name: character {illegal.group()!r} at position "
            f"{illegal.start()} is outside TF1's alphabet ({_ALPHABET})."
            + f" TF1 calls a variable's tensor so: write {variable!r}."
            * is_tensor
        )
    repaired = re.sub("/+", "/", name.strip("/"))
    if name.startswith("/") or name.endswith("/"):
        end = "leading" if name.startswith("/") else "trailing"
        return f"{name!r} is not a legal name: it has a {end} '/'. Write {repaired!r}."
    if "//" in name:
        return (
            f"{name!r} is not a legal name: the component at position {name.index('//') + 1} "
            f"is empty. Write {repaired!r}."
        )
    dots = next(part for part in name.split("/") if part in (".", ".."))
    return f"{name!r} is not a legal name: {dots!r} can't be a component, names are not file paths."
