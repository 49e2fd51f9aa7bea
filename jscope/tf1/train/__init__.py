"""``tf.train`` of TensorFlow 1: optimizers with TF's arithmetic, and their slots by TF's names.

Needs Optax: ``pip install 'jscope-jax[tf1]'``.
"""

from typing import TYPE_CHECKING

from ..._names.tf1 import no_attribute, public
from .gradients import IndexedSlices as IndexedSlices
from .gradients import clip_by_global_norm as clip_by_global_norm
from .gradients import global_norm as global_norm
from .optimizer import Optimizer as Optimizer
from .optimizer import OptimizerState as OptimizerState
from .optimizers import AdadeltaOptimizer as AdadeltaOptimizer
from .optimizers import AdagradOptimizer as AdagradOptimizer
from .optimizers import AdamOptimizer as AdamOptimizer
from .optimizers import AdamWeightDecayOptimizer as AdamWeightDecayOptimizer
from .optimizers import FtrlOptimizer as FtrlOptimizer
from .optimizers import GradientDescentOptimizer as GradientDescentOptimizer
from .optimizers import LazyAdamOptimizer as LazyAdamOptimizer
from .optimizers import MomentumOptimizer as MomentumOptimizer
from .optimizers import RMSPropOptimizer as RMSPropOptimizer
from .schedules import cosine_decay as cosine_decay
from .schedules import exponential_decay as exponential_decay
from .schedules import inverse_time_decay as inverse_time_decay
from .schedules import natural_exp_decay as natural_exp_decay
from .schedules import piecewise_constant as piecewise_constant
from .schedules import polynomial_decay as polynomial_decay
from .slots import from_slots as from_slots
from .slots import to_slots as to_slots
from .training_state import TrainingState as TrainingState
from .training_state import restore as restore
from .training_state import save as save

if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))


def __dir__() -> list[str]:
    return public(globals())
