"""TensorFlow checkpoints, read and written without TensorFlow.

Start with `open`, `list_variables` and `write`. Everything here needs NumPy, ml_dtypes and
google_crc32c, and neither JAX nor TensorFlow.
"""

from typing import TYPE_CHECKING

from .._names.tf1 import no_attribute, public
from ._checkpoint import Checkpoint as Checkpoint
from ._checkpoint import list_variables as list_variables
from ._checkpoint import load_variable as load_variable
from ._checkpoint import open as open
from ._entry import Entry as Entry
from ._entry import Where as Where
from ._location import latest_checkpoint as latest_checkpoint
from ._state_file import CheckpointState as CheckpointState
from ._state_file import read_state as read_state
from ._state_file import write_state as write_state
from ._writer import Part as Part
from ._writer import Writer as Writer
from ._writer import write as write

if not TYPE_CHECKING:  # else any misspelled name would have a type

    def __getattr__(name: str) -> object:
        raise no_attribute(__name__, name, public(globals()))


def __dir__() -> list[str]:
    return public(globals())
