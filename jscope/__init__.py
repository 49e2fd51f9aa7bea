"""Variable scopes for JAX, as paths into an immutable tree.

Start with `Scope`, `declare` and `init`; read `docs/code.md` for the map of the files.

The names resolve on first use (PEP 562), so that the parts that need no JAX don't load it.
"""

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import constraints as constraints
    from . import formats as formats
    from . import initializers as initializers
    from . import interop as interop
    from . import layers as layers
    from . import regularizers as regularizers
    from . import sharding as sharding
    from . import tf1 as tf1
    from . import tf_checkpoint as tf_checkpoint
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
    from ._errors import ScopeWarning as ScopeWarning
    from ._errors import SelectorError as SelectorError
    from ._errors import ShapeMismatchError as ShapeMismatchError
    from ._errors import ShardingError as ShardingError
    from ._errors import TrainableWarning as TrainableWarning
    from ._errors import TreeMismatchError as TreeMismatchError
    from ._errors import UnboundAxisError as UnboundAxisError
    from ._errors import VariableExistsError as VariableExistsError
    from ._errors import VariableNameError as VariableNameError
    from ._model.declaration import Declaration as Declaration
    from ._model.declare import declare as declare
    from ._model.declare import init as init
    from ._model.effects import with_records as with_records
    from ._model.effects import with_updates as with_updates
    from ._model.named import named as named
    from ._model.template import make_template as make_template
    from ._names.assignment import Through as Through
    from ._ops.assign import assign as assign
    from ._ops.assign import assign_add as assign_add
    from ._ops.assign import assign_sub as assign_sub
    from ._ops.assign import count_up_to as count_up_to
    from ._ops.assign import get_variable as get_variable
    from ._ops.averages import ExponentialMovingAverage as ExponentialMovingAverage
    from ._ops.scatter import batch_scatter_update as batch_scatter_update
    from ._ops.scatter import scatter_add as scatter_add
    from ._ops.scatter import scatter_div as scatter_div
    from ._ops.scatter import scatter_max as scatter_max
    from ._ops.scatter import scatter_min as scatter_min
    from ._ops.scatter import scatter_mul as scatter_mul
    from ._ops.scatter import scatter_nd_add as scatter_nd_add
    from ._ops.scatter import scatter_nd_sub as scatter_nd_sub
    from ._ops.scatter import scatter_nd_update as scatter_nd_update
    from ._ops.scatter import scatter_sub as scatter_sub
    from ._ops.scatter import scatter_update as scatter_update
    from ._scope.getters import by_value as by_value
    from ._scope.scope import Scope as Scope
    from ._tree.selection import Selector as Selector
    from ._tree.selection import drop as drop
    from ._tree.selection import labels as labels
    from ._tree.selection import mask as mask
    from ._tree.selection import partition as partition
    from ._tree.selection import rename as rename
    from ._tree.selection import select as select
    from ._tree.stacking import stack as stack
    from ._tree.stacking import unstack as unstack
    from ._tree.vartree import VarTree as VarTree
    from ._tree.vartree import map_named as map_named
    from ._variables.collections import GraphKeys as GraphKeys
    from ._variables.request import AUTO_REUSE as AUTO_REUSE
    from ._variables.spec import VariableSpec as VariableSpec
    from .formats._per_process import PerProcess as PerProcess
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
        "BranchError CheckpointError CheckpointExistsError CheckpointNotFoundError "
        "CheckpointValueError CheckpointWarning CollectionError ConcreteValueError "
        "ConstraintError DtypeMismatchError GetterError IndexOutOfRangeError "
        "InitializerCycleError InitializerError JscopeError KeyArgumentError "
        "LimitReachedError MissingStreamError MissingVariableError NameCollisionError "
        "NestingError RandomStreamError RegularizerError ScopeError SelectorError "
        "ScopeWarning ShapeMismatchError ShardingError TrainableWarning TreeMismatchError "
        "UnboundAxisError VariableExistsError VariableNameError"
    ),
    "_names.assignment": "Through",
    "formats._per_process": "PerProcess",
    "_tree.vartree": "VarTree map_named",
    "_variables.collections": "GraphKeys",
    "_tree.selection": "Selector drop labels mask partition rename select",
    "_tree.stacking": "stack unstack",
    "regularizers": "no_regularizer",
    "_ops.assign": "assign assign_add assign_sub count_up_to get_variable",
    "_ops.scatter": (
        "batch_scatter_update scatter_add scatter_div scatter_max scatter_min scatter_mul "
        "scatter_nd_add scatter_nd_sub scatter_nd_update scatter_sub scatter_update"
    ),
    "_variables.request": "AUTO_REUSE",
    "_variables.spec": "VariableSpec",
    "_scope.getters": "by_value",
    "_ops.averages": "ExponentialMovingAverage",
    "_scope.scope": "Scope",
    "_model.named": "named",
    "_model.template": "make_template",
    "_model.declaration": "Declaration",
    "_model.declare": "declare init",
    "_model.effects": "with_records with_updates",
    "saver": (
        "Saver checkpoint_exists checkpoints_iterator latest_checkpoint list_variables "
        "load_variable"
    ),
}
_MODULES = (
    "constraints",
    "formats",
    "initializers",
    "interop",
    "layers",
    "regularizers",
    "sharding",
    "tf1",
    "tf_checkpoint",
)
_HOME_OF = {name: home for home, names in _HOME.items() for name in names.split()}

__all__ = [*_HOME_OF, *_MODULES]


if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        if name not in _HOME_OF:
            raise importlib.import_module("._names.tf1", __name__).no_attribute(
                __name__, name, __all__
            )
        module = importlib.import_module(f".{_HOME_OF[name]}", __name__)
        value = globals()[name] = getattr(module, name)
        if "flax.serialization" in sys.modules:
            importlib.import_module(".interop.flax", __name__)  # which registers VarTree with Flax
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
