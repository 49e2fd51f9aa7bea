"""Saving trees of variables and restoring any part of them, on disks and in object stores.

Start with `Saver`. Orbax and TensorStore are imported by the first save or restore that needs them.
"""

from ._async_save import PendingSave as PendingSave
from ._checkpoint import Checkpoint as Checkpoint
from ._saver import Saver as Saver
from ._tf1_functions import checkpoint_exists as checkpoint_exists
from ._tf1_functions import checkpoints_iterator as checkpoints_iterator
from ._tf1_functions import latest_checkpoint as latest_checkpoint
from ._tf1_functions import list_variables as list_variables
from ._tf1_functions import load_variable as load_variable
