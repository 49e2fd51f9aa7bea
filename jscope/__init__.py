"""Variable scopes for JAX, as paths into an immutable tree.

Start with `Scope`, `declare` and `init`; read `docs/design.md` for the map of the files.

The names resolve on first use (PEP 562), so that the parts that need no JAX don't load it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._selection import Selector as Selector
    from ._selection import drop as drop
    from ._selection import labels as labels
    from ._selection import map_named as map_named
    from ._selection import mask as mask
    from ._selection import partition as partition
    from ._selection import rename as rename
    from ._selection import select as select
    from ._tree import VarTree as VarTree

_HOME = {
    "Selector": "_selection",
    "VarTree": "_tree",
    "drop": "_selection",
    "labels": "_selection",
    "map_named": "_selection",
    "mask": "_selection",
    "partition": "_selection",
    "rename": "_selection",
    "select": "_selection",
}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(importlib.import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(_HOME)
