"""What only owners of TensorFlow 1 programs need: TF1's own forms, by TF1's names.

`docs/from_tf1.md` is the guide. The members resolve on first use (PEP 562), so that each loads
only what it needs.
"""

import importlib
from typing import TYPE_CHECKING

from .._names.tf1 import no_attribute

if TYPE_CHECKING:
    from . import contrib as contrib
    from . import layers as layers
    from . import train as train
    from ._arg_scope import add_arg_scope as add_arg_scope
    from ._arg_scope import arg_scope as arg_scope
    from ._arg_scope import has_arg_scope as has_arg_scope
    from ._initializer import initializer as initializer
    from ._warm_start import VocabInfo as VocabInfo
    from ._warm_start import assign_from_checkpoint_fn as assign_from_checkpoint_fn
    from ._warm_start import warm_start as warm_start

_HOME: dict[str, str] = {
    "_arg_scope": "add_arg_scope arg_scope has_arg_scope",
    "_initializer": "initializer",
    "_warm_start": "VocabInfo assign_from_checkpoint_fn warm_start",
}
_MODULES = ("contrib", "layers", "train")
_HOME_OF = {name: home for home, names in _HOME.items() for name in names.split()}

__all__ = [*_HOME_OF, *_MODULES]


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        if name not in _HOME_OF:
            raise no_attribute(__name__, name, __all__)
        module = importlib.import_module(f".{_HOME_OF[name]}", __name__)
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
