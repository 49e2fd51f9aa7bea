"""Saving trees of variables and restoring any part of them, on Orbax.

Start with `Saver`. Orbax is imported by the first save or restore, not by this module.
"""

from ._functions import checkpoint_exists as checkpoint_exists
from ._functions import checkpoints_iterator as checkpoints_iterator
from ._functions import latest_checkpoint as latest_checkpoint
from ._functions import list_variables as list_variables
from ._functions import load_variable as load_variable
from ._opening import Checkpoint as Checkpoint
from ._pending import PendingSave as PendingSave
from ._saver import Saver as Saver
