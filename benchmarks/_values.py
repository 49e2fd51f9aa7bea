"""Values of jscope's models in the variables of plain JAX and of linen, whose layers name them.

Imports: jscope.
"""

from typing import Any

import jscope as js

_LINEN = {
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_variance": "var",
}


def of_linen(tree: js.VarTree) -> Any:
    """The same values in linen's nested dicts, by linen's names."""
    return js.VarTree({_renamed(name): value for name, value in tree.items()}).to_nested()


def _renamed(name: str) -> str:
    scope, _, last = name.rpartition("/")
    return f"{scope}/{_LINEN.get(last, last)}" if scope else last
