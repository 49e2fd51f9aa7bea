"""Saving trees of variables and restoring any part of them, on Orbax.

Start with `Saver`. Orbax is imported by the first save or restore, not by this module.
"""

from ._pending import PendingSave as PendingSave
from ._saver import Saver as Saver
