"""Variable scopes for JAX, as paths into an immutable tree.

Start with `Scope`, `declare` and `init`; read `docs/design.md` for the map of the files.

The names resolve on first use (PEP 562), so that the parts that need no JAX don't load it.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import constraints as constraints
    from . import initializers as initializers
    from . import layers as layers
    from . import regularizers as regularizers
    from . import sharding as sharding
    from ._collections import GraphKeys as GraphKeys
    from ._declaration import Declaration as Declaration
    from ._declare import declare as declare
    from ._declare import init as init
    from ._effects import with_records as with_records
    from ._effects import with_updates as with_updates
    from ._errors import BranchError as BranchError
    from ._errors import CheckpointError as CheckpointError
    from ._errors import CheckpointExistsError as CheckpointExistsError
    from ._errors import CheckpointNotFoundError as CheckpointNotFoundError
    from ._errors import CheckpointValueError as CheckpointValueError
    from ._errors import CheckpointWarning as CheckpointWarning
    from ._errors import CollectionError as CollectionError
    from ._errors import ConcreteValueError as ConcreteValueError
    from ._errors import ConstraintError as ConstraintError
    from ._errors import DtypeMismatchError as DtypeMismatchError
    from ._errors import GetterError as GetterError
    from ._errors import IndexOutOfRangeError as IndexOutOfRangeError
    from ._errors import InitializerCycleError as InitializerCycleError
    from ._errors import InitializerError as InitializerError
    from ._errors import JscopeError as JscopeError
    from ._errors import KeyArgumentError as KeyArgumentError
    from ._errors import LimitReachedError as LimitReachedError
    from ._errors import MissingStreamError as MissingStreamError
    from ._errors import MissingVariableError as MissingVariableError
    from ._errors import NameCollisionError as NameCollisionError
    from ._errors import NestingError as NestingError
    from ._errors import RandomStreamError as RandomStreamError
    from ._errors import RegularizerError as RegularizerError
    from ._errors import ScopeError as ScopeError
    from ._errors import SelectorError as SelectorError
    from ._errors import ShapeMismatchError as ShapeMismatchError
    from ._errors import ShardingError as ShardingError
    from ._errors import TrainableWarning as TrainableWarning
    from ._errors import TreeMismatchError as TreeMismatchError
    from ._errors import UnboundAxisError as UnboundAxisError
    from ._errors import VariableExistsError as VariableExistsError
    from ._errors import VariableNameError as VariableNameError
    from ._getters import by_value as by_value
    from ._moving_averages import ExponentialMovingAverage as ExponentialMovingAverage
    from ._ops import assign as assign
    from ._ops import assign_add as assign_add
    from ._ops import assign_sub as assign_sub
    from ._ops import batch_scatter_update as batch_scatter_update
    from ._ops import count_up_to as count_up_to
    from ._ops import get_variable as get_variable
    from ._ops import scatter_add as scatter_add
    from ._ops import scatter_div as scatter_div
    from ._ops import scatter_max as scatter_max
    from ._ops import scatter_min as scatter_min
    from ._ops import scatter_mul as scatter_mul
    from ._ops import scatter_nd_add as scatter_nd_add
    from ._ops import scatter_nd_sub as scatter_nd_sub
    from ._ops import scatter_nd_update as scatter_nd_update
    from ._ops import scatter_sub as scatter_sub
    from ._ops import scatter_update as scatter_update
    from ._scope import Scope as Scope
    from ._selection import Selector as Selector
    from ._selection import drop as drop
    from ._selection import labels as labels
    from ._selection import map_named as map_named
    from ._selection import mask as mask
    from ._selection import partition as partition
    from ._selection import rename as rename
    from ._selection import select as select
    from ._spec import AUTO_REUSE as AUTO_REUSE
    from ._spec import VariableSpec as VariableSpec
    from ._stack import stack as stack
    from ._stack import unstack as unstack
    from ._template import make_template as make_template
    from ._tree import VarTree as VarTree
    from .regularizers import no_regularizer as no_regularizer
    from .saver import Saver as Saver
    from .saver import checkpoint_exists as checkpoint_exists
    from .saver import checkpoints_iterator as checkpoints_iterator
    from .saver import latest_checkpoint as latest_checkpoint
    from .saver import list_variables as list_variables
    from .saver import load_variable as load_variable

# Where each name lives: the same names as above, for the interpreter.
_HOME = {
    "_errors": (
        "BranchError "
        "CheckpointError CheckpointExistsError CheckpointNotFoundError CheckpointValueError "
        "CheckpointWarning CollectionError ConcreteValueError ConstraintError "
        "DtypeMismatchError GetterError "
        "IndexOutOfRangeError InitializerCycleError InitializerError JscopeError KeyArgumentError "
        "LimitReachedError MissingStreamError MissingVariableError "
        "NameCollisionError NestingError RandomStreamError RegularizerError ScopeError "
        "SelectorError ShapeMismatchError ShardingError TrainableWarning "
        "TreeMismatchError UnboundAxisError VariableExistsError VariableNameError"
    ),
    "_tree": "VarTree",
    "_collections": "GraphKeys",
    "_selection": "Selector drop labels map_named mask partition rename select",
    "_stack": "stack unstack",
    "regularizers": "no_regularizer",
    "_ops": (
        "assign assign_add assign_sub batch_scatter_update count_up_to get_variable "
        "scatter_add scatter_div scatter_max scatter_min scatter_mul scatter_nd_add "
        "scatter_nd_sub scatter_nd_update scatter_sub scatter_update"
    ),
    "_spec": "AUTO_REUSE VariableSpec",
    "_getters": "by_value",
    "_moving_averages": "ExponentialMovingAverage",
    "_scope": "Scope",
    "_template": "make_template",
    "_declaration": "Declaration",
    "_declare": "declare init",
    "_effects": "with_records with_updates",
    "saver": (
        "Saver checkpoint_exists checkpoints_iterator latest_checkpoint list_variables "
        "load_variable"
    ),
}
_MODULES = ("constraints", "initializers", "layers", "regularizers", "sharding")
_HOME_OF = {name: home for home, names in _HOME.items() for name in names.split()}

__all__ = [*_HOME_OF, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOME_OF[name]}", __name__)
    value = globals()[name] = getattr(module, name)
    if "flax.serialization" in sys.modules:
        importlib.import_module(".interop.flax", __name__)  # which tells Flax what a VarTree is
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
