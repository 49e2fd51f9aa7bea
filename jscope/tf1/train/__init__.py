"""``tf.train`` of TensorFlow 1: optimizers with TF's arithmetic, and their slots by TF's names.

Needs Optax: ``pip install 'jscope-jax[tf1]'``.
"""

from .schedules import cosine_decay as cosine_decay
from .schedules import exponential_decay as exponential_decay
from .schedules import inverse_time_decay as inverse_time_decay
from .schedules import natural_exp_decay as natural_exp_decay
from .schedules import piecewise_constant as piecewise_constant
from .schedules import polynomial_decay as polynomial_decay
