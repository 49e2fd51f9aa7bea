"""Other libraries' variables beside jscope's, one file for each library.

The modules resolve on first use (PEP 562), so that each loads only its own library.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import flax as flax
    from . import safetensors as safetensors
    from . import tensorflow as tensorflow

_MODULES = ("flax", "safetensors", "tensorflow")

if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        raise importlib.import_module("jscope._names.tf1").no_attribute(__name__, name, _MODULES)


def __dir__() -> list[str]:
    return sorted(_MODULES)
