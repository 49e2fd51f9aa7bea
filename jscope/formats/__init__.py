"""Checkpoints opened for reading, whoever wrote them.

`open` takes the path of a checkpoint, or of a directory of them, of any format, and gives a
`Source`: names, shapes, dtypes, and boxes of arrays, read when they are requested. The `Saver`,
its functions and the commands read by it and nothing else.
"""

from ._open import open as open
from ._source import Source as Source
